//! Files that a command makes from the sources (`collectstatic`), as a layer.
//!
//! The command runs on this machine, in a copy of the context, with the image's packages. It sees no more of the context
//! than an image may hold: what is withheld is not in the copy, nor are links that leave it.

use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Component, Path};
use std::process::Stdio;

use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};

use crate::config::direct::StaticConfig;
use crate::digest::Digest;
use crate::engine::cache::{LayerCache, Workshop};
use crate::engine::context::{Listing, What as Listed};
use crate::engine::direct::copy::join;
use crate::engine::direct::tree::{Rootfs, Source, Tree, What, normal_mode};
use crate::error::{Error, Result};
use crate::progress::Reporter;

/// Raised by every change of what is made from the same inputs.
const RECIPE: u32 = 1;

/// What Django calls the list of files with a hash in their names.
const MANIFEST: &str = "staticfiles.json";

/// A command that makes files.
pub(super) struct Command<'c> {
    pub(super) image: &'c str,
    pub(super) config: &'c StaticConfig,
    /// What the image's containers get, too.
    pub(super) variables: &'c BTreeMap<String, String>,
    /// An environment's folder; its `bin` comes first on PATH.
    pub(super) environment: Option<&'c Path>,
}

/// What a command made.
#[derive(Debug)]
pub(super) struct Made {
    pub(super) tree: Tree,
    /// The tree's files are in it, so it stays until the layer is written.
    _folder: Workshop,
}

/// What the layer is kept by: the command, its packages, and every file that it can see.
pub(super) fn key(
    config: &StaticConfig,
    variables: &BTreeMap<String, String>,
    packages: Option<Digest>,
    sources: Digest,
    place: Digest,
) -> Digest {
    let command = config.command.get_ref();
    let inputs =
        json!([RECIPE, command, config.from.get_ref(), config.owner, variables, packages, sources, place]);
    Digest::of(inputs.to_string().as_bytes())
}

impl Command<'_> {
    /// Runs it and gives what it made.
    ///
    /// # Errors
    /// It cannot be started, ends with a code, or makes nothing.
    pub(super) async fn run(
        &self,
        listing: &Listing,
        cache: &LayerCache,
        rootfs: &Rootfs,
        progress: &Reporter,
    ) -> Result<Made> {
        let folder = cache.workshop(&format!("static-{}", self.image))?;
        let sources = folder.path().join("sources");
        copy(listing, &sources)?;
        let made = sources.join(self.config.from.get_ref());
        self.execute(&sources, folder.path(), progress).await?;
        if !made.is_dir() {
            let (command, from) =
                (self.config.command.get_ref().join(" "), self.config.from.get_ref().display());
            return Err(Error::failed(format!("{command} of image {} made no folder {from}", self.image))
                .help(format!("check images.{}.static.from in imgforge.toml", self.image)));
        }
        let tree = self.tree(&made, rootfs)?;
        Ok(Made { tree, _folder: folder })
    }

    async fn execute(&self, sources: &Path, home: &Path, progress: &Reporter) -> Result<()> {
        let words = self.config.command.get_ref();
        let shown = words.join(" ");
        let mut path = std::env::var_os("PATH").unwrap_or_default();
        let mut command = tokio::process::Command::new(&words[0]);
        command.args(&words[1..]).current_dir(sources);
        // Nothing of this machine's environment reaches what is made.
        command.env_clear().envs(self.variables).env("HOME", home);
        if let Some(environment) = self.environment {
            let mut first = environment.join("bin").into_os_string();
            first.push(":");
            first.push(path);
            path = first;
            command.env("VIRTUAL_ENV", environment);
        }
        command
            .env("PATH", path)
            .envs([("TZ", "UTC"), ("LC_ALL", "C.UTF-8"), ("SOURCE_DATE_EPOCH", "0")])
            .envs([("PYTHONHASHSEED", "0"), ("PYTHONDONTWRITEBYTECODE", "1"), ("PYTHONUNBUFFERED", "1")])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let mut child = command.spawn().map_err(|error| {
            Error::failed(format!("cannot start {:?} for image {}", words[0], self.image))
                .because(error)
                .help(format!("check images.{}.static.command in imgforge.toml", self.image))
        })?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let told = async { tokio::join!(self.lines(stdout, progress), self.lines(stderr, progress)) };
        let (status, _) = tokio::join!(child.wait(), told);
        let status = status?;
        if status.success() {
            return Ok(());
        }
        Err(Error::failed(format!("{shown} of image {} failed: {status}", self.image))
            .help("it runs on this machine, without secrets; its own lines are above"))
    }

    async fn lines(&self, from: Option<impl AsyncRead + Unpin>, progress: &Reporter) {
        let Some(from) = from else { return };
        let mut lines = BufReader::new(from).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            progress.log(self.image, line);
        }
    }

    fn tree(&self, made: &Path, rootfs: &Rootfs) -> Result<Tree> {
        let to = rootfs.resolve(self.config.to.get_ref().relative())?;
        let mut tree = Tree::default();
        if !rootfs.has_directory(&to) {
            tree.insert(&to, What::Directory, self.config.owner, 0o755);
        }
        for entry in walkdir::WalkDir::new(made).min_depth(1).sort_by_file_name() {
            let entry = entry.map_err(std::io::Error::from)?;
            let below = entry.path().strip_prefix(made).unwrap_or(entry.path());
            let not_utf8 =
                || Error::failed(format!("a made file has a name that is not UTF-8: {}", below.display()));
            let metadata = entry.metadata().map_err(std::io::Error::from)?;
            let path = rootfs.place(&join(&to, below.to_str().ok_or_else(not_utf8)?), metadata.is_dir())?;
            let mode = normal_mode(metadata.mode(), metadata.is_dir());
            if metadata.is_dir() {
                if !rootfs.has_directory(&path) {
                    tree.insert(path, What::Directory, self.config.owner, mode);
                }
            } else if metadata.is_symlink() {
                let target = fs_err::read_link(entry.path())?;
                let target = target.to_str().ok_or_else(not_utf8)?.to_owned();
                tree.insert(path, What::Link(target), self.config.owner, 0o777);
            } else if metadata.is_file() {
                let bytes = fs_err::read(entry.path())?;
                if below == Path::new(MANIFEST)
                    && let Some(sorted) = sorted_manifest(&bytes)
                {
                    tree.insert(path, What::Bytes(sorted), self.config.owner, mode);
                    continue;
                }
                let digest = Digest::of(&bytes);
                let (path_there, size, inode) = (entry.path().to_owned(), metadata.len(), metadata.ino());
                let source = Source { path: path_there, size, inode, digest };
                tree.insert(path, What::File(source), self.config.owner, mode);
            }
        }
        Ok(tree)
    }
}

