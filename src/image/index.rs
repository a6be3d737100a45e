//! An index: one image for each platform (OCI image-spec, image-index.md; Docker calls it a manifest list).
//!
//! Invariants: no I/O. Fields that this version does not know stay, in the index and in each entry.

use bytes::Bytes;
use serde_json::{Value, json};

use super::{Descriptor, Image, Object, media_type};
use crate::digest::Digest;
use crate::error::{Error, Result};

/// An index as it was read, or with other images in it.
#[derive(Debug, Clone)]
pub struct Index {
    media_type: String,
    fields: Object,
    manifests: Vec<Descriptor>,
}

/// Whether a manifest of this media type is an index.
pub fn is_index(media_type: &str) -> bool {
    [media_type::OCI_INDEX, media_type::DOCKER_INDEX].contains(&media_type)
}

impl Index {
    /// Reads the bytes of a manifest of type `media_type`.
    ///
    /// # Errors
    /// They are no index; one index inside another.
    pub fn parse(media_type: &str, bytes: &[u8]) -> Result<Self> {
        let bad = |error: serde_json::Error| Error::failed("this is not an image index").because(error);
        let fields: Object = serde_json::from_slice(bytes).map_err(bad)?;
        let listed = fields.get("manifests").cloned().unwrap_or(Value::Null);
        let manifests: Vec<Descriptor> = serde_json::from_value(listed).map_err(bad)?;
        if let Some(inner) = manifests.iter().find(|entry| is_index(&entry.media_type)) {
            return Err(Error::failed(format!("the index lists another index ({})", inner.digest))
                .help("name the inner one by its digest"));
        }
        Ok(Index { media_type: media_type.to_owned(), fields, manifests })
    }

    /// One of `images`, each for another platform, in this order. It is of their family.
    ///
    /// # Errors
    /// There are none; two of them are for the same platform; they are of different families.
    pub fn of(images: &[&Image]) -> Result<Self> {
        let first = images.first().ok_or_else(|| Error::failed("an index of no images was asked for"))?;
        let kind = first.kind();
        let mut manifests: Vec<Descriptor> = Vec::new();
        for image in images {
            if image.kind() != kind {
                let help =
                    "take bases of one kind, or compression = \"zstd\", with which all images are OCI images";
                return Err(Error::refused("Docker and OCI images do not go into one index").help(help));
            }
            let size = image.manifest_bytes().len() as u64;
            let mut entry = Descriptor::new(kind.manifest(), image.digest(), size);
            entry.rest.insert("platform".into(), platform_in(image));
            if manifests.iter().any(|other| other.rest.get("platform") == entry.rest.get("platform")) {
                return Err(Error::failed(format!("two images are for {}", image.platform())));
            }
            manifests.push(entry);
        }
        let media_type = kind.index();
        let mut fields = Object::new();
        fields.insert("schemaVersion".into(), 2.into());
        fields.insert("mediaType".into(), media_type.into());
        Ok(Index { media_type: media_type.to_owned(), fields, manifests })
    }

