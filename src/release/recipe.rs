//! Turns the configuration of an image into the recipe that an engine gets.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use futures_util::future::try_join_all;

use super::observe::Seen;
use super::{Parts, bases};
use crate::base::Base;
use crate::config::{Config, EngineName, ImageConfig};
use crate::engine::{DirectRecipe, Recipe};
use crate::error::{Error, Result};
use crate::plan::{self, Plan, PlannedImage, Until};
use crate::progress::Reporter;

/// The recipes of a plan, one for each platform of an image, with their bases made.
pub(super) async fn recipes(
    parts: &Parts,
    plan: &Plan,
    seen: &Seen,
    progress: &Reporter,
) -> Result<Vec<Recipe>> {
    let platforms =
        |planned: &PlannedImage| plan::platforms(&parts.config.images[&planned.image], Some(&seen.platform));
    // An engine without a daemon wants to read what the daemon fetches by itself.
    let wanted: BTreeSet<(&String, EngineName, String)> = plan
        .images
        .iter()
        .filter_map(|planned| planned.base.as_ref().map(|base| (planned, base)))
        .flat_map(|(planned, base)| {
            platforms(planned).into_iter().map(move |one| (base, planned.engine, one))
        })
        .collect();
    let keys: BTreeSet<(&String, &String)> = wanted.iter().map(|(name, _, one)| (*name, one)).collect();
    let made = try_join_all(keys.into_iter().map(async |(name, platform)| {
        let ready = &seen.bases[&(name.clone(), platform.clone())];
        let base = bases::ready(ready, name, &parts.config, progress).await;
        base.map(|base| ((name, platform), base))
    }))
    .await?;
    let made: BTreeMap<(&String, &String), Base> = made.into_iter().collect();
    let reading = bases::Reading { parts, layers: layers(parts, plan), progress };
    let ready = try_join_all(wanted.iter().map(async |(name, engine, platform)| {
        let base = made[&(*name, platform)].clone();
        let base = match engine {
            EngineName::Docker => base,
            EngineName::Direct => reading.read(name, base, platform).await?,
        };
        Ok::<_, Error>((((*name).clone(), *engine, platform.clone()), base))
    }))
    .await?;
    let ready: BTreeMap<(String, EngineName, String), Base> = ready.into_iter().collect();
    let recipes = plan.images.iter().flat_map(|planned| {
        let ready = &ready;
        platforms(planned).into_iter().map(move |platform| {
            let key = planned.base.as_ref().map(|base| (base.clone(), planned.engine, platform.clone()));
            recipe(parts, &planned.image, key.map(|key| ready[&key].clone()), &platform)
        })
    });
    Ok(recipes.collect())
}

/// Where the layers of a registry's base have to be: a registry takes them from another one, a layout on disk and a
/// daemon do not.
fn layers(parts: &Parts, plan: &Plan) -> bases::Layers {
    let stays = match (plan.until, &parts.registry) {
        (Until::Build, _) | (_, None) => true,
        (Until::Push, Some(registry)) => registry.is_remote(),
        (Until::Deploy, Some(registry)) => registry.is_remote() && !super::is_on_daemon(&parts.config),
    };
    if stays { bases::Layers::InRegistry } else { bases::Layers::Here }
}

fn recipe(parts: &Parts, name: &str, base: Option<Base>, platform: &str) -> Recipe {
    let config = &parts.config;
    let image = &config.images[name];
    let context = normal(&config.path(&image.context));
    let dockerfile = image.dockerfile.as_ref().map(|path| normal(&config.path(path.get_ref())));
    let mut args = config.build.args.clone();
    args.extend(image.args.clone());
    Recipe {
        project: config.project.get_ref().clone(),
        image: name.to_owned(),
        base,
        dockerfile: dockerfile.unwrap_or_else(|| context.join("Dockerfile")),
        withheld: withheld(config, &context),
        context,
        target: image.target.clone(),
        args,
        secrets: parts.build_secrets.clone(),
        direct: (image.engine() == EngineName::Direct).then(|| direct(config, image, platform)),
    }
}

fn direct(config: &Config, image: &ImageConfig, platform: &str) -> DirectRecipe {
    let python = image.python.as_ref().map(|python| python.get_ref().clone());
    let requirements = python.as_ref().and_then(|python| python.requirements.as_ref());
    DirectRecipe {
        platform: (!image.platforms.is_empty()).then(|| platform.to_owned()),
        requirements: requirements.map(|path| normal(&config.path(path.get_ref()))),
        python,
        baked: image.bake.iter().map(|bake| bake.path.get_ref().clone()).collect(),
        copy: image.copy.iter().map(|copy| copy.get_ref().clone()).collect(),
        statics: image.statics.as_ref().map(|statics| statics.get_ref().clone()),
        users: image.users.iter().map(|user| user.get_ref().clone()).collect(),
        directories: image.directories.iter().map(|directory| directory.get_ref().clone()).collect(),
        settings: image.settings.as_ref().map(|settings| settings.get_ref().clone()).unwrap_or_default(),
    }
}

/// What no build may see, relative to the context: the secret store's folder and imgforge's own.
fn withheld(config: &Config, context: &Path) -> Vec<PathBuf> {
    // By the words, and as the file system has it: either may lead through a link.
    let real = |path: &Path| std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let below = |path: &Path| {
        let by_words = normal(path).strip_prefix(context).map(Path::to_path_buf).ok();
        let by_files = real(&normal(path)).strip_prefix(real(context)).map(Path::to_path_buf).ok();
        [by_words, by_files].into_iter().flatten()
    };
    let work_dir = config.work_dir();
    let paths = config.secret_dirs.iter().chain([&work_dir]).flat_map(|path| below(path));
    let mut paths: Vec<PathBuf> = paths.filter(|path| !path.as_os_str().is_empty()).collect();
    paths.dedup();
    paths
}

/// Without `.` and `..`, by the words alone.
fn normal(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            std::path::Component::CurDir => {}
            std::path::Component::ParentDir => {
                out.pop();
            }
            part => out.push(part),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Config {
        Config::parse("/site".into(), text, None, &|_| None).unwrap()
    }

    #[test]
    fn the_local_secrets_folder_is_withheld_in_every_environment() {
        let text = "project = \"shop\"\n[secrets]\nstore = \"dir:secrets\"\n[env.live]\nsecrets.store = \"s3://b\"\n";
        let live = Config::parse("/site".into(), text, Some("live"), &|_| None).unwrap();
        assert!(withheld(&live, Path::new("/site")).contains(&PathBuf::from("secrets")));
    }

    #[test]
    fn the_secrets_folder_is_withheld_wherever_the_context_is() {
        let config = config("project = \"shop\"\n[secrets]\nstore = \"dir:./deploy/../secrets\"\n");
        let paths = |context: &str| withheld(&config, Path::new(context));
        assert_eq!(paths("/site"), [PathBuf::from("secrets"), PathBuf::from(".imgforge")]);
        assert_eq!(paths("/"), [PathBuf::from("site/secrets"), PathBuf::from("site/.imgforge")]);
        assert_eq!(paths("/site/web"), [] as [PathBuf; 0]);
    }
}
