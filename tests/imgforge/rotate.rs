//! Rotating secrets in images that are in a registry: with the real program, a real registry, and as a value.

use serde_json::Value;

use crate::support::fault_proxy::FaultProxy;
use crate::support::oci_registry::OciRegistry;
use crate::support::program::{Ended, Program};
use crate::support::tiny::Tiny;

mod deploying;
mod faults;
mod kinds;
mod property;
mod registry;
mod service;

/// Where no daemon is.
const NOWHERE: &str = "unix:///nowhere/docker.sock";

/// A pushed image in a registry behind a proxy that notes every request.
struct Pushed {
    tiny: Tiny,
    registry: OciRegistry,
    proxy: FaultProxy,
    /// By digest, through the proxy.
    reference: String,
}

impl Pushed {
    async fn new() -> Self {
        let registry = OciRegistry::open();
        let proxy = FaultProxy::before(&registry.host).await;
        let more =
            format!("\n[env.remote]\nregistry.repository = \"{}/{{project}}-{{image}}\"\n", proxy.host);
        let tiny = Tiny::new(&more);
        let ended = tiny.program().run(&["push", "-e", "remote", "--output", "json"]).ok();
        let reference = ended.result()["release"]["images"][0]["reference"].as_str().unwrap().to_owned();
        proxy.forget();
        Pushed { tiny, registry, proxy, reference }
    }

    /// imgforge without a daemon.
    fn program(&self) -> Program {
        self.tiny.program().with("DOCKER_HOST", NOWHERE)
    }

    fn put_secret(&self, value: &str) {
        self.tiny.write("secrets/server_settings.py", &format!("SECRET_KEY = \"{value}\"\n"));
    }

    fn run(&self, arguments: &[&str]) -> Ended {
        self.program().run(&[&["rotate", "-e", "remote", "--until", "push"], arguments].concat())
    }

    /// Rotates what `reference` names.
    fn rotate(&self, reference: &str) -> Value {
        let image = format!("web={reference}");
        self.run(&["--image", &image, "--output", "json"]).ok().result()["rotate"]["images"][0].clone()
    }

    /// As on a machine that knows nothing of the image.
    fn forget(&self) {
        let _ = std::fs::remove_dir_all(self.tiny.path().join(".imgforge/layers"));
    }

    /// The repository, through the proxy.
    fn repository(&self) -> &str {
        self.reference.split('@').next().unwrap()
    }

    /// A manifest or blob, straight from the registry.
    fn get(&self, kind: &str, version: &str) -> Value {
        serde_json::from_slice(&self.bytes(kind, version)).unwrap()
    }

    fn bytes(&self, kind: &str, version: &str) -> Vec<u8> {
        let path = self.repository().split_once('/').unwrap().1;
        let accept = "Accept: application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, \
                      application/vnd.docker.distribution.manifest.v2+json";
        let url = format!("http://{}/v2/{path}/{kind}/{version}", self.registry.host);
        let mut command = std::process::Command::new("curl");
        let done = command.args(["--fail", "--silent", "--header", accept, &url]).output().unwrap();
        assert!(done.status.success(), "{url}: {done:?}");
        done.stdout
    }

    /// Puts a manifest there; its digest.
    fn put(&self, media_type: &str, version: &str, manifest: &Value) {
        let path = self.repository().split_once('/').unwrap().1;
        let url = format!("http://{}/v2/{path}/manifests/{version}", self.registry.host);
        let mut command = std::process::Command::new("curl");
        let kind = format!("Content-Type: {media_type}");
        command.args(["--fail", "--silent", "--request", "PUT", "--header", &kind, "--data-binary"]);
        let done = command.args([&manifest.to_string(), &url]).output().unwrap();
        assert!(done.status.success(), "{url}: {done:?}");
    }
}

/// The digest of a reference.
fn digest(reference: &str) -> &str {
    reference.split('@').nth(1).unwrap()
}

/// The digests of a manifest's layers.
fn layers(manifest: &Value) -> Vec<String> {
    let layers = manifest["layers"].as_array().unwrap().iter();
    layers.map(|layer| layer["digest"].as_str().unwrap().to_owned()).collect()
}
