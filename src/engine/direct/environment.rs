//! Python environments of this machine, for commands that are run while an image is built.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::engine::cache::{self, LayerCache};
use crate::engine::direct::python::Packages;
use crate::engine::direct::uv::{Access, Uv};
use crate::error::Result;

/// An environment that was not used for so long is removed when another one is made.
const UNUSED: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Makes an environment without packages; gives its interpreter.
///
/// # Errors
/// There is no such Python, and uv cannot fetch it.
pub(super) async fn bare(uv: &Uv, access: &Access, folder: &Path, version: &str) -> Result<PathBuf> {
    let mut arguments: Vec<OsString> =
        ["venv", "--quiet", "--relocatable", "--python", version].map(Into::into).into();
    arguments.push(folder.into());
    let doing = format!("find Python {version} on this machine");
    uv.run(&doing, arguments, Path::new("."), access).await?;
    Ok(folder.join("bin/python"))
}

/// The environment with these packages, made now or before; gives its folder.
///
/// # Errors
/// uv's own.
pub(super) async fn with(
    packages: &Packages,
    uv: &Uv,
    access: &Access,
    cache: &LayerCache,
) -> Result<PathBuf> {
    let folder = cache.path("environments", &packages.environment_key().short());
    // Its time tells when it was used last.
    if let Ok(there) = std::fs::File::open(&folder) {
        let _ = there.set_modified(SystemTime::now());
        return Ok(folder);
    }
    // Under its name it is whole: of two runs that make it at once the first one's stays.
    let shop = cache.workshop(&format!("environment-{}", packages.image))?;
    let made = shop.path().join("environment");
    let python = bare(uv, access, &made, &packages.minor()).await?;
    let mut arguments: Vec<OsString> = ["pip", "install", "--quiet", "--python"].map(Into::into).into();
    arguments.push(python.into());
    arguments.extend(packages.wanted(uv, access, shop.path()).await?);
    let doing = format!("install the packages of image {} on this machine", packages.image);
    uv.run(&doing, arguments, packages.folder(), access).await?;
    let all = cache.path("environments", "");
    fs_err::create_dir_all(&all)?;
    cache::sweep(&all, UNUSED);
    match fs_err::rename(&made, &folder) {
        Err(error) if !folder.exists() => Err(error.into()),
        _ => Ok(folder),
    }
}
