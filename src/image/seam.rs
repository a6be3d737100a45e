//! The seam: the config label that names the secret layer's diff_id, so that it can be found and replaced later.

use std::collections::BTreeMap;

use crate::digest::DiffId;
use crate::error::{Error, Result};
use crate::image::{Content, Descriptor, History, Image, Layer};
use crate::layer::bake::{Folders, SecretLayer};
use crate::secret::Version;

/// Names the secret layer's diff_id.
pub const SEAM_LABEL: &str = "io.imgforge.seam";
/// Names the secret files in it and their versions: `{"server_settings":"3HL4kqt…"}`. Never their values.
pub const VERSIONS_LABEL: &str = "io.imgforge.secrets";

/// Holds what the folders above the secret files are like below the seam, so that a later layer can list them the same.
pub const FOLDERS_LABEL: &str = "io.imgforge.folders";

/// The folders that [`FOLDERS_LABEL`] tells of. Empty when there is none or it cannot be read.
pub fn folders(image: &Image) -> Folders {
    image.label(FOLDERS_LABEL).and_then(|label| serde_json::from_str(label).ok()).unwrap_or_default()
}

/// The image with the secret layer on top and the seam's labels set. `folders` are those above the secret files.
///
/// # Errors
/// It has a seam already: a second secret layer would leave the first one's secrets below.
pub fn append(
    image: &Image,
    layer: SecretLayer,
    versions: &BTreeMap<String, Version>,
    folders: &Folders,
) -> Result<Image> {
    if let Some(seam) = image.label(SEAM_LABEL) {
        return Err(Error::failed(format!("the image has a secret layer already ({seam})"))
            .help("build the base without one: secrets below the seam stay readable"));
    }
    let mut labels = Vec::from(labels(&layer, versions));
    if !folders.is_empty() {
        let folders = serde_json::to_string(folders).expect("a map by strings can be written");
        labels.push((FOLDERS_LABEL, folders));
    }
    Ok(image.append(layer_of(image, layer), history()).with_labels(&labels))
}

/// The image with its secret layer replaced by `layer`; `None` when that is the one it has. Layers below and above the
/// seam stay where they are, to the byte.
///
/// # Errors
/// [`crate::error::Kind::Refused`] for an image without a seam; a seam that points at no layer.
pub fn replace(
    image: &Image,
    layer: SecretLayer,
    versions: &BTreeMap<String, Version>,
) -> Result<Option<Image>> {
    let Some(index) = find(image)? else {
        return Err(Error::refused("it has no secret layer that could be replaced")
            .help("release it once with imgforge, which bakes secrets as a layer of their own"));
    };
    if image.layers()[index].diff_id == layer.digests.diff_id {
        return Ok(None);
    }
    let labels = labels(&layer, versions);
    Ok(Some(image.replace(index, layer_of(image, layer), history()).with_labels(&labels)))
}

fn layer_of(image: &Image, layer: SecretLayer) -> Layer {
    let SecretLayer { blob, digests } = layer;
    let descriptor = Descriptor::new(image.kind().gzip_layer(), digests.digest, digests.size);
    Layer { descriptor, diff_id: digests.diff_id, content: Content::Memory(blob) }
}

