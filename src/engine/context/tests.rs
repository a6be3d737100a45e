use std::collections::BTreeMap;
use std::os::unix::fs::{PermissionsExt, symlink};

use super::*;
use crate::engine::pipe::CHUNK;

/// A folder with these files; a name that ends in a slash is a folder.
fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        if name.ends_with('/') {
            std::fs::create_dir_all(path).unwrap();
        } else {
            std::fs::write(path, text).unwrap();
        }
    }
    folder
}

fn recipe(context: &Path) -> Recipe {
    Recipe {
        project: "shop".into(),
        image: "web".into(),
        base: None,
        dockerfile: context.join("Dockerfile"),
        context: context.to_owned(),
        withheld: Vec::new(),
        target: None,
        args: BTreeMap::new(),
        secrets: BTreeMap::new(),
        direct: None,
    }
}

fn tar_of(recipe: &Recipe) -> Vec<u8> {
    let mut bytes = Vec::new();
    BuildContext::list(recipe).unwrap().write(&mut bytes).unwrap();
    bytes
}

fn names(recipe: &Recipe) -> Vec<String> {
    let bytes = tar_of(recipe);
    let mut tar = tar::Archive::new(&bytes[..]);
    tar.entries().unwrap().map(|entry| slashed(&entry.unwrap().path().unwrap())).collect()
}

#[test]
fn files_are_sorted_and_owned_by_root_with_their_modes() {
    let folder = tree(&[("b/z.sh", "#!"), ("b/a", "1"), ("Dockerfile", "FROM scratch"), ("empty/", "")]);
    std::fs::set_permissions(folder.path().join("b/z.sh"), PermissionsExt::from_mode(0o755)).unwrap();
    std::fs::set_permissions(folder.path().join("b/a"), PermissionsExt::from_mode(0o640)).unwrap();
    symlink("../Dockerfile", folder.path().join("b/link")).unwrap();
    let recipe = recipe(folder.path());
    assert_eq!(names(&recipe), ["Dockerfile", "b", "b/a", "b/link", "b/z.sh", "empty"]);
    let bytes = tar_of(&recipe);
    let mut tar = tar::Archive::new(&bytes[..]);
    let mut modes = BTreeMap::new();
    for entry in tar.entries().unwrap() {
        let entry = entry.unwrap();
        let header = entry.header();
        assert_eq!((header.uid().unwrap(), header.gid().unwrap()), (0, 0));
        modes.insert(slashed(&entry.path().unwrap()), header.mode().unwrap());
        if header.entry_type() == tar::EntryType::Symlink {
            assert_eq!(entry.link_name().unwrap().unwrap(), Path::new("../Dockerfile"));
        }
    }
    assert_eq!((modes["b/z.sh"], modes["b/a"]), (0o755, 0o640));
    assert_eq!(tar_of(&recipe), bytes, "the same files give the same bytes");
}

#[test]
fn withheld_files_stay_out_whatever_the_ignore_file_takes_back() {
    let folder = tree(&[
        ("Dockerfile", ""),
        (".dockerignore", "!.git\n!secrets\n!**/local_settings.py\n!.imgforge/**\n"),
        (".git/config", "x"),
        ("vendor/lib/.git", "gitdir: x"),
        (".imgforge/layers/x", "x"),
        ("secrets/server_settings.py", "x"),
        ("site/local_settings.py", "x"),
        ("local_settings.py", "x"),
        ("site/settings.py", "x"),
        ("deep/secrets/kept", "x"),
    ]);
    let mut recipe = recipe(folder.path());
    recipe.withheld = vec!["./secrets/".into()];
    assert_eq!(
        names(&recipe),
        [
            ".dockerignore",
            "Dockerfile",
            "deep",
            "deep/secrets",
            "deep/secrets/kept",
            "site",
            "site/settings.py",
            "vendor",
            "vendor/lib"
        ]
    );
}

#[test]
fn a_context_that_is_all_withheld_is_a_configuration_error() {
    let folder = tree(&[("Dockerfile", "")]);
    let mut recipe = recipe(folder.path());
    recipe.withheld = vec![".".into()];
    let error = BuildContext::list(&recipe).unwrap_err();
    assert_eq!(error.kind(), crate::error::Kind::Config);
}

