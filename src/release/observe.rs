//! Looks at everything a plan depends on, before anything is changed: sources, bases, engine, repositories, the service.
//!
//! Independent things are looked at together; the first refusal ends it.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::{OptionFuture, try_join_all};
use futures_util::try_join;

use super::bases::{self, ReadyBase};
use super::{Parts, source};
use crate::base::layout;
use crate::config::{Config, OnceConfig};
use crate::deploy::{Deployer, Running};
use crate::digest::Digest;
use crate::engine::Logins;
use crate::error::{Error, Result};
use crate::image::reference::Repository;
use crate::plan::{self, Observed, PlannedDeploy, PlannedService, Request, Start, Until};
use crate::registry::Registry;
use crate::secret::SecretSet;

/// What was seen, for the stages that come after the plan.
pub struct Seen {
    /// The secret files, pinned.
    pub secrets: SecretSet,
    /// The bases, by name and platform: ready, or what to make.
    pub bases: BTreeMap<(String, String), ReadyBase>,
    /// Logins for the registries that bases come from.
    pub logins: Logins,
    /// What runs, when the request goes that far.
    pub running: Option<Running>,
    /// The engine's platform, `linux/amd64`; empty when nothing is built.
    pub platform: String,
}

/// Looks. Changes nothing.
pub(super) async fn observe(parts: &Parts, request: &Request) -> Result<(Observed, Seen)> {
    let config = &parts.config;
    let images: Vec<String> = plan::select(config, request)?.cloned().collect();
    // Bases are for the engine's platform where none is named, so it is asked first.
    let mut platform = String::new();
    let mut used: BTreeMap<&String, BTreeSet<String>> = BTreeMap::new();
    if request.start == Start::Sources {
        check_files(parts, &images)?;
        platform = parts.engine.check().await?.platform;
        if request.until == Until::Deploy {
            runs_here(config, &images, &platform)?;
        }
        for image in images.iter().map(|name| &config.images[name]) {
            if let Some(base) = &image.base {
                used.entry(base.get_ref()).or_default().extend(plan::platforms(image, Some(&platform)));
            }
        }
    }
    let observed_bases = try_join_all(used.into_iter().map(async |(name, platforms)| {
        let base = bases::observe(&parts.bases[name], name, config, &platforms).await;
        base.map(|base| (name.clone(), base))
    }));
    let once = super::once_tasks(config);
    let running: OptionFuture<_> = match request.until {
        Until::Deploy => Some(parts.deployer()?.observe(&images, &once)).into(),
        Until::Build | Until::Push => None.into(),
    };
    let running = async { running.await.transpose() };
    let source = async { Ok(source::source(&config.root).await) };
    let (source, observed_bases, running) = try_join!(source, observed_bases, running)?;

    let mut repositories = BTreeMap::new();
    if request.until != Until::Build {
        let registry = parts.registry()?;
        for name in &images {
            repositories.insert(name.clone(), registry.repository(name)?);
        }
        lets_us_in(parts, registry, &repositories).await?;
    }
    let mut seen = BTreeMap::new();
    for (image, repository) in &repositories {
        if let Some(other) = seen.insert(repository, image) {
            return Err(Error::config(format!("images {other} and {image} would both go to {repository}"))
                .help("put {image} into [registry] repository: \"HOST/NAME-{image}\""));
        }
    }
    let planned_deploy = match (&parts.deployer, &running) {
        (Some(deployer), Some(running)) => Some(planned_deploy(deployer.as_ref(), running, &once)),
        _ => None,
    };
    let mut logins = Logins::new();
    let mut planned_bases = BTreeMap::new();
    let mut ready = BTreeMap::new();
    for (name, base) in observed_bases {
        if let Some((host, login)) = base.login {
            logins.insert(host, login);
        }
        planned_bases.insert(name.clone(), base.planned);
        ready.extend(base.ready.into_iter().map(|(platform, base)| ((name.clone(), platform), base)));
    }
    let secrets = parts.secrets.clone();
    let versions = secrets.version_texts();
    let repositories =
        repositories.into_iter().map(|(image, repository)| (image, repository.to_string())).collect();
    let observed =
        Observed { source, secrets: versions, bases: planned_bases, repositories, running: planned_deploy };
    Ok((observed, Seen { secrets, bases: ready, logins, running, platform }))
}

