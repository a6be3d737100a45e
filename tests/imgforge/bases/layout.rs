//! Bases that are OCI layouts.

use std::path::Path;

use imgforge::base::layout::read;
use imgforge::digest::Digest;
use imgforge::error::Kind;
use imgforge::image::{Content, media_type};
use serde_json::{Value, json};

/// Writes layouts blob by blob, as other tools would.
struct Layout {
    folder: tempfile::TempDir,
}

impl Layout {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("blobs/sha256")).unwrap();
        std::fs::write(folder.path().join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        Layout { folder }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn blob(&self, media_type: &str, bytes: &[u8]) -> Value {
        let digest = Digest::of(bytes);
        std::fs::write(self.path().join("blobs/sha256").join(digest.hex()), bytes).unwrap();
        json!({"mediaType": media_type, "digest": digest, "size": bytes.len()})
    }

    fn image(&self, architecture: &str, layer: &[u8]) -> Value {
        let layer = self.blob("application/vnd.oci.image.layer.v1.tar", layer);
        let config = json!({"os": "linux", "architecture": architecture,
            "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]}});
        let config = self.blob("application/vnd.oci.image.config.v1+json", config.to_string().as_bytes());
        let manifest = json!({"schemaVersion": 2, "config": config, "layers": [layer]});
        self.blob(media_type::OCI_MANIFEST, manifest.to_string().as_bytes())
    }

    fn index(&self, manifests: Value) -> Value {
        let index = json!({"schemaVersion": 2, "manifests": manifests}).to_string();
        self.blob(media_type::OCI_INDEX, index.as_bytes())
    }

    fn finish(&self, manifests: Value) {
        let index = json!({"schemaVersion": 2, "manifests": manifests}).to_string();
        std::fs::write(self.path().join("index.json"), index).unwrap();
    }
}

fn named(mut descriptor: Value, name: &str) -> Value {
    descriptor["annotations"] = json!({"org.opencontainers.image.ref.name": name});
    descriptor
}

#[tokio::test]
async fn an_image_is_read_with_its_blobs_in_files() {
    let layout = Layout::new();
    layout.finish(json!([layout.image("amd64", b"one")]));
    let image = read(layout.path(), "linux/amd64").await.unwrap();
    assert_eq!(image.platform(), "linux/amd64");
    let Content::File(path) = &image.layers()[0].content else { panic!("{:?}", image.layers()) };
    assert_eq!(std::fs::read(&**path).unwrap(), b"one");
}

#[tokio::test]
async fn the_platform_is_found_in_nested_indexes_and_attestations_are_none() {
    let layout = Layout::new();
    let mut attestation = layout.image("amd64", b"provenance");
    attestation["annotations"] = json!({"vnd.docker.reference.type": "attestation-manifest"});
    let (amd, arm) = (layout.image("amd64", b"amd"), layout.image("arm64", b"arm"));
    let inner = layout.index(json!([amd.clone(), attestation, arm.clone()]));
    layout.finish(json!([layout.index(json!([inner]))]));
    for (platform, want) in [("linux/amd64", &amd), ("linux/arm64", &arm)] {
        let image = read(layout.path(), platform).await.unwrap();
        assert_eq!(json!(image.digest()), want["digest"], "{platform}");
    }
}

#[tokio::test]
async fn one_of_several_is_picked_by_name() {
    let layout = Layout::new();
    let (one, two) = (layout.image("amd64", b"one"), layout.image("amd64", b"two"));
    layout.finish(json!([named(one, "v1"), named(two.clone(), "v2")]));
    let error = read(layout.path(), "linux/amd64").await.unwrap_err();
    assert!(error.what().contains("2 images for linux/amd64"), "{error:?}");
    let path = format!("{}:v2", layout.path().display());
    let image = read(Path::new(&path), "linux/amd64").await.unwrap();
    assert_eq!(json!(image.digest()), two["digest"]);
    let path = format!("{}:v3", layout.path().display());
    let error = read(Path::new(&path), "linux/amd64").await.unwrap_err();
    assert!(error.what().contains("no image called \"v3\""), "{error:?}");
}

/// What happens to a layout; it gets its one image's descriptor.
type Damage = fn(&Layout, &Value);

#[tokio::test]
async fn what_is_wrong_with_a_layout_is_told() {
    let broken = |change: Damage| {
        let layout = Layout::new();
        let image = layout.image("amd64", b"the layer");
        layout.finish(json!([image]));
        change(&layout, &image);
        layout
    };
    fn blob(layout: &Layout, digest: &Value) -> std::path::PathBuf {
        let digest: Digest = digest.as_str().unwrap().parse().unwrap();
        layout.path().join("blobs/sha256").join(digest.hex())
    }
    fn layer(layout: &Layout) -> std::path::PathBuf {
        layout.path().join("blobs/sha256").join(Digest::of(b"the layer").hex())
    }
    let cases: [(Damage, &str); 7] = [
        (|layout, _| std::fs::remove_file(layout.path().join("oci-layout")).unwrap(), "not complete"),
        (|layout, _| std::fs::write(layout.path().join("index.json"), "{").unwrap(), "malformed"),
        (|layout, _| layout.finish(json!([])), "no image in it"),
        (|layout, image| std::fs::write(blob(layout, &image["digest"]), "{}").unwrap(), "something else"),
        (|layout, image| std::fs::remove_file(blob(layout, &image["digest"])).unwrap(), "is not in it"),
        (|layout, _| std::fs::remove_file(layer(layout)).unwrap(), "is not in it"),
        (|layout, _| std::fs::write(layer(layout), "short").unwrap(), "has 5 bytes and should have 9"),
    ];
    for (change, want) in cases {
        let layout = broken(change);
        let error = read(layout.path(), "linux/amd64").await.unwrap_err();
        assert_eq!(error.kind(), Kind::Config, "{error:?}");
        assert!(error.what().contains(want), "{want}: {error:?}");
        assert!(error.what().contains(&layout.path().display().to_string()), "{error:?}");
    }
    let layout = broken(|_, _| {});
    let error = read(layout.path(), "linux/arm64").await.unwrap_err();
    assert!(error.what().contains("it is for linux/amd64, and linux/arm64 is wanted"), "{error:?}");
}
