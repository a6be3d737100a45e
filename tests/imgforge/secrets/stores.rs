//! What every store does alike.

use imgforge::error::Kind;
use imgforge::secret::dir::DirStore;
use imgforge::secret::pinned::SALT_OBJECT;
use imgforge::secret::s3::S3Store;
use imgforge::secret::{Secret, SecretStore};

use super::secret;
use crate::support::moto::Moto;
use crate::support::s3;

#[tokio::test]
async fn a_folder_behaves_as_a_store() {
    let folder = tempfile::tempdir().unwrap();
    behaves(&DirStore::new(folder.path().join("not/there/yet"))).await;
}

#[tokio::test]
async fn a_bucket_behaves_as_a_store_with_and_without_prefix() {
    let moto = Moto::start();
    let config = s3::config(&moto.url).await;
    s3::bucket(&moto.url, "shop").await;
    s3::bare_bucket(&moto.url, "bare").await;
    // First the one below a prefix: what it writes must not show in the other's listing under its own names.
    behaves(&S3Store::new(&config, "shop", "deep/prefix")).await;
    behaves(&S3Store::new(&config, "bare", "")).await;
}

async fn behaves(store: &dyn SecretStore) {
    missing_objects_are_none(store).await;
    what_was_put_is_got(store).await;
    create_writes_only_what_is_not_there(store).await;
    listing_is_sorted_and_leaves_the_salt_out(store).await;
    names_that_lead_elsewhere_are_refused(store).await;
    a_version_that_is_not_there_is_an_error(store).await;
}

async fn missing_objects_are_none(store: &dyn SecretStore) {
    assert!(store.get("none", None).await.unwrap().is_none());
    assert!(store.get("none/below", None).await.unwrap().is_none());
    assert!(store.list().await.unwrap().is_empty());
    assert!(store.versions("none").await.unwrap().is_empty());
}

async fn what_was_put_is_got(store: &dyn SecretStore) {
    let every_byte = Secret::new((0..=255).cycle().take(100_000).collect());
    for (object, value) in
        [("server_settings.py.shop", secret("A = 1\n")), ("a/b.bin", every_byte), ("empty", secret(""))]
    {
        store.put(object, &secret("an older one, longer than what replaces it")).await.unwrap();
        store.put(object, &value).await.unwrap();
        let got = store.get(object, None).await.unwrap().unwrap();
        assert!(got.value == value, "{object}");
    }
}

/// One after the other: moto looks and writes in two steps, so that calls at once can both win there.
async fn create_writes_only_what_is_not_there(store: &dyn SecretStore) {
    assert!(store.create(SALT_OBJECT, &secret("first")).await.unwrap());
    assert!(!store.create(SALT_OBJECT, &secret("second")).await.unwrap());
    assert!(store.get(SALT_OBJECT, None).await.unwrap().unwrap().value == secret("first"));
}

async fn listing_is_sorted_and_leaves_the_salt_out(store: &dyn SecretStore) {
    let listed = store.list().await.unwrap();
    let names: Vec<(&str, u64)> = listed.iter().map(|listed| (listed.object.as_str(), listed.size)).collect();
    assert_eq!(names, [("a/b.bin", 100_000), ("empty", 0), ("server_settings.py.shop", 6)]);
    for listed in &listed {
        let modified = listed.modified.as_deref().unwrap();
        assert!(modified.starts_with("20") && modified.ends_with('Z'), "{modified}");
    }
}

async fn names_that_lead_elsewhere_are_refused(store: &dyn SecretStore) {
    for name in ["", "/etc/passwd", "folder/"] {
        let error = store.get(name, None).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Config, "{name}: {error}");
        assert!(store.put(name, &secret("x")).await.is_err(), "{name}");
        assert!(store.create(name, &secret("x")).await.is_err(), "{name}");
    }
}

async fn a_version_that_is_not_there_is_an_error(store: &dyn SecretStore) {
    let version = imgforge::secret::Version("3HL4kqtJvjVBH40Nrjfkd3HL4kqtJvjV".into());
    let error = store.get("a/b.bin", Some(&version)).await.unwrap_err();
    assert!(error.help_text().is_some(), "{error:?}");
}
