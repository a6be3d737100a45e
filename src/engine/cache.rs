//! What was taken out of an engine before: layers as blobs, images as configs, so that the same is not compressed again.
//!
//! Everything is named by a digest and written under another name first, so that two runs at once and a killed one leave
//! nothing wrong. Invariant (contract 6): only layers without secrets get here; the secret layer is made in memory, later.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::config::Compression;
use crate::digest::{DiffId, Digest};
use crate::error::Result;
use crate::image::{Content, Descriptor, Kind, Layer};
use crate::layer::LayerWriter;
use crate::partial::Partial;

mod prune;

/// The folder of manifests and configs, each by the digest that names it.
pub const MANIFESTS: &str = "manifests";
/// The folder of compiled modules.
const COMPILED: &str = "compiled";
/// How long a folder to work in is left alone: no build takes that long.
const LEFT: Duration = Duration::from_secs(24 * 60 * 60);

/// A folder of layers: `blobs/DIGEST`, `layers/DIFF_ID.json` (which blob it is), `images/ID` (a config), `names/NAME`
/// (which layer `docker save` calls so, or which one was made from what).
///
/// Everything but blobs is about tars, so that one folder holds the same layer compressed in both ways.
#[derive(Debug, Clone)]
pub struct LayerCache {
    folder: PathBuf,
    compression: Compression,
}

/// What `layers/DIFF_ID.json` holds, and `layers/DIFF_ID.zstd.json`.
#[derive(Serialize, Deserialize)]
struct Known {
    digest: Digest,
    size: u64,
}

impl LayerCache {
    /// The cache in `folder`, which is made when something is put there. Its layers are gzip.
    pub fn new(folder: PathBuf) -> Self {
        LayerCache { folder, compression: Compression::default() }
    }

    /// The same cache, whose layers are compressed so: those that are not are none of its.
    pub fn compressing(self, compression: Compression) -> Self {
        LayerCache { compression, ..self }
    }

    /// How its layers are compressed.
    pub fn compression(&self) -> Compression {
        self.compression
    }

    /// The name of what tells of a layer.
    fn known_as(&self, diff_id: DiffId) -> String {
        match self.compression {
            Compression::Gzip => format!("{}.json", diff_id.0.hex()),
            Compression::Zstd => format!("{}.zstd.json", diff_id.0.hex()),
        }
    }

    fn file_layer(&self, diff_id: DiffId, digest: Digest, size: u64, blob: PathBuf) -> Layer {
        let descriptor = Descriptor::new(Kind::oci_layer(self.compression), digest, size);
        Layer { descriptor, diff_id, content: Content::File(Arc::new(blob)) }
    }

    /// The folder of blobs, each named by its digest.
    pub fn blobs(&self) -> PathBuf {
        self.folder.join("blobs")
    }

    /// The layer with this diff_id, when its blob is there and whole in size. Who sends it checks its digest.
    pub fn layer(&self, diff_id: DiffId) -> Option<Layer> {
        let text = fs_err::read(self.path("layers", &self.known_as(diff_id))).ok()?;
        let Known { digest, size } = serde_json::from_slice(&text).ok()?;
        let blob = self.path("blobs", &digest.hex());
        let whole = fs_err::metadata(&blob).is_ok_and(|metadata| metadata.len() == size);
        whole.then(|| {
            Self::mark(&blob);
            self.file_layer(diff_id, digest, size, blob)
        })
    }

    /// Compresses a layer's tar into the cache.
    ///
    /// # Errors
    /// Those of reading and writing; nothing half-made stays.
    pub fn put(&self, mut tar: impl Read) -> Result<Layer> {
        self.put_written(|out| Ok(io::copy(&mut tar, out).map(drop)?))
    }

