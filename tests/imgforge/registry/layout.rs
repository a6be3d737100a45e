//! OCI layouts on disk.

use imgforge::image::reference::Version;
use imgforge::image::{Image, Kind};
use imgforge::progress::Reporter;
use imgforge::registry::BlobCounts;
use imgforge::registry::Registry;
use imgforge::registry::layout::Layout;
use imgforge::registry::push::push;
use imgforge::registry::read::read;

use super::tool;
use crate::support::sample_image::{Events, layer_files, sample_image};

const PLATFORM: &str = "linux/amd64";

async fn put(layout: &Layout, image: &Image, tag: &str) -> imgforge::registry::Pushed {
    let repository = layout.repository("web").unwrap();
    push("web", image, layout, &repository, &[tag.parse().unwrap()], &Reporter::silent()).await.unwrap()
}

#[tokio::test]
async fn other_tools_accept_a_layout() {
    let folder = tempfile::tempdir().unwrap();
    let layout = Layout::new(folder.path(), ".imgforge/images", "shop");
    let image = sample_image(Kind::Oci, folder.path(), &[100, 70_000]);
    let pushed = put(&layout, &image, "1.0").await;
    assert_eq!(pushed.reference.to_string(), format!("oci:.imgforge/images/web@{}", image.digest()));
    let web = folder.path().join(".imgforge/images/web").display().to_string();
    let inspected = tool("skopeo", &["inspect", &format!("oci:{web}:1.0")]);
    let inspected: serde_json::Value = serde_json::from_str(&inspected).unwrap();
    assert_eq!(inspected["Digest"], image.digest().to_string());
    let unpacked = folder.path().join("unpacked");
    tool(
        "umoci",
        &["unpack", "--rootless", "--image", &format!("{web}:1.0"), &unpacked.display().to_string()],
    );
    assert_eq!(std::fs::metadata(unpacked.join("rootfs/file-1")).unwrap().len(), 70_000);
}

#[tokio::test]
async fn what_was_written_reads_back_with_its_layers_in_files() {
    for kind in [Kind::Oci, Kind::Docker] {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path(), "images", "shop");
        let image = sample_image(kind, folder.path(), &[100, 200]);
        put(&layout, &image, "1.0").await;
        let repository = layout.repository("web").unwrap();
        for version in [Version::Tag("1.0".parse().unwrap()), Version::Digest(image.digest())] {
            let there = read(&layout, &repository, &version, PLATFORM).await.unwrap().unwrap();
            assert_eq!(there.manifest_bytes(), image.manifest_bytes());
            assert!(
                layer_files(&there).iter().all(|path| path.starts_with(folder.path().join("images/web")))
            );
        }
        let other = Version::Tag("2.0".parse().unwrap());
        assert!(read(&layout, &repository, &other, PLATFORM).await.unwrap().is_none());
    }
}

#[tokio::test]
async fn writing_the_same_again_sends_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let layout = Layout::new(folder.path(), "images", "shop");
    let image = sample_image(Kind::Oci, folder.path(), &[100, 200]);
    let first = put(&layout, &image, "1.0").await;
    assert_eq!(first.blobs, BlobCounts { uploaded: 3, mounted: 0, present: 0 });
    let index = folder.path().join("images/web/index.json");
    let before = std::fs::metadata(&index).unwrap().modified().unwrap();
    let (events, reporter) = Events::reporter();
    let repository = layout.repository("web").unwrap();
    let tags = ["1.0".parse().unwrap()];
    let again = push("web", &image, &layout, &repository, &tags, &reporter).await.unwrap();
    assert_eq!((again.blobs.uploaded, again.uploaded, events.bytes()), (0, 0, 0));
    assert_eq!(std::fs::metadata(&index).unwrap().modified().unwrap(), before, "nothing is written");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_writers_at_once_lose_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let images: Vec<Image> = (0..8)
        .map(|at| {
            let own = folder.path().join(format!("image-{at}"));
            std::fs::create_dir(&own).unwrap();
            sample_image(Kind::Oci, &own, &[100, 2000])
        })
        .collect();
    // Each through a value of its own, as two processes would.
    let writers = images.iter().cloned().enumerate().map(|(at, image)| {
        let layout = Layout::new(folder.path(), "images", "shop");
        tokio::spawn(async move { put(&layout, &image, &format!("tag-{at}")).await })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    let layout = Layout::new(folder.path(), "images", "shop");
    let repository = layout.repository("web").unwrap();
    for (at, image) in images.iter().enumerate() {
        let version = Version::Tag(format!("tag-{at}").parse().unwrap());
        assert_eq!(layout.head(&repository, &version).await.unwrap(), Some(image.digest()), "{at}");
    }
    let blobs = std::fs::read_dir(folder.path().join("images/web/blobs/sha256")).unwrap();
    let names = blobs.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert!(names.into_iter().all(|name| !name.contains("partial")));
}

#[tokio::test]
async fn a_tag_moves_to_the_newest_image() {
    let folder = tempfile::tempdir().unwrap();
    let layout = Layout::new(folder.path(), "images", "shop");
    let image = sample_image(Kind::Oci, folder.path(), &[100]);
    put(&layout, &image, "latest").await;
    let newer = image.with_labels(&[("a", "b".into())]);
    let pushed = put(&layout, &newer, "latest").await;
    assert_eq!(pushed.blobs, BlobCounts { uploaded: 1, mounted: 0, present: 1 });
    let repository = layout.repository("web").unwrap();
    let version = Version::Tag("latest".parse().unwrap());
    assert_eq!(layout.head(&repository, &version).await.unwrap(), Some(newer.digest()));
}

#[tokio::test]
async fn a_changed_cache_file_does_not_get_in() {
    let folder = tempfile::tempdir().unwrap();
    let layout = Layout::new(folder.path(), "images", "shop");
    let image = sample_image(Kind::Oci, folder.path(), &[100]);
    std::fs::write(&layer_files(&image)[0], "something else").unwrap();
    let repository = layout.repository("web").unwrap();
    let tags = ["1".parse().unwrap()];
    let error = push("web", &image, &layout, &repository, &tags, &Reporter::silent()).await.unwrap_err();
    assert!(error.what().contains("is no longer the layer that it was"), "{error:?}");
    assert!(layout.head(&repository, &Version::Tag("1".parse().unwrap())).await.unwrap().is_none());
}

#[tokio::test]
async fn a_broken_index_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let layout = Layout::new(folder.path(), "images", "shop");
    put(&layout, &sample_image(Kind::Oci, folder.path(), &[10]), "1").await;
    std::fs::write(folder.path().join("images/web/index.json"), "{").unwrap();
    let repository = layout.repository("web").unwrap();
    let error = layout.head(&repository, &Version::Tag("1".parse().unwrap())).await.unwrap_err();
    assert!(error.what().contains("is not the index of an OCI layout"), "{error:?}");
    assert!(error.help_text().unwrap().contains("remove"));
}
