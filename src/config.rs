//! imgforge.toml as written, after the environment's overlay and `${VAR}` were applied.
//!
//! Every table refuses unknown keys. What the values mean together is checked in `load`; a [`Config`] that exists
//! is consistent: each image names a base that is there, each bake names a secret file that is declared.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize};
use toml::Spanned;

use self::direct::{
    CopyConfig, DirectoryConfig, Platform, PythonConfig, SettingsConfig, StaticConfig, UserConfig,
};

pub mod direct;
mod interpolate;
mod load;
mod services;

pub(crate) use load::nearest;
pub use services::Services;

/// The name of the configuration file.
pub const FILE: &str = "imgforge.toml";
/// The environment that needs no account anywhere and is taken when none is named.
pub const DEFAULT_ENVIRONMENT: &str = "local";

/// A whole configuration for one environment.
#[derive(Debug, Clone)]
pub struct Config {
    /// The folder that holds imgforge.toml. Relative paths in it start here.
    pub root: PathBuf,
    /// The environment: `local`, or what `-e` named.
    pub environment: String,
    /// The folders of `dir:` stores, of this environment and of every other: none reaches a build context, whichever is
    /// in use.
    pub secret_dirs: Vec<PathBuf>,
    /// What the file says.
    pub written: Written,
}

impl std::ops::Deref for Config {
    type Target = Written;
    fn deref(&self) -> &Written {
        &self.written
    }
}

impl Config {
    /// A path of the configuration, from the project's folder.
    pub fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        self.root.join(path)
    }

    /// Where imgforge keeps what it can make again: bases, layers, locks. Never part of a build context.
    pub fn work_dir(&self) -> PathBuf {
        self.root.join(".imgforge")
    }
}

/// The tables of imgforge.toml.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Written {
    /// The project's name: lower case letters, digits, dashes. It names compose projects, cached bases, releases.
    pub project: Spanned<String>,
    /// Where secret files come from.
    pub secrets: Option<Secrets>,
    /// What images start from, by name.
    #[serde(default)]
    pub bases: BTreeMap<String, Spanned<BaseConfig>>,
    /// Settings of every build.
    #[serde(default)]
    pub build: Build,
    /// The images, by name.
    #[serde(default)]
    pub images: BTreeMap<String, ImageConfig>,
    /// Where images go.
    #[serde(default)]
    pub registry: RegistryConfig,
    /// Where the service runs.
    pub deploy: Option<Deploy>,
}

/// `[secrets]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Secrets {
    /// The store.
    pub store: Store,
    /// The secret files: a name for this file, and the object in the store.
    #[serde(default)]
    pub files: BTreeMap<String, String>,
}

/// Where secret files live.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Store {
    /// `s3://BUCKET[/prefix]`; the prefix has no slash at its ends.
    S3 {
        /// The bucket.
        bucket: String,
        /// What comes before each object's name; empty for none.
        prefix: String,
    },
    /// `dir:PATH`
    Dir(PathBuf),
}

/// `[build]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Build {
    /// What `RUN --mount=type=secret,id=…` sees: id = file, or `env:NAME`.
    #[serde(default)]
    pub secrets: BTreeMap<String, BuildSecret>,
    /// Build arguments of every image. Never for secrets: they end up in the history.
    #[serde(default)]
    pub args: BTreeMap<String, String>,
    /// How layers that imgforge makes are compressed.
    #[serde(default)]
    pub compression: Compression,
    /// What the layers kept in `.imgforge/layers` may take; what was used least recently goes first.
    #[serde(default)]
    pub cache_size: Size,
}

/// How layers are compressed that imgforge makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// What every daemon, registry and tool reads.
    #[default]
    Gzip,
    /// Smaller, and faster to make and to unpack. A Docker daemon pulls it from version 23 on.
    Zstd,
}

impl Compression {
    /// Each.
    pub const ALL: [Compression; 2] = [Compression::Gzip, Compression::Zstd];
}

/// An amount of bytes, written as `"500MB"` or `"10GB"` (powers of 1000, as Docker writes them).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

impl Default for Size {
    fn default() -> Self {
        Size(10_000_000_000)
    }
}

/// Where a build secret's value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BuildSecret {
    /// A file of the host.
    File(PathBuf),
    /// An environment variable.
    Env(String),
}

