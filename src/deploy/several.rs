//! One release for several services, each through a deployer of its own.
//!
//! All are looked at, and all are made ready, before any is switched. They are switched in the order in which they were named,
//! each followed to its end before the next: only the user knows whether the workers must know a new task before the web
//! sends it, or the other way round. When one fails, those before it are taken back, the last first.

use std::collections::BTreeMap;

use async_trait::async_trait;
use futures_util::future::try_join_all;

use self::state::{Part, Parts, Seen};
use super::taskdef::short_name;
use super::{Deployed, Deployer, Prepared, Release, ReleasedImage, Running, ServiceAt, TaskExit};
use crate::config::{OnceConfig, nearest};
use crate::error::{Error, Kind, Result};
use crate::image::reference::Repository;
use crate::progress::Reporter;

mod back;
mod state;

/// A deployer that can leave a release that it has switched to.
#[async_trait]
pub trait TakeBack: Deployer {
    /// Goes back from `prepared`, which was applied, to `running`, and follows that to its end. What somebody else deployed
    /// since is left alone.
    ///
    /// # Errors
    /// [`Kind::TimedOut`] when the end did not come; anything else: the service is not back.
    async fn take_back(&self, prepared: &Prepared, running: &Running, progress: &Reporter) -> Result<()>;
}

/// Deploys to all its services together.
pub struct Several<D> {
    what: &'static str,
    members: Vec<Member<D>>,
    /// Where the images of imgforge.toml are, by name.
    repositories: BTreeMap<String, Repository>,
}

struct Member<D> {
    /// `shop/web`
    name: String,
    deployer: D,
}

impl<D: TakeBack> Several<D> {
    /// Services by name, in the order in which they are to be switched; `what` they are, for people.
    pub fn new(
        what: &'static str,
        services: Vec<(String, D)>,
        repositories: BTreeMap<String, Repository>,
    ) -> Self {
        let members = services.into_iter().map(|(name, deployer)| Member { name, deployer }).collect();
        Several { what, members, repositories }
    }

    fn names(&self) -> String {
        self.members.iter().map(|member| member.name.as_str()).collect::<Vec<_>>().join(", ")
    }

    /// `web: revision shop-web:42, worker: revision shop-worker:12`
    fn each<'a>(&self, descriptions: impl Iterator<Item = &'a str>) -> String {
        let each = self.members.iter().zip(descriptions);
        each.map(|(member, text)| format!("{}: {text}", short_name(&member.name)))
            .collect::<Vec<_>>()
            .join(", ")
    }

    fn services<'a>(&self, descriptions: impl Iterator<Item = &'a str>) -> Vec<ServiceAt> {
        let each = self.members.iter().zip(descriptions);
        each.map(|(member, text)| ServiceAt {
            target: member.deployer.describe(),
            description: text.to_owned(),
        })
        .collect()
    }

    /// What all of them run, whatever that is.
    async fn look(&self) -> Result<Vec<Seen>> {
        try_join_all(self.members.iter().map(async |member| {
            let running = member.deployer.observe(&[], &[]).await?;
            Ok(Seen::from(running))
        }))
        .await
    }

    /// Some service has a container for the image.
    fn require_image(&self, seen: &[Seen], image: &str, repository: Option<&Repository>) -> Result<()> {
        if seen.iter().any(|seen| seen.runs(image, repository)) {
            return Ok(());
        }
        let from = match repository {
            Some(repository) => format!(" or runs an image from {repository}"),
            None => String::new(),
        };
        let what = format!("image {image:?}: no container of {} has its name{from}", self.names());
        Err(self.no_container(seen, what, image))
    }

    /// No service has the container of the once-task.
    fn without_container(&self, seen: &[Seen], task: &OnceConfig) -> Error {
        let OnceConfig { name, container, .. } = task;
        let what =
            format!("once-task {name:?} names container {container:?}, which none of {} has", self.names());
        self.no_container(seen, what, container)
    }

    fn no_container(&self, seen: &[Seen], what: String, name: &str) -> Error {
        let each = self.members.iter().zip(seen).map(|(member, seen)| {
            let names: Vec<&str> = seen.containers.keys().map(String::as_str).collect();
            format!("{} has {}", member.name, names.join(", "))
        });
        let each = each.collect::<Vec<_>>().join("; ");
        let known = seen.iter().flat_map(|seen| seen.containers.keys()).map(String::as_str);
        Error::refused(what).help(match nearest(name, known) {
            Some(near) => format!("{each}; did you mean {near:?}?"),
            None => each,
        })
    }

    /// A service that gets nothing of any release would go on with old code, and the release would look complete.
    fn require_all_concerned(&self, seen: &[Seen]) -> Result<()> {
        for (member, seen) in self.members.iter().zip(seen) {
            if !self.repositories.iter().any(|(image, repository)| seen.runs(image, Some(repository))) {
                let containers = seen.containers.iter().map(|(name, image)| format!("{name} runs {image}"));
                let containers = containers.collect::<Vec<_>>().join("; ");
                return Err(Error::refused(format!(
                    "no container of {} has the name of an image of imgforge.toml or runs one from its repository",
                    member.name
                ))
                .help(format!("{containers}. Take it out of `service` in [deploy], or correct its containers")));
            }
        }
        Ok(())
    }

    /// What was made ready and will not run. That something of it stays is no reason to fail.
    async fn forget<'a>(&self, parts: impl Iterator<Item = (usize, &'a Prepared)>, progress: &Reporter) {
        for (at, prepared) in parts {
            if let Err(error) = self.members[at].deployer.discard(prepared).await {
                progress.warning(format!("{} stays: {error}", prepared.description));
            }
        }
    }

    /// Nothing has changed since the first look, so that no service is switched for nothing.
    async fn still_as_seen(&self, parts: &[Part]) -> Result<()> {
        let now = self.look().await.map_err(|error| match error.kind() {
            Kind::Refused => error.with_kind(Kind::Failed),
            _ => error,
        })?;
        for ((member, part), now) in self.members.iter().zip(parts).zip(now) {
            if now.handle != part.seen.handle {
                let (before, now) = (&part.seen.description, now.description);
                return Err(Error::failed(format!("{} went from {before} to {now} meanwhile", member.name))
                    .help("someone else deployed; run the same command again to start from what runs now"));
            }
        }
        Ok(())
    }
}

