//! An image is a value: a manifest's worth of layers and a config. Changing it returns a new one.
//!
//! Invariants: no I/O here (contract 1). `layers` and the config's `rootfs.diff_ids` have the same length and order. What is put
//! into an image gets the media types of its family; a layer that Docker's has none for makes an OCI image of it.
//! Fields that this version does not know stay in the config, the manifest and each descriptor. An image that was read
//! and not changed keeps its bytes, hence its digest.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::digest::{DiffId, Digest};
use crate::error::{Error, Result};

pub mod index;
pub mod inspect;
mod kind;
pub mod reference;
pub mod seam;

pub use kind::{Kind, media_type};

/// A JSON object whose fields keep their order.
pub type Object = Map<String, Value>;

/// Names a blob (OCI image-spec, descriptor.md).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What is in it.
    pub media_type: String,
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// `urls`, `annotations`, `platform` and whatever else was there.
    #[serde(flatten)]
    pub rest: Object,
}

impl Descriptor {
    /// A descriptor without extra fields.
    pub fn new(media_type: impl Into<String>, digest: Digest, size: u64) -> Self {
        Descriptor { media_type: media_type.into(), digest, size, rest: Object::new() }
    }
}

/// Where the bytes of a layer's blob are.
#[derive(Debug, Clone)]
pub enum Content {
    /// In memory. The secret layer is always here and nowhere else.
    Memory(Bytes),
    /// In a file of its own, which is exactly the blob.
    File(Arc<PathBuf>),
    /// In a registry: repository as its `Registry` names it. It can be read or mounted from there.
    Registry(Arc<str>),
}

/// One layer: the blob and the digest of the tar inside.
#[derive(Debug, Clone)]
pub struct Layer {
    /// Names the compressed blob.
    pub descriptor: Descriptor,
    /// Names the tar.
    pub diff_id: DiffId,
    /// Where the blob is.
    pub content: Content,
}

impl Layer {
    fn media_type(&self) -> &str {
        &self.descriptor.media_type
    }

    /// With the media type that layers like it have in this family. One that nobody knows keeps its own.
    fn of_kind(mut self, kind: Kind) -> Self {
        if let Some(media_type) = kind.layer(self.media_type()) {
            self.descriptor.media_type = media_type.into();
        }
        self
    }
}

/// The history entry that comes with a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct History {
    /// What made the layer; shown by `docker history`.
    pub created_by: String,
    /// A word for people.
    pub comment: String,
}

/// A container image for one platform.
#[derive(Debug, Clone)]
pub struct Image {
    kind: Kind,
    config: Object,
    manifest: Object,
    layers: Vec<Layer>,
    read: Option<Bytes>,
    config_read: Option<Bytes>,
}

impl Image {
    /// An image of `kind` from a config and its layers, bottom first; of the other one when `kind` has no room for a layer.
    ///
    /// # Errors
    /// The config lists other diff_ids than the layers have.
    pub fn new(kind: Kind, config: Object, layers: Vec<Layer>) -> Result<Self> {
        let listed = diff_ids(&config)?;
        let have: Vec<DiffId> = layers.iter().map(|layer| layer.diff_id).collect();
        if listed != have {
            return Err(Error::failed("the image's config and its layers disagree")
                .because(Error::failed(format!("config lists {listed:?}, layers are {have:?}"))));
        }
        let kind = kind.with_room_for(layers.iter().map(Layer::media_type));
        let image = Image { kind, config, manifest: Object::new(), layers, read: None, config_read: None };
        Ok(image.of_kind(kind))
    }

    /// An image of `kind` from a config whose bytes stay as they are, hence its digest.
    ///
    /// # Errors
    /// Not a JSON object, or it lists other diff_ids than the layers have.
    pub fn from_config(kind: Kind, config: Bytes, layers: Vec<Layer>) -> Result<Self> {
        let fields: Object = serde_json::from_slice(&config)
            .map_err(|error| Error::failed("the image's config is not a JSON object").because(error))?;
        let image = Image::new(kind, fields, layers)?;
        Ok(Image { config_read: Some(config), ..image })
    }

