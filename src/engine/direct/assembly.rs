//! Puts an image together, layer by layer from the bottom, each from the cache when the same was made before.

use std::path::Path;

use tokio::join;

use super::copy::{Files, Place};
use super::interpreter::{self, Interpreter};
use super::python::Packages;
use super::stats::Stats;
use super::tree::{Modules, Rootfs, Tree, What};
use super::uv::{Access, Uv};
use super::{DirectEngine, blocking, compile, environment, settings, statics, system};
use crate::base::contents::Contents;
use crate::config::Owner;
use crate::config::direct::SettingsConfig;
use crate::digest::Digest;
use crate::engine::cache::LayerCache;
use crate::engine::context::Listing;
use crate::engine::dockerignore::Ignore;
use crate::engine::{DirectRecipe, Recipe};
use crate::error::Result;
use crate::image::{History, Image, Layer};
use crate::progress::{Reporter, Task};

/// What an image is put together from, and who is told of it.
#[derive(Clone, Copy)]
pub(super) struct Parts<'a> {
    pub(super) engine: &'a DirectEngine,
    pub(super) recipe: &'a Recipe,
    pub(super) direct: &'a DirectRecipe,
    pub(super) contents: &'a Contents,
    pub(super) progress: &'a Reporter,
    pub(super) task: &'a Task,
}

/// Puts the image together on `base`.
///
/// # Errors
/// Those of its layers.
pub(super) async fn assemble(base: &Image, parts: Parts<'_>) -> Result<(Image, Rootfs)> {
    let Parts { engine, recipe, direct, contents, progress, task } = parts;
    let rootfs = Rootfs::new(contents);
    let path = direct.python.as_ref().map(|python| python.path.get_ref().relative().to_owned());
    let on_path = path.as_ref().map(|path| settings::Packages { path: format!("/{path}") });
    let config = settings::config(base.config(), &direct.settings, on_path.as_ref());
    // Its own manifest: what the base's says is about the base.
    let image = Image::new(base.kind(), config, base.layers().to_vec())?;
    let mut assembly = Assembly { engine, recipe, direct, contents, progress, task, image, rootfs };
    // The base's environment tells its Python; what imgforge.toml sets is about the image.
    let packages = assembly.packages(base)?;
    assembly.system().await?;
    if let (Some(packages), Some(path)) = (&packages, &path) {
        assembly.install(packages, path).await?;
    }
    let modules = assembly.modules(base)?;
    let (listing, sources) = assembly.copies(modules).await?;
    if let Some(sources) = sources {
        assembly.statics(&listing, sources, packages.as_ref(), &direct.settings).await?;
    }
    Ok((assembly.image, assembly.rootfs))
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
    fn append(&mut self, layer: Layer, tree: &Tree, created_by: String) {
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
                let tools = async || self.uv().await;
                compile::fill(&self.recipe.image, &mut tree, &self.engine.cache, tools, self.progress)
                    .await?;
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
    fn packages(&self, base: &Image) -> Result<Option<Packages>> {
        let Some(config) = &self.direct.python else { return Ok(None) };
        let (image, platform) = (&self.recipe.image, base.platform());
        let interpreter = Interpreter::find(image, config, base.config(), self.contents, &platform)?;
        Packages::read(image, config, self.direct.requirements.clone(), interpreter).map(Some)
    }

    /// What compiles modules, where a copy is to be compiled.
    fn modules(&self, base: &Image) -> Result<Option<Modules>> {
        if !self.direct.copy.iter().any(|copy| copy.compile) {
            return Ok(None);
        }
        let (image, config) = (&self.recipe.image, self.direct.python.as_ref());
        let version = Interpreter::version(image, config, base.config(), self.contents)?;
        Ok(Some(Modules::new(interpreter::minor(&version), &self.direct.baked)))
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
                        self.install_now(packages, key, &to).await?
                    }
                }
            }
        };
        // Only the folder counts for the layers above, whether it was made now or taken from the cache.
        self.append(layer, &place, created_by);
        Ok(())
    }

    /// Installs the packages into a layer that is kept by `key`; beside it what makes static files, which has the same packages.
    async fn install_now(&self, packages: &Packages, key: Digest, to: &str) -> Result<Layer> {
        let (uv, access) = self.uv().await?;
        let cache = &self.engine.cache;
        let environment = async {
            match &self.direct.statics {
                Some(_) => environment::with(packages, &uv, &access, cache).await.map(drop),
                None => Ok(()),
            }
        };
        let (made, environment) = join!(packages.install(&uv, &access, cache, to, self.task), environment);
        // Of two failures that of the image tells more.
        let mut made = made?;
        environment?;
        made.tree.complete(&self.rootfs)?;
        Ok(write(cache, key, made.tree.clone()).await?.0)
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
    async fn copies(&mut self, mut modules: Option<Modules>) -> Result<(Listing, Option<Digest>)> {
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
                let mut tree = files.copied(&recipe.image, copy, &rootfs)?;
                if let Some(modules) = &mut modules {
                    if copy.compile {
                        modules.add_all(&mut tree, copy.owner, &rootfs);
                    } else {
                        modules.add_replaced(&mut tree, copy.owner, &rootfs);
                    }
                }
                let mut parts = tree.split();
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
