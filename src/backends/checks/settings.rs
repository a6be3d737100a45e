//! Whether somebody gives the site what its settings cannot be imported without.

use std::collections::BTreeMap;
use std::path::Path;

use super::{dockerfile, skip};
use crate::config::{Config, ImageConfig, Store};
use crate::doctor::{Check, Outcome};
use crate::error::Result;
use crate::secret::SecretSet;
use crate::template::change::takes_environment;
use crate::template::site::{Site, module_file};
use crate::template::variables::{Variables, given};

const NAME: &str = "settings";
/// What the settings of servers are called where they are baked.
const BAKED: &str = "/server_settings.py";
const MODULE: &str = "DJANGO_SETTINGS_MODULE";

/// The check.
pub(super) fn check(config: &Config, secrets: &SecretSet) -> Check {
    let images = config.images.values();
    let mut baked = images.flat_map(|image| image.bake.iter().map(move |bake| (image, bake)));
    let Some((image, bake)) = baked.find(|(_, bake)| bake.path.get_ref().ends_with(BAKED)) else {
        return skip(NAME, "no image gets server_settings.py");
    };
    let root = config.root.join(&image.context);
    let built = environment(&dockerfile(config, image).unwrap_or_default(), image.target.as_deref());
    let module = match settings_module(&root, image, &built) {
        Ok(Some(module)) => module,
        Ok(None) => return skip(NAME, "there is no manage.py"),
        Err(error) => return skip(NAME, error.what()),
    };
    let variables = Variables::read(&root, &module);
    if variables.wanted.is_empty() {
        return skip(NAME, format!("{module} wants nothing of the environment"));
    }
    let is_given = |name: &str| {
        let configured =
            image.settings.as_ref().is_some_and(|settings| settings.get_ref().env.contains_key(name));
        configured || built.contains_key(name)
    };
    let wanted = variables.wanted.iter().map(|variable| variable.name.as_str());
    let missing: Vec<&str> = wanted.filter(|name| !is_given(name)).collect();
    let all = format!("{module} finds everything that it wants of the environment");
    if missing.is_empty() {
        return Check::known(NAME, Outcome::Ok { found: all });
    }
    let store = config.secrets.as_ref().map(|secrets| &secrets.store);
    if !matches!(store, Some(Store::Dir { .. })) {
        return skip(NAME, format!("ENVIRONMENT is in a bucket, and has to have {}", missing.join(", ")));
    }
    let Some(file) = secrets.files.get(bake.secret.get_ref()) else {
        return skip(NAME, "the secret file cannot be read");
    };
    let names = std::str::from_utf8(file.value.expose()).ok().and_then(given).unwrap_or_default();
    let missing: Vec<&str> = missing.into_iter().filter(|name| !names.contains(*name)).collect();
    let outcome = if !missing.is_empty() {
        let missing = missing.join(", ");
        let why =
            format!("{module} cannot be imported without {missing}: put into ENVIRONMENT of {}", file.object);
        Outcome::Warn { why }
    } else if !takes(&root, &variables, &module) {
        Outcome::Warn { why: format!("{module} does not take ENVIRONMENT of {}: imgforge init", file.object) }
    } else {
        Outcome::Ok { found: all }
    };
    Check::known(NAME, outcome)
}

/// The settings module of an image's containers: as it is set, or as init would choose it.
fn settings_module(
    root: &Path,
    image: &ImageConfig,
    built: &BTreeMap<String, String>,
) -> Result<Option<String>> {
    let configured = image.settings.as_ref().and_then(|settings| settings.get_ref().env.get(MODULE));
    if let Some(module) = configured.or_else(|| built.get(MODULE)) {
        return Ok(Some(module.clone()));
    }
    Ok(Site::read(root, None)?.map(|site| site.settings_module))
}

