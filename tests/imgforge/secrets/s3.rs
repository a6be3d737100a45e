//! The store that is a bucket.

use std::io::Write;
use std::sync::{Arc, Mutex};

use axum::extract::RawQuery;
use axum::http::{StatusCode, Uri};
use imgforge::error::Kind;
use imgforge::secret::s3::S3Store;
use imgforge::secret::{ObjectVersion, SecretStore, Version};

use super::secret;
use crate::support::moto::Moto;
use crate::support::s3;

#[tokio::test]
async fn a_versioned_bucket_gives_every_version() {
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
    assert_eq!(store.describe(), "s3://shop/p");
}

#[tokio::test]
async fn a_bare_bucket_has_no_versions() {
    let moto = Moto::start();
    s3::bare_bucket(&moto.url, "bare").await;
    let store = S3Store::new(&s3::config(&moto.url).await, "bare", "");
    assert_eq!(store.put("a", &secret("1")).await.unwrap(), None);
    assert_eq!(store.get("a", None).await.unwrap().unwrap().version, None);
    assert_eq!(store.versions("a").await.unwrap(), Vec::<ObjectVersion>::new());
}

/// moto names the root of one of these answers otherwise than S3 does, so they come from a server that answers as the
/// Amazon S3 API reference shows (GetBucketVersioning, GetPublicAccessBlock).
#[tokio::test]
async fn a_bucket_without_versions_or_open_to_the_public_is_a_problem() {
    let answer = |uri: Uri| async move {
        let (bucket, query) = (uri.path().trim_matches('/').to_owned(), uri.query().unwrap_or_default());
        let error = |code: &str, status| (status, format!("<Error><Code>{code}</Code></Error>"));
        match (bucket.as_str(), query.contains("versioning")) {
            ("denied", _) => error("AccessDenied", StatusCode::FORBIDDEN),
            ("bare", true) => (StatusCode::OK, "<VersioningConfiguration/>".to_owned()),
            ("bare", false) => error("NoSuchPublicAccessBlockConfiguration", StatusCode::NOT_FOUND),
            (_, true) => {
                let status = if bucket == "half" { "Suspended" } else { "Enabled" };
                (
                    StatusCode::OK,
                    format!("<VersioningConfiguration><Status>{status}</Status></VersioningConfiguration>"),
                )
            }
            (_, false) => {
                let names =
                    ["BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"];
                let on = |name: &str| bucket != "half" || name != "BlockPublicPolicy";
                let fields: String =
                    names.iter().map(|name| format!("<{name}>{}</{name}>", on(name))).collect();
                (
                    StatusCode::OK,
                    format!("<PublicAccessBlockConfiguration>{fields}</PublicAccessBlockConfiguration>"),
                )
            }
        }
    };
    let endpoint = super::failures::serve(axum::Router::new().fallback(answer)).await;
    let config = s3::config(&endpoint).await;
    let versioning = "put-bucket-versioning --bucket";
    let public = "put-public-access-block --bucket";
    let cases = [
        ("good", vec![]),
        ("bare", vec![versioning, public]),
        ("half", vec![versioning, public]),
        ("denied", vec!["that needs s3:GetBucketVersioning", "that needs s3:GetBucketPublicAccessBlock"]),
    ];
    for (bucket, want) in cases {
        let problems = S3Store::new(&config, bucket, "").problems().await.unwrap();
        assert_eq!(problems.len(), want.len(), "{bucket}: {problems:?}");
        for (problem, want) in problems.iter().zip(want) {
            assert!(problem.contains(want) && problem.contains(bucket), "{problem}");
        }
    }
}

#[tokio::test]
async fn a_bucket_that_is_not_there_is_refused_by_name() {
    let moto = Moto::start();
    let store = S3Store::new(&s3::config(&moto.url).await, "nowhere", "");
    let errors = [
        store.get("a", None).await.unwrap_err(),
        store.put("a", &secret("1")).await.unwrap_err(),
        store.list().await.unwrap_err(),
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
