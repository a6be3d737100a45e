//! Random images: after a rotation only the seam is another.

use std::collections::BTreeMap;

use imgforge::config::{Mode, Owner};
use imgforge::digest::{DiffId, Digest};
use imgforge::image::index::Index;
use imgforge::image::seam::{self, SEAM_LABEL, VERSIONS_LABEL};
use imgforge::image::{Content, Image, Kind, media_type};
use imgforge::layer::bake::{BakedFile, Folders, SecretLayer, bake};
use imgforge::secret::{Secret, Version};
use proptest::prelude::*;
use serde_json::{Value, json};

/// What an image is made of, before it is written down.
#[derive(Debug, Clone)]
struct Recipe {
    kind: Kind,
    layers: usize,
    seam: usize,
    history: History,
    media_type: bool,
    foreign: bool,
    seed: u64,
}

#[derive(Debug, Clone)]
enum History {
    None,
    /// So many empty entries before each layer's.
    Whole(Vec<u8>),
    /// Fewer entries than layers.
    Short,
}

fn recipe() -> impl Strategy<Value = Recipe> {
    (1_usize..=127).prop_flat_map(|layers| {
        let history = prop_oneof![
            Just(History::None),
            proptest::collection::vec(0_u8..3, layers).prop_map(History::Whole),
            Just(History::Short),
        ];
        let kind = prop_oneof![Just(Kind::Docker), Just(Kind::Oci)];
        (Just(layers), 0..layers, history, kind, any::<bool>(), any::<bool>(), any::<u64>()).prop_map(
            |(layers, seam, history, kind, media_type, foreign, seed)| {
                // Only OCI may leave it out.
                let media_type = media_type || kind == Kind::Docker;
                Recipe { kind, layers, seam, history, media_type, foreign, seed }
            },
        )
    })
}

impl Recipe {
    fn digest(&self, what: &str, index: usize) -> Digest {
        Digest::of(format!("{} {what} {index}", self.seed).as_bytes())
    }

