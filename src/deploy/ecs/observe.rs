//! What the service runs now, and whether imgforge can deploy to it.

use serde_json::{Value, json};

use super::answers::{Failure, Service, ServiceDeployment, ServiceRevision, part};
use super::api::ApiError;
use super::errors::reasons;
use super::{Before, EcsDeployer};
use crate::config::{OnceConfig, Strategy, nearest};
use crate::deploy::Running;
use crate::deploy::taskdef::short_name;
use crate::error::{Error, Result};

impl EcsDeployer {
    pub(super) async fn look(&self, images: &[String], once: &[OnceConfig]) -> Result<Running> {
        if self.config.strategy == Some(Strategy::BlueGreen) {
            return Err(Error::refused("this version of imgforge cannot make a blue-green switch on ECS")
                .help("leave `strategy` out of [deploy], or set it to \"rolling\""));
        }
        let service = self.find_service().await.map_err(Error::before_any_change)?;
        self.can_deploy(&service)?;
        self.look_closer(&service, images, once).await.map_err(Error::before_any_change)
    }

    async fn look_closer(
        &self,
        service: &Service,
        images: &[String],
        once: &[OnceConfig],
    ) -> Result<Running> {
        let primary = service.primary().ok_or_else(|| {
            Error::refused(format!("service {} has no deployment yet", self.name()))
                .help("create the service with a first task definition; imgforge only changes its images")
        })?;
        let live = self.task_definition(&primary.task_definition).await?;
        for image in images {
            live.require_image(image, self.config.repositories.get(image))?;
        }
        for task in once {
            live.require_container(&task.container, &format!("once-task {:?}", task.name))?;
        }
        let mut description = format!("revision {}", short_name(&primary.task_definition));
        let good = if primary.is("FAILED") {
            let good = self.last_good(service).await?;
            let good = good.unwrap_or_else(|| primary.task_definition.clone());
            if good != primary.task_definition {
                description = format!("revision {} (that of {description} failed)", short_name(&good));
            }
            good
        } else {
            primary.task_definition.clone()
        };
        let containers = live.containers().map(|container| (container.name.into(), container.image.into()));
        let images =
            self.config.repositories.iter().filter_map(|(image, repository)| {
                Some((image.clone(), live.reference_of(image, repository)?))
            });
        let images = images.collect();
        let live = primary.task_definition.clone();
        let before = Before { live, good, failed: primary.is("FAILED") };
        let handle = Some(json!(before).to_string());
        let services = Vec::new();
        Ok(Running { description, containers: containers.collect(), services, images, handle })
    }

    /// The service as it is. Missing or deleted ones are refused.
    pub(super) async fn find_service(&self) -> Result<Service> {
        let input = json!({"cluster": self.config.cluster, "services": [self.config.service]});
        let answer = match self.ecs.call("DescribeServices", &input).await {
            Ok(answer) => answer,
            Err(error) if error.is("ClusterNotFoundException") => return Err(self.no_cluster().await),
            Err(error) => return Err(error.into()),
        };
        let failures: Vec<Failure> = part(answer.clone(), "failures").unwrap_or_default();
        let services: Vec<Service> = part(answer, "services")?;
        match services.into_iter().next() {
            Some(service) if service.status == "ACTIVE" => Ok(service),
            Some(service) => Err(self.no_service(&format!("is {}", service.status.to_lowercase())).await),
            None if failures.iter().all(|failure| failure.reason == "MISSING") => {
                Err(self.no_service("does not exist").await)
            }
            None => Err(Error::refused(format!(
                "ECS does not describe service {}: {}",
                self.name(),
                reasons(&failures).join(", ")
            ))),
        }
    }

    async fn no_cluster(&self) -> Error {
        let cluster = short_name(&self.config.cluster);
        let names = self.names("ListClusters", "clusterArns", json!({})).await;
        let region = self.ecs.region();
        Error::refused(format!("cluster {cluster:?} does not exist in {region}")).help(suggestion(
            cluster,
            &names,
            "clusters",
            "set `cluster` in [deploy]",
        ))
    }

    async fn no_service(&self, how: &str) -> Error {
        let service = short_name(&self.config.service);
        let input = json!({"cluster": self.config.cluster});
        let names = self.names("ListServices", "serviceArns", input).await;
        let place = format!("cluster {} in {}", short_name(&self.config.cluster), self.ecs.region());
        Error::refused(format!("service {service:?} {how} ({place})")).help(suggestion(
            service,
            &names,
            "services",
            "set `service` in [deploy]",
        ))
    }

    /// All names of a list, as far as they may be read: they only make a message better.
    async fn names(&self, action: &str, field: &str, mut input: Value) -> Vec<String> {
        let mut names = Vec::new();
        for _ in 0..20 {
            let Ok(answer) = self.ecs.call(action, &input).await else { break };
            let next = answer.get("nextToken").and_then(Value::as_str).map(str::to_owned);
            let arns: Vec<String> = part(answer, field).unwrap_or_default();
            names.extend(arns.iter().map(|arn| short_name(arn).to_owned()));
            match next {
                Some(next) => input["nextToken"] = json!(next),
                None => break,
            }
        }
        names
    }

