//! What a run came to: digests, sizes, what was reused, and times.

use std::collections::BTreeMap;

use serde::Serialize;

use super::push::PushedImage;
use crate::deploy::Deployed;
use crate::digest::Digest;
use crate::engine::Built;
use crate::plan::Plan;
use crate::progress::Stage;
use crate::registry::BlobCounts;

/// One image of a summary.
#[derive(Debug, Clone, Serialize)]
pub struct ReleasedSummary {
    /// Its name in imgforge.toml.
    pub image: String,
    /// Where it is, by digest; none when it was only built.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// The manifest's digest, or the engine's id of an image that was only built.
    pub digest: Digest,
    /// What it is for; none when it was only built.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub platforms: Vec<String>,
    /// Bytes of all layers, compressed; 0 when it was only built.
    pub size: u64,
    /// Whether the engine made something new.
    pub built: bool,
    /// Bytes that were uploaded.
    pub uploaded: u64,
    /// How its blobs got there.
    pub blobs: BlobCounts,
    /// The secret versions in it.
    pub secrets: BTreeMap<String, String>,
}

/// What a run came to.
#[derive(Debug, Clone, Serialize)]
pub struct Summary {
    /// The release's id.
    pub release: String,
    /// Its images.
    pub images: Vec<ReleasedSummary>,
    /// What runs now, when it was deployed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deployed: Option<Deployed>,
    /// Milliseconds of each stage.
    pub times: Vec<(Stage, u64)>,
}

impl Summary {
    pub(super) fn built(plan: &Plan, built: &[Built], times: Vec<(Stage, u64)>) -> Self {
        let image = |platforms: &[Built]| ReleasedSummary {
            image: platforms[0].image.clone(),
            reference: None,
            digest: platforms[0].id,
            platforms: Vec::new(),
            size: 0,
            built: platforms.iter().any(|built| !built.reused),
            uploaded: 0,
            blobs: BlobCounts::default(),
            secrets: BTreeMap::new(),
        };
        let images = built.chunk_by(|one, next| one.image == next.image).map(image).collect();
        Summary { release: plan.release.clone(), images, deployed: None, times }
    }

    pub(super) fn pushed(plan: &Plan, pushed: &[PushedImage]) -> Self {
        let images = pushed.iter().map(PushedImage::summary).collect();
        Summary { release: plan.release.clone(), images, deployed: None, times: Vec::new() }
    }
}
