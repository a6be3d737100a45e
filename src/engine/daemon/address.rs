//! Where the daemon is: `DOCKER_HOST`, a Docker context, or the default socket, in the order of the docker CLI
//! (docker/cli, cli/command/cli.go, `resolveContextName`).

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use url::Url;

use crate::digest::Digest;
use crate::error::{Error, Result};

/// Where a daemon listens when nothing else is said.
const DEFAULT: &str = "unix:///var/run/docker.sock";
/// The context that means "no context".
const DEFAULT_CONTEXT: &str = "default";
/// The daemon's port without TLS, and with it.
const PORTS: (u16, u16) = (2375, 2376);

/// How to reach a daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// A socket of this machine.
    Unix(PathBuf),
    /// A port, in the clear.
    Tcp {
        /// Name or address, without brackets.
        host: String,
        /// Port.
        port: u16,
    },
    /// A port behind TLS, with `ca.pem`, `cert.pem` and `key.pem` in a folder.
    Tls {
        /// Name or address, without brackets.
        host: String,
        /// Port.
        port: u16,
        /// The folder.
        certificates: PathBuf,
    },
    /// Through `ssh HOST docker system dial-stdio`.
    Ssh {
        /// The user, when one is named.
        user: Option<String>,
        /// The host, as ssh takes it.
        host: String,
        /// The port, when one is named.
        port: Option<u16>,
    },
}

/// An endpoint and what said so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// How to reach it.
    pub endpoint: Endpoint,
    /// For people: `DOCKER_HOST`, `context shop`, `the default`.
    pub said_by: String,
    /// `PATH`, where ssh is looked for.
    pub search_path: Option<String>,
}

impl Address {
    /// Resolves the address from the environment and Docker's own configuration folder (`~/.docker`).
    ///
    /// # Errors
    /// An address or a context that makes no sense.
    pub fn resolve(env: &dyn Fn(&str) -> Option<String>, config_dir: &Path) -> Result<Self> {
        let env = |name: &str| env(name).filter(|value| !value.is_empty());
        let (endpoint, said_by) = find(&env, config_dir)?;
        Ok(Address { endpoint, said_by, search_path: env("PATH") })
    }

    /// The variables that lead a child process (docker-compose) to the same daemon. Variables of these names that are
    /// not in the list should be taken out of the child's environment: see [`VARIABLES`].
    pub fn environment(&self) -> Vec<(String, String)> {
        let mut variables = vec![("DOCKER_HOST".to_owned(), self.endpoint.to_string())];
        if let Endpoint::Tls { certificates, .. } = &self.endpoint {
            variables.push(("DOCKER_TLS_VERIFY".into(), "1".into()));
            variables.push(("DOCKER_CERT_PATH".into(), certificates.display().to_string()));
        }
        variables
    }
}

/// Every variable that says where the daemon is.
pub const VARIABLES: [&str; 4] = ["DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH"];

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.endpoint.fmt(f)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bracketed = |host: &str| if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        match self {
            Endpoint::Unix(path) => write!(f, "unix://{}", path.display()),
            Endpoint::Tcp { host, port } | Endpoint::Tls { host, port, .. } => {
                write!(f, "tcp://{}:{port}", bracketed(host))
            }
            Endpoint::Ssh { user, host, port } => {
                let user = user.as_ref().map(|user| format!("{user}@")).unwrap_or_default();
                let port = port.map(|port| format!(":{port}")).unwrap_or_default();
                write!(f, "ssh://{user}{}{port}", bracketed(host))
            }
        }
    }
}

impl Endpoint {
    /// Parses what `DOCKER_HOST` holds.
    ///
    /// # Errors
    /// An unknown scheme, or no host.
    pub fn parse(text: &str, certificates: Option<&Path>) -> Result<Self> {
        let bad = |why: &str| {
            Error::config(format!("{text:?} is not a Docker host: {why}"))
                .help("a Docker host is unix:///PATH, tcp://HOST:PORT or ssh://[USER@]HOST[:PORT]")
        };
        let (scheme, rest) = text.split_once("://").unwrap_or(("tcp", text));
        if scheme == "unix" {
            return match rest {
                "" => Err(bad("the socket's path is missing")),
                path => Ok(Endpoint::Unix(path.into())),
            };
        }
        if !matches!(scheme, "tcp" | "http" | "https" | "ssh") {
            return Err(bad("its scheme is not known"));
        }
        // `Url` only splits hosts from ports for schemes it knows; ssh's rules are the same here.
        let url = Url::parse(&format!("ssh://{rest}")).map_err(|error| bad(&error.to_string()))?;
        let host =
            url.host_str().filter(|host| !host.is_empty()).ok_or_else(|| bad("the host is missing"))?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        if !matches!(url.path(), "" | "/") || url.query().is_some() {
            return Err(bad("a path after the host is not supported"));
        }
        if url.password().is_some() {
            return Err(bad("a password does not belong there"));
        }
        if scheme == "ssh" {
            // ssh would take a leading dash for an option.
            if host.starts_with('-') || url.username().starts_with('-') {
                return Err(bad("a host cannot begin with a dash"));
            }
            let user = Some(url.username().to_owned()).filter(|user| !user.is_empty());
            return Ok(Endpoint::Ssh { user, host, port: url.port() });
        }
        match certificates {
            Some(certificates) => Ok(Endpoint::Tls {
                host,
                port: url.port().unwrap_or(PORTS.1),
                certificates: certificates.to_owned(),
            }),
            None if scheme == "https" => {
                Err(bad("https needs certificates: set DOCKER_TLS_VERIFY and DOCKER_CERT_PATH"))
            }
            None => Ok(Endpoint::Tcp { host, port: url.port().unwrap_or(PORTS.0) }),
        }
    }
}