/// The deployment in the words of a plan.
pub fn planned_deploy(deployer: &dyn Deployer, running: &Running, once: &[OnceConfig]) -> PlannedDeploy {
    let services = running.services.iter().map(|service| PlannedService {
        target: service.target.clone(),
        running: service.description.clone(),
    });
    PlannedDeploy {
        target: deployer.describe(),
        running: running.description.clone(),
        services: services.collect(),
        once: plan::once_words(once),
    }
}

/// What runs on the daemon is built for it.
///
/// # Errors
/// An image for other platforms only.
fn runs_here(config: &Config, images: &[String], daemon: &str) -> Result<()> {
    if !super::is_on_daemon(config) {
        return Ok(());
    }
    for name in images {
        let platforms = plan::platforms(&config.images[name], Some(daemon));
        if !platforms.iter().any(|platform| layout::fits(daemon, platform)) {
            return Err(Error::config(format!(
                "image {name:?} is built for {}, and the daemon that is to run it is {daemon}",
                platforms.join(", ")
            ))
            .help(format!(
                "add {daemon:?} to platforms in [images.{name}], or only push it: imgforge push"
            )));
        }
    }
    Ok(())
}

/// Whether the registry answers and lets us in, which is cheaper to learn now than after a build.
///
/// # Errors
/// It does not.
async fn lets_us_in(
    parts: &Parts,
    registry: &dyn Registry,
    repositories: &BTreeMap<String, Repository>,
) -> Result<()> {
    // A blob that nobody has: the answer is one small request away.
    let nobodys = Digest::of(b"imgforge preflight");
    try_join_all(repositories.iter().map(async |(image, repository)| {
        let asked = registry.has_blob(repository, &nobodys).await;
        asked.map_err(|error| error.context(format!("{image} could not be pushed to {repository}")))?;
        refuse_exposed(parts, registry, image, repository).await
    }))
    .await
    .map(drop)
}

/// Secrets go into no repository that anyone can read.
///
/// # Errors
/// Anyone can; the registry's own.
pub async fn refuse_exposed(
    parts: &Parts,
    registry: &dyn Registry,
    image: &str,
    repository: &Repository,
) -> Result<()> {
    if parts.config.images[image].bake.is_empty() {
        return Ok(());
    }
    match registry.exposed(repository).await? {
        None => Ok(()),
        Some(why) => Err(Error::refused(format!("{image} was not pushed: {why}"))
            .help("make the repository private in the registry's settings, then run the same command again")),
    }
}

/// The files that imgforge.toml names are there.
fn check_files(parts: &Parts, images: &[String]) -> Result<()> {
    for name in images {
        let image = &parts.config.images[name];
        if let Some(dockerfile) = &image.dockerfile
            && !parts.config.path(dockerfile.get_ref()).is_file()
        {
            return Err(Error::config(format!(
                "image {name:?} is built from {}, which is not there",
                dockerfile.get_ref().display()
            ))
            .help("paths in imgforge.toml start at its own folder"));
        }
        let requirements = image.python.as_ref().and_then(|python| python.get_ref().requirements.as_ref());
        if let Some(requirements) = requirements
            && !parts.config.path(requirements.get_ref()).is_file()
        {
            return Err(Error::config(format!(
                "image {name:?} gets the packages of {}, which is not there",
                requirements.get_ref().display()
            ))
            .help("paths in imgforge.toml start at its own folder"));
        }
        if !parts.config.path(&image.context).is_dir() {
            return Err(Error::config(format!(
                "image {name:?} has the build context {}, which is no folder",
                image.context.display()
            )));
        }
    }
    Ok(())
}
