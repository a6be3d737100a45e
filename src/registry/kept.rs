//! Manifests and configs that were read or made before, kept by the digest that names them. What a digest names never
//! changes, so it is asked for once: rotating what was released from this machine begins with its first upload.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::Registry;
use super::read::image_in;
use crate::digest::Digest;
use crate::engine::cache::{LayerCache, MANIFESTS};
use crate::error::Result;
use crate::image::Image;
use crate::image::index::{Index, is_index};
use crate::image::reference::Repository;

/// A manifest, and the config of an image, as texts.
#[derive(Serialize, Deserialize)]
struct Document {
    media_type: String,
    manifest: String,
    /// None for an index.
    #[serde(default)]
    config: Option<String>,
}

/// What a digest names.
#[derive(Debug, Clone)]
pub enum Named {
    /// One image.
    Image(Box<Image>),
    /// One for each platform.
    Index {
        /// As it was read: written again it may be other bytes.
        digest: Digest,
        /// What it lists.
        index: Box<Index>,
    },
}

/// Keeps them in a layer cache.
#[derive(Debug, Clone)]
pub struct Kept(LayerCache);

impl Kept {
    /// In `cache`.
    pub fn new(cache: LayerCache) -> Self {
        Kept(cache)
    }

    /// What was kept of `repository`. Another repository may not have it, so it is asked about its own.
    pub(super) fn find(
        &self,
        registry: &dyn Registry,
        repository: &Repository,
        digest: Digest,
    ) -> Option<Named> {
        let Document { media_type, manifest, config } =
            self.0.document(MANIFESTS, &name(repository, digest))?;
        if Digest::of(manifest.as_bytes()) != digest {
            return None;
        }
        if is_index(&media_type) {
            let index = Box::new(Index::parse(&media_type, manifest.as_bytes()).ok()?);
            return Some(Named::Index { digest, index });
        }
        let image = image_in(registry, repository, manifest.into(), config?.into()).ok()?;
        Some(Named::Image(Box::new(image)))
    }

    /// Keeps an image that is in `repository`.
    ///
    /// # Errors
    /// Those of writing.
    pub(super) fn keep_image(&self, repository: &Repository, image: &Image) -> Result<()> {
        let media_type = image.kind().manifest();
        self.keep(repository, media_type, image.manifest_bytes(), Some(image.config_bytes()))
    }

    /// Keeps an index that is in `repository`: its media type and bytes.
    ///
    /// # Errors
    /// Those of writing.
    pub(super) fn keep_index(&self, repository: &Repository, media_type: &str, bytes: Bytes) -> Result<()> {
        self.keep(repository, media_type, bytes, None)
    }

    fn keep(
        &self,
        repository: &Repository,
        media_type: &str,
        manifest: Bytes,
        config: Option<Bytes>,
    ) -> Result<()> {
        let name = name(repository, Digest::of(&manifest));
        let text = |bytes: Bytes| String::from_utf8(bytes.into());
        let (Ok(manifest), Ok(config)) = (text(manifest), config.map(text).transpose()) else {
            return Ok(());
        };
        self.0.put_document(
            MANIFESTS,
            &name,
            &Document { media_type: media_type.to_owned(), manifest, config },
        )
    }
}

fn name(repository: &Repository, digest: Digest) -> String {
    Digest::of(format!("{repository}@{digest}").as_bytes()).hex()
}
