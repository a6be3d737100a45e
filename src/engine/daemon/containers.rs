//! What runs in a daemon: containers of a compose project.

use std::collections::HashMap;

use bollard::models::HealthStatusEnum;
use bollard::query_parameters::{
    InspectContainerOptions, ListContainersOptionsBuilder, RemoveContainerOptionsBuilder,
};
use serde::Serialize;

use super::Daemon;
use crate::digest::Digest;
use crate::error::Result;

/// The labels that docker compose, both the plugin and docker-compose, puts on its containers.
mod label {
    pub(super) const PROJECT: &str = "com.docker.compose.project";
    pub(super) const SERVICE: &str = "com.docker.compose.service";
    pub(super) const ONE_OFF: &str = "com.docker.compose.oneoff";
    pub(super) const CONFIG_HASH: &str = "com.docker.compose.config-hash";
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
    /// Why it could not be started; mostly empty.
    pub problem: String,
    /// What compose made it from: a line of `compose config --hash`.
    pub config_hash: String,
    /// Its ports that can be reached from outside, by the port inside.
    pub published: Vec<Published>,
}

/// A port of a container that the daemon's machine forwards.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Published {
    /// The port inside.
    pub inside: u16,
    /// The address outside.
    pub address: String,
    /// The port outside.
    pub outside: u16,
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
            containers.extend(self.container(&id).await?);
        }
        containers.sort_by(|a, b| (&a.service, &a.name).cmp(&(&b.service, &b.name)));
        Ok(containers)
    }

    /// One container, by name or id; `None` when there is none.
    ///
    /// # Errors
    /// The daemon cannot be asked.
    pub async fn container(&self, id: &str) -> Result<Option<ContainerState>> {
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
        let labels = inspected.config.and_then(|config| config.labels).unwrap_or_default();
        let label = |name: &str| labels.get(name).cloned().unwrap_or_default();
        let ports = inspected.network_settings.and_then(|settings| settings.ports).unwrap_or_default();
        let mut published: Vec<Published> = ports
            .into_iter()
            .flat_map(|(inside, bindings)| {
                bindings.unwrap_or_default().into_iter().map(move |b| (inside.clone(), b))
            })
            .filter_map(|(inside, binding)| {
                let inside = inside.split('/').next()?.parse().ok()?;
                let outside = binding.host_port?.parse().ok()?;
                Some(Published { inside, address: binding.host_ip.unwrap_or_default(), outside })
            })
            .collect();
        published.sort();
        Ok(Some(ContainerState {
            id: inspected.id.unwrap_or_default(),
            name: inspected.name.unwrap_or_default().trim_start_matches('/').to_owned(),
            service: label(label::SERVICE),
            state: state.status.map(|status| status.to_string()).unwrap_or_default(),
            health,
            exit_code: state.exit_code.unwrap_or_default(),
            restarts: inspected.restart_count.unwrap_or_default(),
            image: inspected.image.and_then(|image| image.parse().ok()),
            problem: state.error.unwrap_or_default(),
            config_hash: label(label::CONFIG_HASH),
            published,
        }))
    }

    /// Removes a container that does not run, with its nameless volumes; well when it is not there.
    ///
    /// # Errors
    /// It runs.
    pub async fn remove_container(&self, name: &str) -> Result<()> {
        use bollard::errors::Error::DockerResponseServerError;
        let options = RemoveContainerOptionsBuilder::default().v(true).build();
        match self.docker.remove_container(name, Some(options)).await {
            Ok(()) | Err(DockerResponseServerError { status_code: 404, .. }) => Ok(()),
            Err(error) => Err(self.error(&format!("remove the container {name}"), error)),
        }
    }
}
