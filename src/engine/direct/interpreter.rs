//! Which Python a base has, and which wheels fit it.

use serde_json::Value;

use crate::base::contents::Contents;
use crate::config::direct::PythonConfig;
use crate::error::{Error, Result};
use crate::image::Object;

/// The base's Python.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Interpreter {
    /// `3.11`, or `3.11.2` where that is known.
    pub(super) version: String,
    /// For first lines of scripts: `/usr/bin/python3`.
    pub(super) path: String,
    /// What uv calls the platform: `x86_64-unknown-linux-gnu`.
    pub(super) platform: String,
}

impl Interpreter {
    /// Finds it: what imgforge.toml says, PYTHON_VERSION in the base's environment (as the official images have it), or
    /// the interpreter among the base's files.
    ///
    /// # Errors
    /// There is none, or there are several and nothing says which; a platform that has no wheels.
    pub(super) fn find(
        image: &str,
        config: &PythonConfig,
        base: &Object,
        contents: &Contents,
        platform: &str,
    ) -> Result<Self> {
        let found = preferred(contents);
        let version = Self::version(image, Some(config), base, contents)?;
        // The first line of a script outlives a patch release of the base.
        let folder = found.as_deref().and_then(|path| path.rsplit_once('/')).map(|(folder, _)| folder);
        let path = match folder {
            Some(folder) => format!("/{folder}/python3"),
            None => "/usr/bin/env python3".into(),
        };
        let libc = if contents.musl.is_empty() { "gnu" } else { "musl" };
        let machine = match platform {
            "linux/amd64" => "x86_64",
            "linux/arm64" | "linux/arm64/v8" => "aarch64",
            _ => {
                return Err(Error::refused(format!("engine \"direct\" installs no packages for {platform}"))
                    .help(
                        "take engine = \"docker\" for this image, or a base for linux/amd64 or linux/arm64",
                    ));
            }
        };
        Ok(Interpreter { version, path, platform: format!("{machine}-unknown-linux-{libc}") })
    }

    /// Its version alone: what imgforge.toml says, or that of the base's own.
    ///
    /// # Errors
    /// There is none.
    pub(super) fn version(
        image: &str,
        config: Option<&PythonConfig>,
        base: &Object,
        contents: &Contents,
    ) -> Result<String> {
        let written = config.and_then(|config| config.version.as_ref());
        match (written, python_version(base), preferred(contents)) {
            (Some(version), _, _) => Ok(version.get_ref().clone()),
            (None, Some(version), _) => Ok(version),
            (None, None, Some(path)) => Ok(path.rsplit("python").next().unwrap_or_default().to_owned()),
            (None, None, None) => Err(Error::config(format!("the base of image {image:?} has no Python"))
                .help(format!(
                    "take a base with python3, or say where it comes from with version = \"3.11\" in \
                     [images.{image}.python]"
                ))),
        }
    }
}

/// `3.11` of a version.
pub(super) fn minor(version: &str) -> String {
    version.split('.').take(2).collect::<Vec<_>>().join(".")
}

fn python_version(base: &Object) -> Option<String> {
    let variables = base.get("config")?.get("Env")?.as_array()?;
    let version =
        variables.iter().filter_map(Value::as_str).find_map(|text| text.strip_prefix("PYTHON_VERSION="))?;
    // Of a version before its release only the numbers: `3.14.0rc1`.
    let numbers = |part: &&str| part.bytes().all(|byte| byte.is_ascii_digit());
    let parts: Vec<&str> = version.split('.').take_while(numbers).collect();
    (parts.len() >= 2).then(|| parts.join("."))
}

/// The interpreter that `python3` is: what its link leads to, or the only one.
fn preferred(contents: &Contents) -> Option<String> {
    for folder in ["usr/local/bin", "usr/bin"] {
        let here: Vec<&String> = contents
            .pythons
            .iter()
            .filter(|path| path.rsplit_once('/').is_some_and(|(at, _)| at == folder))
            .collect();
        let linked = contents.links.get(&format!("{folder}/python3"));
        let linked = linked.and_then(|target| here.iter().find(|path| path.ends_with(&format!("/{target}"))));
        if let Some(path) = linked.or(here.first().filter(|_| here.len() == 1)) {
            return Some((*path).clone());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contents(pythons: &[&str], python3: &str) -> Contents {
        let pythons = pythons.iter().map(|path| (*path).to_owned()).collect();
        let links = [("usr/bin/python3".to_owned(), python3.to_owned())].into();
        Contents { pythons, links, ..Contents::default() }
    }

    fn find(
        config: &str,
        base: serde_json::Value,
        contents: &Contents,
        platform: &str,
    ) -> Result<Interpreter> {
        let config: PythonConfig = toml::from_str(config).unwrap();
        Interpreter::find("web", &config, base.as_object().unwrap(), contents, platform)
    }

    #[test]
    fn the_python_of_a_base_is_found() {
        let debian = contents(&["usr/bin/python3.11", "usr/bin/python3.9"], "python3.11");
        let none = serde_json::json!({});
        let found = find("", none.clone(), &debian, "linux/amd64").unwrap();
        assert_eq!(found.version, "3.11");
        assert_eq!(
            (found.path.as_str(), found.platform.as_str()),
            ("/usr/bin/python3", "x86_64-unknown-linux-gnu")
        );
        let official = serde_json::json!({"config": {"Env": ["PYTHON_VERSION=3.13.2"]}});
        let local = contents(&["usr/local/bin/python3.13", "usr/bin/python3.11"], "python3.11");
        let found = find("", official, &local, "linux/arm64/v8").unwrap();
        assert_eq!((found.version.as_str(), found.path.as_str()), ("3.13.2", "/usr/local/bin/python3"));
        assert_eq!(find("version = \"3.12\"", none.clone(), &debian, "linux/amd64").unwrap().version, "3.12");
        let error = find("", none.clone(), &contents(&[], ""), "linux/amd64").unwrap_err();
        assert!(error.what().contains("has no Python"), "{error:?}");
        assert!(find("", none, &debian, "linux/s390x").is_err());
    }
}
