//! An image as it is in the registry: manifest and config of each platform, no layers.

use futures_util::future::try_join_all;

use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::image::Image;
use crate::image::index::Index;
use crate::image::reference::Reference;
use crate::registry::kept::Named;
use crate::registry::read::Reader;

/// What a reference names.
#[derive(Debug, Clone)]
pub(super) struct Found {
    /// The digest of the manifest that was named.
    pub digest: Digest,
    /// When it is an index: the index.
    pub index: Option<Index>,
    /// The images, each with its manifest's digest; of an index in its order.
    pub images: Vec<(Digest, Image)>,
}

/// Reads what `reference` names.
///
/// # Errors
/// The registry's; there is no such image.
pub(super) async fn read(reader: &Reader<'_>, reference: &Reference) -> Result<Found> {
    let (repository, version) = (&reference.repository, reference.version());
    let named = reader.named(repository, &version).await?.ok_or_else(|| {
        Error::refused(format!("there is no image {reference}"))
            .help("check its name; `imgforge push` or `imgforge release` puts images there")
    })?;
    let (digest, index) = match named {
        Named::Image(image) => {
            let digest = image.digest();
            return Ok(Found { digest, index: None, images: vec![(digest, *image)] });
        }
        Named::Index { digest, index } => (digest, *index),
    };
    let images = try_join_all(index.images().map(async |entry| {
        Ok::<_, Error>((entry.digest, reader.child(repository, &version, entry.digest).await?))
    }))
    .await?;
    Ok(Found { digest, index: Some(index), images })
}
