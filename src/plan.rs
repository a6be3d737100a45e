//! What a run is going to do: pure, from the configuration, what was asked for, and what was observed.
//!
//! Invariant (contract 4): no I/O here, and nothing is changed anywhere before a [`Plan`] exists. A dry run prints it and
//! ends.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::config::{Config, EngineName, ImageConfig, OnceConfig, Target};
use crate::error::{Error, Result};

/// How far a run goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Until {
    /// Images are built, without secrets, and stay with the engine.
    Build,
    /// Secrets are baked and images are in the registry.
    Push,
    /// The service runs them.
    Deploy,
}

/// Where the images of a run come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// They are built.
    Sources,
    /// They are in the registry. No daemon is needed to find them.
    Registry,
}

/// What was asked for.
#[derive(Debug, Clone)]
pub struct Request {
    /// Where to begin.
    pub start: Start,
    /// How far to go.
    pub until: Until,
    /// These images only; all when empty.
    pub images: Vec<String>,
}

/// What version control says about the sources.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum Source {
    /// A commit, and nothing changed since.
    Commit {
        /// Its full id.
        id: String,
    },
    /// A commit, and something changed since.
    Changed {
        /// The commit's full id.
        id: String,
    },
    /// Not under Git.
    Unknown,
}

/// What was seen before anything is changed.
#[derive(Debug, Clone)]
pub struct Observed {
    /// The sources.
    pub source: Source,
    /// The secret files' versions, by name.
    pub secrets: BTreeMap<String, String>,
    /// Where each base comes from and whether it is ready, by name.
    pub bases: BTreeMap<String, PlannedBase>,
    /// Where each image goes, by name.
    pub repositories: BTreeMap<String, String>,
    /// What runs now, in the deployer's words.
    pub running: Option<PlannedDeploy>,
}

/// A base of the plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlannedBase {
    /// `docker.io/library/python@sha256:…`, `layout path/to/layout`, `debian bookworm + python3`.
    pub source: String,
    /// Whether it must be made first.
    pub ready: bool,
}

/// A secret file of the plan: everything but its value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlannedSecret {
    /// Its name in imgforge.toml.
    pub secret: String,
    /// The version that is baked.
    pub version: String,
    /// Where it goes.
    pub path: String,
    /// `1000:1000`
    pub owner: String,
    /// `0400`
    pub mode: String,
}

/// An image of the plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlannedImage {
    /// Its name.
    pub image: String,
    /// What builds it.
    pub engine: EngineName,
    /// For what; the engine's own platform when none is named.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub platforms: Vec<String>,
    /// From what.
    pub dockerfile: Option<String>,
    /// On what; a name in `bases`.
    pub base: Option<String>,
    /// With which secret files.
    pub bake: Vec<PlannedSecret>,
    /// Where it goes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
}

/// The deployment of the plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlannedDeploy {
    /// `ecs service shop/web`
    pub target: String,
    /// What runs there now.
    pub running: String,
    /// Each service, in the order in which they are switched; empty when there is one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<PlannedService>,
    /// What runs once before the switch.
    pub once: Vec<String>,
}

/// One of several services of the plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlannedService {
    /// `ecs service shop/web`
    pub target: String,
    /// What runs there now.
    pub running: String,
}

impl fmt::Display for PlannedDeploy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.services.is_empty() {
            return writeln!(f, "  deploy {} (runs now: {})", self.target, self.running);
        }
        self.services.iter().try_for_each(|PlannedService { target, running }| {
            writeln!(f, "  deploy {target} (runs now: {running})")
        })
    }
}

/// What a run is going to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// Git commit plus secret versions.
    pub release: String,
    /// The project.
    pub project: String,
    /// The environment.
    pub environment: String,
    /// How far it goes.
    pub until: Until,
    /// The sources.
    pub source: Source,
    /// The bases that its images need, by name.
    pub bases: BTreeMap<String, PlannedBase>,
    /// The images, by name.
    pub images: Vec<PlannedImage>,
    /// The deployment, when it goes that far.
    pub deploy: Option<PlannedDeploy>,
}

