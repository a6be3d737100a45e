//! The engine `docker`: a daemon builds, over bollard and its HTTP interface.
//!
//! Invariant (contract 6): a build gets the context, which holds no secret file, and BuildKit's secret mounts, which are
//! served from memory for as long as the build runs.

use std::collections::BTreeSet;

use async_trait::async_trait;
use tokio::sync::{Mutex, OnceCell};

use crate::base::Base;
use crate::config::{Compression, EngineName};
use crate::digest::Digest;
use crate::engine::cache::LayerCache;
use crate::engine::context::BuildContext;
use crate::engine::daemon::{Builder, Daemon, DaemonInfo};
use crate::engine::{Built, Engine, EngineInfo, Login, Logins, Recipe};
use crate::error::{Error, Result};
use crate::image::Image;
use crate::image::reference::{Repository, Tag, Version};
use crate::layer::bake::Folders;
use crate::progress::Reporter;

mod buildkit;
mod classic;
mod export;
mod folders;
mod load;
mod push;
mod request;
mod session;
mod steps;

use self::load::Send;

/// The tag of what was built last; it keeps the image from being pruned, and tells what the next build changed.
const BUILD_TAG: &str = "build";

/// The cache's folder for the ids of images that were loaded last.
const LOADED: &str = "loaded";

/// The cache's folder for what the folders of images are like.
const FOLDERS: &str = "folders";

/// Builds on a Docker daemon.
pub struct DockerEngine {
    daemon: Daemon,
    cache: LayerCache,
    info: OnceCell<DaemonInfo>,
    /// Held while a base is loaded, so that two images on one base load it once.
    bases: Mutex<()>,
}

impl DockerEngine {
    /// Builds on `daemon`; what is taken out of it is kept in `cache`.
    pub fn new(daemon: Daemon, cache: LayerCache) -> Self {
        DockerEngine { daemon, cache, info: OnceCell::new(), bases: Mutex::new(()) }
    }

    /// The daemon.
    pub fn daemon(&self) -> &Daemon {
        &self.daemon
    }

    async fn info(&self) -> Result<&DaemonInfo> {
        self.info.get_or_try_init(|| self.daemon.info()).await
    }

    /// What the Dockerfile's `FROM $BASE` is to be; a local base is loaded for it.
    async fn base(&self, base: &Base, progress: &Reporter) -> Result<String> {
        match base {
            Base::Registry(reference) | Base::Read { reference, .. } => Ok(match reference.version() {
                Version::Digest(digest) => format!("{}@{digest}", reference.repository),
                Version::Tag(tag) => format!("{}:{tag}", reference.repository),
            }),
            Base::Local { name, image } => {
                let _one_at_a_time = self.bases.lock().await;
                let id = image.config_descriptor().digest;
                let (repository, tag) = (format!("imgforge-base/{}", component(name)), id.short());
                let full = format!("{repository}:{tag}");
                if self.daemon.image_id(&full).await? != Some(id) {
                    load::load(&self.daemon, image, &format!("base {name}"), Send::Whole, progress).await?;
                    self.daemon.tag(&id.to_string(), &repository, &tag).await?;
                }
                Ok(full)
            }
        }
    }
}

impl DockerEngine {
    /// Loads an image that another engine built. Of the one that was loaded before it, it has most layers.
    async fn load_above(&self, image: &Image, name: &str, progress: &Reporter) -> Result<Digest> {
        let before: Option<Digest> = self.cache.document(LOADED, &component(name));
        let there = match before {
            Some(id) => self.daemon.layers(&id.to_string()).await?,
            None => Vec::new(),
        };
        let same = image.layers().iter().zip(&there).take_while(|(layer, there)| layer.diff_id == **there);
        let send = Send::Above(same.count());
        let id = load::load(&self.daemon, image, name, send, progress).await?;
        self.cache.put_document(LOADED, &component(name), &id)?;
        Ok(id)
    }
}

/// `imgforge/PROJECT-IMAGE`
fn build_repository(recipe: &Recipe) -> String {
    format!("imgforge/{}", component(&format!("{}-{}", recipe.project, recipe.image)))
}

/// A name as a component of a repository's: lower case, with what is not allowed there as dashes.
fn component(name: &str) -> String {
    let mut component = String::new();
    for char in name.to_lowercase().chars() {
        if char.is_ascii_alphanumeric() {
            component.push(char);
        } else if !component.ends_with('-') {
            component.push('-');
        }
    }
    let component = component.trim_matches('-');
    if component.is_empty() { "image".into() } else { component.into() }
}

