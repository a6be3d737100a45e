//! Parts that several test modules use.

pub mod docker;
