//! What turns a recipe into an image without secrets.
//!
//! Invariant: no secret file of the project is ever given to an engine. [`Engine::load`] gets the baked image, after the
//! build.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use async_trait::async_trait;
use serde::Serialize;

use crate::base::Base;
use crate::config::EngineName;
use crate::config::direct::{
    CopyConfig, DirectoryConfig, PythonConfig, SettingsConfig, StaticConfig, UserConfig,
};
use crate::digest::Digest;
use crate::error::Result;
use crate::image::Image;
use crate::image::reference::{Repository, Tag};
use crate::layer::bake::Folders;
use crate::progress::Reporter;
use crate::secret::Secret;

pub mod by_image;
pub mod cache;
pub mod context;
pub mod daemon;
pub mod direct;
pub mod docker;
pub mod dockerignore;
pub mod pipe;

/// How to build one image.
#[derive(Debug, Clone)]
pub struct Recipe {
    /// The project's name.
    pub project: String,
    /// The image's name in imgforge.toml.
    pub image: String,
    /// Given to the Dockerfile as `ARG BASE`.
    pub base: Option<Base>,
    /// The Dockerfile.
    pub dockerfile: PathBuf,
    /// The build context's folder.
    pub context: PathBuf,
    /// Paths below `context` (relative to it) that never get into it, whatever .dockerignore says.
    pub withheld: Vec<PathBuf>,
    /// A stage, when not the last.
    pub target: Option<String>,
    /// Build arguments.
    pub args: BTreeMap<String, String>,
    /// BuildKit secret mounts, by id.
    pub secrets: BTreeMap<String, Secret>,
    /// What stands in the place of the Dockerfile: the image is for engine `direct`.
    pub direct: Option<DirectRecipe>,
}

/// What an image of engine `direct` is made of.
#[derive(Debug, Clone, Default)]
pub struct DirectRecipe {
    /// Which of the image's platforms it is, where imgforge.toml names them.
    pub platform: Option<String>,
    /// Python packages.
    pub python: Option<PythonConfig>,
    /// The file that lists them, from anywhere.
    pub requirements: Option<PathBuf>,
    /// Files of the context, each a layer.
    pub copy: Vec<CopyConfig>,
    /// Files that a command makes.
    pub statics: Option<StaticConfig>,
    /// Users beyond the base's.
    pub users: Vec<UserConfig>,
    /// Directories that are made.
    pub directories: Vec<DirectoryConfig>,
    /// What containers start with.
    pub settings: SettingsConfig,
    /// Where secret files will be, not what is in them: of a module in such a place nothing is compiled.
    pub baked: Vec<String>,
}

/// An image without secrets, as the engine holds it.
#[derive(Debug, Clone)]
pub struct Built {
    /// The image's name in imgforge.toml.
    pub image: String,
    /// What built it.
    pub engine: EngineName,
    /// The engine's id for it: on a daemon with the classic store, the config's digest.
    pub id: Digest,
    /// The base that it was built on, where it is local: its layers need not be compressed again.
    pub base: Option<Base>,
    /// Whether the engine had this very image before.
    pub reused: bool,
}

/// A user and a password for a registry; for the daemon's own transfers.
#[derive(Debug, Clone)]
pub struct Login {
    /// The user.
    pub username: String,
    /// The password or token.
    pub password: Secret,
}

/// The user name that stands for an identity token in place of a password (Docker's credential helper protocol).
const IDENTITY_TOKEN_USER: &str = "<token>";

impl Login {
    /// An identity token that a credential helper gave.
    pub fn identity_token(token: Secret) -> Self {
        Login { username: IDENTITY_TOKEN_USER.into(), password: token }
    }

    /// Whether the password is an identity token and the user name only says so.
    pub fn is_identity_token(&self) -> bool {
        self.username == IDENTITY_TOKEN_USER
    }
}

/// Logins by registry host.
pub type Logins = BTreeMap<String, Login>;

/// What an engine says of itself.
#[derive(Debug, Clone, Serialize)]
pub struct EngineInfo {
    /// `docker 20.10.24 (API 1.41, BuildKit, overlay2)`
    pub description: String,
    /// Where it was found: `unix:///var/run/docker.sock`.
    pub address: String,
    /// `linux/amd64`
    pub platform: String,
}

/// What turns a recipe into an image.
#[async_trait]
pub trait Engine: Send + Sync {
    /// Whether it is there and can build.
    ///
    /// # Errors
    /// [`crate::error::Kind::Refused`] with where it was looked for.
    async fn check(&self) -> Result<EngineInfo>;

    /// Builds one image. May be called for several at once.
    ///
    /// # Errors
    /// A failing step gives the step, its own last lines and its exit code.
    async fn build(&self, recipe: &Recipe, logins: &Logins, progress: &Reporter) -> Result<Built>;

    /// The built image as a value, every blob in a file of the layer cache.
    async fn export(&self, built: &Built, progress: &Reporter) -> Result<Image>;

    /// What those of `wanted` are like that the built image has (paths without a slash at either end). Links are left out,
    /// and what is behind them.
    async fn folders(&self, built: &Built, wanted: &BTreeSet<String>) -> Result<Folders>;

    /// Whether the engine can send the built image to the registry at `host` by itself, which spares taking it out first.
    fn can_push_to(&self, built: &Built, host: &str) -> bool;

    /// Sends the built image to `repository:tag` by itself.
    async fn push(
        &self,
        built: &Built,
        repository: &Repository,
        tag: &Tag,
        login: Option<&Login>,
        progress: &Reporter,
    ) -> Result<()>;

    /// Gives the engine an image whose lower layers it has (those of `below`): only the layers above them are sent.
    /// Returns the engine's id for it. Nothing is sent when it is there already.
    async fn load(&self, image: &Image, below: Option<&Built>, progress: &Reporter) -> Result<Digest>;
}
