//! The composition root: the only place that names concrete backends. Everything else works with the traits.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use aws_config::SdkConfig;

use crate::config::{BaseConfig, BuildSecret, Config, EngineName, Store, Target};
use crate::deploy::Deployer;
use crate::deploy::compose::ComposeDeployer;
use crate::deploy::ecs::{self, EcsConfig, EcsDeployer, Pace};
use crate::engine::by_image::ByImage;
use crate::engine::daemon::Daemon;
use crate::engine::direct::DirectEngine;
use crate::engine::docker::DockerEngine;
use crate::engine::{Engine, Login, Logins};
use crate::error::{Error, Result};
use crate::image::Image;
use crate::image::reference::{DOCKER_HUB, Reference, Repository, Tag, Version};
use crate::plan::{self, Request, Source, Start, Until};
use crate::registry::auth::docker_config::DockerConfig;
use crate::registry::auth::{Environment, Known, LoginChain, normal_host};
use crate::registry::ecr::{Ecr, EcrConfig, EcrLogins};
use crate::registry::layout::Layout;
use crate::registry::remote::retry::RetryPolicy;
use crate::registry::remote::transport::Http;
use crate::registry::remote::{Remote, RemoteConfig};
use crate::registry::{Registry, read};
use crate::release::bases::BaseSource;
use crate::release::source::source;
use crate::release::{self, Parts};
use crate::secret::dir::DirStore;
use crate::secret::ecs_config::{self, RegistryLogin};
use crate::secret::pinned::{self, SaltPolicy, Wanted};
use crate::secret::s3::S3Store;
use crate::secret::{self, Secret, SecretSet, SecretStore};

mod checks;

pub use checks::checks;

/// Looks up an environment variable.
pub type Lookup<'a> = &'a (dyn Fn(&str) -> Option<String> + Sync);

/// The secret file whose auth data can serve as the registry login.
const ECS_CONFIG: &str = "ecs_config";
/// Where ECR's images are when not at the host that it names: a VPC endpoint, a proxy.
const ECR_REGISTRY: &str = "IMGFORGE_ECR_REGISTRY";

/// What a command is going to use, so that nothing else is asked for.
#[derive(Debug, Clone)]
pub struct Needs {
    start: Start,
    until: Option<Until>,
    /// These images only; all when empty.
    images: Vec<String>,
    salt: SaltPolicy,
    /// Secret files that are read at another version than their newest.
    pins: BTreeMap<String, secret::Version>,
}

impl Needs {
    /// What a request needs when it is going to be done.
    pub fn to_do(request: &Request) -> Self {
        Needs { salt: SaltPolicy::DrawIfMissing, ..Needs::to_look(request) }
    }

    /// What a request needs when it is only looked at: nothing is written anywhere.
    pub fn to_look(request: &Request) -> Self {
        Needs {
            start: request.start,
            until: Some(request.until),
            images: request.images.clone(),
            salt: SaltPolicy::ReadOnly,
            pins: BTreeMap::new(),
        }
    }

    /// The deployer alone.
    pub fn deployer() -> Self {
        Needs {
            start: Start::Registry,
            until: None,
            images: Vec::new(),
            salt: SaltPolicy::ReadOnly,
            pins: BTreeMap::new(),
        }
    }

    /// What a rotation needs that gives the secret files in `pins` those versions.
    pub fn to_rotate(until: Until, pins: BTreeMap<String, secret::Version>) -> Self {
        Needs { until: Some(until), salt: SaltPolicy::DrawIfMissing, pins, ..Needs::deployer() }
    }

    /// Whether an image is built on the Docker daemon, or run there.
    fn daemon(&self, config: &Config) -> bool {
        let wanted = |name: &String| self.images.is_empty() || self.images.contains(name);
        let built = self.start == Start::Sources
            && config.images.iter().any(|(name, image)| wanted(name) && image.engine() == EngineName::Docker);
        built || (release::is_on_daemon(config) && matches!(self.until, None | Some(Until::Deploy)))
    }

