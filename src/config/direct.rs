//! What an image of engine `direct` is made of: the tables that stand in the place of a Dockerfile.
//!
//! The types check what one value can say; what several say together is checked in `load/direct.rs`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Deserializer};
use toml::Spanned;

use super::{Mode, Owner, from_string};

/// `[images.NAME.python]`: packages from wheels.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PythonConfig {
    /// A requirements file, `uv.lock` or `pylock.toml`, from the project's folder.
    pub requirements: Option<Spanned<PathBuf>>,
    /// Packages besides those, as pip writes them: `gunicorn==27.0.1`.
    #[serde(default)]
    pub packages: Vec<Spanned<String>>,
    /// The base's Python, `3.11`; found in the base when not said.
    pub version: Option<Spanned<String>>,
    /// The folder in the image that they go to; it is put on PYTHONPATH and its `bin` on PATH.
    #[serde(default = "opt_site")]
    pub path: Spanned<ImagePath>,
    /// Whether modules are compiled when the image is built rather than when they are first imported.
    #[serde(default)]
    pub compile: bool,
}

fn opt_site() -> Spanned<ImagePath> {
    Spanned::new(0..0, ImagePath("opt/site".into()))
}

/// `[[images.NAME.copy]]`: files of the build context.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CopyConfig {
    /// A file or folder below the context; all of it when not said.
    #[serde(default = "everything")]
    pub from: Spanned<PathBuf>,
    /// Where it goes: a folder's content goes into this folder, a file becomes this file.
    pub to: Spanned<ImagePath>,
    /// Who owns it.
    #[serde(default)]
    pub owner: Owner,
    /// Whether its Python modules are compiled when the image is built rather than when they are first imported.
    #[serde(default)]
    pub compile: bool,
}

fn everything() -> Spanned<PathBuf> {
    Spanned::new(0..0, PathBuf::from("."))
}

/// `[images.NAME.static]`: files that a command makes from the sources.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StaticConfig {
    /// The command and its arguments, run in a copy of the context.
    pub command: Spanned<Vec<String>>,
    /// What the result depends on, in patterns of .dockerignore; everything when not said.
    #[serde(default)]
    pub inputs: Vec<Spanned<String>>,
    /// The folder in that copy that it fills.
    pub from: Spanned<PathBuf>,
    /// Where its content goes.
    pub to: Spanned<ImagePath>,
    /// Who owns it.
    #[serde(default)]
    pub owner: Owner,
}

/// `[[images.NAME.users]]`: a line in the image's passwd file, and one in its group file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UserConfig {
    /// Its name; that of its group, too.
    pub name: Spanned<String>,
    /// User.
    pub uid: u32,
    /// Group; the same number as `uid` when not said.
    pub gid: Option<u32>,
    /// Its home, which is made; `/home/NAME` when not said.
    pub home: Option<Spanned<ImagePath>>,
    /// Its shell; none that lets anyone in when not said.
    #[serde(default = "nologin")]
    pub shell: Spanned<String>,
}

fn nologin() -> Spanned<String> {
    Spanned::new(0..0, "/usr/sbin/nologin".into())
}

/// `[[images.NAME.directories]]`: a directory that is made, such as a volume's.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DirectoryConfig {
    /// Where.
    pub path: Spanned<ImagePath>,
    /// Who owns it.
    #[serde(default)]
    pub owner: Owner,
    /// Its mode; 0755 when nothing is said.
    #[serde(default = "readable")]
    pub mode: Mode,
}

fn readable() -> Mode {
    Mode(0o755)
}

/// `[images.NAME.config]`: what containers of the image start with. What is not said stays as the base has it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SettingsConfig {
    /// A user's name or number, with a group's or without.
    pub user: Option<String>,
    /// Where commands start.
    pub workdir: Option<Spanned<ImagePath>>,
    /// Environment variables, over those of the base. Never for secrets.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// The command.
    pub cmd: Option<Vec<String>>,
    /// What the command is given to. Setting it takes the base's command away, as in a Dockerfile.
    pub entrypoint: Option<Vec<String>>,
    /// Ports: `8000`, `53/udp`.
    #[serde(default)]
    pub expose: Vec<Port>,
    /// How a container is asked whether it is well.
    pub healthcheck: Option<HealthConfig>,
    /// The signal that ends a container.
    pub stop_signal: Option<String>,
    /// Labels, besides those of the base.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Paths that are volumes.
    #[serde(default)]
    pub volumes: Vec<Spanned<ImagePath>>,
}

/// `healthcheck = { command, interval, … }`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HealthConfig {
    /// The command and its arguments. Its exit code 0 means well.
    pub command: Vec<String>,
    /// Between two checks.
    #[serde(default, deserialize_with = "some_duration")]
    pub interval: Option<Duration>,
    /// How long one may take.
    #[serde(default, deserialize_with = "some_duration")]
    pub timeout: Option<Duration>,
    /// How long failures do not count after the start.
    #[serde(default, deserialize_with = "some_duration")]
    pub start_period: Option<Duration>,
    /// How many in a row mean unwell.
    pub retries: Option<u32>,
}

fn some_duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    super::duration(deserializer).map(Some)
}

/// An absolute path in an image, kept without its leading slash; empty for the root. It has no `..`, and no part that a
/// layer would read as the removal of a file (`.wh.`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ImagePath(String);

impl ImagePath {
    /// Without its leading slash, as tars name it.
    pub fn relative(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for ImagePath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "/{}", self.0)
    }
}

from_string!(ImagePath, |text| {
    let inside = text.strip_prefix('/').map(|rest| rest.strip_suffix('/').unwrap_or(rest));
    let plain = |rest: &str| {
        rest.is_empty()
            || rest.split('/').all(|part| {
                !matches!(part, "" | "." | "..") && !part.starts_with(".wh.") && !part.contains('\0')
            })
    };
    match inside.filter(|rest| plain(rest)) {
        Some(rest) => Ok(ImagePath(rest.into())),
        None => {
            Err("a path in an image is absolute and plain, such as \"/home/docker/code\": no \"..\"".into())
        }
    }
});

/// What an image is for, in the words of image indexes (OCI image-spec, image-index.md): `linux/amd64`, `linux/arm64/v8`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Platform(pub String);

from_string!(Platform, |text| {
    let parts: Vec<&str> = text.split('/').collect();
    let plain = |part: &&str| {
        let known = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        !part.is_empty() && part.bytes().all(known)
    };
    match parts[..] {
        ["linux", _] | ["linux", _, _] if parts.iter().all(plain) => Ok(Platform(text.into())),
        _ => Err("a platform is such as \"linux/amd64\" or \"linux/arm64\"".into()),
    }
});

/// A port of `expose`: `8000/tcp`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Port(pub String);

from_string!(Port, |text| {
    let (number, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    match number.parse::<u16>() {
        Ok(number) if number > 0 && matches!(protocol, "tcp" | "udp" | "sctp") => {
            Ok(Port(format!("{number}/{protocol}")))
        }
        _ => Err("a port is a string such as \"8000\" or \"53/udp\"".into()),
    }
});