    /// Compresses the layer's tar that `write` writes into the cache.
    ///
    /// # Errors
    /// Those of `write` and of writing; nothing half-made stays.
    pub fn put_written(&self, write: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<Layer> {
        let folder = self.blobs();
        fs_err::create_dir_all(&folder)?;
        let mut partial = Partial::new(&folder)?;
        let mut writer =
            LayerWriter::new(self.compression, io::BufWriter::with_capacity(1 << 20, partial.file()));
        write(&mut writer)?;
        let (mut out, digests) = writer.finish()?;
        out.flush()?;
        drop(out);
        let blob = folder.join(digests.digest.hex());
        partial.persist(&blob)?;
        let known = Known { digest: digests.digest, size: digests.size };
        let text = serde_json::to_vec(&known).map_err(io::Error::from)?;
        self.write("layers", &self.known_as(digests.diff_id), &text)?;
        Ok(self.file_layer(digests.diff_id, digests.digest, digests.size, blob))
    }

    /// A file without a name, gone when it is closed, on the disk that the cache is on.
    ///
    /// # Errors
    /// Those of making it.
    pub fn scratch(&self) -> Result<std::fs::File> {
        fs_err::create_dir_all(&self.folder)?;
        Ok(tempfile::tempfile_in(&self.folder)?)
    }

    /// The config of an image that was exported whole.
    pub fn config(&self, id: Digest) -> Option<Bytes> {
        let config = fs_err::read(self.path("images", &id.hex())).ok()?;
        (Digest::of(&config) == id).then(|| config.into())
    }

    /// Remembers that all layers of an image are here.
    ///
    /// # Errors
    /// Those of writing.
    pub fn put_config(&self, id: Digest, config: &[u8]) -> Result<()> {
        self.write("images", &id.hex(), config)
    }

    /// Which layer a daemon calls `name`. Daemons derive these names from what is in the layer and below it.
    pub fn named(&self, name: &str) -> Option<DiffId> {
        let text = fs_err::read_to_string(self.path("names", name)).ok()?;
        Some(DiffId(text.trim().parse().ok()?))
    }

    /// Remembers it.
    ///
    /// # Errors
    /// Those of writing.
    pub fn put_name(&self, name: &str, diff_id: DiffId) -> Result<()> {
        self.write("names", name, diff_id.to_string().as_bytes())
    }

    /// A document that was kept: what a base has, what files were like. `None` when there is none that can be read.
    pub fn document<T: DeserializeOwned>(&self, kind: &str, name: &str) -> Option<T> {
        serde_json::from_slice(&fs_err::read(self.path(kind, name)).ok()?).ok()
    }

    /// Keeps it.
    ///
    /// # Errors
    /// Those of writing.
    pub fn put_document(&self, kind: &str, name: &str, document: &impl Serialize) -> Result<()> {
        self.write(kind, name, &serde_json::to_vec(document).map_err(io::Error::from)?)
    }

    /// What a module compiled to that was kept by this key; nothing for one that could not be.
    pub fn compiled(&self, key: Digest) -> Option<Vec<u8>> {
        let path = self.path(COMPILED, &key.hex());
        let bytes = fs_err::read(&path).ok()?;
        Self::mark(&path);
        Some(bytes)
    }

    /// Keeps it.
    ///
    /// # Errors
    /// Those of writing.
    pub fn put_compiled(&self, key: Digest, bytes: &[u8]) -> Result<()> {
        self.write(COMPILED, &key.hex(), bytes)
    }

    /// A new folder in the cache's own, gone when it is dropped. What killed runs have left goes after a day.
    pub(super) fn workshop(&self, name: &str) -> Result<Workshop> {
        let folder = self.folder.join("work");
        fs_err::create_dir_all(&folder)?;
        sweep(&folder, LEFT);
        let plain: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        Ok(Workshop(tempfile::Builder::new().prefix(&format!("{plain}-")).tempdir_in(&folder)?))
    }

    pub(super) fn path(&self, kind: &str, name: &str) -> PathBuf {
        self.folder.join(kind).join(name)
    }

    fn write(&self, kind: &str, name: &str, bytes: &[u8]) -> Result<()> {
        let folder = self.folder.join(kind);
        fs_err::create_dir_all(&folder)?;
        let mut partial = Partial::new(&folder)?;
        partial.file().write_all(bytes)?;
        partial.persist(&folder.join(name))
    }
}

/// A folder to work in, gone when it is dropped.
#[derive(Debug)]
pub(super) struct Workshop(tempfile::TempDir);

impl Workshop {
    pub(super) fn path(&self) -> &Path {
        self.0.path()
    }
}

/// Removes files that were not written for so long, and folders that nothing was put into or taken out of. What cannot be
/// removed does no harm.
pub(super) fn sweep(folder: &Path, unused: Duration) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let age = entry.metadata().and_then(|metadata| metadata.modified()).map(|time| time.elapsed());
        if age.is_ok_and(|age| age.unwrap_or_default() >= unused) {
            tracing::debug!(path = %entry.path().display(), "removing what is not used any more");
            let _ = match entry.file_type() {
                Ok(kind) if kind.is_dir() => std::fs::remove_dir_all(entry.path()),
                _ => std::fs::remove_file(entry.path()),
            };
        }
    }
}

