//! The pipeline, top to bottom as the drawing: observe → plan → bases → build → deliver → bake → push → deploy.
//!
//! Invariants: nothing is changed before the plan exists; the service is switched last, by digest; a failure at any step
//! leaves what runs as it was, and the [`Journal`] says what was done.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use futures_util::future::try_join_all;

use crate::config::{Config, OnceConfig, Target};
use crate::deploy::{Deployer, Release, ReleasedImage, Running};
use crate::engine::cache::LayerCache;
use crate::engine::{Built, Engine};
use crate::error::{Error, Kind, Result};
use crate::image::reference::{Reference, Repository, Tag, Version};
use crate::image::{Image, seam};
use crate::layer::bake::{BakedFile, Folders, SecretLayer, bake, folders_above};
use crate::plan::{Plan, Request, Until};
use crate::progress::{Reporter, Stage};
use crate::registry::kept::Kept;
use crate::registry::read::Reader;
use crate::registry::{Registry, read};
use crate::secret::{self, Secret, SecretSet, SecretStore, pinned};

pub mod bases;
pub mod journal;
pub mod lock;
pub mod observe;
mod push;
pub mod recipe;
pub mod source;
pub mod summary;

use journal::Journal;
use push::{PushedImage, push_all};
use summary::Summary;

/// What a pipeline works with: the configuration and one backend of each kind (`backends` makes them).
pub struct Parts {
    /// imgforge.toml for one environment.
    pub config: Config,
    /// The secret files that this run needs, pinned. Empty when it needs none.
    pub secrets: SecretSet,
    /// Where they are from; none when the run needs none.
    pub store: Option<Arc<dyn SecretStore>>,
    /// Where bases come from, by name.
    pub bases: BTreeMap<String, bases::BaseSource>,
    /// What builds.
    pub engine: Arc<dyn Engine>,
    /// Where images go; none when the run ends before that.
    pub registry: Option<Arc<dyn Registry>>,
    /// Where they run; none when the run ends before that, or the configuration has no `[deploy]`.
    pub deployer: Option<Arc<dyn Deployer>>,
    /// The values of `[build.secrets]`, by id.
    pub build_secrets: BTreeMap<String, Secret>,
}

impl Parts {
    /// The registry.
    ///
    /// # Errors
    /// The run was not to go that far.
    pub fn registry(&self) -> Result<&dyn Registry> {
        self.registry.as_deref().ok_or_else(|| Error::failed("this run is connected to no registry"))
    }

    /// The deployer.
    ///
    /// # Errors
    /// The configuration has none.
    pub fn deployer(&self) -> Result<&dyn Deployer> {
        self.deployer.as_deref().ok_or_else(crate::plan::no_deploy)
    }
}

/// Does what `plan` says with what was `seen` when it was made, all under one `lock`.
///
/// # Errors
/// Those of the stages. `journal` then says what was done.
pub async fn apply(
    _lock: &lock::Lock,
    parts: &Parts,
    plan: &Plan,
    seen: observe::Seen,
    progress: &Reporter,
    journal: &Journal,
) -> Result<Summary> {
    let mut stages = Stages::new(progress, journal);

    // Before anything is put there: afterwards the newest is what counts.
    tidy(&parts.config).await;
    let recipes = stages.run(Stage::Bases, recipe::recipes(parts, plan, &seen, progress)).await?;
    let built = stages.run(Stage::Build, build(parts, &recipes, &seen, progress, journal)).await?;
    if plan.until == Until::Build {
        return Ok(Summary::built(plan, &built, stages.times));
    }
    let images = stages.run(Stage::Push, deliver(parts, built, &seen.platform, progress)).await?;
    let baked = stages.run(Stage::Bake, bake_all(parts, images, &seen.secrets)).await?;
    let pushed = stages.run(Stage::Push, push_all(parts, plan, baked, progress, journal)).await?;
    let mut summary = Summary::pushed(plan, &pushed);
    if let (Until::Deploy, Some(running)) = (plan.until, &seen.running) {
        let release =
            stages.run(Stage::Deploy, release(parts, plan, pushed, &seen.platform, progress)).await?;
        let once = once_tasks(&parts.config);
        let deployed = deploy(parts, &release, running, &once, progress, journal);
        summary.deployed = Some(stages.run(Stage::Deploy, deployed).await?);
    }
    summary.times = stages.times;
    Ok(summary)
}

/// The layer cache.
pub fn cache(config: &Config) -> LayerCache {
    LayerCache::new(config.work_dir().join("layers")).compressing(config.build.compression)
}

