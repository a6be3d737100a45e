//! Reads imgforge.toml: parse, lay the environment over it, fill in `${VAR}`, check it.
//!
//! The document is merged with its spans, so that every error points at the line that caused it.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

mod direct;

use super::interpolate::{Fault, interpolate};
use super::{Config, DEFAULT_ENVIRONMENT, FILE, ImageConfig, Services, Store, Strategy, Target, Written};
use crate::error::{Error, Place, Result};

/// Looks up an environment variable.
pub type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

impl Config {
    /// Finds imgforge.toml in `dir` or the nearest folder above it, and reads it for `environment`.
    ///
    /// # Errors
    /// [`crate::error::Kind::Config`] for everything that is wrong with the file.
    pub fn load(dir: &Path, environment: Option<&str>, lookup: Lookup<'_>) -> Result<Config> {
        let root = find(dir)?;
        let file = root.join(FILE);
        let text = fs_err::read_to_string(&file)
            .map_err(|error| Error::config(format!("cannot read {FILE}")).because(error))?;
        Config::parse(root, &text, environment, lookup)
    }

    /// Reads the text of an imgforge.toml whose folder is `root`.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn parse(root: PathBuf, text: &str, environment: Option<&str>, lookup: Lookup<'_>) -> Result<Config> {
        let reader = Reader { text };
        let mut base = DeTable::parse(text).map_err(|error| reader.syntax(&error))?;
        let overlays = reader.take_environments(base.get_mut())?;
        let name = environment.unwrap_or(DEFAULT_ENVIRONMENT);
        let known = || overlays.iter().map(|(name, _)| name.as_str()).chain([DEFAULT_ENVIRONMENT]);
        if !known().any(|known| known == name) {
            let mut error = Error::config(format!("there is no environment {name:?} in {FILE}"));
            error = error.help(match nearest(name, known()) {
                Some(near) => format!("did you mean {near:?}?"),
                None => format!("known: {}; add [env.{name}]", known().collect::<Vec<_>>().join(", ")),
            });
            return Err(error);
        }
        let mut chosen = None;
        let mut secret_dirs = BTreeSet::new();
        let mut note = |written: &Written| match written.secrets.as_ref().map(|secrets| &secrets.store) {
            Some(Store::Dir(path)) => {
                secret_dirs.insert(root.join(path));
            }
            Some(Store::S3 { .. }) | None => {}
        };
        if !overlays.is_empty() {
            // Without an overlay the file need not be complete, so what is wrong with it alone is no error.
            if let Ok(written) = reader.deserialize(base.clone()) {
                note(&written);
            }
        }
        for (overlay_name, overlay) in &overlays {
            let mut merged = base.clone();
            merge(merged.get_mut(), overlay, &[]);
            if overlay_name == name {
                chosen = Some(merged);
            } else {
                // An overlay that is not in use is checked too: its typo should not wait for the release.
                let written = reader.deserialize(merged)?;
                reader.check_services(&written)?;
                note(&written);
            }
        }
        let mut document = chosen.unwrap_or(base);
        reader.fill_in_table(document.get_mut(), lookup)?;
        let written = reader.deserialize(document)?;
        reader.check(&written)?;
        note(&written);
        let secret_dirs = secret_dirs.into_iter().collect();
        Ok(Config { root, environment: name.to_owned(), secret_dirs, written })
    }
}

fn find(dir: &Path) -> Result<PathBuf> {
    let start = std::path::absolute(dir)?;
    if !start.is_dir() {
        return Err(Error::config(format!("there is no folder {}", dir.display())));
    }
    start.ancestors().find(|dir| dir.join(FILE).is_file()).map(Path::to_path_buf).ok_or_else(|| {
        Error::config(format!("there is no {FILE} in {} nor in a folder above it", start.display()))
            .help("go to the project's folder, or name it with -C DIR")
    })
}

/// Lays `over` on `base`: tables are merged key by key, everything else is replaced. A base is one value, so that
/// an environment can take `image = …` where the file says `debian = …`.
fn merge<'i>(base: &mut DeTable<'i>, over: &DeTable<'i>, path: &[&str]) {
    for (key, value) in over {
        let atomic = path == ["bases"];
        if let (Some(old), false) = (base.get_mut(key), atomic)
            && let (DeValue::Table(old), DeValue::Table(new)) = (old.get_mut(), value.get_ref())
        {
            let deeper: Vec<&str> = path.iter().copied().chain([key.get_ref().as_ref()]).collect();
            merge(old, new, &deeper);
            continue;
        }
        base.remove(key);
        base.insert(key.clone(), value.clone());
    }
}

