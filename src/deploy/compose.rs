//! Target `compose`: the project's compose file, on the daemon.
//!
//! A service takes an image of imgforge.toml by its variable, `image: ${IMGFORGE_WEB}`; a second service may take the
//! same one. What the variables stand for is kept in `.imgforge/compose/PROJECT.env`.

use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use fs_err::tokio as fs;

use self::follow::{End, Follower, names};
use self::images::Images;
use self::services::Services;
use self::tool::{Compose, Tool};
use super::{Deployed, Deployer, Prepared, Release, ReleasedImage, Running, TaskExit};
use crate::config::{Config, OnceConfig};
use crate::engine::Logins;
use crate::engine::daemon::Daemon;
use crate::engine::daemon::containers::{ContainerState, Health};
use crate::error::{Error, Kind, Result};
use crate::progress::{Reporter, Stream, Task};

mod follow;
mod images;
mod services;
mod tool;
mod url;

/// How many log lines of a lost container are shown.
const LINES: usize = 20;
/// How the switch is made. Volumes and networks that are there stay.
const UP: [&str; 3] = ["up", "--detach", "--remove-orphans"];

/// What happens to volumes when a project is taken down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Volumes {
    /// They stay, and so do the data.
    Keep,
    /// They go.
    Remove,
}

/// Deploys to a compose project.
pub struct ComposeDeployer {
    compose: Compose,
    daemon: Daemon,
    logins: Logins,
    /// The images of imgforge.toml.
    images: Vec<String>,
    /// Where the variables are kept.
    record: PathBuf,
    url: Option<String>,
    timeout: Duration,
}

impl ComposeDeployer {
    /// For the `[deploy]` of `config`. `logins` are for images that the daemon must pull.
    pub fn new(config: &Config, daemon: Daemon, logins: Logins) -> Self {
        let project = config.project.get_ref().clone();
        let deploy = config.deploy.as_ref();
        ComposeDeployer {
            record: config.work_dir().join("compose").join(format!("{project}.env")),
            compose: Compose {
                project,
                root: config.root.clone(),
                file: deploy.and_then(|deploy| deploy.file.clone()),
                environment: daemon.environment(),
            },
            daemon,
            logins,
            images: config.images.keys().cloned().collect(),
            url: deploy.and_then(|deploy| deploy.url.clone()),
            timeout: deploy.map_or(Duration::from_secs(15 * 60), |deploy| deploy.timeout),
        }
    }

