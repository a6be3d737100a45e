//! The plain way: push, look at it with other tools, read it back.

use axum::http::Method;
use imgforge::digest::Digest;
use imgforge::image::reference::{Repository, Version};
use imgforge::image::{Content, Kind};
use imgforge::progress::{Event, Outcome, Reporter};
use imgforge::registry::auth::LoginChain;
use imgforge::registry::push::push;
use imgforge::registry::read::{pull, read};
use imgforge::registry::remote::{Remote, RemoteConfig};
use imgforge::registry::{BlobCounts, Registry};
use serde_json::{Value, json};

use super::{config, remote, tool};
use crate::support::fault_proxy::FaultProxy;
use crate::support::oci_registry::OciRegistry;
use crate::support::sample_image::{Events, layer_files, sample_image};

const PLATFORM: &str = "linux/amd64";

#[tokio::test]
async fn other_tools_accept_what_was_pushed() {
    for kind in [Kind::Oci, Kind::Docker] {
        let (server, folder) = (OciRegistry::open(), tempfile::tempdir().unwrap());
        let registry = remote(&server.host, LoginChain::none());
        let repository = registry.repository("web").unwrap();
        assert_eq!(repository.to_string(), format!("{}/shop/web", server.host));
        let image = sample_image(kind, folder.path(), &[3000, 70_000]);
        let tags = ["1.0".parse().unwrap(), "latest".parse().unwrap()];
        let pushed = push("web", &image, &registry, &repository, &tags, &Reporter::silent()).await.unwrap();
        assert_eq!(pushed.reference.to_string(), format!("{repository}@{}", image.digest()));
        for tag in ["1.0", "latest"] {
            let inspected =
                tool("skopeo", &["inspect", "--tls-verify=false", &format!("docker://{repository}:{tag}")]);
            let inspected: Value = serde_json::from_str(&inspected).unwrap();
            assert_eq!(inspected["Digest"], image.digest().to_string());
            assert_eq!(inspected["Layers"].as_array().unwrap().len(), 2);
        }
        let copy = folder.path().join("copy");
        let to = format!("oci:{}:copied", copy.display());
        tool("skopeo", &["copy", "--src-tls-verify=false", &format!("docker://{repository}:1.0"), &to]);
        let unpacked = folder.path().join("unpacked");
        let from = format!("{}:copied", copy.display());
        tool("umoci", &["unpack", "--rootless", "--image", &from, &unpacked.display().to_string()]);
        assert_eq!(std::fs::metadata(unpacked.join("rootfs/file-1")).unwrap().len(), 70_000);
    }
}

#[tokio::test]
async fn what_was_pushed_reads_back_to_the_byte() {
    let (server, folder) = (OciRegistry::open(), tempfile::tempdir().unwrap());
    let registry = remote(&server.host, LoginChain::none());
    let repository = registry.repository("web").unwrap();
    let image = sample_image(Kind::Docker, folder.path(), &[10, 400_000]);
    push("web", &image, &registry, &repository, &[], &Reporter::silent()).await.unwrap();
    let version = Version::Digest(image.digest());
    let there = read(&registry, &repository, &version, PLATFORM).await.unwrap().unwrap();
    assert_eq!(there.manifest_bytes(), image.manifest_bytes());
    assert_eq!(there.config_bytes(), image.config_bytes());
    let (events, reporter) = Events::reporter();
    let here = folder.path().join("pulled");
    let pulled = pull("web", &there, &registry, &repository, &here, &reporter).await.unwrap();
    assert_eq!(events.bytes(), image.size());
    for (mine, theirs) in layer_files(&pulled).iter().zip(layer_files(&image)) {
        assert_eq!(std::fs::read(mine).unwrap(), std::fs::read(theirs).unwrap());
    }
    let (events, reporter) = Events::reporter();
    pull("web", &there, &registry, &repository, &here, &reporter).await.unwrap();
    assert_eq!(events.bytes(), 0, "what is here is not read again");
}

