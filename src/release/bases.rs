//! Bases: looked at before the plan, made ready after it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use futures_util::future::try_join_all;
use tokio_util::io::ReaderStream;

use super::Parts;
use crate::base::contents::{BaseFiles, Contents};
use crate::base::{Base, debian, layout};
use crate::config::{Config, Debian};
use crate::engine::{Login, direct, pipe};
use crate::error::{Error, Result};
use crate::image::Image;
use crate::image::reference::Reference;
use crate::plan::PlannedBase;
use crate::progress::Reporter;
use crate::registry::{Registry, read};

/// Where a base of imgforge.toml comes from, with what it takes to get it (`backends` makes these).
pub enum BaseSource {
    /// A registry.
    Registry {
        /// As written.
        reference: Reference,
        /// The registry that it names.
        registry: Arc<dyn Registry>,
    },
    /// A layout on disk.
    Layout(PathBuf),
    /// Debian packages.
    Debian(Debian),
}

/// A base after it was looked at.
pub enum ReadyBase {
    /// Nothing more to do.
    Ready(Base),
    /// Must be made from packages.
    Make {
        /// Which.
        packages: Debian,
        /// `linux/amd64`
        platform: String,
    },
}

/// What looking at a base gave.
pub(super) struct ObservedBase {
    pub planned: PlannedBase,
    /// By platform.
    pub ready: BTreeMap<String, ReadyBase>,
    pub login: Option<(String, Login)>,
}

/// Where Debian bases are kept.
pub(super) fn cache(config: &Config) -> PathBuf {
    config.work_dir().join("bases")
}

/// Looks at one base for `platforms`: pins a registry reference to its digest, reads a layout, looks for a made one.
pub(super) async fn observe(
    source: &BaseSource,
    name: &str,
    config: &Config,
    platforms: &BTreeSet<String>,
) -> Result<ObservedBase> {
    match source {
        BaseSource::Registry { reference, registry } => {
            let repository = &reference.repository;
            // Once for all platforms: a tag could be moved in between.
            let digest = match reference.digest {
                Some(digest) => digest,
                None => registry.head(repository, &reference.version()).await?.ok_or_else(|| {
                    Error::refused(format!("base {name:?}: there is no image {reference}"))
                        .help("check its name and tag, and that your login may read it")
                })?,
            };
            let pinned = Reference { digest: Some(digest), ..reference.clone() };
            let login = registry.login(repository).await?.map(|login| (repository.host.clone(), login));
            let planned = PlannedBase { source: pinned.to_string(), ready: true };
            let ready = async |_: &str| Ok(ReadyBase::Ready(Base::Registry(pinned.clone())));
            Ok(ObservedBase { planned, ready: of_each(platforms, ready).await?, login })
        }
        BaseSource::Layout(path) => {
            let ready = of_each(platforms, async |platform: &str| {
                let image = layout::read(&config.path(path), platform).await;
                let image = image.map_err(|error| error.context(format!("base {name:?} cannot be read")))?;
                Ok(ReadyBase::Ready(Base::Local { name: name.to_owned(), image: Box::new(image) }))
            });
            let planned = PlannedBase { source: format!("layout {}", path.display()), ready: true };
            Ok(ObservedBase { planned, ready: ready.await?, login: None })
        }
        BaseSource::Debian(packages) => {
            let look = async |platform: &str| made(packages, name, config, platform).await;
            let ready = of_each(platforms, look).await?;
            let mut source = format!("debian {}", packages.suite);
            if !packages.packages.is_empty() {
                source = format!("{source} with {}", packages.packages.join(" "));
            }
            let is_made = ready.values().all(|base| matches!(base, ReadyBase::Ready(_)));
            Ok(ObservedBase { planned: PlannedBase { source, ready: is_made }, ready, login: None })
        }
    }
}

/// Looks for the base of each platform.
async fn of_each(
    platforms: &BTreeSet<String>,
    look: impl AsyncFn(&str) -> Result<ReadyBase>,
) -> Result<BTreeMap<String, ReadyBase>> {
    let look = &look;
    let looked =
        platforms.iter().map(async |platform| Ok::<_, Error>((platform.clone(), look(platform).await?)));
    Ok(try_join_all(looked).await?.into_iter().collect())
}

