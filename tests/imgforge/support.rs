//! Parts that several test modules use.
pub mod debian;
pub mod moto;
pub mod s3;
