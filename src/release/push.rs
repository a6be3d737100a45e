//! Every image of a release into the registry, each under the release's tag. Of an image for several platforms each has its
//! digest, and the tag names their index.

use futures_util::future::try_join_all;

use super::journal::Journal;
use super::summary::ReleasedSummary;
use super::{Delivered, Parts, kept, observe};
use crate::base::layout::fits;
use crate::digest::Digest;
use crate::engine::Built;
use crate::error::{Error, Result};
use crate::image::index::Index;
use crate::image::reference::{Reference, Repository, Tag, Version};
use crate::image::{Image, seam};
use crate::plan::Plan;
use crate::progress::Reporter;
use crate::registry::{BlobCounts, Pushed, push};

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

/// All images at once.
pub(super) async fn push_all(
    parts: &Parts,
    plan: &Plan,
    images: Vec<Delivered>,
    progress: &Reporter,
    journal: &Journal,
) -> Result<Vec<PushedImage>> {
    let grouped = images.chunk_by(|one, next| one.built.image == next.built.image);
    try_join_all(grouped.map(async |platforms| {
        let pushed = push_image(parts, plan, platforms, progress).await?;
        journal.did(format!("pushed {}", pushed.name));
        Ok(pushed)
    }))
    .await
}

async fn push_image(
    parts: &Parts,
    plan: &Plan,
    platforms: &[Delivered],
    progress: &Reporter,
) -> Result<PushedImage> {
    let (registry, name) = (parts.registry()?, &platforms[0].built.image);
    let repository = &platforms[0].repository;
    // Looked at again: Docker Hub makes a repository that is missing a public one, and by now it is there, without secrets in
    // it.
    observe::refuse_exposed(parts, registry, name, repository).await?;
    let images: Vec<Image> = platforms.iter().map(|platform| platform.image.clone()).collect();
    let index = if images.len() > 1 { Some(Index::of(&images)?) } else { None };
    let digest = index.as_ref().map_or_else(|| images[0].digest(), Index::digest);
    let tag: Tag = match plan.tag() {
        Some(tag) => tag.parse()?,
        None => format!("changed-{}", digest.short()).parse()?,
    };
    let tags = if index.is_some() { Vec::new() } else { vec![tag.clone()] };
    let mut pushed_platforms = Vec::new();
    for Delivered { built, image, .. } in platforms {
        let pushed = push::push(name, image, registry, repository, &tags, progress).await?;
        pushed_platforms.push(PushedPlatform { built: built.clone(), image: image.clone(), pushed });
    }
    let platforms = pushed_platforms;
    if let Some(index) = &index {
        put_index(parts, repository, tag, index).await?;
    }
    if registry.is_remote() {
        let kept = kept(&parts.config);
        images.iter().try_for_each(|image| kept.keep_image(repository, image))?;
    }
    let reference = Reference { repository: repository.clone(), tag: None, digest: Some(digest) };
    Ok(PushedImage { name: name.clone(), reference, digest, platforms })
}

/// Names the index by `tag`, once all that it lists is there.
async fn put_index(parts: &Parts, repository: &Repository, tag: Tag, index: &Index) -> Result<()> {
    let (registry, version) = (parts.registry()?, Version::Tag(tag));
    if registry.head(repository, &version).await? != Some(index.digest()) {
        registry.put_manifest(repository, &version, index.media_type(), index.bytes()).await?;
    }
    match registry.is_remote() {
        true => kept(&parts.config).keep_index(repository, index.media_type(), index.bytes()),
        false => Ok(()),
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
