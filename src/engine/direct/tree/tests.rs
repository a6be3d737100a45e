use super::*;
use crate::config::Compression;
use crate::digest::DiffId;
use crate::layer::LayerWriter;

fn owner(uid: u32) -> Owner {
    Owner { uid, gid: uid }
}

fn bytes(text: &str) -> What {
    What::Bytes(text.as_bytes().to_vec())
}

fn rootfs(directories: &[(&str, u32)], links: &[(&str, &str)]) -> Rootfs {
    let attributes = |uid| Attributes { uid, gid: uid, mode: 0o750, mtime: 5 };
    Rootfs {
        directories: directories.iter().map(|(path, uid)| ((*path).to_owned(), attributes(*uid))).collect(),
        links: links.iter().map(|(path, target)| ((*path).to_owned(), (*target).to_owned())).collect(),
    }
}

fn listed(tree: &Tree) -> Vec<String> {
    let mut tar = Vec::new();
    tree.write(&mut tar).unwrap();
    let mut tar = tar::Archive::new(&tar[..]);
    let line = |entry: io::Result<tar::Entry<'_, &[u8]>>| {
        let entry = entry.unwrap();
        let header = entry.header();
        let (path, mode) = (entry.path().unwrap().display().to_string(), header.mode().unwrap());
        format!(
            "{path} {}:{} {mode:o} {}",
            header.uid().unwrap(),
            header.gid().unwrap(),
            header.mtime().unwrap()
        )
    };
    tar.entries().unwrap().map(line).collect()
}

/// Contract 8: pinned, so that no change of this code moves a digest unseen.
#[test]
fn layer_is_golden() {
    let mut tree = Tree::default();
    tree.insert("srv/site", What::Directory, owner(0), 0o755);
    tree.insert("srv/site/manage.py", bytes("#!/usr/bin/env python3\n"), owner(0), 0o755);
    tree.insert("srv/site/link", What::Link("../../etc".into()), owner(0), 0o777);
    tree.insert(
        format!("srv/site/{}/settings.py", "d".repeat(90).repeat(3)),
        bytes("A = 1\n"),
        owner(70_000),
        0o644,
    );
    tree.complete(&rootfs(&[("srv", 7)], &[])).unwrap();
    let mut writer = LayerWriter::new(Compression::Gzip, Vec::new());
    tree.write(&mut writer).unwrap();
    let (blob, digests) = writer.finish().unwrap();
    assert_eq!(digests.digest, Digest::of(&blob));
    assert_eq!(
        digests.diff_id,
        DiffId("sha256:ad2bd52407d4f38fca479e46b8fe06cdd47fcf32d27fc8bceb682b42fe572d0b".parse().unwrap())
    );
    assert_eq!(
        tree.key().to_string(),
        "sha256:9c07cb4d861a2a0dd4fc016ab246dceb3a1d1ea9358ccfd7bb439d33597e18d7"
    );
}

#[test]
fn parents_are_as_they_are_below_or_new() {
    let mut tree = Tree::default();
    tree.insert("home/docker/code/a", bytes("a"), owner(3), 0o644);
    tree.complete(&rootfs(&[("home", 0), ("home/docker", 1000)], &[])).unwrap();
    assert_eq!(
        listed(&tree),
        [
            "home/ 0:0 750 5",
            "home/docker/ 1000:1000 750 5",
            "home/docker/code/ 0:0 755 0",
            "home/docker/code/a 3:3 644 0",
        ]
    );
}

#[test]
fn a_file_does_not_take_the_place_of_a_directory() {
    let mut tree = Tree::default();
    tree.insert("etc", bytes("a"), owner(0), 0o644);
    assert!(tree.complete(&rootfs(&[("etc", 0)], &[])).is_err());
}

#[test]
fn links_of_the_image_are_followed_and_never_out_of_it() {
    let rootfs = rootfs(
        &[],
        &[
            ("bin", "usr/bin"),
            ("var/run", "/run"),
            ("deep/link", "../../../../etc"),
            ("a", "b"),
            ("b", "a"),
            ("usr/bin/python3", "python3.11"),
        ],
    );
    for (path, want) in [
        ("bin/tool", "usr/bin/tool"),
        ("var/run/x/y", "run/x/y"),
        ("deep/link/passwd", "etc/passwd"),
        ("bin/python3", "usr/bin/python3.11"),
        ("plain/path", "plain/path"),
        ("", ""),
    ] {
        assert_eq!(rootfs.resolve(path).unwrap(), want, "{path}");
    }
    assert!(rootfs.resolve("a/x").is_err());
}

#[test]
fn a_directory_goes_through_a_link_of_the_image_and_a_file_takes_its_place() {
    let rootfs =
        rootfs(&[("usr", 0), ("usr/bin", 0)], &[("bin", "usr/bin"), ("usr/bin/python3", "python3.11")]);
    assert_eq!(rootfs.place("bin", true).unwrap(), "usr/bin");
    assert_eq!(rootfs.place("bin/tool", false).unwrap(), "usr/bin/tool");
    assert_eq!(rootfs.place("bin/python3", false).unwrap(), "usr/bin/python3");
    assert_eq!(rootfs.place("tool", false).unwrap(), "tool");
}

fn source(path: &std::path::Path, size: u64, content: &str) -> Source {
    let metadata = std::fs::symlink_metadata(path).unwrap();
    Source { path: path.to_owned(), size, inode: metadata.ino(), digest: Digest::of(content.as_bytes()) }
}

#[test]
fn a_file_that_changes_while_it_is_read_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("views.py");
    std::fs::write(&path, "after").unwrap();
    for source in [source(&path, 4, "afte"), source(&path, 5, "befor"), source(&path, 9, "after")] {
        let mut tree = Tree::default();
        tree.insert("views.py", What::File(source), owner(0), 0o644);
        let error = tree.write(io::sink()).unwrap_err();
        assert!(error.what().contains("views.py changed while it was read"), "{error:?}");
    }
    // Another file in its place: a link that was put there is not read through.
    let other = folder.path().join("secret");
    std::fs::write(&other, "after").unwrap();
    let listed = source(&path, 5, "after");
    std::fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink(&other, &path).unwrap();
    let mut tree = Tree::default();
    tree.insert("views.py", What::File(listed), owner(0), 0o644);
    assert!(tree.write(io::sink()).unwrap_err().what().contains("changed while it was read"));
}
