//! A secret store that is a folder: `dir:PATH`. It keeps one version of each object.

use std::io::{self, ErrorKind, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};
use std::time::SystemTime;

use async_trait::async_trait;
use tokio::process::Command;

use super::pinned::SALT_OBJECT;
use super::{Listed, Object, ObjectVersion, Secret, SecretStore, Version};
use crate::error::{Error, Kind, Result};

/// What a file is called while it is being written. It stays in the store's folder, with the same mode as the secret.
const UNFINISHED: &str = ".imgforge-unfinished-";

/// A folder of secret files.
#[derive(Debug, Clone)]
pub struct DirStore {
    root: PathBuf,
    written: String,
}

impl DirStore {
    /// The store in the folder `root`, which need not be there yet.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        let root = root.into();
        let written = format!("dir:{}", root.display());
        DirStore { root, written }
    }

    /// The same store, called what imgforge.toml calls it (`dir:secrets`).
    pub fn named(self, written: impl Into<String>) -> Self {
        DirStore { written: written.into(), ..self }
    }

    fn path(&self, object: &str) -> Result<PathBuf> {
        let path = Path::new(object);
        let inside = path.components().all(|part| matches!(part, Component::Normal(_)));
        if object.is_empty() || object.ends_with('/') || object.contains('\0') || !inside {
            return Err(Error::config(format!("{object:?} cannot name a secret file"))
                .help("a name is a path inside the store, without a leading / and without ."));
        }
        Ok(self.root.join(path))
    }

    /// Runs file work, which blocks, where it may.
    async fn blocking<T: Send + 'static>(
        &self,
        object: &str,
        verb: &'static str,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> Result<T> {
        let done = tokio::task::spawn_blocking(work).await.expect("file work does not panic");
        done.map_err(|error| {
            let failed = Error::from(io::Error::new(error.kind(), error.to_string()))
                .context(format!("cannot {verb} {object} in {}", self.written));
            match error.kind() {
                ErrorKind::PermissionDenied => failed.with_kind(Kind::Refused),
                _ => failed,
            }
        })
    }
}

#[async_trait]
impl SecretStore for DirStore {
    fn describe(&self) -> String {
        self.written.clone()
    }

    async fn get(&self, object: &str, version: Option<&Version>) -> Result<Option<Object>> {
        let path = self.path(object)?;
        if let Some(version) = version {
            return Err(Error::failed(format!("{} keeps no earlier version of {object}", self.written))
                .help("keep secrets in a bucket with versioning to go back to an earlier one")
                .because(Error::failed(format!("version {version} was asked for"))));
        }
        let read = move || match fs_err::read(&path) {
            Ok(bytes) => Ok(Some(Secret::new(bytes))),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
            Err(error) => Err(error),
        };
        let value = self.blocking(object, "read", read).await?;
        Ok(value.map(|value| Object { value, version: None }))
    }

    async fn put(&self, object: &str, value: &Secret) -> Result<Option<Version>> {
        let (root, path, value) = (self.root.clone(), self.path(object)?, value.clone());
        let write = move || {
            let file = written(&root, &path, &value)?;
            file.persist(&path).map_err(|error| error.error)?;
            Ok(())
        };
        self.blocking(object, "write", write).await?;
        Ok(None)
    }

    async fn create(&self, object: &str, value: &Secret) -> Result<bool> {
        let (root, path, value) = (self.root.clone(), self.path(object)?, value.clone());
        let write = move || match written(&root, &path, &value)?.persist_noclobber(&path) {
            Ok(_) => Ok(true),
            Err(error) if error.error.kind() == ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(error.error),
        };
        self.blocking(object, "write", write).await
    }

    async fn list(&self) -> Result<Vec<Listed>> {
        let root = self.root.clone();
        let mut listed = self.blocking("the files", "list", move || files(&root)).await?;
        listed.sort_by(|a, b| a.object.cmp(&b.object));
        Ok(listed)
    }

