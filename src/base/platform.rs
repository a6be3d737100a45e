//! Platforms in the words of images (OCI image-spec, image-index.md, `platform`): `linux/amd64`.

/// The platform that containers of this machine have, whatever its own system is.
pub fn here() -> String {
    format!("linux/{}", architecture(std::env::consts::ARCH))
}

/// What `uname -m` says, or Rust, in these words.
pub fn architecture(machine: &str) -> &str {
    match machine {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "armv7l" => "arm",
        "x86" => "386",
        "powerpc64" => "ppc64le",
        other => other,
    }
}
