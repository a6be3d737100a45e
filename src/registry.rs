//! Where images go. `push` is written once, over the trait.

use async_trait::async_trait;
use bytes::Bytes;
use serde::Serialize;
use tokio::io::AsyncRead;

use crate::digest::Digest;
use crate::engine::Login;
use crate::error::Result;
use crate::image::reference::{Reference, Repository, Version};
use crate::image::{Content, Descriptor, Image, Layer};
use crate::progress::{Reporter, Task};

pub mod auth;
pub mod ecr;
pub mod files;
pub mod kept;
pub mod layout;
pub mod push;
pub mod read;
pub mod remote;
pub mod verify;

/// A manifest as the registry has it.
#[derive(Debug, Clone)]
pub struct Manifest {
    /// Its media type, as answered.
    pub media_type: String,
    /// Its digest, checked against the bytes.
    pub digest: Digest,
    /// Its bytes.
    pub bytes: Bytes,
}

/// How a blob got there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sent {
    /// It was there.
    Present,
    /// Taken over from another repository of the registry.
    Mounted,
    /// Uploaded.
    Uploaded,
}

/// A blob's bytes as they come in. Its reader checks the digest when it ends.
pub type BlobReader = Box<dyn AsyncRead + Send + Unpin>;

/// One registry: where blobs and manifests of repositories live.
#[async_trait]
pub trait Registry: Send + Sync {
    /// For people: `oci:.imgforge/images`, `docker.io`, `ecr (eu-west-1)`.
    fn describe(&self) -> String;

    /// The repository for an image of imgforge.toml.
    ///
    /// # Errors
    /// A pattern that gives no valid name.
    fn repository(&self, image: &str) -> Result<Repository>;

    /// Whether a daemon or ECS could pull from here (a layout on disk cannot be pulled).
    fn is_remote(&self) -> bool;

    /// The login for a daemon that is to pull from or push to `repository`, when one is known.
    async fn login(&self, repository: &Repository) -> Result<Option<Login>>;

    /// Where the bytes of a blob of this repository are, for whoever holds an image that was read from it.
    fn content(&self, repository: &Repository, _digest: &Digest) -> Content {
        Content::Registry(repository.to_string().into())
    }

    /// What about the repository should worry its owner (tags that can be moved, no scan); for `doctor`.
    async fn problems(&self, _repository: &Repository) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    /// Why nothing with secrets should be put into the repository: anyone could read it.
    async fn exposed(&self, _repository: &Repository) -> Result<Option<String>> {
        Ok(None)
    }

    /// Tells that something will be put there, before anything is read: one login then does for both.
    fn will_write(&self, _repository: &Repository) {}

    /// Tells `progress` what happens on the way from now on that is worth knowing: a registry that limits requests.
    fn tell(&self, _progress: &Reporter) {}

    /// Makes the repository where the registry does not do that on push. Called before anything is put there.
    async fn prepare(&self, repository: &Repository) -> Result<()>;

    /// Reads a manifest; `None` when it is not there (or the repository is not).
    async fn manifest(&self, repository: &Repository, version: &Version) -> Result<Option<Manifest>>;

    /// The digest of a manifest without reading it; `None` when it is not there.
    async fn head(&self, repository: &Repository, version: &Version) -> Result<Option<Digest>>;

    /// Whether the repository has the blob.
    async fn has_blob(&self, repository: &Repository, digest: &Digest) -> Result<bool>;

    /// Opens a blob.
    ///
    /// # Errors
    /// It is not there. Reading fails at the end if the bytes do not have the digest.
    async fn blob(&self, repository: &Repository, descriptor: &Descriptor) -> Result<BlobReader>;

    /// Takes a blob over from another repository of the same registry that has it (distribution spec, "Mounting a blob from
    /// another repository"). False when it has to be put there instead.
    async fn mount(&self, _repository: &Repository, _digest: &Digest, _from: &Repository) -> Result<bool> {
        Ok(false)
    }

    /// Puts a layer's blob there. The caller has found it missing. Bytes are told to `task` as they go.
    async fn put_layer(&self, repository: &Repository, layer: &Layer, task: &Task) -> Result<()>;

    /// Puts a small blob (a config) there.
    async fn put_bytes(&self, repository: &Repository, descriptor: &Descriptor, bytes: Bytes) -> Result<()>;

    /// Puts a manifest under a tag or under its digest, and checks what the registry says it took.
    /// Under an immutable tag that already names this digest it is done.
    async fn put_manifest(
        &self,
        repository: &Repository,
        version: &Version,
        media_type: &str,
        bytes: Bytes,
    ) -> Result<Digest>;
}

/// An image that is in a registry.
#[derive(Debug, Clone)]
pub struct Pushed {
    /// By digest.
    pub reference: Reference,
    /// The image.
    pub image: Image,
    /// Bytes that were uploaded.
    pub uploaded: u64,
    /// Blobs uploaded, mounted, and present before.
    pub blobs: BlobCounts,
}

/// How many blobs got there in which way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct BlobCounts {
    /// Uploaded.
    pub uploaded: usize,
    /// Mounted from another repository.
    pub mounted: usize,
    /// There before.
    pub present: usize,
}

/// A pattern of `[registry] repository` with the names filled in.
pub fn expand(pattern: &str, project: &str, image: &str) -> String {
    pattern.replace("{image}", image).replace("{project}", project)
}
