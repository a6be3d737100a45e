//! Reads what files an image's layers make, without keeping the layers.
//!
//! Invariant (contract 6): a secret layer passes through memory, as every layer does here; nothing is written.

use std::io::Read;
use std::ops::Range;

use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use tokio_util::io::ReaderStream;

use super::Registry;
use crate::engine::pipe;
use crate::error::{Error, Result};
use crate::image::reference::Repository;
use crate::image::{Content, Image, Layer};
use crate::layer::files::Files;
use crate::progress::Reporter;

/// How much is read at a time.
const CHUNK: usize = 128 * 1024;

/// Puts the layers `range` of `image` (bottom first) over `files`.
///
/// # Errors
/// The registry's; a layer of a kind that cannot be read, or that is no tar.
pub async fn read(
    registry: &dyn Registry,
    repository: &Repository,
    image: &Image,
    range: Range<usize>,
    mut files: Files,
    progress: &Reporter,
) -> Result<Files> {
    for layer in &image.layers()[range] {
        let (short, size) = (layer.descriptor.digest.short(), layer.descriptor.size);
        let task = progress.transfer(repository.path.as_str(), format!("read layer {short}"), size);
        files = apply(registry, repository, layer, files)
            .await
            .map_err(|error| error.context(format!("layer {short} of {repository} cannot be read")))?;
        task.done("");
    }
    Ok(files)
}

async fn apply(
    registry: &dyn Registry,
    repository: &Repository,
    layer: &Layer,
    mut files: Files,
) -> Result<Files> {
    let compression = Compression::of(&layer.descriptor.media_type)?;
    let over = move |bytes: Box<dyn Read>| -> Result<Files> {
        let mut tar = match compression {
            Compression::None => bytes,
            Compression::Gzip => Box::new(MultiGzDecoder::new(bytes)) as Box<dyn Read>,
        };
        files.apply(&mut tar)?;
        // To the end, where the blob's digest is checked.
        std::io::copy(&mut tar, &mut std::io::sink())?;
        Ok(files)
    };
    let done = match &layer.content {
        Content::Memory(bytes) => {
            let bytes: Bytes = bytes.clone();
            tokio::task::spawn_blocking(move || over(Box::new(std::io::Cursor::new(bytes))))
        }
        Content::File(path) => {
            let file = fs_err::File::open(path.as_path())?;
            tokio::task::spawn_blocking(move || over(Box::new(std::io::BufReader::new(file))))
        }
        Content::Registry(_) => {
            let blob = registry.blob(repository, &layer.descriptor).await?;
            pipe::read(ReaderStream::with_capacity(blob, CHUNK), move |reader| over(Box::new(reader)))
        }
    };
    done.await.map_err(|error| Error::failed("reading broke off").because(error))?
}

/// How a layer's blob is packed.
#[derive(Debug, Clone, Copy)]
enum Compression {
    None,
    Gzip,
}

impl Compression {
    /// By the media type (OCI image-spec, layer.md; Docker's own has always been gzip or plain).
    fn of(media_type: &str) -> Result<Self> {
        match media_type {
            gzip if gzip.ends_with("tar+gzip") || gzip.ends_with("tar.gzip") => Ok(Compression::Gzip),
            plain if plain.ends_with(".tar") || plain.ends_with("tar") => Ok(Compression::None),
            other => Err(Error::failed(format!("layers of type {other} cannot be read"))
                .help("those that are packed with gzip, or not at all, can")),
        }
    }
}
