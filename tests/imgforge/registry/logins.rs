//! How a registry learns who asks: Basic, tokens, and nobody.

use std::sync::{Arc, Mutex};

use axum::http::Method;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use imgforge::error::Error;
use imgforge::image::reference::Version;
use imgforge::image::{Content, Kind};
use imgforge::progress::Reporter;
use imgforge::registry::Registry;
use imgforge::registry::auth::LoginChain;
use imgforge::registry::push::push;
use imgforge::registry::read::read;

use super::{known, remote};
use crate::support::fault_proxy::{Fault, FaultProxy};
use crate::support::oci_registry::OciRegistry;
use crate::support::sample_image::sample_image;
use crate::support::token_server::TokenServer;

const PASSWORD: &str = "pa:ss/w0rd-canary";

/// No part of an error has the password or what it is sent as.
fn tells_no_password(error: &Error) {
    let text = format!("{error:?}");
    assert!(!text.contains("canary") && !text.contains("Basic ") && !text.contains("Bearer "), "{text}");
}

async fn try_push(registry: &dyn Registry, image: &str) -> imgforge::error::Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let sample = sample_image(Kind::Oci, folder.path(), &[10, 20]);
    let repository = registry.repository(image)?;
    push(image, &sample, registry, &repository, &["1".parse().unwrap()], &Reporter::silent()).await.map(drop)
}

#[tokio::test]
async fn basic_authentication_lets_the_right_login_in() {
    let server = OciRegistry::basic("me", PASSWORD);
    let registry = remote(&server.host, known(&server.host, "me", PASSWORD));
    try_push(&registry, "web").await.unwrap();
    let login = registry.login(&registry.repository("web").unwrap()).await.unwrap().unwrap();
    assert_eq!((login.username.as_str(), login.password.expose()), ("me", PASSWORD.as_bytes()));
}

#[tokio::test]
async fn a_wrong_login_is_told_with_where_it_is_from() {
    let server = OciRegistry::basic("me", "another password");
    let error =
        try_push(&remote(&server.host, known(&server.host, "me", PASSWORD)), "web").await.unwrap_err();
    assert!(
        error.what().contains(&format!("{} does not accept the login from the test", server.host)),
        "{error}"
    );
    assert!(error.what().contains("shop/web"), "{error}");
    tells_no_password(&error);
}

#[tokio::test]
async fn a_missing_login_is_told_with_where_it_was_looked_for() {
    let server = OciRegistry::basic("me", "secret");
    let logins = known("elsewhere.example.com", "me", PASSWORD);
    let error = try_push(&remote(&server.host, logins), "web").await.unwrap_err();
    assert!(error.what().contains("wants a login and none was found"), "{error}");
    let help = error.help_text().unwrap();
    assert!(help.contains("docker login") && help.contains("looked at: the test"), "{help}");
    tells_no_password(&error);
}

#[tokio::test]
async fn one_token_serves_a_whole_push() {
    let tokens = TokenServer::start("me", PASSWORD, "shop/").await;
    let server = OciRegistry::token(&tokens);
    let proxy = FaultProxy::before(&server.host).await;
    let registry = remote(&proxy.host, known(&proxy.host, "me", PASSWORD));
    try_push(&registry, "web").await.unwrap();
    let asked = tokens.seen();
    assert_eq!(asked.len(), 1, "{asked:?}");
    assert_eq!(asked[0].scopes, ["repository:shop/web:pull,push"]);
    assert_eq!(asked[0].user.as_deref(), Some("me"));
    let without = proxy.seen().iter().filter(|seen| !seen.headers.contains_key("authorization")).count();
    assert!(without <= 2, "only what is asked before the registry said what it wants goes without a token");
    // The same client goes on with what it knows.
    try_push(&registry, "web").await.unwrap();
    assert_eq!(tokens.seen().len(), 1);
}

#[tokio::test]
async fn an_identity_token_is_exchanged() {
    let tokens = TokenServer::start("me", PASSWORD, "shop/").await;
    let server = OciRegistry::token(&tokens);
    let registry = remote(&server.host, known(&server.host, "<token>", PASSWORD));
    try_push(&registry, "web").await.unwrap();
    assert_eq!(tokens.seen()[0].scopes, ["repository:shop/web:pull,push"]);
}

#[tokio::test]
async fn public_images_are_read_without_a_login() {
    let tokens = TokenServer::start("me", PASSWORD, "public/").await;
    let server = OciRegistry::token(&tokens);
    let folder = tempfile::tempdir().unwrap();
    let image = sample_image(Kind::Oci, folder.path(), &[10]);
    let mine = remote(&server.host, known(&server.host, "me", PASSWORD));
    let repository = format!("{}/public/base", server.host).parse().unwrap();
    push("base", &image, &mine, &repository, &[], &Reporter::silent()).await.unwrap();
    let anyone = remote(&server.host, LoginChain::none());
    let version = Version::Digest(image.digest());
    let there = read(&anyone, &repository, &version, "linux/amd64").await.unwrap().unwrap();
    assert_eq!(there.digest(), image.digest());
    assert_eq!(tokens.seen().last().unwrap().user, None);
}

#[tokio::test]
async fn a_login_that_may_not_push_there_is_told_so() {
    let tokens = TokenServer::start("me", PASSWORD, "mine/").await;
    let server = OciRegistry::token(&tokens);
    let registry = remote(&server.host, known(&server.host, "me", PASSWORD));
    let error = try_push(&registry, "web").await.unwrap_err();
    assert!(error.what().contains("the login from the test may not do that"), "{error:?}");
    tells_no_password(&error);
}

