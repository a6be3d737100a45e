//! Bases made of Debian packages, shared by all tests: making one takes a minute, and it is the same each time.

use std::path::{Path, PathBuf};

use imgforge::base::debian;
use imgforge::config::Debian;
use imgforge::image::Image;
use imgforge::progress::Reporter;

/// The platform of this machine.
pub fn platform() -> &'static str {
    match std::env::consts::ARCH {
        "aarch64" => "linux/arm64",
        _ => "linux/amd64",
    }
}

/// Where tests keep made bases.
pub fn bases() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/test-bases")
}

/// What `[bases]` would say.
pub fn recipe(packages: &[&str]) -> Debian {
    recipe_of("bookworm", packages)
}

fn recipe_of(suite: &str, packages: &[&str]) -> Debian {
    Debian { suite: suite.into(), packages: packages.iter().map(|name| (*name).to_owned()).collect() }
}

/// The base with these packages, made when it is not there yet.
pub async fn base(packages: &[&str]) -> Image {
    base_of("bookworm", packages).await
}

/// The same of another suite.
pub async fn base_of(suite: &str, packages: &[&str]) -> Image {
    debian::make(&bases(), &recipe_of(suite, packages), platform(), "test", &Reporter::silent())
        .await
        .unwrap()
}