    /// An image as it was read: manifest and config to the byte, layers' blobs at `content`.
    ///
    /// # Errors
    /// Not a manifest of a known kind, or manifest and config disagree.
    pub fn from_read(manifest: Bytes, config: Bytes, content: &Content) -> Result<Self> {
        let document = ManifestDocument::parse(&manifest)?;
        if Digest::of(&config) != document.config.digest {
            return Err(Error::failed("the image's config is not the one that its manifest names").because(
                Error::failed(format!("wanted {}, got {}", document.config.digest, Digest::of(&config))),
            ));
        }
        let fields: Object = serde_json::from_slice(&config)
            .map_err(|error| Error::failed("the image's config is not a JSON object").because(error))?;
        let diff_ids = diff_ids(&fields)?;
        if diff_ids.len() != document.layers.len() {
            return Err(Error::failed(format!(
                "the image's config lists {} layers and its manifest {}",
                diff_ids.len(),
                document.layers.len()
            )));
        }
        let layers = document
            .layers
            .into_iter()
            .zip(diff_ids)
            .map(|(descriptor, diff_id)| Layer { descriptor, diff_id, content: content.clone() })
            .collect();
        Ok(Image {
            kind: document.kind,
            config: fields,
            manifest: document.fields,
            layers,
            read: Some(manifest),
            config_read: Some(config),
        })
    }

    /// Docker or OCI.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The config's fields.
    pub fn config(&self) -> &Object {
        &self.config
    }

    /// The layers, bottom first.
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// Bytes of all layers, compressed.
    pub fn size(&self) -> u64 {
        self.layers.iter().map(|layer| layer.descriptor.size).sum()
    }

    /// `os/architecture[/variant]`.
    pub fn platform(&self) -> String {
        let field =
            |name: &str| self.config.get(name).and_then(Value::as_str).filter(|value| !value.is_empty());
        [field("os"), field("architecture"), field("variant")]
            .into_iter()
            .flatten()
            .collect::<Vec<_>>()
            .join("/")
    }

    /// A label of the config.
    pub fn label(&self, name: &str) -> Option<&str> {
        self.config.get("config")?.get("Labels")?.get(name)?.as_str()
    }

    /// The image with one more layer on top and its history entry. The creation time stays: it says when the image was
    /// built, and a time here would make equal inputs give another digest.
    pub fn append(&self, layer: Layer, history: History) -> Self {
        let mut image = self.changed_for(&layer);
        let rootfs =
            image.config.entry("rootfs").or_insert_with(|| json!({"type": "layers", "diff_ids": []}));
        if let Some(diff_ids) = rootfs.get_mut("diff_ids").and_then(Value::as_array_mut) {
            diff_ids.push(Value::String(layer.diff_id.to_string()));
        }
        // An image without any history gets none: one entry alone would claim to be the lowest layer.
        if let Some(entries) = image.config.get_mut("history").and_then(Value::as_array_mut) {
            let created = self.config.get("created").cloned();
            let mut entry = Object::new();
            if let Some(created) = created {
                entry.insert("created".into(), created);
            }
            entry.insert("created_by".into(), history.created_by.into());
            entry.insert("comment".into(), history.comment.into());
            entries.push(Value::Object(entry));
        }
        image.layers.push(layer.of_kind(image.kind));
        image
    }

    /// The image with the layer at `index` replaced: its descriptor, its diff_id and its history entry together. The entry
    /// keeps what else is in it. Everything else stays as it is.
    ///
    /// # Panics
    /// There is no such layer.
    pub fn replace(&self, index: usize, layer: Layer, history: History) -> Self {
        let mut image = self.changed_for(&layer);
        let listed = image.config.get_mut("rootfs").and_then(|rootfs| rootfs.get_mut("diff_ids"));
        if let Some(diff_id) = listed.and_then(|diff_ids| diff_ids.get_mut(index)) {
            *diff_id = Value::String(layer.diff_id.to_string());
        }
        // History has entries without a layer, and may be missing or too short (OCI image-spec, config.md).
        let entries = image.config.get_mut("history").and_then(Value::as_array_mut);
        let with_layer = entries
            .into_iter()
            .flatten()
            .filter(|entry| entry.get("empty_layer").and_then(Value::as_bool) != Some(true));
        if let Some(entry) = with_layer.into_iter().nth(index).and_then(Value::as_object_mut) {
            entry.insert("created_by".into(), history.created_by.into());
            entry.insert("comment".into(), history.comment.into());
        }
        image.layers[index] = layer.of_kind(image.kind);
        image
    }