/// Reads from a registry what is not kept in the layer cache; a layout on disk is here already.
pub fn reader<'r>(parts: &Parts, registry: &'r dyn Registry) -> Reader<'r> {
    match registry.is_remote() {
        true => Reader::keeping(registry, Kept::new(cache(&parts.config))),
        false => Reader::new(registry),
    }
}

/// Keeps the layer cache within its bound.
async fn tidy(config: &Config) {
    let (cache, limit) = (cache(config), config.build.cache_size.0);
    // Work on files, which blocks; what cannot be removed is no reason to stop.
    let _ = tokio::task::spawn_blocking(move || cache.prune(limit)).await;
}

/// Runs one stage after the other, tells of it, and keeps how long each took.
pub struct Stages<'a> {
    progress: &'a Reporter,
    journal: &'a Journal,
    /// Milliseconds of each stage so far.
    pub times: Vec<(Stage, u64)>,
}

impl<'a> Stages<'a> {
    /// None yet.
    pub fn new(progress: &'a Reporter, journal: &'a Journal) -> Self {
        Stages { progress, journal, times: Vec::new() }
    }

    /// Runs a stage.
    ///
    /// # Errors
    /// Those of `work`.
    pub async fn run<T>(&mut self, stage: Stage, work: impl Future<Output = Result<T>>) -> Result<T> {
        self.progress.stage_started(stage);
        self.journal.enter(stage);
        let start = Instant::now();
        let result = work.await?;
        let millis = start.elapsed().as_millis() as u64;
        match self.times.iter_mut().find(|(timed, _)| *timed == stage) {
            Some((_, total)) => *total += millis,
            None => self.times.push((stage, millis)),
        }
        tracing::trace!(?stage, millis, "stage ended");
        self.progress.stage_finished(stage, millis);
        Ok(result)
    }
}

/// All images at once: what they share, the daemon builds once. Those of one image for several platforms one after the other:
/// the first makes what is the same for all.
async fn build(
    parts: &Parts,
    recipes: &[crate::engine::Recipe],
    seen: &observe::Seen,
    progress: &Reporter,
    journal: &Journal,
) -> Result<Vec<Built>> {
    let images = recipes.chunk_by(|one, next| one.image == next.image).map(async |platforms| {
        let mut built = Vec::new();
        for recipe in platforms {
            built.push(parts.engine.build(recipe, &seen.logins, progress).await?);
        }
        journal.did(format!("built {}", platforms[0].image));
        Ok::<_, Error>(built)
    });
    Ok(try_join_all(images).await?.concat())
}

/// An image without secrets as a value, on its way to the registry.
struct Delivered {
    built: Built,
    repository: Repository,
    image: Image,
}

/// Makes each built image a value: in the registry where the engine can send it there by itself, in files otherwise.
async fn deliver(
    parts: &Parts,
    built: Vec<Built>,
    platform: &str,
    progress: &Reporter,
) -> Result<Vec<Delivered>> {
    try_join_all(built.into_iter().map(async |built| {
        let registry = parts.registry()?;
        let repository = registry.repository(&built.image)?;
        registry.prepare(&repository).await?;
        let image = if registry.is_remote() && parts.engine.can_push_to(&built, &repository.host) {
            send_by_engine(parts, &built, &repository, platform, progress).await?
        } else {
            parts.engine.export(&built, progress).await?
        };
        Ok(Delivered { built, repository, image })
    }))
    .await
}

/// The engine sends the image under a tag that its id gives, and the value is read back: the image without secrets is what
/// was built, and a second release finds it there.
async fn send_by_engine(
    parts: &Parts,
    built: &Built,
    repository: &Repository,
    platform: &str,
    progress: &Reporter,
) -> Result<Image> {
    let tag: Tag = format!("build-{}", built.id.short()).parse()?;
    let version = Version::Tag(tag.clone());
    let registry = parts.registry()?;
    if let Some(image) = read::read(registry, repository, &version, platform).await?
        && image.config_descriptor().digest == built.id
    {
        progress.task(&built.image, "send without secrets").reused(format!("{tag} is there"));
        return Ok(image);
    }
    let login = registry.login(repository).await?;
    parts.engine.push(built, repository, &tag, login.as_ref(), progress).await?;
    let image = read::read(registry, repository, &version, platform).await?.ok_or_else(|| {
        Error::failed(format!("{repository}:{tag} is not there although the engine sent it"))
    })?;
    // The tag could have been moved by someone else in between; the id cannot.
    if image.config_descriptor().digest != built.id {
        return Err(Error::failed(format!(
            "{repository}:{tag} holds another image than the one that was built"
        ))
        .help("something else pushes to this tag; run the same command again"));
    }
    Ok(image)
}

