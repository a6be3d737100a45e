//! Images without a Dockerfile and without a daemon.

mod compared;
mod errors;
mod layers;
mod python;
mod registries;
