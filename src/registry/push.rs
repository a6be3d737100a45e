//! Sends images to a registry, all of them in one pass: what is missing is asked for at once, each blob is sent once
//! however many images have it, and a manifest follows as soon as the blobs of its image are there.

use futures_util::future::try_join_all;
use tokio::try_join;

use self::blobs::{Blobs, Share};
use super::{Pushed, Registry};
use crate::error::Result;
use crate::image::Image;
use crate::image::reference::{Reference, Repository, Tag, Version};
use crate::progress::Reporter;

mod blobs;

/// One image that is to be in a repository.
#[derive(Debug, Clone, Copy)]
pub struct Parcel<'p> {
    /// The image's name, for progress.
    pub subject: &'p str,
    /// The image.
    pub image: &'p Image,
    /// Where it is to be.
    pub repository: &'p Repository,
    /// Under which tags; under its digest alone when there are none.
    pub tags: &'p [Tag],
}

/// Sends one image. Pushing the same again sends nothing.
///
/// # Errors
/// Those of the registry. Blobs that got there before it failed are there for the next try.
pub async fn push(
    subject: &str,
    image: &Image,
    registry: &dyn Registry,
    repository: &Repository,
    tags: &[Tag],
    progress: &Reporter,
) -> Result<Pushed> {
    let parcel = Parcel { subject, image, repository, tags };
    let mut pushed = push_all(&[parcel], registry, progress, |_| {}).await?;
    Ok(pushed.remove(0))
}

/// Sends all of `parcels`; what they came to, in their order. `arrived` is told of each as soon as it is there.
///
/// # Errors
/// Those of the registry. An image that had arrived before is there, and so are the blobs that got through.
pub async fn push_all(
    parcels: &[Parcel<'_>],
    registry: &dyn Registry,
    progress: &Reporter,
    arrived: impl Fn(&Parcel<'_>),
) -> Result<Vec<Pushed>> {
    registry.tell(progress);
    let seen = try_join_all(parcels.iter().map(|parcel| look(parcel, registry))).await?;
    let mut blobs = Blobs::new(registry, progress);
    let mut needs = Vec::new();
    for (parcel, seen) in parcels.iter().zip(seen) {
        needs.push(match seen.is_known {
            true => {
                let digest = parcel.image.digest();
                progress.task(parcel.subject, "push").reused(format!("{} is there", digest.short()));
                Needs { present: blobs.has(parcel), shares: Vec::new(), names: seen.unnamed }
            }
            false => Needs { present: 0, shares: blobs.wants(parcel), names: seen.unnamed },
        });
    }
    blobs.ask().await?;
    let (blobs, arrived) = (&blobs, &arrived);
    let images = parcels.iter().zip(&needs).map(async |(parcel, needs)| {
        let (mut counts, uploaded) = blobs.arrive(parcel.subject, &needs.shares).await;
        counts.present += needs.present;
        let Parcel { image, repository, .. } = *parcel;
        for name in &needs.names {
            let (media_type, bytes) = (image.kind().manifest(), image.manifest_bytes());
            registry.put_manifest(repository, name, media_type, bytes).await?;
        }
        arrived(parcel);
        Ok(Pushed {
            reference: Reference { repository: repository.clone(), tag: None, digest: Some(image.digest()) },
            image: image.with_contents(|layer| registry.content(repository, &layer.descriptor.digest)),
            uploaded,
            blobs: counts,
        })
    });
    let ((), pushed) = try_join!(blobs.send(), try_join_all(images))?;
    Ok(pushed)
}

/// What an image still needs.
struct Needs {
    /// How many of its blobs are there, when all of them are.
    present: usize,
    /// Otherwise its blobs.
    shares: Vec<Share>,
    /// The names that its manifest has to get.
    names: Vec<Version>,
}

/// What of an image is in the registry already.
struct Seen {
    /// Its manifest is there. A registry takes a manifest only with all its blobs, so they are there too.
    is_known: bool,
    /// The names that do not stand for it yet.
    unnamed: Vec<Version>,
}

async fn look(parcel: &Parcel<'_>, registry: &dyn Registry) -> Result<Seen> {
    let Parcel { image, repository, tags, .. } = parcel;
    registry.prepare(repository).await?;
    let digest = image.digest();
    let by_digest = Version::Digest(digest);
    let tags: Vec<Version> = tags.iter().cloned().map(Version::Tag).collect();
    let named = try_join_all(tags.iter().map(|version| registry.head(repository, version)));
    let (known, named) = try_join!(registry.head(repository, &by_digest), named)?;
    let mut unnamed: Vec<Version> = tags
        .iter()
        .zip(named)
        .filter(|(_, there)| *there != Some(digest))
        .map(|(tag, _)| tag.clone())
        .collect();
    if tags.is_empty() && known.is_none() {
        unnamed.push(by_digest);
    }
    Ok(Seen { is_known: known.is_some(), unnamed })
}
