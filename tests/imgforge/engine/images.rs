//! Images taken out of the daemon and given back to it.

use std::collections::BTreeMap;

use imgforge::config::{Compression, Mode, Owner};
use imgforge::digest::Digest;
use imgforge::engine::cache::LayerCache;
use imgforge::engine::docker::DockerEngine;
use imgforge::engine::{Built, Engine, Logins};
use imgforge::image::{Content, Image, Kind, seam};
use imgforge::layer::bake::{BakedFile, Folders, bake};
use imgforge::progress::{Outcome, Reporter};
use imgforge::secret::{Secret, Version};

use crate::support;
use crate::support::docker::{Proxy, Recorder, Site, daemon, daemon_with, docker_prints, unique};

const DOCKERFILE: &str =
    "ARG BASE\nFROM $BASE\nCOPY a /a\nRUN echo one > /one\nENV EMPTY=layer\nRUN echo two > /home/two\n";

async fn built(site: &Site, engine: &DockerEngine) -> Built {
    engine.build(&site.recipe("web"), &Logins::new(), &Reporter::silent()).await.unwrap()
}

fn baked(image: &Image, value: &str) -> Image {
    let value = Secret::new(value.as_bytes().to_vec());
    let owner = Owner { uid: 1000, gid: 1000 };
    let file = BakedFile { path: "/home/settings.py".into(), owner, mode: Mode::default(), value };
    let layer = bake(&[file], &Folders::new(), &Secret::new(vec![7; 32])).unwrap();
    let versions = BTreeMap::from([("server_settings".to_owned(), Version("v1".into()))]);
    seam::append(image, layer, &versions, &Folders::new()).unwrap()
}

#[tokio::test]
async fn an_export_is_the_same_image_every_time() {
    let site = Site::new(&[("web.Dockerfile", DOCKERFILE), ("a", "a")]);
    let engine = site.engine(daemon());
    let built = built(&site, &engine).await;
    let image = engine.export(&built, &Reporter::silent()).await.unwrap();
    assert_eq!(image.kind(), Kind::Oci);
    assert_eq!(image.config_descriptor().digest, built.id, "the config is the daemon's, to the byte");
    assert_eq!(image.layers().len(), 4);
    assert_eq!(image.layers()[0].descriptor, site.base_image().layers()[0].descriptor);
    for layer in image.layers() {
        let Content::File(path) = &layer.content else { panic!("{layer:?}") };
        let blob = std::fs::read(path.as_path()).unwrap();
        assert_eq!((Digest::of(&blob), blob.len() as u64), (layer.descriptor.digest, layer.descriptor.size));
    }

    let (recorder, progress) = Recorder::new();
    let again = engine.export(&built, &progress).await.unwrap();
    assert_eq!(again.digest(), image.digest());
    assert_eq!(recorder.outcome("export"), Some(Outcome::Reused));

    let elsewhere = tempfile::tempdir().unwrap();
    let fresh = DockerEngine::new(daemon(), LayerCache::new(elsewhere.path().join("layers")));
    let fresh = fresh.export(&built, &Reporter::silent()).await.unwrap();
    assert_eq!(fresh.digest(), image.digest(), "an empty cache gives the same digest");
}

#[tokio::test(flavor = "multi_thread")]
async fn layers_in_zstd_are_exported_once_and_given_back_as_any_daemon_reads_them() {
    let site = Site::new(&[("web.Dockerfile", DOCKERFILE), ("a", "a")]);
    let gzip = site.engine(daemon());
    let below = built(&site, &gzip).await;
    let in_gzip = gzip.export(&below, &Reporter::silent()).await.unwrap();
    let zstd = DockerEngine::new(daemon(), site.cache().compressing(Compression::Zstd));
    let in_zstd = zstd.export(&below, &Reporter::silent()).await.unwrap();
    assert_eq!(in_zstd.config_bytes(), in_gzip.config_bytes());
    let types = |image: &Image| -> Vec<String> {
        image.layers().iter().map(|layer| layer.descriptor.media_type.clone()).collect()
    };
    let (plain, packed) = (Kind::Oci.gzip_layer(), Kind::oci_layer(Compression::Zstd));
    assert_eq!(types(&in_zstd), [plain, packed, packed, packed], "the base's own blob stays");
    let (recorder, progress) = Recorder::new();
    assert_eq!(zstd.export(&below, &progress).await.unwrap().digest(), in_zstd.digest());
    assert_eq!(gzip.export(&below, &progress).await.unwrap().digest(), in_gzip.digest());
    assert_eq!(recorder.outcome("export"), Some(Outcome::Reused));
    assert!(!zstd.can_push_to(&below, "registry.example.com"), "a daemon would send gzip");

    docker_prints(&["image", "rm", "--force", &below.id.to_string()]);
    let id = zstd.load(&in_zstd, None, &Reporter::silent()).await.unwrap();
    assert_eq!(docker_prints(&["run", "--rm", &id.to_string(), "cat", "/home/two"]), "two\n");
}