/// The endpoint, and what said so.
fn find(env: &dyn Fn(&str) -> Option<String>, config_dir: &Path) -> Result<(Endpoint, String)> {
    if let Some(host) = env("DOCKER_HOST") {
        // Any value of DOCKER_TLS_VERIFY switches verification on, "0" too (docker/cli, opts).
        let certificates = env("DOCKER_TLS_VERIFY")
            .map(|_| env("DOCKER_CERT_PATH").map_or_else(|| config_dir.to_owned(), PathBuf::from));
        return Ok((Endpoint::parse(&host, certificates.as_deref())?, "DOCKER_HOST".into()));
    }
    let context = match env("DOCKER_CONTEXT") {
        Some(name) => Some((name, "DOCKER_CONTEXT")),
        None => current_context(config_dir)?.map(|name| (name, "docker context use")),
    };
    match context {
        Some((name, said_by)) if name != DEFAULT_CONTEXT => {
            Ok((from_context(&name, said_by, config_dir)?, format!("context {name}")))
        }
        _ => Ok((Endpoint::parse(DEFAULT, None)?, "the default".into())),
    }
}

fn current_context(config_dir: &Path) -> Result<Option<String>> {
    #[derive(Deserialize)]
    struct Config {
        #[serde(rename = "currentContext")]
        current_context: Option<String>,
    }
    let path = config_dir.join("config.json");
    let Some(text) = read(&path)? else { return Ok(None) };
    let config: Config = serde_json::from_str(&text).map_err(|error| {
        Error::config(format!("Docker's configuration {} is not valid JSON", path.display())).because(error)
    })?;
    Ok(config.current_context.filter(|name| !name.is_empty()))
}

/// Reads a context's metadata (docker/cli, cli/context/store: `contexts/meta/SHA256(name)/meta.json`, certificates in
/// `contexts/tls/SHA256(name)/docker/`).
fn from_context(name: &str, said_by: &str, config_dir: &Path) -> Result<Endpoint> {
    #[derive(Deserialize)]
    struct Meta {
        #[serde(rename = "Endpoints")]
        endpoints: Endpoints,
    }
    #[derive(Deserialize)]
    struct Endpoints {
        docker: Option<Docker>,
    }
    #[derive(Deserialize)]
    struct Docker {
        #[serde(rename = "Host", default)]
        host: String,
        #[serde(rename = "SkipTLSVerify", default)]
        skip_tls_verify: bool,
    }
    let key = Digest::of(name.as_bytes()).hex();
    let path = config_dir.join("contexts/meta").join(&key).join("meta.json");
    let text = read(&path)?.ok_or_else(|| {
        Error::config(format!("there is no Docker context {name:?} (named by {said_by})"))
            .help("`docker context ls` lists them; `docker context use default` goes back")
    })?;
    let bad = |why: &str| Error::config(format!("the Docker context {name:?} cannot be used: {why}"));
    let meta: Meta =
        serde_json::from_str(&text).map_err(|error| bad("its meta.json is not valid").because(error))?;
    let docker = meta.endpoints.docker.ok_or_else(|| bad("it names no Docker endpoint"))?;
    if docker.skip_tls_verify {
        return Err(bad("it skips the check of the daemon's certificate")
            .help(format!("`docker context update {name} --docker host=…,ca=…,cert=…,key=…`")));
    }
    let tls = config_dir.join("contexts/tls").join(&key).join("docker");
    let tls = tls.is_dir().then_some(tls);
    let host = if docker.host.is_empty() { DEFAULT } else { &docker.host };
    Endpoint::parse(host, tls.as_deref())
}

