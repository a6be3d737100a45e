//! Reads an image from a registry: manifest and config at once, layers when they are wanted.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::verify::is_wrong_content;
use super::{Manifest, Registry};
use crate::error::{Error, Result};
use crate::image::reference::{Repository, Version};
use crate::image::{Content, Descriptor, Image, Layer, media_type};
use crate::partial::Partial;
use crate::progress::{Reporter, Task};

/// How many layers come in at once.
const AT_ONCE: usize = 4;
/// How often a layer is begun again after its connection broke.
const TRIES: usize = 3;
/// A config is a JSON text; more than this is none.
const CONFIG_LIMIT: u64 = 32 << 20;

/// Reads an image; of an index the image for `platform` (`linux/amd64`, `linux/arm64/v8`). `None` when there is none of
/// that name. Its layers stay where they are.
///
/// # Errors
/// The registry's; an index without that platform; something that is no image.
pub async fn read(
    registry: &dyn Registry,
    repository: &Repository,
    version: &Version,
    platform: &str,
) -> Result<Option<Image>> {
    let Some(mut manifest) = registry.manifest(repository, version).await? else { return Ok(None) };
    if is_index(&manifest) {
        let entry = pick(&manifest.bytes, platform)
            .map_err(|error| error.context(format!("cannot read {repository} at {version}")))?;
        let child = Version::Digest(entry.digest);
        manifest = registry.manifest(repository, &child).await?.ok_or_else(|| {
            Error::failed(format!("the index {version} of {repository} lists {child}, which is not there"))
                .help("push the index again")
        })?;
    }
    image(registry, repository, manifest).await.map(Some)
}

async fn image(registry: &dyn Registry, repository: &Repository, manifest: Manifest) -> Result<Image> {
    #[derive(Deserialize)]
    struct Named {
        config: Descriptor,
    }
    let named: Named = serde_json::from_slice(&manifest.bytes).map_err(|error| {
        Error::failed(format!("{} in {repository} is not an image manifest", manifest.digest)).because(error)
    })?;
    let config = blob(registry, repository, &named.config).await?;
    let digest = manifest.digest;
    let image = Image::from_read(manifest.bytes, config, &registry.content(repository, &digest))?;
    Ok(image.with_contents(|layer| registry.content(repository, &layer.descriptor.digest)))
}

/// A small blob, as a whole.
async fn blob(registry: &dyn Registry, repository: &Repository, descriptor: &Descriptor) -> Result<Bytes> {
    if descriptor.size > CONFIG_LIMIT {
        let (digest, size) = (descriptor.digest, descriptor.size);
        return Err(Error::failed(format!("the config {digest} in {repository} claims {size} bytes")));
    }
    let mut tries = 0;
    loop {
        tries += 1;
        let mut bytes = Vec::new();
        match registry.blob(repository, descriptor).await?.read_to_end(&mut bytes).await {
            Ok(_) => return Ok(bytes.into()),
            Err(error) if tries < TRIES && !is_wrong_content(&error) => {}
            Err(error) => return Err(unreadable(repository, descriptor, error)),
        }
    }
}

fn unreadable(repository: &Repository, descriptor: &Descriptor, error: std::io::Error) -> Error {
    Error::failed(format!("cannot read the blob {} of {repository}", descriptor.digest.short()))
        .because(error)
}

fn is_index(manifest: &Manifest) -> bool {
    [media_type::OCI_INDEX, media_type::DOCKER_INDEX].contains(&manifest.media_type.as_str())
}

/// One line of an index (OCI image-spec, image-index.md).
#[derive(Debug, Deserialize)]
struct Entry {
    digest: crate::digest::Digest,
    #[serde(default)]
    platform: Option<Platform>,
    #[serde(default)]
    annotations: std::collections::BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
struct Platform {
    os: String,
    architecture: String,
    #[serde(default)]
    variant: Option<String>,
}

impl Platform {
    fn shown(&self) -> String {
        let parts = [Some(&self.os), Some(&self.architecture), self.variant.as_ref()];
        parts.into_iter().flatten().map(String::as_str).collect::<Vec<_>>().join("/")
    }

