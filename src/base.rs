//! What an image starts from.

use std::path::PathBuf;
use std::sync::Arc;

use serde::Serialize;

use self::contents::Contents;
use crate::image::Image;
use crate::image::reference::Reference;

pub mod contents;
pub mod debian;
pub mod layout;
pub mod platform;

/// A base that is ready: pinned, and, unless the daemon fetches it by itself, here.
#[derive(Debug, Clone)]
pub enum Base {
    /// In a registry, by digest. The engine fetches it.
    Registry(Reference),
    /// In a registry, read for an engine that has nobody to fetch it: its layers stay where they are.
    Read {
        /// By digest.
        reference: Reference,
        /// The image.
        image: Box<Image>,
        /// What is in it.
        contents: Arc<Contents>,
    },
    /// On this machine, with every blob in a file.
    Local {
        /// Its name in imgforge.toml.
        name: String,
        /// The image.
        image: Box<Image>,
    },
}

/// What a base is before anything was made or fetched; for the plan.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum BasePlan {
    /// Fetched by the engine, by this digest.
    Registry {
        /// With its digest.
        reference: String,
    },
    /// A layout on disk.
    Layout {
        /// The folder.
        path: PathBuf,
    },
    /// Made with mmdebstrap, or made before.
    Debian {
        /// What it is cached by.
        key: String,
        /// The suite.
        suite: String,
        /// Packages asked for.
        packages: Vec<String>,
        /// Whether it is there already.
        cached: bool,
    },
}
