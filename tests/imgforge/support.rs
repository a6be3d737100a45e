//! Parts that several test modules use.
pub mod program;
pub mod tiny;
pub mod debian;
pub mod moto;
pub mod s3;
pub mod ecs_simulator;

pub mod fault_proxy;
pub mod oci_registry;
pub mod sample_image;
pub mod server_process;
pub mod token_server;