/// The nearest known word, when it is near enough to be meant.
pub(crate) fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    known
        .map(|candidate| (strsim::damerau_levenshtein(word, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= 1 + candidate.len().min(word.len()) / 3)
        .min()
        .map(|(_, candidate)| candidate)
}

struct Reader<'t> {
    text: &'t str,
}

impl Reader<'_> {
    fn at(&self, span: Range<usize>, what: impl Into<String>, label: impl Into<String>) -> Error {
        let place = Place { file: FILE.into(), text: self.text.into(), span, label: label.into() };
        Error::config(what).place(place)
    }

    fn syntax(&self, error: &toml::de::Error) -> Error {
        let message = error.message().trim().replace('\n', ", ");
        self.at(error.span().unwrap_or(0..0), format!("{FILE} is not valid TOML: {message}"), "here")
    }

    fn take_environments<'i>(&self, base: &mut DeTable<'i>) -> Result<Vec<(String, DeTable<'i>)>> {
        let Some(env) = base.remove("env") else { return Ok(Vec::new()) };
        let span = env.span();
        let DeValue::Table(env) = env.into_inner() else {
            return Err(self.at(span, "env is a table of environments", "not a table"));
        };
        let mut overlays = Vec::new();
        for (name, overlay) in env {
            let span = name.span();
            match overlay.into_inner() {
                DeValue::Table(table) => overlays.push((name.into_inner().into_owned(), table)),
                _ => return Err(self.at(span, "an environment is a table", "not a table")),
            }
        }
        Ok(overlays)
    }

    fn fill_in_table(&self, table: &mut DeTable<'_>, lookup: Lookup<'_>) -> Result<()> {
        table.iter_mut().try_for_each(|(_, value)| self.fill_in(value, lookup))
    }

    fn fill_in(&self, value: &mut Spanned<DeValue<'_>>, lookup: Lookup<'_>) -> Result<()> {
        let span = value.span();
        match value.get_mut() {
            DeValue::String(text) => {
                let filled = interpolate(text, lookup).map_err(|fault| match fault {
                    Fault::Unclosed => {
                        self.at(span, "${ without a closing }", "here").help("write $$ for a dollar")
                    }
                    Fault::BadName(name) => {
                        self.at(span, format!("{name:?} is not a variable's name"), "here")
                    }
                    Fault::Unset(name) => self
                        .at(span, format!("the environment variable {name} is not set"), "needed here")
                        .help(format!("export {name}=…, or write the value into {FILE}")),
                })?;
                *text = filled.into();
                Ok(())
            }
            DeValue::Array(array) => array.iter_mut().try_for_each(|value| self.fill_in(value, lookup)),
            DeValue::Table(table) => self.fill_in_table(table, lookup),
            _ => Ok(()),
        }
    }

    fn deserialize(&self, document: Spanned<DeTable<'_>>) -> Result<Written> {
        Written::deserialize(toml::de::Deserializer::from(document)).map_err(|error| {
            let span = error.span().unwrap_or(0..0);
            let message = error.message().trim();
            match UnknownKey::read(message) {
                Some(unknown) => {
                    let error = self.at(span, format!("unknown key {:?}", unknown.key), "not known here");
                    error.help(match nearest(unknown.key, unknown.known.iter().copied()) {
                        Some(near) => format!("did you mean {near:?}? (known: {})", unknown.known.join(", ")),
                        None => format!("known here: {}", unknown.known.join(", ")),
                    })
                }
                None => self.at(span, message.replace('\n', ", "), "here"),
            }
        })
    }

    /// What the types cannot say.
    fn check(&self, written: &Written) -> Result<()> {
        let project = written.project.get_ref();
        let valid = project.starts_with(|c: char| c.is_ascii_lowercase())
            && project.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if !valid {
            return Err(self
                .at(
                    written.project.span(),
                    "a project's name is lower case letters, digits and dashes",
                    "here",
                )
                .help("it begins with a letter, such as \"shop\""));
        }
        for (name, image) in &written.images {
            self.check_image(name, image, written)?;
        }
        self.check_services(written)?;
        match &written.deploy {
            Some(deploy) if *deploy.target.get_ref() == Target::Ecs => self.check_ecs(deploy),
            _ => Ok(()),
        }
    }

    fn check_image(&self, name: &str, image: &ImageConfig, written: &Written) -> Result<()> {
        if let Some(base) = &image.base
            && !written.bases.contains_key(base.get_ref())
        {
            let error =
                self.at(base.span(), format!("image {name:?} starts from an unknown base"), "not in [bases]");
            return Err(match nearest(base.get_ref(), written.bases.keys().map(String::as_str)) {
                Some(near) => error.help(format!("did you mean {near:?}?")),
                None => error.help(format!("add [bases.{}]", base.get_ref())),
            });
        }
        self.check_engine(name, image)?;
        let files = written.secrets.as_ref().map(|secrets| &secrets.files);
        for bake in &image.bake {
            let secret = bake.secret.get_ref();
            if !files.is_some_and(|files| files.contains_key(secret)) {
                let error = self.at(
                    bake.secret.span(),
                    format!("unknown secret file {secret:?}"),
                    "not in [secrets.files]",
                );
                let known = files.into_iter().flatten().map(|(name, _)| name.as_str());
                return Err(match nearest(secret, known) {
                    Some(near) => error.help(format!("did you mean {near:?}?")),
                    None => error.help("name it under [secrets.files]"),
                });
            }
            let path = bake.path.get_ref();
            let inside = path.strip_prefix('/').is_some_and(|rest| {
                rest.split('/').all(|part| !matches!(part, "" | "." | "..") && !part.starts_with(".wh."))
            });
            if !inside {
                return Err(self
                    .at(bake.path.span(), "a baked file's path is absolute and plain", "here")
                    .help("such as \"/home/docker/code/shop/server_settings.py\": no \"..\", no slash at its end"));
            }
        }
        let mut paths: Vec<_> = image.bake.iter().map(|bake| &bake.path).collect();
        paths.sort_by_key(|path| path.get_ref());
        if let Some(pair) = paths.windows(2).find(|pair| pair[0].get_ref() == pair[1].get_ref()) {
            return Err(self.at(pair[1].span(), "two secret files have the same path", "used twice"));
        }
        Ok(())
    }

    fn check_ecs(&self, deploy: &super::Deploy) -> Result<()> {
        let span = deploy.target.span();
        if deploy.cluster.is_none() {
            return Err(self.at(span, "target \"ecs\" needs a cluster", "here").help("add cluster = \"…\""));
        }
        if deploy.service.is_none() {
            return Err(self
                .at(span, "target \"ecs\" needs a service", "here")
                .help("add service = \"…\", or a list of them"));
        }
        if let Some(strategy) = &deploy.strategy
            && *strategy.get_ref() == Strategy::BlueGreen
        {
            // Said here rather than half way: a release that cannot switch this way should not start.
            return Err(self
                .at(strategy.span(), "strategy \"blue-green\" is not built yet", "here")
                .with_kind(crate::error::Kind::Refused)
                .help("take \"rolling\""));
        }
        Ok(())
    }

    fn check_services(&self, written: &Written) -> Result<()> {
        let services = written.deploy.as_ref().and_then(|deploy| deploy.service.as_ref());
        let mut seen = BTreeSet::new();
        for service in services.into_iter().flat_map(Services::written) {
            // An ARN ends with the service's name, and all services are in one cluster.
            let name = service.get_ref().rsplit('/').next().unwrap_or_default();
            if name.is_empty() {
                return Err(self.at(service.span(), "a service has a name", "empty"));
            }
            if !seen.insert(name) {
                let error = self.at(service.span(), format!("the service {name:?} is named twice"), "again");
                return Err(error.help("each is switched once, in the order of the list: take one away"));
            }
        }
        Ok(())
    }
}

/// serde tells unknown keys only in words.
struct UnknownKey<'m> {
    key: &'m str,
    known: Vec<&'m str>,
}

impl<'m> UnknownKey<'m> {
    fn read(message: &'m str) -> Option<Self> {
        let rest =
            message.strip_prefix("unknown field `").or_else(|| message.strip_prefix("unknown variant `"))?;
        let (key, rest) = rest.split_once('`')?;
        let known = rest.split('`').skip(1).step_by(2).collect();
        Some(UnknownKey { key, known })
    }
}
