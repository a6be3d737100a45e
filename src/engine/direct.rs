//! The engine `direct`: no daemon. An image is its base's layers, and on them one layer each for users and directories,
//! Python packages, every copy, and static files. What changes often is small and comes late.
//!
//! Invariant (contract 8): same inputs, same digests, on any machine. Each layer is kept by its inputs, so what did not
//! change is not made again: an unchanged tree is not read, and for unchanged requirements uv is not run.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex as Shared, PoisonError};

use async_trait::async_trait;
use tokio::sync::Mutex;

use crate::base::Base;
use crate::base::contents::Contents;
use crate::config::direct::SettingsConfig;
use crate::config::{EngineName, Owner};
use crate::digest::Digest;
use crate::engine::cache::LayerCache;
use crate::engine::context::Listing;
use crate::engine::dockerignore::Ignore;
use crate::engine::{Built, DirectRecipe, Engine, EngineInfo, Login, Logins, Recipe};
use crate::error::{Error, Result};
use crate::image::reference::{Repository, Tag};
use crate::image::{History, Image, Layer, Object};
use crate::progress::{Reporter, Task};

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

use self::copy::{Files, Place};
use self::interpreter::Interpreter;
use self::python::Packages;
use self::stats::Stats;
use self::tree::{Rootfs, Tree, What};
use self::uv::{Access, Uv};

/// The cache's folder for what bases have in them.
const CONTENTS: &str = "contents";

/// Builds without a daemon.
pub struct DirectEngine {
    cache: LayerCache,
    /// What was built in this run, by id.
    built: Shared<BTreeMap<Digest, Image>>,
    /// Held while packages are installed or a base is read: images that share them do it once.
    at_work: Mutex<()>,
}

/// The platform that containers of this machine have.
pub fn platform() -> String {
    let machine = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        "powerpc64" => "ppc64le",
        other => other,
    };
    format!("linux/{machine}")
}

/// Whether uv is on this machine; its version.
///
/// # Errors
/// It is not there.
pub async fn check_uv() -> Result<String> {
    Ok(format!("uv {}", Uv::find().await?.version))
}

impl DirectEngine {
    /// Keeps layers in `work_dir`'s layer cache.
    pub fn new(work_dir: &Path) -> Self {
        let cache = LayerCache::new(work_dir.join("layers"));
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

/// An image that is being put together.
struct Assembly<'a> {
    engine: &'a DirectEngine,
    recipe: &'a Recipe,
    direct: &'a DirectRecipe,
    contents: &'a Contents,
    progress: &'a Reporter,
    task: &'a Task,
    image: Image,
    rootfs: Rootfs,
}

impl Assembly<'_> {
    /// Puts the layer with this blob on it.
    fn append(&mut self, mut layer: Layer, tree: &Tree, created_by: String) {
        layer.descriptor.media_type = self.image.kind().gzip_layer().into();
        self.rootfs.add(tree);
        self.image = self.image.append(layer, History { created_by, comment: "imgforge".into() });
    }

    /// Puts a tree on it: from the cache when the same was made before.
    async fn append_tree(&mut self, mut tree: Tree, created_by: String) -> Result<()> {
        if tree.is_empty() {
            return Ok(());
        }
        tree.complete(&self.rootfs)?;
        let key = tree.key();
        let (layer, tree) = match self.cached(key) {
            Some(layer) => (layer, tree),
            None => {
                self.task.detail(created_by.clone());
                write(&self.engine.cache, key, tree).await?
            }
        };
        self.append(layer, &tree, created_by);
        Ok(())
    }

    /// The layer that was kept by this key.
    fn cached(&self, key: Digest) -> Option<Layer> {
        self.engine.cache.layer(self.engine.cache.named(&key.hex())?)
    }

    async fn system(&mut self) -> Result<()> {
        let users: Vec<_> = self.direct.users.iter().collect();
        let directories: Vec<_> = self.direct.directories.iter().collect();
        let tree = system::tree(&self.recipe.image, &users, &directories, self.contents, &self.rootfs)?;
        self.append_tree(tree, "users and directories".into()).await
    }

