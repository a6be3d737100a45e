//! Parts that several test modules use.

pub mod fault_proxy;
pub mod moto;
pub mod oci_registry;
pub mod sample_image;
pub mod server_process;
pub mod token_server;