fn read(path: &Path) -> Result<Option<String>> {
    match fs_err::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(variables: &[(&str, &str)], config_dir: &Path) -> Result<Address> {
        let lookup =
            |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        Address::resolve(&lookup, config_dir)
    }

    fn nowhere() -> PathBuf {
        PathBuf::from("no-such-folder")
    }

    #[test]
    fn docker_host_takes_every_published_form() {
        let cases = [
            ("unix:///run/user/1000/docker.sock", "unix:///run/user/1000/docker.sock"),
            ("tcp://10.0.0.1:2375", "tcp://10.0.0.1:2375"),
            ("tcp://[::1]:2375", "tcp://[::1]:2375"),
            ("tcp://build.example.com", "tcp://build.example.com:2375"),
            ("10.0.0.1:4243", "tcp://10.0.0.1:4243"),
            ("ssh://build.example.com", "ssh://build.example.com"),
            ("ssh://me@build.example.com:2222", "ssh://me@build.example.com:2222"),
        ];
        for (text, want) in cases {
            let address = resolve(&[("DOCKER_HOST", text)], &nowhere()).unwrap();
            assert_eq!(address.to_string(), want, "{text}");
            assert_eq!(address.said_by, "DOCKER_HOST");
        }
    }

    #[test]
    fn malformed_hosts_are_configuration_errors() {
        for text in [
            "unix://",
            "tcp://",
            "npipe:////./pipe/docker_engine",
            "ssh://-oProxyCommand=x",
            "ssh://me:word@host",
            "tcp://host:1/path",
            "https://host:2376",
        ] {
            let error = resolve(&[("DOCKER_HOST", text)], &nowhere()).unwrap_err();
            assert_eq!(error.kind(), crate::error::Kind::Config, "{text}");
        }
    }

    #[test]
    fn docker_machine_variables_give_tls() {
        let variables = [
            ("DOCKER_TLS_VERIFY", "1"),
            ("DOCKER_HOST", "tcp://192.168.99.100:2376"),
            ("DOCKER_CERT_PATH", "/home/me/.docker/machine/machines/default"),
        ];
        let address = resolve(&variables, &nowhere()).unwrap();
        let certificates = PathBuf::from("/home/me/.docker/machine/machines/default");
        assert_eq!(
            address.endpoint,
            Endpoint::Tls { host: "192.168.99.100".into(), port: 2376, certificates }
        );
        let mut environment = address.environment();
        environment.sort();
        let mut want: Vec<(String, String)> =
            variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        want.sort();
        assert_eq!(environment, want);
    }

    #[test]
    fn nothing_said_is_the_default_socket() {
        let address = resolve(&[("DOCKER_HOST", ""), ("DOCKER_TLS_VERIFY", "1")], &nowhere()).unwrap();
        assert_eq!(address.to_string(), DEFAULT);
        assert_eq!(address.said_by, "the default");
    }

    fn config_with_contexts() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        std::fs::write(root.join("config.json"), r#"{"auths":{},"currentContext":"remote"}"#).unwrap();
        for (name, docker) in [
            ("remote", r#"{"Host":"ssh://me@remote.example.com","SkipTLSVerify":false}"#),
            ("secured", r#"{"Host":"tcp://10.0.0.2:2376","SkipTLSVerify":false}"#),
            ("careless", r#"{"Host":"tcp://10.0.0.2:2376","SkipTLSVerify":true}"#),
        ] {
            let meta = root.join("contexts/meta").join(Digest::of(name.as_bytes()).hex());
            std::fs::create_dir_all(&meta).unwrap();
            let text = format!(r#"{{"Name":"{name}","Metadata":{{}},"Endpoints":{{"docker":{docker}}}}}"#);
            std::fs::write(meta.join("meta.json"), text).unwrap();
        }
        let tls = root.join("contexts/tls").join(Digest::of(b"secured").hex()).join("docker");
        std::fs::create_dir_all(tls).unwrap();
        folder
    }

    #[test]
    fn contexts_come_after_docker_host_and_docker_context_before_the_current_one() {
        let config = config_with_contexts();
        let current = resolve(&[], config.path()).unwrap();
        assert_eq!(current.to_string(), "ssh://me@remote.example.com");
        assert_eq!(current.said_by, "context remote");
        let named = resolve(&[("DOCKER_CONTEXT", "secured")], config.path()).unwrap();
        let tls = config.path().join("contexts/tls").join(Digest::of(b"secured").hex()).join("docker");
        assert_eq!(named.endpoint, Endpoint::Tls { host: "10.0.0.2".into(), port: 2376, certificates: tls });
        let default = resolve(&[("DOCKER_CONTEXT", "default")], config.path()).unwrap();
        assert_eq!(default.to_string(), DEFAULT);
        let both = [("DOCKER_CONTEXT", "secured"), ("DOCKER_HOST", "unix:///s")];
        assert_eq!(resolve(&both, config.path()).unwrap().to_string(), "unix:///s");
    }

    #[test]
    fn contexts_that_cannot_be_used_say_why() {
        let config = config_with_contexts();
        let gone = resolve(&[("DOCKER_CONTEXT", "gone")], config.path()).unwrap_err();
        assert_eq!(gone.what(), "there is no Docker context \"gone\" (named by DOCKER_CONTEXT)");
        let careless = resolve(&[("DOCKER_CONTEXT", "careless")], config.path()).unwrap_err();
        assert!(careless.what().contains("skips the check"), "{careless}");
    }
}
