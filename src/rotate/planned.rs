//! What a rotation is going to do, by digest.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use super::rotation::Rotation;
use crate::digest::Digest;
use crate::image::reference::Repository;
use crate::plan::PlannedDeploy;

/// One image of the plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlannedRotation {
    /// Its name in imgforge.toml.
    pub image: String,
    /// Where it is.
    pub repository: Repository,
    /// What it is now.
    pub from: Digest,
    /// What it becomes; the same when the secrets are those that it has.
    pub to: Digest,
    /// `linux/amd64`
    pub platforms: Vec<String>,
    /// How many attestations of an index are left out: they speak of the old images.
    pub attestations_dropped: usize,
    /// The versions of its secret files, before and after.
    pub secrets: BTreeMap<String, (Option<String>, String)>,
}

impl PlannedRotation {
    pub(super) fn of(rotation: &Rotation) -> Self {
        PlannedRotation {
            image: rotation.image.clone(),
            repository: rotation.reference.repository.clone(),
            from: rotation.from,
            to: rotation.to.digest(),
            platforms: rotation.platforms(),
            attestations_dropped: rotation.dropped,
            secrets: rotation.versions(),
        }
    }
}

/// What a rotation is going to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RotatePlan {
    /// The project.
    pub project: String,
    /// The environment.
    pub environment: String,
    /// The secret files' versions, by name.
    pub secrets: BTreeMap<String, String>,
    /// The images.
    pub images: Vec<PlannedRotation>,
    /// The deployment, when it goes that far.
    pub deploy: Option<PlannedDeploy>,
}

impl fmt::Display for RotatePlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "rotate the secrets of {} ({})", self.project, self.environment)?;
        for image in &self.images {
            let PlannedRotation { image: name, repository, from, to, .. } = image;
            if from == to {
                writeln!(f, "  same   {name}: {repository}@{from} holds these secrets")?;
                continue;
            }
            writeln!(f, "  rotate {name}: {repository}@{from}")?;
            writeln!(f, "      →  {to} ({})", image.platforms.join(", "))?;
            let moved = image.secrets.iter().filter(|(_, (before, after))| before.as_ref() != Some(after));
            for (secret, (before, after)) in moved {
                let before = before.as_deref().unwrap_or("none");
                writeln!(f, "         {secret}: {before} → {after}")?;
            }
            if image.attestations_dropped > 0 {
                let count = image.attestations_dropped;
                writeln!(f, "         without {count} attestations, which speak of the old images")?;
            }
        }
        let changed = self.images.iter().any(|image| image.from != image.to);
        match &self.deploy {
            Some(deploy) if changed => write!(f, "{deploy}"),
            _ => Ok(()),
        }
    }
}
