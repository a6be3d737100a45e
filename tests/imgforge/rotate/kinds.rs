//! Docker manifests, indexes, and what is beside the images in them.

use std::process::Command;

use serde_json::json;

use super::{Pushed, digest, layers};
use crate::support::conformance::{self, Schema};

const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const DOCKER: &str = "application/vnd.docker.distribution.manifest.v2+json";

#[tokio::test(flavor = "multi_thread")]
async fn a_docker_manifest_stays_one() {
    let pushed = Pushed::new().await;
    let there = pushed.get("manifests", digest(&pushed.reference));
    // What a daemon pushed is of Docker's kind; as OCI it is another image.
    assert_eq!(there["mediaType"], DOCKER);
    let oci = format!("{}:oci", pushed.repository());
    let mut command = Command::new("skopeo");
    command.args(["copy", "--quiet", "--format", "oci", "--src-tls-verify=false", "--dest-tls-verify=false"]);
    command.arg(format!("docker://{}", pushed.reference)).arg(format!("docker://{oci}"));
    assert!(command.status().unwrap().success());
    pushed.put_secret("another-secret");
    for (reference, manifest, layer) in [
        (&pushed.reference, DOCKER, "application/vnd.docker.image.rootfs.diff.tar.gzip"),
        (&oci, "application/vnd.oci.image.manifest.v1+json", "application/vnd.oci.image.layer.v1.tar+gzip"),
    ] {
        let rotated = pushed.rotate(reference);
        let after = pushed.get("manifests", digest(rotated["to"].as_str().unwrap()));
        assert_eq!(after["mediaType"], manifest);
        let kinds =
            after["layers"].as_array().unwrap().iter().map(|layer| layer["mediaType"].as_str().unwrap());
        assert!(kinds.clone().all(|kind| kind == layer), "{after}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_platform_of_an_index_is_rotated_and_attestations_are_left_out_with_a_note() {
    let pushed = Pushed::new().await;
    let image = pushed.bytes("manifests", digest(&pushed.reference));
    let entry = |platform: serde_json::Value| json!({"mediaType": DOCKER, "digest": digest(&pushed.reference), "size": image.len(), "platform": platform});
    let mut attestation = entry(json!({"os": "unknown", "architecture": "unknown"}));
    attestation["annotations"] = json!({"vnd.docker.reference.type": "attestation-manifest"});
    let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "annotations": {"kept": "yes"}, "manifests": [
        entry(json!({"os": "linux", "architecture": "amd64"})),
        entry(json!({"os": "linux", "architecture": "arm64", "variant": "v8"})),
        attestation,
    ]});
    pushed.put(OCI_INDEX, "both", &index);
    pushed.put_secret("another-secret");
    let reference = format!("web={}:both", pushed.repository());
    let ended = pushed.run(&["--image", &reference, "--output", "json"]).ok();
    let rotated = ended.result()["rotate"]["images"][0].clone();
    assert!(ended.stdout.contains("1 attestations are left out"), "{}", ended.stdout);
    assert_eq!(rotated["platforms"], json!(["linux/amd64", "linux/arm64/v8"]));
    let after = pushed.get("manifests", digest(rotated["to"].as_str().unwrap()));
    conformance::conforms(Schema::Index, &after);
    assert_eq!((&after["mediaType"], &after["annotations"]["kept"]), (&json!(OCI_INDEX), &json!("yes")));
    let children = after["manifests"].as_array().unwrap();
    assert_eq!(children.len(), 2);
    assert_eq!(children[1]["platform"]["variant"], "v8");
    let before = layers(&pushed.get("manifests", digest(&pushed.reference)));
    for child in children {
        let manifest = pushed.get("manifests", child["digest"].as_str().unwrap());
        assert_eq!(layers(&manifest)[..before.len() - 1], before[..before.len() - 1]);
        assert_ne!(layers(&manifest).last(), before.last());
    }
    // And the same again is nothing.
    assert_eq!(pushed.rotate(rotated["to"].as_str().unwrap())["unchanged"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_rotate_makes_is_accepted_by_crane_the_schemas_skopeo_umoci_and_docker() {
    let pushed = Pushed::new().await;
    pushed.put_secret("another-secret");
    let rotated = pushed.rotate(&pushed.reference);
    // The registry itself: docker does not trust the proxy less, but its name is shorter there.
    let to = rotated["to"].as_str().unwrap().replacen(&pushed.proxy.host, &pushed.registry.host, 1);
    conformance::crane_validates(&to);
    let oci = format!("{}:oci", pushed.repository());
    let mut command = Command::new("skopeo");
    command.args(["copy", "--quiet", "--format", "oci", "--src-tls-verify=false", "--dest-tls-verify=false"]);
    command.arg(format!("docker://{}", pushed.reference)).arg(format!("docker://{oci}"));
    assert!(command.status().unwrap().success());
    let of_oci = pushed.rotate(&oci)["to"].as_str().unwrap().to_owned();
    conformance::crane_validates(&of_oci.replacen(&pushed.proxy.host, &pushed.registry.host, 1));
    let manifest = pushed.get("manifests", digest(&of_oci));
    conformance::conforms(Schema::Manifest, &manifest);
    let config = manifest["config"]["digest"].as_str().unwrap();
    conformance::conforms(Schema::Config, &pushed.get("blobs", config));
    let folder = tempfile::tempdir().unwrap();
    let layout = format!("{}/layout", folder.path().display());
    let mut command = Command::new("skopeo");
    command.args(["copy", "--quiet", "--src-tls-verify=false", &format!("docker://{to}")]);
    assert!(command.arg(format!("oci:{layout}:it")).status().unwrap().success());
    let mut command = Command::new("umoci");
    command.args(["unpack", "--rootless", "--image", &format!("{layout}:it")]);
    let unpacked = command.arg(folder.path().join("bundle")).output().unwrap();
    assert!(unpacked.status.success(), "{}", String::from_utf8_lossy(&unpacked.stderr));
    let settings = folder.path().join("bundle/rootfs/www/private/server_settings.py");
    assert!(std::fs::read_to_string(settings).unwrap().contains("another-secret"));
    pushed.tiny.docker(&["pull", "--quiet", &to]);
    let shown = pushed.tiny.docker(&["run", "--rm", &to, "cat", "/www/private/server_settings.py"]);
    pushed.tiny.docker(&["rmi", "--force", &to]);
    assert!(shown.contains("another-secret"), "{shown}");
}
