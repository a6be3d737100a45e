//! What goes wrong between here and a registry.

use std::time::{Duration, Instant};

use axum::Router;
use axum::http::{Method, StatusCode};
use axum::routing::get;
use imgforge::digest::Digest;
use imgforge::error::Result;
use imgforge::image::reference::Version;
use imgforge::image::{Descriptor, Image, Kind};
use imgforge::progress::Reporter;
use imgforge::registry::auth::LoginChain;
use imgforge::registry::push::push;
use imgforge::registry::read::{pull, read};
use imgforge::registry::remote::{Remote, RemoteConfig};
use imgforge::registry::{Pushed, Registry};
use tokio::io::AsyncReadExt;

use super::{config, known, remote};
use crate::support::fault_proxy::{Fault, FaultProxy, Seen};
use crate::support::oci_registry::OciRegistry;
use crate::support::sample_image::{Events, layer_files, sample_image};

/// Blobs above this are streamed.
const STREAMED: u64 = 50_000;

/// Uploads are cut here.
const CUT: usize = 100_000;

struct Parts {
    proxy: FaultProxy,
    registry: Remote,
    image: Image,
    _server: OciRegistry,
    _folder: tempfile::TempDir,
}

/// A registry behind a proxy, and an image with one layer that is streamed.
async fn parts() -> Parts {
    let (server, folder) = (OciRegistry::open(), tempfile::tempdir().unwrap());
    let proxy = FaultProxy::before(&server.host).await;
    let settings = RemoteConfig { one_request_up_to: STREAMED, ..config(&proxy.host, LoginChain::none()) };
    let registry = Remote::new(settings).unwrap();
    let image = sample_image(Kind::Oci, folder.path(), &[100, 300_000]);
    Parts { proxy, registry, image, _server: server, _folder: folder }
}

impl Parts {
    async fn push(&self) -> Result<Pushed> {
        let repository = self.registry.repository("web").unwrap();
        let tags = ["1".parse().unwrap()];
        push("web", &self.image, &self.registry, &repository, &tags, &Reporter::silent()).await
    }

    /// Everything is there and right.
    async fn check(&self) {
        let repository = self.registry.repository("web").unwrap();
        let version = Version::Tag("1".parse().unwrap());
        let there = read(&self.registry, &repository, &version, "linux/amd64").await.unwrap().unwrap();
        assert_eq!(there.digest(), self.image.digest());
        let folder = tempfile::tempdir().unwrap();
        pull("web", &there, &self.registry, &repository, folder.path(), &Reporter::silent()).await.unwrap();
    }
}

fn answer(status: StatusCode) -> Fault {
    Fault::Answer(status, Vec::new(), String::new())
}

fn puts_manifest(seen: &Seen) -> bool {
    seen.is(Method::PUT, "/manifests/")
}

#[tokio::test]
async fn errors_that_pass_are_waited_out() {
    for status in [StatusCode::INTERNAL_SERVER_ERROR, StatusCode::BAD_GATEWAY, StatusCode::TOO_MANY_REQUESTS]
    {
        let parts = parts().await;
        for method in [Method::HEAD, Method::POST, Method::PUT, Method::PATCH] {
            parts.proxy.spoil(1, move |seen| seen.method == method, answer(status));
        }
        parts.proxy.spoil(2, puts_manifest, answer(status));
        parts.push().await.unwrap();
        parts.check().await;
    }
}

#[tokio::test]
async fn connections_that_are_cut_are_tried_again() {
    let parts = parts().await;
    for method in [Method::HEAD, Method::POST, Method::PUT, Method::PATCH] {
        parts.proxy.spoil(1, move |seen| seen.method == method, Fault::Cut);
    }
    parts.push().await.unwrap();
    parts.proxy.spoil(1, |seen| seen.is(Method::GET, "/manifests/"), Fault::Cut);
    parts.proxy.spoil(1, |seen| seen.is(Method::GET, "/blobs/"), Fault::Cut);
    parts.check().await;
}

#[tokio::test]
async fn a_registry_that_asks_for_time_gets_it() {
    let parts = parts().await;
    let wait = vec![("retry-after", "1".to_owned())];
    parts.proxy.spoil(1, puts_manifest, Fault::Answer(StatusCode::TOO_MANY_REQUESTS, wait, String::new()));
    let start = Instant::now();
    parts.push().await.unwrap();
    assert!(start.elapsed() >= Duration::from_secs(1));
}

