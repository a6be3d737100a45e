//! What layers make when one is put over the other (OCI image-spec, layer.md).

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};
use std::path::{Component, Path};

use tar::EntryType;

use super::packing;
use crate::error::{Error, Result};

/// Before the name of a file that a layer takes away.
const WHITEOUT: &str = ".wh.";
/// In a folder whose lower content a layer hides.
const OPAQUE: &str = ".wh..wh..opq";

/// What is kept of an entry of a layer.
pub trait Described: Clone {
    /// Reads it; `path` is where it is, without a leading slash.
    ///
    /// # Errors
    /// Those of reading its content.
    fn of<R: Read>(path: &str, entry: &mut tar::Entry<'_, R>) -> Result<Self>;

    /// Whether something can be below it.
    fn is_folder(&self) -> bool;
}

/// What is at each path, without a leading slash; the root itself is not in it.
#[derive(Debug, Clone)]
pub struct Overlay<T>(BTreeMap<String, T>);

impl<T> Default for Overlay<T> {
    fn default() -> Self {
        Overlay(BTreeMap::new())
    }
}

impl<T: Described> Overlay<T> {
    /// Puts a layer over what is there. Its blob is read to the end, where a reader that checks its digest does so.
    ///
    /// # Errors
    /// The blob's own; not a tar; a name that leaves the root; a hard link to nothing.
    pub fn apply(&mut self, mut blob: impl Read) -> Result<()> {
        self.apply_tar(packing::unpacked(&mut blob)?)?;
        io::copy(&mut blob, &mut io::sink())?;
        Ok(())
    }

    fn apply_tar(&mut self, tar: impl Read) -> Result<()> {
        let mut archive = tar::Archive::new(tar);
        let mut new: Vec<(String, T)> = Vec::new();
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
                let described = T::of(&path, &mut entry)?;
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
        for (path, described) in new {
            self.insert(path, described);
        }
        for (path, target) in links {
            let Some(described) = self.0.get(&target).cloned() else {
                return Err(Error::failed(format!(
                    "/{path} is a hard link to /{target}, which is not there"
                )));
            };
            self.insert(path, described);
        }
        Ok(())
    }

    fn insert(&mut self, path: String, described: T) {
        if !described.is_folder() {
            self.remove_below(&path);
        }
        self.0.insert(path, described);
    }

    fn remove_below(&mut self, folder: &str) {
        if folder.is_empty() {
            self.0.clear();
            return;
        }
        let prefix = format!("{folder}/");
        let below = self.0.range(prefix.clone()..).take_while(|(path, _)| path.starts_with(&prefix));
        let below: Vec<String> = below.map(|(path, _)| path.clone()).collect();
        for path in below {
            self.0.remove(&path);
        }
    }
}

impl<T> Overlay<T> {
    /// What is at a path.
    pub fn get(&self, path: &str) -> Option<&T> {
        self.0.get(path.trim_matches('/'))
    }

    /// Every path with what is there, sorted.
    pub fn iter(&self) -> impl Iterator<Item = (&String, &T)> {
        self.0.iter()
    }
}

impl<T> IntoIterator for Overlay<T> {
    type Item = (String, T);
    type IntoIter = std::collections::btree_map::IntoIter<String, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// What is in a file; none for a folder.
    #[derive(Debug, Clone, PartialEq)]
    struct Text(Option<String>);

    impl Described for Text {
        fn of<R: Read>(_: &str, entry: &mut tar::Entry<'_, R>) -> Result<Self> {
            let mut text = String::new();
            entry.read_to_string(&mut text)?;
            Ok(Text((!entry.header().entry_type().is_dir()).then_some(text)))
        }

        fn is_folder(&self) -> bool {
            self.0.is_none()
        }
    }

    /// A tar of `(path, content)`; a path that ends with a slash is a folder.
    fn tar(entries: &[(&str, &str)]) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        for (path, content) in entries {
            let mut header = tar::Header::new_ustar();
            if path.ends_with('/') {
                header.set_entry_type(EntryType::Directory);
            }
            header.set_size(content.len() as u64);
            tar.append_data(&mut header, path, content.as_bytes()).unwrap();
        }
        tar.into_inner().unwrap()
    }

    fn paths(layers: &[&[(&str, &str)]]) -> Vec<String> {
        let mut made = Overlay::<Text>::default();
        for layer in layers {
            made.apply(&tar(layer)[..]).unwrap();
        }
        made.into_iter().map(|(path, _)| path).collect()
    }

    #[test]
    fn later_layers_replace_and_take_away() {
        let mut made = Overlay::<Text>::default();
        let lower =
            tar(&[("./", ""), ("a/", ""), ("a/one", "1"), ("a/two", "2"), ("b/", ""), ("b/kept/deep", "3")]);
        made.apply(&lower[..]).unwrap();
        made.apply(&tar(&[("a/.wh.one", ""), ("a/two", "22"), ("b/.wh.kept", "")])[..]).unwrap();
        assert_eq!(made.iter().map(|(path, _)| path).collect::<Vec<_>>(), ["a", "a/two", "b"]);
        assert_eq!(made.get("/a/two"), Some(&Text(Some("22".into()))));
    }

    #[test]
    fn an_opaque_folder_hides_what_is_below_and_not_its_own_files_whatever_the_order() {
        let made = paths(&[&[("a/old", "1"), ("other", "")], &[("a/new", "2"), ("a/.wh..wh..opq", "")]]);
        assert_eq!(made, ["a/new", "other"]);
    }

    #[test]
    fn a_file_in_the_place_of_a_folder_takes_its_content_along() {
        assert_eq!(paths(&[&[("a/", ""), ("a/one", "1")], &[("a", "file")]]), ["a"]);
    }

    #[test]
    fn a_hard_link_is_the_file_that_it_names_from_the_root() {
        let mut upper = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_ustar();
        header.set_size(3);
        upper.append_data(&mut header, "a/one", &b"one"[..]).unwrap();
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(EntryType::Link);
        header.set_size(0);
        upper.append_link(&mut header, "b/two", "a/one").unwrap();
        let mut made = Overlay::<Text>::default();
        made.apply(&tar(&[("b/two/below", "")])[..]).unwrap();
        made.apply(&upper.into_inner().unwrap()[..]).unwrap();
        assert_eq!(made.get("b/two"), made.get("a/one"));
        assert_eq!(made.get("b/two/below"), None);
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
        let error = Overlay::<Text>::default().apply(&bytes[..]).unwrap_err();
        assert!(error.what().contains("leaves the image's root"), "{error}");
    }

    #[test]
    fn packed_layers_are_read_to_the_last_byte_of_their_blobs() {
        let tar = tar(&[("a", "1")]);
        let mut packed: Vec<Vec<u8>> = crate::config::Compression::ALL
            .iter()
            .map(|compression| {
                let mut blob = Vec::new();
                crate::layer::compress(*compression, &tar[..], &mut blob).unwrap();
                blob
            })
            .collect();
        // A tar may be padded at its end.
        packed.push([&tar[..], &[0; 1 << 20]].concat());
        for blob in packed {
            let mut blob = &blob[..];
            let mut made = Overlay::<Text>::default();
            made.apply(&mut blob).unwrap();
            assert!(made.get("a").is_some() && blob.is_empty());
        }
    }
}