    async fn versions(&self, _: &str) -> Result<Vec<ObjectVersion>> {
        Ok(Vec::new())
    }

    async fn problems(&self) -> Result<Vec<String>> {
        let root = self.root.clone();
        let mut problems = self.blocking("the modes", "look at", move || readable_by_others(&root)).await?;
        problems.extend(seen_by_git(&self.root).await);
        Ok(problems)
    }
}

/// Writes `value` beside `path`, so that it can be renamed to it: a reader sees the old file or the new one.
fn written(root: &Path, path: &Path, value: &Secret) -> io::Result<tempfile::NamedTempFile> {
    let folder = path.parent().unwrap_or(root);
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    // tempfile makes files with mode 0600.
    let mut file = tempfile::Builder::new().prefix(UNFINISHED).tempfile_in(folder)?;
    file.write_all(value.expose())?;
    file.as_file().sync_all()?;
    Ok(file)
}

/// The files of the store, without imgforge's own.
fn files(root: &Path) -> io::Result<Vec<Listed>> {
    let mut listed = Vec::new();
    for entry in walk(root) {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy();
        let object = entry.path().strip_prefix(root).unwrap_or(entry.path()).to_string_lossy().into_owned();
        if entry.file_type().is_dir() || name.starts_with(UNFINISHED) || object == SALT_OBJECT {
            continue;
        }
        // Through symlinks: what counts is the file that a read gives.
        let meta = fs_err::metadata(entry.path())?;
        if meta.is_file() {
            let modified = meta.modified().ok().and_then(rfc3339);
            listed.push(Listed { object, size: meta.len(), modified });
        }
    }
    Ok(listed)
}

/// Everything below `root`, which may be missing.
fn walk(root: &Path) -> impl Iterator<Item = io::Result<walkdir::DirEntry>> {
    let entries = root.exists().then(|| walkdir::WalkDir::new(root).min_depth(1));
    entries.into_iter().flatten().map(|entry| entry.map_err(io::Error::from))
}

fn rfc3339(time: SystemTime) -> Option<String> {
    let seconds = time.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs();
    Some(jiff::Timestamp::from_second(seconds.try_into().ok()?).ok()?.to_string())
}

/// A folder that others cannot enter keeps all that is below it from them.
fn readable_by_others(root: &Path) -> io::Result<Vec<String>> {
    const OTHERS: u32 = 0o007;
    let open = |path: &Path| Ok::<_, io::Error>(fs_err::metadata(path)?.permissions().mode() & OTHERS != 0);
    if !root.exists() || !open(root)? {
        return Ok(Vec::new());
    }
    let mut problems = vec![format!(
        "other users of this machine can look into {}: chmod 700 {}",
        root.display(),
        root.display()
    )];
    for entry in walk(root) {
        let entry = entry?;
        if entry.file_type().is_file() && open(entry.path())? {
            let path = entry.path().display();
            problems.push(format!("other users of this machine can read {path}: chmod 600 {path}"));
        }
    }
    Ok(problems)
}

/// Secrets that Git tracks, or would add. Nothing when there is no Git here or no work tree.
async fn seen_by_git(root: &Path) -> Vec<String> {
    let mut problems = Vec::new();
    let asked = [
        (&["--cached"][..], "is in Git: git rm --cached it, add it to .gitignore, and change the secret"),
        (&["--others", "--exclude-standard"][..], "is not ignored by Git: add it to .gitignore"),
    ];
    for (kind, problem) in asked {
        let mut git = Command::new("git");
        git.arg("-C").arg(root).args(["ls-files", "-z"]).args(kind).arg("--").arg(".");
        let Ok(output) = git.stdin(std::process::Stdio::null()).output().await else { break };
        if !output.status.success() {
            break;
        }
        let names = output.stdout.split(|byte| *byte == 0).filter(|name| !name.is_empty());
        problems.extend(names.map(|name| {
            let path = root.join(Path::new(std::ffi::OsStr::from_bytes(name)));
            format!("{} {problem}", path.display())
        }));
    }
    problems
}
