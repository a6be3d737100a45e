//! The store that is a bucket.

use std::io::Write;
use std::sync::{Arc, Mutex};

use axum::extract::RawQuery;
use axum::http::Uri;
use imgforge::error::Kind;
use imgforge::secret::s3::S3Store;
use imgforge::secret::{ObjectVersion, SecretStore, Version};

use super::secret;
use crate::support::moto::Moto;
use crate::support::s3;

#[tokio::test]
async fn a_versioned_bucket_gives_every_version_and_tells_nothing_to_worry_about() {
    let moto = Moto::start();
    s3::bucket(&moto.url, "shop").await;
    let store = S3Store::new(&s3::config(&moto.url).await, "shop", "p");
    let one = store.put("settings.py", &secret("A = 1")).await.unwrap().unwrap();
    let two = store.put("settings.py", &secret("A = 2")).await.unwrap().unwrap();
    store.put("settings.py.other", &secret("B = 1")).await.unwrap();

    let newest = store.get("settings.py", None).await.unwrap().unwrap();
    assert_eq!((newest.value, newest.version), (secret("A = 2"), Some(two.clone())));
    let older = store.get("settings.py", Some(&one)).await.unwrap().unwrap();
    assert_eq!((older.value, older.version), (secret("A = 1"), Some(one.clone())));
    let versions = store.versions("settings.py").await.unwrap();
    let told: Vec<(&Version, bool)> =
        versions.iter().map(|version| (&version.version, version.latest)).collect();
    assert_eq!(told, [(&two, true), (&one, false)]);
    assert_eq!(store.problems().await.unwrap(), Vec::<String>::new());
    assert_eq!(store.describe(), "s3://shop/p");
}

#[tokio::test]
async fn a_bare_bucket_has_no_versions_and_says_what_is_missing() {
    let moto = Moto::start();
    s3::bare_bucket(&moto.url, "bare").await;
    let store = S3Store::new(&s3::config(&moto.url).await, "bare", "");
    assert_eq!(store.put("a", &secret("1")).await.unwrap(), None);
    assert_eq!(store.get("a", None).await.unwrap().unwrap().version, None);
    assert_eq!(store.versions("a").await.unwrap(), Vec::<ObjectVersion>::new());
    let problems = store.problems().await.unwrap();
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert!(problems[0].contains("put-bucket-versioning --bucket bare"), "{problems:?}");
    assert!(problems[1].contains("put-public-access-block --bucket bare"), "{problems:?}");
}

#[tokio::test]
async fn a_bucket_that_is_not_there_is_refused_by_name() {
    let moto = Moto::start();
    let store = S3Store::new(&s3::config(&moto.url).await, "nowhere", "");
    let errors = [
        store.get("a", None).await.unwrap_err(),
        store.put("a", &secret("1")).await.unwrap_err(),
        store.list().await.unwrap_err(),
        store.problems().await.unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.kind(), Kind::Refused, "{error:?}");
        assert!(error.what().contains("there is no bucket nowhere"), "{error:?}");
    }
}

/// What tracing prints.
#[derive(Clone, Default)]
struct Printed(Arc<Mutex<Vec<u8>>>);

impl Write for Printed {
    fn write(&mut self, buffer: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(buffer)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn values_are_not_traced_at_any_level() {
    let moto = Moto::start();
    s3::bucket(&moto.url, "shop").await;
    let store = S3Store::new(&s3::config(&moto.url).await, "shop", "");
    let printed = Printed::default();
    let writer = printed.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    // The runtime of this test is one thread, so this sees the connection's tasks too.
    let guard = tracing::subscriber::set_default(subscriber);
    store.put("settings.py", &secret("K = 'CANARY-7f3a'")).await.unwrap();
    store.create("salt", &secret("CANARY-7f3a")).await.unwrap();
    store.create("salt", &secret("CANARY-7f3a again")).await.unwrap();
    store.get("settings.py", None).await.unwrap().unwrap();
    S3Store::new(&s3::config(&moto.url).await, "nowhere", "")
        .put("a", &secret("CANARY-7f3a"))
        .await
        .unwrap_err();
    drop(guard);
    let printed = String::from_utf8_lossy(&printed.0.lock().unwrap()).into_owned();
    assert!(printed.contains("transmitting request"), "nothing was traced");
    // As text, as base64, and as the numbers of a byte list.
    for form in ["CANARY", "Q0FOQVJZ", "67, 65, 78, 65, 82, 89"] {
        let found = printed.lines().find(|line| line.contains(form));
        assert_eq!(found, None, "{form}");
    }
}

/// moto's pages hold a thousand objects; this answers with one each.
#[tokio::test]
async fn listings_are_read_to_their_last_page() {
    let answer = |_: Uri, RawQuery(query): RawQuery| async move {
        let query = query.unwrap_or_default();
        let has = |part: &str| query.contains(part);
        if has("list-type=2") {
            let (name, more) = if has("continuation-token=two") {
                ("b", "")
            } else {
                ("a", "<NextContinuationToken>two</NextContinuationToken>")
            };
            format!(
                "<ListBucketResult><IsTruncated>{}</IsTruncated>{more}<Contents><Key>p/{name}</Key><Size>1</Size>\
                 </Contents></ListBucketResult>",
                !more.is_empty()
            )
        } else {
            assert!(has("versions"), "{query}");
            let (id, more) = if has("version-id-marker=v2") {
                ("v1", "")
            } else {
                ("v2", "<NextKeyMarker>p/a</NextKeyMarker><NextVersionIdMarker>v2</NextVersionIdMarker>")
            };
            format!(
                "<ListVersionsResult><IsTruncated>{}</IsTruncated>{more}<Version><Key>p/a</Key>\
                 <VersionId>{id}</VersionId><Size>1</Size></Version></ListVersionsResult>",
                !more.is_empty()
            )
        }
    };
    let endpoint = super::failures::serve(axum::Router::new().fallback(answer)).await;
    let store = S3Store::new(&s3::config(&endpoint).await, "shop", "p");
    let names: Vec<String> = store.list().await.unwrap().into_iter().map(|listed| listed.object).collect();
    assert_eq!(names, ["a", "b"]);
    let versions: Vec<String> =
        store.versions("a").await.unwrap().into_iter().map(|version| version.version.0).collect();
    assert_eq!(versions, ["v2", "v1"]);
}
