//! An ECS service: a new revision of its own task definition, one UpdateService, and that deployment followed to its end.
//!
//! What the caller must be allowed: `ecs:` DescribeServices, DescribeTaskDefinition, RegisterTaskDefinition,
//! DeregisterTaskDefinition, UpdateService, RunTask, DescribeTasks, TagResource (when the task definition has tags), and
//! `iam:PassRole` for its roles. For better answers: `ecs:` ListServices, ListClusters, ListTasks, ListServiceDeployments,
//! DescribeServiceDeployments, DescribeServiceRevisions, StopTask, and `logs:GetLogEvents`.
//!
//! A once-task starts all containers of the task definition, with the command of one of them changed: RunTask offers no
//! other way. What is essential beside it (a worker, say) runs as long as the once-task does.
//!
//! Tested against a simulator that speaks the wire protocol, and with moto for the shapes. Never tried against AWS itself:
//! how long the service deployments API lags behind UpdateService, the exact text of throttling answers, when
//! CloudWatch Logs shows a task's last lines, and endpoints outside the `aws` partition.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use async_trait::async_trait;
use aws_config::SdkConfig;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::time::Instant;

use self::answers::{Deployment, Service, part};
use self::api::{ApiError, Client, Retry};
use crate::config::{OnceConfig, Strategy};
use crate::deploy::several::{Several, TakeBack};
use crate::deploy::taskdef::{TaskDefinition, short_name};
use crate::deploy::{Deployed, Deployer, Prepared, Release, Running, TaskExit};
use crate::error::{Error, Kind, Result};
use crate::image::reference::{Reference, Repository};
use crate::progress::Reporter;

mod answers;
pub mod api;
mod back;
mod errors;
mod follow;
mod logs;
mod observe;
mod once;

/// Which service, and how to wait for it.
#[derive(Debug, Clone)]
pub struct EcsConfig {
    /// The cluster's name or ARN.
    pub cluster: String,
    /// The service's name or ARN.
    pub service: String,
    /// How long a deployment, a rollback or a once-task may take.
    pub timeout: Duration,
    /// How imgforge.toml wants the switch to be made.
    pub strategy: Option<Strategy>,
    /// The repository of each image of imgforge.toml, so that containers which share an image are found before the
    /// release is built. Without an entry only a container of the image's own name counts in `observe`.
    pub repositories: BTreeMap<String, Repository>,
    /// How often to look.
    pub pace: Pace,
}

/// How often to look at what is going on.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// The pause before the second look.
    pub first: Duration,
    /// The longest pause. They double until there.
    pub longest: Duration,
    /// How calls are repeated.
    pub retry: Retry,
}

impl Default for Pace {
    fn default() -> Self {
        Pace { first: Duration::from_secs(2), longest: Duration::from_secs(5), retry: Retry::default() }
    }
}

/// Sleeps a little longer each time, and knows when time is up.
struct Ticker {
    pause: Duration,
    longest: Duration,
    deadline: Instant,
}

impl Ticker {
    /// `false` when time is up.
    async fn tick(&mut self) -> bool {
        let now = Instant::now();
        if now >= self.deadline {
            return false;
        }
        tokio::time::sleep(self.pause.min(self.deadline - now)).await;
        self.pause = self.pause.saturating_mul(2).min(self.longest);
        true
    }
}

/// Deploys to one ECS service. Several are deployed to together by [`crate::deploy::several`].
pub struct EcsDeployer {
    ecs: Client,
    sdk: SdkConfig,
    http: reqwest::Client,
    config: EcsConfig,
}

/// [`Running::handle`] in JSON.
#[derive(Debug, Serialize, Deserialize)]
struct Before {
    /// The revision that the service is at.
    live: String,
    /// The revision of its last good deployment: where a rollback goes.
    good: String,
    /// Whether the service's last deployment failed, be it one on the way back.
    failed: bool,
}

