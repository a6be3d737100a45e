//! What is in a base, as far as layers on top of it must know: directories with their attributes, links, the files that
//! list users, and which Python there is.
//!
//! Why: a directory entry in a layer replaces the attributes of the directory below it, and an entry that is missing is
//! no better: a Docker daemon makes the parents of a layer's files anew, as root's with mode 0755, in the layer itself
//! (moby, pkg/archive/archive.go, `Unpack`), so that they cover those below. A layer has to list each parent exactly as
//! the base has it, as `docker build` does, and for that the base has to be read once.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Cursor, Read};

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::image::{Content, Image};
use crate::layer::overlay::{Described, Overlay};

/// Raised when something else is looked for, so that what was kept before is not taken.
const FORM: u32 = 1;
/// A file of users that is longer is none.
const TEXT_LIMIT: u64 = 1 << 20;
/// The files of users.
const PASSWD: &str = "etc/passwd";
const GROUP: &str = "etc/group";

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
    /// A layer that is elsewhere or cannot be read.
    pub fn of(image: &Image) -> Result<Self> {
        let mut files = BaseFiles::default();
        for layer in image.layers() {
            let blob: Box<dyn Read> = match &layer.content {
                Content::File(path) => Box::new(fs_err::File::open(path.as_path())?),
                Content::Memory(bytes) => Box::new(Cursor::new(bytes.clone())),
                Content::Registry(repository) => {
                    return Err(Error::failed(format!(
                        "layer {} is in {repository} and not on this machine",
                        layer.descriptor.digest.short()
                    )));
                }
            };
            files.apply(blob).map_err(|error| {
                let digest = layer.descriptor.digest.short();
                error.context(format!("layer {digest} of the base cannot be read"))
            })?;
        }
        Ok(files.into())
    }
}

/// Everything in a base, for as long as it is read.
pub type BaseFiles = Overlay<BaseFile>;

/// What is at a path of a base.
#[derive(Debug, Clone)]
pub enum BaseFile {
    /// A directory.
    Directory(Attributes),
    /// A symbolic link and where it leads.
    Link(String),
    /// A file that lists users.
    Text(String),
    /// Something else.
    Other,
}

impl Described for BaseFile {
    fn of<R: Read>(path: &str, entry: &mut tar::Entry<'_, R>) -> Result<Self> {
        let header = entry.header();
        Ok(match header.entry_type() {
            tar::EntryType::Directory => BaseFile::Directory(Attributes {
                // An empty field is zero, as Go's archive/tar reads it.
                uid: small(header.uid().unwrap_or(0)),
                gid: small(header.gid().unwrap_or(0)),
                mode: header.mode().unwrap_or(0) & 0o7777,
                mtime: header.mtime().unwrap_or(0),
            }),
            tar::EntryType::Symlink => {
                let target = entry.link_name_bytes().unwrap_or_default();
                BaseFile::Link(String::from_utf8_lossy(&target).into_owned())
            }
            _ if matches!(path, PASSWD | GROUP) => {
                let mut text = String::new();
                entry.take(TEXT_LIMIT).read_to_string(&mut text)?;
                BaseFile::Text(text)
            }
            _ => BaseFile::Other,
        })
    }

    fn is_folder(&self) -> bool {
        matches!(self, BaseFile::Directory(_))
    }
}

impl From<BaseFiles> for Contents {
    fn from(files: BaseFiles) -> Self {
        let mut contents = Contents::default();
        for (path, file) in files {
            if is_python(&path) {
                contents.pythons.insert(path.clone());
            }
            if path.rsplit('/').next().is_some_and(|name| name.starts_with("ld-musl-")) {
                contents.musl.insert(path.clone());
            }
            match file {
                BaseFile::Directory(attributes) => {
                    contents.directories.insert(path, attributes);
                }
                BaseFile::Link(target) => {
                    contents.links.insert(path, target);
                }
                BaseFile::Text(text) if path == PASSWD => contents.passwd = Some(text),
                BaseFile::Text(text) => contents.group = Some(text),
                BaseFile::Other => {}
            }
        }
        contents
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
            tar.append_data(&mut header, name, std::io::empty()).unwrap();
        }
        tar.into_inner().unwrap()
    }

    fn contents(layers: &[&[&str]]) -> Contents {
        let mut files = BaseFiles::default();
        for names in layers {
            files.apply(&layer(names)[..]).unwrap();
        }
        files.into()
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
