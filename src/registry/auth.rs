//! Who we are for a registry: where logins come from, and what they are turned into for each request.
//!
//! Invariant: a password is exposed in this folder alone (contract 6), to be put into a header marked sensitive or into
//! the body of a request for a token; no error and no log line has one.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Deserializer};
use zeroize::Zeroizing;

use crate::engine::{Login, Logins};
use crate::error::{Error, Result};
use crate::image::reference::DOCKER_HUB;
use crate::secret::Secret;

pub mod challenge;
pub mod docker_config;
pub mod token;

/// Text of an answer or a file that is wiped when dropped.
#[derive(Clone)]
struct Hidden(Zeroizing<String>);

impl<'de> Deserialize<'de> for Hidden {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Hidden(Zeroizing::new(text)))
    }
}

/// One place where logins can be found.
#[async_trait]
pub trait LoginSource: Send + Sync {
    /// For people: `DOCKER_USER and DOCKER_PASS`, `the Docker config in /home/me/.docker`.
    fn describe(&self) -> String;

    /// The login for a registry's host, when this source has one.
    ///
    /// # Errors
    /// The source is there and cannot be read.
    async fn find(&self, host: &str) -> Result<Option<Login>>;
}

/// A login and the words for where it was found.
#[derive(Debug, Clone)]
pub struct Found {
    /// The login.
    pub login: Login,
    /// The source's description.
    pub source: String,
}

/// The sources of logins, in the order in which they are asked. The first that has one for the host is taken.
#[derive(Clone, Default)]
pub struct LoginChain {
    sources: Vec<Arc<dyn LoginSource>>,
}

impl LoginChain {
    /// Without any source: everything is asked for anonymously.
    pub fn none() -> Self {
        LoginChain::default()
    }

    /// Asks `source` after those that are there.
    #[must_use]
    pub fn then(mut self, source: impl LoginSource + 'static) -> Self {
        self.sources.push(Arc::new(source));
        self
    }

    /// Asks `source` before those that are there.
    #[must_use]
    pub fn first(mut self, source: impl LoginSource + 'static) -> Self {
        self.sources.insert(0, Arc::new(source));
        self
    }

    /// The login for a host.
    ///
    /// # Errors
    /// A source that is there and cannot be read.
    pub async fn find(&self, host: &str) -> Result<Option<Found>> {
        let host = normal_host(host);
        for source in &self.sources {
            if let Some(login) = source.find(&host).await? {
                return Ok(Some(Found { login, source: source.describe() }));
            }
        }
        Ok(None)
    }

    /// Where was looked, in words: `DOCKER_USER and DOCKER_PASS, then the Docker config in …`.
    pub fn describe(&self) -> String {
        if self.sources.is_empty() {
            return "nowhere: no source of logins is set up".into();
        }
        self.sources.iter().map(|source| source.describe()).collect::<Vec<_>>().join(", then ")
    }
}

impl fmt::Debug for LoginChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LoginChain({})", self.describe())
    }
}

/// `DOCKER_USER` and `DOCKER_PASS`: for Docker Hub and for the registry that imgforge.toml names.
pub struct Environment {
    login: Option<Login>,
    hosts: Vec<String>,
}

impl Environment {
    /// Takes the two variables from `lookup`. `registry` is the host of the configured registry, when it has one.
    ///
    /// # Errors
    /// Only one of the two is set.
    pub fn new(lookup: impl Fn(&str) -> Option<String>, registry: Option<&str>) -> Result<Self> {
        // CI systems give variables that are not defined as empty ones.
        let get = |name: &str| lookup(name).filter(|value| !value.is_empty());
        let login = match (get("DOCKER_USER"), get("DOCKER_PASS")) {
            (Some(username), Some(password)) => {
                Some(Login { username, password: Secret::new(password.into_bytes()) })
            }
            (None, None) => None,
            (user, _) => {
                let (set, unset) = match user {
                    Some(_) => ("DOCKER_USER", "DOCKER_PASS"),
                    None => ("DOCKER_PASS", "DOCKER_USER"),
                };
                return Err(Error::config(format!("{set} is set and {unset} is not"))
                    .help(format!("set {unset} as well, or unset {set} to use the Docker config")));
            }
        };
        let hosts = std::iter::once(DOCKER_HUB).chain(registry).map(normal_host).collect();
        Ok(Environment { login, hosts })
    }
}

