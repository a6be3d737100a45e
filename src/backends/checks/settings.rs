//! Whether somebody gives the site what its settings cannot be imported without.

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
    let dockerfile = dockerfile(config, image).unwrap_or_default();
    let module = match settings_module(&root, image, &dockerfile) {
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
        configured || value_in(&dockerfile, name).is_some()
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
fn settings_module(root: &Path, image: &ImageConfig, dockerfile: &str) -> Result<Option<String>> {
    let configured = image.settings.as_ref().and_then(|settings| settings.get_ref().env.get(MODULE));
    if let Some(module) = configured.map(String::as_str).or_else(|| value_in(dockerfile, MODULE)) {
        return Ok(Some(module.to_owned()));
    }
    Ok(Site::read(root, None)?.map(|site| site.settings_module))
}

/// What a Dockerfile sets a variable to.
fn value_in<'d>(dockerfile: &'d str, name: &str) -> Option<&'d str> {
    let mut words = dockerfile.split_whitespace();
    words.find_map(|word| word.strip_prefix(name)?.strip_prefix('=')).map(|value| value.trim_matches('"'))
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
    fn a_dockerfile_tells_what_it_sets() {
        let dockerfile =
            "FROM base\nENV PATH=/opt/bin:$PATH SITE=one \\\n    DJANGO_SETTINGS_MODULE=\"a.b\"\n";
        assert_eq!(value_in(dockerfile, MODULE), Some("a.b"));
        assert_eq!(value_in(dockerfile, "SITE"), Some("one"));
        assert_eq!(value_in(dockerfile, "SETTINGS_MODULE"), None);
    }
}