/// Puts the secret layer on each image that lists secrets.
async fn bake_all(parts: &Parts, images: Vec<Delivered>, secrets: &SecretSet) -> Result<Vec<Delivered>> {
    let bakes = |image: &Delivered| !parts.config.images[&image.built.image].bake.is_empty();
    if let Some(store) = &parts.store
        && images.iter().any(bakes)
    {
        pinned::keep_salt(store.as_ref(), &secrets.salt).await?;
    }
    try_join_all(images.into_iter().map(async |delivered| {
        let image = bake_one(parts, &delivered, secrets).await?;
        Ok(Delivered { image, ..delivered })
    }))
    .await
}

async fn bake_one(parts: &Parts, delivered: &Delivered, secrets: &SecretSet) -> Result<Image> {
    let (config, name) = (&parts.config, delivered.built.image.as_str());
    let baked = &config.images[name].bake;
    if baked.is_empty() {
        return Ok(delivered.image.clone());
    }
    let above = folders_above(baked.iter().map(|baked| baked.path.get_ref().as_str()));
    let folders = parts.engine.folders(&delivered.built, &above).await?;
    let (layer, versions) =
        (secret_layer(config, name, secrets, &folders)?, baked_versions(config, name, secrets));
    seam::append(&delivered.image, layer, &versions, &folders)
        .map_err(|error| error.context(format!("cannot bake secrets into {name}")))
}

/// The secret layer of an image whose `folders` are those above the secret files.
///
/// # Errors
/// A path that tar cannot hold; a run that has no salt.
pub fn secret_layer(
    config: &Config,
    name: &str,
    secrets: &SecretSet,
    folders: &Folders,
) -> Result<SecretLayer> {
    let files = config.images[name].bake.iter().map(|baked| BakedFile {
        path: baked.path.get_ref().clone(),
        owner: baked.owner,
        mode: baked.mode,
        value: secrets.files[baked.secret.get_ref()].value.clone(),
    });
    let salt = secrets.salt.value().ok_or_else(|| Error::failed("this run has no salt to bake with"))?;
    bake(&files.collect::<Vec<_>>(), folders, salt)
        .map_err(|error| error.context(format!("cannot bake the secrets of {name}")))
}

/// The versions of the secret files that an image holds.
pub fn baked_versions(config: &Config, name: &str, secrets: &SecretSet) -> BTreeMap<String, secret::Version> {
    let baked = config.images[name].bake.iter().map(|baked| baked.secret.get_ref());
    baked.map(|secret| (secret.clone(), secrets.files[secret].version.clone())).collect()
}

/// What is deployed: every image by digest. For compose the daemon gets the secret layers straight from here, so that
/// nothing has to be pulled back.
async fn release(
    parts: &Parts,
    plan: &Plan,
    pushed: Vec<PushedImage>,
    platform: &str,
    progress: &Reporter,
) -> Result<Release> {
    let on_daemon = is_on_daemon(&parts.config);
    let images = try_join_all(pushed.into_iter().map(async |pushed| {
        let PushedImage { name, reference, .. } = &pushed;
        let here = pushed.here(platform)?;
        let local = match on_daemon {
            true => Some(parts.engine.load(&here.image, Some(&here.built), progress).await?),
            false => None,
        };
        let image = Some(here.image.clone());
        Ok::<_, Error>((name.clone(), ReleasedImage { reference: reference.clone(), local, image }))
    }))
    .await?;
    Ok(Release { id: plan.release.clone(), images: images.into_iter().collect() })
}

/// Whether what is deployed runs on the daemon itself.
pub fn is_on_daemon(config: &Config) -> bool {
    config.deploy.as_ref().is_some_and(|deploy| *deploy.target.get_ref() == Target::Compose)
}

/// Finds the images of a release that is in the registry already, so that it can be deployed without a build. What is
/// `running` is not taken instead: it may be of another commit.
///
/// # Errors
/// An image is not there.
pub async fn find(
    parts: &Parts,
    plan: &Plan,
    chosen: &BTreeMap<String, Reference>,
    running: Option<&Running>,
) -> Result<Release> {
    let registry = parts.registry()?;
    let images = try_join_all(plan.images.iter().map(async |planned| {
        let name = &planned.image;
        let (repository, digest) = match chosen.get(name) {
            Some(reference) => {
                let digest = registry.head(&reference.repository, &reference.version()).await?;
                let digest = digest.ok_or_else(|| {
                    Error::refused(format!("there is no image {reference}"))
                        .help("name one that is there, as `imgforge push` or `imgforge rotate` printed it")
                })?;
                (reference.repository.clone(), digest)
            }
            None => {
                let by_digest = by_digest(name, running);
                let tag = plan.tag().ok_or_else(|| {
                    Error::refused("the sources are in no commit, so there is no tag to find their images by")
                        .help(format!("release them, or name the image: {by_digest}"))
                })?;
                let repository = registry.repository(name)?;
                let digest = registry.head(&repository, &Version::Tag(tag.parse()?)).await?;
                let digest = digest.ok_or_else(|| {
                    Error::refused(format!(
                        "there is no image {repository}:{tag}, which is this commit with these secrets"
                    ))
                    .help(format!("push it first with `imgforge push`, or name another: {by_digest}"))
                })?;
                (repository, digest)
            }
        };
        let reference = Reference { repository, tag: None, digest: Some(digest) };
        Ok::<_, Error>((name.clone(), ReleasedImage { reference, local: None, image: None }))
    }))
    .await?;
    Ok(Release { id: plan.release.clone(), images: images.into_iter().collect() })
}

