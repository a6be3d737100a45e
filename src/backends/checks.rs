//! The checks of `imgforge doctor`, made from the configuration.

use std::sync::Arc;

use super::{
    Destination, Lookup, Needs, aws, bases, build_secrets, daemon, deployer, logins, registry, store,
};
use crate::base::debian;
use crate::config::{BaseConfig, Config, ImageConfig, Store};
use crate::deploy::Deployer;
use crate::doctor::{Check, Outcome};
use crate::engine::docker::DockerEngine;
use crate::engine::{Engine, direct};
use crate::error::Error;
use crate::plan::{Request, Source, Start, Until};
use crate::registry::Registry;
use crate::registry::auth::LoginChain;
use crate::release::source::source;
use crate::release::{cache, once_tasks};
use crate::secret::SecretSet;
use crate::secret::pinned::{self, SaltPolicy, Wanted};

mod settings;
mod wheels;

/// Every check that this configuration gives rise to.
pub async fn checks(config: &Config, lookup: Lookup<'_>) -> Vec<Check> {
    let everything =
        Needs::to_look(&Request { start: Start::Sources, until: Until::Deploy, images: Vec::new() });
    let mut checks = vec![
        configuration(config),
        sources(config),
        engine(config, &everything, lookup),
        base_tools(config).await,
        uv(config),
        wheels::check(config),
    ];
    checks.push(match build_secrets(config, &everything, lookup) {
        Ok(secrets) if secrets.is_empty() => skip("build", "no build secrets are configured"),
        Ok(secrets) => {
            ok("build", format!("build secrets {}", secrets.into_keys().collect::<Vec<_>>().join(", ")))
        }
        Err(error) => Check::known("build", error.into()),
    });
    checks.extend(secrets(config).await);
    // The auth data in ecs.config counts when it can be read; that it cannot is said by the check above.
    let pinned = super::secrets(config, &everything).await;
    let pinned = pinned.map_or_else(|_| SecretSet::none(), |(_, secrets)| secrets);
    checks.push(settings::check(config, &pinned));
    match logins(config, &pinned, lookup).await {
        Ok(logins) => checks.extend(remote(config, logins, lookup).await),
        Err(error) => checks.push(Check::known("registry", error.into())),
    }
    checks
}

fn ok(name: &str, found: impl Into<String>) -> Check {
    Check::known(name, Outcome::Ok { found: found.into() })
}

fn skip(name: &str, why: impl Into<String>) -> Check {
    Check::known(name, Outcome::Skip { why: why.into() })
}

/// The text of an image's Dockerfile, if it has one that can be read.
fn dockerfile(config: &Config, image: &ImageConfig) -> Option<String> {
    let file = image.dockerfile.as_ref()?;
    fs_err::read_to_string(config.root.join(file.get_ref())).ok()
}

fn configuration(config: &Config) -> Check {
    let images = config.images.keys().cloned().collect::<Vec<_>>().join(", ");
    ok("config", format!("{} ({}), images: {images}", config.project.get_ref(), config.environment))
}

fn sources(config: &Config) -> Check {
    let root = config.root.clone();
    Check::many("sources", async move {
        vec![match source(&root).await {
            Source::Commit { id } => Outcome::Ok { found: format!("commit {}", &id[..12.min(id.len())]) },
            Source::Changed { .. } => Outcome::Warn {
                why: "something is not committed: images get a tag of their own digest".into(),
            },
            Source::Unknown => {
                Outcome::Warn { why: "not under Git: images get a tag of their own digest".into() }
            }
        }]
    })
}

fn engine(config: &Config, needs: &Needs, lookup: Lookup<'_>) -> Check {
    if !needs.daemon(config) {
        return skip("daemon", "every image is built directly, and runs elsewhere");
    }
    match daemon(lookup) {
        Ok(daemon) => {
            let engine = DockerEngine::new(daemon, cache(config));
            Check::new("daemon", async move {
                let info = engine.check().await?;
                Ok(format!("{} at {}", info.description, info.address))
            })
        }
        Err(error) => Check::known("daemon", error.into()),
    }
}

fn uv(config: &Config) -> Check {
    let compiles = |image: &ImageConfig| image.copy.iter().any(|copy| copy.get_ref().compile);
    if config.images.values().all(|image| image.python.is_none() && !compiles(image)) {
        return skip("uv", "no image gets Python packages or compiled modules without a Dockerfile");
    }
    Check::new("uv", direct::check_uv())
}

async fn base_tools(config: &Config) -> Check {
    let debian_bases =
        config.bases.values().filter(|base| matches!(base.get_ref(), BaseConfig::Debian(_))).count();
    if debian_bases == 0 {
        return skip("mmdebstrap", "no base is made from Debian packages");
    }
    Check::new("mmdebstrap", debian::check())
}

