//! The services, their deployments, and how they go.

use serde_json::{Value, json};

use super::tasks::Stopped;
use super::{ACCOUNT, Answer, REGION, World, refusal};

/// How a revision's tasks do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Healthy,
    /// They start and end with exit code 1.
    Failing,
    /// No instance has room for them.
    NeverPlaced,
}

/// The service's circuit breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Breaker {
    Off,
    Stops,
    RollsBack,
    /// It rolls back, and that fails, too.
    RollsBackInVain,
}

/// What becomes of ListServiceDeployments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listing {
    Offered,
    Unsupported,
}

#[derive(Debug, Clone)]
pub struct Deployment {
    pub number: u64,
    pub revision: String,
    pub primary: bool,
    pub rollout: &'static str,
    pub reason: &'static str,
    pub running: u64,
    pub pending: u64,
    pub failed: u64,
    looks: u64,
    /// The service deployment's status; the one of a rollback has none of its own.
    status: Option<&'static str>,
    /// The number of the deployment that this one takes back.
    takes_back: Option<u64>,
}

pub struct ServiceState {
    pub name: &'static str,
    pub status: &'static str,
    pub desired: u64,
    pub breaker: Breaker,
    pub listing: Listing,
    pub controller: &'static str,
    pub strategy: &'static str,
    pub capacity_providers: Value,
    /// How the tasks of revisions do that are registered from now on.
    pub fate: Fate,
    /// The newest first.
    pub deployments: Vec<Deployment>,
    pub events: Vec<(String, String)>,
    /// Whether the caller may not update this one.
    pub denied: bool,
    /// A revision that somebody else deploys while ours is under way.
    pub rival: Option<String>,
    good: Vec<String>,
    next: u64,
}

impl ServiceState {
    /// The `at`th service of the account.
    pub fn new(name: &'static str, revision: &str, at: u64) -> Self {
        let mut service = ServiceState {
            name,
            status: "ACTIVE",
            desired: 2,
            breaker: Breaker::RollsBack,
            listing: Listing::Offered,
            controller: "ECS",
            strategy: "ROLLING",
            capacity_providers: json!([]),
            fate: Fate::Healthy,
            deployments: Vec::new(),
            events: Vec::new(),
            denied: false,
            rival: None,
            good: vec![revision.to_owned()],
            // No two deployments have one number.
            next: 4_980_306_466_373_577_095 + at * 1_000_000,
        };
        service.begin(revision, Some("SUCCESSFUL"), None);
        service.deployments[0].rollout = "COMPLETED";
        service.deployments[0].running = 2;
        service.event("has reached a steady state.");
        service
    }

    pub fn primary(&self) -> &Deployment {
        self.deployments.iter().find(|deployment| deployment.primary).expect("there is always one")
    }

    /// From now on every revision fares as `fate` says, those that ran well before, too.
    pub fn forget_good(&mut self) {
        self.good.clear();
    }

    /// Somebody else's UpdateService.
    pub fn begin(&mut self, revision: &str, status: Option<&'static str>, takes_back: Option<u64>) {
        for deployment in &mut self.deployments {
            deployment.primary = false;
        }
        let number = self.next;
        self.next += 1;
        let deployment = Deployment {
            number,
            revision: revision.to_owned(),
            primary: true,
            rollout: "IN_PROGRESS",
            reason: "",
            running: 0,
            pending: 0,
            failed: 0,
            looks: 0,
            status,
            takes_back,
        };
        self.deployments.insert(0, deployment);
    }

    fn event(&mut self, message: &str) {
        let id = format!("event-{}", self.events.len());
        self.events.insert(0, (id, format!("(service {}) {message}", self.name)));
    }

