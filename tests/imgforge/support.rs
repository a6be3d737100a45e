//! Parts that several test modules use.

pub mod calls;
pub mod conformance;
pub mod debian;
pub mod direct;
pub mod docker;
pub mod ecs_simulator;
pub mod fault_proxy;
pub mod luck;
pub mod moto;
pub mod oci_registry;
pub mod page;
pub mod policy;
pub mod production;
pub mod program;
pub mod proxy;
pub mod recorder;
pub mod s3;
pub mod sample_image;
pub mod server_process;
pub mod shop;
pub mod stack;
pub mod tiny;
pub mod token_server;
