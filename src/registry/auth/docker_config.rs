//! The Docker CLI's config.json: logins written in it, and the credential helpers that it names
//! (docs.docker.com, "docker login", sections "Credential stores" and "Credential helpers").

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Stdio;

use async_trait::async_trait;
use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::Deserialize;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::sync::Mutex;
use zeroize::Zeroizing;

use super::{Hidden, LoginSource, normal_host};
use crate::engine::Login;
use crate::error::{Error, Result};
use crate::image::reference::DOCKER_HUB;
use crate::secret::Secret;

/// The key that Docker stores Docker Hub's login under.
pub const DOCKER_HUB_KEY: &str = "https://index.docker.io/v1/";

/// A folder with a config.json.
pub struct DockerConfig {
    folder: Option<PathBuf>,
    /// Where helpers are looked for; the process's own `PATH` when nothing is said.
    path: Option<String>,
    // A helper may ask a keychain or a cloud: once per host and run.
    known: Mutex<BTreeMap<String, Option<Login>>>,
}

impl DockerConfig {
    /// The folder that `DOCKER_CONFIG` names, else `.docker` in the home folder. `lookup` gives environment variables.
    pub fn new(lookup: impl Fn(&str) -> Option<String>) -> Self {
        let get = |name: &str| lookup(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let folder = get("DOCKER_CONFIG").or_else(|| get("HOME").map(|home| home.join(".docker")));
        DockerConfig { folder, path: lookup("PATH"), known: Mutex::default() }
    }

    async fn read(&self) -> Result<Option<File>> {
        let Some(folder) = &self.folder else { return Ok(None) };
        let path = folder.join("config.json");
        let bytes = match fs_err::tokio::read(&path).await {
            Ok(bytes) => Zeroizing::new(bytes),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        // serde_json's messages can quote a string of the file: only the place is told.
        let file = serde_json::from_slice(&bytes).map_err(|error| {
            let (line, column) = (error.line(), error.column());
            Error::config(format!("{}:{line}:{column} is not what a Docker config holds", path.display()))
                .help("mend it, or set DOCKER_USER and DOCKER_PASS")
        })?;
        Ok(Some(file))
    }

    async fn look_up(&self, host: &str) -> Result<Option<Login>> {
        let Some(file) = self.read().await? else { return Ok(None) };
        let key = if host == DOCKER_HUB { DOCKER_HUB_KEY } else { host };
        let helper = file
            .cred_helpers
            .iter()
            .find(|(written, _)| normal_host(written) == host)
            .map(|(_, helper)| helper)
            .or(file.creds_store.as_ref());
        if let Some(helper) = helper.filter(|helper| !helper.is_empty())
            && let Some(login) = self.ask_helper(helper, key).await?
        {
            return Ok(Some(login));
        }
        let entry = file.auths.get(key).or_else(|| {
            file.auths.iter().find(|(written, _)| normal_host(written) == host).map(|(_, entry)| entry)
        });
        match entry {
            Some(entry) => entry.login(key),
            None => Ok(None),
        }
    }

    /// `docker-credential-NAME get`: the key on its input, JSON on its output (docker/docker-credential-helpers).
    async fn ask_helper(&self, helper: &str, key: &str) -> Result<Option<Login>> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Answer {
            username: String,
            secret: Hidden,
        }
        let program = format!("docker-credential-{helper}");
        let failed = |why: &str| {
            Error::failed(format!("{program} gives no login for {key}: {why}"))
                .help("set DOCKER_USER and DOCKER_PASS, or take the helper out of the Docker config")
        };
        let mut command = Command::new(&program);
        if let Some(path) = &self.path {
            command.env("PATH", path);
        }
        let mut child = command
            .arg("get")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| failed("it cannot be started").because(error))?;
        let mut input = child.stdin.take().expect("its input was asked for");
        // A helper that ends without reading its input says why on its output.
        let _ = input.write_all(key.as_bytes()).await;
        drop(input);
        let output =
            child.wait_with_output().await.map_err(|error| failed("it cannot be read").because(error))?;
        let answer = Zeroizing::new(output.stdout);
        if !output.status.success() {
            // The words that every helper uses for "no such login" (credentials.NewErrCredentialsNotFound).
            if String::from_utf8_lossy(&answer).contains("credentials not found") {
                return Ok(None);
            }
            return Err(failed(&format!("it ended with {}", output.status)));
        }
        let answer: Answer =
            serde_json::from_slice(&answer).map_err(|_| failed("its answer is not what a helper gives"))?;
        if answer.username.is_empty() && answer.secret.0.is_empty() {
            return Ok(None);
        }
        Ok(Some(login(&answer.username, answer.secret.0.as_bytes())))
    }
}