#[async_trait]
impl<D: TakeBack> Deployer for Several<D> {
    fn describe(&self) -> String {
        format!("{} {}", self.what, self.names())
    }

    async fn observe(&self, images: &[String], once: &[OnceConfig]) -> Result<Running> {
        let seen = self.look().await?;
        for image in images {
            self.require_image(&seen, image, self.repositories.get(image))?;
        }
        if let Some(task) = once.iter().find(|task| !seen.iter().any(|seen| seen.has(&task.container))) {
            return Err(self.without_container(&seen, task));
        }
        if !images.is_empty() {
            self.require_all_concerned(&seen)?;
        }
        let descriptions = || seen.iter().map(|seen| seen.description.as_str());
        // One name may be that of a container in each of them.
        let containers = self.members.iter().zip(&seen).flat_map(|(member, seen)| {
            let containers = seen.containers.iter();
            containers.map(|(name, image)| (format!("{}/{name}", short_name(&member.name)), image.clone()))
        });
        Ok(Running {
            description: self.each(descriptions()),
            containers: containers.collect(),
            services: self.services(descriptions()),
            images: state::agreed(&seen, &self.repositories),
            handle: Some(state::write(&seen)?),
        })
    }

    async fn prepare(&self, release: &Release, running: &Running, progress: &Reporter) -> Result<Prepared> {
        let seen: Vec<Seen> = state::read(running.handle.as_deref())?;
        for (image, released) in &release.images {
            self.require_image(&seen, image, Some(&released.reference.repository))?;
        }
        let mut ready: Vec<Prepared> = Vec::new();
        // One after the other: registering revisions is limited to about one a second.
        for (member, seen) in self.members.iter().zip(&seen) {
            let runs = |(image, released): &(&String, &ReleasedImage)| {
                seen.runs(image, Some(&released.reference.repository))
            };
            let images = release.images.iter().filter(runs);
            let images = images.map(|(name, released)| (name.clone(), released.clone())).collect();
            let own = Release { id: release.id.clone(), images };
            match member.deployer.prepare(&own, &seen.running()?, progress).await {
                Ok(prepared) => ready.push(prepared),
                Err(error) => {
                    self.forget(ready.iter().enumerate().rev(), progress).await;
                    let what = format!("{} could not be made ready; no service was switched", member.name);
                    return Err(error.context(what));
                }
            }
        }
        Ok(Prepared {
            description: self.each(ready.iter().map(|prepared| prepared.description.as_str())),
            unchanged: ready.iter().all(|prepared| prepared.unchanged),
            handle: Parts::of(seen, ready).write()?,
        })
    }

    async fn run_once(
        &self,
        prepared: &Prepared,
        task: &OnceConfig,
        progress: &Reporter,
    ) -> Result<TaskExit> {
        let parts = Parts::read(prepared)?.0;
        let mut each = self.members.iter().zip(&parts);
        // Once means once, not once for each service that could run it.
        match each.find(|(_, part)| part.seen.has(&task.container)) {
            Some((member, part)) => member.deployer.run_once(&part.prepared(), task, progress).await,
            None => {
                let seen: Vec<Seen> = parts.into_iter().map(|part| part.seen).collect();
                Err(self.without_container(&seen, task))
            }
        }
    }

    async fn current(&self, running: &Running) -> Result<Prepared> {
        let seen: Vec<Seen> = state::read(running.handle.as_deref())?;
        let mut current = Vec::new();
        for (member, seen) in self.members.iter().zip(&seen) {
            current.push(member.deployer.current(&seen.running()?).await?);
        }
        Ok(Prepared {
            description: running.description.clone(),
            unchanged: true,
            handle: Parts::of(seen, current).write()?,
        })
    }

    async fn apply(&self, prepared: &Prepared, _: &Running, progress: &Reporter) -> Result<Deployed> {
        let parts = Parts::read(prepared)?.0;
        if !prepared.unchanged
            && let Err(error) = self.still_as_seen(&parts).await
        {
            let ready: Vec<Prepared> = parts.iter().map(Part::prepared).collect();
            self.forget(ready.iter().enumerate().rev(), progress).await;
            return Err(error.context("no service was switched"));
        }
        let mut deployed = Vec::new();
        for (at, part) in parts.iter().enumerate() {
            let member = &self.members[at];
            match member.deployer.apply(&part.prepared(), &part.seen.running()?, progress).await {
                Ok(done) => deployed.push(done),
                Err(error) => return Err(self.all_back(&parts, at, error, progress).await),
            }
        }
        let descriptions = || deployed.iter().map(|deployed| deployed.description.as_str());
        Ok(Deployed {
            description: self.each(descriptions()),
            services: self.services(descriptions()),
            url: deployed.iter().find_map(|deployed| deployed.url.clone()),
        })
    }

    async fn discard(&self, prepared: &Prepared) -> Result<()> {
        let parts = Parts::read(prepared)?;
        let mut ended = Ok(());
        for (member, part) in self.members.iter().zip(&parts.0) {
            // One that stays does not keep the others.
            let discarded = member.deployer.discard(&part.prepared()).await;
            ended = ended.and(discarded);
        }
        ended
    }
}
