//! The daemon's own transfers from and to registries: pull here, push in `engine/docker/push.rs`.
//!
//! The requests are made by hand. bollard's answers leave out which layer a line is about, and it encodes logins in an
//! alphabet that the daemon does not read, which it then takes for no login at all: passwords with `?`, `>` or `~` fail.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use bollard::auth::DockerCredentials;
use bytes::Bytes;
use futures_util::TryStreamExt;
use http::header::HeaderValue;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyDataStream, Empty};
use serde::{Deserialize, Serialize};
use tokio::io::AsyncBufReadExt;
use tokio_util::io::StreamReader;
use url::form_urlencoded::Serializer;

use super::Daemon;
use crate::digest::Digest;
use crate::engine::Login;
use crate::error::{Error, Result};
use crate::image::reference::{DOCKER_HUB, Reference, Version};
use crate::progress::Reporter;

/// What the daemon knows Docker Hub by (moby, registry/config.go, `IndexServer`).
const HUB_SERVER: &str = "https://index.docker.io/v1/";

/// One line of the daemon's answer (Docker Engine API, "Create an image" and "Push an image").
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Line {
    pub(crate) status: Option<String>,
    /// The layer, shortened.
    pub(crate) id: Option<String>,
    pub(crate) progress_detail: Option<Detail>,
    error: Option<String>,
    /// A request that is refused as a whole has its words here.
    message: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Detail {
    pub(crate) current: Option<u64>,
    pub(crate) total: Option<u64>,
}

impl Daemon {
    /// Pulls an image and gives its id.
    ///
    /// # Errors
    /// As the registry or the daemon says.
    pub async fn pull(
        &self,
        reference: &Reference,
        login: Option<&Login>,
        progress: &Reporter,
    ) -> Result<Digest> {
        let repository = &reference.repository;
        // The API takes a digest where it takes a tag.
        let (version, name) = match reference.version() {
            Version::Tag(tag) => (tag.to_string(), format!("{repository}:{tag}")),
            Version::Digest(digest) => (digest.to_string(), format!("{repository}@{digest}")),
        };
        // Finished here: an unfinished serializer cannot go from one thread to another.
        let query = Serializer::new(String::new())
            .append_pair("fromImage", &repository.to_string())
            .append_pair("tag", &version)
            .finish();
        let task = progress.task(repository.to_string(), "pull");
        let request = request(&format!("/images/create?{query}"), login, &repository.host);
        self.transfer(&format!("pull {name}"), &repository.host, request, |line| {
            if let Some(status) = line.status {
                task.detail(status);
            }
        })
        .await?;
        let id = self.image_id(&name).await?.ok_or_else(|| {
            Error::failed(format!("the daemon pulled {name} and does not have it"))
                .help("something else may have removed it meanwhile; run the same command again")
        })?;
        task.done(id.short());
        Ok(id)
    }

    /// Sends a request for a transfer and tells each line of the answer.
    pub(crate) async fn transfer(
        &self,
        doing: &str,
        host: &str,
        request: Request<Empty<Bytes>>,
        mut told: impl FnMut(Line) + Send,
    ) -> Result<()> {
        let answer = self.transport.send(request).await.map_err(|failure| self.failure(doing, &failure))?;
        let status = answer.status();
        let body = BodyDataStream::new(answer.into_body()).map_err(std::io::Error::other);
        let mut lines = StreamReader::new(body).lines();
        while let Some(text) = lines.next_line().await.map_err(|error| self.gone(doing, error))? {
            let Ok(line) = serde_json::from_str::<Line>(&text) else { continue };
            if let Some(message) = line.error.clone().or_else(|| line.message.clone()) {
                return Err(refused(doing, host, status, message));
            }
            told(line);
        }
        if status.is_success() {
            return Ok(());
        }
        Err(refused(doing, host, status, format!("the daemon answers {status}")))
    }
}

/// A request for a transfer, with its login.
pub(crate) fn request(path: &str, login: Option<&Login>, host: &str) -> Request<Empty<Bytes>> {
    let login = login.map(|login| credentials(login, host)).unwrap_or_default();
    Request::builder()
        .method(Method::POST)
        .uri(path)
        // The daemon wants the header even when there is no login in it.
        .header("X-Registry-Auth", header(&login))
        .body(Empty::new())
        .expect("a repository's name and an escaped tag can stand in a path")
}

/// How the daemon takes a login.
pub(crate) fn credentials(login: &Login, host: &str) -> DockerCredentials {
    let password = || Some(String::from_utf8_lossy(login.password.expose()).into_owned());
    let serveraddress = Some(server(host).to_owned());
    // What credential helpers give in place of a password has a field of its own.
    if login.is_identity_token() {
        return DockerCredentials {
            identitytoken: password(),
            serveraddress,
            ..DockerCredentials::default()
        };
    }
    DockerCredentials {
        username: Some(login.username.clone()),
        password: password(),
        serveraddress,
        ..DockerCredentials::default()
    }
}

/// What the daemon calls a registry when it looks up a login.
pub(crate) fn server(host: &str) -> &str {
    if host == DOCKER_HUB { HUB_SERVER } else { host }
}

/// A value of the headers that carry logins: JSON in URL-safe base64 (Docker Engine API, "Authentication"). It is marked,
/// so that nothing logs it.
pub(crate) fn header(value: &impl Serialize) -> HeaderValue {
    let text = serde_json::to_vec(value).expect("strings can be written as JSON");
    let mut value = HeaderValue::from_str(&URL_SAFE.encode(text)).expect("base64 can stand in a header");
    value.set_sensitive(true);
    value
}

fn refused(doing: &str, host: &str, status: StatusCode, message: String) -> Error {
    let lower = message.to_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| lower.contains(word));
    let help = if says(&["immutable", "cannot be overwritten"]) {
        "that tag names another image there and cannot be moved: delete it, or let tags be moved".to_owned()
    } else if says(&["denied", "unauthorized", "no basic auth", "authentication required"]) {
        format!(
            "log in with `docker login {host}`, or set DOCKER_USER and DOCKER_PASS; that user must be allowed to"
        )
    } else if says(&["too many requests", "toomanyrequests"]) {
        format!("{host} asks for a pause: run the same command again in a while")
    } else if says(&["no such host", "connection refused", "timeout", "no route to host", "unreachable"]) {
        format!("the daemon cannot reach {host}: check the name and its network")
    } else if says(&["no space left"]) {
        "the daemon's disk is full: `docker system df` shows by what".to_owned()
    } else if says(&["processing tar file"]) && says(&["invalid tar header", "unexpected eof"]) {
        // How one says it that takes zstd for a tar (moby before 23, pkg/archive/archive.go, `DetectCompression`): of a short
        // one there is not even a header.
        "the image may have layers that are zstd, which a Docker daemon pulls from version 23 on: update it, or build the \
         image with [build] compression = \"gzip\""
            .to_owned()
    } else if says(&["not found", "manifest unknown"]) || status == StatusCode::NOT_FOUND {
        "check the name; a private repository may need a login".to_owned()
    } else {
        "run the same command again; what was sent is not sent twice".to_owned()
    };
    Error::failed(format!("cannot {doing}")).because(Error::failed(message)).help(help)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;

    #[test]
    fn a_refusal_says_what_to_do() {
        let cases = [
            ("denied: requested access to the resource is denied", "docker login registry.example.com"),
            (
                "tag invalid: The image tag 'x' already exists and cannot be overwritten",
                "names another image",
            ),
            ("toomanyrequests: slow down", "asks for a pause"),
            ("dial tcp: lookup registry.example.com: no such host", "cannot reach registry.example.com"),
            ("manifest for x not found: manifest unknown", "check the name"),
            (
                "failed to register layer: Error processing tar file(exit status 1): archive/tar: invalid tar header",
                "compression = \"gzip\"",
            ),
            ("something else", "run the same command again"),
        ];
        for (message, want) in cases {
            let error = refused("push web", "registry.example.com", StatusCode::OK, message.into());
            assert!(error.help_text().unwrap().contains(want), "{message}: {:?}", error.help_text());
        }
    }

    #[test]
    fn the_login_goes_in_the_alphabet_that_the_daemon_reads() {
        let login = Login { username: "user".into(), password: Secret::new(b"a?~>b??~~>>".to_vec()) };
        let request = request("/images/create", Some(&login), DOCKER_HUB);
        let header = &request.headers()["X-Registry-Auth"];
        assert!(header.is_sensitive());
        let header: serde_json::Value = serde_json::from_slice(&URL_SAFE.decode(header).unwrap()).unwrap();
        assert_eq!(header["username"], "user");
        assert_eq!(header["password"], "a?~>b??~~>>");
        assert_eq!(header["serveraddress"], HUB_SERVER);
    }
}