/// What a Dockerfile's ENV instructions set in the image: those of the stage `target` or else the last, and of the stages that
/// this begins with.
fn environment(dockerfile: &str, target: Option<&str>) -> BTreeMap<String, String> {
    let mut stages: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    let (mut stage, mut set) = (None, BTreeMap::new());
    for instruction in instructions(dockerfile) {
        let words = shell_words::split(&instruction).unwrap_or_default();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        match words.as_slice() {
            [from, named @ ..] if from.eq_ignore_ascii_case("FROM") => {
                stages.extend(stage.take().map(|stage| (stage, set)));
                let mut named =
                    named.iter().filter(|word| !word.starts_with("--")).map(|word| word.to_lowercase());
                let below = named.next().unwrap_or_default();
                set = stages.get(&below).cloned().unwrap_or_default();
                stage = named.nth(1);
            }
            [env, pairs @ ..] if env.eq_ignore_ascii_case("ENV") => match pairs {
                // The older form: all that follows the name is the value.
                [name, value @ ..] if !name.contains('=') => {
                    drop(set.insert((*name).to_owned(), value.join(" ")))
                }
                pairs => set.extend(pairs.iter().filter_map(|pair| {
                    let (name, value) = pair.split_once('=')?;
                    Some((name.to_owned(), value.to_owned()))
                })),
            },
            _ => {}
        }
    }
    let target = target.map(str::to_lowercase).filter(|target| stage.as_ref() != Some(target));
    target.and_then(|target| stages.remove(&target)).unwrap_or(set)
}

/// A Dockerfile's instructions, each in one line, without the texts that they are given (`<<EOF`). Comments may stand between
/// the lines of one.
fn instructions(dockerfile: &str) -> Vec<String> {
    let lines = dockerfile.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let (mut done, mut open, mut end) = (Vec::new(), String::new(), None::<String>);
    for line in lines {
        if let Some(text) = &end {
            if text == line {
                end = None;
            }
            continue;
        }
        let word =
            line.split_once("<<").map(|(_, word)| word.trim_start_matches('-').trim_matches(['"', '\'']));
        let word = word.map(|word| word.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect());
        end = word.filter(|word: &String| !word.is_empty());
        match line.strip_suffix('\\') {
            Some(line) => open.push_str(&format!("{line} ")),
            None => done.push(std::mem::take(&mut open) + line),
        }
    }
    done
}

/// Whether init's block stands where the settings ask first.
fn takes(root: &Path, variables: &Variables, module: &str) -> bool {
    let file = variables.earlier.clone().or_else(|| module_file(root, module));
    let text = file.and_then(|file| fs_err::read_to_string(root.join(file)).ok());
    text.is_some_and(|text| takes_environment(&text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dockerfile_sets_what_env_says_in_the_last_stage_and_those_below_it() {
        let dockerfile = "FROM python AS base\nENV SITE=one\nFROM python AS builder\nENV ONLY_BUILT=1\n\
                          # ENV COMMENTED=1\nRUN python3 <<'EOF'\nfrom django.conf import settings\nENV FAKE=1\nEOF\n\
                          RUN KEY=dummy python3 manage.py collectstatic\n\
                          FROM --platform=linux/amd64 base as last\nARG TOKEN=x\n\
                          ENV PATH=/opt/bin:$PATH QUOTED=\"A=1 B=2\" \\\n  # why\n    DJANGO_SETTINGS_MODULE=\"a.b\"\n\
                          env OLD the older form\nRUN DJANGO_SETTINGS_MODULE=c python3 manage.py check\n";
        let set = environment(dockerfile, None);
        assert_eq!(environment(dockerfile, Some("builder")).keys().collect::<Vec<_>>(), ["ONLY_BUILT"]);
        assert_eq!(environment(dockerfile, Some("last")), set);
        let set: Vec<(&str, &str)> = set.iter().map(|(name, value)| (&**name, &**value)).collect();
        let want = [
            ("DJANGO_SETTINGS_MODULE", "a.b"),
            ("OLD", "the older form"),
            ("PATH", "/opt/bin:$PATH"),
            ("QUOTED", "A=1 B=2"),
            ("SITE", "one"),
        ];
        assert_eq!(set, want);
    }
}
