//! Engine `docker`: a Docker daemon builds, with BuildKit or with the builder before it.
//!
//! What the daemon keeps: `imgforge/PROJECT-IMAGE:build`, the newest build of each image, and `imgforge-base/NAME:DIGEST`,
//! the bases that were loaded into it. Names move, so nothing piles up but what `docker image prune` takes.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;

use super::cache::LayerCache;
use super::daemon::{Builder, Daemon};
use super::{Built, Engine, EngineInfo, Login, Logins, Recipe};
use crate::base::Base;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::image::Image;
use crate::image::reference::{Repository, Tag};
use crate::progress::Reporter;

mod build;
mod export;
mod load;
mod push;
mod session;
mod steps;

/// Builds with a Docker daemon.
pub struct DockerEngine {
    daemon: Daemon,
    cache: LayerCache,
    /// Two images on one base would load it twice.
    loading: Arc<tokio::sync::Mutex<()>>,
}

impl DockerEngine {
    /// Builds on `daemon`; exported layers are kept below `work_dir` (`.imgforge`).
    pub fn new(daemon: Daemon, work_dir: &Path) -> Self {
        DockerEngine { daemon, cache: LayerCache::new(work_dir.join("layers")), loading: Arc::default() }
    }

    /// What `FROM ${BASE}` is going to see; a local base is loaded first.
    async fn base(&self, base: &Base, progress: &Reporter) -> Result<String> {
        let (name, image) = match base {
            Base::Registry(reference) => {
                // BuildKit takes a digest without a tag and with one; the classic builder does not take both.
                let digest = reference.digest.map(|digest| format!("{}@{digest}", reference.repository));
                return Ok(digest.unwrap_or_else(|| reference.to_string()));
            }
            Base::Local { name, image } => (name, image),
        };
        let _one_at_a_time = self.loading.lock().await;
        let id = image.config_descriptor().digest;
        let repository = format!("imgforge-base/{}", repository_part(name));
        let tag = id.short();
        let full = format!("{repository}:{tag}");
        if self.daemon.image_id(&full).await? != Some(id) {
            load::load(&self.daemon, image, name, load::Send::Whole, progress).await?;
            self.daemon.tag(&id.to_string(), &repository, &tag).await?;
        }
        Ok(full)
    }
}

/// A name of imgforge.toml as part of a repository's name.
fn repository_part(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let part: String = name.chars().map(plain).collect();
    match part.trim_matches('-') {
        "" => "image".into(),
        part => part.to_owned(),
    }
}

#[async_trait]
impl Engine for DockerEngine {
    async fn check(&self) -> Result<EngineInfo> {
        Ok(self.daemon.info().await?.engine)
    }

    async fn build(&self, recipe: &Recipe, logins: &Logins, progress: &Reporter) -> Result<Built> {
        let builder = self.daemon.info().await?.builder;
        if builder == Builder::Classic && !recipe.secrets.is_empty() {
            let ids = recipe.secrets.keys().cloned().collect::<Vec<_>>().join(", ");
            return Err(Error::refused(format!(
                "image {} needs BuildKit for its build secrets ({ids})",
                recipe.image
            ))
            .help("this daemon builds without it: unset DOCKER_BUILDKIT=0, or take a newer Docker"));
        }
        let base = match &recipe.base {
            Some(base) => Some(self.base(base, progress).await?),
            None => None,
        };
        let repository =
            format!("imgforge/{}-{}", repository_part(&recipe.project), repository_part(&recipe.image));
        let before = self.daemon.image_id(&format!("{repository}:build")).await?;
        let build = build::Build { daemon: &self.daemon, recipe, base, builder, logins, progress };
        let id = build.run().await?;
        self.daemon.tag(&id.to_string(), &repository, "build").await?;
        let base = recipe.base.clone().filter(|base| matches!(base, Base::Local { .. }));
        Ok(Built { image: recipe.image.clone(), id, base, reused: before == Some(id) })
    }

    async fn export(&self, built: &Built, progress: &Reporter) -> Result<Image> {
        export::export(&self.daemon, &self.cache, built, progress).await
    }

    fn can_push_to(&self, host: &str) -> bool {
        // Loopback of another machine is another place.
        self.daemon.is_local() || !is_loopback(host)
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

    async fn load(&self, image: &Image, below: Option<&Built>, progress: &Reporter) -> Result<Digest> {
        let (subject, send) = match below {
            Some(built) => (built.image.as_str(), load::Send::New),
            None => ("image", load::Send::Whole),
        };
        load::load(&self.daemon, image, subject, send, progress).await
    }
}

fn is_loopback(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let name = name.trim_start_matches('[').trim_end_matches(']');
    name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_known_in_all_its_forms() {
        for host in ["localhost", "localhost:5000", "127.0.0.1:5000", "127.1.2.3", "[::1]:5000"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in ["docker.io", "10.0.0.1:5000", "localhost.example.com", "registry:5000"] {
            assert!(!is_loopback(host), "{host}");
        }
    }

    #[test]
    fn names_become_parts_of_repositories() {
        assert_eq!(repository_part("web"), "web");
        assert_eq!(repository_part("Web_2"), "web-2");
        assert_eq!(repository_part("_"), "image");
    }
}