/// [`Prepared::handle`] in JSON.
#[derive(Debug, Serialize, Deserialize)]
struct Ready {
    revision: String,
    origin: Origin,
    release: String,
    /// Differs with each `prepare`: see `once`.
    attempt: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Origin {
    /// `prepare` registered it.
    Registered,
    /// It was running.
    Found,
}

impl EcsDeployer {
    /// A deployer with the region, credentials and endpoints of `sdk`.
    ///
    /// # Errors
    /// No region or no credentials are configured.
    pub fn new(sdk: &SdkConfig, config: EcsConfig) -> Result<Self> {
        let http = reqwest::Client::builder()
            .user_agent(concat!("imgforge/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(Duration::from_secs(10))
            .read_timeout(Duration::from_secs(60))
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|error| Error::failed("cannot set up HTTPS").because(error))?;
        let ecs = Client::new(api::ECS, sdk, None, http.clone(), config.pace.retry)?;
        Ok(EcsDeployer { ecs, sdk: sdk.clone(), http, config })
    }

    fn ticker(&self) -> Ticker {
        let Pace { first, longest, .. } = self.config.pace;
        Ticker { pause: first, longest, deadline: Instant::now() + self.config.timeout }
    }

    /// `shop/web`
    pub fn name(&self) -> String {
        format!("{}/{}", short_name(&self.config.cluster), short_name(&self.config.service))
    }

    /// What to type to go to `revision` by hand.
    fn by_hand(&self, revision: &str) -> String {
        format!(
            "aws ecs update-service --cluster {} --service {} --task-definition {}",
            self.config.cluster,
            self.config.service,
            short_name(revision)
        )
    }

    async fn task_definition(&self, revision: &str) -> Result<TaskDefinition> {
        let input = json!({"taskDefinition": revision, "include": ["TAGS"]});
        TaskDefinition::from_described(self.ecs.call("DescribeTaskDefinition", &input).await?)
    }

    async fn register(&self, definition: &TaskDefinition) -> Result<TaskDefinition> {
        let input = Value::Object(definition.to_request());
        let registered =
            TaskDefinition::from_described(self.ecs.call("RegisterTaskDefinition", &input).await?)?;
        match registered.arn() {
            "" => Err(Error::failed("RegisterTaskDefinition answered without the new revision's ARN")),
            _ => Ok(registered),
        }
    }

    /// UpdateService went out and its answer never came: the service itself tells whether it was done.
    async fn updated_unheard(&self, revision: &str, error: ApiError) -> Result<(Service, Deployment)> {
        let service = self.find_service().await.map_err(|_| {
            Error::new(
                Kind::TimedOut,
                format!("whether service {} was switched is unknown: no answer came", self.name()),
            )
            .help("see what runs with `imgforge plan`, then run the same command again")
        })?;
        match service.primary().filter(|primary| primary.task_definition == revision).cloned() {
            Some(primary) => Ok((service, primary)),
            None => Err(error.into()),
        }
    }

    /// Points the service at `revision`, and at nothing else. Returns the service and the deployment that this began.
    async fn update_service(&self, revision: &str) -> Result<(Service, Deployment)> {
        let input = json!({
            "cluster": self.config.cluster,
            "service": self.config.service,
            "taskDefinition": revision,
        });
        let service: Service = match self.ecs.call("UpdateService", &input).await {
            Ok(answer) => part(answer, "service")?,
            Err(error) if error.leaves_open() => return self.updated_unheard(revision, error).await,
            Err(error) => return Err(error.into()),
        };
        let primary = service.primary().filter(|primary| primary.task_definition == revision).cloned();
        let primary = primary.ok_or_else(|| {
            Error::new(
                Kind::TimedOut,
                format!("UpdateService named no deployment of {}", short_name(revision)),
            )
            .help(format!("look at the service {} before anything else", self.name()))
        })?;
        Ok((service, primary))
    }
}

#[async_trait]
impl Deployer for EcsDeployer {
    fn describe(&self) -> String {
        format!("ecs service {}", self.name())
    }

    async fn observe(&self, images: &[String], once: &[OnceConfig]) -> Result<Running> {
        self.look(images, once).await
    }

