//! The store that is a folder.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use imgforge::secret::SecretStore;
use imgforge::secret::dir::DirStore;

use super::secret;

fn mode(path: &Path) -> u32 {
    path.metadata().unwrap().permissions().mode() & 0o777
}

#[tokio::test]
async fn files_and_folders_are_the_owners_alone_and_nothing_else_is_left() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("secrets");
    let store = DirStore::new(&root);
    store.put("deep/settings.py", &secret("A = 1")).await.unwrap();
    std::fs::set_permissions(root.join("deep/settings.py"), Permissions::from_mode(0o644)).unwrap();
    store.put("deep/settings.py", &secret("A = 2")).await.unwrap();
    assert!(store.create("salt", &secret("s")).await.unwrap());
    assert!(!store.create("salt", &secret("t")).await.unwrap());
    assert_eq!(mode(&root), 0o700);
    assert_eq!(mode(&root.join("deep")), 0o700);
    assert_eq!(mode(&root.join("deep/settings.py")), 0o600);
    assert_eq!(mode(&root.join("salt")), 0o600);
    let files = walkdir::WalkDir::new(&root).into_iter().map(Result::unwrap);
    assert_eq!(files.filter(|entry| entry.file_type().is_file()).count(), 2);
}

#[tokio::test]
async fn paths_out_of_the_folder_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let store = DirStore::new(folder.path().join("secrets"));
    std::fs::write(folder.path().join("outside"), "x").unwrap();
    for name in ["../outside", "a/../../outside", "./a", "a/..", "..", "a\0b"] {
        assert!(store.get(name, None).await.is_err(), "{name:?}");
        assert!(store.put(name, &secret("x")).await.is_err(), "{name:?}");
        assert!(store.create(name, &secret("x")).await.is_err(), "{name:?}");
    }
}

#[tokio::test]
async fn files_that_others_can_read_are_a_problem_unless_the_folder_is_closed() {
    let folder = tempfile::tempdir().unwrap();
    let store = DirStore::new(folder.path());
    store.put("open", &secret("x")).await.unwrap();
    store.put("closed", &secret("x")).await.unwrap();
    std::fs::set_permissions(folder.path().join("open"), Permissions::from_mode(0o644)).unwrap();
    std::fs::set_permissions(folder.path(), Permissions::from_mode(0o700)).unwrap();
    assert_eq!(store.problems().await.unwrap(), Vec::<String>::new());
    std::fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
    let problems = store.problems().await.unwrap();
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert!(problems[0].contains("chmod 700"), "{problems:?}");
    assert!(problems[1].contains("open") && problems[1].contains("chmod 600"), "{problems:?}");
}

#[tokio::test]
async fn secrets_that_git_would_take_are_a_problem() {
    let folder = tempfile::tempdir().unwrap();
    let git = |arguments: &[&str]| {
        let status = Command::new("git").arg("-C").arg(folder.path()).args(arguments).status().unwrap();
        assert!(status.success(), "git {arguments:?}");
    };
    git(&["init", "-q"]);
    let root = folder.path().join("secrets");
    let store = DirStore::new(&root);
    for name in ["tracked", "loose", "ignored"] {
        store.put(name, &secret("x")).await.unwrap();
    }
    std::fs::write(folder.path().join(".gitignore"), "/secrets/ignored\n").unwrap();
    git(&["add", "secrets/tracked"]);
    let problems = store.problems().await.unwrap();
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert!(problems[0].contains("tracked is in Git"), "{problems:?}");
    assert!(problems[1].contains("loose is not ignored"), "{problems:?}");
}

#[test]
fn it_is_called_what_the_configuration_calls_it() {
    assert_eq!(DirStore::new("/srv/x").describe(), "dir:/srv/x");
    assert_eq!(DirStore::new("/srv/x").named("dir:secrets").describe(), "dir:secrets");
}
