//! Reading the secret files of a run: pinned, checked, and with one salt.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::body::Bytes;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use imgforge::error::{Error, Kind};
use imgforge::secret::dir::DirStore;
use imgforge::secret::pinned::{SALT_OBJECT, SaltPolicy, Wanted, keep_salt, read};
use imgforge::secret::s3::S3Store;
use imgforge::secret::{Salt, SecretSet, SecretStore, Version};

use super::failures::serve;
use super::secret;
use crate::support::moto::Moto;
use crate::support::s3;

fn wanted(name: &str, object: &str) -> Wanted {
    Wanted { name: name.into(), object: object.into(), paths: Vec::new(), version: None }
}

fn both() -> [Wanted; 2] {
    [wanted("server_settings", "server_settings.py.shop"), wanted("ecs_config", "ecs.config")]
}

async fn filled(store: &dyn SecretStore) {
    store.put("server_settings.py.shop", &secret("SECRET_KEY = 'hunter2'\n")).await.unwrap();
    store.put("ecs.config", &secret("ECS_CLUSTER=shop\n")).await.unwrap();
}

fn value(set: &SecretSet, name: &str) -> Vec<u8> {
    set.files[name].value.expose().to_vec()
}

#[tokio::test]
async fn a_run_keeps_what_it_read_when_an_object_changes() {
    let moto = Moto::start();
    s3::bucket(&moto.url, "shop").await;
    let store = S3Store::new(&s3::config(&moto.url).await, "shop", "");
    filled(&store).await;
    let before = read(&store, &both(), SaltPolicy::DrawIfMissing).await.unwrap();
    keep_salt(&store, &before.salt).await.unwrap();
    store.put("server_settings.py.shop", &secret("SECRET_KEY = 'changed'\n")).await.unwrap();
    let after = read(&store, &both(), SaltPolicy::DrawIfMissing).await.unwrap();

    assert_eq!(value(&before, "server_settings"), b"SECRET_KEY = 'hunter2'\n");
    assert_eq!(value(&after, "server_settings"), b"SECRET_KEY = 'changed'\n");
    assert_ne!(before.versions()["server_settings"], after.versions()["server_settings"]);
    assert_eq!(before.versions()["ecs_config"], after.versions()["ecs_config"]);
    assert!(matches!((&before.salt, &after.salt), (Salt::Drawn(one), Salt::Stored(two)) if one == two));

    let earlier = both().map(|wanted| {
        let version = before.versions()[&wanted.name].clone();
        wanted.at(version)
    });
    let again = read(&store, &earlier, SaltPolicy::ReadOnly).await.unwrap();
    assert_eq!(value(&again, "server_settings"), b"SECRET_KEY = 'hunter2'\n");
    assert_eq!(again.versions(), before.versions());
}

#[tokio::test]
async fn a_folder_gives_fingerprints_that_follow_the_contents() {
    let folder = tempfile::tempdir().unwrap();
    let store = DirStore::new(folder.path());
    filled(&store).await;
    let before = read(&store, &both(), SaltPolicy::DrawIfMissing).await.unwrap();
    keep_salt(&store, &before.salt).await.unwrap();
    let again = read(&store, &both(), SaltPolicy::ReadOnly).await.unwrap();
    assert_eq!(before.versions(), again.versions());
    let pinned =
        wanted("server_settings", "server_settings.py.shop").at(before.versions()["server_settings"].clone());
    read(&store, std::slice::from_ref(&pinned), SaltPolicy::ReadOnly).await.unwrap();

    store.put("server_settings.py.shop", &secret("SECRET_KEY = 'changed'\n")).await.unwrap();
    let after = read(&store, &both(), SaltPolicy::ReadOnly).await.unwrap();
    assert_ne!(before.versions()["server_settings"], after.versions()["server_settings"]);
    let error = read(&store, &[pinned], SaltPolicy::ReadOnly).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Refused);
    assert!(error.what().contains("keeps no earlier versions"), "{error:?}");
}

