//! Sends an image to a registry: only what is missing, in parallel, the manifest last.

use std::collections::BTreeSet;

use futures_util::future::try_join_all;
use futures_util::{StreamExt, TryStreamExt, stream};

use super::{BlobCounts, Pushed, Registry, Sent};
use crate::digest::Digest;
use crate::error::Result;
use crate::image::reference::{Reference, Repository, Tag, Version};
use crate::image::{Content, Image, Layer};
use crate::progress::Reporter;

/// How many blobs are on their way at once.
const AT_ONCE: usize = 5;

/// Sends `image` to `repository` under each tag, or under its digest alone when there are none. `subject` is the image's
/// name for progress. Pushing the same again sends nothing.
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
    registry.prepare(repository).await?;
    let digest = image.digest();
    let by_digest = Version::Digest(digest);
    let by_tag: Vec<Version> = tags.iter().cloned().map(Version::Tag).collect();
    let wanted = if by_tag.is_empty() { std::slice::from_ref(&by_digest) } else { &by_tag[..] };
    let named: Vec<_> = wanted.iter().map(|version| registry.head(repository, version)).collect();
    let (known, named) = tokio::try_join!(registry.head(repository, &by_digest), try_join_all(named))?;
    let mut pushed = Pushed {
        reference: Reference { repository: repository.clone(), tag: None, digest: Some(digest) },
        image: image.with_contents(|layer| registry.content(repository, &layer.descriptor.digest)),
        uploaded: 0,
        blobs: BlobCounts::default(),
    };
    if known.is_some() {
        // A registry takes a manifest only with all its blobs, so they are there.
        pushed.blobs.present = distinct(image).len() + 1;
        progress.task(subject, "push").reused(format!("{} is there", digest.short()));
    } else {
        let push = Push { subject, registry, repository, progress };
        push.blobs(image, &mut pushed).await?;
    }
    for (version, there) in wanted.iter().zip(named) {
        if there != Some(digest) {
            let bytes = image.manifest_bytes();
            registry.put_manifest(repository, version, image.kind().manifest(), bytes).await?;
        }
    }
    Ok(pushed)
}

/// The layers, each blob once: images often have the same empty layer several times.
fn distinct(image: &Image) -> Vec<&Layer> {
    let mut seen = BTreeSet::<Digest>::new();
    image.layers().iter().filter(|layer| seen.insert(layer.descriptor.digest)).collect()
}

struct Push<'p> {
    subject: &'p str,
    registry: &'p dyn Registry,
    repository: &'p Repository,
    progress: &'p Reporter,
}

impl Push<'_> {
    async fn blobs(&self, image: &Image, pushed: &mut Pushed) -> Result<()> {
        let mut layers = distinct(image);
        // The largest first: what is begun last is short, so no connection idles at the end.
        layers.sort_by_key(|layer| std::cmp::Reverse(layer.descriptor.size));
        let layers: Vec<_> = layers.into_iter().map(|layer| self.layer(layer)).collect();
        let layers = stream::iter(layers).buffer_unordered(AT_ONCE).try_collect::<Vec<(Sent, u64)>>();
        let (mut sent, config) = tokio::try_join!(layers, self.config(image))?;
        sent.push(config);
        for (sent, bytes) in sent {
            match sent {
                Sent::Present => pushed.blobs.present += 1,
                Sent::Mounted => pushed.blobs.mounted += 1,
                Sent::Uploaded => {
                    pushed.blobs.uploaded += 1;
                    pushed.uploaded += bytes;
                }
            }
        }
        Ok(())
    }

    async fn layer(&self, layer: &Layer) -> Result<(Sent, u64)> {
        let (digest, size) = (layer.descriptor.digest, layer.descriptor.size);
        let task = self.progress.transfer(self.subject, format!("layer {}", digest.short()), size);
        // What was read from this very repository is there; rotating a secret spares a request for each layer.
        let from_here =
            matches!(&layer.content, Content::Registry(from) if **from == self.repository.to_string());
        if from_here || self.registry.has_blob(self.repository, &digest).await? {
            task.reused("is there");
            return Ok((Sent::Present, size));
        }
        let sent = self.registry.put_layer(self.repository, layer, &task).await?;
        match sent {
            Sent::Present => task.reused("is there"),
            Sent::Mounted => task.reused("mounted"),
            Sent::Uploaded => task.done("sent"),
        }
        Ok((sent, size))
    }

    async fn config(&self, image: &Image) -> Result<(Sent, u64)> {
        let descriptor = image.config_descriptor();
        if self.registry.has_blob(self.repository, &descriptor.digest).await? {
            return Ok((Sent::Present, descriptor.size));
        }
        self.registry.put_bytes(self.repository, &descriptor, image.config_bytes()).await?;
        Ok((Sent::Uploaded, descriptor.size))
    }
}
