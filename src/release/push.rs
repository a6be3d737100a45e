//! Every image of a release into the registry, each under the release's tag. Of an image for several platforms each has its
//! digest, and the tag names their index.

use futures_util::future::try_join_all;

use super::journal::Journal;
use super::summary::ReleasedSummary;
use super::{Delivered, Parts, observe, reader};
use crate::base::layout::fits;
use crate::digest::Digest;
use crate::engine::Built;
use crate::error::{Error, Result};
use crate::image::index::Index;
use crate::image::reference::{Reference, Repository, Tag, Version};
use crate::image::{Image, seam};
use crate::plan::Plan;
use crate::progress::Reporter;
use crate::registry::push::{self, Parcel};
use crate::registry::{BlobCounts, Pushed};

/// An image of imgforge.toml in the registry.
pub(super) struct PushedImage {
    pub name: String,
    /// By digest.
    pub reference: Reference,
    digest: Digest,
    /// At least one.
    platforms: Vec<PushedPlatform>,
}

/// What the engine knows of it for one platform.
pub(super) struct PushedPlatform {
    pub built: Built,
    /// As it was baked: its secret layer is in memory.
    pub image: Image,
    pushed: Pushed,
}

/// All images in one pass.
pub(super) async fn push_all(
    parts: &Parts,
    plan: &Plan,
    images: Vec<Delivered>,
    progress: &Reporter,
    journal: &Journal,
) -> Result<Vec<PushedImage>> {
    let registry = parts.registry()?;
    let grouped: Vec<&[Delivered]> =
        images.chunk_by(|one, next| one.built.image == next.built.image).collect();
    let names = grouped.iter().map(|platforms| Named::of(parts, plan, platforms));
    let names: Vec<Named> = try_join_all(names).await?;
    let parcels: Vec<Parcel<'_>> = grouped
        .iter()
        .zip(&names)
        .flat_map(|(platforms, named)| platforms.iter().map(|platform| named.parcel(platform)))
        .collect();
    // One that gets no tag is a part of an index.
    let arrived = |parcel: &Parcel<'_>| {
        if !parcel.tags.is_empty() {
            journal.did(format!("pushed {}", parcel.subject));
        }
    };
    let mut pushed = push::push_all(&parcels, registry, progress, arrived).await?.into_iter();
    try_join_all(grouped.into_iter().zip(names).map(|(platforms, named)| {
        let pushed = platforms.iter().zip(pushed.by_ref()).map(|(delivered, pushed)| PushedPlatform {
            built: delivered.built.clone(),
            image: delivered.image.clone(),
            pushed,
        });
        named.given(parts, pushed.collect(), journal)
    }))
    .await
}

/// What an image of imgforge.toml is going to be called.
struct Named {
    name: String,
    repository: Repository,
    tag: Tag,
    /// What the tag names, when it is not the one image itself.
    index: Option<Index>,
    /// The tags of the images themselves: of those in an index none.
    tags: Vec<Tag>,
    digest: Digest,
}

impl Named {
    /// The name of one image for all its platforms.
    async fn of(parts: &Parts, plan: &Plan, platforms: &[Delivered]) -> Result<Self> {
        let Delivered { built, repository, .. } = &platforms[0];
        // Looked at again: Docker Hub makes a repository that is missing a public one, and by now it is there, without secrets
        // in it.
        observe::refuse_exposed(parts, parts.registry()?, &built.image, repository).await?;
        let images: Vec<&Image> = platforms.iter().map(|platform| &platform.image).collect();
        let index = if images.len() > 1 { Some(Index::of(&images)?) } else { None };
        let digest = index.as_ref().map_or_else(|| images[0].digest(), Index::digest);
        let tag: Tag = match plan.tag() {
            Some(tag) => tag.parse()?,
            None => format!("changed-{}", digest.short()).parse()?,
        };
        let tags = if index.is_some() { Vec::new() } else { vec![tag.clone()] };
        Ok(Named { name: built.image.clone(), repository: repository.clone(), tag, index, tags, digest })
    }

    fn parcel<'n>(&'n self, platform: &'n Delivered) -> Parcel<'n> {
        let Named { name, repository, tags, .. } = self;
        Parcel { subject: name, image: &platform.image, repository, tags }
    }

    /// Gives the index its tag, now that all that it lists is there, and keeps what the registry has.
    async fn given(
        self,
        parts: &Parts,
        platforms: Vec<PushedPlatform>,
        journal: &Journal,
    ) -> Result<PushedImage> {
        let Named { name, repository, tag, index, digest, .. } = self;
        let registry = parts.registry()?;
        if let Some(index) = &index {
            let version = Version::Tag(tag);
            if registry.head(&repository, &version).await? != Some(digest) {
                registry.put_manifest(&repository, &version, index.media_type(), index.bytes()).await?;
            }
            journal.did(format!("pushed {name}"));
        }
        let reader = reader(parts, registry);
        platforms.iter().try_for_each(|platform| reader.keep_image(&repository, &platform.image))?;
        if let Some(index) = &index {
            reader.keep_index(&repository, index.media_type(), index.bytes())?;
        }
        let reference = Reference { repository, tag: None, digest: Some(digest) };
        Ok(PushedImage { name, reference, digest, platforms })
    }
}

impl PushedImage {
    /// What of it runs on `platform`; any where nothing of it is to run here.
    ///
    /// # Errors
    /// There is none, which the plan has refused.
    pub fn here(&self, platform: &str) -> Result<&PushedPlatform> {
        let runs = |one: &&PushedPlatform| fits(platform, &one.image.platform());
        self.platforms
            .iter()
            .find(runs)
            .or(self.platforms.first())
            .ok_or_else(|| Error::failed(format!("there is no image {} for {platform}", self.name)))
    }

    pub fn summary(&self) -> ReleasedSummary {
        let pushed = || self.platforms.iter().map(|platform| &platform.pushed);
        let mut blobs = BlobCounts::default();
        for pushed in pushed() {
            blobs.uploaded += pushed.blobs.uploaded;
            blobs.mounted += pushed.blobs.mounted;
            blobs.present += pushed.blobs.present;
        }
        ReleasedSummary {
            image: self.name.clone(),
            reference: Some(self.reference.to_string()),
            digest: self.digest,
            platforms: self.platforms.iter().map(|platform| platform.image.platform()).collect(),
            size: pushed().map(|pushed| pushed.image.size()).sum(),
            built: self.platforms.iter().any(|platform| !platform.built.reused),
            uploaded: pushed().map(|pushed| pushed.uploaded).sum(),
            blobs,
            secrets: self.platforms.iter().flat_map(|platform| seam::versions(&platform.image)).collect(),
        }
    }
}
