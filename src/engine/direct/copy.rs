//! Files of the build context as layers.

use std::path::Path;

use crate::config::Owner;
use crate::config::direct::CopyConfig;
use crate::engine::context::{Entry, Listing, What as Listed};
use crate::engine::direct::stats::Stats;
use crate::engine::direct::tree::{Rootfs, Tree, What, normal_mode};
use crate::engine::dockerignore::{Ignore, slashed};
use crate::error::{Error, Result};

/// The context as it was listed, each file with its digest.
pub(super) struct Files<'l> {
    pub(super) listing: &'l Listing,
    pub(super) stats: Stats,
}

/// A place of the context, and where in the image it goes.
pub(super) struct Place<'p> {
    pub(super) from: &'p Path,
    pub(super) to: &'p str,
    pub(super) owner: Owner,
    /// Only what these patterns name, when there are any.
    pub(super) only: Option<&'p Ignore>,
}

impl Files<'_> {
    /// The layer of one `[[copy]]`.
    ///
    /// # Errors
    /// Nothing is there, a file cannot be read or changes meanwhile, a name is not UTF-8.
    pub(super) fn copied(&mut self, image: &str, copy: &CopyConfig, rootfs: &Rootfs) -> Result<Tree> {
        let from = copy.from.get_ref();
        let place = Place { from, to: copy.to.get_ref().relative(), owner: copy.owner, only: None };
        let tree = self.tree(&place, rootfs)?;
        if tree.is_empty() {
            let from = from.display();
            return Err(Error::config(format!("image {image:?} copies {from}, which the build context has not"))
                .help(format!(
                    "check images.{image}.copy in imgforge.toml; what .dockerignore names, a link, and the secrets \
                     folder are not in the context"
                )));
        }
        Ok(tree)
    }

    /// What is at a place, as nodes of the image.
    pub(super) fn tree(&mut self, place: &Place<'_>, rootfs: &Rootfs) -> Result<Tree> {
        let from = slashed(place.from);
        let to = rootfs.resolve(place.to)?;
        let mut tree = Tree::default();
        for entry in &self.listing.entries {
            let name = name(entry)?;
            let below = match name.strip_prefix(from.as_str()) {
                _ if from.is_empty() => name.as_str(),
                Some("") => "",
                Some(rest) if rest.starts_with('/') => &rest[1..],
                Some(_) | None => continue,
            };
            if place.only.is_some_and(|only| !only.matches(&name)) {
                continue;
            }
            let path = rootfs.place(&join(&to, below), matches!(entry.what, Listed::Folder))?;
            let what = match &entry.what {
                Listed::Folder if rootfs.has_directory(&path) => {
                    // What is there keeps its owner and mode, as with COPY.
                    continue;
                }
                Listed::Folder => What::Directory,
                Listed::Link { target } => What::Link(target.to_str().ok_or_else(|| not_utf8(entry))?.into()),
                Listed::Bytes(bytes) => What::Bytes(bytes.clone()),
                Listed::File { .. } => {
                    let Some(metadata) = &entry.metadata else { continue };
                    What::File(self.stats.source(&name, &self.listing.root.join(&entry.path), metadata)?)
                }
            };
            if path.is_empty() {
                return Err(Error::config("a file cannot take the place of the image's root")
                    .help("name the file in copy.to: \"/etc/nginx/nginx.conf\""));
            }
            let mode = match &what {
                // A link's own mode means nothing.
                What::Link(_) => 0o777,
                What::Directory => normal_mode(entry.mode, true),
                What::Bytes(_) | What::File(_) | What::Compiled(_) => normal_mode(entry.mode, false),
            };
            tree.insert(path, what, place.owner, mode);
        }
        // The folder that everything is in; the context's own is no entry of it.
        if from.is_empty() && !tree.is_empty() && !rootfs.has_directory(&to) {
            tree.insert(to, What::Directory, place.owner, 0o755);
        }
        Ok(tree)
    }
}

pub(super) fn join(folder: &str, below: &str) -> String {
    match (folder, below) {
        ("", below) => below.into(),
        (folder, "") => folder.into(),
        (folder, below) => format!("{folder}/{below}"),
    }
}

/// The entry's path with slashes. Tars and configs are UTF-8; another name would not come out as it went in.
pub(super) fn name(entry: &Entry) -> Result<String> {
    if entry.path.to_str().is_none() {
        return Err(not_utf8(entry));
    }
    let name = slashed(&entry.path);
    // Layers say with such names that a file is removed (OCI image-spec, layer.md, "Whiteouts").
    if name.split('/').any(|part| part.starts_with(".wh.")) {
        return Err(Error::failed(format!(
            "the build context has a file whose name a layer cannot hold: {name}"
        ))
        .help("rename it, or name it in .dockerignore"));
    }
    Ok(name)
}

fn not_utf8(entry: &Entry) -> Error {
    Error::failed(format!("the build context has a name that is not UTF-8: {}", entry.path.display()))
        .help("rename it, or name it in .dockerignore")
}