    async fn prepare(&self, release: &Release, running: &Running, progress: &Reporter) -> Result<Prepared> {
        let before: Before = handle(running.handle.as_deref())?;
        let images: BTreeMap<String, Reference> = (release.images.iter())
            .map(|(name, released)| (name.clone(), released.reference.clone()))
            .collect();
        let live = self.task_definition(&before.live).await?;
        let (next, changes) = live.with_images(&images)?;
        // After a failed deployment the service is at a revision that it does not run: registered once more, it is
        // another revision, and the service deploys it anew.
        let unchanged = changes.is_empty() && before.live == before.good;
        let task = progress.task(self.name(), "task definition");
        let (revision, origin) = if unchanged {
            task.reused(short_name(&before.live));
            (before.live, Origin::Found)
        } else {
            let revision = self.register(&next).await?.arn().to_owned();
            task.done(short_name(&revision));
            (revision, Origin::Registered)
        };
        for change in &changes {
            progress.note(format!("{}: {} → {}", change.container, change.from, change.to));
        }
        let description = format!("revision {}", short_name(&revision));
        let ready = Ready { revision, origin, release: release.id.clone(), attempt: once::attempt() };
        Ok(Prepared { description, unchanged, handle: json!(ready).to_string() })
    }

    async fn current(&self, running: &Running) -> Result<Prepared> {
        let before: Before = handle(running.handle.as_deref())?;
        let ready = Ready {
            revision: before.good,
            origin: Origin::Found,
            release: "run".into(),
            attempt: once::attempt(),
        };
        Ok(Prepared {
            description: running.description.clone(),
            unchanged: true,
            handle: json!(ready).to_string(),
        })
    }

    async fn run_once(
        &self,
        prepared: &Prepared,
        task: &OnceConfig,
        progress: &Reporter,
    ) -> Result<TaskExit> {
        self.run_task(&handle(Some(&prepared.handle))?, task, progress).await
    }

    async fn apply(&self, prepared: &Prepared, running: &Running, progress: &Reporter) -> Result<Deployed> {
        let deployed =
            Deployed { description: prepared.description.clone(), url: None, services: Vec::new() };
        if prepared.unchanged {
            return Ok(deployed);
        }
        let ready: Ready = handle(Some(&prepared.handle))?;
        let before: Before = handle(running.handle.as_deref())?;
        self.still_at(&before.live).await?;
        self.switch(&ready.revision, &before.good, progress).await?;
        Ok(deployed)
    }

    async fn discard(&self, prepared: &Prepared) -> Result<()> {
        let ready: Ready = handle(Some(&prepared.handle))?;
        if ready.origin == Origin::Registered {
            let input = json!({"taskDefinition": ready.revision});
            self.ecs.call("DeregisterTaskDefinition", &input).await?;
        }
        Ok(())
    }
}

/// One release for several services. `repositories` is that of each image, as in [`EcsConfig`].
pub fn together(
    deployers: Vec<EcsDeployer>,
    repositories: BTreeMap<String, Repository>,
) -> Several<EcsDeployer> {
    let named = deployers.into_iter().map(|deployer| (deployer.name(), deployer));
    Several::new("ecs services", named.collect(), repositories)
}

#[async_trait]
impl TakeBack for EcsDeployer {
    async fn take_back(&self, prepared: &Prepared, running: &Running, progress: &Reporter) -> Result<()> {
        let ready: Ready = handle(Some(&prepared.handle))?;
        let before: Before = handle(running.handle.as_deref())?;
        self.back_from(&ready.revision, &before.good, progress).await
    }
}

fn handle<'a, T: Deserialize<'a>>(text: Option<&'a str>) -> Result<T> {
    serde_json::from_str(text.unwrap_or_default())
        .map_err(|error| Error::failed("this state was not made by the ECS deployer").because(error))
}

/// Event ids that were seen. AWS's times are never compared with this machine's.
type Seen = BTreeSet<String>;
