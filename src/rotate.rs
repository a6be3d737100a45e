//! Rotates secrets: in images that are in a registry the secret layer is replaced. Nothing is built, no layer is pulled.
//!
//! look → plan → send → deploy. One image takes seven small requests, five of them one after another: manifest, config,
//! the layer's upload (two) beside the config's (two), manifest. What this machine has pushed, rotated or read by digest before
//! is not read again (`registry/kept.rs`): five, three of them one after another. Beside the uploads two more ask of which release
//! an image is that is named by digest.
//!
//! Invariants: nothing is changed before the plan exists, and the plan names the new digests already: they follow from what
//! was read. The code did not change, so that no once-task runs. What was rotated is a release of its commit with the new
//! secrets: its images get that tag, those that stay what they are, too (`rotate/tags.rs`).

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::join_all;
use futures_util::{StreamExt, TryStreamExt, join, stream};

use crate::config::{Config, EngineName, ImageConfig};
use crate::deploy::{Deployed, Release, ReleasedImage, Running};
use crate::digest::Digest;
use crate::engine::Built;
use crate::error::{Error, Result};
use crate::image::reference::Reference;
use crate::layer::bake::Folders;
use crate::plan::{self, Source, Until};
use crate::progress::{Reporter, Stage};
use crate::release::journal::Journal;
use crate::release::lock::Lock;
use crate::release::{self, Parts};
use crate::secret::pinned;

mod found;
pub mod planned;
mod rotation;
mod send;
mod tags;

use planned::{PlannedRotation, RotatePlan};
use rotation::Rotation;
pub use send::Rotated;
use tags::Tags;

/// How many images are looked at or sent at once.
const AT_ONCE: usize = 16;

/// What was asked for.
#[derive(Debug, Clone)]
pub struct Request {
    /// These images of imgforge.toml, as they run now; all that hold secrets when none is named, here or in `chosen`.
    pub images: Vec<String>,
    /// Images by reference, each with the name whose secrets it gets. One name may be there many times.
    pub chosen: Vec<(String, Reference)>,
    /// Whether the service gets them.
    pub until: Until,
}

/// What was seen, for what comes after the plan.
pub struct Seen {
    source: Source,
    running: Option<Running>,
    rotations: Vec<Rotation>,
}

/// What a rotation came to.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Summary {
    /// The project.
    pub project: String,
    /// The environment.
    pub environment: String,
    /// The images.
    pub images: Vec<Rotated>,
    /// What runs now, when it was switched.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deployed: Option<Deployed>,
    /// Milliseconds of each stage.
    pub times: Vec<(Stage, u64)>,
}

/// Looks, and makes the plan of `request`. Changes nothing.
///
/// # Errors
/// What was asked for cannot be done: [`crate::error::Kind::Refused`] or [`crate::error::Kind::Config`].
pub async fn plan(parts: &Parts, request: &Request) -> Result<(RotatePlan, Seen)> {
    look(parts, request).await.map_err(Error::before_any_change)
}

async fn look(parts: &Parts, request: &Request) -> Result<(RotatePlan, Seen)> {
    let config = &parts.config;
    let names = names(config, request)?;
    // What runs says which images there are to rotate, unless all of them were named.
    let running = match request.until {
        Until::Deploy => Some(parts.deployer()?.observe(&names, &[]).await?),
        Until::Build | Until::Push => None,
    };
    let wanted = wanted(request, &names, running.as_ref())?;
    if request.until == Until::Deploy {
        once_each(&wanted)?;
    }
    let registry = parts.registry()?;
    let reader = release::reader(parts, registry);
    let rotations = wanted.iter().map(async |(name, reference)| {
        release::observe::refuse_exposed(parts, registry, name, &reference.repository).await?;
        registry.will_write(&reference.repository);
        let found = found::read(&reader, reference).await?;
        let versions = release::baked_versions(config, name, &parts.secrets);
        let bake = |folders: &Folders| release::secret_layer(config, name, &parts.secrets, folders);
        Rotation::new(name, reference, found, &bake, &versions)
            .map_err(|error| error.context(format!("{name} cannot be rotated: {reference}")))
    });
    let rotations = stream::iter(rotations.collect::<Vec<_>>()).buffered(AT_ONCE).try_collect();
    let (source, rotations) = join!(release::source::source(&config.root), rotations);
    let rotations: Vec<Rotation> = rotations?;
    let plan = RotatePlan {
        project: config.project.get_ref().clone(),
        environment: config.environment.clone(),
        secrets: parts.secrets.version_texts(),
        images: rotations.iter().map(PlannedRotation::of).collect(),
        deploy: (running.as_ref().zip(parts.deployer.as_deref()))
            .map(|(running, deployer)| release::observe::planned_deploy(deployer, running, &[])),
    };
    Ok((plan, Seen { source, running, rotations }))
}