#[tokio::test]
async fn what_is_not_there_is_none() {
    let server = OciRegistry::open();
    let registry = remote(&server.host, LoginChain::none());
    let repository = registry.repository("web").unwrap();
    let version = Version::Tag("nope".parse().unwrap());
    assert!(registry.manifest(&repository, &version).await.unwrap().is_none());
    assert!(registry.head(&repository, &version).await.unwrap().is_none());
    assert!(!registry.has_blob(&repository, &Digest::of(b"x")).await.unwrap());
    assert!(read(&registry, &repository, &version, PLATFORM).await.unwrap().is_none());
}

#[tokio::test]
async fn pushing_the_same_again_sends_nothing() {
    let (server, folder) = (OciRegistry::open(), tempfile::tempdir().unwrap());
    let proxy = FaultProxy::before(&server.host).await;
    let registry = remote(&proxy.host, LoginChain::none());
    let repository = registry.repository("web").unwrap();
    let image = sample_image(Kind::Oci, folder.path(), &[100, 200, 300]);
    let tags = ["1.0".parse().unwrap()];
    let (events, reporter) = Events::reporter();
    let first = push("web", &image, &registry, &repository, &tags, &reporter).await.unwrap();
    assert_eq!(first.blobs, BlobCounts { uploaded: 4, mounted: 0, present: 0 });
    assert_eq!(first.uploaded, image.size() + image.config_descriptor().size);
    assert_eq!(events.bytes(), image.size());
    assert_eq!(proxy.count(Method::GET, "/v2/"), 0, "nothing is asked for nothing");

    proxy.forget();
    let again = push("web", &image, &registry, &repository, &tags, &Reporter::silent()).await.unwrap();
    assert_eq!((again.blobs.uploaded, again.uploaded), (0, 0));
    assert_eq!(again.reference, first.reference);
    let seen = proxy.seen();
    assert_eq!(seen.len(), 2, "{seen:?}");
    assert!(seen.iter().all(|seen| seen.is(Method::HEAD, "/manifests/")));
}

#[tokio::test]
async fn a_new_tag_for_a_known_image_costs_one_manifest() {
    let (server, folder) = (OciRegistry::open(), tempfile::tempdir().unwrap());
    let proxy = FaultProxy::before(&server.host).await;
    let registry = remote(&proxy.host, LoginChain::none());
    let repository = registry.repository("web").unwrap();
    let image = sample_image(Kind::Oci, folder.path(), &[100]);
    push("web", &image, &registry, &repository, &["1".parse().unwrap()], &Reporter::silent()).await.unwrap();
    proxy.forget();
    push("web", &image, &registry, &repository, &["2".parse().unwrap()], &Reporter::silent()).await.unwrap();
    assert_eq!(proxy.count(Method::PUT, "/manifests/2"), 1);
    assert_eq!(proxy.seen().len(), 3);
}

#[tokio::test]
async fn only_the_layer_that_is_new_is_sent() {
    let (server, folder) = (OciRegistry::open(), tempfile::tempdir().unwrap());
    let registry = remote(&server.host, LoginChain::none());
    let repository = registry.repository("web").unwrap();
    let before = sample_image(Kind::Oci, folder.path(), &[100, 200]);
    push("web", &before, &registry, &repository, &[], &Reporter::silent()).await.unwrap();
    let other = tempfile::tempdir().unwrap();
    let added = sample_image(Kind::Oci, other.path(), &[300]).layers()[0].clone();
    let history = imgforge::image::History { created_by: "test".into(), comment: String::new() };
    let (size, after) = (added.descriptor.size, before.append(added, history));
    let (events, reporter) = Events::reporter();
    let pushed = push("web", &after, &registry, &repository, &[], &reporter).await.unwrap();
    assert_eq!(pushed.blobs, BlobCounts { uploaded: 2, mounted: 0, present: 2 });
    assert_eq!(events.bytes(), size);
    let ends = |wanted| {
        let ended =
            |event: &Event| matches!(event, Event::TaskFinished { outcome, .. } if *outcome == wanted);
        events.all().iter().filter(|event| ended(event)).count()
    };
    assert_eq!((ends(Outcome::Reused), ends(Outcome::Done)), (2, 1));
}