#[tokio::test]
async fn a_registry_that_asks_for_too_much_time_is_not_waited_for() {
    let parts = parts().await;
    let wait = vec![("retry-after", "3600".to_owned())];
    parts.proxy.spoil(9, puts_manifest, Fault::Answer(StatusCode::TOO_MANY_REQUESTS, wait, String::new()));
    let error = parts.push().await.unwrap_err();
    assert!(error.what().contains("limits how often it may be asked"), "{error:?}");
    assert_eq!(error.help_text(), Some("it asks to wait for 3600 seconds"));
    assert_eq!(parts.proxy.count(Method::PUT, "/manifests/"), 1);
}

#[tokio::test]
async fn trouble_that_does_not_end_is_an_error_after_some_tries() {
    let parts = parts().await;
    parts.proxy.spoil(99, puts_manifest, answer(StatusCode::SERVICE_UNAVAILABLE));
    let error = parts.push().await.unwrap_err();
    assert!(error.what().contains("the registry is in trouble"), "{error:?}");
    assert_eq!(parts.proxy.count(Method::PUT, "/manifests/"), 4);
}

#[tokio::test]
async fn a_cut_upload_goes_on_where_it_was() {
    let parts = parts().await;
    parts.proxy.spoil(1, |seen| seen.method == Method::PATCH, Fault::CutAfter(CUT));
    let (events, reporter) = Events::reporter();
    let repository = parts.registry.repository("web").unwrap();
    let tags = ["1".parse().unwrap()];
    push("web", &parts.image, &parts.registry, &repository, &tags, &reporter).await.unwrap();
    let patches: Vec<Seen> =
        parts.proxy.seen().into_iter().filter(|seen| seen.method == Method::PATCH).collect();
    assert_eq!(patches.len(), 2);
    assert!(!patches[0].headers.contains_key("content-range"));
    let size = parts.image.layers()[1].descriptor.size;
    let range = patches[1].headers["content-range"].to_str().unwrap();
    assert_eq!(range, format!("{}-{}", CUT, size - 1));
    assert_eq!(events.bytes(), parts.image.size(), "no byte is told twice");
    parts.check().await;
}

#[tokio::test]
async fn a_cut_upload_that_the_registry_forgot_is_begun_again() {
    let parts = parts().await;
    parts.proxy.spoil(1, |seen| seen.method == Method::PATCH, Fault::CutAfter(CUT));
    parts.proxy.spoil(1, |seen| seen.is(Method::GET, "/blobs/uploads/"), answer(StatusCode::NOT_FOUND));
    parts.push().await.unwrap();
    assert_eq!(parts.proxy.count(Method::PATCH, "/blobs/uploads/"), 2);
    parts.check().await;
}

#[tokio::test]
async fn a_registry_that_is_down_is_told() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let host = listener.local_addr().unwrap().to_string();
    drop(listener);
    let registry = remote(&host, LoginChain::none());
    let repository = registry.repository("web").unwrap();
    let error = registry.head(&repository, &Version::Tag("1".parse().unwrap())).await.unwrap_err();
    assert_eq!(error.what(), format!("cannot reach the registry {host}"));
    assert!(error.help_text().unwrap().contains("is it running"));
}

#[tokio::test]
async fn a_wrong_digest_answered_is_an_error() {
    let wrong = vec![("docker-content-digest", Digest::of(b"another").to_string())];
    for part in ["/manifests/", "/blobs/uploads/"] {
        let parts = parts().await;
        let matches = move |seen: &Seen| seen.is(Method::PUT, part);
        parts.proxy.spoil(9, matches, Fault::Rewrite(wrong.clone()));
        let error = parts.push().await.unwrap_err();
        assert!(error.what().contains("answers that it has"), "{part}: {error:?}");
    }
}

#[tokio::test]
async fn changed_bytes_are_not_taken() {
    let parts = parts().await;
    parts.push().await.unwrap();
    let repository = parts.registry.repository("web").unwrap();
    let changed = Fault::Answer(StatusCode::OK, Vec::new(), "{}".into());
    parts.proxy.spoil(1, |seen| seen.is(Method::GET, "/manifests/"), changed);
    let version = Version::Digest(parts.image.digest());
    let error = parts.registry.manifest(&repository, &version).await.unwrap_err();
    assert!(error.what().contains("does not have its digest"), "{error:?}");
    let layer = &parts.image.layers()[0].descriptor;
    let size = usize::try_from(layer.size).unwrap();
    let changed = Fault::Answer(StatusCode::OK, Vec::new(), "x".repeat(size));
    parts.proxy.spoil(1, |seen| seen.is(Method::GET, "/blobs/"), changed);
    let mut bytes = Vec::new();
    let mut reader = parts.registry.blob(&repository, layer).await.unwrap();
    assert!(reader.read_to_end(&mut bytes).await.unwrap_err().to_string().contains("this is not sha256:"));
}

