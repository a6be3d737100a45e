//! Several ECS services that run the same images: a site, its workers, its clock.
//!
//! They are prepared together and switched one after another, in the order in which imgforge.toml names them. When one fails,
//! those that were switched before it go back, so that no service runs another release than its neighbours.

use std::collections::BTreeMap;

use async_trait::async_trait;
use futures_util::future::try_join_all;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Before, EcsDeployer, handle};
use crate::config::OnceConfig;
use crate::deploy::taskdef::TaskDefinition;
use crate::deploy::{Deployed, Deployer, Prepared, Release, Running, TaskExit};
use crate::error::{Error, Kind, Result};
use crate::image::reference::Reference;
use crate::progress::Reporter;

/// Deploys to several services. Invariant: there is at least one.
pub struct EcsServices {
    services: Vec<EcsDeployer>,
}

/// What [`Running::handle`] holds of each service, in order, in JSON.
#[derive(Debug, Serialize, Deserialize)]
struct Member {
    /// The service's own [`Running::handle`].
    handle: Option<String>,
    description: String,
    /// The images of imgforge.toml that it runs.
    images: Vec<String>,
    containers: Vec<String>,
}

/// What [`Prepared::handle`] holds of each, in order, in JSON.
#[derive(Debug, Serialize, Deserialize)]
struct Ready {
    handle: String,
    description: String,
    unchanged: bool,
    containers: Vec<String>,
}

impl Ready {
    fn prepared(&self) -> Prepared {
        Prepared {
            description: self.description.clone(),
            unchanged: self.unchanged,
            handle: self.handle.clone(),
        }
    }
}

impl Member {
    fn running(&self) -> Running {
        Running {
            description: self.description.clone(),
            containers: BTreeMap::new(),
            images: BTreeMap::new(),
            handle: self.handle.clone(),
        }
    }
}

impl EcsServices {
    /// Those, in the order in which they are switched.
    pub fn new(services: Vec<EcsDeployer>) -> Self {
        EcsServices { services }
    }

    /// What concerns one service, told as what it is for all.
    fn require(
        &self,
        definitions: &[TaskDefinition],
        has: impl Fn(&EcsDeployer, &TaskDefinition) -> Result<()>,
    ) -> Result<()> {
        let each = self.services.iter().zip(definitions);
        let mut refusals = Vec::new();
        for (service, definition) in each {
            match has(service, definition) {
                Ok(()) => return Ok(()),
                Err(error) => refusals.push(error),
            }
        }
        match refusals.into_iter().next() {
            Some(first) if self.services.len() > 1 => {
                Err(first.context(format!("none of {} has it", self.names())))
            }
            Some(only) => Err(only),
            None => Ok(()),
        }
    }

    /// `shop/web, shop/worker`
    fn names(&self) -> String {
        self.services.iter().map(EcsDeployer::name).collect::<Vec<_>>().join(", ")
    }

    /// `web: revision web:4, worker: revision worker:2`
    fn together<'a>(&self, descriptions: impl IntoIterator<Item = &'a str>) -> String {
        let each = self.services.iter().zip(descriptions);
        each.map(|(service, description)| format!("{}: {description}", service.short()))
            .collect::<Vec<_>>()
            .join(", ")
    }

    /// The services before the one at `failed` go back, the last one first.
    async fn take_back(
        &self,
        failed: usize,
        cause: Error,
        members: &[Member],
        ready: &[Ready],
        progress: &Reporter,
    ) -> Error {
        let switched = (0..failed).rev().filter(|at| !ready[*at].unchanged);
        // Whether this one comes to a good end is unknown: until someone has looked, neither way is the right one.
        if cause.kind() == Kind::TimedOut {
            let left: Vec<String> = switched
                .map(|at| format!("{} at {}", self.services[at].name(), ready[at].description))
                .collect();
            if left.is_empty() {
                return cause;
            }
            let help = cause.help_text().unwrap_or_default().to_owned();
            return cause.context(format!("switched before, and left so: {}", left.join(", "))).help(help);
        }
        let mut back = Vec::new();
        let mut stay = Vec::new();
        for at in switched {
            let service = &self.services[at];
            let returned = async {
                let before: Before = handle(members[at].handle.as_deref())?;
                service.return_to(&before.good, progress).await
            };
            match returned.await {
                Ok(()) => back.push(service.name()),
                Err(error) => {
                    progress.warning(format!("service {} cannot go back: {error}", service.name()));
                    stay.push(format!("service {} runs {}", service.name(), ready[at].description));
                }
            }
        }
        if back.is_empty() && stay.is_empty() {
            return cause;
        }
        let mut what = cause.what().to_owned();
        if !back.is_empty() {
            what = format!("{what}; before it switched and back as before: {}", back.join(", "));
        }
        // What is not back is no rollback.
        let kind = if stay.is_empty() { cause.kind() } else { Kind::Failed };
        if !stay.is_empty() {
            what = format!("{what}; not back: {}", stay.join(", "));
        }
        let help = cause.help_text().map(str::to_owned);
        let error = Error::new(kind, what).because(cause);
        match help {
            Some(help) => error.help(help),
            None => error,
        }
    }

    async fn discard_all(&self, ready: &[Ready], progress: &Reporter) {
        for (service, ready) in self.services.iter().zip(ready) {
            if let Err(error) = service.discard(&ready.prepared()).await {
                progress.warning(format!("{} stays: {error}", ready.description));
            }
        }
    }
}

