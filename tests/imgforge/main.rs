//! The one test binary: a module for each capability, and `support` for the parts they share.
//!
//! Every part is real, or speaks the real wire protocol: no trait of imgforge is faked.

mod architecture;
mod bases;
mod cli;
mod compose;
mod config;
mod direct;
mod ecs;
mod engine;
mod faults;
mod init;
mod local;
mod registry;
mod release;
mod rotate;
mod secrets;
mod shop;
mod stack;
mod support;
