//! Reads an image from a registry: manifest and config at once, layers when they are wanted.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::kept::{Kept, Named};
use super::verify::is_wrong_content;
use super::{Manifest, Registry};
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::image::index::{Index, is_index};
use crate::image::reference::{Repository, Version};
use crate::image::{Content, Descriptor, Image, Layer};
use crate::partial::Partial;
use crate::progress::{Reporter, Task};

/// How many layers come in at once.
const AT_ONCE: usize = 4;
/// How often a layer is begun again after its connection broke.
const TRIES: usize = 3;
/// A config is a JSON text; more than this is none.
const CONFIG_LIMIT: u64 = 32 << 20;

/// Reads an image; of an index the image for `platform` (`linux/amd64`, `linux/arm64/v8`). `None` when there is none of
/// that name. Its layers stay where they are.
///
/// # Errors
/// The registry's; an index without that platform; something that is no image.
pub async fn read(
    registry: &dyn Registry,
    repository: &Repository,
    version: &Version,
    platform: &str,
) -> Result<Option<Image>> {
    Reader::new(registry).image_for(repository, version, platform).await
}

/// Reads manifests and configs.
#[derive(Clone)]
pub struct Reader<'r> {
    registry: &'r dyn Registry,
    kept: Option<Kept>,
}

impl<'r> Reader<'r> {
    /// Asks the registry for everything.
    pub fn new(registry: &'r dyn Registry) -> Self {
        Reader { registry, kept: None }
    }

    /// Asks for nothing that is kept, and keeps what it reads.
    pub fn keeping(registry: &'r dyn Registry, kept: Kept) -> Self {
        Reader { registry, kept: Some(kept) }
    }

    /// The image that `version` names; of an index that for `platform`.
    ///
    /// # Errors
    /// Those of [`read`].
    pub async fn image_for(
        &self,
        repository: &Repository,
        version: &Version,
        platform: &str,
    ) -> Result<Option<Image>> {
        match self.named(repository, version).await? {
            None => Ok(None),
            Some(Named::Image(image)) => Ok(Some(*image)),
            Some(Named::Index { index, .. }) => {
                let picked = index.pick(platform).map(|entry| entry.digest);
                let picked = picked
                    .map_err(|error| error.context(format!("cannot read {repository} at {version}")))?;
                self.child(repository, version, picked).await.map(Some)
            }
        }
    }

    /// What `version` names: an image, or an index. `None` when there is none.
    ///
    /// # Errors
    /// The registry's; something that is neither.
    pub async fn named(&self, repository: &Repository, version: &Version) -> Result<Option<Named>> {
        if let (Some(kept), Version::Digest(digest)) = (&self.kept, version)
            && let Some(named) = kept.find(self.registry, repository, *digest)
        {
            return Ok(Some(named));
        }
        let Some(manifest) = self.registry.manifest(repository, version).await? else { return Ok(None) };
        // A tag names what may be known by its digest.
        if let (Some(kept), Version::Tag(_)) = (&self.kept, version)
            && let Some(named) = kept.find(self.registry, repository, manifest.digest)
        {
            return Ok(Some(named));
        }
        if is_index(&manifest.media_type) {
            let index = Index::parse(&manifest.media_type, &manifest.bytes)
                .map_err(|error| error.context(format!("cannot read {repository} at {version}")))?;
            self.keep_index(repository, index.media_type(), manifest.bytes)?;
            return Ok(Some(Named::Index { digest: manifest.digest, index: Box::new(index) }));
        }
        let image = image(self.registry, repository, manifest).await?;
        self.keep_image(repository, &image)?;
        Ok(Some(Named::Image(Box::new(image))))
    }

    /// Keeps an image that is in `repository` now, where anything is kept.
    ///
    /// # Errors
    /// Those of writing.
    pub fn keep_image(&self, repository: &Repository, image: &Image) -> Result<()> {
        self.kept.as_ref().map_or(Ok(()), |kept| kept.keep_image(repository, image))
    }

    /// Keeps an index that is in `repository` now: its media type and bytes.
    ///
    /// # Errors
    /// Those of writing.
    pub fn keep_index(&self, repository: &Repository, media_type: &str, bytes: Bytes) -> Result<()> {
        self.kept.as_ref().map_or(Ok(()), |kept| kept.keep_index(repository, media_type, bytes))
    }

    /// An image that the index `version` lists.
    ///
    /// # Errors
    /// The registry's; it is not there, or is an index itself.
    pub async fn child(&self, repository: &Repository, version: &Version, digest: Digest) -> Result<Image> {
        match self.named(repository, &Version::Digest(digest)).await? {
            Some(Named::Image(image)) => Ok(*image),
            Some(Named::Index { .. }) => Err(Error::failed(format!(
                "the index {version} of {repository} lists another index, {digest}"
            ))),
            None => Err(Error::failed(format!(
                "the index {version} of {repository} lists {digest}, which is not there"
            ))
            .help("push the index again")),
        }
    }
}

