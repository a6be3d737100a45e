//! Images without a Dockerfile and without a daemon.

mod compared;
mod engines;
mod errors;
mod index;
mod layers;
mod platforms;
mod python;
mod registries;
mod zstd;