#[async_trait]
impl Deployer for EcsServices {
    fn describe(&self) -> String {
        format!("ecs services {}", self.names())
    }

    async fn observe(&self, images: &[String], once: &[OnceConfig]) -> Result<Running> {
        let seen = try_join_all(self.services.iter().map(EcsDeployer::what_runs)).await?;
        let (running, definitions): (Vec<Running>, Vec<TaskDefinition>) = seen.into_iter().unzip();
        for image in images {
            self.require(&definitions, |service, definition| service.require_image(definition, image))?;
        }
        for task in once {
            let wanted_by = format!("once-task {:?}", task.name);
            self.require(&definitions, |_, definition| {
                definition.require_container(&task.container, &wanted_by)
            })?;
        }
        let mut containers = BTreeMap::new();
        let mut references: BTreeMap<String, Option<Reference>> = BTreeMap::new();
        for (service, running) in self.services.iter().zip(&running) {
            for (container, image) in &running.containers {
                containers.insert(format!("{}/{container}", service.short()), image.clone());
            }
            for (image, reference) in &running.images {
                // Where services do not agree it is not known which one is meant.
                let known = references.entry(image.clone()).or_insert_with(|| Some(reference.clone()));
                if known.as_ref() != Some(reference) {
                    *known = None;
                }
            }
        }
        let members: Vec<Member> = (self.services.iter().zip(&running).zip(&definitions))
            .map(|((service, running), definition)| Member {
                handle: running.handle.clone(),
                description: running.description.clone(),
                images: service.images_of(definition),
                containers: definition.containers().map(|container| container.name.to_owned()).collect(),
            })
            .collect();
        Ok(Running {
            description: self.together(running.iter().map(|running| running.description.as_str())),
            containers,
            images: references
                .into_iter()
                .filter_map(|(image, reference)| Some((image, reference?)))
                .collect(),
            handle: Some(json!(members).to_string()),
        })
    }

    async fn prepare(&self, release: &Release, running: &Running, progress: &Reporter) -> Result<Prepared> {
        let members: Vec<Member> = handle(running.handle.as_deref())?;
        let mut ready: Vec<Ready> = Vec::new();
        // One after another: RegisterTaskDefinition is limited to about one a second.
        for (service, member) in self.services.iter().zip(&members) {
            let images = release.images.iter().filter(|(name, _)| member.images.contains(name));
            let part = Release {
                id: release.id.clone(),
                images: images.map(|(name, image)| (name.clone(), image.clone())).collect(),
            };
            match service.prepare(&part, &member.running(), progress).await {
                Ok(prepared) => ready.push(Ready {
                    handle: prepared.handle,
                    description: prepared.description,
                    unchanged: prepared.unchanged,
                    containers: member.containers.clone(),
                }),
                Err(error) => {
                    self.discard_all(&ready, progress).await;
                    return Err(error);
                }
            }
        }
        Ok(Prepared {
            description: self.together(ready.iter().map(|ready| ready.description.as_str())),
            unchanged: ready.iter().all(|ready| ready.unchanged),
            handle: json!(ready).to_string(),
        })
    }

    async fn current(&self, running: &Running) -> Result<Prepared> {
        let members: Vec<Member> = handle(running.handle.as_deref())?;
        let mut ready = Vec::new();
        for (service, member) in self.services.iter().zip(&members) {
            let current = service.current(&member.running()).await?;
            ready.push(Ready {
                handle: current.handle,
                description: current.description,
                unchanged: true,
                containers: member.containers.clone(),
            });
        }
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
        let ready: Vec<Ready> = handle(Some(&prepared.handle))?;
        let mut each = self.services.iter().zip(&ready);
        // The first that has the container: once means once, not once for each service.
        match each.find(|(_, ready)| ready.containers.contains(&task.container)) {
            Some((service, ready)) => service.run_once(&ready.prepared(), task, progress).await,
            None => Err(Error::refused(format!(
                "no service of {} has a container {:?}",
                self.names(),
                task.container
            ))),
        }
    }

    async fn apply(&self, prepared: &Prepared, running: &Running, progress: &Reporter) -> Result<Deployed> {
        let members: Vec<Member> = handle(running.handle.as_deref())?;
        let ready: Vec<Ready> = handle(Some(&prepared.handle))?;
        for (at, service) in self.services.iter().enumerate() {
            if let Err(error) = service.apply(&ready[at].prepared(), &members[at].running(), progress).await {
                return Err(self.take_back(at, error, &members, &ready, progress).await);
            }
        }
        Ok(Deployed { description: prepared.description.clone(), url: None })
    }

    async fn discard(&self, prepared: &Prepared) -> Result<()> {
        let ready: Vec<Ready> = handle(Some(&prepared.handle))?;
        for (service, ready) in self.services.iter().zip(&ready) {
            service.discard(&ready.prepared()).await?;
        }
        Ok(())
    }
}
