//! A real registry (Debian's docker-registry) on a free port of this machine.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use rcgen::{CertificateParams, KeyPair};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::server_process::ServerProcess;
use super::tiny::files;
use super::token_server::TokenServer;

pub struct OciRegistry {
    /// `127.0.0.1:PORT`
    pub host: String,
    _process: ServerProcess,
    folder: TempDir,
}

impl OciRegistry {
    /// For anyone.
    pub fn open() -> Self {
        Self::start(json!({}), |_| Value::Null)
    }

    /// For anyone, with `Location` headers that have no host.
    pub fn open_with_relative_locations() -> Self {
        Self::start(json!({"relativeurls": true}), |_| Value::Null)
    }

    /// For anyone, over TLS with a certificate for `name`, which is also the authority that signed it. The host is
    /// `name:PORT`, and the authority's file is what is returned with it.
    pub fn tls(name: &str) -> (Self, PathBuf) {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec![name.to_owned()]).unwrap().self_signed(&key).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let (crt, pem) = (folder.path().join("tls.crt"), folder.path().join("tls.key"));
        std::fs::write(&crt, certificate.pem()).unwrap();
        std::fs::write(&pem, key.serialize_pem()).unwrap();
        let mut registry =
            Self::start_in(folder, json!({"tls": {"certificate": crt, "key": pem}}), |_| Value::Null);
        let port = registry.host.rsplit_once(':').unwrap().1;
        registry.host = format!("{name}:{port}");
        (registry, crt)
    }

    /// For one user, with Basic authentication.
    pub fn basic(user: &str, password: &str) -> Self {
        Self::start(json!({}), |folder| {
            let path = folder.path().join("htpasswd");
            std::fs::write(&path, htpasswd(user, password)).unwrap();
            json!({"htpasswd": {"realm": "imgforge tests", "path": path}})
        })
    }

    /// For whoever has a token of `server`.
    pub fn token(server: &TokenServer) -> Self {
        Self::start(json!({}), |folder| {
            let path = folder.path().join("token.crt");
            std::fs::write(&path, &server.certificate).unwrap();
            json!({"token": {
                "realm": server.realm, "service": server.service, "issuer": server.issuer, "rootcertbundle": path,
            }})
        })
    }

    /// Every blob that it holds, manifests included: the digest's hex and the bytes.
    pub fn blobs(&self) -> Vec<(String, Vec<u8>)> {
        let all = files(&self.folder.path().join("data/docker/registry/v2/blobs"));
        let blobs = all.into_iter().filter(|(path, _)| path.ends_with("data"));
        let named = blobs.map(|(path, bytes)| {
            let digest = path.parent().unwrap().file_name().unwrap();
            (digest.to_str().unwrap().to_owned(), bytes)
        });
        named.collect()
    }

    fn start(http: Value, auth: impl FnOnce(&TempDir) -> Value) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), http, auth)
    }

    fn start_in(folder: TempDir, http: Value, auth: impl FnOnce(&TempDir) -> Value) -> Self {
        let auth = auth(&folder);
        let mut config = json!({
            "version": "0.1",
            "log": {"level": "info", "accesslog": {"disabled": true}},
            "storage": {
                "filesystem": {"rootdirectory": folder.path().join("data")},
                "delete": {"enabled": true},
            },
            "http": {"addr": "127.0.0.1:0", "secret": "not a secret"},
        });
        for (name, value) in http.as_object().unwrap() {
            config["http"][name] = value.clone();
        }
        if !auth.is_null() {
            config["auth"] = auth;
        }
        // JSON is YAML.
        let path = folder.path().join("config.yml");
        std::fs::write(&path, config.to_string()).unwrap();
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(&path);
        let process = ServerProcess::start(command, "listening on ");
        OciRegistry { host: process.address.clone(), _process: process, folder }
    }
}

fn htpasswd(user: &str, password: &str) -> Vec<u8> {
    let mut child = Command::new("htpasswd")
        .args(["-n", "-i", "-B", "-C", "4", user])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("htpasswd (apache2-utils) is there");
    child.stdin.take().unwrap().write_all(password.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    output.stdout
}