#[async_trait]
impl Engine for DockerEngine {
    async fn check(&self) -> Result<EngineInfo> {
        let info = self.info().await?;
        if info.containerd_store {
            return Err(Error::refused(format!(
                "{} keeps images in containerd's store, where an image's id is not its config's digest",
                info.engine.description
            ))
            .help(
                "turn it off in the daemon's configuration, \"features\": { \"containerd-snapshotter\": false } (Docker \
                 Desktop: Settings, General), or point DOCKER_HOST at another daemon",
            ));
        }
        Ok(info.engine.clone())
    }

    async fn build(&self, recipe: &Recipe, logins: &Logins, progress: &Reporter) -> Result<Built> {
        let builder = self.info().await?.builder;
        let base = match &recipe.base {
            Some(base) => Some(self.base(base, progress).await?),
            None => None,
        };
        let listed = recipe.clone();
        let context = tokio::task::spawn_blocking(move || BuildContext::list(&listed))
            .await
            .expect("listing a folder does not panic")?;
        for warning in &context.warnings {
            progress.warning(format!("{}: {warning}", recipe.image));
        }
        let repository = build_repository(recipe);
        let name = format!("{repository}:{BUILD_TAG}");
        let before = self.daemon.image_id(&name).await?;
        let task = progress.task(&recipe.image, "build");
        let request = request::BuildRequest {
            daemon: &self.daemon,
            recipe,
            name: &name,
            base: base.as_deref(),
            context,
        };
        let (id, summary) = match builder {
            Builder::BuildKit => buildkit::build(request, logins, &task, progress).await?,
            Builder::Classic => classic::build(request, logins, &task, progress).await?,
        };
        let reused = before == Some(id);
        if reused {
            task.reused(summary);
        } else {
            task.done(summary);
        }
        let base = recipe.base.clone();
        Ok(Built { image: recipe.image.clone(), engine: EngineName::Docker, id, base, reused })
    }

    async fn export(&self, built: &Built, progress: &Reporter) -> Result<Image> {
        export::export(&self.daemon, &self.cache, built, progress).await
    }

    fn can_push_to(&self, _: &Built, host: &str) -> bool {
        // What a daemon sends is gzip.
        self.cache.compression() == Compression::Gzip && (self.daemon.is_local() || !is_loopback(host))
    }

    async fn push(
        &self,
        built: &Built,
        repository: &Repository,
        tag: &Tag,
        login: Option<&Login>,
        progress: &Reporter,
    ) -> Result<()> {
        push::push(&self.daemon, built, repository, tag, login, progress).await
    }

    async fn folders(&self, built: &Built, wanted: &BTreeSet<String>) -> Result<Folders> {
        // The id names the image's content: what was seen once is so for good.
        let asked = wanted.iter().fold(built.id.to_string(), |key, path| format!("{key}\0{path}"));
        let name = Digest::of(asked.as_bytes()).hex();
        if let Some(folders) = self.cache.document(FOLDERS, &name) {
            return Ok(folders);
        }
        let folders = folders::folders(&self.daemon, built, wanted).await?;
        self.cache.put_document(FOLDERS, &name, &folders)?;
        Ok(folders)
    }

    async fn load(&self, image: &Image, below: Option<&Built>, progress: &Reporter) -> Result<Digest> {
        match below {
            // The daemon has the lower layers of what it built itself.
            Some(below) if below.engine == EngineName::Docker => {
                load::load(&self.daemon, image, &below.image, Send::New, progress).await
            }
            Some(below) => self.load_above(image, &below.image, progress).await,
            None => load::load(&self.daemon, image, "image", Send::Whole, progress).await,
        }
    }
}

/// Whether a registry's host means the machine that says it.
fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    name == "localhost"
        || name.ends_with(".localhost")
        || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// A step went wrong in the builder's own words.
fn build_failed(image: &str, message: &str) -> Error {
    let error = Error::failed(format!("the build of image {image} failed")).because(Error::failed(message));
    let lower = message.to_lowercase();
    if lower.contains("no space left on device") {
        error.help(
            "the daemon's disk is full: `docker system df` shows by what, `docker system prune` frees some",
        )
    } else if lower.contains("pull access denied")
        || lower.contains("unauthorized")
        || lower.contains("denied:")
    {
        error.help("log in to the registry of the base image with `docker login`, or check its name")
    } else {
        error.help("fix the Dockerfile, then run the same command again; what was built before stays cached")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_repository_components() {
        for (name, want) in
            [("shop-web", "shop-web"), ("Web_Front", "web-front"), ("a..b", "a-b"), ("_", "image")]
        {
            assert_eq!(component(name), want);
        }
    }

    #[test]
    fn loopback_hosts_are_known() {
        for host in ["localhost", "localhost:5000", "127.0.0.1:5000", "[::1]:5000", "127.1.2.3"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in ["docker.io", "registry.example.com:5000", "10.0.0.1:5000", "[2001:db8::1]:5000"] {
            assert!(!is_loopback(host), "{host}");
        }
    }
}
