//! What files layers make together, without their contents (OCI image-spec, layer.md).
//!
//! Invariant: nothing of a file's content leaves this module, no digest of it either: a digest lets guess at a short secret.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};
use std::path::{Component, Path};

use serde::Serialize;
use tar::EntryType;

use crate::digest::{Digest, Hashing};
use crate::error::{Error, Result};

/// Before the name of a file that a layer takes away.
const WHITEOUT: &str = ".wh.";
/// In a folder whose lower content a layer hides.
const OPAQUE: &str = ".wh..wh..opq";

/// What kind of thing is at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FileKind {
    /// A regular file.
    File,
    /// A folder.
    Folder,
    /// A symbolic link.
    Link,
    /// A device, a pipe.
    Special,
}

/// What is at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileEntry {
    /// What kind of thing.
    pub kind: FileKind,
    /// Its permissions.
    pub mode: u32,
    /// Who owns it.
    pub owner: (u64, u64),
    /// Its size in bytes.
    pub size: u64,
    /// Where a link leads.
    pub target: String,
    content: Option<Digest>,
}

/// The files of an image by path, without a leading slash.
#[derive(Debug, Clone, Default)]
pub struct Files(BTreeMap<String, FileEntry>);

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// The path, with a leading slash.
    pub path: String,
    /// What it is.
    pub change: Change,
    /// What of it, in words: `content`, `mode 0644 → 0400`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub what: Vec<String>,
    /// Its size before; none when it is new.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<u64>,
    /// Its size after; none when it is gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<u64>,
}

/// How a path differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    /// Only in the second image.
    Added,
    /// Only in the first.
    Removed,
    /// In both, and not the same.
    Changed,
}

