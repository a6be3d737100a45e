//! A list of checks: each says what it found, why it does not apply, or what is wrong and what to do.

use std::pin::Pin;

use futures_util::future::join_all;
use serde::Serialize;

use crate::error::Error;

/// What a check came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub enum Outcome {
    /// It is as it should be.
    Ok {
        /// What was found.
        found: String,
    },
    /// It does not apply.
    Skip {
        /// Why not.
        why: String,
    },
    /// It works and could be better.
    Warn {
        /// What about it.
        why: String,
    },
    /// A release would fail.
    Fail {
        /// What is wrong.
        why: String,
        /// What to do.
        help: Option<String>,
    },
}

impl From<Error> for Outcome {
    fn from(error: Error) -> Self {
        let mut why = error.what().to_owned();
        // One line a check: the first line of the first cause says enough.
        if let Some(line) = error.causes().first().and_then(|cause| cause.lines().next()) {
            why = format!("{why}: {line}");
        }
        Outcome::Fail { why, help: error.help_text().map(str::to_owned) }
    }
}

/// A check's work: one or more outcomes (a store may have several problems).
pub type Work = Pin<Box<dyn Future<Output = Vec<Outcome>> + Send>>;

/// One check.
pub struct Check {
    /// A word or two: `daemon`, `secrets`.
    pub name: String,
    /// Does it.
    pub work: Work,
}

impl Check {
    /// A check with one outcome.
    pub fn new(
        name: impl Into<String>,
        work: impl Future<Output = Result<String, Error>> + Send + 'static,
    ) -> Check {
        let work = async { vec![work.await.map_or_else(Outcome::from, |found| Outcome::Ok { found })] };
        Check { name: name.into(), work: Box::pin(work) }
    }

    /// A check with an outcome that is known.
    pub fn known(name: impl Into<String>, outcome: Outcome) -> Check {
        Check { name: name.into(), work: Box::pin(async { vec![outcome] }) }
    }

    /// A check with any number of outcomes.
    pub fn many(name: impl Into<String>, work: impl Future<Output = Vec<Outcome>> + Send + 'static) -> Check {
        Check { name: name.into(), work: Box::pin(work) }
    }
}

/// What a check said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The check's name.
    pub name: String,
    /// What it came to.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// Does all checks at once; reports in their order.
pub async fn run(checks: Vec<Check>) -> Vec<Report> {
    let reports = join_all(checks.into_iter().map(async |Check { name, work }| {
        let outcomes = work.await;
        outcomes.into_iter().map(move |outcome| Report { name: name.clone(), outcome }).collect::<Vec<_>>()
    }));
    reports.await.into_iter().flatten().collect()
}
