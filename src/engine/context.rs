//! The build context: the files that a build may see, as a tar that is made while it is sent.
//!
//! Invariants: what must stay out stays out whatever the ignore file says ([`Recipe::withheld`], `.git`, `.imgforge`,
//! `local_settings.py`), and the same files give the same bytes: sorted, owned by 0:0, times in whole seconds. Times are
//! kept, as docker keeps them: no cache of a builder looks at them, and Django's collectstatic and nginx's ETag do.

use std::collections::BTreeSet;
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures_util::Stream;
use tokio::task::JoinHandle;

use crate::engine::dockerignore::{Ignore, slashed};
use crate::engine::{Recipe, pipe};
use crate::error::{Error, Result};

/// Names that are withheld wherever they are: version control, imgforge's own folder, and the file in which Django sites
/// keep the settings of one machine.
const WITHHELD_NAMES: [&str; 3] = [".git", ".imgforge", "local_settings.py"];
/// What a Dockerfile from outside of the context is called in it.
const FOREIGN_DOCKERFILE: &str = ".dockerfile.imgforge";
/// What stays out.
const IGNORE_FILE: &str = ".dockerignore";

/// The files of a build, listed and not yet read.
#[derive(Debug)]
pub struct BuildContext {
    root: PathBuf,
    entries: Vec<Entry>,
    /// The Dockerfile's name in the tar.
    pub dockerfile: String,
    /// What was left out and should be known: sockets, pipes, devices.
    pub warnings: Vec<String>,
}

/// A file, folder or link of a context.
#[derive(Debug)]
pub(super) struct Entry {
    /// Relative to the root.
    pub(super) path: PathBuf,
    pub(super) mode: u32,
    mtime: u64,
    pub(super) what: What,
    /// What the file system said of it; of made ones nothing.
    pub(super) metadata: Option<std::fs::Metadata>,
}

#[derive(Debug)]
pub(super) enum What {
    Folder,
    File { size: u64 },
    Link { target: PathBuf },
    Bytes(Vec<u8>),
}

/// What a build may see of a context, without a Dockerfile.
#[derive(Debug)]
pub(super) struct Listing {
    pub(super) root: PathBuf,
    pub(super) entries: Vec<Entry>,
    pub(super) warnings: Vec<String>,
    withheld: BTreeSet<String>,
}

impl Listing {
    /// Lists the recipe's context; the first of `ignore_files` that is there says what stays out.
    pub(super) fn of(recipe: &Recipe, ignore_files: &[PathBuf]) -> Result<Self> {
        let image = &recipe.image;
        let root = fs_err::canonicalize(&recipe.context).map_err(|error| {
            Error::config(format!("the build context of image {image} cannot be used")).because(error)
        })?;
        if !root.is_dir() {
            let context = recipe.context.display();
            return Err(Error::config(format!(
                "the build context of image {image} is not a folder: {context}"
            )));
        }
        let in_context = root.join(IGNORE_FILE);
        let ignore = read_ignore(ignore_files.iter().chain([&in_context]))?;
        let mut withheld = BTreeSet::new();
        for path in &recipe.withheld {
            let path = slashed(path);
            if path.is_empty() {
                return Err(Error::config(format!(
                    "all of image {image}'s build context is withheld from it"
                ))
                .help("the secrets folder cannot be the build context; put the site in a folder beside it"));
            }
            withheld.insert(path);
        }
        let mut lister = Lister { root: &root, ignore, withheld, entries: Vec::new(), warnings: Vec::new() };
        lister.folder(Path::new(""), &mut Vec::new())?;
        let Lister { withheld, entries, warnings, .. } = lister;
        Ok(Listing { root, entries, warnings, withheld })
    }
}

impl BuildContext {
    /// Lists what the recipe's build may see.
    ///
    /// # Errors
    /// No context, no Dockerfile, a malformed ignore file, a folder that cannot be read.
    pub fn list(recipe: &Recipe) -> Result<Self> {
        // `NAME.dockerignore` beside the Dockerfile comes before the context's (BuildKit, frontend/dockerui/config.go).
        let mut beside = recipe.dockerfile.clone().into_os_string();
        beside.push(IGNORE_FILE);
        let listing = Listing::of(recipe, &[PathBuf::from(beside)])?;
        let Listing { root, mut entries, warnings, withheld } = listing;
        let dockerfile = add_dockerfile(recipe, &root, &withheld, &mut entries)?;
        Ok(BuildContext { root, entries, dockerfile, warnings })
    }

