//! Bases: looked at before the plan, made ready after it.

use std::path::PathBuf;
use std::sync::Arc;

use crate::base::{Base, debian, layout};
use crate::config::{Config, Debian};
use crate::engine::Login;
use crate::error::{Error, Result};
use crate::image::reference::Reference;
use crate::plan::PlannedBase;
use crate::progress::Reporter;
use crate::registry::Registry;

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
    pub ready: ReadyBase,
    pub login: Option<(String, Login)>,
}

/// Where Debian bases are kept.
pub(super) fn cache(config: &Config) -> PathBuf {
    config.work_dir().join("bases")
}

/// Looks at one base for `platform`: pins a registry reference to its digest, reads a layout, looks for a made one.
pub(super) async fn observe(
    source: &BaseSource,
    name: &str,
    config: &Config,
    platform: &str,
) -> Result<ObservedBase> {
    match source {
        BaseSource::Registry { reference, registry } => {
            let repository = &reference.repository;
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
            Ok(ObservedBase { planned, ready: ReadyBase::Ready(Base::Registry(pinned)), login })
        }
        BaseSource::Layout(path) => {
            let image = layout::read(&config.path(path), platform)
                .await
                .map_err(|error| error.context(format!("base {name:?} cannot be read")))?;
            let planned = PlannedBase { source: format!("layout {}", path.display()), ready: true };
            let base = Base::Local { name: name.to_owned(), image: Box::new(image) };
            Ok(ObservedBase { planned, ready: ReadyBase::Ready(base), login: None })
        }
        BaseSource::Debian(packages) => {
            let key = debian::key(packages, platform)?;
            let cached = debian::cached(&cache(config), &key, platform).await;
            let mut words = format!("debian {}", packages.suite);
            if !packages.packages.is_empty() {
                words = format!("{words} with {}", packages.packages.join(" "));
            }
            let planned = PlannedBase { source: words, ready: cached.is_some() };
            let ready = match cached {
                Some(image) => {
                    ReadyBase::Ready(Base::Local { name: name.to_owned(), image: Box::new(image) })
                }
                None => {
                    debian::check().await?;
                    ReadyBase::Make { packages: packages.clone(), platform: platform.to_owned() }
                }
            };
            Ok(ObservedBase { planned, ready, login: None })
        }
    }
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