    /// One look's worth of time passes. Gives the revision of a task that failed meanwhile.
    fn pass(&mut self) -> Option<String> {
        let fate = if self.good.contains(&self.primary().revision) { Fate::Healthy } else { self.fate };
        let (desired, breaker) = (self.desired, self.breaker);
        let primary = self.deployments.iter_mut().find(|deployment| deployment.primary)?;
        if primary.rollout != "IN_PROGRESS" {
            return None;
        }
        primary.looks += 1;
        if primary.looks == 2
            && let Some(rival) = self.rival.take()
        {
            primary.status = Some("STOPPED");
            primary.failed += 1;
            self.begin(&rival, Some("PENDING"), None);
            return None;
        }
        match fate {
            Fate::Healthy => {
                primary.pending = desired.saturating_sub(primary.looks - 1);
                primary.running = desired - primary.pending;
                if primary.pending > 0 {
                    return None;
                }
                primary.rollout = "COMPLETED";
                let (number, revision, taken_back) =
                    (primary.number, primary.revision.clone(), primary.takes_back);
                for deployment in &mut self.deployments {
                    if deployment.number == number && deployment.status.is_some() {
                        deployment.status = Some("SUCCESSFUL");
                    }
                    if Some(deployment.number) == taken_back {
                        deployment.status = Some("ROLLBACK_SUCCESSFUL");
                    }
                    if deployment.number != number {
                        deployment.running = 0;
                    }
                }
                self.good.push(revision);
                self.event("has reached a steady state.");
                None
            }
            Fate::NeverPlaced => {
                primary.pending = desired;
                if primary.looks == 1 {
                    self.event(
                        "was unable to place a task because no container instance met all of its \
                         requirements.",
                    );
                }
                None
            }
            Fate::Failing => {
                primary.failed += 1;
                let (number, revision, failed) = (primary.number, primary.revision.clone(), primary.failed);
                if failed >= 3 && breaker != Breaker::Off {
                    primary.rollout = "FAILED";
                    primary.reason = "ECS deployment circuit breaker: tasks failed to start.";
                    if breaker == Breaker::Stops {
                        primary.status = Some("STOPPED");
                    } else {
                        primary.status = Some("ROLLBACK_IN_PROGRESS");
                        let back = self.good.last().expect("one ran").clone();
                        self.event("(deployment) deployment failed: tasks failed to start.");
                        self.begin(&back, None, Some(number));
                        if breaker == Breaker::RollsBackInVain {
                            self.deployments[0].rollout = "FAILED";
                            self.deployments[1].status = Some("ROLLBACK_FAILED");
                        }
                    }
                } else {
                    self.event("has started 1 tasks: (task).");
                }
                Some(revision)
            }
        }
    }

    fn describe(&self) -> Value {
        let deployments = self.deployments.iter().filter(|at| at.primary || at.running > 0 || at.failed > 0);
        let deployments = deployments.map(|at| {
            json!({
                "id": format!("ecs-svc/{}", at.number),
                "status": if at.primary { "PRIMARY" } else { "ACTIVE" },
                "taskDefinition": at.revision,
                "desiredCount": self.desired,
                "pendingCount": at.pending,
                "runningCount": at.running,
                "failedTasks": at.failed,
                "createdAt": 4_102_444_800.5,
                "rolloutState": at.rollout,
                "rolloutStateReason": at.reason,
            })
        });
        // Times far ahead and far behind.
        let events = self.events.iter().enumerate().map(|(at, (id, message))| {
            json!({"id": id, "createdAt": if at % 2 == 0 { 1.25 } else { 4_102_444_800.25 }, "message": message})
        });
        json!({
            "serviceArn": format!("arn:aws:ecs:{REGION}:{ACCOUNT}:service/shop/{}", self.name),
            "serviceName": self.name,
            "clusterArn": format!("arn:aws:ecs:{REGION}:{ACCOUNT}:cluster/shop"),
            "status": self.status,
            "desiredCount": self.desired,
            "launchType": "FARGATE",
            "capacityProviderStrategy": self.capacity_providers,
            "platformVersion": "1.4.0",
            "taskDefinition": self.primary().revision,
            "deploymentConfiguration": {
                "deploymentCircuitBreaker": {
                    "enable": self.breaker != Breaker::Off,
                    "rollback": matches!(self.breaker, Breaker::RollsBack | Breaker::RollsBackInVain),
                },
                "strategy": self.strategy,
            },
            "deploymentController": {"type": self.controller},
            "networkConfiguration": {"awsvpcConfiguration": {
                "subnets": ["subnet-0a"], "securityGroups": ["sg-0a"], "assignPublicIp": "DISABLED",
            }},
            "deployments": deployments.collect::<Vec<_>>(),
            "events": events.collect::<Vec<_>>(),
        })
    }

    /// Its id is not the deployment's number, as at AWS.
    fn deployment_arn(&self, at: &Deployment) -> String {
        let (name, number) = (self.name, at.number);
        format!("arn:aws:ecs:{REGION}:{ACCOUNT}:service-deployment/shop/{name}/id-of-{number:x}")
    }

    fn revision_arn(&self, at: &Deployment) -> String {
        format!("arn:aws:ecs:{REGION}:{ACCOUNT}:service-revision/shop/{}/{}", self.name, at.number)
    }

    fn service_deployment(&self, at: &Deployment) -> Value {
        let rollback = (at.status.is_some_and(|status| status.starts_with("ROLLBACK")))
            .then(|| json!({"reason": at.reason, "startedAt": 1.5}));
        json!({
            "serviceDeploymentArn": self.deployment_arn(at),
            "targetServiceRevisionArn": self.revision_arn(at),
            "status": at.status.map(|status| match (status, at.rollout) {
                ("PENDING", "IN_PROGRESS") if at.looks > 1 => "IN_PROGRESS",
                (status, _) => status,
            }),
            "statusReason": at.reason,
            "createdAt": 4_102_444_800 + at.number % 1000,
            "rollback": rollback,
        })
    }
}

impl World {
    fn in_cluster(input: &Value) -> Result<(), super::Refusal> {
        match input["cluster"].as_str() {
            Some("shop") => Ok(()),
            _ => Err(refusal("ClusterNotFoundException", "Cluster not found.")),
        }
    }