    /// The image with these labels set; labels of other names stay.
    pub fn with_labels(&self, labels: &[(&str, String)]) -> Self {
        let mut image = self.changed();
        let config = object_at(&mut image.config, "config");
        let config_labels = object_at(config, "Labels");
        for (name, value) in labels {
            config_labels.insert((*name).into(), value.clone().into());
        }
        image
    }

    /// The same image with the blobs of its layers found elsewhere.
    pub fn with_contents(&self, find: impl Fn(&Layer) -> Content) -> Self {
        let mut image = self.clone();
        for layer in &mut image.layers {
            layer.content = find(layer);
        }
        image
    }

    fn changed(&self) -> Self {
        Image { read: None, config_read: None, ..self.clone() }
    }

    /// A copy to put `layer` into. What was read stays as it is where there is room for it.
    fn changed_for(&self, layer: &Layer) -> Self {
        match self.kind.with_room_for([layer.media_type()].into_iter()) {
            same if same == self.kind => self.changed(),
            other => self.changed().of_kind(other),
        }
    }

    fn of_kind(self, kind: Kind) -> Self {
        let layers = self.layers.into_iter().map(|layer| layer.of_kind(kind)).collect();
        Image { kind, layers, ..self }
    }

    /// The config's bytes: as read, or as this version writes them.
    pub fn config_bytes(&self) -> Bytes {
        match &self.config_read {
            Some(bytes) => bytes.clone(),
            None => serde_json::to_vec(&self.config).expect("a JSON object can be written").into(),
        }
    }

    /// The config's descriptor. Its digest is also the image's id on a Docker daemon (classic image store).
    pub fn config_descriptor(&self) -> Descriptor {
        let bytes = self.config_bytes();
        Descriptor::new(self.kind.config(), Digest::of(&bytes), bytes.len() as u64)
    }

    /// The manifest's bytes: as read, or written with `mediaType` on top and unknown fields kept.
    pub fn manifest_bytes(&self) -> Bytes {
        if let Some(bytes) = &self.read {
            return bytes.clone();
        }
        let mut manifest = Object::new();
        manifest.insert("schemaVersion".into(), 2.into());
        manifest.insert("mediaType".into(), self.kind.manifest().into());
        manifest.insert("config".into(), json!(self.config_descriptor()));
        manifest.insert("layers".into(), self.layers.iter().map(|layer| json!(layer.descriptor)).collect());
        for (name, value) in &self.manifest {
            if !manifest.contains_key(name) {
                manifest.insert(name.clone(), value.clone());
            }
        }
        serde_json::to_vec(&manifest).expect("a JSON object can be written").into()
    }

    /// The manifest's digest: the image's name.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.manifest_bytes())
    }
}

fn object_at<'o>(parent: &'o mut Object, name: &str) -> &'o mut Object {
    let value = parent.entry(name).or_insert(Value::Null);
    if !value.is_object() {
        *value = Value::Object(Object::new());
    }
    value.as_object_mut().expect("it was just made an object")
}

fn diff_ids(config: &Object) -> Result<Vec<DiffId>> {
    let Some(listed) = config.get("rootfs").and_then(|rootfs| rootfs.get("diff_ids")) else {
        return Ok(Vec::new());
    };
    Vec::<DiffId>::deserialize(listed).map_err(|error| {
        Error::failed("the image's config lists something that is no diff_id").because(error)
    })
}

/// A manifest as parsed: its kind, and the two fields that the rest needs.
struct ManifestDocument {
    kind: Kind,
    config: Descriptor,
    layers: Vec<Descriptor>,
    fields: Object,
}