/// Looks for a base of Debian packages that was made before.
async fn made(packages: &Debian, name: &str, config: &Config, platform: &str) -> Result<ReadyBase> {
    let key = debian::key(packages, platform)?;
    if let Some(image) = debian::cached(&cache(config), &key, platform).await {
        return Ok(ReadyBase::Ready(Base::Local { name: name.to_owned(), image: Box::new(image) }));
    }
    let checked = debian::check_platform(platform).await;
    checked.map_err(|error| error.context(format!("base {name:?} cannot be made")))?;
    debian::check().await?;
    Ok(ReadyBase::Make { packages: packages.clone(), platform: platform.to_owned() })
}

/// Makes a base ready.
pub(super) async fn ready(
    base: &ReadyBase,
    name: &str,
    config: &Config,
    progress: &Reporter,
) -> Result<Base> {
    match base {
        ReadyBase::Ready(base) => Ok(base.clone()),
        ReadyBase::Make { packages, platform } => {
            let image = debian::make(&cache(config), packages, platform, name, progress)
                .await
                .map_err(|error| error.context(format!("base {name:?} cannot be made")))?;
            Ok(Base::Local { name: name.to_owned(), image: Box::new(image) })
        }
    }
}

/// Where the layers of a registry's base are to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layers {
    /// Where they are. They are read once, to learn what is in them, and not kept.
    InRegistry,
    /// In files of this machine.
    Here,
}

/// Reads bases that are in registries.
pub(super) struct Reading<'r> {
    pub parts: &'r Parts,
    pub layers: Layers,
    pub progress: &'r Reporter,
}

impl Reading<'_> {
    /// The base for `platform` as a value, when it is one of a registry's; others are values already.
    pub async fn read(&self, name: &str, base: Base, platform: &str) -> Result<Base> {
        let (Base::Registry(reference), BaseSource::Registry { registry, .. }) =
            (&base, &self.parts.bases[name])
        else {
            return Ok(base);
        };
        let in_words = |error: Error| error.context(format!("base {name:?} cannot be read"));
        let (repository, cache) = (&reference.repository, super::cache(&self.parts.config));
        let reader = super::reader(self.parts, registry.as_ref());
        let image = reader.image_for(repository, &reference.version(), platform).await;
        let image = image
            .map_err(in_words)?
            .ok_or_else(|| Error::failed(format!("base {name:?}: {reference} is not there any more")))?;
        // A reference may name the image of another machine by its own digest.
        if !layout::fits(platform, &image.platform()) {
            return Err(Error::config(format!(
                "base {name:?} is for {}, and {} is wanted",
                image.platform(),
                platform
            ))
            .help("take the digest of its index, or build on a machine of the base's platform"));
        }
        if self.layers == Layers::Here {
            let blobs = cache.blobs();
            let image =
                read::pull(name, &image, registry.as_ref(), repository, &blobs, self.progress).await?;
            return Ok(Base::Local { name: name.to_owned(), image: Box::new(image) });
        }
        let contents = match direct::contents(&cache, &image) {
            Some(contents) => contents,
            None => {
                let contents =
                    self.contents(name, reference, registry.as_ref(), &image).await.map_err(in_words)?;
                direct::put_contents(&cache, &image, &contents)?;
                contents
            }
        };
        Ok(Base::Read { reference: reference.clone(), image: Box::new(image), contents: Arc::new(contents) })
    }

    async fn contents(
        &self,
        name: &str,
        reference: &Reference,
        registry: &dyn Registry,
        image: &Image,
    ) -> Result<Contents> {
        let task = self.progress.task(name, "look into");
        let mut files = BaseFiles::default();
        for layer in image.layers() {
            task.detail(format!("layer {}", layer.descriptor.digest.short()));
            let blob = registry.blob(&reference.repository, &layer.descriptor).await?;
            let mut below = files;
            let read = pipe::read(ReaderStream::new(blob), move |blob| {
                below.apply(blob)?;
                Ok::<_, Error>(below)
            });
            files = read.await.expect("reading a layer does not panic")?;
        }
        task.done(format!("{} layers", image.layers().len()));
        Ok(files.into())
    }
}
