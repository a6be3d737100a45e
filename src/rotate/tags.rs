//! The tags of rotated images. `imgforge deploy` finds an image by its release's, `COMMIT-SECRETS`: a rotated image is, to the
//! byte, the one that a release of the same commit with the new secrets gives, and so it gets the tag of that.
//!
//! What runs is known by its digest alone. Of which commit it is, the registry tells: whether this commit's tag, with the
//! secrets that the image has, names it. Where HEAD is elsewhere by now it does not, and the tag says no more than `rotated`.

use std::collections::BTreeMap;

use futures_util::try_join;

use super::rotation::Rotation;
use crate::digest::Digest;
use crate::error::Result;
use crate::image::reference::{Reference, Repository, Tag, Version};
use crate::plan::{self, Source};
use crate::registry::Registry;

/// What tags are made of.
pub(super) struct Tags {
    /// The commit that is checked out. What was changed since is in no image that is rotated.
    commit: Option<Source>,
    /// The versions of all secret files before; of each image its own count first.
    before: BTreeMap<String, String>,
    /// And after.
    after: BTreeMap<String, String>,
}

/// A release whose secrets are rotated: the tag that its images have and the one that they get.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Release {
    /// With the secrets before.
    pub before: Tag,
    /// With those after.
    pub after: Tag,
}

impl Release {
    /// What the two tags name in a repository, before and after.
    ///
    /// # Errors
    /// The registry's.
    pub async fn named(
        &self,
        registry: &dyn Registry,
        repository: &Repository,
    ) -> Result<(Option<Digest>, Option<Digest>)> {
        let (before, after) = (Version::Tag(self.before.clone()), Version::Tag(self.after.clone()));
        try_join!(registry.head(repository, &before), registry.head(repository, &after))
    }
}

/// The tag that a release's image gets, as the registry has it.
pub(super) struct Place {
    pub release: Release,
    /// What it names already.
    taken: Option<Digest>,
}

impl Place {
    /// Whether the tag is free for the image `digest`, or names it. Somebody who built the commit again may have put another
    /// image there: it stays.
    pub fn is_for(&self, digest: Digest) -> bool {
        self.taken.is_none_or(|taken| taken == digest)
    }
}

impl Tags {
    /// For `rotations` of images to the secret files in `after`, where `source` is checked out.
    pub fn new(source: &Source, rotations: &[Rotation], after: BTreeMap<String, String>) -> Self {
        let commit = match source {
            Source::Commit { id } | Source::Changed { id } => Some(Source::Commit { id: id.clone() }),
            Source::Unknown => None,
        };
        // A secret file that none of them holds is taken to be what it was.
        let mut before = after.clone();
        before.extend(rotations.iter().flat_map(Rotation::versions_before));
        Tags { commit, before, after }
    }

    /// Where the image of `rotation` belongs in the release of this commit. `None` when it is not of this commit, or its
    /// release has this tag already.
    ///
    /// # Errors
    /// The registry's.
    pub async fn place(&self, registry: &dyn Registry, rotation: &Rotation) -> Result<Option<Place>> {
        let Some(release) = self.release_of(rotation)? else { return Ok(None) };
        let (named, taken) = release.named(registry, &rotation.reference.repository).await?;
        Ok((named == Some(rotation.from)).then_some(Place { release, taken }))
    }

    fn release_of(&self, rotation: &Rotation) -> Result<Option<Release>> {
        let Some(commit) = self.commit.as_ref().filter(|_| rotation.reference.tag.is_none()) else {
            return Ok(None);
        };
        // An image whose label tells other versions is not the one that a release gives, though its files are the same.
        if rotation.versions().iter().any(|(name, (_, version))| self.after.get(name) != Some(version)) {
            return Ok(None);
        }
        let mut before = self.before.clone();
        before.extend(rotation.versions_before());
        let tag = |secrets: &BTreeMap<String, String>| plan::release_id(commit, secrets).parse::<Tag>();
        let release = Release { before: tag(&before)?, after: tag(&self.after)? };
        Ok((release.before != release.after).then_some(release))
    }

    /// The tag of a rotated image that has no place. One with a tag gets the new secrets at its end, in place of those of a
    /// release; what had the tag keeps it: tags may be immutable.
    ///
    /// # Errors
    /// None that is known: the parts of a tag make a tag.
    pub fn otherwise(&self, reference: &Reference, digest: Digest) -> Result<Tag> {
        match (&reference.tag, plan::secrets_id(&self.after)) {
            (Some(tag), Some(mark)) => {
                let tag = tag.as_str();
                let is_mark =
                    |end: &str| end.len() == mark.len() && end.bytes().all(|b| b.is_ascii_hexdigit());
                let of = tag.rsplit_once('-').filter(|(_, end)| is_mark(end)).map_or(tag, |(of, _)| of);
                let room = 128 - mark.len() - 1;
                format!("{}-{mark}", &of[..of.len().min(room)]).parse()
            }
            _ => format!("rotated-{}", digest.short()).parse(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_releases_tag_gets_the_new_secrets_and_others_are_not_moved() {
        let digest = Digest::of(b"x");
        let after = BTreeMap::from([("server_settings".to_owned(), "v2".to_owned())]);
        let mark = plan::secrets_id(&after).unwrap();
        let tags = Tags::new(&Source::Unknown, &[], after);
        let of = |name: &str| tags.otherwise(&name.parse().unwrap(), digest).unwrap().to_string();
        assert_eq!(of("h.io/shop:3f2a9c1d04ab-00000000"), format!("3f2a9c1d04ab-{mark}"));
        assert_eq!(of("h.io/shop:stable"), format!("stable-{mark}"));
        assert_eq!(of("h.io/shop:v1-beta"), format!("v1-beta-{mark}"));
        assert_eq!(of(&format!("h.io/shop:{}", "a".repeat(128))).len(), 128);
        assert_eq!(of(&format!("h.io/shop@{digest}")), format!("rotated-{}", digest.short()));
    }
}