/// One check for the store, one for each secret file.
async fn secrets(config: &Config) -> Vec<Check> {
    let Some(configured) = &config.secrets else {
        return vec![skip("secrets", "imgforge.toml has no [secrets]")];
    };
    let store = match store(config).await {
        Ok(store) => store,
        Err(error) => return vec![Check::known("secrets", error.into())],
    };
    let mut checks = Vec::new();
    if matches!(configured.store, Store::S3 { .. }) {
        checks.push(Check::new("aws", identity()));
    }
    let watched = Arc::clone(&store);
    checks.push(Check::many("secrets", async move {
        match watched.problems().await {
            Ok(problems) if problems.is_empty() => vec![Outcome::Ok { found: watched.describe() }],
            Ok(problems) => problems.into_iter().map(|why| Outcome::Warn { why }).collect(),
            Err(error) => vec![error.into()],
        }
    }));
    for wanted in Wanted::baked(config) {
        let store = Arc::clone(&store);
        checks.push(Check::new("secret", async move {
            let one = std::slice::from_ref(&wanted);
            let set = pinned::read(store.as_ref(), one, SaltPolicy::ReadOnly).await?;
            let version =
                set.files.get(&wanted.name).map(|file| file.version.to_string()).unwrap_or_default();
            Ok(format!("{}: {}, version {version}", wanted.name, wanted.object))
        }));
    }
    checks
}

/// Who we are to AWS (STS GetCallerIdentity needs no permission).
async fn identity() -> Result<String, Error> {
    let identity = aws_sdk_sts::Client::new(&aws().await).get_caller_identity().send().await.map_err(|error| {
        Error::refused("AWS does not know who we are")
            .because(aws_sdk_sts::error::DisplayErrorContext(error).to_string())
            .help("check AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; `aws sso login` for SSO")
    })?;
    Ok(identity.arn().unwrap_or("an identity without a name").to_owned())
}

/// The registry, the bases that come from one, and the service.
async fn remote(config: &Config, logins: LoginChain, lookup: Lookup<'_>) -> Vec<Check> {
    let mut checks = Vec::new();
    match registry(config, logins.clone(), lookup).await {
        Ok(registry) => {
            for image in config.images.keys() {
                checks.push(repository(Arc::clone(&registry), image.clone(), &logins, config));
            }
            checks.push(match deployer(config, registry.as_ref(), lookup, &logins).await {
                Ok(Some(deployer)) => service(config, deployer),
                Ok(None) => skip("service", "imgforge.toml has no [deploy]"),
                Err(error) => Check::known("service", error.into()),
            });
        }
        Err(error) => checks.push(Check::known("registry", error.into())),
    }
    match bases(config, &logins) {
        Ok(bases) => {
            for (name, base) in bases {
                if let crate::release::bases::BaseSource::Registry { reference, registry } = base {
                    checks.push(Check::new("base", async move {
                        match registry.head(&reference.repository, &reference.version()).await? {
                            Some(digest) => Ok(format!("{name}: {reference} is {}", digest.short())),
                            None => Err(Error::refused(format!("{name}: there is no image {reference}"))
                                .help("check its name and tag, and that your login may read it")),
                        }
                    }));
                }
            }
        }
        Err(error) => checks.push(Check::known("base", error.into())),
    }
    checks
}

fn repository(registry: Arc<dyn Registry>, image: String, logins: &LoginChain, config: &Config) -> Check {
    let looked = match Destination::of(config) {
        Destination::Remote(_) => format!("; logins: {}", logins.describe()),
        Destination::Layout(_) | Destination::Ecr(_) => String::new(),
    };
    Check::many("registry", async move {
        let ask = async {
            let repository = registry.repository(&image)?;
            let digest = crate::digest::Digest::of(b"imgforge doctor");
            // A blob that nobody has: the answer shows that the registry can be reached and lets us in.
            registry.has_blob(&repository, &digest).await?;
            Ok::<_, Error>((registry.problems(&repository).await?, repository))
        };
        match ask.await {
            Ok((problems, repository)) => {
                let found = Outcome::Ok { found: format!("{image}: {repository}{looked}") };
                let warnings = problems.into_iter().map(|why| Outcome::Warn { why });
                std::iter::once(found).chain(warnings).collect()
            }
            Err(error) => vec![error.into()],
        }
    })
}

fn service(config: &Config, deployer: Arc<dyn Deployer>) -> Check {
    let images: Vec<String> = config.images.keys().cloned().collect();
    let once = once_tasks(config);
    Check::many("service", async move {
        let running = match deployer.observe(&images, &once).await {
            Ok(running) => running,
            Err(error) => return vec![error.into()],
        };
        let found = |target: &str, runs: &str| Outcome::Ok { found: format!("{target}, runs {runs}") };
        if running.services.is_empty() {
            return vec![found(&deployer.describe(), &running.description)];
        }
        running.services.iter().map(|service| found(&service.target, &service.description)).collect()
    })
}
