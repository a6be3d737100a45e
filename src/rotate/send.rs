//! Sends what is new of a rotated image: the secret layer, the config, the manifest. What was read is there. Images of the same
//! release that stay what they are get its new tag.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::try_join_all;
use futures_util::try_join;
use serde::Serialize;
use tokio::sync::OnceCell;

use super::rotation::{Rotation, Target};
use super::tags::{Place, Release, Tags};
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::image::reference::{Repository, Tag, Version};
use crate::image::{Descriptor, Image, Layer, seam};
use crate::progress::Reporter;
use crate::registry::Registry;

/// A rotated image in the registry.
#[derive(Debug, Clone, Serialize)]
pub struct Rotated {
    /// Its name in imgforge.toml.
    pub image: String,
    /// What it was, by digest.
    pub from: String,
    /// What it is now, by digest.
    pub to: String,
    /// The tag that it got.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tag: Option<Tag>,
    /// Whether it held these secrets already: nothing was sent, but for the tag where its release got a new one.
    pub unchanged: bool,
    /// `linux/amd64`
    pub platforms: Vec<String>,
    /// Bytes that were uploaded.
    pub uploaded: u64,
    /// The secret versions in it.
    pub secrets: BTreeMap<String, String>,
}

/// Sends rotations, many at once.
pub(super) struct Sender<'s> {
    registry: &'s dyn Registry,
    tags: Tags,
    progress: &'s Reporter,
    /// Blobs that are on their way or there. Images of one repository often have the same secret layer, and registries do not
    /// all take well to two uploads of one blob at once: docker-registry 2.8 can answer that it does not know it.
    blobs: Mutex<Blobs>,
}

/// A cell for each blob of each repository, set when the blob is there.
type Blobs = HashMap<(Repository, Digest), Arc<OnceCell<()>>>;

impl<'s> Sender<'s> {
    /// Nothing is sent yet.
    pub fn new(registry: &'s dyn Registry, tags: Tags, progress: &'s Reporter) -> Self {
        registry.tell(progress);
        Sender { registry, tags, progress, blobs: Mutex::default() }
    }

    /// Runs `upload` unless the blob is there; how many of its bytes this call has sent.
    async fn once(
        &self,
        repository: &Repository,
        descriptor: &Descriptor,
        upload: impl Future<Output = Result<()>>,
    ) -> Result<u64> {
        let key = (repository.clone(), descriptor.digest);
        let cell =
            Arc::clone(self.blobs.lock().unwrap_or_else(PoisonError::into_inner).entry(key).or_default());
        let mut sent = 0;
        cell.get_or_try_init(async || {
            upload.await?;
            sent = descriptor.size;
            Ok::<_, Error>(())
        })
        .await?;
        Ok(sent)
    }

    /// Sends one rotation. With what came of it, the release that the image is of, when that is known.
    ///
    /// # Errors
    /// The registry's. Until the manifest is there, nothing has changed for anyone.
    pub async fn send(&self, rotation: &Rotation) -> Result<(Rotated, Option<Release>)> {
        let (registry, progress) = (self.registry, self.progress);
        let repository = &rotation.reference.repository;
        let by_digest = |digest: Digest| format!("{repository}@{digest}");
        let to = rotation.to.digest();
        let secrets = rotation.versions().into_iter().map(|(name, (_, version))| (name, version)).collect();
        let mut rotated = Rotated {
            image: rotation.image.clone(),
            from: by_digest(rotation.from),
            to: by_digest(to),
            tag: None,
            unchanged: !rotation.is_changed(),
            platforms: rotation.platforms(),
            uploaded: 0,
            secrets,
        };
        let task = progress.task(&rotation.image, "rotate");
        let Some((media_type, manifest)) = rotation.to.manifest() else {
            let release = self.fitting(self.tags.place(registry, rotation).await?, rotation);
            if let Some(release) = &release {
                self.tag(repository, rotation.from, &release.after).await?;
                rotated.tag = Some(release.after.clone());
            }
            task.reused(format!("{} holds these secrets", rotation.from.short()));
            return Ok((rotated, release));
        };
        if rotation.dropped > 0 {
            progress.note(format!(
                "{}: {} attestations are left out, since they speak of the old images",
                rotation.image, rotation.dropped
            ));
        }
        // All platforms have one secret layer, and each its own config.
        let mut layers: BTreeMap<Digest, &Layer> = BTreeMap::new();
        let mut configs: BTreeMap<Digest, &Image> = BTreeMap::new();
        for image in rotation.changed() {
            let layer = seam::find(image)?.map(|index| &image.layers()[index]);
            let layer = layer.ok_or_else(|| Error::failed("a rotated image has no seam"))?;
            layers.insert(layer.descriptor.digest, layer);
            configs.insert(image.config_descriptor().digest, image);
        }
        let send_layers = try_join_all(layers.values().map(async |layer| {
            self.once(repository, &layer.descriptor, registry.put_layer(repository, layer, &task)).await
        }));
        let send_configs = try_join_all(configs.values().map(async |image| {
            let descriptor = image.config_descriptor();
            let upload = registry.put_bytes(repository, &descriptor, image.config_bytes());
            self.once(repository, &descriptor, upload).await
        }));
        let (layers, configs, place) =
            try_join!(send_layers, send_configs, self.tags.place(registry, rotation))?;
        rotated.uploaded = layers.into_iter().chain(configs).sum();
        if matches!(rotation.to, Target::Index(_)) {
            try_join_all(rotation.changed().map(async |image| {
                let version = Version::Digest(image.digest());
                registry
                    .put_manifest(repository, &version, image.kind().manifest(), image.manifest_bytes())
                    .await
            }))
            .await?;
        }
        let release = self.fitting(place, rotation);
        let tag = match &release {
            Some(release) => release.after.clone(),
            None => self.tags.otherwise(&rotation.reference, to)?,
        };
        registry.put_manifest(repository, &Version::Tag(tag.clone()), media_type, manifest).await?;
        task.done(format!("{} → {}", rotation.from.short(), to.short()));
        rotated.tag = Some(tag);
        Ok((rotated, release))
    }

    /// The release whose tag the rotated image gets. Where the tag is another image's, that is told.
    fn fitting(&self, place: Option<Place>, rotation: &Rotation) -> Option<Release> {
        let place = place?;
        if place.is_for(rotation.to.digest()) {
            return Some(place.release);
        }
        let (image, repository) = (&rotation.image, &rotation.reference.repository);
        self.progress.warning(format!(
            "{image}: {repository}:{} names another image and stays: `imgforge deploy` would deploy that one",
            place.release.after
        ));
        None
    }

    /// Gives an image that stays what it is the new tag of its `release`, so that this has all its images. One that was not released
    /// with it gets none.
    ///
    /// # Errors
    /// The registry's.
    pub async fn follow(&self, repository: &Repository, release: &Release) -> Result<()> {
        match release.named(self.registry, repository).await? {
            (Some(named), None) => self.tag(repository, named, &release.after).await,
            _ => Ok(()),
        }
    }

    /// Gives what is there one tag more.
    async fn tag(&self, repository: &Repository, digest: Digest, tag: &Tag) -> Result<()> {
        let manifest = self.registry.manifest(repository, &Version::Digest(digest)).await?;
        let manifest =
            manifest.ok_or_else(|| Error::failed(format!("{repository}@{digest} is not there any more")))?;
        let version = Version::Tag(tag.clone());
        self.registry.put_manifest(repository, &version, &manifest.media_type, manifest.bytes).await.map(drop)
    }
}
