//! The containers of a compose project, asked of the daemon by the labels that both generations of compose set.
//! (What `compose ps` prints is another thing in each.)

use std::collections::HashMap;

use bollard::Docker;
use bollard::container::LogOutput;
use bollard::errors::Error as DaemonError;
use bollard::models::{ContainerInspectResponse, ContainerStateStatusEnum, HealthStatusEnum};
use bollard::query_parameters::{
    InspectContainerOptionsBuilder, ListContainersOptionsBuilder, LogsOptionsBuilder,
    RemoveContainerOptionsBuilder,
};
use futures_util::{StreamExt, TryStreamExt};

use crate::error::{Error, Result};

const PROJECT: &str = "com.docker.compose.project";
const SERVICE: &str = "com.docker.compose.service";
const NUMBER: &str = "com.docker.compose.container-number";
const ONE_OFF: &str = "com.docker.compose.oneoff";
const HASH: &str = "com.docker.compose.config-hash";

/// What a container is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// It runs, and has no health check.
    Running,
    /// It runs, and its health is not known yet.
    Starting,
    /// It runs and is well.
    Healthy,
    /// It runs and is not.
    Unhealthy,
    /// It ended and is started again by its restart policy.
    Restarting,
    /// It ended with this code.
    Exited(i64),
    /// Made, and not started. The text says why, when the daemon knows.
    Created(String),
    /// Paused, being removed, dead.
    Other(String),
}

/// A port that the daemon's machine forwards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// `8080/tcp`
    pub inside: String,
    /// The address that it is bound to.
    pub address: String,
    /// The port outside.
    pub port: u16,
}

/// One container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The service that it belongs to.
    pub service: String,
    /// Its number within the service.
    pub number: u32,
    /// The id of its image.
    pub image: String,
    /// What compose made it from (`compose config --hash`).
    pub hash: String,
    /// What it is doing.
    pub state: State,
    /// How often its restart policy has started it again.
    pub restarts: i64,
    /// Its ports that can be reached from outside.
    pub published: Vec<Published>,
}

/// The daemon's containers.
#[derive(Debug, Clone)]
pub struct Containers(pub Docker);

impl Containers {
    /// The service containers of a project, by service and number; those of `compose run` are left out.
    ///
    /// # Errors
    /// The daemon does not answer.
    pub async fn of_project(&self, project: &str) -> Result<Vec<Container>> {
        let filters = HashMap::from([("label", vec![format!("{PROJECT}={project}")])]);
        let options = ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
        let listed = self.0.list_containers(Some(options)).await.map_err(no_answer)?;
        let mut containers = Vec::new();
        for id in listed.into_iter().filter_map(|container| container.id) {
            // Gone between the two questions: nothing to tell of.
            if let Some(container) = self.inspect(&id).await?
                && !container.one_off
            {
                containers.push(container.container);
            }
        }
        containers.sort_by(|a, b| (&a.service, a.number).cmp(&(&b.service, b.number)));
        Ok(containers)
    }

    /// One container, by name; `None` when there is none.
    ///
    /// # Errors
    /// The daemon does not answer.
    pub async fn named(&self, name: &str) -> Result<Option<Container>> {
        Ok(self.inspect(name).await?.map(|inspected| inspected.container))
    }

    async fn inspect(&self, id: &str) -> Result<Option<Inspected>> {
        let options = InspectContainerOptionsBuilder::default().build();
        match self.0.inspect_container(id, Some(options)).await {
            Ok(answer) => Ok(Some(Inspected::read(answer))),
            Err(DaemonError::DockerResponseServerError { status_code: 404, .. }) => Ok(None),
            Err(error) => Err(no_answer(error)),
        }
    }

    /// The last lines that a container printed, as many as `count`.
    ///
    /// # Errors
    /// The daemon does not answer.
    pub async fn last_lines(&self, id: &str, count: usize) -> Result<Vec<String>> {
        let options = LogsOptionsBuilder::default().stdout(true).stderr(true).tail(&count.to_string()).build();
        let chunks: Vec<LogOutput> = self.0.logs(id, Some(options)).try_collect().await.map_err(no_answer)?;
        // A chunk is not a line: with a terminal, or a long line, it may be any part of the text.
        let bytes: Vec<u8> = chunks.iter().flat_map(|chunk| chunk.as_ref().to_vec()).collect();
        let text = String::from_utf8_lossy(&bytes);
        Ok(text.lines().map(|line| line.trim_end().to_owned()).filter(|line| !line.is_empty()).collect())
    }

