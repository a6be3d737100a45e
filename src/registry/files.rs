//! Reads what files an image's layers make, without keeping the layers.
//!
//! Invariant (contract 6): a secret layer passes through memory, as every layer does here; nothing is written.

use std::io::Read;
use std::ops::Range;

use bytes::Bytes;
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
    let over = move |blob: Box<dyn Read>| -> Result<Files> {
        files.apply(blob)?;
        Ok(files)
    };
    let done = match &layer.content {
        Content::Memory(bytes) => {
            let bytes: Bytes = bytes.clone();
            tokio::task::spawn_blocking(move || over(Box::new(std::io::Cursor::new(bytes))))
        }
        Content::File(path) => {
            let file = fs_err::File::open(path.as_path())?;
            tokio::task::spawn_blocking(move || over(Box::new(file)))
        }
        Content::Registry(_) => {
            let blob = registry.blob(repository, &layer.descriptor).await?;
            pipe::read(ReaderStream::with_capacity(blob, CHUNK), move |reader| over(Box::new(reader)))
        }
    };
    done.await.map_err(|error| Error::failed("reading broke off").because(error))?
}
