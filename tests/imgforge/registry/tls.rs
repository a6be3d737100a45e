//! HTTPS, with an authority that only some trust.

use std::process::Command;

use imgforge::image::Kind;
use imgforge::progress::Reporter;
use imgforge::registry::Registry;
use imgforge::registry::auth::LoginChain;
use imgforge::registry::push::push;

use super::remote;
use crate::support::oci_registry::OciRegistry;
use crate::support::sample_image::sample_image;

/// An address of this machine that is not written as one, so that it is asked with https like any other.
const NAME: &str = "0.0.0.0";
/// Tells the second process which registry to push to.
const HOST: &str = "IMGFORGE_TEST_TLS_HOST";

async fn try_push(host: &str) -> imgforge::error::Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let registry = remote(host, LoginChain::none());
    let repository = registry.repository("web").unwrap();
    let image = sample_image(Kind::Oci, folder.path(), &[10, 20]);
    push("web", &image, &registry, &repository, &[], &Reporter::silent()).await.map(drop)
}

/// Trust comes from the process's environment, so the half that trusts runs as a process of its own.
#[tokio::test]
async fn https_wants_a_trusted_certificate() {
    if let Ok(host) = std::env::var(HOST) {
        return try_push(&host).await.unwrap();
    }
    let (server, authority) = OciRegistry::tls(NAME);
    let error = try_push(&server.host).await.unwrap_err();
    assert!(error.what().contains("shows a certificate that is not trusted here"), "{error:?}");
    assert!(error.help_text().unwrap().contains("SSL_CERT_FILE"));
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "registry::tls::https_wants_a_trusted_certificate"])
        .env(HOST, &server.host)
        .env("SSL_CERT_FILE", authority)
        .env_remove("SSL_CERT_DIR")
        .env("NO_PROXY", NAME)
        .output()
        .unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && stdout.contains("1 passed"),
        "{stdout}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