    fn services(&self) -> impl Iterator<Item = &ServiceState> {
        std::iter::once(&self.service).chain(&self.others)
    }

    /// By name or ARN.
    fn find_service(&mut self, name: &Value) -> Option<&mut ServiceState> {
        let name = name.as_str().unwrap_or_default().rsplit('/').next();
        std::iter::once(&mut self.service).chain(&mut self.others).find(|service| Some(service.name) == name)
    }

    /// The same for a test, which knows that it is there.
    pub fn service_mut(&mut self, name: &str) -> &mut ServiceState {
        self.find_service(&json!(name)).expect("there is such a service")
    }

    pub(super) fn list_services(&self, input: &Value) -> Answer {
        Self::in_cluster(input)?;
        let arn = |name: &str| format!("arn:aws:ecs:{REGION}:{ACCOUNT}:service/shop/{name}");
        match input["nextToken"].as_str() {
            None => Ok(json!({"serviceArns": [arn("reports")], "nextToken": "page-2"})),
            Some(_) => {
                let arns: Vec<String> = self.services().map(|service| arn(service.name)).collect();
                Ok(json!({"serviceArns": arns}))
            }
        }
    }

    pub(super) fn describe_services(&mut self, input: &Value) -> Answer {
        Self::in_cluster(input)?;
        let Some(service) = self.find_service(&input["services"][0]) else {
            let name = input["services"][0].as_str().unwrap_or_default();
            let arn = format!("arn:aws:ecs:{REGION}:{ACCOUNT}:service/shop/{name}");
            return Ok(json!({"services": [], "failures": [{"arn": arn, "reason": "MISSING"}]}));
        };
        let failed = service.pass();
        let (name, described) = (service.name, service.describe());
        if let Some(revision) = failed {
            self.tasks.stopped.push(Stopped { service: name, revision, exit_code: 1 });
        }
        Ok(json!({"services": [described], "failures": []}))
    }

    pub(super) fn update_service(&mut self, input: &Value) -> Answer {
        Self::in_cluster(input)?;
        let definition = self.definition(input)?;
        if definition["taskDefinition"]["status"] != "ACTIVE" {
            return Err(refusal("ClientException", "TaskDefinition is inactive"));
        }
        let arn = definition["taskDefinition"]["taskDefinitionArn"].as_str().unwrap_or_default().to_owned();
        let service = self.find_service(&input["service"]);
        let service = service.ok_or_else(|| refusal("ServiceNotFoundException", "Service not found."))?;
        if service.denied {
            return Err(refusal("AccessDeniedException", "not authorized to perform: ecs:UpdateService"));
        }
        // To the revision where the service is already: no new deployment.
        if service.primary().revision != arn {
            service.begin(&arn, Some("PENDING"), None);
        }
        Ok(json!({"service": service.describe()}))
    }

    pub(super) fn list_service_deployments(&mut self, input: &Value) -> Answer {
        Self::in_cluster(input)?;
        let service = self.find_service(&input["service"]);
        let service = service.ok_or_else(|| refusal("ServiceNotFoundException", "Service not found."))?;
        if service.listing == Listing::Unsupported {
            return Err(refusal("UnsupportedFeatureException", "Not supported in this region."));
        }
        // The first page is empty and goes on, as pages of filtered lists may be.
        if input["nextToken"].is_null() {
            return Ok(json!({"serviceDeployments": [], "nextToken": "page-2"}));
        }
        let wanted = input["status"].as_array();
        // It is listed only after a while.
        let listed = service.deployments.iter().filter(|at| at.status.is_some());
        let listed = listed.filter(|at| at.looks != 1).map(|at| service.service_deployment(at));
        let listed = listed.filter(|at| wanted.is_none_or(|wanted| wanted.contains(&at["status"])));
        Ok(json!({"serviceDeployments": listed.collect::<Vec<_>>()}))
    }

    fn deployments(&self) -> impl Iterator<Item = (&ServiceState, &Deployment)> {
        self.services().flat_map(|service| service.deployments.iter().map(move |at| (service, at)))
    }

    pub(super) fn describe_service_deployments(&self, input: &Value) -> Answer {
        let wanted = input["serviceDeploymentArns"].as_array().cloned().unwrap_or_default();
        let found =
            self.deployments().filter(|(service, at)| wanted.contains(&json!(service.deployment_arn(at))));
        let found: Vec<Value> = found.map(|(service, at)| service.service_deployment(at)).collect();
        Ok(json!({"serviceDeployments": found, "failures": []}))
    }

    pub(super) fn describe_service_revisions(&self, input: &Value) -> Answer {
        let wanted = input["serviceRevisionArns"].as_array().cloned().unwrap_or_default();
        let found =
            self.deployments().filter(|(service, at)| wanted.contains(&json!(service.revision_arn(at))));
        let found: Vec<Value> = found.map(|(_, at)| json!({"taskDefinition": at.revision})).collect();
        Ok(json!({"serviceRevisions": found, "failures": []}))
    }
}
