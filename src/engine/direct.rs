//! The engine `direct`: no daemon. An image is its base's layers, and on them one layer each for users and directories,
//! Python packages, every copy, and static files. What changes often is small and comes late.
//!
//! Invariant (contract 8): same inputs, same digests, on any machine. Each layer is kept by its inputs, so what did not
//! change is not made again: an unchanged tree is not read, and for unchanged requirements uv is not run.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex as Shared, PoisonError};

use async_trait::async_trait;
use tokio::sync::Mutex;

use crate::base::contents::Contents;
use crate::base::{Base, platform};
use crate::config::EngineName;
use crate::digest::Digest;
use crate::engine::cache::LayerCache;
use crate::engine::{Built, Engine, EngineInfo, Login, Logins, Recipe};
use crate::error::{Error, Result};
use crate::image::Image;
use crate::image::reference::{Repository, Tag};
use crate::layer::bake::Folders;
use crate::progress::Reporter;

mod assembly;
mod compile;
mod copy;
mod environment;
mod interpreter;
mod python;
mod scripts;
mod settings;
mod statics;
mod stats;
mod system;
mod tree;
mod uv;

use self::assembly::Parts;
use self::tree::Rootfs;
use self::uv::Uv;

/// The cache's folder for what bases have in them.
const CONTENTS: &str = "contents";

/// Builds without a daemon.
pub struct DirectEngine {
    cache: LayerCache,
    /// What was built in this run, by id.
    built: Shared<BTreeMap<Digest, (Image, Rootfs)>>,
    /// Held while packages are installed or a base is read: images that share them do it once.
    at_work: Mutex<()>,
}

/// Whether uv is on this machine; its version.
///
/// # Errors
/// It is not there.
pub async fn check_uv() -> Result<String> {
    Ok(format!("uv {}", Uv::find().await?.version))
}

impl DirectEngine {
    /// Keeps layers in `cache`, compressed as it says.
    pub fn new(cache: LayerCache) -> Self {
        DirectEngine { cache, built: Shared::default(), at_work: Mutex::default() }
    }

    /// The base as a value, and what is in it.
    async fn base(&self, recipe: &Recipe) -> Result<(Image, Contents)> {
        let missing = || Error::failed(format!("image {:?} has no base to be built on", recipe.image));
        match recipe.base.as_ref().ok_or_else(missing)? {
            Base::Read { image, contents, .. } => Ok(((**image).clone(), (**contents).clone())),
            Base::Registry(reference) => {
                Err(Error::failed(format!("{reference} was not read before the build of {:?}", recipe.image)))
            }
            Base::Local { image, .. } => {
                let _one_at_a_time = self.at_work.lock().await;
                let (cache, image) = (self.cache.clone(), (**image).clone());
                blocking(move || {
                    let contents = match contents(&cache, &image) {
                        Some(contents) => contents,
                        None => {
                            let contents = Contents::of(&image)?;
                            put_contents(&cache, &image, &contents)?;
                            contents
                        }
                    };
                    Ok((image, contents))
                })
                .await
            }
        }
    }
}

/// What is in a base, when it was looked at before.
pub fn contents(cache: &LayerCache, base: &Image) -> Option<Contents> {
    cache.document(CONTENTS, &Contents::key(base).hex())
}

/// Remembers it.
///
/// # Errors
/// Those of writing.
pub fn put_contents(cache: &LayerCache, base: &Image, contents: &Contents) -> Result<()> {
    cache.put_document(CONTENTS, &Contents::key(base).hex(), contents)
}

/// Runs what reads and hashes files on a thread for such work.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.expect("reading and writing files does not panic")
}

#[async_trait]
impl Engine for DirectEngine {
    async fn check(&self) -> Result<EngineInfo> {
        Ok(EngineInfo {
            description: "direct, no daemon".into(),
            address: "this machine".into(),
            platform: platform::here(),
        })
    }

    async fn build(&self, recipe: &Recipe, _: &Logins, progress: &Reporter) -> Result<Built> {
        let direct = recipe.direct.as_ref().ok_or_else(|| {
            Error::failed(format!("image {:?} has a Dockerfile, which needs a daemon", recipe.image))
        })?;
        let what = direct.platform.iter().fold("build".to_owned(), |what, one| format!("{what} {one}"));
        let task = progress.task(&recipe.image, what);
        let (base, contents) = self.base(recipe).await?;
        let parts = Parts { engine: self, recipe, direct, contents: &contents, progress, task: &task };
        let (image, rootfs) = assembly::assemble(&base, parts).await?;
        let id = image.config_descriptor().digest;
        let reused = self.cache.config(id).is_some();
        self.cache.put_config(id, &image.config_bytes())?;
        let new = image.layers().len() - base.layers().len();
        let bytes: u64 =
            image.layers()[base.layers().len()..].iter().map(|layer| layer.descriptor.size).sum();
        let summary = format!("{new} layers on the base, {:.1} MB", bytes as f64 / 1e6);
        if reused {
            task.reused(summary);
        } else {
            task.done(summary);
        }
        self.built.lock().unwrap_or_else(PoisonError::into_inner).insert(id, (image, rootfs));
        Ok(Built {
            image: recipe.image.clone(),
            engine: EngineName::Direct,
            id,
            base: recipe.base.clone(),
            reused,
        })
    }

    async fn export(&self, built: &Built, _: &Reporter) -> Result<Image> {
        let known = self.built.lock().unwrap_or_else(PoisonError::into_inner).get(&built.id).cloned();
        known
            .map(|(image, _)| image)
            .ok_or_else(|| Error::failed(format!("image {:?} was not built in this run", built.image)))
    }

    async fn folders(&self, built: &Built, wanted: &BTreeSet<String>) -> Result<Folders> {
        let known = self.built.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, rootfs) = known
            .get(&built.id)
            .ok_or_else(|| Error::failed(format!("image {:?} was not built in this run", built.image)))?;
        Ok(rootfs.folders(wanted))
    }

    fn can_push_to(&self, _: &Built, _: &str) -> bool {
        false
    }

    async fn push(
        &self,
        built: &Built,
        _: &Repository,
        _: &Tag,
        _: Option<&Login>,
        _: &Reporter,
    ) -> Result<()> {
        Err(Error::failed(format!(
            "engine \"direct\" sends no image by itself, and {:?} is its own",
            built.image
        )))
    }

    async fn load(&self, image: &Image, _: Option<&Built>, _: &Reporter) -> Result<Digest> {
        let id = image.config_descriptor().digest.short();
        Err(Error::failed(format!("image {id} was to be loaded into an engine that runs nothing")))
    }
}
