//! Sends what is new of a rotated image: the secret layer, the config, the manifest. What was read is there.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::try_join_all;
use futures_util::try_join;
use serde::Serialize;
use tokio::sync::OnceCell;

use super::rotation::{Rotation, Target};
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::image::reference::{Reference, Repository, Tag, Version};
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
    /// Whether it held these secrets already: nothing was sent.
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
    /// Stands for all secret versions, in tags.
    mark: Option<String>,
    progress: &'s Reporter,
    /// Blobs that are on their way or there. Images of one repository often have the same secret layer, and registries do not
    /// all take well to two uploads of one blob at once: docker-registry 2.8 can answer that it does not know it.
    blobs: Mutex<Blobs>,
}

/// A cell for each blob of each repository, set when the blob is there.
type Blobs = HashMap<(Repository, Digest), Arc<OnceCell<()>>>;

impl<'s> Sender<'s> {
    /// Nothing is sent yet.
    pub fn new(registry: &'s dyn Registry, mark: Option<String>, progress: &'s Reporter) -> Self {
        registry.tell(progress);
        Sender { registry, mark, progress, blobs: Mutex::default() }
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

    /// Sends one rotation.
    ///
    /// # Errors
    /// The registry's. Until the manifest is there, nothing has changed for anyone.
    pub async fn send(&self, rotation: &Rotation) -> Result<Rotated> {
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
            task.reused(format!("{} holds these secrets", rotation.from.short()));
            return Ok(rotated);
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
        let (layers, configs) = try_join!(send_layers, send_configs)?;
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
        let tag = tag(&rotation.reference, self.mark.as_deref(), to)?;
        registry.put_manifest(repository, &Version::Tag(tag.clone()), media_type, manifest).await?;
        task.done(format!("{} → {}", rotation.from.short(), to.short()));
        rotated.tag = Some(tag);
        Ok(rotated)
    }
}

/// The tag of a rotated image. Of a release's (`COMMIT-SECRETS`) it is that of the same commit with the new secrets, which
/// `imgforge deploy` finds; another tag gets the secrets at its end and stays where it is: tags may be immutable.
fn tag(reference: &Reference, mark: Option<&str>, digest: Digest) -> Result<Tag> {
    match (&reference.tag, mark) {
        (Some(tag), Some(mark)) => {
            let tag = tag.as_str();
            let is_mark = |end: &str| end.len() == mark.len() && end.bytes().all(|b| b.is_ascii_hexdigit());
            let of = tag.rsplit_once('-').filter(|(_, end)| is_mark(end)).map_or(tag, |(of, _)| of);
            let room = 128 - mark.len() - 1;
            format!("{}-{mark}", &of[..of.len().min(room)]).parse()
        }
        _ => format!("rotated-{}", digest.short()).parse(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_releases_tag_gets_the_new_secrets_and_others_are_not_moved() {
        let digest = Digest::of(b"x");
        let of = |name: &str| tag(&name.parse().unwrap(), Some("5c1e88d2"), digest).unwrap().to_string();
        assert_eq!(of("h.io/shop:3f2a9c1d04ab-00000000"), "3f2a9c1d04ab-5c1e88d2");
        assert_eq!(of("h.io/shop:stable"), "stable-5c1e88d2");
        assert_eq!(of("h.io/shop:v1-beta"), "v1-beta-5c1e88d2");
        assert_eq!(of(&format!("h.io/shop:{}", "a".repeat(128))).len(), 128);
        assert_eq!(of(&format!("h.io/shop@{digest}")), format!("rotated-{}", digest.short()));
    }
}