#[tokio::test]
async fn an_export_of_a_changed_image_takes_known_layers_from_the_cache() {
    let site = Site::new(&[("web.Dockerfile", DOCKERFILE), ("a", "a")]);
    let engine = site.engine(daemon());
    let first = engine.export(&built(&site, &engine).await, &Reporter::silent()).await.unwrap();
    site.write("web.Dockerfile", &format!("{DOCKERFILE}RUN echo three > /home/three\n"));
    let second = engine.export(&built(&site, &engine).await, &Reporter::silent()).await.unwrap();
    assert_eq!(second.layers().len(), 5);
    for (one, other) in first.layers().iter().zip(second.layers()) {
        assert_eq!(one.descriptor, other.descriptor);
    }
}

#[tokio::test]
async fn an_export_of_an_image_that_is_gone_fails() {
    let site = Site::new(&[("web.Dockerfile", DOCKERFILE), ("a", "a")]);
    let engine = site.engine(daemon());
    let gone = support::docker::built(Digest::of(b"gone"));
    let error = engine.export(&gone, &Reporter::silent()).await.unwrap_err();
    assert_eq!(error.what(), "cannot export web");
    assert!(error.causes().concat().to_lowercase().contains("no such"), "{error:?}");
    assert!(!site.work_dir().join("layers/images").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_baked_image_is_loaded_by_its_new_layer_alone() {
    let site = Site::new(&[("web.Dockerfile", DOCKERFILE), ("a", "a")]);
    let engine = site.engine(daemon());
    let below = built(&site, &engine).await;
    let image = engine.export(&below, &Reporter::silent()).await.unwrap();
    let canary = unique("canary");
    let baked = baked(&image, &canary);
    let proxy = Proxy::start();
    let through = site.engine(daemon_with(&[("DOCKER_HOST", &proxy.host())]));
    let (recorder, progress) = Recorder::new();
    let id = through.load(&baked, Some(&below), &progress).await.unwrap();
    assert_eq!(id, baked.config_descriptor().digest);
    assert!(proxy.sent() < 64 * 1024, "{} bytes for one small file", proxy.sent());
    let stat = ["run", "--rm", &id.to_string(), "stat", "-c", "%u:%g %a %F", "/home/settings.py"];
    assert_eq!(docker_prints(&stat), "1000:1000 400 regular file\n");
    let cat = ["run", "--rm", &id.to_string(), "cat", "/home/settings.py", "/home/two"];
    assert_eq!(docker_prints(&cat), format!("{canary}two\n"));
    assert!(!format!("{:?}", recorder.events()).contains(&canary));

    let (recorder, progress) = Recorder::new();
    assert_eq!(through.load(&baked, Some(&below), &progress).await.unwrap(), id);
    assert_eq!(recorder.outcome("load into the daemon"), Some(Outcome::Reused));
}

#[tokio::test]
async fn a_daemon_without_the_lower_layers_gets_the_whole_image() {
    let site = Site::new(&[("web.Dockerfile", DOCKERFILE), ("a", "a")]);
    let engine = site.engine(daemon());
    let below = built(&site, &engine).await;
    let image = engine.export(&below, &Reporter::silent()).await.unwrap();
    docker_prints(&["image", "rm", "--force", &below.id.to_string()]);
    // A layer that no daemon has: what was built may still be in a builder's cache.
    let nowhere = baked(&image, &unique("first"));
    let lower = nowhere.layers().last().unwrap().clone();
    let file = site.work_dir().join("lower");
    let Content::Memory(blob) = &lower.content else { panic!("{lower:?}") };
    std::fs::write(&file, blob).unwrap();
    let nowhere = nowhere.with_contents(|layer| match &layer.content {
        Content::Memory(_) => Content::File(std::sync::Arc::new(file.clone())),
        other => other.clone(),
    });
    let id = engine.load(&nowhere, Some(&below), &Reporter::silent()).await.unwrap();
    assert_eq!(id, nowhere.config_descriptor().digest);
    assert_eq!(docker_prints(&["run", "--rm", &id.to_string(), "cat", "/home/two"]), "two\n");
}

#[tokio::test]
async fn an_image_whose_layers_are_elsewhere_cannot_be_loaded() {
    let site = Site::new(&[("web.Dockerfile", DOCKERFILE), ("a", "a")]);
    let engine = site.engine(daemon());
    let remote = site.base_image().with_labels(&[("moved", unique("x"))]);
    let remote = remote.with_contents(|_| Content::Registry("registry.example.com/shop".into()));
    let error = engine.load(&remote, None, &Reporter::silent()).await.unwrap_err();
    assert!(error.what().contains("registry.example.com/shop"), "{error:?}");
    assert!(error.help_text().unwrap().contains("docker pull"), "{error:?}");
}
