//! imgforge builds the images of a Django site, bakes its secrets into them as one replaceable layer, pushes them, and
//! deploys them.
//!
//! The modules stand in data-flow order: each imports only from those above it (tests/imgforge/architecture.rs checks).

pub mod error;
pub mod random;
pub mod progress;
pub mod digest;
pub mod partial;
pub mod config;
pub mod plan;
pub mod secret;
pub mod layer;
pub mod image;
pub mod base;
pub mod engine;
pub mod registry;
pub mod deploy;
pub mod release;
pub mod rotate;
pub mod doctor;
pub mod template;
pub mod backends;
pub mod cli;
