//! A base made of Debian packages with mmdebstrap: no registry, no account, no pull. Made once and kept by its inputs.
//!
//! A made base is an OCI layout in `.imgforge/bases/KEY`, there whole or not at all.

use std::fs::TryLockError;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use super::{layout, platform};
use crate::config::Debian;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::image::{Content, Descriptor, Image, Kind, Layer, Object};
use crate::layer::Digests;
use crate::progress::{Reporter, Task};

mod bootstrap;
mod mirror;

pub use bootstrap::check;

/// Raised by every change of what is made from the same suite and packages.
const RECIPE: u32 = 1;
/// The time of everything in a base that is made rather than unpacked: 2000-01-01T00:00:00Z. Python takes it as a
/// sign to compile modules by their content, so they stay valid although their files get this time too.
const EPOCH: i64 = 946_684_800;
/// `EPOCH` as configs write it.
const CREATED: &str = "2000-01-01T00:00:00Z";
/// What Debian's login gives root, and Docker's images set.
const PATH_ENV: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// How often a lock that another process holds is tried again.
const LOCK_POLL: Duration = Duration::from_millis(200);

/// What a base is kept by: `bookworm-amd64-0123456789ab`. Not the mirror: all mirrors have the same packages.
///
/// # Errors
/// A suite, a package or a platform that Debian cannot have.
pub fn key(debian: &Debian, platform: &str) -> Result<String> {
    let architecture = architecture(platform)?;
    for name in debian.packages.iter().chain([&debian.suite]) {
        check_name(name)?;
    }
    let inputs = json!([RECIPE, debian.suite, packages(debian), architecture]);
    let digest = Digest::of(inputs.to_string().as_bytes());
    Ok(format!("{}-{architecture}-{}", debian.suite, digest.short()))
}

/// The base that was made before. `None` when there is none, or what is there is not whole.
pub async fn cached(bases: &Path, key: &str, platform: &str) -> Option<Image> {
    layout::read(&bases.join(key), platform).await.ok()
}

/// The base of this recipe: the one made before, or made now. Of two processes that want the same base at once one makes
/// it and the other waits. `name` is the base's name in imgforge.toml.
///
/// # Errors
/// No mmdebstrap, a package that is not there, no way to a mirror, a full disk. Nothing half-made stays behind.
pub async fn make(
    bases: &Path,
    debian: &Debian,
    platform: &str,
    name: &str,
    progress: &Reporter,
) -> Result<Image> {
    let key = key(debian, platform)?;
    let task = progress.task(name, "base");
    if let Some(image) = cached(bases, &key, platform).await {
        task.reused(format!("{key}, made before"));
        return Ok(image);
    }
    fs_err::tokio::create_dir_all(bases).await?;
    let _lock = lock(&bases.join(format!("{key}.lock")), &task).await?;
    // Whoever held the lock may have made it.
    if let Some(image) = cached(bases, &key, platform).await {
        task.reused(format!("{key}, made just now by another run"));
        return Ok(image);
    }
    let unfinished = Unfinished::new(bases.join(format!("{key}.unfinished")))?;
    let arguments = bootstrap::Arguments {
        suite: &debian.suite,
        packages: &packages(debian),
        architecture: architecture(platform)?,
        sources: mirror::sources(&debian.suite).await,
        epoch: EPOCH,
    };
    let (blob, digests) = bootstrap::run(&unfinished.0, &arguments, &task).await?;
    let image = describe(debian, platform, &blob, digests)?;
    write_layout(&unfinished.0, &blob, &image).map_err(bootstrap::on_disk)?;
    let done = bases.join(&key);
    match fs_err::remove_dir_all(&done) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
        _ => fs_err::rename(&unfinished.0, &done)?,
    }
    let image = layout::read(&done, platform).await?;
    task.done(format!("{key}, {} MB", image.size() / 1_000_000));
    Ok(image)
}

/// Debian's name for a platform's processor (Debian wiki, "SupportedArchitectures").
fn architecture(platform: &str) -> Result<&'static str> {
    Ok(match platform {
        "linux/amd64" => "amd64",
        "linux/arm64" | "linux/arm64/v8" => "arm64",
        "linux/arm" | "linux/arm/v7" => "armhf",
        "linux/386" => "i386",
        "linux/ppc64le" => "ppc64el",
        "linux/s390x" => "s390x",
        "linux/riscv64" => "riscv64",
        _ => {
            return Err(Error::config(format!("Debian packages cannot make a base for {platform}"))
                .help("use a base from a registry: image = \"HOST/NAME:TAG\""));
        }
    })
}

/// Whether a base for `platform` can be made on this machine: while it is made, programs of that platform are run.
///
/// # Errors
/// [`crate::error::Kind::Refused`]: it cannot run them.
pub async fn check_platform(wanted_platform: &str) -> Result<()> {
    let wanted = architecture(wanted_platform)?;
    if architecture(&platform::here()).is_ok_and(|own| own == wanted) {
        return Ok(());
    }
    // What mmdebstrap asks, too (mmdebstrap(1), --architectures).
    let asked = tokio::process::Command::new("arch-test").arg(wanted).stdin(Stdio::null()).output().await;
    match asked {
        Ok(output) if output.status.success() => Ok(()),
        _ => Err(Error::refused(format!("this machine cannot make Debian packages into a base for {wanted_platform}"))
            .help("apt-get install qemu-user-static arch-test, or take a base from a registry: image = \"HOST/NAME:TAG\"")),
    }
}

