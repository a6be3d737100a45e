//! A once-task: RunTask with the new revision in the service's own surroundings.

use serde_json::{Value, json};

use super::answers::{Failure, Service, Task, part};
use super::errors::{reasons, why_stopped};
use super::{EcsDeployer, Ready};
use crate::config::OnceConfig;
use crate::deploy::TaskExit;
use crate::deploy::taskdef::short_name;
use crate::digest::Digest;
use crate::error::{Error, Kind, Result};
use crate::progress::Reporter;

/// What marks tasks as ours. ListTasks can search for it.
const STARTED_BY: &str = "imgforge";
/// How often a task that RunTask named may be unknown to DescribeTasks before it counts as lost: the API is eventually
/// consistent.
const PATIENCE: u32 = 10;

/// A mark for one `prepare`. With the release and the task's name alone, a token would give the failed task of the first try
/// back for 24 hours, and a release whose migration failed could not be tried again.
pub(super) fn attempt() -> String {
    let mut random = [0; 16];
    // Without random numbers the revision still tells attempts apart, unless nothing is changed.
    let _ = getrandom::fill(&mut random);
    hex::encode(random)
}

/// The same for every repetition of one RunTask: 64 characters, as many as are allowed.
fn client_token(ready: &Ready, task: &OnceConfig) -> String {
    let parts =
        json!([ready.release, ready.revision, ready.attempt, task.name, task.container, task.command]);
    Digest::of(parts.to_string().as_bytes()).hex()
}

impl EcsDeployer {
    pub(super) async fn run_task(
        &self,
        ready: &Ready,
        once: &OnceConfig,
        progress: &Reporter,
    ) -> Result<TaskExit> {
        let definition = self.task_definition(&ready.revision).await?;
        definition.require_container(&once.container, &format!("once-task {:?}", once.name))?;
        let service = self.find_service().await?;
        let group = format!("imgforge:{}:{}", short_name(&self.config.service), once.name);
        self.none_at_work(once, &group).await?;

        let task = progress.task(&once.name, once.command.join(" "));
        let started = self.start(ready, once, &service, group).await?;
        let id = short_name(&started.task_arn).to_owned();
        task.detail(format!("task {id}"));
        let mut tail = match definition.aws_logs(&once.container) {
            Some(logs) => Some(self.tail(logs, &started.task_arn)?),
            None => None,
        };

        let mut ticker = self.ticker();
        let mut unknown = 0;
        let stopped = loop {
            let now = match self.describe_tasks(&[&started.task_arn]).await.map(|mut tasks| tasks.pop()) {
                Ok(Some(now)) => now,
                Ok(None) if unknown < PATIENCE => {
                    unknown += 1;
                    Task { task_arn: started.task_arn.clone(), ..Task::default() }
                }
                Ok(None) => return Err(self.lost(once, &id, None)),
                Err(error) => return Err(self.lost(once, &id, Some(error))),
            };
            if !now.last_status.is_empty() {
                task.detail(format!("task {id} {}", now.last_status.to_lowercase()));
            }
            if let (Some(tail), Some(container)) = (&mut tail, now.container(&once.container)) {
                tail.pass_on(container, &once.name, progress).await;
            }
            if now.last_status == "STOPPED" {
                break now;
            }
            // The answer is there; what else the task runs is stopped by ECS if this container is essential to it.
            if now.container(&once.container).is_some_and(|container| container.exit_code.is_some()) {
                if !definition.is_essential(&once.container) {
                    self.stop_task(&started.task_arn).await;
                }
                break now;
            }
            if !ticker.tick().await {
                return Err(self.too_slow(once, &id, &now));
            }
        };
        let container = stopped.container(&once.container);
        if let (Some(tail), Some(container)) = (&mut tail, container) {
            // Lines come later than the end of what printed them. Two looks without any are taken for the end.
            let mut quiet = 0;
            let mut ticker = self.ticker();
            while quiet < 2 && ticker.tick().await {
                quiet = match tail.pass_on(container, &once.name, progress).await {
                    0 => quiet + 1,
                    _ => 0,
                };
            }
        }
        match container.and_then(|container| container.exit_code) {
            Some(code) => {
                // A signal or a fault of the agent can give numbers that no exit code has.
                let code = u8::try_from(code).unwrap_or(u8::MAX);
                match code {
                    0 => task.done("exit code 0"),
                    _ => drop(task),
                }
                Ok(TaskExit { code })
            }
            None => Err(Error::failed(format!(
                "once-task {:?} ended without an exit code: {}",
                once.name,
                why_stopped(&stopped)
            ))
            .help(self.look_at(&id))),
        }
    }