/// How an image is named by digest, for help: as it runs, where that is known.
fn by_digest(name: &str, running: Option<&Running>) -> String {
    match running.and_then(|running| running.images.get(name)).filter(|runs| runs.digest.is_some()) {
        Some(runs) => format!("--image {name}={runs} (that one runs)"),
        None => format!("--image {name}=REPOSITORY@sha256:…"),
    }
}

/// Gives the daemon the images of a found release that it cannot pull: a layout on disk is nothing to pull from.
///
/// # Errors
/// The daemon's.
pub async fn fetch(parts: &Parts, mut release: Release, progress: &Reporter) -> Result<Release> {
    let registry = parts.registry()?;
    if registry.is_remote() || !is_on_daemon(&parts.config) {
        return Ok(release);
    }
    let platform = parts.engine.check().await?.platform;
    for image in release.images.values_mut() {
        let (repository, version) = (&image.reference.repository, image.reference.version());
        let value = read::read(registry, repository, &version, &platform).await?;
        let value =
            value.ok_or_else(|| Error::failed(format!("{} is not there any more", image.reference)))?;
        image.local = Some(parts.engine.load(&value, None, progress).await?);
    }
    Ok(release)
}

/// The once-tasks of a configuration.
pub fn once_tasks(config: &Config) -> Vec<OnceConfig> {
    config.deploy.iter().flat_map(|deploy| deploy.once.clone()).collect()
}

/// Once-tasks, switch, verify. Until the switch nothing that runs is touched.
///
/// # Errors
/// A once-task's failure stops before the switch; a failing switch goes back to what ran before.
pub async fn deploy(
    parts: &Parts,
    release: &Release,
    running: &Running,
    once: &[OnceConfig],
    progress: &Reporter,
    journal: &Journal,
) -> Result<crate::deploy::Deployed> {
    let deployer = parts.deployer()?;
    let prepared = deployer.prepare(release, running, progress).await?;
    if !prepared.unchanged {
        for task in once {
            journal.once_task(&task.name);
            let exit = deployer.run_once(&prepared, task, progress).await;
            // Of a task that could not be followed to its end nobody knows.
            if exit.as_ref().map_or_else(|error| error.kind() != Kind::TimedOut, |_| true) {
                journal.once_task_ended();
            }
            let failed = match exit {
                Ok(exit) if exit.code == 0 => {
                    journal.did(format!("ran {}", task.name));
                    continue;
                }
                Ok(exit) => Error::failed(format!("once-task {} ended with code {}", task.name, exit.code)),
                Err(error) => error.context(format!("once-task {} failed", task.name)),
            };
            // A task whose end is unknown may still need the revision that it runs with.
            if !matches!(failed.kind(), Kind::TimedOut | Kind::Locked)
                && let Err(error) = deployer.discard(&prepared).await
            {
                progress.warning(format!("{} stays: {error}", prepared.description));
            }
            if failed.help_text().is_some() {
                return Err(failed);
            }
            return Err(failed.help(format!(
                "the service was not switched; mend it and run the same command again, or try it alone: \
                 imgforge run {} -- {}",
                task.container,
                task.command.join(" ")
            )));
        }
    }
    if !prepared.unchanged {
        journal.switching();
    }
    let deployed = deployer.apply(&prepared, running, progress).await.inspect_err(|error| {
        if error.kind() == Kind::RolledBack {
            journal.switched_back();
        }
    })?;
    journal.did(format!("deployed {}", deployed.description));
    Ok(deployed)
}

/// Looks, and makes the plan of `request`.
///
/// # Errors
/// What was asked for cannot be done. Whatever failed, nothing was changed: it is [`Kind::Refused`].
pub async fn plan(parts: &Parts, request: &Request) -> Result<(Plan, observe::Seen)> {
    let (observed, seen) = observe::observe(parts, request).await.map_err(Error::before_any_change)?;
    Ok((Plan::new(&parts.config, request, observed)?, seen))
}
