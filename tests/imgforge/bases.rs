//! What images start from.

mod debian;
mod layout;
