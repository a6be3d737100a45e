//! A registry on disk: one OCI layout for each image (OCI image-spec, image-layout.md). It needs no account and no server.
//!
//! Invariants: a blob is at its place only when all of it is; the index is replaced as a whole, by one writer at a time,
//! after what it names. So a reader never needs a lock, and a writer that is killed leaves no more than a [`Partial`] file behind.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;

use super::verify::{Verified, is_wrong_content};
use super::{BlobReader, Manifest, Registry, expand};
use crate::digest::Digest;
use crate::engine::Login;
use crate::error::{Error, Result};
use crate::image::reference::{Repository, Version};
use crate::image::{Content, Descriptor, Layer, Object, media_type};
use crate::partial::Partial;
use crate::progress::Task;

/// The annotation that holds a tag (OCI image-spec, annotations.md).
pub const REF_NAME: &str = "org.opencontainers.image.ref.name";
const INDEX: &str = "index.json";
const MARKER: &str = "oci-layout";
/// Beside the layouts, not in them: what is in a layout belongs to the specification.
const LOCK: &str = ".imgforge.lock";

/// OCI layouts below one folder.
#[derive(Debug, Clone)]
pub struct Layout {
    /// The project's folder: where relative paths start.
    base: PathBuf,
    /// `PATH` of `oci:PATH`, as written.
    written: String,
    project: String,
}

impl Layout {
    /// The layouts of `oci:PATH`, where `pattern` is that PATH, from the project's folder `base`. `{image}` in it stands
    /// for the image's name; a pattern without it gets one folder per image below it.
    pub fn new(base: impl Into<PathBuf>, pattern: impl Into<String>, project: impl Into<String>) -> Self {
        let mut written: String = pattern.into();
        if !written.contains("{image}") {
            written = format!("{}/{{image}}", written.trim_end_matches('/'));
        }
        Layout { base: base.into(), written, project: project.into() }
    }

    /// The folder of one repository's layout.
    pub fn folder(&self, repository: &Repository) -> PathBuf {
        let root = repository.host.strip_prefix("oci:").unwrap_or(&repository.host);
        self.base.join(root).join(&repository.path)
    }

    fn lock_file(&self, repository: &Repository) -> PathBuf {
        let root = repository.host.strip_prefix("oci:").unwrap_or(&repository.host);
        self.base.join(root).join(LOCK)
    }

    fn blob_path(&self, repository: &Repository, digest: &Digest) -> PathBuf {
        self.folder(repository).join("blobs").join("sha256").join(digest.hex())
    }

    /// Parts of the path before the one with `{image}` are the host, so that a repository reads as it is written.
    fn split(&self) -> (&str, &str) {
        let at = self.written.find("{image}").unwrap_or(self.written.len());
        match self.written[..at].rfind('/') {
            Some(slash) => (&self.written[..slash], &self.written[slash + 1..]),
            None => (".", &self.written),
        }
    }

    /// Runs blocking file work.
    async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
        tokio::task::spawn_blocking(work)
            .await
            .map_err(|error| Error::failed("file work broke off").because(error))?
    }

    async fn put_from(
        &self,
        repository: &Repository,
        source: BlobReader,
        descriptor: &Descriptor,
    ) -> Result<()> {
        let path = self.blob_path(repository, &descriptor.digest);
        let folder = blob_folder(&path)?;
        let mut reader = source;
        let mut partial = Partial::new(&folder)?;
        let mut file = tokio::fs::File::from_std(partial.file().try_clone()?);
        tokio::io::copy(&mut reader, &mut file).await?;
        file.sync_data().await?;
        partial.persist(&path)
    }
}

fn blob_folder(blob: &Path) -> Result<PathBuf> {
    let folder = blob.parent().expect("a blob is in a folder").to_path_buf();
    fs_err::create_dir_all(&folder)?;
    Ok(folder)
}

/// Writes a file so that it is there as a whole or not at all, and stays there when the power goes.
fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let folder = path.parent().expect("a file is in a folder");
    fs_err::create_dir_all(folder)?;
    let mut partial = Partial::new(folder)?;
    partial.file().write_all(bytes)?;
    partial.file().sync_all()?;
    partial.persist(path)?;
    File::open(folder)?.sync_all()?;
    Ok(())
}

/// The index of a layout. Fields and entries of others stay.
#[derive(Debug, Serialize, Deserialize)]
struct Index {
    manifests: Vec<Descriptor>,
    #[serde(flatten)]
    rest: Object,
}