    /// Its digest.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.bytes())
    }

    /// Its media type.
    pub fn media_type(&self) -> &str {
        &self.media_type
    }

    /// The images, without what only says something about them.
    pub fn images(&self) -> impl Iterator<Item = &Descriptor> {
        self.manifests.iter().filter(|entry| !is_attestation(entry))
    }

    /// How many entries are no images but attestations.
    pub fn attestations(&self) -> usize {
        self.manifests.iter().filter(|entry| is_attestation(entry)).count()
    }

    /// The image for `platform` (`linux/amd64`, `linux/arm64/v8`).
    ///
    /// # Errors
    /// There is none; the platforms there are, are told.
    pub fn pick(&self, platform: &str) -> Result<&Descriptor> {
        let images: Vec<&Descriptor> = self.images().collect();
        if let Some(entry) = images.iter().find(|entry| is_for(entry, platform)) {
            return Ok(entry);
        }
        match images[..] {
            // An index of one image without a platform says nothing against it.
            [only] if !only.rest.contains_key("platform") => Ok(only),
            _ => {
                let there: Vec<String> = images.into_iter().map(platform_of).collect();
                Err(Error::failed(format!("it has no image for {platform}"))
                    .help(format!("it has: {}", there.join(", "))))
            }
        }
    }

    /// The same index with the images that `replaced` gives, each by its old digest. Attestations are left out: what they
    /// say is about the old images.
    ///
    /// # Errors
    /// An image that `replaced` does not know.
    pub fn with_images(&self, replaced: impl Fn(Digest) -> Option<(Digest, u64)>) -> Result<Self> {
        let images = self.images().map(|entry| {
            let (digest, size) = replaced(entry.digest).ok_or_else(|| {
                Error::failed(format!("the index has {} and nothing to replace it", entry.digest))
            })?;
            Ok(Descriptor { digest, size, ..entry.clone() })
        });
        Ok(Index { manifests: images.collect::<Result<_>>()?, ..self.clone() })
    }

    /// Its bytes, as this version writes them.
    pub fn bytes(&self) -> Bytes {
        let mut fields = self.fields.clone();
        fields.insert("manifests".into(), json!(self.manifests));
        serde_json::to_vec(&fields).expect("a JSON object can be written").into()
    }
}

/// `os/architecture[/variant]` of an index's entry, or words for there being none.
pub fn platform_of(entry: &Descriptor) -> String {
    let Some(platform) = entry.rest.get("platform") else { return "no platform".into() };
    let part = |name: &str| platform.get(name).and_then(Value::as_str);
    [part("os"), part("architecture"), part("variant")].into_iter().flatten().collect::<Vec<_>>().join("/")
}

/// The `platform` of an image's entry, as its config says it (OCI image-spec, config.md and image-index.md).
fn platform_in(image: &Image) -> Value {
    let part = |name: &str| image.config().get(name).map(|value| (name.to_owned(), value.clone()));
    ["architecture", "os", "os.version", "variant"].into_iter().filter_map(part).collect::<Object>().into()
}

/// What BuildKit says about a build is a child of an index too, and no image.
fn is_attestation(entry: &Descriptor) -> bool {
    let kind = entry.rest.get("annotations").and_then(|all| all.get("vnd.docker.reference.type"));
    let os = entry.rest.get("platform").and_then(|platform| platform.get("os"));
    kind.and_then(Value::as_str) == Some("attestation-manifest")
        || os.and_then(Value::as_str) == Some("unknown")
}