/// The names whose secrets are needed.
fn names(config: &Config, request: &Request) -> Result<Vec<String>> {
    let asked = request.images.iter().chain(request.chosen.iter().map(|(name, _)| name)).cloned();
    let asked = plan::Request { start: plan::Start::Registry, until: Until::Push, images: asked.collect() };
    let bakes = |name: &str| !config.images[name].bake.is_empty();
    let names: Vec<String> = plan::select(config, &asked)?.cloned().collect();
    if asked.images.is_empty() {
        let names: Vec<String> = names.into_iter().filter(|name| bakes(name)).collect();
        return match names.is_empty() {
            true => Err(Error::config("no image of imgforge.toml holds a secret file")
                .help("say in [images.NAME] which one: bake = [{ secret = \"…\", path = \"…\" }]")),
            false => Ok(names),
        };
    }
    match names.iter().find(|name| !bakes(name)) {
        None => Ok(names),
        Some(name) => Err(Error::config(format!("image {name:?} holds no secret files"))
            .help(format!("add `bake` to [images.{name}], or leave it out"))),
    }
}

/// Each image with where it is.
fn wanted(
    request: &Request,
    names: &[String],
    running: Option<&Running>,
) -> Result<Vec<(String, Reference)>> {
    let mut wanted = request.chosen.clone();
    let by_name: Vec<&String> = match (request.images.is_empty(), request.chosen.is_empty()) {
        (true, true) => names.iter().collect(),
        _ => request.images.iter().collect(),
    };
    for name in by_name {
        let reference = running.and_then(|running| running.images.get(name)).ok_or_else(|| {
            let what = match running {
                Some(running) => {
                    format!("it is not known which image {name:?} of {} is", running.description)
                }
                None => format!("which image {name:?} is to be rotated?"),
            };
            Error::refused(what).help(format!("name it: --image {name}=REPOSITORY:TAG (or @sha256:…)"))
        })?;
        wanted.push((name.clone(), reference.clone()));
    }
    Ok(wanted)
}

/// A service runs one image of a name.
fn once_each(wanted: &[(String, Reference)]) -> Result<()> {
    let mut seen = BTreeMap::new();
    for (name, reference) in wanted {
        if let Some(other) = seen.insert(name, reference) {
            return Err(Error::config(format!("{other} and {reference} cannot both be deployed as {name}"))
                .help("add --until push to rotate them in the registry alone"));
        }
    }
    Ok(())
}

/// Does what the plan says with what was seen when it was made, all under one lock.
///
/// # Errors
/// Those of the stages. `journal` then says what was done.
pub async fn apply(
    _lock: &Lock,
    parts: &Parts,
    seen: Seen,
    progress: &Reporter,
    journal: &Journal,
) -> Result<Summary> {
    let Seen { source, running, rotations } = seen;
    let changed = rotations.iter().any(Rotation::is_changed);
    let mut stages = release::Stages::new(progress, journal);
    let images = stages.run(Stage::Push, send_all(parts, &source, &rotations, progress, journal)).await?;
    let mut deployed = None;
    if let Some(running) = running.filter(|_| changed) {
        let deploy = async {
            let release = loaded(parts, &rotations, progress).await?;
            release::deploy(parts, &release, &running, &[], progress, journal).await
        };
        deployed = Some(stages.run(Stage::Deploy, deploy).await?);
    }
    Ok(Summary {
        project: parts.config.project.get_ref().clone(),
        environment: parts.config.environment.clone(),
        images,
        deployed,
        times: stages.times,
    })
}

