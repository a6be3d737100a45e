//! Python environments of this machine, for commands that are run while an image is built.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::engine::cache::LayerCache;
use crate::engine::direct::python::Packages;
use crate::engine::direct::uv::{Access, Uv};
use crate::error::Result;

/// In an environment that is whole; one that a killed run left has none.
const COMPLETE: &str = "imgforge-complete";

/// Makes an environment without packages; gives its interpreter.
///
/// # Errors
/// There is no such Python, and uv cannot fetch it.
pub(super) async fn bare(uv: &Uv, access: &Access, folder: &Path, version: &str) -> Result<PathBuf> {
    let arguments: [OsString; 5] =
        ["venv".into(), "--quiet".into(), "--python".into(), version.into(), folder.into()];
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
    if folder.join(COMPLETE).exists() {
        return Ok(folder);
    }
    if folder.exists() {
        fs_err::remove_dir_all(&folder)?;
    }
    let python = bare(uv, access, &folder, &packages.minor()).await?;
    let shop = cache.workshop(&format!("environment-{}", packages.image))?;
    let mut arguments: Vec<OsString> = ["pip", "install", "--quiet", "--python"].map(Into::into).into();
    arguments.push(python.into());
    arguments.extend(packages.wanted(uv, access, shop.path()).await?);
    let doing = format!("install the packages of image {} on this machine", packages.image);
    uv.run(&doing, arguments, packages.folder(), access).await?;
    fs_err::write(folder.join(COMPLETE), "")?;
    Ok(folder)
}