    /// How many files, folders and links.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Bytes of all files.
    pub fn size(&self) -> u64 {
        let size = |entry: &Entry| match &entry.what {
            What::File { size } => *size,
            What::Bytes(bytes) => bytes.len() as u64,
            What::Folder | What::Link { .. } => 0,
        };
        self.entries.iter().map(size).sum()
    }

    /// Writes the tar.
    ///
    /// # Errors
    /// A file that cannot be read or that changes meanwhile, by its name; or the writer's own.
    pub fn write(&self, out: impl Write) -> Result<()> {
        let mut tar = tar::Builder::new(out);
        for entry in &self.entries {
            let mut header = tar::Header::new_gnu();
            header.set_uid(0);
            header.set_gid(0);
            header.set_mode(entry.mode);
            header.set_mtime(entry.mtime);
            match &entry.what {
                What::Folder => {
                    header.set_entry_type(tar::EntryType::Directory);
                    header.set_size(0);
                    tar.append_data(&mut header, &entry.path, io::empty())?;
                }
                What::Link { target } => {
                    header.set_entry_type(tar::EntryType::Symlink);
                    header.set_size(0);
                    tar.append_link(&mut header, &entry.path, target)?;
                }
                What::Bytes(bytes) => {
                    header.set_size(bytes.len() as u64);
                    tar.append_data(&mut header, &entry.path, &bytes[..])?;
                }
                What::File { size } => {
                    header.set_size(*size);
                    let path = self.root.join(&entry.path);
                    let file = fs_err::File::open(&path).map_err(|error| unreadable(&path, error))?;
                    let exact = Exact { file, left: *size, failed: None };
                    append_file(&mut tar, &mut header, &entry.path, exact)?;
                }
            }
        }
        tar.into_inner()?.flush()?;
        Ok(())
    }

    /// Sends the tar while it is made. The handle tells, better than the broken stream could, why it could not be made.
    pub fn stream(self) -> (impl Stream<Item = io::Result<Bytes>> + Send + 'static, JoinHandle<Result<()>>) {
        pipe::written(move |out| self.write(out))
    }
}

fn append_file(
    tar: &mut tar::Builder<impl Write>,
    header: &mut tar::Header,
    name: &Path,
    mut file: Exact,
) -> Result<()> {
    let appended = tar.append_data(header, name, &mut file);
    match (file.failed, appended) {
        (Some(error), _) => Err(error),
        (None, appended) => Ok(appended?),
    }
}

/// Reads exactly as many bytes as the listing said: a tar's header comes before its data.
struct Exact {
    file: fs_err::File,
    left: u64,
    failed: Option<Error>,
}

impl Read for Exact {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        if most == 0 {
            return Ok(0);
        }
        let read = self.file.read(&mut buffer[..most]).and_then(|read| match read {
            0 => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it became shorter while it was read")),
            read => Ok(read),
        });
        match read {
            Ok(read) => {
                self.left -= read as u64;
                Ok(read)
            }
            Err(error) => {
                let told = io::Error::new(error.kind(), error.to_string());
                self.failed = Some(unreadable(self.file.path(), error));
                Err(told)
            }
        }
    }
}

fn unreadable(path: &Path, error: io::Error) -> Error {
    Error::failed(format!("the build context has a file that cannot be read: {}", path.display()))
        .because(error)
        .help("let it be read, or name it in .dockerignore")
}

struct Lister<'r> {
    root: &'r Path,
    ignore: Ignore,
    withheld: BTreeSet<String>,
    entries: Vec<Entry>,
    warnings: Vec<String>,
}

