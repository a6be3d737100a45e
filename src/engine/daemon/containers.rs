//! What runs in a daemon: containers of a compose project and what they printed.

use std::collections::HashMap;

use bollard::models::HealthStatusEnum;
use bollard::query_parameters::{InspectContainerOptions, ListContainersOptionsBuilder, LogsOptionsBuilder};
use futures_util::StreamExt;
use serde::Serialize;

use super::Daemon;
use crate::digest::Digest;
use crate::error::Result;

/// The labels that docker compose, both the plugin and docker-compose, puts on its containers.
mod label {
    pub(super) const PROJECT: &str = "com.docker.compose.project";
    pub(super) const SERVICE: &str = "com.docker.compose.service";
    pub(super) const ONE_OFF: &str = "com.docker.compose.oneoff";
}

/// How a container says it feels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Health {
    /// It has no health check.
    None,
    /// It has not answered yet.
    Starting,
    /// It is well.
    Healthy,
    /// It is not.
    Unhealthy,
}

/// A container as it is now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ContainerState {
    /// Its id.
    pub id: String,
    /// Its name, without the slash.
    pub name: String,
    /// The compose service.
    pub service: String,
    /// `created`, `running`, `restarting`, `exited` …
    pub state: String,
    /// What its health check says.
    pub health: Health,
    /// How it ended; 0 while it runs.
    pub exit_code: i64,
    /// How often the daemon started it again.
    pub restarts: i64,
    /// The id of its image.
    pub image: Option<Digest>,
}

impl Daemon {
    /// The containers of a compose project, stopped ones too, by service and name. One-off ones (`compose run`) are not
    /// among them.
    ///
    /// # Errors
    /// The daemon cannot be asked.
    pub async fn containers_of_project(&self, project: &str) -> Result<Vec<ContainerState>> {
        let doing = format!("list the containers of the compose project {project}");
        let filters = HashMap::from([("label", vec![format!("{}={project}", label::PROJECT)])]);
        let options = ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
        let listed =
            self.docker.list_containers(Some(options)).await.map_err(|error| self.error(&doing, error))?;
        let mut containers = Vec::with_capacity(listed.len());
        for summary in listed {
            let labels = summary.labels.unwrap_or_default();
            let one_off = labels.get(label::ONE_OFF).is_some_and(|value| value.eq_ignore_ascii_case("true"));
            let (Some(id), false) = (summary.id, one_off) else { continue };
            let service = labels.get(label::SERVICE).cloned().unwrap_or_default();
            containers.extend(self.container(&id, service).await?);
        }
        containers.sort_by(|a, b| (&a.service, &a.name).cmp(&(&b.service, &b.name)));
        Ok(containers)
    }

    /// One container; `None` when it is gone.
    async fn container(&self, id: &str, service: String) -> Result<Option<ContainerState>> {
        use bollard::errors::Error::DockerResponseServerError;
        let inspected = match self.docker.inspect_container(id, None::<InspectContainerOptions>).await {
            Ok(inspected) => inspected,
            Err(DockerResponseServerError { status_code: 404, .. }) => return Ok(None),
            Err(error) => return Err(self.error(&format!("look at the container {id}"), error)),
        };
        let state = inspected.state.unwrap_or_default();
        let health = match state.health.and_then(|health| health.status) {
            Some(HealthStatusEnum::STARTING) => Health::Starting,
            Some(HealthStatusEnum::HEALTHY) => Health::Healthy,
            Some(HealthStatusEnum::UNHEALTHY) => Health::Unhealthy,
            _ => Health::None,
        };
        Ok(Some(ContainerState {
            id: id.to_owned(),
            name: inspected.name.unwrap_or_default().trim_start_matches('/').to_owned(),
            service,
            state: state.status.map(|status| status.to_string()).unwrap_or_default(),
            health,
            exit_code: state.exit_code.unwrap_or_default(),
            restarts: inspected.restart_count.unwrap_or_default(),
            image: inspected.image.and_then(|image| image.parse().ok()),
        }))
    }

    /// The last lines that a container printed, stdout and stderr together.
    ///
    /// # Errors
    /// There is no such container.
    pub async fn logs_tail(&self, container: &str, lines: usize) -> Result<Vec<String>> {
        let options =
            LogsOptionsBuilder::default().stdout(true).stderr(true).tail(&lines.to_string()).build();
        let mut output = self.docker.logs(container, Some(options));
        let mut text = Vec::new();
        while let Some(part) = output.next().await {
            let part = part.map_err(|error| self.error(&format!("read the logs of {container}"), error))?;
            text.extend_from_slice(&part.into_bytes());
        }
        let text = String::from_utf8_lossy(&text);
        Ok(text.lines().map(|line| line.trim_end().to_owned()).collect())
    }
}
