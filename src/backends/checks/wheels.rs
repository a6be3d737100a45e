//! Whether the project asks for packages that an image cannot get: those without wheels, of which this is known.

use super::{ok, skip};
use crate::config::{Config, ImageConfig};
use crate::doctor::{Check, Outcome};
use crate::template::compiled::{has_compiler, without_wheels};
use crate::template::site::Site;

const NAME: &str = "wheels";

/// The check.
pub(super) fn check(config: &Config) -> Check {
    match Site::read(&config.root, None) {
        Ok(Some(site)) if site.requirements.is_some() => {
            let told = without_wheels(&site.named);
            if told.is_empty() {
                return ok(NAME, format!("{} names nothing that has none", site.requirements_file()));
            }
            if config.images.values().any(|image| compiles(config, image)) {
                return ok(NAME, "the Dockerfile has a compiler for what has none");
            }
            Check::many(NAME, async { told.into_iter().map(|why| Outcome::Warn { why }).collect() })
        }
        Ok(_) => skip(NAME, "there is no Django project with requirements"),
        Err(error) => skip(NAME, error.what()),
    }
}

fn compiles(config: &Config, image: &ImageConfig) -> bool {
    let file = image.dockerfile.as_ref().map(|file| config.root.join(file.get_ref()));
    file.and_then(|file| fs_err::read_to_string(file).ok()).is_some_and(|text| has_compiler(&text))
}