/// Whether a name is safe as a file's name: what `docker save` calls layers is.
pub fn is_plain(name: &str) -> bool {
    !name.is_empty()
        && Path::new(name).components().count() == 1
        && name.bytes().all(|b| b.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::packing::unpacked;

    fn cache() -> (tempfile::TempDir, LayerCache) {
        let dir = tempfile::tempdir().unwrap();
        let cache = LayerCache::new(dir.path().join("layers"));
        (dir, cache)
    }

    #[test]
    fn a_layer_is_found_by_its_diff_id() {
        let (_dir, cache) = cache();
        let layer = cache.put(&b"a tar"[..]).unwrap();
        assert_eq!(layer.diff_id, DiffId(Digest::of(b"a tar")));
        let found = cache.layer(layer.diff_id).unwrap();
        assert_eq!(found.descriptor, layer.descriptor);
        assert!(cache.layer(DiffId(Digest::of(b"another"))).is_none());
    }

    #[test]
    fn one_layer_is_kept_side_by_side_in_both_compressions_and_each_is_asked_for() {
        let (_dir, gzip) = cache();
        let zstd = gzip.clone().compressing(Compression::Zstd);
        let diff_id = gzip.put(&b"a tar"[..]).unwrap().diff_id;
        assert!(zstd.layer(diff_id).is_none());
        zstd.put(&b"a tar"[..]).unwrap();
        for (cache, compression) in [(gzip, Compression::Gzip), (zstd, Compression::Zstd)] {
            let layer = cache.layer(diff_id).unwrap();
            assert_eq!(layer.descriptor.media_type, Kind::oci_layer(compression));
            let Content::File(blob) = &layer.content else { panic!("{layer:?}") };
            let mut tar = Vec::new();
            unpacked(std::fs::File::open(blob.as_path()).unwrap()).unwrap().read_to_end(&mut tar).unwrap();
            assert_eq!(tar, b"a tar");
        }
    }

    #[test]
    fn a_blob_that_was_cut_is_not_taken() {
        let (dir, cache) = cache();
        let layer = cache.put(&b"a tar"[..]).unwrap();
        let blob = dir.path().join("layers/blobs").join(layer.descriptor.digest.hex());
        std::fs::write(blob, b"cut").unwrap();
        assert!(cache.layer(layer.diff_id).is_none());
    }

    #[test]
    fn a_config_that_was_changed_is_not_taken() {
        let (dir, cache) = cache();
        let id = Digest::of(b"{}");
        cache.put_config(id, b"{}").unwrap();
        assert_eq!(cache.config(id).as_deref(), Some(&b"{}"[..]));
        std::fs::write(dir.path().join("layers/images").join(id.hex()), b"{ }").unwrap();
        assert_eq!(cache.config(id), None);
    }

    #[test]
    fn a_reader_that_fails_leaves_nothing() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("gone"))
            }
        }
        let (dir, cache) = cache();
        assert!(cache.put(Broken).is_err());
        assert_eq!(std::fs::read_dir(dir.path().join("layers/blobs")).unwrap().count(), 0);
    }
}
