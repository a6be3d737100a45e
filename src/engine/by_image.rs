//! Images of one project may have different engines: this one picks by image.
//!
//! Invariant: the daemon is asked for nothing, not even whether it is there, unless an image is built by it or run on it.

use async_trait::async_trait;
use std::collections::BTreeSet;

use crate::config::EngineName;
use crate::digest::Digest;
use crate::engine::direct::DirectEngine;
use crate::engine::docker::DockerEngine;
use crate::engine::{Built, Engine, EngineInfo, Login, Logins, Recipe};
use crate::error::{Error, Result};
use crate::image::Image;
use crate::image::reference::{Repository, Tag};
use crate::layer::bake::Folders;
use crate::progress::Reporter;

/// Both engines.
pub struct ByImage {
    direct: DirectEngine,
    /// None when this run needs no daemon.
    docker: Option<DockerEngine>,
}

impl ByImage {
    /// `docker` is none when this run needs no daemon.
    pub fn new(direct: DirectEngine, docker: Option<DockerEngine>) -> Self {
        ByImage { direct, docker }
    }

    fn daemon(&self) -> Result<&DockerEngine> {
        self.docker.as_ref().ok_or_else(|| Error::failed("this run is connected to no Docker daemon"))
    }

    fn of(&self, engine: EngineName) -> Result<&dyn Engine> {
        match engine {
            EngineName::Direct => Ok(&self.direct),
            EngineName::Docker => Ok(self.daemon()?),
        }
    }
}

#[async_trait]
impl Engine for ByImage {
    async fn check(&self) -> Result<EngineInfo> {
        // Images are for where they run: a daemon's platform comes first.
        match &self.docker {
            Some(docker) => docker.check().await,
            None => self.direct.check().await,
        }
    }

    async fn build(&self, recipe: &Recipe, logins: &Logins, progress: &Reporter) -> Result<Built> {
        let engine = if recipe.direct.is_some() { EngineName::Direct } else { EngineName::Docker };
        self.of(engine)?.build(recipe, logins, progress).await
    }

    async fn export(&self, built: &Built, progress: &Reporter) -> Result<Image> {
        self.of(built.engine)?.export(built, progress).await
    }

    fn can_push_to(&self, built: &Built, host: &str) -> bool {
        self.of(built.engine).is_ok_and(|engine| engine.can_push_to(built, host))
    }

    async fn push(
        &self,
        built: &Built,
        repository: &Repository,
        tag: &Tag,
        login: Option<&Login>,
        progress: &Reporter,
    ) -> Result<()> {
        self.of(built.engine)?.push(built, repository, tag, login, progress).await
    }

    async fn folders(&self, built: &Built, wanted: &BTreeSet<String>) -> Result<Folders> {
        self.of(built.engine)?.folders(built, wanted).await
    }

    async fn load(&self, image: &Image, below: Option<&Built>, progress: &Reporter) -> Result<Digest> {
        self.daemon()?.load(image, below, progress).await
    }
}