#[tokio::test]
async fn a_plan_writes_no_salt() {
    let folder = tempfile::tempdir().unwrap();
    let store = DirStore::new(folder.path());
    filled(&store).await;
    let set = read(&store, &both(), SaltPolicy::ReadOnly).await.unwrap();
    assert_eq!(set.salt, Salt::Missing);
    assert_eq!(set.versions()["ecs_config"], Version("unsalted".into()));
    assert!(!folder.path().join(SALT_OBJECT).exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_runs_that_start_at_once_none_bakes_with_another_salt_than_the_stores() {
    let folder = tempfile::tempdir().unwrap();
    one_salt(DirStore::new(folder.path())).await;
    // moto's conditional writes are not atomic as S3's are.
    let endpoint = serve(atomic_bucket()).await;
    one_salt(S3Store::new(&s3::config(&endpoint).await, "shop", "")).await;
}

/// A bucket without versions that keeps to "Add preconditions to S3 operations" of the Amazon S3 user guide: of writes
/// with If-None-Match one wins, those in flight with it get 409, later ones 412.
fn atomic_bucket() -> axum::Router {
    let objects = Arc::new(Mutex::new(HashMap::<String, Bytes>::new()));
    let conflicts = Arc::new(AtomicUsize::new(0));
    let answer = move |method: Method, uri: Uri, headers: HeaderMap, body: Bytes| {
        let (objects, conflicts) = (objects.clone(), conflicts.clone());
        async move {
            let error =
                |status, code: &str| (status, Bytes::from(format!("<Error><Code>{code}</Code></Error>")));
            let mut objects = objects.lock().unwrap();
            let found = objects.get(uri.path()).cloned();
            match (method, headers.contains_key("if-none-match"), found) {
                (Method::GET, _, Some(bytes)) => (StatusCode::OK, bytes),
                (Method::GET, _, None) => error(StatusCode::NOT_FOUND, "NoSuchKey"),
                (_, true, Some(_)) => error(StatusCode::PRECONDITION_FAILED, "PreconditionFailed"),
                (_, true, None) if conflicts.fetch_add(1, Ordering::Relaxed) < 2 => {
                    error(StatusCode::CONFLICT, "ConditionalRequestConflict")
                }
                _ => {
                    objects.insert(uri.path().to_owned(), body);
                    (StatusCode::OK, Bytes::new())
                }
            }
        }
    };
    axum::Router::new().fallback(answer)
}

async fn one_salt<S: SecretStore + Clone + 'static>(store: S) {
    filled(&store).await;
    let runs = (0..6).map(|_| {
        let store = store.clone();
        tokio::spawn(async move {
            let set = read(&store, &both(), SaltPolicy::DrawIfMissing).await.unwrap();
            keep_salt(&store, &set.salt).await.map(|()| set)
        })
    });
    let runs = futures_util::future::try_join_all(runs).await.unwrap();
    let stored = read(&store, &both(), SaltPolicy::ReadOnly).await.unwrap();
    assert!(stored.salt.value().is_some_and(|salt| salt.len() == 32));
    assert!(runs.iter().any(Result::is_ok));
    for run in runs {
        match run {
            // Those that came late have read the winner's.
            Ok(set) => {
                assert_eq!(set.salt.value(), stored.salt.value());
                assert_eq!(set.versions(), stored.versions());
            }
            Err(error) => assert_eq!(error.kind(), Kind::Locked, "{error:?}"),
        }
    }
}

async fn refused(store: &DirStore, wanted: Wanted) -> Error {
    let error = read(store, &[wanted], SaltPolicy::DrawIfMissing).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Refused, "{error:?}");
    assert!(error.help_text().is_some(), "{error:?}");
    assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
    error
}

#[tokio::test]
async fn a_missing_object_is_told_with_key_store_nearest_name_and_the_command() {
    let folder = tempfile::tempdir().unwrap();
    let store = DirStore::new(folder.path()).named("dir:secrets");
    filled(&store).await;
    let error = refused(&store, wanted("server_settings", "server_setings.py.shop")).await;
    assert_eq!(
        error.what(),
        "secret file server_settings: there is no server_setings.py.shop in dir:secrets"
    );
    let help = error.help_text().unwrap();
    assert!(help.contains("did you mean server_settings.py.shop?"), "{help}");
    assert!(help.contains("imgforge secrets put server_settings FILE"), "{help}");
    let error = refused(&store, wanted("other", "zzz")).await;
    assert!(!error.help_text().unwrap().contains("did you mean"), "{error:?}");
}

#[tokio::test]
async fn bad_files_are_refused_by_name_without_their_contents_and_no_salt_is_left() {
    let folder = tempfile::tempdir().unwrap();
    let store = DirStore::new(folder.path()).named("dir:secrets");
    let cases = [
        ("settings.py", "", "secret file s (settings.py in dir:secrets) is empty"),
        ("settings.py", " \n\t\n", "holds nothing but white space"),
        ("settings.py.shop", "OK = 1\nPASSWORD = 'hunter2\n", "is not valid Python: line 2, column 12"),
        ("ecs.config", "A=1\nECS_ENGINE_AUTH_DATA hunter2\n", "is not a valid ecs.config: line 2"),
    ];
    for (object, text, what) in cases {
        store.put(object, &secret(text)).await.unwrap();
        let error = refused(&store, wanted("s", object)).await;
        assert!(error.what().contains(what), "{error:?}");
    }
    // Where it is baked to tells what it is, too.
    store.put("blob", &secret("def hunter2(\n")).await.unwrap();
    let baked = Wanted { paths: vec!["/code/local_settings.py".into()], ..wanted("s", "blob") };
    assert!(refused(&store, baked).await.what().contains("is not valid Python"));
    assert!(!folder.path().join(SALT_OBJECT).exists());
}

#[tokio::test]
async fn a_salt_of_another_size_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let store = DirStore::new(folder.path());
    filled(&store).await;
    store.put(SALT_OBJECT, &secret("short")).await.unwrap();
    let error = refused(&store, wanted("ecs_config", "ecs.config")).await;
    assert!(error.what().contains("has 5 bytes and should have 32"), "{error:?}");
}