#[test]
fn ignored_folders_come_in_only_with_what_is_taken_back() {
    let files = [("Dockerfile", ""), ("docs/a/keep.md", ""), ("docs/a/drop.md", ""), ("docs/b/drop.md", "")];
    let folder = tree(&files);
    std::fs::write(folder.path().join(".dockerignore"), "docs\n.dockerignore\n!docs/*/keep.md\n").unwrap();
    assert_eq!(names(&recipe(folder.path())), ["Dockerfile", "docs", "docs/a", "docs/a/keep.md"]);
}

#[test]
fn an_ignore_file_beside_the_dockerfile_comes_first() {
    let folder = tree(&[("a", ""), ("b", ""), (".dockerignore", "a\n"), ("docker/web.Dockerfile", "")]);
    let mut recipe = recipe(folder.path());
    recipe.dockerfile = folder.path().join("docker/web.Dockerfile");
    assert!(!names(&recipe).contains(&"a".to_owned()));
    std::fs::write(folder.path().join("docker/web.Dockerfile.dockerignore"), "b\n").unwrap();
    let names = names(&recipe);
    assert!(names.contains(&"a".to_owned()) && !names.contains(&"b".to_owned()), "{names:?}");
}

#[test]
fn an_ignored_dockerfile_is_sent_all_the_same() {
    let folder = tree(&[("a", ""), (".dockerignore", "*\n!a\n"), ("Dockerfile", "FROM scratch")]);
    let context = BuildContext::list(&recipe(folder.path())).unwrap();
    assert_eq!(context.dockerfile, "Dockerfile");
    assert_eq!(names(&recipe(folder.path())), ["a", "Dockerfile"]);
}

#[test]
fn a_dockerfile_outside_of_the_context_comes_in_as_a_copy() {
    let folder = tree(&[("site/a", ""), ("docker/Dockerfile", "FROM scratch")]);
    let mut recipe = recipe(&folder.path().join("site"));
    recipe.dockerfile = folder.path().join("docker/Dockerfile");
    let context = BuildContext::list(&recipe).unwrap();
    assert_eq!(context.dockerfile, FOREIGN_DOCKERFILE);
    assert_eq!(names(&recipe), ["a", FOREIGN_DOCKERFILE]);
    recipe.dockerfile = folder.path().join("docker/None");
    assert_eq!(BuildContext::list(&recipe).unwrap_err().kind(), crate::error::Kind::Config);
}

#[test]
fn sockets_stay_out_with_a_warning() {
    let folder = tree(&[("Dockerfile", "")]);
    let _socket = std::os::unix::net::UnixListener::bind(folder.path().join("app.sock")).unwrap();
    let context = BuildContext::list(&recipe(folder.path())).unwrap();
    assert_eq!(context.warnings, ["app.sock is a socket and stays out of the build context"]);
    assert_eq!(context.len(), 1);
}

#[test]
fn files_that_vanish_or_shrink_while_they_are_read_are_named() {
    let folder = tree(&[("Dockerfile", ""), ("data/one", "1234"), ("data/two", "1234")]);
    let listed = BuildContext::list(&recipe(folder.path())).unwrap();
    std::fs::write(folder.path().join("data/one"), "12").unwrap();
    let error = listed.write(io::sink()).unwrap_err();
    assert!(error.what().ends_with("data/one"), "{error}");
    assert_eq!(error.causes(), ["it became shorter while it was read"]);
    std::fs::write(folder.path().join("data/one"), "123456").unwrap();
    std::fs::remove_file(folder.path().join("data/two")).unwrap();
    let error = listed.write(io::sink()).unwrap_err();
    assert!(error.what().ends_with("data/two"), "{error}");
    assert!(error.help_text().is_some());
}

#[tokio::test]
async fn a_stream_holds_the_tar_and_ends_in_an_error_when_it_cannot_be_made() {
    use futures_util::StreamExt;
    let folder = tree(&[("Dockerfile", ""), ("big", &"x".repeat(3 * CHUNK)), ("zz", "1")]);
    let recipe = recipe(folder.path());
    let (stream, made) = BuildContext::list(&recipe).unwrap().stream();
    let parts: Vec<_> = stream.collect().await;
    let sent: Vec<u8> = parts.into_iter().flat_map(|part| part.unwrap().to_vec()).collect();
    assert_eq!(sent, tar_of(&recipe));
    made.await.unwrap().unwrap();

    let listed = BuildContext::list(&recipe).unwrap();
    std::fs::remove_file(folder.path().join("zz")).unwrap();
    let (stream, made) = listed.stream();
    let last = stream.collect::<Vec<_>>().await.pop().unwrap();
    assert!(last.is_err());
    assert!(made.await.unwrap().unwrap_err().what().ends_with("zz"));
}