impl Lister<'_> {
    /// Lists a folder. `pending` holds the ignored folders above, which come in with the first thing in them that does.
    fn folder(&mut self, folder: &Path, pending: &mut Vec<Entry>) -> Result<()> {
        let full = self.root.join(folder);
        let listed = fs_err::read_dir(&full).and_then(Iterator::collect::<io::Result<Vec<_>>>);
        let mut listed = listed.map_err(|error| unreadable(&full, error))?;
        listed.sort_by_key(fs_err::DirEntry::file_name);
        for item in listed {
            let path = folder.join(item.file_name());
            let name = slashed(&path);
            if is_withheld(&path, &name, &self.withheld) {
                continue;
            }
            let metadata = item.metadata().map_err(|error| unreadable(&item.path(), error))?;
            let ignored = self.ignore.matches(&name);
            if metadata.is_dir() {
                let entry = entry(&path, &metadata, What::Folder);
                if !ignored {
                    self.take(entry, pending);
                    self.folder(&path, &mut Vec::new())?;
                } else if self.ignore.may_take_back_below(&name) {
                    pending.push(entry);
                    self.folder(&path, pending)?;
                    // Still there when nothing below took it along.
                    if pending.last().is_some_and(|last| last.path == path) {
                        pending.pop();
                    }
                }
            } else if !ignored && let Some(what) = self.what(&item.path(), &name, &metadata)? {
                self.take(entry(&path, &metadata, what), pending);
            }
        }
        Ok(())
    }

    fn take(&mut self, entry: Entry, pending: &mut Vec<Entry>) {
        self.entries.append(pending);
        self.entries.push(entry);
    }

    fn what(&mut self, full: &Path, name: &str, metadata: &std::fs::Metadata) -> Result<Option<What>> {
        let kind = metadata.file_type();
        if kind.is_symlink() {
            let target = fs_err::read_link(full).map_err(|error| unreadable(full, error))?;
            return Ok(Some(What::Link { target }));
        }
        if kind.is_file() {
            return Ok(Some(What::File { size: metadata.len() }));
        }
        let what = if kind.is_socket() {
            "a socket"
        } else if kind.is_fifo() {
            "a named pipe"
        } else {
            "a device"
        };
        self.warnings.push(format!("{name} is {what} and stays out of the build context"));
        Ok(None)
    }
}

fn entry(path: &Path, metadata: &std::fs::Metadata, what: What) -> Entry {
    // A link's own mode means nothing and differs between systems.
    let mode = if matches!(what, What::Link { .. }) { 0o777 } else { metadata.mode() & 0o7777 };
    let mtime = metadata.mtime().try_into().unwrap_or(0);
    Entry { path: path.to_owned(), mode, mtime, what, metadata: Some(metadata.clone()) }
}

fn is_withheld(path: &Path, name: &str, withheld: &BTreeSet<String>) -> bool {
    let named = path.file_name().is_some_and(|last| WITHHELD_NAMES.iter().any(|name| last == *name));
    named || withheld.contains(name)
}

/// The first of these files that is there.
fn read_ignore<'f>(files: impl Iterator<Item = &'f PathBuf>) -> Result<Ignore> {
    for file in files {
        match fs_err::read(file) {
            Ok(bytes) => {
                let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
                return Ignore::parse(&bytes, &name);
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(Error::config("the ignore file cannot be read").because(error)),
        }
    }
    Ok(Ignore::default())
}

/// Makes sure that the Dockerfile is in the tar, ignored or not, and gives its name there. One that is outside of the
/// context, withheld, or a link, comes in as a copy.
fn add_dockerfile(
    recipe: &Recipe,
    root: &Path,
    withheld: &BTreeSet<String>,
    entries: &mut Vec<Entry>,
) -> Result<String> {
    let (image, dockerfile) = (&recipe.image, recipe.dockerfile.display());
    let missing = |error: io::Error| {
        Error::config(format!("the Dockerfile of image {image} cannot be read: {dockerfile}"))
            .because(error)
            .help(format!("check images.{image}.dockerfile in imgforge.toml"))
    };
    let bytes = fs_err::read(&recipe.dockerfile).map_err(missing)?;
    let metadata = fs_err::symlink_metadata(&recipe.dockerfile).map_err(missing)?;
    let parent = recipe.dockerfile.parent().filter(|parent| *parent != Path::new(""));
    let parent = fs_err::canonicalize(parent.unwrap_or(Path::new("."))).map_err(missing)?;
    let inside = parent.strip_prefix(root).ok().zip(recipe.dockerfile.file_name()).map(|(folder, name)| {
        let path = folder.join(name);
        let reachable = path.ancestors().all(|part| !is_withheld(part, &slashed(part), withheld));
        (path, reachable)
    });
    let what = What::Bytes(bytes);
    match inside {
        Some((path, true)) if metadata.is_file() => {
            let name = slashed(&path);
            if !entries.iter().any(|entry| entry.path == path) {
                entries.push(Entry { path, mode: 0o644, mtime: 0, what, metadata: None });
            }
            Ok(name)
        }
        _ => {
            let path = FOREIGN_DOCKERFILE.into();
            entries.push(Entry { path, mode: 0o644, mtime: 0, what, metadata: None });
            Ok(FOREIGN_DOCKERFILE.into())
        }
    }
}

#[cfg(test)]
mod tests;