/// A variant that is not asked for does not count; `arm64` is `arm64/v8` (containerd's platform normalization).
fn is_for(entry: &Descriptor, wanted: &str) -> bool {
    let Some(platform) = entry.rest.get("platform") else { return false };
    let part = |name: &str| platform.get(name).and_then(Value::as_str);
    let own_variant = part("variant").or((part("architecture") == Some("arm64")).then_some("v8"));
    let mut wanted = wanted.splitn(3, '/');
    wanted.next() == part("os")
        && wanted.next() == part("architecture")
        && wanted.next().is_none_or(|variant| own_variant == Some(variant))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Kind;

    fn entry(name: &str, platform: Value) -> Value {
        json!({"mediaType": media_type::OCI_MANIFEST, "size": 1, "digest": Digest::of(name.as_bytes()),
            "platform": platform, "x-foreign": name})
    }

    fn index() -> Index {
        let mut attestation = entry("attestation", json!({"os": "linux", "architecture": "amd64"}));
        attestation["annotations"] = json!({"vnd.docker.reference.type": "attestation-manifest"});
        let index = json!({"schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": [
            attestation,
            entry("unknown", json!({"os": "unknown", "architecture": "unknown"})),
            entry("amd64", json!({"os": "linux", "architecture": "amd64"})),
            entry("armv7", json!({"os": "linux", "architecture": "arm", "variant": "v7"})),
            entry("arm64", json!({"os": "linux", "architecture": "arm64"})),
        ], "annotations": {"kept": "yes"}});
        Index::parse(media_type::OCI_INDEX, &serde_json::to_vec(&index).unwrap()).unwrap()
    }

    #[test]
    fn the_wanted_platform_is_taken_and_never_an_attestation() {
        for (wanted, name) in [
            ("linux/amd64", "amd64"),
            ("linux/arm/v7", "armv7"),
            ("linux/arm", "armv7"),
            ("linux/arm64", "arm64"),
            ("linux/arm64/v8", "arm64"),
        ] {
            assert_eq!(index().pick(wanted).unwrap().digest, Digest::of(name.as_bytes()), "{wanted}");
        }
    }

    #[test]
    fn a_platform_that_is_not_there_is_told_with_those_that_are() {
        let error = index().pick("linux/s390x").unwrap_err();
        assert_eq!(error.what(), "it has no image for linux/s390x");
        assert_eq!(error.help_text(), Some("it has: linux/amd64, linux/arm/v7, linux/arm64"));
    }

    #[test]
    fn images_are_replaced_attestations_go_and_everything_else_stays() {
        let new = |old: Digest| Some((Digest::of(old.hex().as_bytes()), 7));
        let replaced = index().with_images(new).unwrap();
        let read: Value = serde_json::from_slice(&replaced.bytes()).unwrap();
        assert_eq!(read["annotations"]["kept"], "yes");
        let entries = read["manifests"].as_array().unwrap();
        let names: Vec<&str> = entries.iter().map(|entry| entry["x-foreign"].as_str().unwrap()).collect();
        assert_eq!(names, ["amd64", "armv7", "arm64"]);
        assert_eq!(entries[1]["digest"], json!(Digest::of(Digest::of(b"armv7").hex().as_bytes())));
        assert_eq!(entries[1]["size"], 7);
        assert_eq!(entries[1]["platform"]["variant"], "v7");
        assert!(index().with_images(|_| None).is_err());
    }

    #[test]
    fn an_index_is_made_of_images_for_different_platforms() {
        let image = |architecture: &str, kind: Kind| {
            let config = json!({"os": "linux", "architecture": architecture, "rootfs": {"type": "layers", "diff_ids": []}});
            Image::new(kind, config.as_object().unwrap().clone(), Vec::new()).unwrap()
        };
        let images = [image("amd64", Kind::Oci), image("arm64", Kind::Oci)];
        let index = Index::of(&[&images[0], &images[1]]).unwrap();
        let read = Index::parse(index.media_type(), &index.bytes()).unwrap();
        assert_eq!(read.media_type(), media_type::OCI_INDEX);
        assert_eq!(read.pick("linux/arm64").unwrap().digest, images[1].digest());
        assert_eq!(
            index.digest().to_string(),
            "sha256:c19eb199e1f13cb2e58628915bc6f09b3810064617804904823a41dfb15e064f"
        );
        let twice = Index::of(&[&images[0], &images[0]]).unwrap_err();
        assert!(twice.what().contains("linux/amd64"), "{twice}");
        assert!(Index::of(&[&images[0], &image("arm64", Kind::Docker)]).is_err());
        assert!(Index::of(&[]).is_err());
        assert_eq!(
            Index::of(&[&image("amd64", Kind::Docker)]).unwrap().media_type(),
            media_type::DOCKER_INDEX
        );
    }

    #[test]
    fn an_index_in_an_index_is_refused() {
        let mut inner = entry("inner", json!({"os": "linux"}));
        inner["mediaType"] = media_type::OCI_INDEX.into();
        let outer = json!({"manifests": [inner]}).to_string();
        let error = Index::parse(media_type::OCI_INDEX, outer.as_bytes()).unwrap_err();
        assert!(error.what().contains("another index"), "{error}");
    }
}
