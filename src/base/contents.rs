//! What is in a base, as far as layers on top of it must know: directories with their attributes, links, the files that
//! list users, and which Python there is.
//!
//! Why: a directory entry in a layer replaces the attributes of the directory below it, and an entry that is missing is
//! no better: a Docker daemon makes the parents of a layer's files anew, as root's with mode 0755, in the layer itself
//! (moby, pkg/archive/archive.go, `Unpack`), so that they cover those below. A layer has to list each parent exactly as
//! the base has it, as `docker build` does, and for that the base has to be read once.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Component, Path};

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::image::{Content, Image};

/// Raised when something else is looked for, so that what was kept before is not taken.
const FORM: u32 = 1;
/// A file of users that is longer is none.
const TEXT_LIMIT: u64 = 1 << 20;

/// Who owns a directory and what may be done with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attributes {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Permission bits, and those for set-id and sticky.
    pub mode: u32,
    /// Seconds since 1970.
    pub mtime: u64,
}

/// What is in a base. Paths have no leading slash.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contents {
    /// Directories.
    pub directories: BTreeMap<String, Attributes>,
    /// Symbolic links and where they lead.
    pub links: BTreeMap<String, String>,
    /// The text of /etc/passwd.
    pub passwd: Option<String>,
    /// The text of /etc/group.
    pub group: Option<String>,
    /// Interpreters with their version in their names: `usr/bin/python3.11`.
    pub pythons: BTreeSet<String>,
    /// The dynamic loader of musl, in bases that have that C library.
    pub musl: BTreeSet<String>,
}

impl Contents {
    /// What the contents of a base with these layers are kept by.
    pub fn key(image: &Image) -> Digest {
        let mut inputs = format!("contents {FORM}");
        for layer in image.layers() {
            inputs.push_str(&format!(" {}", layer.diff_id));
        }
        Digest::of(inputs.as_bytes())
    }

    /// Reads all layers of an image whose blobs are files.
    ///
    /// # Errors
    /// A layer that is elsewhere, cannot be read, or is compressed in another way than with gzip.
    pub fn of(image: &Image) -> Result<Self> {
        let mut contents = Contents::default();
        for layer in image.layers() {
            let blob: Box<dyn Read> = match &layer.content {
                Content::File(path) => Box::new(fs_err::File::open(path.as_path())?),
                Content::Memory(bytes) => Box::new(io::Cursor::new(bytes.clone())),
                Content::Registry(repository) => {
                    return Err(Error::failed(format!(
                        "layer {} is in {repository} and not on this machine",
                        layer.descriptor.digest.short()
                    )));
                }
            };
            contents.add_layer(blob).map_err(|error| {
                let digest = layer.descriptor.digest.short();
                error.context(format!("layer {digest} of the base cannot be read"))
            })?;
        }
        Ok(contents)
    }

    /// Takes in the next layer from its blob.
    ///
    /// # Errors
    /// It is no tar, or compressed in another way than with gzip.
    pub fn add_layer(&mut self, blob: impl Read) -> Result<()> {
        let mut blob = BufReader::with_capacity(1 << 16, blob);
        match blob.fill_buf()? {
            [0x1f, 0x8b, ..] => self.add_tar(flate2::bufread::MultiGzDecoder::new(blob)),
            [0x28, 0xb5, 0x2f, 0xfd, ..] => {
                Err(Error::refused("it is compressed with zstd, which engine \"direct\" does not read")
                    .help("take engine = \"docker\" for images on this base, or a base with gzip layers"))
            }
            _ => self.add_tar(blob),
        }
    }

    fn add_tar(&mut self, tar: impl Read) -> Result<()> {
        // Whiteouts are about the layers below, wherever in the layer they stand (OCI image-spec, layer.md).
        let mut above = Contents::default();
        let mut tar = tar::Archive::new(tar);
        for entry in tar.entries()? {
            let mut entry = entry?;
            let Some(path) = plain(&entry.path()?) else { continue };
            let (folder, name) = path.rsplit_once('/').unwrap_or(("", &path));
            if name == ".wh..wh..opq" {
                self.remove_below(folder);
            } else if let Some(removed) = name.strip_prefix(".wh.") {
                self.remove(&if folder.is_empty() { removed.into() } else { format!("{folder}/{removed}") });
            } else {
                above.add(&path, &mut entry)?;
                if !entry.header().entry_type().is_dir() {
                    self.remove(&path);
                }
                self.links.remove(&path);
            }
        }
        self.directories.append(&mut above.directories);
        self.links.append(&mut above.links);
        self.pythons.append(&mut above.pythons);
        self.musl.append(&mut above.musl);
        self.passwd = above.passwd.or(self.passwd.take());
        self.group = above.group.or(self.group.take());
        Ok(())
    }