    /// What is to be installed, where imgforge.toml names packages.
    fn packages(&self) -> Result<Option<Packages>> {
        let Some(config) = &self.direct.python else { return Ok(None) };
        let (image, base) = (&self.recipe.image, self.image.config());
        let platform = self.image.platform();
        let interpreter = Interpreter::find(image, config, base, self.contents, &platform)?;
        Packages::read(image, config, self.direct.requirements.clone(), interpreter).map(Some)
    }

    async fn install(&mut self, packages: &Packages, path: &str) -> Result<()> {
        let to = self.rootfs.resolve(path)?;
        let place = self.place(&to)?;
        let key = packages.key(place.key());
        let created_by = format!("packages {} in /{path}", packages.describe());
        let layer = match self.cached(key) {
            Some(layer) => layer,
            None => {
                let _one_at_a_time = self.engine.at_work.lock().await;
                match self.cached(key) {
                    Some(layer) => layer,
                    None => {
                        self.task.detail(created_by.clone());
                        let (uv, access) = self.uv().await?;
                        let cache = &self.engine.cache;
                        let mut made = packages.install(&uv, &access, cache, &to, self.task).await?;
                        made.tree.complete(&self.rootfs)?;
                        write(cache, key, made.tree.clone()).await?.0
                    }
                }
            }
        };
        // Only the folder counts for the layers above, whether it was made now or taken from the cache.
        self.append(layer, &place, created_by);
        Ok(())
    }

    /// A tree with the folder `to` alone, and its parents.
    fn place(&self, to: &str) -> Result<Tree> {
        let mut place = Tree::default();
        if !self.rootfs.has_directory(to) {
            place.insert(to, What::Directory, Owner::default(), 0o755);
        }
        place.complete(&self.rootfs)?;
        Ok(place)
    }

    async fn uv(&self) -> Result<(Uv, Access)> {
        Ok((Uv::find().await?, Access::new(&self.recipe.secrets)?))
    }

    /// Every copy, each file read only when it changed; and the digest of all that a command can see.
    async fn copies(&mut self) -> Result<(Listing, Option<Digest>)> {
        let (cache, recipe) = (self.engine.cache.clone(), self.recipe.clone());
        let (copies, with_statics) = (self.direct.copy.clone(), self.direct.statics.is_some());
        let inputs = self.direct.statics.as_ref().map_or(&[][..], |statics| &statics.inputs);
        let inputs: Vec<String> = inputs.iter().map(|pattern| pattern.get_ref().clone()).collect();
        let only = (!inputs.is_empty()).then(|| Ignore::new(&inputs)).transpose()?;
        let mut rootfs = self.rootfs.clone();
        let looked = blocking(move || {
            let stats = Stats::begin(&cache, &recipe.context, &recipe.image)?;
            let listing = Listing::of(&recipe, &[])?;
            let mut files = Files { listing: &listing, stats };
            let mut trees = Vec::new();
            for copy in &copies {
                let mut parts = files.copied(&recipe.image, copy, &rootfs)?.split();
                for part in &mut parts {
                    part.complete(&rootfs)?;
                    rootfs.add(part);
                }
                trees.push(parts);
            }
            let mut sources = None;
            if with_statics {
                let only = only.as_ref();
                let inputs = Place { from: Path::new(""), to: "", owner: Owner::default(), only };
                sources = Some(files.tree(&inputs, &Rootfs::default())?.key());
            }
            tracing::debug!(
                image = recipe.image,
                files = listing.entries.len(),
                read = files.stats.read,
                "listed"
            );
            files.stats.keep()?;
            Ok((trees, listing, sources))
        });
        let (trees, listing, sources) = looked.await?;
        for warning in &listing.warnings {
            self.progress.warning(format!("{}: {warning}", self.recipe.image));
        }
        for (parts, copy) in trees.into_iter().zip(&self.direct.copy) {
            let (from, to) = (copy.from.get_ref().display(), copy.to.get_ref());
            let count = parts.len();
            for (number, part) in parts.into_iter().enumerate() {
                let of = if count > 1 { format!(" ({} of {count})", number + 1) } else { String::new() };
                self.append_tree(part, format!("copy {from} to {to}{of}")).await?;
            }
        }
        Ok((listing, sources))
    }