#[tokio::test]
async fn layers_are_mounted_from_another_repository() {
    let (server, folder) = (OciRegistry::open(), tempfile::tempdir().unwrap());
    let proxy = FaultProxy::before(&server.host).await;
    let registry = remote(&proxy.host, LoginChain::none());
    let (from, to) = (registry.repository("base").unwrap(), registry.repository("web").unwrap());
    let image = sample_image(Kind::Oci, folder.path(), &[100, 200]);
    push("base", &image, &registry, &from, &[], &Reporter::silent()).await.unwrap();
    let there = read(&registry, &from, &Version::Digest(image.digest()), PLATFORM).await.unwrap().unwrap();
    let pushed = push("web", &there, &registry, &to, &[], &Reporter::silent()).await.unwrap();
    assert_eq!(pushed.blobs, BlobCounts { uploaded: 1, mounted: 2, present: 0 });
    assert_eq!(pushed.uploaded, image.config_descriptor().size);
    let mount = proxy.seen().into_iter().find(|seen| seen.query.contains("mount=")).unwrap();
    assert!(mount.query.contains("from=shop%2Fbase"), "{}", mount.query);
    assert!(registry.head(&to, &Version::Digest(image.digest())).await.unwrap().is_some());
}

#[tokio::test]
async fn what_was_read_from_a_repository_is_not_asked_for_there() {
    let (server, folder) = (OciRegistry::open(), tempfile::tempdir().unwrap());
    let proxy = FaultProxy::before(&server.host).await;
    let registry = remote(&proxy.host, LoginChain::none());
    let repository = registry.repository("web").unwrap();
    let image = sample_image(Kind::Oci, folder.path(), &[100, 200]);
    push("web", &image, &registry, &repository, &[], &Reporter::silent()).await.unwrap();
    let version = Version::Digest(image.digest());
    let there = read(&registry, &repository, &version, PLATFORM).await.unwrap().unwrap();
    proxy.forget();
    let changed = there.with_labels(&[("a", "b".into())]);
    let tags = ["2".parse().unwrap()];
    let pushed = push("web", &changed, &registry, &repository, &tags, &Reporter::silent()).await.unwrap();
    assert_eq!(pushed.blobs, BlobCounts { uploaded: 1, mounted: 0, present: 2 });
    assert_eq!(proxy.count(Method::HEAD, "/blobs/"), 1, "only the new config");
}

#[tokio::test]
async fn layers_come_over_from_another_registry() {
    let (one, other, folder) = (OciRegistry::open(), OciRegistry::open(), tempfile::tempdir().unwrap());
    let mut settings = config(&other.host, LoginChain::none());
    settings.one_request_up_to = 1000;
    let (source, registry) = (remote(&one.host, LoginChain::none()), Remote::new(settings).unwrap());
    let (from, to) = (source.repository("base").unwrap(), registry.repository("web").unwrap());
    let image = sample_image(Kind::Oci, folder.path(), &[100, 300_000]);
    push("base", &image, &source, &from, &[], &Reporter::silent()).await.unwrap();
    let there = read(&source, &from, &Version::Digest(image.digest()), PLATFORM).await.unwrap().unwrap();
    assert!(matches!(there.layers()[0].content, Content::Registry(_)));
    let pushed = push("web", &there, &registry, &to, &[], &Reporter::silent()).await.unwrap();
    assert_eq!(pushed.blobs.uploaded, 3);
    let pulled = folder.path().join("pulled");
    pull("web", &pushed.image, &registry, &to, &pulled, &Reporter::silent()).await.unwrap();
}

#[tokio::test]
async fn a_large_layer_is_streamed_with_its_progress() {
    let (server, folder) = (OciRegistry::open(), tempfile::tempdir().unwrap());
    let proxy = FaultProxy::before(&server.host).await;
    let settings = RemoteConfig { one_request_up_to: 1000, ..config(&proxy.host, LoginChain::none()) };
    let registry = Remote::new(settings).unwrap();
    let repository = registry.repository("web").unwrap();
    let image = sample_image(Kind::Oci, folder.path(), &[600_000]);
    let (events, reporter) = Events::reporter();
    push("web", &image, &registry, &repository, &["1".parse().unwrap()], &reporter).await.unwrap();
    assert_eq!(proxy.count(Method::PATCH, "/blobs/uploads/"), 1);
    assert_eq!(events.bytes(), image.size());
    let version = Version::Digest(image.digest());
    let there = read(&registry, &repository, &version, PLATFORM).await.unwrap().unwrap();
    let pulled = folder.path().join("pulled");
    pull("web", &there, &registry, &repository, &pulled, &Reporter::silent()).await.unwrap();
}

