//! One UpdateService, and that deployment followed to its end; back again when it fails.
//!
//! Which deployment it is comes from UpdateService's own answer: `ecs-svc/NUMBER`. The service deployment with the service
//! revision of that NUMBER says how it went. Where the caller may not read service deployments (or a region has none), the
//! deployment's `rolloutState` does.

use serde_json::json;

use super::answers::{Deployment, Service, ServiceDeployment, Task, part};
use super::api::ApiError;
use super::errors::{why_all_stopped, with_causes};
use super::{EcsDeployer, Seen};
use crate::deploy::taskdef::short_name;
use crate::error::{Error, Kind, Result};
use crate::progress::{Reporter, Task as Work};

/// How many of the service's last events an error tells.
const EVENTS_TOLD: usize = 4;

/// How a deployment ended, or that it did not.
#[derive(Debug)]
pub(super) enum End {
    Good,
    /// It failed, and ECS put the old revision back.
    RolledBack(String),
    /// It failed, and so did ECS's way back.
    Stuck(String),
    /// It failed, and the service stays where it is.
    Failed(String),
    /// Someone began another deployment, of this revision.
    Superseded(String),
    TimedOut,
}

/// What one look at a deployment shows.
enum Sight {
    Going(String),
    End(End),
}

/// A deployment that is followed.
pub(super) struct Followed<'a> {
    deployment: Deployment,
    /// The revision that ran before.
    good: &'a str,
    service_deployments: Source,
    /// ECS's id for it there, once it is found.
    arn: Option<String>,
    seen: Seen,
    /// The newest event last.
    events: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    Offered,
    /// The caller may not read them, or there are none.
    Not,
}

impl EcsDeployer {
    /// Switches to `revision`; goes back to `good` when that fails.
    pub(super) async fn switch(&self, revision: &str, good: &str, progress: &Reporter) -> Result<()> {
        let name = short_name(revision);
        let task = progress.task(self.name(), format!("deploy revision {name}"));
        let (service, deployment) = self.update_service(revision).await.map_err(|error| {
            let nothing = format!("service {} was not switched to revision {name}", self.name());
            match error.kind() {
                Kind::TimedOut => error,
                _ => error.context(nothing),
            }
        })?;
        if service.desired_count == 0 {
            progress.warning(format!("service {} wants 0 tasks: nothing will run", self.name()));
        }
        let mut followed = Followed::new(&service, deployment, good);
        let end = self.follow(&mut followed, &task, progress).await?;
        if matches!(end, End::Good) {
            task.done(format!("revision {name} runs"));
            return Ok(());
        }
        let causes = self.causes(&followed, progress).await;
        let at_work = format!("the deployment of revision {name} to service {}", self.name());
        let error = match end {
            End::Good => return Ok(()),
            End::RolledBack(reason) => {
                let what = format!("{at_work} failed{reason}; ECS put revision {} back", short_name(good));
                Error::new(Kind::RolledBack, what)
                    .help("the service runs as before: mend the cause, run this again")
            }
            End::Stuck(reason) => {
                Error::failed(format!("{at_work} failed{reason}, and so did ECS's way back"))
                    .help(self.by_hand(good))
            }
            End::Superseded(by) => {
                let what = format!("{at_work} was overtaken by one of revision {}", short_name(&by));
                Error::failed(what)
                    .help("someone else deployed; nothing more was done. Agree with them, run this again")
            }
            End::TimedOut => {
                let what = format!("{at_work} was not through after {:?}", self.config.timeout);
                let back = self.by_hand(good);
                Error::new(Kind::TimedOut, what).help(format!("it goes on. To go back: {back}"))
            }
            End::Failed(reason) => {
                let failed = with_causes(Error::failed(format!("{at_work} failed{reason}")), causes);
                return Err(self.go_back(failed, good, &task, progress).await);
            }
        };
        Err(with_causes(error, causes))
    }

    pub(super) async fn follow(
        &self,
        followed: &mut Followed<'_>,
        task: &Work,
        progress: &Reporter,
    ) -> Result<End> {
        let mut ticker = self.ticker();
        loop {
            match self.see(followed, progress).await {
                Ok(Sight::Going(detail)) => task.detail(detail),
                Ok(Sight::End(end)) => return Ok(end),
                Err(error) => {
                    let what = format!("lost sight of the deployment of service {}", self.name());
                    return Err(Error::new(Kind::TimedOut, what)
                        .help("it goes on by itself; run the same command again to see how it went")
                        .because(error));
                }
            }
            if !ticker.tick().await {
                return Ok(End::TimedOut);
            }
        }
    }