    fn can_deploy(&self, service: &Service) -> Result<()> {
        let name = self.name();
        if let Some(controller @ ("CODE_DEPLOY" | "EXTERNAL")) = service.deployment_controller.kind.as_deref()
        {
            return Err(Error::refused(format!(
                "service {name} is deployed by {controller}, not by ECS itself"
            ))
            .help("imgforge deploys to services with the deployment controller ECS"));
        }
        if let Some(strategy @ ("BLUE_GREEN" | "LINEAR" | "CANARY")) =
            service.deployment_configuration.strategy.as_deref()
        {
            return Err(Error::refused(format!(
                "service {name} has the deployment strategy {strategy}, which this version of imgforge cannot follow"
            ))
            .help("set the service's deployment strategy to ROLLING, or deploy it by other means"));
        }
        let Some(primary) = service.primary() else { return Ok(()) };
        // Old services have no rollout state; there, a second deployment is one that is not through.
        let is_moving = match primary.rollout_state.as_deref() {
            Some(state) => state == "IN_PROGRESS",
            None => service.deployments.len() > 1,
        };
        if is_moving {
            return Err(Error::refused(format!(
                "a deployment of service {name} is in progress: revision {}, {} of {} tasks run",
                short_name(&primary.task_definition),
                primary.running_count,
                primary.desired_count
            ))
            .help(format!(
                "wait for its end (aws ecs wait services-stable --cluster {} --services {}), then run this again",
                self.config.cluster, self.config.service
            )));
        }
        Ok(())
    }

    /// The revision of the last deployment that succeeded; where that is not told, the one whose tasks still run.
    async fn last_good(&self, service: &Service) -> Result<Option<String>> {
        let successful = self.service_deployments(Some("SUCCESSFUL"), |_| false).await.unwrap_or_default();
        let newest = successful.into_iter().max_by(|a, b| a.created_at.total_cmp(&b.created_at));
        if let Some(newest) = newest {
            let input = json!({"serviceRevisionArns": [newest.target_service_revision_arn]});
            if let Ok(answer) = self.ecs.call("DescribeServiceRevisions", &input).await {
                let revisions: Vec<ServiceRevision> = part(answer, "serviceRevisions")?;
                if let Some(revision) = revisions.into_iter().next() {
                    return Ok(Some(revision.task_definition));
                }
            }
        }
        let running = service.deployments.iter().find(|at| at.status == "ACTIVE" && at.running_count > 0);
        Ok(running.map(|deployment| deployment.task_definition.clone()))
    }

    /// The service deployments, through all pages (a page may be empty and still go on), up to the first that is `wanted`,
    /// which is the last one then.
    pub(super) async fn service_deployments(
        &self,
        status: Option<&str>,
        wanted: impl Fn(&ServiceDeployment) -> bool,
    ) -> Result<Vec<ServiceDeployment>, ApiError> {
        let mut input = json!({
            "cluster": self.config.cluster,
            "service": self.config.service,
            "maxResults": 100,
        });
        if let Some(status) = status {
            input["status"] = json!([status]);
        }
        let mut listed = Vec::new();
        loop {
            let answer = self.ecs.call("ListServiceDeployments", &input).await?;
            let next = answer.get("nextToken").filter(|token| token.is_string()).cloned();
            let page: Vec<ServiceDeployment> = part(answer, "serviceDeployments").unwrap_or_default();
            for brief in page {
                let is_last = wanted(&brief);
                listed.push(brief);
                if is_last {
                    return Ok(listed);
                }
            }
            match next {
                Some(token) => input["nextToken"] = token,
                None => return Ok(listed),
            }
        }
    }

    /// Nobody deployed since `observe`: what would be rolled back to must be what ran.
    pub(super) async fn still_at(&self, live: &str) -> Result<()> {
        let service = self.find_service().await?;
        match service.primary() {
            Some(primary) if primary.task_definition == live => self.can_deploy(&service),
            Some(primary) => Err(Error::failed(format!(
                "service {} went from {} to {} meanwhile",
                self.name(),
                short_name(live),
                short_name(&primary.task_definition)
            ))
            .help("someone else deployed; run the same command again to start from what runs now")),
            None => Err(Error::failed(format!("service {} has no deployment any more", self.name()))),
        }
    }
}

fn suggestion(wanted: &str, names: &[String], what: &str, otherwise: &str) -> String {
    match nearest(wanted, names.iter().map(String::as_str)) {
        Some(near) => format!("did you mean {near:?}?"),
        None if names.is_empty() => format!("no {what} are visible here; {otherwise}, or check the region"),
        None => format!("there are the {what} {}; {otherwise}", names.join(", ")),
    }
}