/// A base, one of three kinds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BaseConfig {
    /// A registry reference.
    Image(String),
    /// A folder with an OCI layout.
    Layout(PathBuf),
    /// Debian packages.
    Debian(Debian),
}

/// `debian = { suite, packages }`
#[derive(Debug, Clone, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Debian {
    /// A release's name, `bookworm`.
    pub suite: String,
    /// Packages beyond the minimal system.
    #[serde(default)]
    pub packages: Vec<String>,
}

/// `[images.NAME]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageConfig {
    /// A name in `[bases]`; the Dockerfile gets it as `ARG BASE`.
    pub base: Option<Spanned<String>>,
    /// The Dockerfile, from the project's folder.
    pub dockerfile: Option<Spanned<PathBuf>>,
    /// The engine; `docker` when nothing is said.
    pub engine: Option<Spanned<EngineName>>,
    /// direct: what it is built for; where it is built, or the daemon it runs on, when nothing is said.
    #[serde(default)]
    pub platforms: Vec<Spanned<Platform>>,
    /// The build context, from the project's folder.
    #[serde(default = "here")]
    pub context: PathBuf,
    /// A stage of the Dockerfile, when not the last.
    pub target: Option<String>,
    /// Build arguments of this image.
    #[serde(default)]
    pub args: BTreeMap<String, String>,
    /// The secret files that are baked into it.
    #[serde(default)]
    pub bake: Vec<Bake>,
    /// direct: Python packages.
    pub python: Option<Spanned<PythonConfig>>,
    /// direct: files of the context.
    #[serde(default)]
    pub copy: Vec<Spanned<CopyConfig>>,
    /// direct: files that a command makes.
    #[serde(rename = "static")]
    pub statics: Option<Spanned<StaticConfig>>,
    /// direct: users beyond the base's.
    #[serde(default)]
    pub users: Vec<Spanned<UserConfig>>,
    /// direct: directories that are made.
    #[serde(default)]
    pub directories: Vec<Spanned<DirectoryConfig>>,
    /// direct: what containers start with.
    #[serde(rename = "config")]
    pub settings: Option<Spanned<SettingsConfig>>,
}

impl ImageConfig {
    /// What builds it.
    pub fn engine(&self) -> EngineName {
        self.engine.as_ref().map(|engine| *engine.get_ref()).unwrap_or_default()
    }
}

fn here() -> PathBuf {
    PathBuf::from(".")
}

/// What turns a recipe into an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum EngineName {
    /// The Docker daemon.
    #[default]
    Docker,
    /// No daemon.
    Direct,
}

/// One secret file in an image.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bake {
    /// A name in `[secrets.files]`.
    pub secret: Spanned<String>,
    /// The absolute path in the image.
    pub path: Spanned<String>,
    /// Who owns it.
    #[serde(default)]
    pub owner: Owner,
    /// Its mode; 0400 when nothing is said.
    #[serde(default)]
    pub mode: Mode,
}

/// `UID:GID`, numbers only: a name would need the image's own passwd file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Owner {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// Permission bits, written as an octal string.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Mode(pub u32);

impl Default for Mode {
    fn default() -> Self {
        Mode(0o400)
    }
}

/// `[registry]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegistryConfig {
    /// `oci:PATH`, `ecr:NAME`, or `HOST/NAME`. `{image}` stands for the image's name, `{project}` for the project's.
    pub repository: Spanned<String>,
}

impl Default for RegistryConfig {
    fn default() -> Self {
        RegistryConfig { repository: Spanned::new(0..0, "oci:.imgforge/images".into()) }
    }
}

/// `[deploy]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deploy {
    /// Where to.
    pub target: Spanned<Target>,
    /// Commands that run once per release, in order, before the service is switched.
    #[serde(default)]
    pub once: Vec<OnceConfig>,
    /// How long one step may take; 15 minutes when nothing is said.
    #[serde(default = "fifteen_minutes", deserialize_with = "duration")]
    pub timeout: Duration,
    /// compose: the compose file.
    pub file: Option<PathBuf>,
    /// compose: what to fetch, and to show, when it runs.
    pub url: Option<String>,
    /// ecs: the cluster.
    pub cluster: Option<Spanned<String>>,
    /// ecs: the services, in the order in which they are switched.
    pub service: Option<Services>,
    /// ecs: how the switch is made.
    pub strategy: Option<Spanned<Strategy>>,
}

