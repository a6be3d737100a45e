//! uv, which resolves and installs Python packages (docs.astral.sh/uv).
//!
//! Invariant (contract 6): what build secrets hold reaches it through its environment, never through its arguments, and
//! the certificates, which are public, through a file that only this user can read and that is gone afterwards.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::{self, ErrorKind, Write};
use std::path::Path;
use std::process::{Output, Stdio};

use tokio::process::Command;

use crate::error::{Error, Result};
use crate::secret::Secret;

/// The build secret with certificates to trust.
const CA_BUNDLE: &str = "ca_bundle";
/// The build secret with a pip.conf: an index of one's own, with its login.
const PIP_CONF: &str = "pip_conf";
/// What of the caller's environment would change what is installed, and where.
const NOT_PASSED_ON: [&str; 12] = [
    "VIRTUAL_ENV",
    "CONDA_PREFIX",
    "PYTHONPATH",
    "PYTHONHOME",
    "UV_PYTHON",
    "UV_COMPILE_BYTECODE",
    "UV_CONSTRAINT",
    "UV_OVERRIDE",
    "UV_PRERELEASE",
    "UV_RESOLUTION",
    "UV_PROJECT_ENVIRONMENT",
    "UV_REQUIRE_HASHES",
];
/// How many of its last lines an error shows.
const LAST_LINES: usize = 12;

/// uv as it is on this machine.
#[derive(Debug, Clone)]
pub(super) struct Uv {
    /// `0.13.9`
    pub(super) version: String,
}

/// What a run of it may use besides its arguments.
#[derive(Debug)]
pub(super) struct Access {
    variables: Vec<(&'static str, String)>,
    /// Kept until the run is over.
    certificates: Option<tempfile::NamedTempFile>,
}

impl Uv {
    /// Finds it on PATH.
    ///
    /// # Errors
    /// [`crate::error::Kind::Refused`]: it is not there.
    pub(super) async fn find() -> Result<Self> {
        let output = Command::new("uv").arg("--version").stdin(Stdio::null()).output().await;
        let output = output.map_err(|error| match error.kind() {
            ErrorKind::NotFound => {
                Error::refused("Python packages are installed with uv, which is not on PATH")
                    .help("pip install uv, or see https://docs.astral.sh/uv/getting-started/installation/")
            }
            _ => Error::refused("cannot start uv").because(error),
        })?;
        let text = String::from_utf8_lossy(&output.stdout);
        match text.split_whitespace().nth(1) {
            Some(version) if output.status.success() => Ok(Uv { version: version.to_owned() }),
            _ => Err(Error::refused("uv does not tell its version")
                .because(Error::failed(last_lines(&output)))
                .help("install it anew: pip install --upgrade uv")),
        }
    }

    /// Runs it in `folder`; gives what it prints.
    ///
    /// # Errors
    /// It ended with a code, told in its own last lines.
    pub(super) async fn run(
        &self,
        doing: &str,
        arguments: impl IntoIterator<Item: AsRef<OsStr>>,
        folder: &Path,
        access: &Access,
    ) -> Result<String> {
        let mut command = Command::new("uv");
        command.args(arguments).current_dir(folder).stdin(Stdio::null()).kill_on_drop(true);
        for name in NOT_PASSED_ON {
            command.env_remove(name);
        }
        command.env("UV_NO_PROGRESS", "1").env("NO_COLOR", "1").envs(access.variables.iter().cloned());
        if let Some(file) = &access.certificates {
            command.env("SSL_CERT_FILE", file.path());
        }
        let output =
            command.output().await.map_err(|error| Error::failed("cannot start uv").because(error))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        Err(failed(doing, &access.redact(&last_lines(&output))))
    }
}

impl Access {
    /// What the build secrets allow.
    ///
    /// # Errors
    /// The certificates cannot be written down; a pip.conf that is no text.
    pub(super) fn new(secrets: &BTreeMap<String, Secret>) -> Result<Self> {
        let mut access = Access { variables: Vec::new(), certificates: None };
        if let Some(bundle) = secrets.get(CA_BUNDLE).filter(|bundle| !bundle.is_empty()) {
            let mut file = tempfile::NamedTempFile::new()?;
            file.write_all(bundle.expose())?;
            file.flush()?;
            access.certificates = Some(file);
        }
        if let Some(conf) = secrets.get(PIP_CONF).filter(|conf| !conf.is_empty()) {
            let text = std::str::from_utf8(conf.expose())
                .map_err(|_| Error::config(format!("the build secret {PIP_CONF:?} is not a text")))?;
            access.variables = pip_conf(text);
        }
        Ok(access)
    }

