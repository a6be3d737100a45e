//! The files of one layer, and the layer that they make.
//!
//! Invariants (contract 8): sorted by path, times fixed, modes normal, owners as declared; nothing of this machine. A
//! layer lists the directories that it makes, and each parent that is there already just as it is there (why:
//! [`crate::base::contents`]). No path leaves the root, and no link of the image is written through.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use sha2::{Digest as _, Sha256};

use crate::base::contents::{Attributes, Contents};
use crate::config::Owner;
use crate::digest::{Digest, Hashing};
use crate::error::{Error, Result};
use crate::layer::bake::{Folder, Folders};

mod modules;
mod split;

pub(super) use modules::{Module, Modules};

/// How many links of a base are followed for one path (Linux, path_resolution(7)).
const MOST_LINKS: usize = 40;
/// The mode of a directory and of a file that can be run.
const OPEN: u32 = 0o755;
/// The mode of any other file.
const PLAIN: u32 = 0o644;

/// The mode that a file or directory gets, whatever the umask was when it was written.
pub(super) fn normal_mode(mode: u32, is_directory: bool) -> u32 {
    if is_directory || mode & 0o100 != 0 { OPEN } else { PLAIN }
}

/// One entry.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) what: What,
    pub(super) attributes: Attributes,
}

#[derive(Debug, Clone)]
pub(super) enum What {
    Directory,
    Bytes(Vec<u8>),
    File(Source),
    Link(String),
    /// What a module compiles to. It stands for the bytes until the layer is written.
    Compiled(Module),
}

/// A file of this machine: what it was when it was listed, and the digest that it had when it was read.
#[derive(Debug, Clone)]
pub(super) struct Source {
    pub(super) path: PathBuf,
    pub(super) size: u64,
    pub(super) inode: u64,
    pub(super) digest: Digest,
}

/// The entries of one layer by path, without a leading slash. Parents sort before what is in them.
#[derive(Debug, Clone, Default)]
pub(super) struct Tree {
    nodes: BTreeMap<String, Node>,
}

impl Tree {
    pub(super) fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    pub(super) fn insert(&mut self, path: impl Into<String>, what: What, owner: Owner, mode: u32) {
        let attributes = Attributes { uid: owner.uid, gid: owner.gid, mode, mtime: 0 };
        self.nodes.insert(path.into(), Node { what, attributes });
    }

    /// Adds each parent: as `rootfs` has it, or a new one.
    ///
    /// # Errors
    /// A file where `rootfs` has a directory.
    pub(super) fn complete(&mut self, rootfs: &Rootfs) -> Result<()> {
        self.nodes.remove("");
        let mut parents = BTreeMap::new();
        for (path, node) in &self.nodes {
            if !matches!(node.what, What::Directory) && rootfs.directories.contains_key(path) {
                return Err(Error::config(format!("/{path} is a file here and a directory in the base")));
            }
            for (slash, _) in path.match_indices('/') {
                let parent = &path[..slash];
                if !self.nodes.contains_key(parent) && !parents.contains_key(parent) {
                    parents.insert(parent.to_owned(), rootfs.directory(parent));
                }
            }
        }
        self.nodes.append(&mut parents);
        Ok(())
    }

    /// Names what is in it: two trees with one key give one layer.
    pub(super) fn key(&self) -> Digest {
        let mut hash = Sha256::new();
        hash.update(b"imgforge tree 1\0");
        for (path, Node { what, attributes }) in &self.nodes {
            let (kind, content) = match what {
                What::Directory => ("directory", String::new()),
                What::Bytes(bytes) => ("file", Digest::of(bytes).to_string()),
                What::File(source) => ("file", source.digest.to_string()),
                What::Link(target) => ("link", target.clone()),
                What::Compiled(module) => ("compiled", module.key().to_string()),
            };
            let Attributes { uid, gid, mode, mtime } = attributes;
            hash.update(format!("{path}\0{kind}\0{content}\0{uid} {gid} {mode:o} {mtime}\0"));
        }
        format!("sha256:{}", hex::encode(hash.finalize())).parse().expect("it is made as one")
    }

    /// Writes the layer's tar.
    ///
    /// # Errors
    /// The writer's own; a file that cannot be read, or is another than it was, by its name.
    pub(super) fn write(&self, out: impl Write) -> Result<()> {
        let mut tar = tar::Builder::new(out);
        for (path, Node { what, attributes }) in &self.nodes {
            let mut header = tar::Header::new_ustar();
            header.set_uid(attributes.uid.into());
            header.set_gid(attributes.gid.into());
            header.set_mode(attributes.mode);
            header.set_mtime(attributes.mtime);
            match what {
                What::Directory => {
                    header.set_entry_type(tar::EntryType::Directory);
                    header.set_size(0);
                    tar.append_data(&mut header, format!("{path}/"), io::empty())?;
                }
                What::Link(target) => {
                    header.set_entry_type(tar::EntryType::Symlink);
                    header.set_size(0);
                    tar.append_link(&mut header, path, target)?;
                }
                What::Bytes(bytes) => {
                    header.set_entry_type(tar::EntryType::Regular);
                    header.set_size(bytes.len() as u64);
                    tar.append_data(&mut header, path, &bytes[..])?;
                }
                What::Compiled(module) => {
                    return Err(Error::failed(format!("/{} was not compiled", module.path)));
                }
                What::File(source) => {
                    header.set_entry_type(tar::EntryType::Regular);
                    header.set_size(source.size);
                    let mut read = Hashing::new(source.open()?.take(source.size));
                    tar.append_data(&mut header, path, &mut read)
                        .map_err(|error| source.unreadable(error))?;
                    let (_, digest, size) = read.finish();
                    if (digest, size) != (source.digest, source.size) {
                        return Err(source.changed());
                    }
                }
            }
        }
        tar.into_inner()?.flush()?;
        Ok(())
    }
}