/// The image of a manifest: its config is read, its layers stay where they are.
async fn image(registry: &dyn Registry, repository: &Repository, manifest: Manifest) -> Result<Image> {
    #[derive(Deserialize)]
    struct Names {
        config: Descriptor,
    }
    let names: Names = serde_json::from_slice(&manifest.bytes).map_err(|error| {
        Error::failed(format!("{} in {repository} is not an image manifest", manifest.digest)).because(error)
    })?;
    let config = blob(registry, repository, &names.config).await?;
    image_in(registry, repository, manifest.bytes, config)
}

/// The image of this manifest and config, whose layers are in `repository`.
///
/// # Errors
/// They disagree, or are none of an image.
pub(super) fn image_in(
    registry: &dyn Registry,
    repository: &Repository,
    manifest: Bytes,
    config: Bytes,
) -> Result<Image> {
    let content = registry.content(repository, &Digest::of(&manifest));
    let image = Image::from_read(manifest, config, &content)?;
    Ok(image.with_contents(|layer| registry.content(repository, &layer.descriptor.digest)))
}

/// A small blob, as a whole.
async fn blob(registry: &dyn Registry, repository: &Repository, descriptor: &Descriptor) -> Result<Bytes> {
    if descriptor.size > CONFIG_LIMIT {
        let (digest, size) = (descriptor.digest, descriptor.size);
        return Err(Error::failed(format!("the config {digest} in {repository} claims {size} bytes")));
    }
    let mut tries = 0;
    loop {
        tries += 1;
        let mut bytes = Vec::new();
        match registry.blob(repository, descriptor).await?.read_to_end(&mut bytes).await {
            Ok(_) => return Ok(bytes.into()),
            Err(error) if tries < TRIES && !is_wrong_content(&error) => {}
            Err(error) => return Err(unreadable(repository, descriptor, error)),
        }
    }
}

fn unreadable(repository: &Repository, descriptor: &Descriptor, error: std::io::Error) -> Error {
    Error::failed(format!("cannot read the blob {} of {repository}", descriptor.digest.short()))
        .because(error)
}

/// Brings the layers of `image` to files in `folder`, named by their digests, checked. What is there is not read again.
///
/// # Errors
/// The registry's; a full disk; bytes that do not have their digest.
pub async fn pull(
    subject: &str,
    image: &Image,
    registry: &dyn Registry,
    repository: &Repository,
    folder: &Path,
    progress: &Reporter,
) -> Result<Image> {
    fs_err::tokio::create_dir_all(folder).await?;
    let pull = Pull { subject, registry, repository, folder, progress };
    let layers: Vec<_> = image.layers().iter().map(|layer| pull.layer(layer)).collect();
    stream::iter(layers).buffer_unordered(AT_ONCE).try_collect::<Vec<()>>().await?;
    Ok(image.with_contents(|layer| match &layer.content {
        Content::Registry(_) => Content::File(Arc::new(pull.path(layer))),
        here => here.clone(),
    }))
}

struct Pull<'p> {
    subject: &'p str,
    registry: &'p dyn Registry,
    repository: &'p Repository,
    folder: &'p Path,
    progress: &'p Reporter,
}

impl Pull<'_> {
    fn path(&self, layer: &Layer) -> PathBuf {
        self.folder.join(layer.descriptor.digest.hex())
    }

    async fn layer(&self, layer: &Layer) -> Result<()> {
        let (digest, size) = (layer.descriptor.digest, layer.descriptor.size);
        let task = self.progress.transfer(self.subject, format!("layer {}", digest.short()), size);
        let path = self.path(layer);
        let elsewhere = !matches!(layer.content, Content::Registry(_));
        if elsewhere || std::fs::metadata(&path).is_ok_and(|file| file.len() == size) {
            task.reused("is here");
            return Ok(());
        }
        let mut tries = 0;
        loop {
            tries += 1;
            match self.fetch(layer, &path, &task).await? {
                Ok(()) => break,
                Err(error) if tries < TRIES && !is_wrong_content(&error) => {}
                Err(error) => return Err(unreadable(self.repository, &layer.descriptor, error)),
            }
        }
        task.done("fetched");
        Ok(())
    }

    /// The inner error is that of reading.
    async fn fetch(&self, layer: &Layer, path: &Path, task: &Task) -> Result<std::io::Result<()>> {
        let mut reader = self.registry.blob(self.repository, &layer.descriptor).await?;
        let mut partial = Partial::new(self.folder)?;
        let mut file = tokio::fs::File::from_std(partial.file().try_clone()?);
        let mut buffer = vec![0; 256 * 1024];
        loop {
            match reader.read(&mut buffer).await {
                Ok(0) => break,
                Ok(read) => {
                    file.write_all(&buffer[..read]).await?;
                    task.advance(read as u64);
                }
                Err(error) => return Ok(Err(error)),
            }
        }
        file.flush().await?;
        partial.persist(path)?;
        Ok(Ok(()))
    }
}
