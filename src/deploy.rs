//! Where a release runs. Contract 5: what comes in here are digests, never tags.

use std::collections::BTreeMap;

use async_trait::async_trait;
use serde::Serialize;

use crate::config::OnceConfig;
use crate::digest::Digest;
use crate::error::Result;
use crate::image::Image;
use crate::image::reference::Reference;
use crate::progress::Reporter;

pub mod compose;
pub mod ecs;
pub mod several;
pub mod taskdef;

/// An image of the release, ready to run.
#[derive(Debug, Clone)]
pub struct ReleasedImage {
    /// In the registry, by digest. With an OCI layout as the registry it can be named but not pulled.
    pub reference: Reference,
    /// Its id on the daemon that built it, when it was loaded there.
    pub local: Option<Digest>,
    /// The image itself, when this run made or read it.
    pub image: Option<Image>,
}

/// What is to be deployed.
#[derive(Debug, Clone)]
pub struct Release {
    /// Git commit plus secret versions.
    pub id: String,
    /// By the image's name in imgforge.toml.
    pub images: BTreeMap<String, ReleasedImage>,
}

/// What runs before anything is changed.
#[derive(Debug, Clone, Serialize)]
pub struct Running {
    /// For people: `revision shop-web:41`, `compose project shop (2 containers)`, `nothing`.
    pub description: String,
    /// The image of each container (ecs) or service (compose).
    pub containers: BTreeMap<String, String>,
    /// Each service, in the order in which they are switched; empty when there is one.
    pub services: Vec<ServiceAt>,
    /// The images of imgforge.toml that run, by name, as far as it is known where in a registry they are.
    pub images: BTreeMap<String, Reference>,
    /// What the deployer needs to go back to it: a revision's ARN, a file's content. Its own format.
    #[serde(skip)]
    pub handle: Option<String>,
}

/// A release that was made ready (images loaded, revision registered) and not yet switched to.
#[derive(Debug, Clone, Serialize)]
pub struct Prepared {
    /// For people: `revision shop-web:42`.
    pub description: String,
    /// Whether it is what runs already, so that there is nothing to switch.
    pub unchanged: bool,
    /// The deployer's own.
    #[serde(skip)]
    pub handle: String,
}

/// A deployment at its good end.
#[derive(Debug, Clone, Serialize)]
pub struct Deployed {
    /// For people: `revision shop-web:42`.
    pub description: String,
    /// Where to look at it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Each service, in the order in which they were switched; empty when there is one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<ServiceAt>,
}

/// What one of several services runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ServiceAt {
    /// `ecs service shop/web`
    pub target: String,
    /// `revision shop-web:42`
    pub description: String,
}

/// How a once-task ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct TaskExit {
    /// The container's exit code.
    pub code: u8,
}

/// Where a service runs.
#[async_trait]
pub trait Deployer: Send + Sync {
    /// For people: `ecs service shop/web`.
    fn describe(&self) -> String;

    /// Looks at what runs, and whether `images` could be deployed there (each names a container, the service exists, the
    /// tools are there). Changes nothing.
    ///
    /// # Errors
    /// [`crate::error::Kind::Refused`].
    async fn observe(&self, images: &[String], once: &[OnceConfig]) -> Result<Running>;

    /// Makes the release ready: loads or pulls images, registers a revision. What runs is not touched.
    async fn prepare(&self, release: &Release, running: &Running, progress: &Reporter) -> Result<Prepared>;

    /// Runs a command with the prepared release's image and settings, streams what it prints, waits for its end.
    ///
    /// # Errors
    /// It could not be started, or ended without a code. A code other than 0 is an answer, not an error.
    async fn run_once(&self, prepared: &Prepared, task: &OnceConfig, progress: &Reporter)
    -> Result<TaskExit>;

    /// What runs now, as something that [`Deployer::run_once`] can run a command with.
    ///
    /// # Errors
    /// [`crate::error::Kind::Refused`] when nothing runs.
    async fn current(&self, running: &Running) -> Result<Prepared>;

    /// Switches to the prepared release and follows it to its end. When it fails it goes back to `running`.
    ///
    /// # Errors
    /// [`crate::error::Kind::RolledBack`] when what ran before runs again, [`crate::error::Kind::TimedOut`] when the end
    /// did not come.
    async fn apply(&self, prepared: &Prepared, running: &Running, progress: &Reporter) -> Result<Deployed>;

    /// Forgets a prepared release that will not be switched to (a once-task failed): what `prepare` made and nothing uses.
    async fn discard(&self, prepared: &Prepared) -> Result<()>;
}