#[tokio::test]
async fn locations_without_a_host_are_resolved() {
    let (server, folder) = (OciRegistry::open_with_relative_locations(), tempfile::tempdir().unwrap());
    let mut settings = config(&server.host, LoginChain::none());
    settings.one_request_up_to = 1000;
    let registry = Remote::new(settings).unwrap();
    let repository = registry.repository("web").unwrap();
    let image = sample_image(Kind::Oci, folder.path(), &[10, 50_000]);
    let pushed = push("web", &image, &registry, &repository, &[], &Reporter::silent()).await.unwrap();
    assert_eq!(pushed.blobs.uploaded, 3);
}

#[tokio::test]
async fn of_an_index_the_platform_is_read() {
    let (server, folder) = (OciRegistry::open(), tempfile::tempdir().unwrap());
    let registry = remote(&server.host, LoginChain::none());
    let repository = registry.repository("web").unwrap();
    let image = sample_image(Kind::Oci, folder.path(), &[10]);
    push("web", &image, &registry, &repository, &[], &Reporter::silent()).await.unwrap();
    let size = image.manifest_bytes().len();
    let entry = |platform: Value| json!({"mediaType": Kind::Oci.manifest(), "digest": image.digest(), "size": size, "platform": platform});
    let index = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [
        entry(json!({"os": "unknown", "architecture": "unknown"})),
        entry(json!({"os": "linux", "architecture": "amd64"})),
    ]});
    let version = Version::Tag("all".parse().unwrap());
    let bytes = serde_json::to_vec(&index).unwrap();
    registry
        .put_manifest(&repository, &version, "application/vnd.oci.image.index.v1+json", bytes.into())
        .await
        .unwrap();
    let there = read(&registry, &repository, &version, PLATFORM).await.unwrap().unwrap();
    assert_eq!(there.digest(), image.digest());
    let error = read(&registry, &repository, &version, "linux/s390x").await.unwrap_err();
    assert_eq!(error.causes(), ["it has no image for linux/s390x"]);
    assert_eq!(error.help_text(), Some("it has: linux/amd64"));
}

#[tokio::test]
async fn any_registry_can_be_read_without_a_pattern() {
    let (server, folder) = (OciRegistry::open(), tempfile::tempdir().unwrap());
    let registry = remote(&server.host, LoginChain::none());
    let repository = registry.repository("web").unwrap();
    let image = sample_image(Kind::Oci, folder.path(), &[10]);
    push("web", &image, &registry, &repository, &["1".parse().unwrap()], &Reporter::silent()).await.unwrap();
    let reader = Remote::new(RemoteConfig::reader(LoginChain::none())).unwrap();
    let digest = reader.head(&repository, &Version::Tag("1".parse().unwrap())).await.unwrap();
    assert_eq!(digest, Some(image.digest()));
    assert!(reader.repository("web").is_err());
}

#[test]
fn a_pattern_has_to_give_a_repository() {
    for pattern in ["127.0.0.1:5000/Shop", "127.0.0.1:5000/", "", "me:hush@example.com/x"] {
        let error = Remote::new(RemoteConfig::new(pattern, "shop", LoginChain::none())).unwrap_err();
        assert_eq!(error.kind(), imgforge::error::Kind::Config, "{pattern}");
        assert!(error.help_text().is_some());
    }
    let hub =
        Remote::new(RemoteConfig::new("docker.io/me/shop-{image}", "shop", LoginChain::none())).unwrap();
    assert_eq!(hub.describe(), "docker.io");
    assert_eq!(
        hub.repository("web").unwrap(),
        Repository { host: "docker.io".into(), path: "me/shop-web".into() }
    );
}
