//! What imgforge reads of the API's answers. Everything else in them is left alone.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::error::{Error, Result};

/// The part of `answer` under `name`.
pub(super) fn part<T: DeserializeOwned>(mut answer: Value, name: &str) -> Result<T> {
    let value = answer.get_mut(name).map(Value::take).unwrap_or_default();
    serde_json::from_value(value)
        .map_err(|error| Error::failed(format!("ECS answered {name:?} in a shape of its own")).because(error))
}

/// `Failure`
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Failure {
    pub(super) arn: String,
    pub(super) reason: String,
    pub(super) detail: String,
}

/// `Service`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Service {
    pub(super) service_name: String,
    pub(super) status: String,
    pub(super) desired_count: u32,
    pub(super) deployments: Vec<Deployment>,
    pub(super) events: Vec<Event>,
    pub(super) deployment_configuration: DeploymentConfiguration,
    pub(super) deployment_controller: DeploymentController,
    pub(super) launch_type: Option<String>,
    pub(super) capacity_provider_strategy: Option<Value>,
    pub(super) network_configuration: Option<Value>,
    pub(super) platform_version: Option<String>,
    pub(super) placement_constraints: Option<Value>,
}

impl Service {
    /// The deployment that the service moves towards, or is at.
    pub(super) fn primary(&self) -> Option<&Deployment> {
        self.deployments.iter().find(|deployment| deployment.status == "PRIMARY")
    }

    /// The deployment of this id, while the service lists it.
    pub(super) fn deployment(&self, id: &str) -> Option<&Deployment> {
        self.deployments.iter().find(|deployment| deployment.id == id)
    }
}

/// `Deployment`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Deployment {
    pub(super) id: String,
    pub(super) status: String,
    pub(super) task_definition: String,
    pub(super) desired_count: u32,
    pub(super) pending_count: u32,
    pub(super) running_count: u32,
    pub(super) failed_tasks: u32,
    pub(super) rollout_state: Option<String>,
    pub(super) rollout_state_reason: String,
}

impl Deployment {
    /// The number in its id `ecs-svc/NUMBER`, which is also the id of the service revision that it deploys.
    pub(super) fn number(&self) -> &str {
        self.id.rsplit('/').next().unwrap_or_default()
    }

    pub(super) fn is(&self, state: &str) -> bool {
        self.rollout_state.as_deref() == Some(state)
    }
}

/// `DeploymentConfiguration`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct DeploymentConfiguration {
    pub(super) strategy: Option<String>,
    pub(super) deployment_circuit_breaker: Switch,
    pub(super) alarms: Switch,
}

/// `DeploymentCircuitBreaker`, and what `DeploymentAlarms` has of it.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Switch {
    pub(super) enable: bool,
    pub(super) rollback: bool,
}

impl Switch {
    pub(super) fn rolls_back(self) -> bool {
        self.enable && self.rollback
    }
}

/// `DeploymentController`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct DeploymentController {
    #[serde(rename = "type")]
    pub(super) kind: Option<String>,
}

/// `ServiceEvent`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Event {
    pub(super) id: String,
    pub(super) message: String,
}

/// `ServiceDeploymentBrief` and what `ServiceDeployment` has beyond it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct ServiceDeployment {
    pub(super) service_deployment_arn: String,
    pub(super) target_service_revision_arn: String,
    /// Compared with other times of AWS only.
    pub(super) created_at: f64,
    pub(super) status: String,
    pub(super) status_reason: String,
    pub(super) rollback: Option<Rollback>,
}

/// `Rollback`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Rollback {
    pub(super) reason: String,
}

/// `ServiceRevision`
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct ServiceRevision {
    pub(super) task_definition: String,
}

/// `Task`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Task {
    pub(super) task_arn: String,
    pub(super) task_definition_arn: String,
    pub(super) group: String,
    pub(super) last_status: String,
    pub(super) stopped_reason: String,
    pub(super) containers: Vec<Container>,
}

impl Task {
    pub(super) fn container(&self, name: &str) -> Option<&Container> {
        self.containers.iter().find(|container| container.name == name)
    }
}

/// `Container`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Container {
    pub(super) name: String,
    pub(super) runtime_id: Option<String>,
    pub(super) exit_code: Option<i64>,
    pub(super) reason: String,
}
