//! Judges of images that are not ours: crane, and the JSON schemas of the OCI image specification.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

/// A schema of the image specification.
#[derive(Clone, Copy)]
pub enum Schema {
    Config,
    Index,
    Manifest,
}

fn unpacked(path: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/peers/root/usr").join(path);
    assert!(path.exists(), "{} is missing; run scripts/setup test", path.display());
    path
}

/// crane pulls everything of an image and checks every digest, size and diff_id.
pub fn crane_validates(reference: &str) {
    let mut command = Command::new(unpacked("bin/crane"));
    let done = command.args(["validate", "--insecure", "--remote", reference]).output().unwrap();
    assert!(done.status.success(), "{reference}: {}", String::from_utf8_lossy(&done.stderr));
}

/// A document is what the specification's schema says.
pub fn conforms(schema: Schema, document: &Value) {
    let name = match schema {
        Schema::Config => "config-schema.json",
        Schema::Index => "image-index-schema.json",
        Schema::Manifest => "image-manifest-schema.json",
    };
    let folder = unpacked("share/gocode/src/github.com/opencontainers/image-spec/schema");
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/venv/bin/python");
    let mut command = Command::new(python);
    command.args(["-c", include_str!("conformance/schema.py")]).arg(&folder).arg(name);
    let mut child = command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(document.to_string().as_bytes()).unwrap();
    let done = child.wait_with_output().unwrap();
    assert!(done.status.success(), "{document}: {}", String::from_utf8_lossy(&done.stderr));
}

#[test]
fn the_schemas_find_fault_with_what_is_wrong() {
    let descriptor = serde_json::json!({"mediaType": "application/vnd.oci.image.config.v1+json", "size": 2,
        "digest": imgforge::digest::Digest::of(b"{}")});
    conforms(
        Schema::Manifest,
        &serde_json::json!({"schemaVersion": 2, "config": descriptor, "layers": [descriptor]}),
    );
    let broken = serde_json::json!({"schemaVersion": 2, "config": {}, "layers": []});
    assert!(std::panic::catch_unwind(|| conforms(Schema::Manifest, &broken)).is_err());
}