    async fn see(&self, followed: &mut Followed<'_>, progress: &Reporter) -> Result<Sight> {
        let service = self.find_service().await?;
        followed.tell_events(&service, &self.name(), progress);
        let listed = self.service_deployment(followed, progress).await?;
        Ok(followed.judge(&service, listed.as_ref()))
    }

    /// The service deployment of the followed deployment, as soon as ECS lists it.
    async fn service_deployment(
        &self,
        followed: &mut Followed<'_>,
        progress: &Reporter,
    ) -> Result<Option<ServiceDeployment>> {
        if followed.service_deployments == Source::Not {
            return Ok(None);
        }
        let found = match &followed.arn {
            Some(arn) => self.describe_service_deployment(arn).await,
            None => match self.find_service_deployment(followed.deployment.number()).await {
                Ok(Some(arn)) => {
                    followed.arn = Some(arn.clone());
                    self.describe_service_deployment(&arn).await
                }
                Ok(None) => Ok(None),
                Err(error) => Err(error),
            },
        };
        match found {
            Ok(found) => Ok(found),
            Err(error) if is_not_offered(&error) => {
                followed.service_deployments = Source::Not;
                if error.is_denied() {
                    progress.note(format!("{} is not allowed; following rolloutState instead", error.action));
                }
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The service deployment of the service revision with this number.
    async fn find_service_deployment(&self, number: &str) -> Result<Option<String>, ApiError> {
        let ending = format!("/{number}");
        let is_it = |brief: &ServiceDeployment| brief.target_service_revision_arn.ends_with(&ending);
        let last = self.service_deployments(None, is_it).await?.pop();
        Ok(last.filter(is_it).map(|brief| brief.service_deployment_arn))
    }

    async fn describe_service_deployment(&self, arn: &str) -> Result<Option<ServiceDeployment>, ApiError> {
        let input = json!({"serviceDeploymentArns": [arn]});
        let answer = self.ecs.call("DescribeServiceDeployments", &input).await?;
        let list: Vec<ServiceDeployment> = part(answer, "serviceDeployments").unwrap_or_default();
        Ok(list.into_iter().next())
    }

    /// Why it did not go well: the reasons of stopped tasks, and the service's last events.
    async fn causes(&self, followed: &Followed<'_>, progress: &Reporter) -> Vec<String> {
        let stopped = self.stopped_tasks(&followed.deployment.task_definition).await.unwrap_or_default();
        self.last_words(&stopped, progress).await;
        let mut causes = why_all_stopped(&stopped);
        causes.extend(followed.events.iter().rev().take(EVENTS_TOLD).cloned());
        causes
    }

    /// The service's tasks of this revision that stopped. ECS keeps them for about an hour.
    async fn stopped_tasks(&self, revision: &str) -> Result<Vec<Task>> {
        let input = json!({
            "cluster": self.config.cluster,
            "serviceName": short_name(&self.config.service),
            "desiredStatus": "STOPPED",
        });
        let arns: Vec<String> = part(self.ecs.call("ListTasks", &input).await?, "taskArns")?;
        let arns: Vec<&str> = arns.iter().map(String::as_str).collect();
        let tasks = self.describe_tasks(&arns).await?;
        Ok(tasks.into_iter().filter(|task| task.task_definition_arn == revision).collect())
    }

    /// What the container that ended one of these tasks printed.
    async fn last_words(&self, stopped: &[Task], progress: &Reporter) {
        let ended = stopped.iter().find_map(|task| {
            let ended = task.containers.iter().find(|at| at.exit_code.is_some_and(|code| code != 0));
            Some((task, ended?))
        });
        let Some((task, container)) = ended else { return };
        let Ok(definition) = self.task_definition(&task.task_definition_arn).await else { return };
        let Some(logs) = definition.aws_logs(&container.name) else { return };
        if let Ok(tail) = self.tail(logs, &task.task_arn) {
            tail.pass_on_last(container, progress).await;
        }
    }
}

fn is_not_offered(error: &ApiError) -> bool {
    error.is_denied()
        || error.is("UnsupportedFeatureException")
        || error.is("UnknownOperationException")
        || error.is("NotImplemented")
        || error.is("HTTP 404 Not Found")
        || error.is("HTTP 501 Not Implemented")
}

impl<'a> Followed<'a> {
    /// Events that UpdateService's answer holds are old ones.
    pub(super) fn new(service: &Service, deployment: Deployment, good: &'a str) -> Self {
        Followed {
            deployment,
            good,
            service_deployments: Source::Offered,
            arn: None,
            seen: service.events.iter().map(|event| event.id.clone()).collect(),
            events: Vec::new(),
        }
    }

    fn tell_events(&mut self, service: &Service, name: &str, progress: &Reporter) {
        // ECS gives the newest first.
        for event in service.events.iter().rev() {
            if self.seen.insert(event.id.clone()) {
                progress.log(name, &event.message);
                self.events.push(event.message.clone());
            }
        }
    }

    fn judge(&self, service: &Service, listed: Option<&ServiceDeployment>) -> Sight {
        let ours = service.deployment(&self.deployment.id);
        if let Some(listed) = listed {
            return self.by_status(service, ours, listed);
        }
        let Some(ours) = ours else { return self.without_ours(service, "") };
        if ours.is("COMPLETED") {
            return Sight::End(End::Good);
        }
        if ours.is("FAILED") {
            let reason = because(&ours.rollout_state_reason);
            if service.deployment_configuration.deployment_circuit_breaker.rolls_back() {
                return self.without_ours(service, &reason);
            }
            return self.failed(service, reason);
        }
        self.going(service, ours)
    }

    /// `ServiceDeployment.status` (Amazon ECS developer guide, "Service deployment states").
    fn by_status(&self, service: &Service, ours: Option<&Deployment>, listed: &ServiceDeployment) -> Sight {
        let rollback = listed.rollback.as_ref().map(|rollback| rollback.reason.as_str());
        let reason = rollback.filter(|reason| !reason.is_empty()).unwrap_or(&listed.status_reason);
        match listed.status.as_str() {
            "SUCCESSFUL" => Sight::End(End::Good),
            "ROLLBACK_SUCCESSFUL" => Sight::End(End::RolledBack(because(reason))),
            "ROLLBACK_FAILED" => Sight::End(End::Stuck(because(reason))),
            "ROLLBACK_REQUESTED" | "ROLLBACK_IN_PROGRESS" => {
                Sight::Going(format!("it failed{}; ECS goes back", because(reason)))
            }
            "STOPPED" => self.failed(service, because(reason)),
            status => match ours {
                Some(ours) => self.going(service, ours),
                None => Sight::Going(status.to_lowercase().replace('_', " ")),
            },
        }
    }

    fn going(&self, service: &Service, ours: &Deployment) -> Sight {
        if let Some(failed) = self.given_up(service, ours) {
            return Sight::End(End::Failed(failed));
        }
        let others = service.deployments.iter().filter(|other| other.id != ours.id);
        let old: u32 = others.map(|other| other.running_count).sum();
        let mut detail = format!("{} of {} running", ours.running_count, ours.desired_count);
        for (count, what) in [(ours.pending_count, "pending"), (ours.failed_tasks, "failed"), (old, "old")] {
            if count > 0 {
                detail.push_str(&format!(", {count} {what}"));
            }
        }
        Sight::Going(detail)
    }

    /// A service without a circuit breaker starts failing tasks for ever. This is the breaker's own threshold: half of the
    /// wanted tasks, at least 3 and at most 200, and none that ever ran (ECS developer guide, "deployment circuit breaker").
    fn given_up(&self, service: &Service, ours: &Deployment) -> Option<String> {
        let threshold = ours.desired_count.div_ceil(2).clamp(3, 200);
        let has_breaker = service.deployment_configuration.deployment_circuit_breaker.enable;
        let hopeless = !has_breaker && ours.running_count == 0 && ours.failed_tasks >= threshold;
        hopeless.then(|| format!(": {} tasks in a row failed to start", ours.failed_tasks))
    }

    /// It failed and ECS leaves the service there, unless somebody has gone on already.
    fn failed(&self, service: &Service, reason: String) -> Sight {
        match service.primary() {
            Some(primary) if primary.id != self.deployment.id && primary.task_definition != self.good => {
                Sight::End(End::Superseded(primary.task_definition.clone()))
            }
            Some(primary) if primary.id != self.deployment.id => self.without_ours(service, &reason),
            _ => Sight::End(End::Failed(reason)),
        }
    }

    /// It is not what the service moves towards any more: ECS goes back, or somebody deployed something else.
    fn without_ours(&self, service: &Service, reason: &str) -> Sight {
        match service.primary() {
            Some(primary) if primary.id == self.deployment.id => {
                Sight::Going(format!("it failed{reason}; ECS is about to go back"))
            }
            Some(primary) if primary.task_definition == self.good => match primary.rollout_state.as_deref() {
                Some("COMPLETED") => Sight::End(End::RolledBack(reason.to_owned())),
                Some("FAILED") => Sight::End(End::Stuck(reason.to_owned())),
                _ => Sight::Going(format!(
                    "it failed{reason}; ECS goes back: {} of {} running",
                    primary.running_count, primary.desired_count
                )),
            },
            Some(primary) => Sight::End(End::Superseded(primary.task_definition.clone())),
            None => Sight::Going("the service names no deployment".into()),
        }
    }
}

fn because(reason: &str) -> String {
    match reason {
        "" => String::new(),
        reason => format!(" ({})", reason.trim_end_matches('.')),
    }
}
