//! What the commands of one run share: the configuration, the reporter, the journal.

use std::path::Path;
use std::sync::Arc;

use super::Global;
use super::report::{Output, reporter};
use crate::backends::{self, Needs};
use crate::config::Config;
use crate::error::Result;
use crate::plan::{Plan, Request};
use crate::progress::{Reporter, Stage};
use crate::release::journal::Journal;
use crate::release::lock::Lock;
use crate::release::observe::Seen;
use crate::release::{self, Parts};

/// One run of the program.
pub struct Session {
    global: Global,
    reporter: Reporter,
    journal: Arc<Journal>,
}

impl Session {
    pub(super) fn new(global: Global) -> Self {
        let reporter = reporter(global.output);
        Session { global, reporter, journal: Arc::default() }
    }

    /// How output is written.
    pub fn output(&self) -> Output {
        self.global.output
    }

    /// Where events go.
    pub fn reporter(&self) -> &Reporter {
        &self.reporter
    }

    /// What was done so far.
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// What was done so far, in words; none when nothing was begun that changes anything.
    pub fn state(&self) -> Option<String> {
        (!self.journal.is_empty()).then(|| self.journal.to_string())
    }

    /// imgforge.toml for the chosen environment.
    pub fn config(&self) -> Result<Config> {
        self.config_in(&self.global.directory)
    }

    /// The folder that was named, or the current one.
    pub fn directory(&self) -> &Path {
        &self.global.directory
    }

    /// imgforge.toml of another folder, for the chosen environment.
    pub fn config_in(&self, directory: &Path) -> Result<Config> {
        Config::load(directory, self.global.environment.as_deref(), &environment_variable)
    }

    /// Keeps other runs out while this one changes something.
    pub fn lock(&self) -> Result<Lock> {
        Lock::take(&self.config()?)
    }

    /// Connects the backends that `needs` names.
    pub async fn parts(&self, needs: Needs) -> Result<Parts> {
        backends::connect(self.config()?, needs, &environment_variable).await
    }

    /// Connects to what `needs` names, looks, and plans `request`.
    pub async fn plan(&self, request: &Request, needs: Needs) -> Result<(Parts, Plan, Seen)> {
        let start = std::time::Instant::now();
        self.reporter.stage_started(Stage::Observe);
        let parts = self.parts(needs).await?;
        let (plan, seen) = release::plan(&parts, request).await?;
        self.reporter.stage_finished(Stage::Observe, start.elapsed().as_millis() as u64);
        Ok((parts, plan, seen))
    }
}

/// A variable of this process's environment.
pub fn environment_variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}
