//! The engine `docker`, on the machine's daemon.

mod build;
mod daemons;
mod images;
mod push;
