//! The thin binary: parse, run, error → exit code.

fn main() {}