    /// Removes a container that does not run. It may be gone already.
    ///
    /// # Errors
    /// The daemon says no.
    pub async fn remove(&self, name: &str) -> Result<()> {
        let options = RemoveContainerOptionsBuilder::default().v(true).build();
        match self.0.remove_container(name, Some(options)).await {
            Ok(()) | Err(DaemonError::DockerResponseServerError { status_code: 404, .. }) => Ok(()),
            Err(error) => Err(Error::failed(format!("cannot remove the container {name}")).because(error)),
        }
    }

    /// The id of an image that the daemon has; `None` when it does not.
    ///
    /// # Errors
    /// The daemon does not answer.
    pub async fn image_id(&self, reference: &str) -> Result<Option<String>> {
        match self.0.inspect_image(reference).await {
            Ok(answer) => Ok(answer.id),
            Err(DaemonError::DockerResponseServerError { status_code: 404, .. }) => Ok(None),
            Err(error) => Err(no_answer(error)),
        }
    }

    /// Has the daemon pull `repository@digest`.
    ///
    /// # Errors
    /// The registry or the daemon says no.
    pub async fn pull(
        &self,
        repository: &str,
        digest: &str,
        login: Option<bollard::auth::DockerCredentials>,
    ) -> Result<()> {
        let options = bollard::query_parameters::CreateImageOptionsBuilder::default()
            .from_image(repository)
            .tag(digest)
            .build();
        let mut answers = self.0.create_image(Some(options), None, login).boxed();
        while let Some(answer) = answers.next().await {
            answer.map_err(|error| {
                Error::failed(format!("the daemon cannot pull {repository}@{digest}"))
                    .help("check the login and the network of the daemon's machine")
                    .because(error)
            })?;
        }
        Ok(())
    }
}

struct Inspected {
    container: Container,
    one_off: bool,
}

impl Inspected {
    fn read(answer: ContainerInspectResponse) -> Self {
        let config = answer.config.unwrap_or_default();
        let labels = config.labels.unwrap_or_default();
        let label = |name: &str| labels.get(name).cloned().unwrap_or_default();
        let state = answer.state.unwrap_or_default();
        let health = state.health.and_then(|health| health.status);
        let doing = match state.status.unwrap_or(ContainerStateStatusEnum::EMPTY) {
            ContainerStateStatusEnum::RUNNING => match health {
                None | Some(HealthStatusEnum::EMPTY | HealthStatusEnum::NONE) => State::Running,
                Some(HealthStatusEnum::STARTING) => State::Starting,
                Some(HealthStatusEnum::HEALTHY) => State::Healthy,
                Some(HealthStatusEnum::UNHEALTHY) => State::Unhealthy,
            },
            ContainerStateStatusEnum::RESTARTING => State::Restarting,
            ContainerStateStatusEnum::EXITED => State::Exited(state.exit_code.unwrap_or_default()),
            ContainerStateStatusEnum::CREATED => State::Created(state.error.unwrap_or_default()),
            other => State::Other(other.to_string()),
        };
        let ports = answer.network_settings.and_then(|settings| settings.ports).unwrap_or_default();
        let mut published = Vec::new();
        for (inside, bindings) in ports {
            for binding in bindings.unwrap_or_default() {
                let port = binding.host_port.and_then(|port| port.parse().ok());
                if let Some(port) = port {
                    let address = binding.host_ip.unwrap_or_default();
                    published.push(Published { inside: inside.clone(), address, port });
                }
            }
        }
        published.sort_by(|a, b| (&a.inside, &a.address).cmp(&(&b.inside, &b.address)));
        let container = Container {
            id: answer.id.unwrap_or_default(),
            name: answer.name.unwrap_or_default().trim_start_matches('/').to_owned(),
            service: label(SERVICE),
            number: label(NUMBER).parse().unwrap_or_default(),
            image: answer.image.unwrap_or_default(),
            hash: label(HASH),
            state: doing,
            restarts: answer.restart_count.unwrap_or_default(),
            published,
        };
        // "True" of the first generation, "True" or "true" of the second.
        Inspected { container, one_off: label(ONE_OFF).eq_ignore_ascii_case("true") }
    }
}

fn no_answer(error: DaemonError) -> Error {
    Error::failed("the Docker daemon did not answer").help("try `docker info`").because(error)
}