async fn send_all(
    parts: &Parts,
    source: &Source,
    rotations: &[Rotation],
    progress: &Reporter,
    journal: &Journal,
) -> Result<Vec<Rotated>> {
    let registry = parts.registry()?;
    if let Some(store) = parts.store.as_ref().filter(|_| rotations.iter().any(Rotation::is_changed)) {
        pinned::keep_salt(store.as_ref(), &parts.secrets.salt).await?;
    }
    let tags = Tags::new(source, rotations, parts.secrets.version_texts());
    let sender = send::Sender::new(registry, tags, progress);
    let reader = release::reader(parts, registry);
    let sent = rotations.iter().map(async |rotation| {
        let sent = sender.send(rotation).await?;
        rotation.keep(&reader)?;
        if rotation.is_changed() {
            journal.did(format!("rotated {}", rotation.image));
        }
        Ok::<_, Error>(sent)
    });
    let sent = stream::iter(sent.collect::<Vec<_>>()).buffered(AT_ONCE);
    let sent: Vec<(Rotated, Option<tags::Release>)> = sent.try_collect().await?;
    let (rotated, releases): (Vec<_>, Vec<_>) = sent.into_iter().unzip();
    let followers = followers(&parts.config, rotations);
    complete(parts, &sender, &followers, releases.into_iter().flatten().collect(), progress).await;
    Ok(rotated)
}

/// The images that stay what they are: none of the secret files that were rotated is in them.
fn followers<'c>(config: &'c Config, rotations: &[Rotation]) -> Vec<&'c String> {
    let rotated: BTreeSet<&str> = rotations.iter().map(|rotation| rotation.image.as_str()).collect();
    let versions = rotations.iter().flat_map(Rotation::versions);
    let new: BTreeSet<String> = versions
        .filter(|(_, (before, after))| before.as_ref() != Some(after))
        .map(|(name, _)| name)
        .collect();
    let stays = |image: &ImageConfig| !image.bake.iter().any(|bake| new.contains(bake.secret.get_ref()));
    let images =
        config.images.iter().filter(|(name, image)| !rotated.contains(name.as_str()) && stays(image));
    images.map(|(name, _)| name).collect()
}

/// Gives the images that stay what they are the new tags of the `releases` that were rotated. A secret that must go does not
/// wait for this: what fails is told.
async fn complete(
    parts: &Parts,
    sender: &send::Sender<'_>,
    images: &[&String],
    releases: BTreeSet<tags::Release>,
    progress: &Reporter,
) {
    let followers = images.iter().flat_map(|name| releases.iter().map(move |release| (name, release)));
    join_all(followers.map(async |(name, release)| {
        let tagged = async { sender.follow(&parts.registry()?.repository(name)?, release).await };
        if let Err(error) = tagged.await {
            let tag = &release.after;
            progress
                .warning(format!("{name} has no tag {tag}, so that `imgforge deploy` misses it: {error}"));
        }
    }))
    .await;
}

/// What is deployed. A daemon that runs an image has all its layers but the new one.
async fn loaded(parts: &Parts, rotations: &[Rotation], progress: &Reporter) -> Result<Release> {
    let registry = parts.registry()?;
    let platform = match release::is_on_daemon(&parts.config) {
        true => Some(parts.engine.check().await?.platform),
        false => None,
    };
    let mut release = BTreeMap::new();
    for rotation in rotations {
        let (mut local, mut image) = (None, None);
        if let Some(platform) = &platform {
            let (old, new) = rotation.for_platform(platform)?;
            image = Some(new.clone());
            let below = Built {
                image: rotation.image.clone(),
                // Whoever built it: the daemon runs it, so it has its layers.
                engine: EngineName::Docker,
                id: old.config_descriptor().digest,
                base: None,
                reused: true,
            };
            local = match parts.engine.load(new, Some(&below), progress).await {
                Ok(id) => Some(id),
                // It does not have them: it pulls the image by itself.
                Err(error) if registry.is_remote() => {
                    tracing::debug!(%error, "the daemon will pull");
                    None
                }
                Err(error) => return Err(error),
            };
        }
        let reference = Reference {
            repository: rotation.reference.repository.clone(),
            tag: None,
            digest: Some(rotation.to.digest()),
        };
        release.insert(rotation.image.clone(), ReleasedImage { reference, local, image });
    }
    Ok(Release { id: format!("rotate-{}", digests(rotations).short()), images: release })
}

/// Stands for all new images together.
fn digests(rotations: &[Rotation]) -> Digest {
    let all: Vec<String> = rotations.iter().map(|rotation| rotation.to.digest().to_string()).collect();
    Digest::of(all.join("\n").as_bytes())
}