    fn add(&mut self, path: &str, entry: &mut tar::Entry<'_, impl Read>) -> Result<()> {
        let header = entry.header();
        match header.entry_type() {
            tar::EntryType::Directory => {
                let attributes = Attributes {
                    // An empty field is zero, as Go's archive/tar reads it.
                    uid: small(header.uid().unwrap_or(0)),
                    gid: small(header.gid().unwrap_or(0)),
                    mode: header.mode()? & 0o7777,
                    mtime: header.mtime().unwrap_or(0),
                };
                self.directories.insert(path.to_owned(), attributes);
            }
            tar::EntryType::Symlink => {
                if let Some(target) = entry.link_name()? {
                    self.links.insert(path.to_owned(), target.to_string_lossy().into_owned());
                }
            }
            _ => {}
        }
        if is_python(path) {
            self.pythons.insert(path.to_owned());
        }
        if path.rsplit('/').next().is_some_and(|name| name.starts_with("ld-musl-")) {
            self.musl.insert(path.to_owned());
        }
        if matches!(path, "etc/passwd" | "etc/group") {
            let mut text = String::new();
            entry.take(TEXT_LIMIT).read_to_string(&mut text)?;
            if path == "etc/passwd" {
                self.passwd = Some(text);
            } else {
                self.group = Some(text);
            }
        }
        Ok(())
    }

    fn remove(&mut self, path: &str) {
        self.directories.remove(path);
        self.links.remove(path);
        self.pythons.remove(path);
        self.musl.remove(path);
        match path {
            "etc/passwd" => self.passwd = None,
            "etc/group" => self.group = None,
            _ => {}
        }
        self.remove_below(path);
    }

    fn remove_below(&mut self, folder: &str) {
        let below = |path: &str| {
            folder.is_empty() || path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'))
        };
        self.directories.retain(|path, _| !below(path));
        self.links.retain(|path, _| !below(path));
        self.pythons.retain(|path| !below(path));
        self.musl.retain(|path| !below(path));
        if below("etc/passwd") {
            self.passwd = None;
        }
        if below("etc/group") {
            self.group = None;
        }
    }
}

/// `usr/bin/python3.11`: the version is all that is behind the name.
fn is_python(path: &str) -> bool {
    let name = path.strip_prefix("usr/bin/").or_else(|| path.strip_prefix("usr/local/bin/"));
    let minor = name.and_then(|name| name.strip_prefix("python3."));
    minor.is_some_and(|minor| !minor.is_empty() && minor.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Numbers that do not fit are nobody's.
fn small(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(65534)
}

/// Without `./`; `None` for the root itself and for what would leave it.
fn plain(path: &Path) -> Option<String> {
    let mut parts = Vec::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => parts.push(name.to_string_lossy().into_owned()),
            Component::CurDir | Component::RootDir => {}
            Component::ParentDir | Component::Prefix(_) => return None,
        }
    }
    (!parts.is_empty()).then(|| parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A name that ends in a slash is a directory, `a -> b` a link.
    fn layer(names: &[&str]) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        for name in names {
            let mut header = tar::Header::new_ustar();
            header.set_size(0);
            header.set_mode(0o750);
            header.set_uid(7);
            if let Some((name, target)) = name.split_once(" -> ") {
                header.set_entry_type(tar::EntryType::Symlink);
                tar.append_link(&mut header, name, target).unwrap();
                continue;
            }
            if name.ends_with('/') {
                header.set_entry_type(tar::EntryType::Directory);
            }
            tar.append_data(&mut header, name, io::empty()).unwrap();
        }
        tar.into_inner().unwrap()
    }

    fn contents(layers: &[&[&str]]) -> Contents {
        let mut contents = Contents::default();
        for names in layers {
            contents.add_layer(&layer(names)[..]).unwrap();
        }
        contents
    }

    #[test]
    fn directories_keep_their_attributes() {
        let contents = contents(&[&["./", "./home/", "./home/docker/", "bin -> usr/bin"]]);
        assert_eq!(contents.directories.keys().collect::<Vec<_>>(), ["home", "home/docker"]);
        assert_eq!(contents.directories["home"], Attributes { uid: 7, gid: 0, mode: 0o750, mtime: 0 });
        assert_eq!(contents.links["bin"], "usr/bin");
    }

    #[test]
    fn what_a_layer_removes_is_gone() {
        let lower: &[&str] = &["a/", "a/b/", "c/", "c/d/", "usr/bin/python3.9", "e/"];
        let upper: &[&str] = &["a/.wh.b", "c/new/", "c/.wh..wh..opq", "usr/bin/.wh.python3.9", "e"];
        let contents = contents(&[lower, upper]);
        assert_eq!(contents.directories.keys().collect::<Vec<_>>(), ["a", "c", "c/new"]);
        assert!(contents.pythons.is_empty());
    }

    #[test]
    fn a_python_is_known_by_its_name() {
        let names = ["usr/bin/python3.11", "usr/bin/python3", "usr/bin/python3.11-config", "opt/python3.12"];
        assert_eq!(contents(&[&names]).pythons.into_iter().collect::<Vec<_>>(), ["usr/bin/python3.11"]);
    }
}