    async fn statics(
        &mut self,
        listing: &Listing,
        sources: Digest,
        packages: Option<&Packages>,
        settings: &SettingsConfig,
    ) -> Result<()> {
        let Some(config) = &self.direct.statics else { return Ok(()) };
        let (command, to) = (config.command.get_ref().join(" "), config.to.get_ref());
        let created_by = format!("{command} to {to}");
        let place = self.place(&self.rootfs.resolve(to.relative())?)?;
        let environment = packages.map(Packages::environment_key);
        let key = statics::key(config, &settings.env, environment, sources, place.key());
        let layer = match self.cached(key) {
            Some(layer) => layer,
            None => {
                let cache = &self.engine.cache;
                let environment = match packages {
                    Some(packages) => {
                        let _one_at_a_time = self.engine.at_work.lock().await;
                        let (uv, access) = self.uv().await?;
                        Some(environment::with(packages, &uv, &access, cache).await?)
                    }
                    None => None,
                };
                let command = statics::Command {
                    image: &self.recipe.image,
                    config,
                    variables: &settings.env,
                    environment: environment.as_deref(),
                };
                self.task.detail(created_by.clone());
                let mut made = command.run(listing, cache, &self.rootfs, self.progress).await?;
                made.tree.complete(&self.rootfs)?;
                write(cache, key, made.tree.clone()).await?.0
            }
        };
        self.append(layer, &place, created_by);
        Ok(())
    }
}

/// Makes the layer of a tree and keeps it by `key`.
async fn write(cache: &LayerCache, key: Digest, tree: Tree) -> Result<(Layer, Tree)> {
    let cache = cache.clone();
    blocking(move || {
        // The same files may have been kept by another key.
        let by_content = tree.key();
        let known = cache.named(&by_content.hex()).and_then(|diff_id| cache.layer(diff_id));
        let layer = match known {
            Some(layer) => layer,
            None => cache.put_written(|out| tree.write(out))?,
        };
        cache.put_name(&by_content.hex(), layer.diff_id)?;
        if key != by_content {
            cache.put_name(&key.hex(), layer.diff_id)?;
        }
        Ok((layer, tree))
    })
    .await
}

/// The image's layers and its own config, without what the base's manifest says of the base.
fn on(base: &Image, config: Object) -> Result<Image> {
    Image::new(base.kind(), config, base.layers().to_vec())
}

#[async_trait]
impl Engine for DirectEngine {
    async fn check(&self) -> Result<EngineInfo> {
        Ok(EngineInfo {
            description: "direct, no daemon".into(),
            address: "this machine".into(),
            platform: platform(),
        })
    }

    async fn build(&self, recipe: &Recipe, _: &Logins, progress: &Reporter) -> Result<Built> {
        let direct = recipe.direct.as_ref().ok_or_else(|| {
            Error::failed(format!("image {:?} has a Dockerfile, which needs a daemon", recipe.image))
        })?;
        let task = progress.task(&recipe.image, "build");
        let (base, contents) = self.base(recipe).await?;
        let mut assembly = Assembly {
            engine: self,
            recipe,
            direct,
            contents: &contents,
            progress,
            task: &task,
            rootfs: Rootfs::new(&contents),
            image: base.clone(),
        };
        let packages = assembly.packages()?;
        let path = direct.python.as_ref().map(|python| python.path.get_ref().relative().to_owned());
        let on_path = path.as_ref().map(|path| settings::Packages { path: format!("/{path}") });
        let config = settings::config(base.config(), &direct.settings, on_path.as_ref());
        assembly.image = on(&base, config)?;
        assembly.system().await?;
        if let (Some(packages), Some(path)) = (&packages, &path) {
            assembly.install(packages, path).await?;
        }
        let (listing, sources) = assembly.copies().await?;
        if let Some(sources) = sources {
            assembly.statics(&listing, sources, packages.as_ref(), &direct.settings).await?;
        }
        let image = assembly.image;
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
        self.built.lock().unwrap_or_else(PoisonError::into_inner).insert(id, image);
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
        known.ok_or_else(|| Error::failed(format!("image {:?} was not built in this run", built.image)))
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