impl ManifestDocument {
    fn parse(bytes: &[u8]) -> Result<Self> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Known {
            media_type: Option<String>,
            config: Descriptor,
            layers: Vec<Descriptor>,
        }
        let bad = |error: serde_json::Error| Error::failed("this is not an image manifest").because(error);
        let fields: Object = serde_json::from_slice(bytes).map_err(bad)?;
        let known: Known = serde_json::from_slice(bytes).map_err(bad)?;
        // OCI made mediaType optional; the config's then tells the kind.
        let kind = match &known.media_type {
            Some(media_type) => Kind::of_manifest(media_type),
            None => {
                [Kind::Docker, Kind::Oci].into_iter().find(|kind| kind.config() == known.config.media_type)
            }
        };
        let kind = kind.ok_or_else(|| {
            let media_type = known.media_type.as_ref().unwrap_or(&known.config.media_type);
            Error::failed(format!("manifests of type {media_type:?} are not known"))
                .help("Docker schema 2 and OCI image manifests are")
        })?;
        Ok(ManifestDocument { kind, config: known.config, layers: known.layers, fields })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Compression;

    fn layer(text: &'static str) -> Layer {
        Layer {
            descriptor: Descriptor::new(
                Kind::Oci.gzip_layer(),
                Digest::of(text.as_bytes()),
                text.len() as u64,
            ),
            diff_id: DiffId(Digest::of(text.as_bytes())),
            content: Content::Memory(Bytes::from_static(text.as_bytes())),
        }
    }

    fn two_layers_one_empty_history_entry() -> Image {
        let layers = vec![layer("one"), layer("two")];
        let config = json!({
            "architecture": "amd64", "os": "linux", "created": "2026-01-02T03:04:05Z",
            "config": {"Env": ["A=1"], "Labels": {"kept": "yes"}},
            "rootfs": {"type": "layers", "diff_ids": layers.iter().map(|layer| layer.diff_id).collect::<Vec<_>>()},
            "history": [{"created_by": "one"}, {"created_by": "ENV A=1", "empty_layer": true}, {"created_by": "two"}],
            "x-foreign": {"kept": true},
        });
        Image::new(Kind::Oci, config.as_object().unwrap().clone(), layers).unwrap()
    }

    #[test]
    fn append_adds_layer_diff_id_and_history_and_nothing_else() {
        let before = two_layers_one_empty_history_entry();
        let history = History { created_by: "imgforge bake".into(), comment: "c".into() };
        let after = before.append(layer("three"), history);
        assert_eq!(after.layers().len(), 3);
        assert_eq!(after.config()["rootfs"]["diff_ids"].as_array().unwrap().len(), 3);
        assert_eq!(after.config()["history"].as_array().unwrap().len(), 4);
        assert_eq!(after.config()["x-foreign"], before.config()["x-foreign"]);
        assert_eq!(after.config()["created"], before.config()["created"]);
        assert_eq!(before.layers().len(), 2, "the old value is untouched");
    }

    /// Contract 8: pinned, so that no change of this code moves a digest unseen.
    #[test]
    fn digest_is_golden() {
        let image = two_layers_one_empty_history_entry().with_labels(&[("a", "b".into())]);
        assert_eq!(
            image.digest().to_string(),
            "sha256:c0226d8c9b7843f330f7b865f22e16536e622b87adfc3377a76f854dc67e88f1"
        );
    }

    #[test]
    fn what_was_read_keeps_its_bytes() {
        let image = two_layers_one_empty_history_entry();
        let spaced = String::from_utf8(image.manifest_bytes().to_vec()).unwrap().replace(":2,", ":  2,");
        let content = Content::Registry("r".into());
        let read = Image::from_read(spaced.clone().into(), image.config_bytes(), &content).unwrap();
        assert_eq!(read.manifest_bytes(), spaced.as_bytes());
        assert_eq!(read.digest(), Digest::of(spaced.as_bytes()));
    }