impl Plan {
    /// Plans a run.
    ///
    /// # Errors
    /// [`crate::error::Kind::Config`] when `request` names an image that is not there or asks for what is not configured.
    pub fn new(config: &Config, request: &Request, observed: Observed) -> Result<Plan> {
        let images = select(config, request)?
            .map(|name| planned_image(config, request, &observed, name))
            .collect::<Result<Vec<_>>>()?;
        let used: Vec<&String> = images.iter().filter_map(|image| image.base.as_ref()).collect();
        let mut bases = observed.bases;
        bases.retain(|name, _| used.contains(&name));
        let deploy = match request.until {
            Until::Deploy => Some(observed.running.ok_or_else(no_deploy)?),
            Until::Build | Until::Push => None,
        };
        Ok(Plan {
            release: release_id(&observed.source, &observed.secrets),
            project: config.project.get_ref().clone(),
            environment: config.environment.clone(),
            until: request.until,
            source: observed.source,
            bases,
            images,
            deploy,
        })
    }

    /// The tag of the release's images: its id. `None` when the sources are in no commit; such an image is tagged by its
    /// own digest, since its release id would name more than one.
    pub fn tag(&self) -> Option<&str> {
        match self.source {
            Source::Commit { .. } => Some(&self.release),
            Source::Changed { .. } | Source::Unknown => None,
        }
    }
}

/// There is nothing to deploy to.
pub fn no_deploy() -> Error {
    Error::config("imgforge.toml does not say where to deploy")
        .help("add [deploy] target = \"compose\" or \"ecs\", or stop before it with `imgforge push`")
}

/// The names of the images that a request is about, in order.
///
/// # Errors
/// A name that is not in `[images]`, or there are none at all.
pub fn select<'c>(config: &'c Config, request: &Request) -> Result<impl Iterator<Item = &'c String>> {
    if config.images.is_empty() {
        return Err(Error::config("imgforge.toml has no images").help("add [images.web] with a dockerfile"));
    }
    for name in &request.images {
        if !config.images.contains_key(name) {
            let known: Vec<&str> = config.images.keys().map(String::as_str).collect();
            let help = match crate::config::nearest(name, known.iter().copied()) {
                Some(near) => format!("did you mean {near:?}?"),
                None => format!("there are: {}", known.join(", ")),
            };
            return Err(Error::config(format!("there is no image {name:?} in imgforge.toml")).help(help));
        }
    }
    let wanted = request.images.clone();
    Ok(config.images.keys().filter(move |name| wanted.is_empty() || wanted.contains(name)))
}

fn planned_image(
    config: &Config,
    request: &Request,
    observed: &Observed,
    name: &str,
) -> Result<PlannedImage> {
    let image = &config.images[name];
    let engine = image.engine();
    if engine == EngineName::Docker && image.dockerfile.is_none() {
        return Err(Error::config(format!("image {name:?} has no dockerfile")).help(format!(
            "add dockerfile = \"dockerfiles/{name}.Dockerfile\" or engine = \"direct\" to [images.{name}]"
        )));
    }
    let bake = match request.until {
        Until::Build => Vec::new(),
        Until::Push | Until::Deploy => image.bake.iter().map(|bake| planned_secret(bake, observed)).collect(),
    };
    Ok(PlannedImage {
        image: name.to_owned(),
        engine,
        platforms: platforms(image, None),
        dockerfile: image.dockerfile.as_ref().map(|path| path.get_ref().display().to_string()),
        base: image.base.as_ref().map(|base| base.get_ref().clone()),
        bake,
        repository: observed.repositories.get(name).cloned(),
    })
}

/// What an image is built for: what imgforge.toml says, else the engine's own platform where that is known.
pub fn platforms(image: &ImageConfig, engine: Option<&str>) -> Vec<String> {
    match image.platforms[..] {
        [] => engine.map(str::to_owned).into_iter().collect(),
        _ => image.platforms.iter().map(|platform| platform.get_ref().0.clone()).collect(),
    }
}

fn planned_secret(bake: &crate::config::Bake, observed: &Observed) -> PlannedSecret {
    let secret = bake.secret.get_ref().clone();
    PlannedSecret {
        version: observed.secrets.get(&secret).cloned().unwrap_or_default(),
        secret,
        path: bake.path.get_ref().clone(),
        owner: format!("{}:{}", bake.owner.uid, bake.owner.gid),
        mode: format!("{:04o}", bake.mode.0),
    }
}