    fn wants_secrets(&self) -> bool {
        matches!(self.until, Some(Until::Push | Until::Deploy))
    }

    /// The secret files that images hold.
    fn secrets(&self, config: &Config) -> Vec<String> {
        if !self.wants_secrets() {
            return Vec::new();
        }
        // Of all images, whichever are asked for: the release's id stands for all secret versions.
        let bakes = config.images.values().flat_map(|image| &image.bake);
        let mut names: Vec<String> = bakes.map(|bake| bake.secret.get_ref().clone()).collect();
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
    let (store, secrets) = secrets(&config, &needs).await?;
    let logins = logins(&config, &secrets, lookup).await?;
    let cache = release::cache(&config);
    let docker = match needs.daemon(&config) {
        true => Some(DockerEngine::new(daemon(lookup)?, cache.clone())),
        false => None,
    };
    let engine: Arc<dyn Engine> = Arc::new(ByImage::new(DirectEngine::new(cache), docker));
    let (registry, deployer) = match needs.until {
        // A build needs no account anywhere.
        Some(Until::Build) => (None, None),
        _ => {
            let registry = registry(&config, logins.clone(), lookup).await?;
            let deployer = deployer(&config, registry.as_ref(), lookup, &logins).await?;
            (Some(registry), deployer)
        }
    };
    let bases = bases(&config, &logins)?;
    let build_secrets = build_secrets(&config, &needs, lookup)?;
    Ok(Parts { config, secrets, store, bases, engine, registry, deployer, build_secrets })
}

/// The secret store of a configuration.
///
/// # Errors
/// It has no `[secrets]`.
pub async fn store(config: &Config) -> Result<Arc<dyn SecretStore>> {
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

async fn secrets(config: &Config, needs: &Needs) -> Result<(Option<Arc<dyn SecretStore>>, SecretSet)> {
    let mut names = needs.secrets(config);
    let login = config.secrets.as_ref().and_then(|secrets| secrets.files.get(ECS_CONFIG));
    let login = login.filter(|_| needs.wants_secrets() && !names.iter().any(|name| name == ECS_CONFIG));
    if names.is_empty() && login.is_none() {
        return Ok((None, SecretSet::none()));
    }
    let store = store(config).await?;
    // One that no image holds is there for its login, and may be missing.
    if let Some(object) = login
        && store.get(object, None).await?.is_some()
    {
        names.push(ECS_CONFIG.to_owned());
    }
    if let Some(name) = needs.pins.keys().find(|name| !names.contains(name)) {
        return Err(Error::config(format!("no image holds a secret file {name:?}"))
            .help(format!("those that images hold: {}", names.join(", "))));
    }
    let wanted = names.iter().map(|name| {
        let wanted = Wanted::named(config, name);
        match needs.pins.get(name) {
            Some(version) => wanted.at(version.clone()),
            None => wanted,
        }
    });
    let wanted: Vec<Wanted> = wanted.collect();
    let secrets = pinned::read(store.as_ref(), &wanted, needs.salt).await?;
    Ok((Some(store), secrets))
}

/// Where registry logins come from, first that is there (DESIGN: variables, Docker config, ecs.config).
async fn logins(config: &Config, secrets: &SecretSet, lookup: Lookup<'_>) -> Result<LoginChain> {
    let host = match Destination::of(config) {
        Destination::Remote(pattern) => Some(host_of(pattern)?),
        Destination::Layout(_) | Destination::Ecr(_) => None,
    };
    let mut chain = docker_logins(host.as_deref(), lookup)?;
    if config.bases.values().any(|base| from_ecr(base.get_ref())) {
        chain = chain.then(EcrLogins::new(aws().await));
    }
    let Some(file) = secrets.files.get(ECS_CONFIG) else { return Ok(chain) };
    let found = ecs_config::parse(&file.value, &file.object)?.logins();
    let login = |login: RegistryLogin| Login { username: login.username, password: login.password };
    let found: Logins = found.into_iter().map(|(host, found)| (host, login(found))).collect();
    Ok(chain.then(Known::new("the auth data in ecs.config", found)))
}

fn from_ecr(base: &BaseConfig) -> bool {
    let BaseConfig::Image(reference) = base else { return false };
    reference
        .split('/')
        .next()
        .is_some_and(|host| host.contains(".dkr.ecr") && host.contains(".amazonaws.com"))
}

fn docker_logins(host: Option<&str>, lookup: Lookup<'_>) -> Result<LoginChain> {
    Ok(LoginChain::none().then(Environment::new(lookup, host)?).then(DockerConfig::new(lookup)))
}

/// What the variables or `docker login` have for a registry. The variables are Docker Hub's first of all: for another
/// registry they are asked last.
///
/// # Errors
/// A Docker config that cannot be read.
pub async fn docker_login(host: &str, lookup: Lookup<'_>) -> Result<Option<Login>> {
    let variables = Environment::new(lookup, Some(host))?;
    let stored = LoginChain::none().then(DockerConfig::new(lookup));
    let chain =
        if normal_host(host) == DOCKER_HUB { stored.first(variables) } else { stored.then(variables) };
    Ok(chain.find(host).await?.map(|found| found.login))
}

fn daemon(lookup: Lookup<'_>) -> Result<Daemon> {
    let home = || lookup("HOME").or_else(|| lookup("USERPROFILE")).unwrap_or_default();
    let folder = lookup("DOCKER_CONFIG").filter(|folder| !folder.is_empty());
    let folder = folder.map_or_else(|| PathBuf::from(home()).join(".docker"), PathBuf::from);
    Daemon::connect(lookup, &folder)
}

/// What `[registry] repository` means.
enum Destination<'c> {
    Layout(&'c str),
    Ecr(&'c str),
    Remote(&'c str),
}

impl<'c> Destination<'c> {
    fn of(config: &'c Config) -> Self {
        let written = config.registry.repository.get_ref();
        match written.split_once(':') {
            Some(("oci", path)) => Destination::Layout(path),
            Some(("ecr", name)) => Destination::Ecr(name),
            _ => Destination::Remote(written),
        }
    }
}

fn host_of(pattern: &str) -> Result<String> {
    let sample = pattern.replace("{image}", "image").replace("{project}", "project");
    Ok(sample.parse::<Repository>()?.host)
}

async fn registry(config: &Config, logins: LoginChain, lookup: Lookup<'_>) -> Result<Arc<dyn Registry>> {
    let project = config.project.get_ref();
    Ok(match Destination::of(config) {
        Destination::Layout(path) => Arc::new(Layout::new(&config.root, path, project)),
        Destination::Ecr(name) => {
            let ecr = EcrConfig {
                pattern: name.to_owned(),
                project: project.clone(),
                registry: lookup(ECR_REGISTRY).filter(|host| !host.is_empty()),
                logins,
                http: Http::new(),
                retry: RetryPolicy::default(),
            };
            Arc::new(Ecr::connect(&aws().await, ecr).await?)
        }
        Destination::Remote(pattern) => Arc::new(Remote::new(RemoteConfig::new(pattern, project, logins))?),
    })
}

async fn deployer(
    config: &Config,
    registry: &dyn Registry,
    lookup: Lookup<'_>,
    logins: &LoginChain,
) -> Result<Option<Arc<dyn Deployer>>> {
    let Some(deploy) = &config.deploy else { return Ok(None) };
    Ok(Some(match deploy.target.get_ref() {
        Target::Compose => {
            let mut known = Logins::new();
            if let Destination::Remote(pattern) = Destination::of(config) {
                let host = host_of(pattern)?;
                if let Some(found) = logins.find(&host).await? {
                    known.insert(host, found.login);
                }
            }
            Arc::new(ComposeDeployer::new(config, daemon(lookup)?, known))
        }
        Target::Ecs => {
            let missing = || Error::config("target \"ecs\" needs a cluster and a service");
            let cluster = deploy.cluster.as_ref().ok_or_else(missing)?.get_ref();
            let services = deploy.service.as_ref().ok_or_else(missing)?;
            let mut repositories = BTreeMap::new();
            for image in config.images.keys() {
                repositories.insert(image.clone(), registry.repository(image)?);
            }
            let sdk = aws().await;
            let mut deployers = Vec::new();
            for service in services.names() {
                let ecs = EcsConfig {
                    cluster: cluster.clone(),
                    service: service.to_owned(),
                    timeout: deploy.timeout,
                    strategy: deploy.strategy.as_ref().map(|strategy| *strategy.get_ref()),
                    repositories: repositories.clone(),
                    pace: Pace::default(),
                };
                deployers.push(EcsDeployer::new(&sdk, ecs)?);
            }
            if deployers.len() > 1 {
                return Ok(Some(Arc::new(ecs::together(deployers, repositories))));
            }
            Arc::new(deployers.pop().ok_or_else(missing)?)
        }
    }))
}

/// The compose project of a configuration, for `up` and `down`.
///
/// # Errors
/// The target is another one.
pub fn compose(config: &Config, lookup: Lookup<'_>) -> Result<ComposeDeployer> {
    match &config.deploy {
        Some(deploy) if *deploy.target.get_ref() == Target::Compose => {
            Ok(ComposeDeployer::new(config, daemon(lookup)?, Logins::new()))
        }
        Some(_) => {
            Err(Error::config(format!("environment {:?} is not deployed with compose", config.environment))
                .help("up and down are for the compose target: leave out -e, or name another environment"))
        }
        None => Err(plan::no_deploy()),
    }
}

fn bases(config: &Config, logins: &LoginChain) -> Result<BTreeMap<String, BaseSource>> {
    let reader: Arc<dyn Registry> = Arc::new(Remote::new(RemoteConfig::reader(logins.clone()))?);
    let source = |base: &BaseConfig| -> Result<BaseSource> {
        Ok(match base {
            BaseConfig::Image(reference) => {
                BaseSource::Registry { reference: reference.parse()?, registry: Arc::clone(&reader) }
            }
            BaseConfig::Layout(path) => BaseSource::Layout(path.clone()),
            BaseConfig::Debian(packages) => BaseSource::Debian(packages.clone()),
        })
    };
    config.bases.iter().map(|(name, base)| Ok((name.clone(), source(base.get_ref())?))).collect()
}

fn build_secrets(config: &Config, needs: &Needs, lookup: Lookup<'_>) -> Result<BTreeMap<String, Secret>> {
    if needs.start == Start::Registry {
        return Ok(BTreeMap::new());
    }
    let read = |(id, from): (&String, &BuildSecret)| {
        let value = match from {
            BuildSecret::File(path) => fs_err::read(config.path(path)).map_err(|error| {
                Error::config(format!("build secret {id:?} cannot be read")).because(error)
            })?,
            BuildSecret::Env(name) => lookup(name)
                .ok_or_else(|| {
                    Error::config(format!(
                        "build secret {id:?} wants the environment variable {name}, which is not set"
                    ))
                    .help(format!("export {name}=…"))
                })?
                .into_bytes(),
        };
        Ok((id.clone(), Secret::new(value)))
    };
    config.build.secrets.iter().map(read).collect()
}

/// An image that a command names.
pub struct ImageTarget {
    /// Where it is.
    pub registry: Arc<dyn Registry>,
    /// Its repository.
    pub repository: Repository,
    /// Which one.
    pub version: Version,
}

impl ImageTarget {
    /// The image; of an index that for `platform`.
    ///
    /// # Errors
    /// The registry's; there is none.
    pub async fn read(&self, platform: &str) -> Result<Image> {
        let image = read::read(self.registry.as_ref(), &self.repository, &self.version, platform).await?;
        image.ok_or_else(|| {
            Error::failed(format!("there is no image {} {}", self.repository, self.version))
                .help("check the name; `imgforge push` puts this commit's images there")
        })
    }
}

/// What `imgforge inspect` is asked for: a name in imgforge.toml, a reference, or `oci:PATH[:TAG|@DIGEST]`. The
/// configuration is read only when it is needed.
///
/// # Errors
/// None of these.
pub async fn image_target(
    text: &str,
    config: impl Fn() -> Result<Config>,
    lookup: Lookup<'_>,
) -> Result<ImageTarget> {
    if let Some(rest) = text.strip_prefix("oci:") {
        let (path, version) = split_layout(rest)?;
        let (folder, image) = path.rsplit_once('/').unwrap_or((".", path));
        // References that a release prints start at the project's folder.
        let root = config().map_or_else(|_| PathBuf::from("."), |config| config.root);
        let layout = Layout::new(root, folder, "");
        let repository = layout.repository(image)?;
        return Ok(ImageTarget { registry: Arc::new(layout), repository, version });
    }
    if text.contains(['/', ':', '@']) {
        let reference: Reference = text.parse()?;
        let config = config().ok();
        // DOCKER_USER is for Docker Hub and the project's registry: it is shown to no other.
        let ours = config.as_ref().and_then(|config| match Destination::of(config) {
            Destination::Remote(pattern) => host_of(pattern).ok(),
            Destination::Layout(_) | Destination::Ecr(_) => None,
        });
        let logins = docker_logins(ours.as_deref(), lookup)?;
        // The project's own registry knows logins that others do not (ECR's token, a layout on disk).
        if let Some(config) = config {
            let registry = registry(&config, logins.clone(), lookup).await?;
            let ours = config.images.keys().any(|image| {
                registry.repository(image).is_ok_and(|repository| repository == reference.repository)
            });
            if ours {
                let (repository, version) = (reference.repository.clone(), reference.version());
                return Ok(ImageTarget { registry, repository, version });
            }
        }
        let registry = Arc::new(Remote::new(RemoteConfig::reader(logins))?);
        let (repository, version) = (reference.repository.clone(), reference.version());
        return Ok(ImageTarget { registry, repository, version });
    }
    let config = config()?;
    let request = Request { start: Start::Registry, until: Until::Push, images: vec![text.to_owned()] };
    let _ = plan::select(&config, &request)?;
    let (_, secrets) = secrets(&config, &Needs::to_look(&request)).await?;
    let registry = registry(&config, logins(&config, &secrets, lookup).await?, lookup).await?;
    let repository = registry.repository(text)?;
    let versions = secrets.version_texts();
    let source = source(&config.root).await;
    if !matches!(source, Source::Commit { .. }) {
        return Err(Error::refused(
            "the sources are in no commit, so there is no tag to find their image by",
        )
        .help(format!("name it by digest, as `imgforge push` printed it: {repository}@sha256:…")));
    }
    let tag: Tag = plan::release_id(&source, &versions).parse()?;
    Ok(ImageTarget { registry, repository, version: Version::Tag(tag) })
}

/// `PATH`, `PATH:TAG` or `PATH@DIGEST`.
fn split_layout(text: &str) -> Result<(&str, Version)> {
    if let Some((path, digest)) = text.split_once('@') {
        let path = path.rsplit_once(':').filter(|(_, tag)| !tag.contains('/')).map_or(path, |(path, _)| path);
        return Ok((path, Version::Digest(digest.parse()?)));
    }
    match text.rsplit_once(':') {
        Some((path, tag)) if !tag.contains('/') => Ok((path, Version::Tag(tag.parse()?))),
        _ => Ok((text, Version::Tag("latest".parse()?))),
    }
}
