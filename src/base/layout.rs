//! A base that is an OCI layout on disk (OCI image-spec, image-layout.md).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;

use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::image::{Content, Descriptor, Image, media_type};

/// The annotation that names a manifest in `index.json` (OCI image-spec, annotations.md).
const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// What BuildKit marks provenance and SBOM manifests with; they are no images to run.
const ATTESTATION: &str = "vnd.docker.reference.type";
/// How deep indexes may be nested: enough for any tool's output, and an end for a circle.
const DEPTH: usize = 4;

/// Reads the image for `platform` (`linux/amd64`) from the layout at `path`. Where a layout holds several images,
/// `path:NAME` picks one by its ref name.
///
/// # Errors
/// No layout, no or more than one image for the platform, a blob that is missing or not what its descriptor says.
pub async fn read(path: &Path, platform: &str) -> Result<Image> {
    let (path, platform) = (path.to_owned(), platform.to_owned());
    let read = tokio::task::spawn_blocking(move || read_blocking(&path, &platform));
    read.await.expect("reading a layout does not panic")
}

fn read_blocking(path: &Path, platform: &str) -> Result<Image> {
    let (root, name) = split_name(path);
    let layout = Layout { root };
    let index = layout.index_file()?;
    let mut found = Vec::new();
    for descriptor in index.manifests {
        if name.as_deref().is_none_or(|name| annotation(&descriptor, REF_NAME) == Some(name)) {
            layout.gather(descriptor, DEPTH, &mut found)?;
        }
    }
    if found.is_empty() {
        return Err(match &name {
            Some(name) => layout.error(format!("there is no image called {name:?} in it")),
            None => layout.error("there is no image in it"),
        });
    }
    let mut fitting = Vec::new();
    let mut others = Vec::new();
    for entry in found {
        let image = layout.image(&entry)?;
        let image_platform = image.platform();
        if !fits(platform, &image_platform) {
            others.push(image_platform);
        } else if !fitting.iter().any(|(other, _): &(Digest, Image)| *other == entry.digest) {
            fitting.push((entry.digest, image));
        }
    }
    match fitting.len() {
        1 => {
            let (_, image) = fitting.remove(0);
            layout.check_layers(&image)?;
            Ok(image)
        }
        0 => {
            others.sort();
            others.dedup();
            Err(layout
                .error(format!("it is for {}, and {platform} is wanted", others.join(", ")))
                .help("make it for that platform, or build on a machine of the base's platform"))
        }
        several => Err(layout
            .error(format!("it holds {several} images for {platform}"))
            .help("name one: layout = \"PATH:NAME\", NAME as in its index.json's ref.name annotations")),
    }
}

/// `PATH` or `PATH:NAME`: a colon belongs to the path when there is such a folder.
fn split_name(path: &Path) -> (PathBuf, Option<String>) {
    if path.exists() {
        return (path.to_owned(), None);
    }
    match path.to_str().and_then(|text| text.rsplit_once(':')) {
        Some((root, name)) if !name.contains('/') => (root.into(), Some(name.to_owned())),
        _ => (path.to_owned(), None),
    }
}

/// Whether an image for `has` can run where `wanted` is: a variant counts only where both name one.
pub fn fits(wanted: &str, has: &str) -> bool {
    let parts = |platform: &str| -> Vec<String> { platform.split('/').map(str::to_owned).collect() };
    let (wanted, has) = (parts(wanted), parts(has));
    wanted.iter().zip(&has).all(|(wanted, has)| wanted == has) && wanted.len().min(has.len()) >= 2
}

#[derive(Deserialize)]
struct Index {
    #[serde(default)]
    manifests: Vec<Descriptor>,
}

fn annotation<'d>(descriptor: &'d Descriptor, name: &str) -> Option<&'d str> {
    descriptor.rest.get("annotations")?.get(name)?.as_str()
}

struct Layout {
    root: PathBuf,
}

impl Layout {
    fn error(&self, why: impl std::fmt::Display) -> Error {
        Error::config(format!("the OCI layout {} cannot be a base: {why}", self.root.display()))
    }