    /// Without the values of variables that it got: an index may have its login in its address.
    fn redact(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for value in self.variables.iter().flat_map(|(_, values)| values.split_whitespace()) {
            text = text.replace(value, "[from pip_conf]");
        }
        text
    }
}

/// The settings of a pip.conf that uv knows under other names (docs.astral.sh/uv/reference/environment).
fn pip_conf(text: &str) -> Vec<(&'static str, String)> {
    let mut settings: BTreeMap<&'static str, Vec<String>> = BTreeMap::new();
    let mut current: Option<&'static str> = None;
    for line in text.lines() {
        let trimmed = line.trim();
        if trimmed.is_empty() || trimmed.starts_with(['#', ';', '[']) {
            if trimmed.starts_with('[') {
                current = None;
            }
            continue;
        }
        // An indented line goes on with the setting above it (Python's configparser).
        let (name, value) = match trimmed.split_once('=') {
            Some((name, value)) if !line.starts_with([' ', '\t']) => {
                let name = match name.trim() {
                    "index-url" | "index_url" => Some("UV_DEFAULT_INDEX"),
                    "extra-index-url" | "extra_index_url" => Some("UV_INDEX"),
                    "trusted-host" | "trusted_host" => Some("UV_INSECURE_HOST"),
                    "find-links" | "find_links" => Some("UV_FIND_LINKS"),
                    _ => None,
                };
                (name, value.trim())
            }
            _ => (current, trimmed),
        };
        current = name;
        if let Some(name) = name {
            settings.entry(name).or_default().extend(value.split_whitespace().map(str::to_owned));
        }
    }
    settings
        .into_iter()
        .filter(|(_, values)| !values.is_empty())
        .map(|(name, values)| (name, values.join(" ")))
        .collect()
}

fn last_lines(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(LAST_LINES)..].join("\n")
}

/// An error for what uv said; a package that has no wheel is named.
fn failed(doing: &str, said: &str) -> Error {
    if let Some(package) = without_wheel(said) {
        return Error::failed(format!("cannot {doing}: {package} has no wheel for the base's Python and platform"))
            .because(Error::failed(said))
            .help(format!(
                "take a version of {package} that has one (its \"Download files\" page on PyPI lists them), put one into \
                 an index of your own, or build this image with engine = \"docker\""
            ));
    }
    let error = Error::failed(format!("cannot {doing}")).because(Error::failed(said));
    if said.contains("was not found in the package registry") {
        error.help("check the package's name, and the index: build secret pip_conf, or UV_DEFAULT_INDEX")
    } else if said.contains("python-build-standalone") || said.contains("No interpreter found") {
        error.help(
            "uv found no fitting Python on this machine and could not fetch one. To install packages any Python does, to run \
             commands or to compile it wants the base's version: apt-get install python3, or uv python install VERSION",
        )
    } else if said.contains("certificate") {
        error.help("name the certificates of your proxy: [build.secrets] ca_bundle = \"FILE\"")
    } else {
        error.help("mend what uv says above, then run the same command again")
    }
}

/// The package that uv has found only as source (crates/uv-resolver, pubgrub/report.rs).
fn without_wheel(said: &str) -> Option<&str> {
    for words in ["Wheels are required for `", "attempted to build `"] {
        if let Some((_, rest)) = said.split_once(words) {
            return rest.split('`').next();
        }
    }
    ["has no usable wheels", "has no wheels with a matching"].iter().find_map(|words| {
        let before = said.split_once(words)?.0;
        let requirement = before.split_whitespace().last()?;
        requirement.split(['=', '<', '>', '!', '~', '[']).next().filter(|name| !name.is_empty())
    })
}

/// Errors of reading what was installed.
pub(super) fn on_disk(error: io::Error) -> Error {
    Error::failed("what uv installed cannot be read").because(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pip_conf_becomes_variables() {
        let text = "[global]\nindex-url = https://me:secret@index.example.com/simple\nextra-index-url =\n    \
                    https://a.example.com\n    https://b.example.com\ntimeout = 60\n[install]\ntrusted-host=c.example.com\n";
        assert_eq!(
            pip_conf(text),
            [
                ("UV_DEFAULT_INDEX", "https://me:secret@index.example.com/simple".to_owned()),
                ("UV_INDEX", "https://a.example.com https://b.example.com".to_owned()),
                ("UV_INSECURE_HOST", "c.example.com".to_owned()),
            ]
        );
    }

    #[test]
    fn what_a_pip_conf_holds_is_in_no_error() {
        let conf =
            Secret::new(b"[global]\nindex-url = https://me:secret@index.example.com/simple\n".to_vec());
        let access = Access::new(&BTreeMap::from([(PIP_CONF.to_owned(), conf)])).unwrap();
        let told = access.redact("error: https://me:secret@index.example.com/simple/x is not there");
        assert_eq!(told, "error: [from pip_conf]/x is not there");
    }

    #[test]
    fn a_package_without_a_wheel_is_named() {
        let said = "error: No solution found when resolving dependencies\n  cause: Because uwsgi==2.0.30 has no usable \
                    wheels and you require uwsgi==2.0.30, we can conclude that your requirements are unsatisfiable.";
        assert_eq!(without_wheel(said), Some("uwsgi"));
        let platform =
            "Because lxml>=5 has no wheels with a matching platform tag (e.g., `x`) and you require lxml";
        assert_eq!(without_wheel(platform), Some("lxml"));
        let folder = "error: Building source distributions is disabled, but attempted to build `site`";
        assert_eq!(without_wheel(folder), Some("site"));
        let error = failed("install packages", said);
        assert!(error.what().contains("uwsgi has no wheel"), "{error:?}");
    }
}