    /// No task of an earlier run is still at this work: it would go on beside the new one.
    async fn none_at_work(&self, once: &OnceConfig, group: &str) -> Result<()> {
        let input = json!({"cluster": self.config.cluster, "startedBy": STARTED_BY});
        let Ok(answer) = self.ecs.call("ListTasks", &input).await else { return Ok(()) };
        let arns: Vec<String> = part(answer, "taskArns").unwrap_or_default();
        let arns: Vec<&str> = arns.iter().map(String::as_str).collect();
        let tasks = self.describe_tasks(&arns).await?;
        match tasks.iter().find(|task| task.group == group && task.last_status != "STOPPED") {
            None => Ok(()),
            Some(task) => {
                let id = short_name(&task.task_arn);
                Err(Error::new(
                    Kind::Locked,
                    format!("once-task {:?} of an earlier run is still at work: {id}", once.name),
                )
                .help(format!("wait for its end, or stop it: {}", self.stop(id))))
            }
        }
    }

    async fn start(
        &self,
        ready: &Ready,
        once: &OnceConfig,
        service: &Service,
        group: String,
    ) -> Result<Task> {
        let mut input = json!({
            "cluster": self.config.cluster,
            "taskDefinition": ready.revision,
            "count": 1,
            "startedBy": STARTED_BY,
            "group": group,
            "clientToken": client_token(ready, once),
            "overrides": {"containerOverrides": [{"name": once.container, "command": once.command}]},
        });
        // Both at once are refused.
        match &service.capacity_provider_strategy {
            Some(Value::Array(strategy)) if !strategy.is_empty() => {
                input["capacityProviderStrategy"] = json!(strategy);
            }
            _ => set(&mut input, "launchType", service.launch_type.as_deref().map(|kind| json!(kind))),
        }
        set(&mut input, "networkConfiguration", service.network_configuration.clone());
        set(&mut input, "platformVersion", service.platform_version.as_deref().map(|version| json!(version)));
        let constraints = service.placement_constraints.clone();
        set(
            &mut input,
            "placementConstraints",
            constraints.filter(|list| list.as_array().is_some_and(|list| !list.is_empty())),
        );

        let answer = self.ecs.call("RunTask", &input).await.map_err(|error| {
            Error::from(error).context(format!("once-task {:?} could not be started", once.name))
        })?;
        let failures: Vec<Failure> = part(answer.clone(), "failures").unwrap_or_default();
        let tasks: Vec<Task> = part(answer, "tasks")?;
        match tasks.into_iter().next() {
            Some(task) => Ok(task),
            None => Err(Error::failed(format!(
                "once-task {:?} could not be started: {}",
                once.name,
                match failures.is_empty() {
                    true => "ECS started no task and gives no reason".into(),
                    false => reasons(&failures).join(", "),
                }
            ))
            .help("see that the cluster has room for one task more, of the service's size")),
        }
    }

    /// Tasks as they are now; those that ECS does not know (yet) are left out.
    pub(super) async fn describe_tasks(&self, arns: &[&str]) -> Result<Vec<Task>> {
        if arns.is_empty() {
            return Ok(Vec::new());
        }
        let input = json!({"cluster": self.config.cluster, "tasks": arns});
        part(self.ecs.call("DescribeTasks", &input).await?, "tasks")
    }

    async fn stop_task(&self, arn: &str) {
        let input =
            json!({"cluster": self.config.cluster, "task": arn, "reason": "its once-task is through"});
        if let Err(error) = self.ecs.call("StopTask", &input).await {
            tracing::warn!(%error, "the rest of a once-task goes on");
        }
    }

    fn stop(&self, id: &str) -> String {
        format!("aws ecs stop-task --cluster {} --task {id}", self.config.cluster)
    }

    fn look_at(&self, id: &str) -> String {
        format!("aws ecs describe-tasks --cluster {} --tasks {id}", self.config.cluster)
    }

    fn lost(&self, once: &OnceConfig, id: &str, cause: Option<Error>) -> Error {
        let error =
            Error::new(Kind::TimedOut, format!("lost sight of once-task {:?} (task {id})", once.name))
                .help(format!("it may still be at work: {}", self.look_at(id)));
        match cause {
            Some(cause) => error.because(cause),
            None => error,
        }
    }

    fn too_slow(&self, once: &OnceConfig, id: &str, now: &Task) -> Error {
        let status = match now.last_status.as_str() {
            "" => "unknown to ECS",
            status => status,
        };
        Error::new(
            Kind::TimedOut,
            format!(
                "once-task {:?} was not through after {:?}: task {id} is {}",
                once.name,
                self.config.timeout,
                status.to_lowercase()
            ),
        )
        .help(format!("it goes on; to stop it: {}. `timeout` in [deploy] gives it longer", self.stop(id)))
    }
}

fn set(input: &mut Value, field: &str, value: Option<Value>) {
    if let Some(value) = value.filter(|value| !value.is_null()) {
        input[field] = value;
    }
}