#[tokio::test]
async fn a_changed_cache_file_is_not_sent() {
    for layer in [0, 1] {
        let parts = parts().await;
        let path = layer_files(&parts.image)[layer].clone();
        let mut bytes = std::fs::read(&path).unwrap();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        let error = parts.push().await.unwrap_err();
        assert!(error.what().contains("is no longer the layer that it was"), "{error:?}");
        assert!(error.help_text().unwrap().contains(&path.display().to_string()));
        bytes.truncate(last / 2);
        std::fs::write(&path, &bytes).unwrap();
        let error = parts.push().await.unwrap_err();
        assert!(error.what().contains("is no longer the layer that it was"), "{error:?}");
        assert_eq!(parts.proxy.count(Method::PUT, "/manifests/"), 0);
    }
}

#[tokio::test]
async fn a_refusal_is_told_in_the_registrys_words() {
    let parts = parts().await;
    let denied = r#"{"errors":[{"code":"DENIED","message":"requested access to the resource is denied"}]}"#;
    let fault = Fault::Answer(StatusCode::FORBIDDEN, Vec::new(), denied.into());
    parts.proxy.spoil(9, |seen| seen.method == Method::POST, fault);
    let error = parts.push().await.unwrap_err();
    assert!(error.causes()[0].contains("DENIED: requested access to the resource is denied"), "{error:?}");
    // ECR says it without JSON.
    let parts = self::parts().await;
    let fault = Fault::Answer(StatusCode::FORBIDDEN, Vec::new(), "not\nauthorized".into());
    parts.proxy.spoil(9, |seen| seen.method == Method::POST, fault);
    assert!(parts.push().await.unwrap_err().causes()[0].contains("HTTP 403 Forbidden: not authorized"));
}

#[tokio::test]
async fn a_login_does_not_follow_a_redirect_to_object_storage() {
    let (server, folder) = (OciRegistry::basic("me", "canary"), tempfile::tempdir().unwrap());
    let proxy = FaultProxy::before(&server.host).await;
    let registry = remote(&proxy.host, known(&proxy.host, "me", "canary"));
    let repository = registry.repository("web").unwrap();
    let image = sample_image(Kind::Oci, folder.path(), &[500]);
    push("web", &image, &registry, &repository, &[], &Reporter::silent()).await.unwrap();
    // As S3 does, the store refuses who comes with a signed address and a header.
    let blob = std::fs::read(&layer_files(&image)[0]).unwrap();
    let store = move |headers: axum::http::HeaderMap| async move {
        match headers.contains_key("authorization") {
            true => (StatusCode::BAD_REQUEST, b"only one auth mechanism allowed".to_vec()),
            false => (StatusCode::OK, blob),
        }
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}/store?signature=x", listener.local_addr().unwrap());
    let app = Router::new().route("/store", get(store));
    let serving = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    let redirect = Fault::Answer(StatusCode::TEMPORARY_REDIRECT, vec![("location", address)], String::new());
    proxy.spoil(9, |seen| seen.is(Method::GET, "/blobs/"), redirect);
    let layer: &Descriptor = &image.layers()[0].descriptor;
    let mut bytes = Vec::new();
    registry.blob(&repository, layer).await.unwrap().read_to_end(&mut bytes).await.unwrap();
    assert_eq!(Digest::of(&bytes), layer.digest);
    serving.abort();
}

#[tokio::test]
async fn an_immutable_tag_that_names_the_same_image_is_done() {
    let parts = parts().await;
    parts.push().await.unwrap();
    let repository = parts.registry.repository("web").unwrap();
    let immutable = r#"{"errors":[{"code":"TAG_INVALID","message":"The image tag '1' already exists and cannot be overwritten because the repository is immutable."}]}"#;
    let fault = Fault::Answer(StatusCode::BAD_REQUEST, Vec::new(), immutable.into());
    parts.proxy.spoil(9, puts_manifest, fault);
    let version = Version::Tag("1".parse().unwrap());
    let put = |image: &Image| {
        let bytes = image.manifest_bytes();
        parts.registry.put_manifest(&repository, &version, Kind::Oci.manifest(), bytes)
    };
    assert_eq!(put(&parts.image).await.unwrap(), parts.image.digest());
    let other = parts.image.with_labels(&[("a", "b".into())]);
    let error = put(&other).await.unwrap_err();
    assert!(error.what().contains("names another image and cannot be moved"), "{error:?}");
}

#[tokio::test]
async fn an_upload_does_not_go_where_others_could_read_it() {
    let parts = parts().await;
    let elsewhere = vec![("location", "http://registry.example.com/v2/shop/web/blobs/uploads/1".to_owned())];
    parts.proxy.spoil(9, |seen| seen.method == Method::POST, Fault::Rewrite(elsewhere));
    let error = parts.push().await.unwrap_err();
    assert_eq!(error.what(), "http://registry.example.com would be asked without encryption");
}
