//! Parts that several test modules use.
pub mod ecs_simulator;
