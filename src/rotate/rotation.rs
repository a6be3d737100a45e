//! One image, rotated: pure, from what was found and the new secret layer.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::found::Found;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::image::index::{Index, platform_of};
use crate::image::reference::Reference;
use crate::image::{Image, seam};
use crate::layer::bake::{Folders, SecretLayer};
use crate::registry::read::Reader;
use crate::secret::Version;

/// An image before and after.
#[derive(Debug, Clone)]
pub(super) struct Rotation {
    /// Its name in imgforge.toml.
    pub image: String,
    /// Where it was found.
    pub reference: Reference,
    /// The digest that it was found with.
    pub from: Digest,
    /// What it becomes.
    pub to: Target,
    /// How many attestations of an index are left out.
    pub dropped: usize,
    pairs: Vec<Pair>,
}

/// What a rotated image's name stands for.
#[derive(Debug, Clone)]
pub(super) enum Target {
    /// What it stood for: the secrets are those that it has.
    Same(Digest),
    /// One image.
    Image(Box<Image>),
    /// One for each platform.
    Index(Index),
}

impl Target {
    /// Its digest.
    pub fn digest(&self) -> Digest {
        match self {
            Target::Same(digest) => *digest,
            Target::Image(image) => image.digest(),
            Target::Index(index) => index.digest(),
        }
    }

    /// Its manifest: media type and bytes. `None` when there is nothing new.
    pub fn manifest(&self) -> Option<(&str, Bytes)> {
        match self {
            Target::Same(_) => None,
            Target::Image(image) => Some((image.kind().manifest(), image.manifest_bytes())),
            Target::Index(index) => Some((index.media_type(), index.bytes())),
        }
    }
}

/// One platform's image.
#[derive(Debug, Clone)]
pub(super) struct Pair {
    /// The old manifest's digest.
    pub digest: Digest,
    /// For people.
    pub platform: String,
    pub old: Image,
    /// `None` when it holds these secrets already.
    pub new: Option<Image>,
}

impl Rotation {
    /// What becomes of `found` with the secret layer that `bake` makes for the folders of an image.
    ///
    /// # Errors
    /// An image without a seam, or whose seam points at no layer; of an index the platform is told.
    pub fn new(
        image: &str,
        reference: &Reference,
        found: Found,
        bake: &dyn Fn(&Folders) -> Result<SecretLayer>,
        versions: &BTreeMap<String, Version>,
    ) -> Result<Self> {
        let Found { digest: from, index, images } = found;
        let platforms: Vec<String> = match &index {
            Some(index) => index.images().map(platform_of).collect(),
            None => images.iter().map(|(_, image)| image.platform()).collect(),
        };
        let mut pairs = Vec::new();
        for ((digest, old), platform) in images.into_iter().zip(platforms) {
            let layer = bake(&seam::folders(&old))?;
            let new = seam::replace(&old, layer, versions).map_err(|error| match &index {
                Some(_) => error.context(format!("its image for {platform}")),
                None => error,
            })?;
            pairs.push(Pair { digest, platform, old, new });
        }
        if pairs.is_empty() {
            return Err(Error::refused("it is an index without any image"));
        }
        let changed = pairs.iter().any(|pair| pair.new.is_some());
        let to = match (&index, changed) {
            (_, false) => Target::Same(from),
            (None, true) => match pairs.iter().find_map(|pair| pair.new.clone()) {
                Some(new) => Target::Image(Box::new(new)),
                None => Target::Same(from),
            },
            (Some(index), true) => Target::Index(index.with_images(|digest| {
                let pair = pairs.iter().find(|pair| pair.digest == digest)?;
                let bytes = pair.new.as_ref().unwrap_or(&pair.old).manifest_bytes();
                Some((Digest::of(&bytes), bytes.len() as u64))
            })?),
        };
        let dropped = match (&index, changed) {
            (Some(index), true) => index.attestations(),
            _ => 0,
        };
        Ok(Rotation { image: image.to_owned(), reference: reference.clone(), from, to, dropped, pairs })
    }

    /// Whether there is anything to do.
    pub fn is_changed(&self) -> bool {
        !matches!(self.to, Target::Same(_))
    }

    /// Keeps what is new, now that the registry has it: the next rotation reads it from here.
    ///
    /// # Errors
    /// Those of writing.
    pub fn keep(&self, reader: &Reader<'_>) -> Result<()> {
        let repository = &self.reference.repository;
        for image in self.changed() {
            reader.keep_image(repository, image)?;
        }
        match &self.to {
            Target::Index(index) => reader.keep_index(repository, index.media_type(), index.bytes()),
            Target::Same(_) | Target::Image(_) => Ok(()),
        }
    }

    /// Its platforms.
    pub fn platforms(&self) -> Vec<String> {
        self.pairs.iter().map(|pair| pair.platform.clone()).collect()
    }

    /// The images that are new.
    pub fn changed(&self) -> impl Iterator<Item = &Image> {
        self.pairs.iter().filter_map(|pair| pair.new.as_ref())
    }

    /// The secret versions before and after, by name; before is none for one that is new.
    pub fn versions(&self) -> BTreeMap<String, (Option<String>, String)> {
        let Some(pair) = self.pairs.iter().find(|pair| pair.new.is_some()).or(self.pairs.first()) else {
            return BTreeMap::new();
        };
        let old = seam::versions(&pair.old);
        let new = seam::versions(pair.new.as_ref().unwrap_or(&pair.old));
        new.into_iter().map(|(name, version)| (name.clone(), (old.get(&name).cloned(), version))).collect()
    }

    /// The secret versions before, by name.
    pub fn versions_before(&self) -> BTreeMap<String, String> {
        let known = |(name, (before, _)): (String, (Option<String>, String))| Some((name, before?));
        self.versions().into_iter().filter_map(known).collect()
    }

    /// The image for `platform`, before and after.
    ///
    /// # Errors
    /// An index that has none.
    pub fn for_platform(&self, platform: &str) -> Result<(&Image, &Image)> {
        let pair = match &self.to {
            Target::Index(index) => {
                let new = index.pick(platform)?.digest;
                let is_it = |pair: &&Pair| pair.new.as_ref().unwrap_or(&pair.old).digest() == new;
                self.pairs.iter().find(is_it)
            }
            Target::Same(_) | Target::Image(_) => self.pairs.first(),
        };
        let pair = pair.ok_or_else(|| Error::failed(format!("there is no image for {platform}")))?;
        Ok((&pair.old, pair.new.as_ref().unwrap_or(&pair.old)))
    }
}