#[async_trait]
impl LoginSource for DockerConfig {
    fn describe(&self) -> String {
        match &self.folder {
            Some(folder) => format!("the Docker config in {}", folder.display()),
            None => "the Docker config (no home folder)".into(),
        }
    }

    async fn find(&self, host: &str) -> Result<Option<Login>> {
        let mut known = self.known.lock().await;
        if let Some(login) = known.get(host) {
            return Ok(login.clone());
        }
        let login = self.look_up(host).await?;
        known.insert(host.to_owned(), login.clone());
        Ok(login)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
    #[serde(default)]
    creds_store: Option<String>,
    #[serde(default)]
    cred_helpers: BTreeMap<String, String>,
}

/// With a credential store Docker leaves an empty entry behind.
#[derive(Deserialize)]
struct Entry {
    auth: Option<Hidden>,
    username: Option<String>,
    password: Option<Hidden>,
    identitytoken: Option<Hidden>,
}

impl Entry {
    fn login(&self, key: &str) -> Result<Option<Login>> {
        fn filled(text: &Option<Hidden>) -> Option<&str> {
            text.as_ref().map(|text| text.0.as_str()).filter(|text| !text.is_empty())
        }
        if let Some(token) = filled(&self.identitytoken) {
            return Ok(Some(Login::identity_token(Secret::new(token.as_bytes().to_vec()))));
        }
        if let Some(auth) = filled(&self.auth) {
            let bad = || {
                Error::config(format!("the Docker config's auth for {key} is not base64 of user:password"))
                    .help(format!("run `docker login {}` again", normal_host(key)))
            };
            let decoded = Zeroizing::new(lenient_base64().decode(auth.as_bytes()).map_err(|_| bad())?);
            let text = std::str::from_utf8(&decoded).map_err(|_| bad())?;
            let (user, password) = text.split_once(':').ok_or_else(bad)?;
            // Docker once padded with zero bytes.
            return Ok(Some(login(user, password.trim_end_matches('\0').as_bytes())));
        }
        match (&self.username, filled(&self.password)) {
            (Some(user), Some(password)) => Ok(Some(login(user, password.as_bytes()))),
            _ => Ok(None),
        }
    }
}

fn login(user: &str, password: &[u8]) -> Login {
    Login { username: user.to_owned(), password: Secret::new(password.to_vec()) }
}

fn lenient_base64() -> GeneralPurpose {
    let config = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    GeneralPurpose::new(&alphabet::STANDARD, config)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    use super::*;

    fn config_in(folder: &Path) -> DockerConfig {
        let folder = folder.to_str().unwrap().to_owned();
        let path = format!("{folder}:/usr/bin:/bin");
        DockerConfig::new(|name| match name {
            "DOCKER_CONFIG" => Some(folder.clone()),
            "PATH" => Some(path.clone()),
            _ => None,
        })
    }

    async fn find(config: &str, host: &str) -> Result<Option<(String, Vec<u8>)>> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("config.json"), config).unwrap();
        let login = config_in(folder.path()).find(host).await?;
        Ok(login.map(|login| (login.username, login.password.expose().to_vec())))
    }

    fn wants(user: &str, password: &str) -> Option<(String, Vec<u8>)> {
        Some((user.to_owned(), password.into()))
    }

    #[tokio::test]
    async fn reads_every_form_of_an_entry() {
        // "dXNlcjpwYTpzcw==" is user:pa:ss.
        for entry in [
            r#"{"auth": "dXNlcjpwYTpzcw=="}"#,
            r#"{"auth": "dXNlcjpwYTpzcw"}"#,
            r#"{"username": "user", "password": "pa:ss"}"#,
        ] {
            let config = format!(r#"{{"auths": {{"registry.example.com": {entry}}}, "unknown": 1}}"#);
            assert_eq!(
                find(&config, "registry.example.com").await.unwrap(),
                wants("user", "pa:ss"),
                "{entry}"
            );
            assert_eq!(find(&config, "docker.io").await.unwrap(), None);
        }
        let token = r#"{"auths": {"r.example.com": {"auth": "eDo=", "identitytoken": "t"}}}"#;
        assert_eq!(find(token, "r.example.com").await.unwrap(), wants("<token>", "t"));
    }

    #[tokio::test]
    async fn docker_hub_is_found_under_its_old_address() {
        let config = r#"{"auths": {"https://index.docker.io/v1/": {"auth": "dXNlcjpwYTpzcw=="}}}"#;
        assert_eq!(find(config, "docker.io").await.unwrap(), wants("user", "pa:ss"));
        assert_eq!(find(r#"{"auths": {"docker.io": {}}}"#, "docker.io").await.unwrap(), None);
    }

    #[tokio::test]
    async fn no_config_is_no_login() {
        let folder = tempfile::tempdir().unwrap();
        assert!(config_in(folder.path()).find("docker.io").await.unwrap().is_none());
        assert!(DockerConfig::new(|_| None).find("docker.io").await.unwrap().is_none());
    }

    #[tokio::test]
    async fn a_broken_config_is_told_without_its_content() {
        let broken = find(r#"{"auths": {"docker.io": {"auth": 5, "password": "hush"}}}"#, "docker.io").await;
        let misplaced = find(r#"{"auths": {"docker.io": "hush"}}"#, "docker.io").await;
        let undecodable = find(r#"{"auths": {"docker.io": {"auth": "hush!"}}}"#, "docker.io").await;
        for error in [broken.unwrap_err(), misplaced.unwrap_err(), undecodable.unwrap_err()] {
            assert_eq!(error.kind(), crate::error::Kind::Config);
            assert!(!format!("{error:?}").contains("hush"), "{error:?}");
        }
    }

    #[tokio::test]
    async fn a_missing_helper_is_named() {
        let config = r#"{"credHelpers": {"r.example.com": "no-such-helper"}}"#;
        let error = find(config, "r.example.com").await.unwrap_err();
        assert!(error.what().contains("docker-credential-no-such-helper"), "{error}");
        assert_eq!(find(config, "other.example.com").await.unwrap(), None);
    }

    /// A helper as docker-credential-helpers describes them: it reads the key, and answers or says that it has none.
    fn helper(folder: &Path, name: &str, then: &str) {
        let path = folder.join(format!("docker-credential-{name}"));
        let script = format!("#!/bin/sh\n[ \"$1\" = get ] || exit 9\nread -r key\n{then}\n");
        std::fs::write(&path, script).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    #[tokio::test]
    async fn helpers_are_asked_by_host_and_then_the_store() {
        let folder = tempfile::tempdir().unwrap();
        helper(folder.path(), "one", r#"echo "{\"Username\": \"one\", \"Secret\": \"for $key\"}""#);
        helper(folder.path(), "none", "echo 'credentials not found in native keychain'; exit 1");
        helper(folder.path(), "bad", "echo hush; exit 3");
        let config = r#"{"credsStore": "none", "credHelpers": {"r.example.com": "one", "b.example.com": "bad"},
            "auths": {"docker.io": {}, "https://plain.example.com": {"username": "u", "password": "p"}}}"#;
        std::fs::write(folder.path().join("config.json"), config).unwrap();
        let source = config_in(folder.path());
        let login = source.find("r.example.com").await.unwrap().unwrap();
        assert_eq!((login.username.as_str(), login.password.expose()), ("one", &b"for r.example.com"[..]));
        assert!(source.find("docker.io").await.unwrap().is_none());
        assert_eq!(source.find("plain.example.com").await.unwrap().unwrap().username, "u");
        let error = source.find("b.example.com").await.unwrap_err();
        assert!(error.what().contains("docker-credential-bad"), "{error}");
        assert!(!format!("{error:?}").contains("hush"), "{error:?}");
    }
}