impl Index {
    fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(INDEX);
        let bytes = match fs_err::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Index::empty()),
            Err(error) => return Err(error.into()),
        };
        serde_json::from_slice(&bytes).map_err(|error| {
            Error::failed(format!("{} is not the index of an OCI layout", path.display()))
                .help(format!("remove {} and push again", folder.display()))
                .because(error)
        })
    }

    fn empty() -> Self {
        let mut rest = Object::new();
        rest.insert("schemaVersion".into(), 2.into());
        rest.insert("mediaType".into(), media_type::OCI_INDEX.into());
        Index { manifests: Vec::new(), rest }
    }

    fn find(&self, version: &Version) -> Option<&Descriptor> {
        self.manifests.iter().find(|entry| match version {
            Version::Tag(tag) => ref_name(entry) == Some(tag.as_str()),
            Version::Digest(digest) => entry.digest == *digest,
        })
    }

    /// Names a manifest. A tag moves; a digest alone is listed once.
    fn put(&mut self, version: &Version, mut entry: Descriptor) {
        match version {
            Version::Tag(tag) => {
                self.manifests.retain(|old| {
                    let unnamed_same = old.digest == entry.digest && ref_name(old).is_none();
                    ref_name(old) != Some(tag.as_str()) && !unnamed_same
                });
                entry.rest.insert("annotations".into(), json!({REF_NAME: tag.as_str()}));
                self.manifests.push(entry);
            }
            Version::Digest(_) => {
                if self.find(version).is_none() {
                    self.manifests.push(entry);
                }
            }
        }
    }
}

fn ref_name(entry: &Descriptor) -> Option<&str> {
    entry.rest.get("annotations")?.get(REF_NAME)?.as_str()
}

#[async_trait]
impl Registry for Layout {
    fn describe(&self) -> String {
        format!("oci:{}", self.split().0)
    }

    fn repository(&self, image: &str) -> Result<Repository> {
        let (root, rest) = self.split();
        let path = expand(rest, &self.project, image);
        if path.is_empty() || path.split('/').any(|part| part.is_empty() || part == "." || part == "..") {
            return Err(Error::config(format!("oci:{} gives no folder for the image {image}", self.written))
                .help("write oci:PATH"));
        }
        Ok(Repository { host: format!("oci:{}", expand(root, &self.project, image)), path })
    }

    fn is_remote(&self) -> bool {
        false
    }

    async fn login(&self, _: &Repository) -> Result<Option<Login>> {
        Ok(None)
    }

    fn content(&self, repository: &Repository, digest: &Digest) -> Content {
        Content::File(Arc::new(self.blob_path(repository, digest)))
    }

