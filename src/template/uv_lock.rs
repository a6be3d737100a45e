//! What uv.lock would install of a project: its own requirements, and theirs.
//!
//! The file's form is uv's (<https://docs.astral.sh/uv/concepts/projects/layout/#the-lockfile>): a `[[package]]` for every package, the
//! project's own among them, with what it depends on.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Deserialize;

use crate::error::{Error, Result};

/// The file.
pub(super) const FILE: &str = "uv.lock";

#[derive(Deserialize)]
struct Lock {
    #[serde(default)]
    package: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    source: Source,
    #[serde(default)]
    dependencies: Vec<Dependency>,
    #[serde(default, rename = "optional-dependencies")]
    optional: BTreeMap<String, Vec<Dependency>>,
}

/// Where it comes from. Of the project itself that is its folder.
#[derive(Deserialize)]
struct Source {
    #[serde(rename = "virtual")]
    virtual_project: Option<String>,
    editable: Option<String>,
}

impl Source {
    fn is_here(&self) -> bool {
        [&self.virtual_project, &self.editable].into_iter().flatten().any(|folder| folder == ".")
    }
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    #[serde(default)]
    extra: Vec<String>,
}

/// The names of the packages that servers get: not those of groups for developers.
///
/// # Errors
/// [`crate::error::Kind::Config`] when the file cannot be read, or is of another form.
pub(super) fn named(file: &Path) -> Result<BTreeSet<String>> {
    let text = fs_err::read_to_string(file)?;
    let lock: Lock = toml::from_str(&text).map_err(|error| {
        Error::config("uv.lock is not as uv writes it").because(error).help("make it anew: uv lock")
    })?;
    let mut names = BTreeSet::new();
    let mut next: Vec<&Dependency> = lock
        .package
        .iter()
        .filter(|package| package.source.is_here())
        .flat_map(|own| &own.dependencies)
        .collect();
    let mut seen = BTreeSet::new();
    while let Some(Dependency { name, extra }) = next.pop() {
        if !seen.insert((name, extra)) {
            continue;
        }
        names.insert(name.clone());
        for package in lock.package.iter().filter(|package| package.name == *name) {
            next.extend(&package.dependencies);
            next.extend(extra.iter().filter_map(|extra| package.optional.get(extra)).flatten());
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As `uv lock` writes it, with less in each package.
    const LOCK: &str = r#"
version = 1
revision = 3
requires-python = ">=3.13"

[[package]]
name = "mysite"
version = "0.1.0"
source = { virtual = "." }
dependencies = [
    { name = "celery", extra = ["redis"] },
    { name = "django" },
]

[package.dev-dependencies]
dev = [{ name = "gunicorn" }]

[[package]]
name = "celery"
version = "5.7.0"
source = { registry = "https://example.com/simple" }
dependencies = [{ name = "kombu" }]

[package.optional-dependencies]
redis = [{ name = "redis" }]
pymemcache = [{ name = "pymemcache" }]

[[package]]
name = "django"
version = "5.2.19"
source = { registry = "https://example.com/simple" }

[[package]]
name = "kombu"
version = "5.7.0"
source = { registry = "https://example.com/simple" }
dependencies = [{ name = "celery", extra = ["redis"] }]
"#;

    #[test]
    fn what_servers_get_is_known_and_not_what_developers_and_other_extras_have() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(FILE);
        fs_err::write(&file, LOCK).unwrap();
        let names = named(&file).unwrap();
        assert_eq!(names.into_iter().collect::<Vec<_>>(), ["celery", "django", "kombu", "redis"]);
        fs_err::write(&file, "package = 3").unwrap();
        assert_eq!(named(&file).unwrap_err().kind(), crate::error::Kind::Config);
    }
}