#[tokio::test]
async fn a_token_server_that_refuses_the_login_is_told() {
    let tokens = TokenServer::start("me", "another", "shop/").await;
    let server = OciRegistry::token(&tokens);
    let registry = remote(&server.host, known(&server.host, "me", PASSWORD));
    let error = try_push(&registry, "web").await.unwrap_err();
    assert_eq!(error.what(), format!("{} does not accept the login from the test", server.host));
    tells_no_password(&error);
}

#[tokio::test]
async fn a_layer_is_mounted_with_a_token_for_both_repositories() {
    let tokens = TokenServer::start("me", PASSWORD, "").await;
    let server = OciRegistry::token(&tokens);
    let proxy = FaultProxy::before(&server.host).await;
    let registry = remote(&proxy.host, known(&proxy.host, "me", PASSWORD));
    let folder = tempfile::tempdir().unwrap();
    let image = sample_image(Kind::Oci, folder.path(), &[10, 20]);
    let (from, to) = (registry.repository("base").unwrap(), registry.repository("web").unwrap());
    push("base", &image, &registry, &from, &[], &Reporter::silent()).await.unwrap();
    let there =
        read(&registry, &from, &Version::Digest(image.digest()), "linux/amd64").await.unwrap().unwrap();
    let pushed = push("web", &there, &registry, &to, &[], &Reporter::silent()).await.unwrap();
    assert_eq!(pushed.blobs.mounted, 2);
    let both = ["repository:shop/web:pull,push", "repository:shop/base:pull"];
    assert_eq!(tokens.seen().iter().filter(|asked| asked.scopes == both).count(), 1);
}

#[tokio::test]
async fn a_layer_that_may_not_be_mounted_is_sent() {
    let tokens = TokenServer::start("me", PASSWORD, "").await;
    let server = OciRegistry::token(&tokens);
    let proxy = FaultProxy::before(&server.host).await;
    let denied = Fault::Answer(axum::http::StatusCode::FORBIDDEN, Vec::new(), "mounting is off".into());
    proxy.spoil(9, |seen| seen.method == Method::POST && seen.query.contains("mount="), denied);
    let registry = remote(&proxy.host, known(&proxy.host, "me", PASSWORD));
    let folder = tempfile::tempdir().unwrap();
    let image = sample_image(Kind::Oci, folder.path(), &[10, 20]);
    let (from, to) = (registry.repository("base").unwrap(), registry.repository("web").unwrap());
    push("base", &image, &registry, &from, &[], &Reporter::silent()).await.unwrap();
    let there =
        read(&registry, &from, &Version::Digest(image.digest()), "linux/amd64").await.unwrap().unwrap();
    let pushed = push("web", &there, &registry, &to, &[], &Reporter::silent()).await.unwrap();
    assert_eq!((pushed.blobs.mounted, pushed.blobs.uploaded), (0, 3));
}

#[tokio::test]
async fn a_repository_that_anyone_can_pull_from_is_known_as_public() {
    let tokens = TokenServer::start("me", PASSWORD, "").await;
    let server = OciRegistry::token(&tokens);
    let registry = remote(&server.host, known(&server.host, "me", PASSWORD));
    let folder = tempfile::tempdir().unwrap();
    let image = sample_image(Kind::Oci, folder.path(), &[10]);
    for (path, public) in [("public/web", true), ("shop/web", false)] {
        let repository = format!("{}/{path}", server.host).parse().unwrap();
        let tags = ["1".parse().unwrap()];
        push("web", &image, &registry, &repository, &tags, &Reporter::silent()).await.unwrap();
        assert_eq!(registry.is_public(&repository).await.unwrap(), public, "{path}");
    }
    let closed = OciRegistry::basic("me", PASSWORD);
    let registry = remote(&closed.host, known(&closed.host, "me", PASSWORD));
    try_push(&registry, "web").await.unwrap();
    assert!(!registry.is_public(&registry.repository("web").unwrap()).await.unwrap());
}

#[tokio::test]
async fn no_log_line_has_a_password_a_token_or_a_layer() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    let guard = tracing::subscriber::set_default(subscriber);
    let tokens = TokenServer::start("me", PASSWORD, "shop/").await;
    for server in [OciRegistry::basic("me", PASSWORD), OciRegistry::token(&tokens)] {
        let registry = remote(&server.host, known(&server.host, "me", PASSWORD));
        let folder = tempfile::tempdir().unwrap();
        let sample = sample_image(Kind::Oci, folder.path(), &[10]);
        let secret = sample.with_contents(|layer| {
            let Content::File(path) = &layer.content else { panic!("it is in a file") };
            Content::Memory(std::fs::read(path.as_path()).unwrap().into())
        });
        let repository = registry.repository("web").unwrap();
        push("web", &secret, &registry, &repository, &[], &Reporter::silent()).await.unwrap();
    }
    drop(guard);
    let text = log.text();
    assert!(text.contains("trying") || text.contains("imgforge"), "the log was written: {text}");
    let basic = BASE64_STANDARD.encode(format!("me:{PASSWORD}"));
    // The beginning of every token: the header is the same for all.
    for canary in [PASSWORD, &basic, "eyJ", "Bearer ey"] {
        let line = text.lines().find(|line| line.contains(canary));
        assert_eq!(line, None, "{canary}");
    }
}

/// What tracing writes, kept.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }
}

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