/// The manifest with its paths sorted: Django writes them in the order in which the file system lists folders, which
/// differs between machines (django/contrib/staticfiles/storage.py, `save_manifest`).
fn sorted_manifest(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut manifest: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(bytes).ok()?;
    let paths = manifest.get_mut("paths")?;
    let sorted: BTreeMap<String, serde_json::Value> = serde_json::from_value(paths.clone()).ok()?;
    *paths = sorted.into_iter().collect();
    serde_json::to_vec(&manifest).ok()
}

/// Copies what was listed.
fn copy(listing: &Listing, to: &Path) -> Result<()> {
    fs_err::create_dir_all(to)?;
    for entry in &listing.entries {
        let target = to.join(&entry.path);
        match &entry.what {
            Listed::Folder => fs_err::create_dir_all(&target)?,
            Listed::Bytes(bytes) => fs_err::write(&target, bytes)?,
            Listed::Link { target: leads } => {
                if stays_inside(&entry.path, leads) {
                    symlink(leads, &target)?;
                }
            }
            Listed::File { .. } => {
                fs_err::copy(listing.root.join(&entry.path), &target)?;
                let mode = normal_mode(entry.mode, false) | 0o200;
                fs_err::set_permissions(&target, std::fs::Permissions::from_mode(mode))?;
            }
        }
    }
    Ok(())
}

/// Whether a link at `path` with this target leads to a place in the context, by the words.
fn stays_inside(path: &Path, target: &Path) -> bool {
    let mut depth = path.components().count() - 1;
    for part in target.components() {
        match part {
            Component::Normal(_) => depth += 1,
            Component::CurDir => {}
            Component::ParentDir if depth > 0 => depth -= 1,
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_is_sorted_by_its_paths() {
        let written =
            br#"{"paths": {"b.css": "b.1.css", "a.css": "a.2.css"}, "version": "1.1", "hash": "x"}"#;
        let sorted = String::from_utf8(sorted_manifest(written).unwrap()).unwrap();
        assert_eq!(sorted, r#"{"paths":{"a.css":"a.2.css","b.css":"b.1.css"},"version":"1.1","hash":"x"}"#);
        assert_eq!(sorted_manifest(b"[]"), None);
        assert_eq!(sorted_manifest(b"body { }"), None);
    }

    #[test]
    fn links_that_leave_the_context_are_known() {
        let inside = |path: &str, target: &str| stays_inside(Path::new(path), Path::new(target));
        assert!(inside("a/b", "../c") && inside("a", "b/../c") && inside("a/b/c", "../../d"));
        assert!(!inside("a", "../b") && !inside("a/b", "../../../c") && !inside("a", "/etc/passwd"));
    }
}
