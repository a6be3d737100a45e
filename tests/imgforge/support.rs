//! Parts that several test modules use.
pub mod program;
pub mod tiny;
pub mod debian;
pub mod moto;
pub mod s3;
pub mod ecs_simulator;