    /// A variant that is not asked for does not count; `arm64` is `arm64/v8` (containerd's platform normalization).
    fn is(&self, wanted: &str) -> bool {
        let mut parts = wanted.splitn(3, '/');
        let (os, architecture, variant) = (parts.next(), parts.next(), parts.next());
        let own = self.variant.as_deref().or((self.architecture == "arm64").then_some("v8"));
        os == Some(&self.os)
            && architecture == Some(&self.architecture)
            && variant.is_none_or(|variant| own == Some(variant))
    }
}

/// Attestations (what BuildKit says about a build) are children of an index too; they are no images.
fn is_attestation(entry: &Entry) -> bool {
    entry.annotations.get("vnd.docker.reference.type").is_some_and(|kind| kind == "attestation-manifest")
        || entry.platform.as_ref().is_some_and(|platform| platform.os == "unknown")
}

fn pick(index: &[u8], wanted: &str) -> Result<Entry> {
    #[derive(Deserialize)]
    struct Index {
        manifests: Vec<Entry>,
    }
    let index: Index = serde_json::from_slice(index)
        .map_err(|error| Error::failed("this is not an image index").because(error))?;
    let (mut images, mut there) = (Vec::new(), Vec::new());
    for entry in index.manifests.into_iter().filter(|entry| !is_attestation(entry)) {
        there.push(entry.platform.as_ref().map_or("no platform".into(), Platform::shown));
        images.push(entry);
    }
    let at = images.iter().position(|entry| entry.platform.as_ref().is_some_and(|p| p.is(wanted)));
    match at {
        Some(at) => Ok(images.swap_remove(at)),
        // An index of one image without a platform says nothing against it.
        None if images.len() == 1 && images[0].platform.is_none() => Ok(images.remove(0)),
        None => Err(Error::failed(format!("it has no image for {wanted}"))
            .help(format!("it has: {}", there.join(", ")))),
    }
}

/// Brings the layers of `image` to files in `folder`, named by their digests, checked. What is there is not read again.
///
/// # Errors
/// The registry's; a full disk; bytes that do not have their digest.
pub async fn pull(
    subject: &str,
    image: &Image,
    registry: &dyn Registry,
    repository: &Repository,
    folder: &Path,
    progress: &Reporter,
) -> Result<Image> {
    fs_err::tokio::create_dir_all(folder).await?;
    let pull = Pull { subject, registry, repository, folder, progress };
    let layers: Vec<_> = image.layers().iter().map(|layer| pull.layer(layer)).collect();
    stream::iter(layers).buffer_unordered(AT_ONCE).try_collect::<Vec<()>>().await?;
    Ok(image.with_contents(|layer| match &layer.content {
        Content::Registry(_) => Content::File(Arc::new(pull.path(layer))),
        here => here.clone(),
    }))
}

struct Pull<'p> {
    subject: &'p str,
    registry: &'p dyn Registry,
    repository: &'p Repository,
    folder: &'p Path,
    progress: &'p Reporter,
}

impl Pull<'_> {
    fn path(&self, layer: &Layer) -> PathBuf {
        self.folder.join(layer.descriptor.digest.hex())
    }

    async fn layer(&self, layer: &Layer) -> Result<()> {
        let (digest, size) = (layer.descriptor.digest, layer.descriptor.size);
        let task = self.progress.transfer(self.subject, format!("layer {}", digest.short()), size);
        let path = self.path(layer);
        let elsewhere = !matches!(layer.content, Content::Registry(_));
        if elsewhere || std::fs::metadata(&path).is_ok_and(|file| file.len() == size) {
            task.reused("is here");
            return Ok(());
        }
        let mut tries = 0;
        loop {
            tries += 1;
            match self.fetch(layer, &path, &task).await? {
                Ok(()) => break,
                Err(error) if tries < TRIES && !is_wrong_content(&error) => {}
                Err(error) => return Err(unreadable(self.repository, &layer.descriptor, error)),
            }
        }
        task.done("fetched");
        Ok(())
    }

    /// The inner error is that of reading.
    async fn fetch(&self, layer: &Layer, path: &Path, task: &Task) -> Result<std::io::Result<()>> {
        let mut reader = self.registry.blob(self.repository, &layer.descriptor).await?;
        let mut partial = Partial::new(self.folder)?;
        let mut file = tokio::fs::File::from_std(partial.file().try_clone()?);
        let mut buffer = vec![0; 256 * 1024];
        loop {
            match reader.read(&mut buffer).await {
                Ok(0) => break,
                Ok(read) => {
                    file.write_all(&buffer[..read]).await?;
                    task.advance(read as u64);
                }
                Err(error) => return Ok(Err(error)),
            }
        }
        file.flush().await?;
        partial.persist(path)?;
        Ok(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::digest::Digest;

    fn index() -> Vec<u8> {
        let entry = |name: &str, platform: serde_json::Value| {
            json!({"mediaType": media_type::OCI_MANIFEST, "size": 1, "digest": Digest::of(name.as_bytes()),
                "platform": platform})
        };
        let mut attestation = entry("attestation", json!({"os": "linux", "architecture": "amd64"}));
        attestation["annotations"] = json!({"vnd.docker.reference.type": "attestation-manifest"});
        let index = json!({"manifests": [
            attestation,
            entry("unknown", json!({"os": "unknown", "architecture": "unknown"})),
            entry("amd64", json!({"os": "linux", "architecture": "amd64"})),
            entry("armv7", json!({"os": "linux", "architecture": "arm", "variant": "v7"})),
            entry("arm64", json!({"os": "linux", "architecture": "arm64"})),
        ]});
        serde_json::to_vec(&index).unwrap()
    }

    #[test]
    fn of_an_index_the_wanted_platform_is_taken_and_never_an_attestation() {
        for (wanted, name) in [
            ("linux/amd64", "amd64"),
            ("linux/arm/v7", "armv7"),
            ("linux/arm", "armv7"),
            ("linux/arm64", "arm64"),
            ("linux/arm64/v8", "arm64"),
        ] {
            assert_eq!(pick(&index(), wanted).unwrap().digest, Digest::of(name.as_bytes()), "{wanted}");
        }
    }

    #[test]
    fn a_platform_that_is_not_there_is_told_with_those_that_are() {
        let error = pick(&index(), "linux/s390x").unwrap_err();
        assert_eq!(error.what(), "it has no image for linux/s390x");
        assert_eq!(error.help_text(), Some("it has: linux/amd64, linux/arm/v7, linux/arm64"));
    }
}