fn fifteen_minutes() -> Duration {
    Duration::from_secs(15 * 60)
}

/// Where the service runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Target {
    /// The project's compose file, on the daemon.
    Compose,
    /// An ECS service.
    Ecs,
}

/// How ECS switches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// Old and new tasks side by side until the new ones are healthy.
    Rolling,
    /// All traffic at once.
    BlueGreen,
}

/// `[[deploy.once]]`
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct OnceConfig {
    /// What it is called in output.
    pub name: String,
    /// The container (ecs) or service (compose) whose image and settings it runs with.
    pub container: String,
    /// The command and its arguments.
    pub command: Vec<String>,
}

fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    let parsed: jiff::SignedDuration = text
        .parse()
        .map_err(|_| serde::de::Error::custom("a duration such as \"90s\" or \"15m\" is wanted"))?;
    Duration::try_from(parsed).map_err(|_| serde::de::Error::custom("a duration cannot be negative"))
}

/// Deserializes through a parser of strings, whose error is told at the string's place.
macro_rules! from_string {
    ($name:ty, $parse:expr) => {
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                let parse: fn(&str) -> Result<$name, String> = $parse;
                parse(&text).map_err(serde::de::Error::custom)
            }
        }
    };
}

use from_string;

from_string!(Store, |text| {
    if let Some(rest) = text.strip_prefix("s3://") {
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        if bucket.is_empty() {
            return Err("the bucket's name is missing: s3://BUCKET[/prefix]".into());
        }
        return Ok(Store::S3 { bucket: bucket.into(), prefix: prefix.trim_matches('/').into() });
    }
    match text.strip_prefix("dir:") {
        Some("") => Err("the folder is missing: dir:PATH".into()),
        Some(path) => Ok(Store::Dir(path.into())),
        None => Err("a secret store is \"s3://BUCKET[/prefix]\" or \"dir:PATH\"".into()),
    }
});

from_string!(BuildSecret, |text| match text.strip_prefix("env:") {
    Some("") => Err("the variable's name is missing: env:NAME".into()),
    Some(name) => Ok(BuildSecret::Env(name.into())),
    None => Ok(BuildSecret::File(text.into())),
});

from_string!(Owner, |text| {
    let number = |part: &str| part.parse::<u32>().ok();
    let parsed = text.split_once(':').and_then(|(uid, gid)| Some((number(uid)?, number(gid)?)));
    let (uid, gid) = parsed.ok_or("an owner is \"UID:GID\" in numbers, such as \"1000:1000\"")?;
    Ok(Owner { uid, gid })
});

from_string!(Size, |text| {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor = match unit.trim() {
        "kB" | "KB" => Some(1_000),
        "MB" => Some(1_000_000),
        "GB" => Some(1_000_000_000),
        "TB" => Some(1_000_000_000_000),
        _ => None,
    };
    let bytes = factor.and_then(|factor: u64| number.parse::<u64>().ok()?.checked_mul(factor));
    Ok(Size(bytes.ok_or("a size is a number with kB, MB, GB or TB, such as \"10GB\"")?))
});

from_string!(Mode, |text| {
    match u32::from_str_radix(text, 8) {
        Ok(mode) if mode <= 0o777 && text.len() >= 3 => Ok(Mode(mode)),
        _ => Err("a mode is an octal string from \"000\" to \"0777\", such as \"0400\"".into()),
    }
});

impl<'de> Deserialize<'de> for BaseConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Kinds {
            image: Option<String>,
            layout: Option<PathBuf>,
            debian: Option<Debian>,
        }
        let kinds = Kinds::deserialize(deserializer)?;
        match (kinds.image, kinds.layout, kinds.debian) {
            (Some(image), None, None) => Ok(BaseConfig::Image(image)),
            (None, Some(layout), None) => Ok(BaseConfig::Layout(layout)),
            (None, None, Some(debian)) => Ok(BaseConfig::Debian(debian)),
            _ => Err(serde::de::Error::custom("a base has exactly one of: image, layout, debian")),
        }
    }
}