fn labels(layer: &SecretLayer, versions: &BTreeMap<String, Version>) -> [(&'static str, String); 2] {
    let versions = serde_json::to_string(versions).expect("a map of strings can be written");
    [(SEAM_LABEL, layer.digests.diff_id.to_string()), (VERSIONS_LABEL, versions)]
}

fn history() -> History {
    History {
        created_by: "imgforge bake".into(),
        comment: "the secret layer; imgforge rotate replaces it".into(),
    }
}

/// Where the seam is: the index of the secret layer. `None` for an image without one.
///
/// # Errors
/// The label names a layer that is not in the image.
pub fn find(image: &Image) -> Result<Option<usize>> {
    let Some(label) = image.label(SEAM_LABEL) else { return Ok(None) };
    let seam = DiffId(label.parse()?);
    match image.layers().iter().rposition(|layer| layer.diff_id == seam) {
        Some(index) => Ok(Some(index)),
        None => Err(Error::failed(format!("the seam names {seam}, which is no layer of the image"))
            .help("something else rewrote this image; release it again with imgforge")),
    }
}

/// The secret versions that the label tells. Empty when there is none or it cannot be read.
pub fn versions(image: &Image) -> BTreeMap<String, String> {
    image.label(VERSIONS_LABEL).and_then(|label| serde_json::from_str(label).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Mode, Owner};
    use crate::image::Kind;
    use crate::layer::bake::{BakedFile, bake};
    use crate::secret::Secret;

    fn empty() -> Image {
        let config = serde_json::json!({"os": "linux", "architecture": "amd64", "history": [],
            "rootfs": {"type": "layers", "diff_ids": []}});
        Image::new(Kind::Docker, config.as_object().unwrap().clone(), Vec::new()).unwrap()
    }

    fn secret_layer() -> SecretLayer {
        layer_with("SECRET_KEY = 'canary'")
    }

    fn layer_with(text: &str) -> SecretLayer {
        let value = Secret::new(text.into());
        let file = BakedFile { path: "/s.py".into(), owner: Owner::default(), mode: Mode::default(), value };
        bake(&[file], &Folders::new(), &Secret::new(vec![1; 32])).unwrap()
    }

    fn versions_one() -> BTreeMap<String, Version> {
        BTreeMap::from([("server_settings".to_owned(), Version("v1".into()))])
    }

    #[test]
    fn seam_names_the_layer_and_the_versions() {
        let baked = append(&empty(), secret_layer(), &versions_one(), &Folders::new()).unwrap();
        assert_eq!(find(&baked).unwrap(), Some(0));
        assert_eq!(versions(&baked), BTreeMap::from([("server_settings".into(), "v1".into())]));
        assert!(!String::from_utf8_lossy(&baked.config_bytes()).contains("canary"));
    }

    #[test]
    fn a_second_secret_layer_is_refused() {
        let baked = append(&empty(), secret_layer(), &versions_one(), &Folders::new()).unwrap();
        let error = append(&baked, secret_layer(), &versions_one(), &Folders::new()).unwrap_err();
        assert!(error.what().contains("already"), "{error}");
    }

    #[test]
    fn a_rotated_image_is_the_one_that_baking_the_new_secret_gives() {
        let two = BTreeMap::from([("server_settings".to_owned(), Version("v2".into()))]);
        let baked = append(&empty(), secret_layer(), &versions_one(), &Folders::new()).unwrap();
        let rotated = replace(&baked, layer_with("SECRET_KEY = 'new'"), &two).unwrap().unwrap();
        let fresh = append(&empty(), layer_with("SECRET_KEY = 'new'"), &two, &Folders::new()).unwrap();
        assert_eq!(rotated.digest(), fresh.digest());
        // Back again is where it was, and the same once more is nothing.
        let back = replace(&rotated, secret_layer(), &versions_one()).unwrap().unwrap();
        assert_eq!(back.digest(), baked.digest());
        assert!(replace(&baked, secret_layer(), &versions_one()).unwrap().is_none());
    }

    #[test]
    fn an_image_without_a_seam_is_not_rotated() {
        let error = replace(&empty(), secret_layer(), &versions_one()).unwrap_err();
        assert!(error.what().contains("no secret layer"), "{error}");
        assert!(error.help_text().unwrap().contains("release it once"));
    }

    #[test]
    fn a_seam_that_points_nowhere_is_an_error() {
        let lost = empty().with_labels(&[(SEAM_LABEL, crate::digest::Digest::of(b"gone").to_string())]);
        assert!(find(&lost).is_err());
        assert_eq!(find(&empty()).unwrap(), None);
    }
}