/// `3f2a9c1d04ab-5c1e88d2`: twelve digits of the commit and eight that stand for all secret versions together.
pub fn release_id(source: &Source, secrets: &BTreeMap<String, String>) -> String {
    let commit = |id: &String| id.chars().take(12).collect::<String>();
    let sources = match source {
        Source::Commit { id } => commit(id),
        Source::Changed { id } => format!("{}-changed", commit(id)),
        Source::Unknown => "uncommitted".into(),
    };
    match secrets_id(secrets) {
        Some(secrets) => format!("{sources}-{secrets}"),
        None => sources,
    }
}

/// Eight hex digits that stand for all secret versions together; `None` when there are none.
pub fn secrets_id(secrets: &BTreeMap<String, String>) -> Option<String> {
    let mut hash = Sha256::new();
    for (name, version) in secrets {
        hash.update(format!("{name}\0{version}\0"));
    }
    (!secrets.is_empty()).then(|| hex::encode(hash.finalize())[..8].to_owned())
}

/// The words for the once-tasks of a configuration.
pub fn once_words(once: &[OnceConfig]) -> Vec<String> {
    once.iter()
        .map(|task| format!("{}: {} (in {})", task.name, task.command.join(" "), task.container))
        .collect()
}

/// The word for a target.
pub fn target_word(target: Target) -> &'static str {
    match target {
        Target::Compose => "compose",
        Target::Ecs => "ecs",
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "release {} of {} ({})", self.release, self.project, self.environment)?;
        for (name, base) in &self.bases {
            let ready = if base.ready { "ready" } else { "to be made" };
            writeln!(f, "  base   {name}: {} ({ready})", base.source)?;
        }
        for image in &self.images {
            write!(f, "  build  {}", image.image)?;
            if let Some(dockerfile) = &image.dockerfile {
                write!(f, " from {dockerfile}")?;
            }
            if image.engine == EngineName::Direct {
                write!(f, " directly")?;
            }
            if let Some(base) = &image.base {
                write!(f, " on {base}")?;
            }
            if !image.platforms.is_empty() {
                write!(f, " for {}", image.platforms.join(", "))?;
            }
            writeln!(f)?;
            for secret in &image.bake {
                let PlannedSecret { secret, version, path, owner, mode } = secret;
                writeln!(f, "  bake   {}: {secret} ({version}) → {path} {owner} {mode}", image.image)?;
            }
            if let Some(repository) = &image.repository {
                writeln!(f, "  push   {} → {repository}", image.image)?;
            }
        }
        if let Some(deploy) = &self.deploy {
            for once in &deploy.once {
                writeln!(f, "  once   {once}")?;
            }
            write!(f, "{deploy}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secrets(version: &str) -> BTreeMap<String, String> {
        BTreeMap::from([("server_settings".to_owned(), version.to_owned())])
    }

    #[test]
    fn release_id_is_the_commit_and_the_secret_versions() {
        let commit = Source::Commit { id: "0123456789abcdef".into() };
        let one = release_id(&commit, &secrets("v1"));
        assert!(one.starts_with("0123456789ab-"), "{one}");
        assert_eq!(one, release_id(&commit, &secrets("v1")));
        assert_ne!(one, release_id(&commit, &secrets("v2")));
        assert_eq!(release_id(&commit, &BTreeMap::new()), "0123456789ab");
        assert_eq!(release_id(&Source::Unknown, &BTreeMap::new()), "uncommitted");
    }

    #[test]
    fn sources_in_no_commit_give_no_release_tag() {
        let config = Config::parse(
            ".".into(),
            "project = \"shop\"\n[images.web]\ndockerfile = \"Dockerfile\"\n",
            None,
            &|_| None,
        )
        .unwrap();
        let plan = |source| {
            let observed = Observed {
                source,
                secrets: BTreeMap::new(),
                bases: BTreeMap::new(),
                repositories: BTreeMap::new(),
                running: None,
            };
            Plan::new(
                &config,
                &Request { start: Start::Sources, until: Until::Push, images: Vec::new() },
                observed,
            )
            .unwrap()
        };
        assert_eq!(plan(Source::Commit { id: "a".repeat(40) }).tag(), Some("aaaaaaaaaaaa"));
        assert_eq!(plan(Source::Changed { id: "a".repeat(40) }).tag(), None);
        assert_eq!(plan(Source::Unknown).tag(), None);
    }
}
