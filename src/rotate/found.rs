//! An image as it is in the registry: manifest and config of each platform, no layers.

use futures_util::future::try_join_all;

use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::image::Image;
use crate::image::index::{Index, is_index};
use crate::image::reference::Reference;
use crate::registry::{Registry, read};

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
pub(super) async fn read(registry: &dyn Registry, reference: &Reference) -> Result<Found> {
    let (repository, version) = (&reference.repository, reference.version());
    registry.will_write(repository);
    let manifest = registry.manifest(repository, &version).await?.ok_or_else(|| {
        Error::refused(format!("there is no image {reference}"))
            .help("check its name; `imgforge push` or `imgforge release` puts images there")
    })?;
    let digest = manifest.digest;
    if !is_index(&manifest.media_type) {
        let image = read::image(registry, repository, manifest).await?;
        return Ok(Found { digest, index: None, images: vec![(digest, image)] });
    }
    let index = Index::parse(&manifest.media_type, &manifest.bytes)
        .map_err(|error| error.context(format!("cannot read {reference}")))?;
    let images = try_join_all(index.images().map(async |entry| {
        let child = read::child(registry, repository, &version, entry.digest).await?;
        Ok::<_, Error>((entry.digest, read::image(registry, repository, child).await?))
    }))
    .await?;
    Ok(Found { digest, index: Some(index), images })
}