impl Files {
    /// Puts a layer's tar over what is there.
    ///
    /// # Errors
    /// Not a tar; a name that leaves the root.
    pub fn apply(&mut self, tar: impl Read) -> Result<()> {
        let mut archive = tar::Archive::new(tar);
        let mut new: Vec<(String, FileEntry)> = Vec::new();
        let mut links: Vec<(String, String)> = Vec::new();
        let (mut gone, mut hidden) = (BTreeSet::new(), BTreeSet::new());
        for entry in archive.entries()? {
            let mut entry = entry?;
            let path = normal(&entry.path_bytes())?;
            let (folder, name) = path.rsplit_once('/').unwrap_or(("", &path));
            // Whiteouts are about lower layers only, wherever in the tar they stand.
            if name == OPAQUE {
                hidden.insert(folder.to_owned());
            } else if let Some(name) = name.strip_prefix(WHITEOUT) {
                gone.insert(if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") });
            } else if entry.header().entry_type() == EntryType::Link {
                let target = entry.link_name_bytes().unwrap_or_default().into_owned();
                links.push((path, normal(&target)?));
            } else if !path.is_empty() {
                let described = describe(&mut entry)?;
                new.push((path, described));
            }
        }
        for folder in hidden {
            self.remove_below(&folder);
        }
        for path in gone {
            self.0.remove(&path);
            self.remove_below(&path);
        }
        for (path, entry) in new {
            if entry.kind != FileKind::Folder {
                self.remove_below(&path);
            }
            self.0.insert(path, entry);
        }
        for (path, target) in links {
            let Some(entry) = self.0.get(&target).cloned() else {
                return Err(Error::failed(format!(
                    "/{path} is a hard link to /{target}, which is not there"
                )));
            };
            self.0.insert(path, entry);
        }
        Ok(())
    }

    fn remove_below(&mut self, folder: &str) {
        if folder.is_empty() {
            self.0.clear();
            return;
        }
        let prefix = format!("{folder}/");
        let below: Vec<String> = self
            .0
            .range(prefix.clone()..)
            .take_while(|(path, _)| path.starts_with(&prefix))
            .map(|(path, _)| path.clone())
            .collect();
        for path in below {
            self.0.remove(&path);
        }
    }

    /// What is at a path.
    pub fn get(&self, path: &str) -> Option<&FileEntry> {
        self.0.get(path.trim_matches('/'))
    }

    /// How `other` differs, by path.
    pub fn differences(&self, other: &Files) -> Vec<Difference> {
        let paths: BTreeSet<&String> = self.0.keys().chain(other.0.keys()).collect();
        let differences = paths.into_iter().filter_map(|path| {
            let (before, after) = (self.0.get(path), other.0.get(path));
            let (change, what) = match (before, after) {
                (None, Some(_)) => (Change::Added, Vec::new()),
                (Some(_), None) => (Change::Removed, Vec::new()),
                (Some(one), Some(two)) if one != two => (Change::Changed, words(one, two)),
                _ => return None,
            };
            Some(Difference {
                path: format!("/{path}"),
                change,
                what,
                before: before.map(|entry| entry.size),
                after: after.map(|entry| entry.size),
            })
        });
        differences.collect()
    }
}

fn describe<R: Read>(entry: &mut tar::Entry<'_, R>) -> Result<FileEntry> {
    let header = entry.header();
    let kind = match header.entry_type() {
        EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => FileKind::File,
        EntryType::Directory => FileKind::Folder,
        EntryType::Symlink => FileKind::Link,
        _ => FileKind::Special,
    };
    // Some writers leave numbers out; who unpacks takes that for 0.
    let mode = header.mode().unwrap_or_default() & 0o7777;
    let owner = (header.uid().unwrap_or_default(), header.gid().unwrap_or_default());
    let target = match kind {
        FileKind::Link => String::from_utf8_lossy(&entry.link_name_bytes().unwrap_or_default()).into_owned(),
        _ => String::new(),
    };
    let (mut size, mut content) = (0, None);
    if kind == FileKind::File {
        let mut hashing = Hashing::new(io::sink());
        io::copy(entry, &mut hashing)?;
        let (_, digest, read) = hashing.finish();
        (size, content) = (read, Some(digest));
    }
    Ok(FileEntry { kind, mode, owner, size, target, content })
}

/// A tar's name below the root.
fn normal(name: &[u8]) -> Result<String> {
    let name = String::from_utf8_lossy(name).into_owned();
    let mut parts = Vec::new();
    for part in Path::new(&name).components() {
        match part {
            Component::Normal(part) => parts.push(part.to_string_lossy().into_owned()),
            Component::CurDir | Component::RootDir => {}
            Component::ParentDir | Component::Prefix(_) => {
                return Err(Error::failed(format!("a layer names {name:?}, which leaves the image's root"))
                    .help("something made this layer by hand, perhaps to do harm: do not use the image"));
            }
        }
    }
    Ok(parts.join("/"))
}

fn words(before: &FileEntry, after: &FileEntry) -> Vec<String> {
    let mut words = Vec::new();
    if before.kind != after.kind {
        words.push(format!("{:?} → {:?}", before.kind, after.kind).to_lowercase());
    } else if before.content != after.content {
        words.push("content".into());
    }
    if before.target != after.target {
        words.push(format!("leads to {:?} → {:?}", before.target, after.target));
    }
    if before.mode != after.mode {
        words.push(format!("mode {:04o} → {:04o}", before.mode, after.mode));
    }
    if before.owner != after.owner {
        let ((uid, gid), (new_uid, new_gid)) = (before.owner, after.owner);
        words.push(format!("owner {uid}:{gid} → {new_uid}:{new_gid}"));
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tar of `(path, content)`; a path that ends with a slash is a folder.
    fn tar(entries: &[(&str, &str)]) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        for (path, content) in entries {
            let mut header = tar::Header::new_ustar();
            header.set_mode(0o644);
            if path.ends_with('/') {
                header.set_entry_type(EntryType::Directory);
            }
            header.set_size(content.len() as u64);
            tar.append_data(&mut header, path, content.as_bytes()).unwrap();
        }
        tar.into_inner().unwrap()
    }

    fn files(layers: &[&[(&str, &str)]]) -> Files {
        let mut files = Files::default();
        for layer in layers {
            files.apply(&tar(layer)[..]).unwrap();
        }
        files
    }

    fn paths(files: &Files) -> Vec<&str> {
        files.0.keys().map(String::as_str).collect()
    }

    #[test]
    fn later_layers_replace_and_take_away() {
        let made = files(&[
            &[("a/", ""), ("a/one", "1"), ("a/two", "2"), ("b/", ""), ("b/kept/deep", "3")],
            &[("a/.wh.one", ""), ("a/two", "22"), ("b/.wh.kept", "")],
        ]);
        assert_eq!(paths(&made), ["a", "a/two", "b"]);
        assert_eq!(made.get("/a/two").unwrap().size, 2);
    }

    #[test]
    fn an_opaque_folder_hides_what_is_below_and_not_its_own_files_whatever_the_order() {
        let made = files(&[&[("a/old", "1"), ("other", "")], &[("a/new", "2"), ("a/.wh..wh..opq", "")]]);
        assert_eq!(paths(&made), ["a/new", "other"]);
    }

    #[test]
    fn a_file_in_the_place_of_a_folder_takes_its_content_along() {
        assert_eq!(paths(&files(&[&[("a/", ""), ("a/one", "1")], &[("a", "file")]])), ["a"]);
    }

    #[test]
    fn a_hard_link_is_the_file_that_it_names_from_the_root() {
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_ustar();
        header.set_size(3);
        tar.append_data(&mut header, "a/one", &b"one"[..]).unwrap();
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(EntryType::Link);
        header.set_size(0);
        tar.append_link(&mut header, "b/two", "a/one").unwrap();
        let mut made = Files::default();
        made.apply(&tar.into_inner().unwrap()[..]).unwrap();
        assert_eq!(made.get("b/two"), made.get("a/one"));
    }

    #[test]
    fn names_that_leave_the_root_are_refused() {
        let mut bytes = tar(&[("aa/x", "")]);
        bytes[..5].copy_from_slice(b"../xx");
        // The header's checksum, made good again.
        let sum: u32 = bytes[..512]
            .iter()
            .enumerate()
            .map(|(at, b)| if (148..156).contains(&at) { 32 } else { u32::from(*b) })
            .sum();
        bytes[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        let error = Files::default().apply(&bytes[..]).unwrap_err();
        assert!(error.what().contains("leaves the image's root"), "{error}");
    }

    #[test]
    fn differences_are_told_by_path_and_never_by_content() {
        let one = files(&[&[("same", "1"), ("gone", "12"), ("changed", "old")]]);
        let two = files(&[&[("same", "1"), ("new", "123"), ("changed", "new")]]);
        let told = one.differences(&two);
        let brief: Vec<_> = told.iter().map(|d| (d.path.as_str(), d.change, d.before, d.after)).collect();
        assert_eq!(
            brief,
            [
                ("/changed", Change::Changed, Some(3), Some(3)),
                ("/gone", Change::Removed, Some(2), None),
                ("/new", Change::Added, None, Some(3)),
            ]
        );
        assert_eq!(told[0].what, ["content"]);
        let json = serde_json::to_string(&told).unwrap();
        assert!(!json.contains("sha256") && !json.contains(&Digest::of(b"new").hex()), "{json}");
    }
}
