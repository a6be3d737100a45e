//! What files layers make together, without their contents.
//!
//! Invariant: nothing of a file's content leaves this module, no digest of it either: a digest lets guess at a short secret.

use std::collections::BTreeSet;
use std::io::{self, Read};

use serde::Serialize;
use tar::EntryType;

use super::overlay::{Described, Overlay};
use crate::digest::{Digest, Hashing};
use crate::error::Result;

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

/// The files of an image by path.
pub type Files = Overlay<FileEntry>;

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
    /// How `other` differs, by path.
    pub fn differences(&self, other: &Files) -> Vec<Difference> {
        let paths: BTreeSet<&String> = self.iter().chain(other.iter()).map(|(path, _)| path).collect();
        let differences = paths.into_iter().filter_map(|path| {
            let (before, after) = (self.get(path), other.get(path));
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

impl Described for FileEntry {
    fn of<R: Read>(_: &str, entry: &mut tar::Entry<'_, R>) -> Result<Self> {
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
            FileKind::Link => {
                String::from_utf8_lossy(&entry.link_name_bytes().unwrap_or_default()).into_owned()
            }
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

    fn is_folder(&self) -> bool {
        self.kind == FileKind::Folder
    }
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

    /// A layer of `(path, content)`.
    fn files(entries: &[(&str, &str)]) -> Files {
        let mut tar = tar::Builder::new(Vec::new());
        for (path, content) in entries {
            let mut header = tar::Header::new_ustar();
            header.set_mode(0o644);
            header.set_size(content.len() as u64);
            tar.append_data(&mut header, path, content.as_bytes()).unwrap();
        }
        let mut files = Files::default();
        files.apply(&tar.into_inner().unwrap()[..]).unwrap();
        files
    }

    #[test]
    fn differences_are_told_by_path_and_never_by_content() {
        let one = files(&[("same", "1"), ("gone", "12"), ("changed", "old")]);
        let two = files(&[("same", "1"), ("new", "123"), ("changed", "new")]);
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
