//! The composition root: the only place that names concrete backends. Everything else works with the traits.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use aws_config::SdkConfig;

use crate::config::{BaseConfig, BuildSecret, Config, Store, Target};
use crate::deploy::Deployer;
use crate::deploy::compose::{ComposeConfig, ComposeDeployer};
use crate::deploy::ecs::{EcsConfig, EcsDeployer};
use crate::engine::daemon::Daemon;
use crate::engine::docker::DockerEngine;
use crate::engine::{Engine, Login, Logins};
use crate::error::{Error, Result};
use crate::image::reference::{Reference, Repository, Tag, Version};
use crate::plan::{self, Request, Source, Until};
use crate::registry::Registry;
use crate::registry::auth::LoginChain;
use crate::registry::ecr::Ecr;
use crate::registry::layout::Layout;
use crate::registry::remote::{Remote, RemoteConfig};
use crate::release::Parts;
use crate::release::bases::BaseSource;
use crate::release::source::source;
use crate::secret::dir::DirStore;
use crate::secret::pinned::{self, SaltPolicy};
use crate::secret::s3::S3Store;
use crate::secret::{Secret, SecretSet, SecretStore, ecs_config};

mod checks;

pub use checks::checks;

/// Looks up an environment variable.
pub type Lookup<'a> = &'a (dyn Fn(&str) -> Option<String> + Sync);

/// The secret file whose auth data can serve as the registry login.
const ECS_CONFIG: &str = "ecs_config";

/// What a command is going to use, so that nothing else is asked for.
#[derive(Debug, Clone)]
pub struct Needs {
    until: Option<Until>,
    images: Vec<String>,
}

impl Needs {
    /// What a request needs.
    pub fn for_request(request: &Request) -> Self {
        Needs { until: Some(request.until), images: request.images.clone() }
    }

    /// The deployer alone.
    pub fn deployer() -> Self {
        Needs { until: None, images: Vec::new() }
    }

    /// The secret files to read: what the images bake, and the one with the login.
    fn secrets(&self, config: &Config) -> Vec<String> {
        if !matches!(self.until, Some(Until::Push | Until::Deploy)) {
            return Vec::new();
        }
        let wanted = |name: &String| self.images.is_empty() || self.images.contains(name);
        let images = config.images.iter().filter(|(name, _)| wanted(name));
        let mut names: Vec<String> =
            images.flat_map(|(_, image)| image.bake.iter().map(|bake| bake.secret.get_ref().clone())).collect();
        let files = config.secrets.as_ref().map(|secrets| &secrets.files);
        if files.is_some_and(|files| files.contains_key(ECS_CONFIG)) {
            names.push(ECS_CONFIG.to_owned());
        }
        names.sort();
        names.dedup();
        names
    }
}

/// Makes the parts of a pipeline. The secret files come first: the cheapest check, and one of them may hold the login
/// that the registry needs.
///
/// # Errors
/// A secret that is missing or wrong, a backend that the configuration does not allow for.
pub async fn connect(config: Config, needs: Needs, lookup: Lookup<'_>) -> Result<Parts> {
    let secrets = secrets(&config, &needs, lookup).await?;
    let logins = registry_logins(&config, &secrets, lookup)?;
    let daemon = daemon(lookup)?;
    let engine: Arc<dyn Engine> = Arc::new(DockerEngine::new(daemon.clone(), &config.work_dir()));
    let registry = registry(&config, logins.clone(), lookup).await?;
    let deployer = deployer(&config, daemon, lookup).await?;
    let bases = bases(&config, &logins)?;
    let build_secrets = build_secrets(&config, &needs, lookup)?;
    Ok(Parts { config, secrets, bases, engine, registry, deployer, build_secrets })
}

/// The secret store of a configuration.
///
/// # Errors
/// It has no `[secrets]`, or AWS cannot be configured.
pub async fn store(config: &Config, _lookup: Lookup<'_>) -> Result<Arc<dyn SecretStore>> {
    let secrets = config.secrets.as_ref().ok_or_else(|| {
        Error::config("imgforge.toml does not say where secrets are")
            .help("add [secrets] store = \"dir:secrets\" or \"s3://BUCKET\"")
    })?;
    Ok(match &secrets.store {
        Store::Dir(path) => {
            Arc::new(DirStore::new(config.path(path)).named(format!("dir:{}", path.display())))
        }
        Store::S3 { bucket, prefix } => Arc::new(S3Store::new(&aws().await, bucket, prefix)),
    })
}

/// AWS as the SDK's own chain finds it.
async fn aws() -> SdkConfig {
    aws_config::load_defaults(aws_config::BehaviorVersion::latest()).await
}

async fn secrets(config: &Config, needs: &Needs, lookup: Lookup<'_>) -> Result<SecretSet> {
    let names = needs.secrets(config);
    if names.is_empty() {
        return Ok(SecretSet::empty());
    }
    let store = store(config, lookup).await?;
    let wanted: Vec<pinned::Wanted> =
        pinned::Wanted::baked(config).into_iter().filter(|wanted| names.contains(&wanted.name)).collect();
    pinned::read(store.as_ref(), &wanted, SaltPolicy::CreateIfMissing).await
}

/// Where registry logins come from, first that is there.
fn registry_logins(config: &Config, secrets: &SecretSet, lookup: Lookup<'_>) -> Result<LoginChain> {
    let host = match config.registry.repository.get_ref().split_once(':') {
        Some(("oci" | "ecr", _)) => None,
        _ => pattern_host(config),
    };
    let chain = docker_logins(host.as_deref(), lookup)?;
    match secrets.files.get(ECS_CONFIG) {
        Some(file) => Ok(chain.then(crate::registry::auth::Known::new("ecs.config", ecs_config::logins(&file.value)?))),
        None => Ok(chain),
    }
}

fn docker_logins(host: Option<&str>, lookup: Lookup<'_>) -> Result<LoginChain> {
    let environment = crate::registry::auth::Environment::new(lookup, host)?;
    let docker = crate::registry::auth::docker_config::DockerConfig::new(lookup);
    Ok(LoginChain::none().then(environment).then(docker))
}