    /// Sets one more variable for compose, over the environment's.
    #[must_use]
    pub fn variable(mut self, name: &str, value: &str) -> Self {
        self.compose.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Starts what was released last. Nothing happens when it runs.
    ///
    /// # Errors
    /// [`Kind::Refused`] when nothing was released yet, [`Kind::Failed`] when a container does not become well.
    pub async fn up(&self, progress: &Reporter) -> Result<Deployed> {
        let tool = self.compose.find().await?;
        let images = self.released().await?;
        let before = self.containers().await?;
        self.switch(tool, &images, &before, progress).await
    }

    /// Stops and removes the project's containers and networks. Nothing happens when there are none.
    ///
    /// # Errors
    /// [`Kind::Failed`]
    pub async fn down(&self, volumes: Volumes, progress: &Reporter) -> Result<()> {
        let tool = self.compose.find().await?;
        let placeholders = self.placeholders();
        let images = self.recorded().await?.unwrap_or_default().or(&placeholders);
        let mut arguments = vec!["down", "--remove-orphans"];
        if volumes == Volumes::Remove {
            arguments.push("--volumes");
        }
        let task = progress.task(&self.compose.project, "stop");
        self.compose.run(tool, &arguments, &images, &|line| task.detail(line)).await?;
        task.done("");
        Ok(())
    }

    /// What [`ComposeDeployer::up`] would do, in words. Changes nothing.
    ///
    /// # Errors
    /// As [`ComposeDeployer::up`], before it begins.
    pub async fn describe_up(&self) -> Result<String> {
        let tool = self.compose.find().await?;
        let images = self.released().await?;
        let services = self.services(tool, &images).await?;
        let started: Vec<&str> = services
            .0
            .iter()
            .filter(|(_, service)| !service.on_demand)
            .map(|(name, _)| name.as_str())
            .collect();
        let what = if self.is_up(tool, &images).await? { "runs already:" } else { "would start" };
        Ok(format!("{} {what} {}", self.describe(), started.join(", ")))
    }

    /// What [`ComposeDeployer::down`] would do, or did, in words. Changes nothing.
    ///
    /// # Errors
    /// The daemon does not answer.
    pub async fn describe_down(&self, volumes: Volumes) -> Result<String> {
        let containers = self.containers().await?;
        if containers.is_empty() && volumes == Volumes::Keep {
            return Ok(format!("{}: nothing runs", self.describe()));
        }
        let volumes = match volumes {
            Volumes::Keep => "volumes stay",
            Volumes::Remove => "volumes go too",
        };
        Ok(format!("{}: stop {}; {volumes}", self.description(&containers), names(&containers)))
    }

    async fn released(&self) -> Result<Images> {
        let images = self.recorded().await?.ok_or_else(|| {
            Error::refused(format!("nothing was released to {} yet", self.describe()))
                .help("imgforge release")
        })?;
        for (variable, id) in images.variables().filter(|(_, value)| value.starts_with("sha256:")) {
            if !self.daemon.image_exists(id).await? {
                return Err(Error::refused(format!(
                    "{variable}, which was released last, is not on the Docker daemon any more ({id})"
                ))
                .help("imgforge release makes it again"));
            }
        }
        Ok(images)
    }

    fn placeholders(&self) -> Images {
        Images::placeholders(self.images.iter().map(String::as_str))
    }

    async fn containers(&self) -> Result<Vec<ContainerState>> {
        self.daemon.containers_of_project(&self.compose.project).await
    }

    /// Removes the project's containers that do not run. `compose run` starts the services that a once-task depends on, but one
    /// that an earlier try left behind it starts as it was, whatever the compose file says by now.
    async fn remove_stopped(&self) -> Result<()> {
        for container in self.containers().await? {
            if matches!(container.state.as_str(), "created" | "exited" | "dead") {
                self.daemon.remove_container(&container.id).await?;
            }
        }
        Ok(())
    }

    /// What the variables stood for at the last switch.
    async fn recorded(&self) -> Result<Option<Images>> {
        match fs::read_to_string(&self.record).await {
            Ok(text) => Ok(Some(Images::from_env(&text))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    async fn keep(&self, images: &Images) -> Result<()> {
        if let Some(folder) = self.record.parent() {
            fs::create_dir_all(folder).await?;
        }
        let new = self.record.with_extension("env.new");
        fs::write(&new, images.to_env()).await?;
        Ok(fs::rename(&new, &self.record).await?)
    }

    async fn services(&self, tool: Tool, images: &Images) -> Result<Services> {
        let config = self.compose.ask(tool, &["config"], images).await.map_err(|error| {
            error
                .with_kind(Kind::Refused)
                .context("the compose file cannot be used")
                .help("`compose config` shows why")
        })?;
        Ok(Services::parse(&config))
    }

    /// The image on the daemon, pulled when it is not there.
    async fn fetch(&self, name: &str, image: &ReleasedImage, progress: &Reporter) -> Result<String> {
        if let Some(id) = image.local {
            let id = id.to_string();
            if self.daemon.image_exists(&id).await? {
                return Ok(id);
            }
        }
        if image.reference.digest.is_none() {
            return Err(Error::refused(format!(
                "the image {name:?} is not named by digest: {}",
                image.reference
            )));
        }
        let login = self.logins.get(&image.reference.repository.host);
        let id = self.daemon.pull(&image.reference, login, progress).await.map_err(|error| {
            error.context(format!("the image {name:?} is not on the Docker daemon and cannot be pulled"))
        })?;
        Ok(id.to_string())
    }

    /// Whether every service runs, well, as compose would make it now.
    async fn is_up(&self, tool: Tool, images: &Images) -> Result<bool> {
        let hashes = self.compose.ask(tool, &["config", "--hash", "*"], images).await?;
        let services = self.services(tool, images).await?;
        let containers = self.containers().await?;
        let as_wanted = |container: &ContainerState| {
            let well =
                container.state == "running" && matches!(container.health, Health::Healthy | Health::None);
            let hash = hashes.lines().filter_map(|line| line.split_once(' '));
            well && hash
                .into_iter()
                .any(|(service, hash)| service == container.service && hash.trim() == container.config_hash)
        };
        let all_there = services
            .0
            .iter()
            .filter(|(_, service)| !service.on_demand)
            .all(|(name, _)| containers.iter().any(|container| container.service == *name));
        Ok(all_there && containers.iter().all(as_wanted))
    }

    /// Has compose make what `images` say, and follows it to its end. Nothing is undone here.
    async fn switch(
        &self,
        tool: Tool,
        images: &Images,
        before: &[ContainerState],
        progress: &Reporter,
    ) -> Result<Deployed> {
        let task = progress.task(&self.compose.project, "start");
        let started = self.compose.run(tool, &UP, images, &|line| task.detail(line)).await;
        if let Err(error) = started {
            // Compose waits for `depends_on` by itself, and says less of the container than its log does.
            for container in self.containers().await? {
                let fallen = container.state != "running" || container.health == Health::Unhealthy;
                if fallen && !before.iter().any(|old| old.id == container.id) {
                    self.show_log(&container, progress).await;
                }
            }
            return Err(error);
        }
        let follower = Follower::new(before);
        match follower.follow(&self.daemon, &self.compose.project, self.timeout, &task).await? {
            End::Well(containers) => {
                let url = self.look(&containers, &task).await?;
                let description = self.description(&containers);
                task.done(&description);
                Ok(Deployed { description, url, services: Vec::new() })
            }
            End::Lost(lost) => {
                self.show_log(&lost.container, progress).await;
                Err(Error::failed(format!("{} {}", lost.container.service, lost.why)))
            }
            End::TimedOut(waiting) => {
                for container in &waiting {
                    self.show_log(container, progress).await;
                }
                let seconds = self.timeout.as_secs();
                Err(Error::failed(format!("{} not healthy after {seconds} seconds", names(&waiting)))
                    .help("[deploy] timeout = \"…\" gives it longer"))
            }
        }
    }

    /// The page to look at; fetched first when imgforge.toml names one.
    async fn look(&self, containers: &[ContainerState], task: &Task) -> Result<Option<String>> {
        match &self.url {
            Some(named) => {
                task.detail(format!("fetching {named}"));
                url::fetch(named).await?;
                Ok(Some(named.clone()))
            }
            None => Ok(url::published(containers)),
        }
    }

    async fn show_log(&self, container: &ContainerState, progress: &Reporter) {
        // Only words for people: what went wrong is known without them.
        for line in self.daemon.logs_tail(&container.id, LINES).await.unwrap_or_default() {
            progress.log(&container.service, line);
        }
    }

    fn description(&self, containers: &[ContainerState]) -> String {
        let count = containers.len();
        let noun = if count == 1 { "container" } else { "containers" };
        format!("{} ({count} {noun})", self.describe())
    }

    /// Back to what ran before, or to nothing.
    async fn go_back(&self, tool: Tool, failed: Failed, running: &Running, progress: &Reporter) -> Error {
        let project = &self.compose.project;
        let Failed { images: failed, recorded, cause } = failed;
        let Some(previous) = &running.handle else {
            let stopped = self.down(Volumes::Keep, progress).await;
            // `up` goes on to start what was released before it was taken down.
            let forgotten = match &recorded {
                Some(recorded) => self.keep(recorded).await,
                None => fs::remove_file(&self.record).await.map_err(Error::from),
            };
            let error = match stopped.and(forgotten) {
                Ok(()) => Error::failed(format!("the deployment of {project} failed and was stopped")),
                Err(_) => Error::failed(format!("the deployment of {project} failed and may still run"))
                    .help("imgforge down"),
            };
            return error.because(cause);
        };
        progress.note(format!("{project}: {}; going back", cause.what()));
        // An image that the previous release did not have yet keeps its new value: the compose file asks for it.
        let previous = Images::from_env(previous).or(&failed);
        let back = async {
            self.keep(&previous).await?;
            let before = self.containers().await?;
            self.switch(tool, &previous, &before, progress).await
        };
        match back.await {
            Ok(_) => Error::new(
                Kind::RolledBack,
                format!("the deployment of {project} failed; what ran before runs again"),
            )
            .because(cause),
            Err(error) => Error::failed(format!(
                "the deployment of {project} failed, and so did going back to what ran before: {}",
                error.what()
            ))
            .help(format!(
                "see what its containers say: docker ps --filter label=com.docker.compose.project={project}"
            ))
            .because(cause),
        }
    }
}

/// A switch that failed.
struct Failed {
    /// What it was to.
    images: Images,
    /// What was on record before it.
    recorded: Option<Images>,
    cause: Error,
}

#[async_trait]
impl Deployer for ComposeDeployer {
    fn describe(&self) -> String {
        format!("compose project {}", self.compose.project)
    }

    async fn observe(&self, images: &[String], once: &[OnceConfig]) -> Result<Running> {
        let tool = self.compose.find().await?;
        let services = self.services(tool, &self.placeholders()).await?;
        services.check(images, once)?;
        let containers = self.containers().await?;
        if containers.is_empty() {
            return Ok(Running {
                description: "nothing".into(),
                containers: Default::default(),
                services: Vec::new(),
                images: Default::default(),
                handle: None,
            });
        }
        // What runs says more than the file of the last switch does: that may have been stopped half way.
        let recorded = self.recorded().await?.unwrap_or_default();
        let mut running = Images::default();
        for image in &self.images {
            let used = containers.iter().find(|container| {
                container.image.is_some()
                    && services.running(image).any(|service| service == container.service)
            });
            if let Some(id) = used.and_then(|container| container.image) {
                running.insert(image, id.to_string());
                if let Some(reference) = recorded.reference(image).filter(|_| recorded.is(image, &id)) {
                    running.insert_reference(image, &reference);
                }
            }
        }
        let running = running.or(&recorded);
        let images = self.images.iter().filter_map(|image| Some((image.clone(), running.reference(image)?)));
        Ok(Running {
            images: images.collect(),
            description: self.description(&containers),
            containers: containers
                .iter()
                .filter_map(|container| Some((container.service.clone(), container.image?.to_string())))
                .collect(),
            services: Vec::new(),
            handle: Some(running.to_env()),
        })
    }

    async fn prepare(&self, release: &Release, running: &Running, progress: &Reporter) -> Result<Prepared> {
        let tool = self.compose.find().await?;
        let mut images = Images::default();
        for (name, image) in &release.images {
            images.insert(name, self.fetch(name, image, progress).await?);
            images.insert_reference(name, &image.reference);
        }
        // Of a release of some images the others stay what they are.
        if let Some(running) = &running.handle {
            images = images.or(&Images::from_env(running));
        }
        let unchanged = self.is_up(tool, &images).await?;
        Ok(Prepared { description: self.describe(), unchanged, handle: images.to_env() })
    }

    async fn current(&self, running: &Running) -> Result<Prepared> {
        let handle = running.handle.clone().ok_or_else(|| {
            Error::refused(format!("nothing runs in {}", self.describe()))
                .help("imgforge release, or imgforge up")
        })?;
        Ok(Prepared { description: running.description.clone(), unchanged: true, handle })
    }

    async fn run_once(
        &self,
        prepared: &Prepared,
        task: &OnceConfig,
        progress: &Reporter,
    ) -> Result<TaskExit> {
        let tool = self.compose.find().await?;
        let images = Images::from_env(&prepared.handle);
        let container = format!("{}-once-{}", self.compose.project, plain(&task.name));
        // The name is fixed, so that two releases at once cannot run the same task side by side.
        if let Some(left) = self.daemon.container(&container).await? {
            if matches!(left.state.as_str(), "running" | "restarting" | "paused") {
                return Err(Error::new(Kind::Locked, format!("{} is running already", task.name))
                    .help(format!("wait for its end, or: docker stop {container}")));
            }
            self.daemon.remove_container(&container).await?;
        }
        self.remove_stopped().await?;
        // Detached, because what compose says of itself would be mixed into what the command prints, and its code into
        // the command's. A one-off container is not started again, whatever the service's restart policy says.
        let mut arguments = vec!["run", "--detach", "--name", &container, &task.container];
        arguments.extend(task.command.iter().map(String::as_str));
        let shown = progress.task(&task.name, "start");
        let started = self.compose.run(tool, &arguments, &images, &|line| shown.detail(line)).await;
        if let Err(error) = started {
            self.daemon.remove_container(&container).await?;
            return Err(Error::failed(format!("{} could not be started", task.name)).because(error));
        }
        shown.done("");
        let print = |stream: Stream, line: &str| progress.log_from(stream, &task.name, line);
        if let Err(error) = self.daemon.follow_logs(&container, &print).await {
            progress.warning(format!("what {} prints cannot be shown: {error}", task.name));
        }
        let code = self.daemon.exit_code(&container).await?;
        self.daemon.remove_container(&container).await?;
        Ok(TaskExit { code: u8::try_from(code).unwrap_or(u8::MAX) })
    }

    async fn apply(&self, prepared: &Prepared, running: &Running, progress: &Reporter) -> Result<Deployed> {
        let tool = self.compose.find().await?;
        let images = Images::from_env(&prepared.handle);
        let before = self.containers().await?;
        let recorded = self.recorded().await?;
        self.keep(&images).await?;
        match self.switch(tool, &images, &before, progress).await {
            Ok(deployed) => Ok(deployed),
            Err(cause) => {
                let failed = Failed { images, recorded, cause };
                Err(self.go_back(tool, failed, running, progress).await)
            }
        }
    }

    async fn discard(&self, _prepared: &Prepared) -> Result<()> {
        // Images on the daemon are its cache; the next release may want them.
        Ok(())
    }
}

/// A once-task's name as part of a container's: `[a-zA-Z0-9][a-zA-Z0-9_.-]+` is what the daemon takes.
fn plain(name: &str) -> String {
    name.chars()
        .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-') { c } else { '-' })
        .collect()
}