    fn index_file(&self) -> Result<Index> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Marker {
            image_layout_version: String,
        }
        let help = "a base's layout is a folder with oci-layout, index.json and blobs";
        let read = |name: &str| {
            fs_err::read(self.root.join(name))
                .map_err(|error| self.error("it is not complete").help(help).because(error))
        };
        let malformed = |error: serde_json::Error| self.error("it is malformed").help(help).because(error);
        let marker: Marker = serde_json::from_slice(&read("oci-layout")?).map_err(malformed)?;
        if marker.image_layout_version.split('.').next() != Some("1") {
            return Err(self.error(format!("version {:?} is not known", marker.image_layout_version)));
        }
        serde_json::from_slice(&read("index.json")?).map_err(malformed)
    }

    /// The descriptors of the image manifests below `descriptor`.
    fn gather(&self, descriptor: Descriptor, depth: usize, found: &mut Vec<Descriptor>) -> Result<()> {
        match descriptor.media_type.as_str() {
            media_type::OCI_INDEX | media_type::DOCKER_INDEX => {
                if depth == 0 {
                    return Err(self.error("its indexes are nested too deep"));
                }
                let index: Index = serde_json::from_slice(&self.document(&descriptor)?).map_err(|error| {
                    self.error(format!("{} is no index", descriptor.digest)).because(error)
                })?;
                index.manifests.into_iter().try_for_each(|inner| self.gather(inner, depth - 1, found))
            }
            media_type::OCI_MANIFEST | media_type::DOCKER_MANIFEST => {
                if annotation(&descriptor, ATTESTATION).is_none() {
                    found.push(descriptor);
                }
                Ok(())
            }
            // image-layout.md: entries of unknown types are to be ignored.
            _ => Ok(()),
        }
    }

    fn image(&self, descriptor: &Descriptor) -> Result<Image> {
        #[derive(Deserialize)]
        struct Config {
            config: Descriptor,
        }
        let manifest = self.document(descriptor)?;
        let config: Config = serde_json::from_slice(&manifest)
            .map_err(|error| self.error(format!("{} is no manifest", descriptor.digest)).because(error))?;
        let config = self.document(&config.config)?;
        let anywhere = Content::File(Arc::new(self.root.clone()));
        let image = Image::from_read(manifest.into(), config.into(), &anywhere)
            .map_err(|error| error.context(self.error("its image cannot be read").what()))?;
        Ok(image.with_contents(|layer| Content::File(Arc::new(self.blob(&layer.descriptor.digest)))))
    }

    fn blob(&self, digest: &Digest) -> PathBuf {
        self.root.join("blobs/sha256").join(digest.hex())
    }

    /// A manifest, index or config: small, and checked against its digest.
    fn document(&self, descriptor: &Descriptor) -> Result<Vec<u8>> {
        let digest = &descriptor.digest;
        let bytes = fs_err::read(self.blob(digest))
            .map_err(|error| self.error(format!("{digest} is not in it")).because(error))?;
        if Digest::of(&bytes) == *digest {
            return Ok(bytes);
        }
        Err(self.error(format!("what it has as {digest} is something else")).help("copy the layout again"))
    }

    /// Layers are hashed by whoever sends them; that they are there and of the right size is seen here.
    fn check_layers(&self, image: &Image) -> Result<()> {
        for layer in image.layers() {
            let Descriptor { digest, size, .. } = &layer.descriptor;
            let meta = fs_err::metadata(self.blob(digest))
                .map_err(|error| self.error(format!("layer {digest} is not in it")).because(error))?;
            if meta.len() != *size {
                let why = format!("layer {digest} has {} bytes and should have {size}", meta.len());
                return Err(self.error(why).help("copy the layout again"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platforms_fit_when_all_named_parts_agree() {
        assert!(fits("linux/amd64", "linux/amd64"));
        assert!(fits("linux/arm64", "linux/arm64/v8"));
        assert!(!fits("linux/arm/v7", "linux/arm/v6"));
        assert!(!fits("linux/amd64", "linux/arm64"));
        assert!(!fits("linux/amd64", ""));
    }
}