    #[test]
    fn foreign_manifest_fields_survive_a_change() {
        let image = two_layers_one_empty_history_entry();
        let mut manifest: Object = serde_json::from_slice(&image.manifest_bytes()).unwrap();
        manifest.insert("annotations".into(), json!({"who": "me"}));
        manifest["layers"][0]["annotations"] = json!({"on": "layer"});
        let bytes: Bytes = serde_json::to_vec(&manifest).unwrap().into();
        let read = Image::from_read(bytes, image.config_bytes(), &Content::Registry("r".into())).unwrap();
        let changed = read.with_labels(&[("new", "1".into())]);
        let after: Object = serde_json::from_slice(&changed.manifest_bytes()).unwrap();
        assert_eq!(after["annotations"], manifest["annotations"]);
        assert_eq!(after["layers"], manifest["layers"]);
        assert_ne!(after["config"], manifest["config"]);
        assert_eq!(changed.label("kept"), Some("yes"));
    }

    #[test]
    fn a_layer_that_docker_has_no_name_for_makes_an_oci_image_of_the_whole() {
        let zstd = |text| {
            let mut layer = layer(text);
            layer.descriptor.media_type = Kind::oci_layer(Compression::Zstd).into();
            layer
        };
        let docker = |layers: Vec<Layer>| {
            let diff_ids: Vec<DiffId> = layers.iter().map(|layer| layer.diff_id).collect();
            let config = json!({"rootfs": {"type": "layers", "diff_ids": diff_ids}});
            Image::new(Kind::Docker, config.as_object().unwrap().clone(), layers).unwrap()
        };
        let types = |image: &Image| -> Vec<String> {
            let manifest: Value = serde_json::from_slice(&image.manifest_bytes()).unwrap();
            let layers = manifest["layers"].as_array().unwrap().iter();
            let all = [&manifest["mediaType"], &manifest["config"]["mediaType"]].into_iter();
            all.chain(layers.map(|layer| &layer["mediaType"]))
                .map(|text| text.as_str().unwrap().into())
                .collect()
        };
        let history = || History { created_by: "x".into(), comment: "x".into() };
        let gzip = docker(vec![layer("one")]);
        assert_eq!(types(&gzip)[2], Kind::Docker.gzip_layer(), "what is put in gets the family's type");
        assert_eq!(types(&gzip.append(layer("two"), history()))[3], Kind::Docker.gzip_layer());
        // As it was read, and changed in each way that there is.
        let read =
            Image::from_read(gzip.manifest_bytes(), gzip.config_bytes(), &Content::Registry("r".into()))
                .unwrap();
        let (manifest, config, gzip_type) =
            (Kind::Oci.manifest(), Kind::Oci.config(), Kind::Oci.gzip_layer());
        let zstd_type = Kind::oci_layer(Compression::Zstd);
        assert_eq!(types(&read.append(zstd("two"), history())), [manifest, config, gzip_type, zstd_type]);
        assert_eq!(types(&read.replace(0, zstd("two"), history())), [manifest, config, zstd_type]);
        assert_eq!(types(&docker(vec![layer("one"), zstd("two")])), [manifest, config, gzip_type, zstd_type]);
        // What some tools call it in a Docker manifest is no name that all know.
        let mut theirs = zstd("one");
        theirs.descriptor.media_type = "application/vnd.docker.image.rootfs.diff.tar.zstd".into();
        assert_eq!(types(&docker(vec![theirs])), [manifest, config, zstd_type]);
    }

    #[test]
    fn disagreeing_config_and_manifest_are_refused() {
        let image = two_layers_one_empty_history_entry();
        let content = Content::Registry("r".into());
        let error = Image::from_read(image.manifest_bytes(), "{}".into(), &content).unwrap_err();
        assert!(error.what().contains("not the one that its manifest names"));
        let mut short: Object = serde_json::from_slice(&image.manifest_bytes()).unwrap();
        short["layers"].as_array_mut().unwrap().pop();
        let bytes: Bytes = serde_json::to_vec(&short).unwrap().into();
        let error = Image::from_read(bytes, image.config_bytes(), &content).unwrap_err();
        assert_eq!(error.what(), "the image's config lists 2 layers and its manifest 1");
    }
}