impl Source {
    /// Opens the file that was listed: not another, and nothing that a link in its place leads to.
    pub(super) fn open(&self) -> Result<fs_err::File> {
        let file = fs_err::File::open(&self.path).map_err(|error| self.unreadable(error))?;
        let metadata = file.metadata().map_err(|error| self.unreadable(error))?;
        if !metadata.is_file() || metadata.ino() != self.inode || metadata.len() != self.size {
            return Err(self.changed());
        }
        Ok(file)
    }

    pub(super) fn unreadable(&self, error: io::Error) -> Error {
        Error::failed(format!("a file of the image cannot be read: {}", self.path.display()))
            .because(error)
            .help("let it be read, or name it in .dockerignore")
    }

    pub(super) fn changed(&self) -> Error {
        Error::failed(format!("{} changed while it was read", self.path.display()))
            .help("wait until nothing writes to it, then run the same command again")
    }
}

/// What the image has so far: the base, and the layers that were made on it.
#[derive(Debug, Clone, Default)]
pub(super) struct Rootfs {
    directories: BTreeMap<String, Attributes>,
    links: BTreeMap<String, String>,
}

impl Rootfs {
    pub(super) fn new(contents: &Contents) -> Self {
        Rootfs { directories: contents.directories.clone(), links: contents.links.clone() }
    }

    /// The directory as it is there; a new one is root's, for all to read.
    pub(super) fn directory(&self, path: &str) -> Node {
        let attributes = self.directories.get(path).copied();
        let attributes = attributes.unwrap_or(Attributes { uid: 0, gid: 0, mode: OPEN, mtime: 0 });
        Node { what: What::Directory, attributes }
    }

    /// Those of `wanted` that are there. What is behind a link is no directory here.
    pub(super) fn folders(&self, wanted: &BTreeSet<String>) -> Folders {
        let directories = wanted.iter().filter_map(|path| Some((path, self.directories.get(path)?)));
        directories
            .map(|(path, Attributes { uid, gid, mode, .. })| {
                (path.clone(), Folder { uid: *uid, gid: *gid, mode: *mode })
            })
            .collect()
    }

    pub(super) fn has_directory(&self, path: &str) -> bool {
        path.is_empty() || self.directories.contains_key(path)
    }

    /// The image with `tree` on it.
    pub(super) fn add(&mut self, tree: &Tree) {
        for (path, node) in &tree.nodes {
            self.links.remove(path);
            match &node.what {
                What::Directory => {
                    self.directories.insert(path.clone(), node.attributes);
                }
                What::Link(target) => {
                    self.links.insert(path.clone(), target.clone());
                }
                What::Bytes(_) | What::File(_) | What::Compiled(_) => {}
            }
        }
    }

    /// Where something of this path goes: a directory through every link, anything else in the place of a link of its name.
    ///
    /// # Errors
    /// As [`Rootfs::resolve`].
    pub(super) fn place(&self, path: &str, is_directory: bool) -> Result<String> {
        match path.rsplit_once('/') {
            _ if is_directory => self.resolve(path),
            Some((folder, name)) => Ok(format!("{}/{name}", self.resolve(folder)?)),
            None => Ok(path.to_owned()),
        }
    }

    /// Where `path` really is: links of the image that stand for directories are followed, so that no layer covers them
    /// (`/var/run` is `/run` in most bases).
    ///
    /// # Errors
    /// Links that lead in a circle.
    pub(super) fn resolve(&self, path: &str) -> Result<String> {
        let mut left: Vec<String> = path.split('/').rev().map(str::to_owned).collect();
        let mut done: Vec<String> = Vec::new();
        let mut followed = 0;
        while let Some(part) = left.pop() {
            match part.as_str() {
                "" | "." => continue,
                // Above the root is the root.
                ".." => {
                    done.pop();
                    continue;
                }
                _ => done.push(part),
            }
            let Some(target) = self.links.get(&done.join("/")) else { continue };
            followed += 1;
            if followed > MOST_LINKS {
                return Err(Error::config(format!("/{path} leads in a circle through links of the base")));
            }
            if target.starts_with('/') {
                done.clear();
            } else {
                done.pop();
            }
            left.extend(target.split('/').rev().map(str::to_owned));
        }
        Ok(done.join("/"))
    }
}

#[cfg(test)]
mod tests;