/// Names become arguments: only what Debian allows in them (policy 5.6.1, with `=version` and `:arch`).
fn check_name(name: &str) -> Result<()> {
    let first = name.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.=:~_".contains(&byte);
    if first && name.bytes().all(allowed) {
        return Ok(());
    }
    Err(Error::config(format!("{name:?} is no name of a Debian suite or package"))
        .help("apt-cache search WORD finds packages"))
}

/// Sorted, each once: their order changes nothing.
fn packages(debian: &Debian) -> Vec<&str> {
    let mut packages: Vec<&str> = debian.packages.iter().map(String::as_str).collect();
    packages.sort_unstable();
    packages.dedup();
    packages
}

/// Held until it is dropped, or its process ends.
struct Lock(#[expect(dead_code, reason = "the open file is the lock")] std::fs::File);

/// Asks again and again instead of waiting in the system, so that Ctrl-C works.
async fn lock(path: &Path, task: &Task) -> Result<Lock> {
    let file = fs_err::OpenOptions::new().create(true).truncate(false).write(true).open(path)?.into_file();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(Lock(file)),
            Err(TryLockError::WouldBlock) => task.detail("another run is making it"),
            Err(TryLockError::Error(error)) => {
                return Err(Error::failed(format!("cannot lock {}", path.display())).because(error));
            }
        }
        tokio::time::sleep(LOCK_POLL).await;
    }
}

/// The folder that a base is made in. It goes when it is dropped, unless it was renamed.
struct Unfinished(PathBuf);

impl Unfinished {
    /// A new folder; what a killed run left there goes first.
    fn new(path: PathBuf) -> Result<Self> {
        let unfinished = Unfinished(path);
        unfinished.remove();
        fs_err::create_dir(&unfinished.0)?;
        Ok(unfinished)
    }

    fn remove(&self) {
        // What cannot be removed shows in the next step.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        self.remove();
    }
}

fn describe(debian: &Debian, platform: &str, blob: &Path, digests: Digests) -> Result<Image> {
    let mut config = json!({
        "created": CREATED,
        "architecture": platform.split('/').nth(1),
        "os": "linux",
        "config": {"Env": [PATH_ENV], "Cmd": ["/bin/sh"]},
        "rootfs": {"type": "layers", "diff_ids": [digests.diff_id]},
        "history": [{
            "created": CREATED,
            "created_by": format!("mmdebstrap {} {}", debian.suite, packages(debian).join(" ")).trim_end(),
            "comment": "made by imgforge from Debian packages",
        }],
    });
    if let Some(variant) = platform.split('/').nth(2) {
        config["variant"] = variant.into();
    }
    let config: Object = config.as_object().expect("it is an object just above").clone();
    let layer = Layer {
        descriptor: Descriptor::new(Kind::Oci.gzip_layer(), digests.digest, digests.size),
        diff_id: digests.diff_id,
        content: Content::File(Arc::new(blob.to_owned())),
    };
    Image::new(Kind::Oci, config, vec![layer])
}

/// Makes `folder`, which has the layer's blob at `blob`, an OCI layout of `image`.
fn write_layout(folder: &Path, blob: &Path, image: &Image) -> std::io::Result<()> {
    let blobs = folder.join("blobs/sha256");
    fs_err::create_dir_all(&blobs)?;
    for layer in image.layers() {
        fs_err::rename(blob, blobs.join(layer.descriptor.digest.hex()))?;
    }
    let (manifest, config) = (image.manifest_bytes(), image.config_bytes());
    fs_err::write(blobs.join(image.config_descriptor().digest.hex()), &config)?;
    fs_err::write(blobs.join(image.digest().hex()), &manifest)?;
    let descriptor = Descriptor::new(image.kind().manifest(), image.digest(), manifest.len() as u64);
    let index = json!({"schemaVersion": 2, "mediaType": crate::image::media_type::OCI_INDEX, "manifests": [descriptor]});
    fs_err::write(folder.join("index.json"), index.to_string())?;
    fs_err::write(folder.join("oci-layout"), json!({"imageLayoutVersion": "1.0.0"}).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn debian(suite: &str, packages: &[&str]) -> Debian {
        Debian { suite: suite.into(), packages: packages.iter().map(|name| (*name).to_owned()).collect() }
    }

    #[test]
    fn key_depends_on_inputs_and_not_on_their_order() {
        let one = key(&debian("bookworm", &["a1", "b2"]), "linux/amd64").unwrap();
        assert!(one.starts_with("bookworm-amd64-"), "{one}");
        assert_eq!(one, key(&debian("bookworm", &["b2", "a1", "b2"]), "linux/amd64").unwrap());
        for other in [
            key(&debian("bookworm", &["a1"]), "linux/amd64"),
            key(&debian("trixie", &["a1", "b2"]), "linux/amd64"),
            key(&debian("bookworm", &["a1", "b2"]), "linux/arm64"),
        ] {
            assert_ne!(one, other.unwrap());
        }
    }

    #[test]
    fn names_that_could_be_options_are_refused() {
        for name in ["--hook", "", "a b", "a,b", "a;b", "../x", "a/b"] {
            assert!(key(&debian("bookworm", &[name]), "linux/amd64").is_err(), "{name}");
            assert!(key(&debian(name, &[]), "linux/amd64").is_err(), "{name}");
        }
        assert!(key(&debian("bookworm", &["g++", "libc6:amd64", "x=1.2~3"]), "linux/amd64").is_ok());
        assert!(key(&debian("bookworm", &[]), "windows/amd64").is_err());
    }
}