    async fn prepare(&self, repository: &Repository) -> Result<()> {
        let marker = self.folder(repository).join(MARKER);
        Self::blocking(move || match marker.exists() {
            true => Ok(()),
            false => write_whole(&marker, br#"{"imageLayoutVersion":"1.0.0"}"#),
        })
        .await
    }

    async fn manifest(&self, repository: &Repository, version: &Version) -> Result<Option<Manifest>> {
        let index = Index::read(&self.folder(repository))?;
        let listed = index.find(version).cloned();
        let digest = match (&listed, version) {
            (Some(entry), _) => entry.digest,
            // A child of an index is not listed at the top.
            (None, Version::Digest(digest)) => *digest,
            (None, Version::Tag(_)) => return Ok(None),
        };
        let path = self.blob_path(repository, &digest);
        let bytes = match fs_err::tokio::read(&path).await {
            Ok(bytes) => Bytes::from(bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound && listed.is_none() => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        if Digest::of(&bytes) != digest {
            return Err(Error::failed(format!(
                "{} does not have the digest that it is named by",
                path.display()
            ))
            .help(format!("remove {} and push again", self.folder(repository).display())));
        }
        let written = serde_json::from_slice::<Object>(&bytes)
            .ok()
            .and_then(|fields| fields.get("mediaType").and_then(Value::as_str).map(str::to_owned));
        let media_type = listed.map(|entry| entry.media_type).or(written).unwrap_or_default();
        Ok(Some(Manifest { media_type, digest, bytes }))
    }

    async fn head(&self, repository: &Repository, version: &Version) -> Result<Option<Digest>> {
        let index = Index::read(&self.folder(repository))?;
        Ok(index.find(version).map(|entry| entry.digest))
    }

    async fn has_blob(&self, repository: &Repository, digest: &Digest) -> Result<bool> {
        Ok(fs_err::tokio::try_exists(self.blob_path(repository, digest)).await?)
    }

    async fn blob(&self, repository: &Repository, descriptor: &Descriptor) -> Result<BlobReader> {
        let file = fs_err::tokio::File::open(self.blob_path(repository, &descriptor.digest)).await?;
        Ok(Box::new(Verified::new(file, descriptor.digest, descriptor.size)))
    }

    async fn put_layer(&self, repository: &Repository, layer: &Layer, task: &Task) -> Result<()> {
        let descriptor = &layer.descriptor;
        match &layer.content {
            Content::Memory(bytes) => {
                self.put_bytes(repository, descriptor, bytes.clone()).await?;
            }
            Content::File(from) => {
                let to = self.blob_path(repository, &descriptor.digest);
                check_file(from, descriptor).await?;
                if !link(from, &to)? {
                    let file = fs_err::tokio::File::open(from.as_path()).await?;
                    let reader = Verified::new(file, descriptor.digest, descriptor.size);
                    self.put_from(repository, Box::new(reader), descriptor).await?;
                }
            }
            Content::Registry(from) => {
                return Err(Error::failed(format!(
                    "the layer {} is still in {from}",
                    descriptor.digest.short()
                ))
                .help("its blob has to be read from there before it can be written to a layout"));
            }
        }
        task.advance(descriptor.size);
        Ok(())
    }

    async fn put_bytes(&self, repository: &Repository, descriptor: &Descriptor, bytes: Bytes) -> Result<()> {
        let reader = Verified::new(io::Cursor::new(bytes), descriptor.digest, descriptor.size);
        self.put_from(repository, Box::new(reader), descriptor).await
    }

    async fn put_manifest(
        &self,
        repository: &Repository,
        version: &Version,
        media_type: &str,
        bytes: Bytes,
    ) -> Result<Digest> {
        let digest = Digest::of(&bytes);
        let entry = Descriptor::new(media_type, digest, bytes.len() as u64);
        self.put_bytes(repository, &entry, bytes).await?;
        let (folder, lock, version) = (self.folder(repository), self.lock_file(repository), version.clone());
        Self::blocking(move || {
            let lock = fs_err::File::create(lock)?;
            // Given back when the file is closed, also by the end of a killed process.
            lock.file().lock()?;
            let mut index = Index::read(&folder)?;
            index.put(&version, entry);
            let text = serde_json::to_vec(&index).expect("an index can be written");
            write_whole(&folder.join(INDEX), &text)
        })
        .await?;
        Ok(digest)
    }
}

/// Reads a file to its end to see that it is the blob.
async fn check_file(path: &Path, descriptor: &Descriptor) -> Result<()> {
    let file = fs_err::tokio::File::open(path).await?;
    let mut reader = Verified::new(file, descriptor.digest, descriptor.size);
    let mut buffer = vec![0; 256 * 1024];
    loop {
        match reader.read(&mut buffer).await {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(error) if is_wrong_content(&error) || error.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(Error::failed(format!("{} is no longer the layer that it was", path.display()))
                    .help(format!("remove {} and run the same command again", path.display()))
                    .because(error));
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Gives the file a second name, which takes no space. False when the file system cannot.
fn link(from: &Path, to: &Path) -> Result<bool> {
    blob_folder(to)?;
    match std::fs::hard_link(from, to) {
        Ok(()) => Ok(true),
        Err(error) => Ok(error.kind() == io::ErrorKind::AlreadyExists),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_reads_as_its_folder() {
        for (pattern, shown, folder) in [
            (".imgforge/images", "oci:.imgforge/images/web", "/p/.imgforge/images/web"),
            ("out/{project}-{image}", "oci:out/shop-web", "/p/out/shop-web"),
            ("out/{image}/layout", "oci:out/web/layout", "/p/out/web/layout"),
            ("/srv/images/", "oci:/srv/images/web", "/srv/images/web"),
            ("{image}", "oci:./web", "/p/./web"),
        ] {
            let layout = Layout::new("/p", pattern, "shop");
            let repository = layout.repository("web").unwrap();
            assert_eq!(repository.to_string(), shown);
            assert_eq!(layout.folder(&repository), Path::new(folder));
        }
        assert!(Layout::new("/p", "x", "shop").repository("../up").is_err());
    }

    #[test]
    fn a_tag_moves_and_foreign_entries_stay() {
        let mut index: Index =
            serde_json::from_value(json!({"schemaVersion": 2, "manifests": [], "x": 1})).unwrap();
        let manifest = |text: &str| Descriptor::new(media_type::OCI_MANIFEST, Digest::of(text.as_bytes()), 1);
        let tag = |text: &str| Version::Tag(text.parse().unwrap());
        index.put(&Version::Digest(Digest::of(b"a")), manifest("a"));
        index.put(&tag("one"), manifest("a"));
        index.put(&tag("two"), manifest("a"));
        index.put(&tag("one"), manifest("b"));
        index.put(&Version::Digest(Digest::of(b"b")), manifest("b"));
        let listed: Vec<_> = index.manifests.iter().map(|entry| (ref_name(entry), entry.digest)).collect();
        assert_eq!(listed, [(Some("two"), Digest::of(b"a")), (Some("one"), Digest::of(b"b"))]);
        assert_eq!(index.rest["x"], 1);
    }
}