#[async_trait]
impl LoginSource for Environment {
    fn describe(&self) -> String {
        match self.login {
            Some(_) => format!("DOCKER_USER and DOCKER_PASS (for {})", self.hosts.join(" and ")),
            None => "DOCKER_USER and DOCKER_PASS (not set)".into(),
        }
    }

    async fn find(&self, host: &str) -> Result<Option<Login>> {
        Ok(self.login.clone().filter(|_| self.hosts.iter().any(|known| known == host)))
    }
}

/// Logins that were read elsewhere, such as the auth data of ecs.config.
pub struct Known {
    name: String,
    logins: Logins,
}

impl Known {
    /// `name` says where they are from; the hosts may be written as Docker does (`https://index.docker.io/v1/`).
    pub fn new(name: impl Into<String>, logins: Logins) -> Self {
        let logins = logins.into_iter().map(|(host, login)| (normal_host(&host), login));
        Known { name: name.into(), logins: logins.collect::<BTreeMap<_, _>>() }
    }
}

#[async_trait]
impl LoginSource for Known {
    fn describe(&self) -> String {
        self.name.clone()
    }

    async fn find(&self, host: &str) -> Result<Option<Login>> {
        Ok(self.logins.get(host).cloned())
    }
}

/// A registry's host as it is written in image names: without scheme and path, one name for Docker Hub.
pub fn normal_host(written: &str) -> String {
    let host =
        written.strip_prefix("https://").or_else(|| written.strip_prefix("http://")).unwrap_or(written);
    let host = host.split('/').next().unwrap_or(host);
    match host {
        "index.docker.io" | "registry-1.docker.io" | "registry.hub.docker.com" => DOCKER_HUB.into(),
        other => other.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login(name: &str) -> Login {
        Login { username: name.into(), password: Secret::new(b"hush".to_vec()) }
    }

    fn variables(name: &str) -> Option<String> {
        match name {
            "DOCKER_USER" => Some("env".into()),
            "DOCKER_PASS" => Some("hush".into()),
            _ => None,
        }
    }

    async fn user(chain: &LoginChain, host: &str) -> Option<String> {
        chain.find(host).await.unwrap().map(|found| found.login.username)
    }

    #[tokio::test]
    async fn the_first_source_with_a_login_for_the_host_is_taken() {
        let ecs = Logins::from([
            ("https://index.docker.io/v1/".to_owned(), login("ecs")),
            ("other.example.com".to_owned(), login("ecs")),
        ]);
        let chain = LoginChain::none()
            .then(Environment::new(variables, Some("registry.example.com")).unwrap())
            .then(Known::new("ecs.config", ecs));
        assert_eq!(user(&chain, "docker.io").await.as_deref(), Some("env"));
        assert_eq!(user(&chain, "registry.example.com").await.as_deref(), Some("env"));
        assert_eq!(user(&chain, "other.example.com").await.as_deref(), Some("ecs"));
        assert_eq!(user(&chain, "unknown.example.com").await, None);
    }

    #[test]
    fn one_variable_without_the_other_is_a_mistake() {
        let only_user = |name: &str| (name == "DOCKER_USER").then(|| "me".to_owned());
        let error = Environment::new(only_user, None).err().unwrap();
        assert_eq!(error.what(), "DOCKER_USER is set and DOCKER_PASS is not");
        let empty = |_: &str| Some(String::new());
        assert!(Environment::new(empty, None).unwrap().describe().contains("not set"));
    }

    #[tokio::test]
    async fn nothing_that_can_be_printed_has_the_password() {
        let chain = LoginChain::none().then(Environment::new(variables, None).unwrap());
        let found = chain.find("docker.io").await.unwrap();
        assert!(!format!("{chain:?} {found:?} {}", chain.describe()).contains("hush"));
    }

    #[test]
    fn hosts_are_recognized_in_dockers_spellings() {
        for (written, want) in [
            ("https://index.docker.io/v1/", "docker.io"),
            ("registry-1.docker.io", "docker.io"),
            ("http://127.0.0.1:5000/v2/", "127.0.0.1:5000"),
            ("ghcr.io", "ghcr.io"),
        ] {
            assert_eq!(normal_host(written), want, "{written}");
        }
    }
}
