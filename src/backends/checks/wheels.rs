//! Whether the project asks for packages that an image cannot get: those without wheels, of which this is known.

use super::{dockerfile, ok, skip};
use crate::config::Config;
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
            let mut dockerfiles = config.images.values().filter_map(|image| dockerfile(config, image));
            if dockerfiles.any(|text| has_compiler(&text)) {
                return ok(NAME, "the Dockerfile has a compiler for what has none");
            }
            Check::many(NAME, async { told.into_iter().map(|why| Outcome::Warn { why }).collect() })
        }
        Ok(_) => skip(NAME, "there is no Django project with requirements"),
        Err(error) => skip(NAME, error.what()),
    }
}