    fn config(&self) -> Value {
        let diff_ids: Vec<String> =
            (0..self.layers).map(|index| self.digest("diff_id", index).to_string()).collect();
        let labels = json!({"before": "1", SEAM_LABEL: diff_ids[self.seam], VERSIONS_LABEL: "{\"s\":\"v1\"}", "after": "2"});
        let mut config = json!({
            "architecture": "amd64", "os": "linux", "created": "2026-01-02T03:04:05Z",
            "config": {"Env": ["A=1"], "Labels": labels},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        let entry = |index: usize| json!({"created_by": format!("layer {index}"), "created": "2026-01-02T03:04:05Z", "author": "kept"});
        match &self.history {
            History::None => {}
            History::Short => config["history"] = (0..self.layers / 2).map(entry).collect(),
            History::Whole(empty) => {
                let mut entries = Vec::new();
                for (index, count) in empty.iter().enumerate() {
                    entries.extend((0..*count).map(|_| json!({"created_by": "ENV", "empty_layer": true})));
                    entries.push(entry(index));
                }
                config["history"] = entries.into();
            }
        }
        if self.foreign {
            config["x-foreign"] = json!({"number": 1.5, "list": [null, {"deep": true}]});
            config["config"]["x-inner"] = "kept".into();
        }
        config
    }

    fn manifest(&self, config: &[u8]) -> Value {
        let layer = |index: usize| {
            let mut layer = json!({"mediaType": self.kind.gzip_layer(), "digest": self.digest("blob", index), "size": 100 + index});
            if self.foreign && index != self.seam {
                layer["annotations"] = json!({"kept": index.to_string()});
            }
            layer
        };
        let mut manifest = json!({
            "schemaVersion": 2,
            "config": {"mediaType": self.kind.config(), "digest": Digest::of(config), "size": config.len()},
            "layers": (0..self.layers).map(layer).collect::<Vec<_>>(),
        });
        if self.media_type {
            manifest["mediaType"] = self.kind.manifest().into();
        }
        if self.foreign {
            manifest["annotations"] = json!({"org.example": "kept"});
            manifest["x-foreign"] = json!([1, 2, 3]);
        }
        manifest
    }

    /// Manifest, config, and the image that they are.
    fn image(&self) -> (Value, Value, Image) {
        let config = self.config();
        let config_bytes = serde_json::to_vec_pretty(&config).unwrap();
        let manifest = self.manifest(&config_bytes);
        let manifest_bytes = serde_json::to_vec_pretty(&manifest).unwrap();
        let image =
            Image::from_read(manifest_bytes.into(), config_bytes.into(), &Content::Registry("h.io/x".into()));
        (manifest, config, image.unwrap())
    }
}

fn secret_layer(value: &str) -> SecretLayer {
    let file = BakedFile {
        path: "/code/s.py".into(),
        owner: Owner { uid: 1000, gid: 1000 },
        mode: Mode(0o400),
        value: Secret::new(value.into()),
    };
    bake(&[file], &Folders::new(), &Secret::new(vec![7; 32])).unwrap()
}

fn versions(version: &str) -> BTreeMap<String, Version> {
    BTreeMap::from([("s".to_owned(), Version(version.to_owned()))])
}

/// What the documents should become, changed by hand.
fn expected(recipe: &Recipe, manifest: &Value, config: &Value, layer: &SecretLayer) -> (Value, Value) {
    let (mut manifest, mut config) = (manifest.clone(), config.clone());
    let diff_id = layer.digests.diff_id.to_string();
    config["rootfs"]["diff_ids"][recipe.seam] = diff_id.clone().into();
    config["config"]["Labels"][SEAM_LABEL] = diff_id.into();
    config["config"]["Labels"][VERSIONS_LABEL] = "{\"s\":\"v2\"}".into();
    let mut at = 0;
    for entry in config.get_mut("history").and_then(Value::as_array_mut).into_iter().flatten() {
        if entry.get("empty_layer").is_some() {
            continue;
        }
        if at == recipe.seam {
            entry["created_by"] = "imgforge bake".into();
            entry["comment"] = "the secret layer; imgforge rotate replaces it".into();
        }
        at += 1;
    }
    let bytes = config.to_string();
    manifest["mediaType"] = recipe.kind.manifest().into();
    manifest["config"]["digest"] = json!(Digest::of(bytes.as_bytes()));
    manifest["config"]["size"] = bytes.len().into();
    manifest["layers"][recipe.seam] = json!({"mediaType": recipe.kind.gzip_layer(), "digest": layer.digests.digest, "size": layer.digests.size});
    (manifest, config)
}

proptest! {
    #[test]
    fn only_the_seam_changes(recipe in recipe()) {
        let (manifest, config, image) = recipe.image();
        let layer = secret_layer("new");
        let rotated = seam::replace(&image, layer.clone(), &versions("v2")).unwrap().unwrap();
        let (want_manifest, want_config) = expected(&recipe, &manifest, &config, &layer);
        // The config to the byte: the order of its fields stays.
        prop_assert_eq!(String::from_utf8(rotated.config_bytes().to_vec()).unwrap(), want_config.to_string());
        let got: Value = serde_json::from_slice(&rotated.manifest_bytes()).unwrap();
        prop_assert_eq!(got, want_manifest);
        prop_assert_eq!(seam::find(&rotated).unwrap(), Some(recipe.seam));
        // What was written is read back as the same image.
        let again = Image::from_read(rotated.manifest_bytes(), rotated.config_bytes(), &Content::Registry("h.io/x".into()));
        prop_assert_eq!(again.unwrap().digest(), rotated.digest());
    }

    #[test]
    fn rotations_by_way_of_another_secret_end_where_one_does(recipe in recipe(), way in "[a-z]{1,20}", to in "[A-Z]{1,20}") {
        let (_, _, image) = recipe.image();
        let replace = |image: &Image, value: &str| seam::replace(image, secret_layer(value), &versions(value)).unwrap().unwrap();
        let at_once = replace(&image, &to);
        let by_way = replace(&replace(&image, &way), &to);
        prop_assert_eq!(at_once.digest(), by_way.digest());
        prop_assert!(seam::replace(&at_once, secret_layer(&to), &versions(&to)).unwrap().is_none());
    }

    #[test]
    fn of_an_index_only_digests_and_sizes_change(recipes in proptest::collection::vec(recipe(), 1..6), attestations in 0_usize..3) {
        let mut manifests = Vec::new();
        let mut new = BTreeMap::new();
        for recipe in &recipes {
            let (_, _, image) = recipe.image();
            let rotated = seam::replace(&image, secret_layer("new"), &versions("v2")).unwrap().unwrap();
            let bytes = rotated.manifest_bytes();
            new.insert(image.digest(), (rotated.digest(), bytes.len() as u64));
            manifests.push(json!({"mediaType": recipe.kind.manifest(), "digest": image.digest(), "size": image.manifest_bytes().len(),
                "platform": {"os": "linux", "architecture": "amd64"}, "annotations": {"kept": recipe.seed.to_string()}}));
        }
        let mut whole = manifests.clone();
        for number in 0..attestations {
            whole.push(json!({"mediaType": media_type::OCI_MANIFEST, "digest": DiffId(Digest::of(&[number as u8])).0, "size": 1,
                "platform": {"os": "unknown", "architecture": "unknown"}}));
        }
        let document = json!({"schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": whole, "x-foreign": {"kept": true}});
        let index = Index::parse(media_type::OCI_INDEX, document.to_string().as_bytes()).unwrap();
        prop_assert_eq!(index.attestations(), attestations);
        let rotated = index.with_images(|digest| new.get(&digest).copied()).unwrap();
        for manifest in &mut manifests {
            let (digest, size) = new[&manifest["digest"].as_str().unwrap().parse().unwrap()];
            manifest["digest"] = json!(digest);
            manifest["size"] = size.into();
        }
        let mut want = document.clone();
        want["manifests"] = manifests.into();
        prop_assert_eq!(String::from_utf8(rotated.bytes().to_vec()).unwrap(), want.to_string());
    }
}
