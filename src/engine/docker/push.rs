//! Lets the daemon send an image to a registry by itself.
//!
//! The request is made by hand: bollard's type for the answer leaves out which layer a line is about.

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use bytes::Bytes;
use futures_util::TryStreamExt;
use http::header::HeaderValue;
use http::{Method, Request};
use http_body_util::{BodyDataStream, Empty};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use tokio::io::AsyncBufReadExt;
use tokio_util::io::StreamReader;

use crate::engine::daemon::{Daemon, credentials};
use crate::engine::{Built, Login};
use crate::error::{Error, Result};
use crate::image::reference::{Repository, Tag};
use crate::progress::{Reporter, Task};

/// One line of the daemon's answer (Docker Engine API, "Push an image").
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Line {
    status: Option<String>,
    id: Option<String>,
    progress_detail: Option<Detail>,
    error: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Detail {
    current: Option<u64>,
    total: Option<u64>,
}

/// Sends `built` to `repository:tag`. The name that this takes on the daemon is removed afterwards.
///
/// # Errors
/// What the daemon or the registry says: a login that is refused, a tag that cannot be moved, a registry that is not there.
pub(super) async fn push(
    daemon: &Daemon,
    built: &Built,
    repository: &Repository,
    tag: &Tag,
    login: Option<&Login>,
    progress: &Reporter,
) -> Result<()> {
    let name = repository.to_string();
    daemon.tag(&built.id.to_string(), &name, tag.as_str()).await?;
    let sent = send(daemon, built, repository, tag, login, progress).await;
    // A name that stays does no harm to what was sent.
    if let Err(error) = daemon.untag(&format!("{name}:{tag}")).await {
        tracing::debug!("{name}:{tag} stays on the daemon: {error:?}");
    }
    sent
}

async fn send(
    daemon: &Daemon,
    built: &Built,
    repository: &Repository,
    tag: &Tag,
    login: Option<&Login>,
    progress: &Reporter,
) -> Result<()> {
    let doing = format!("push {} to {repository}", built.image);
    let task = progress.task(&built.image, "send without secrets");
    let request = request(repository, tag, login);
    let answer = daemon.transport.send(request).await.map_err(|failure| daemon.failure(&doing, &failure))?;
    let status = answer.status();
    let body = BodyDataStream::new(answer.into_body()).map_err(std::io::Error::other);
    let mut lines = StreamReader::new(body).lines();
    let mut layers = Layers { subject: &built.image, progress, running: HashMap::new() };
    while let Some(text) = lines.next_line().await.map_err(|error| daemon.gone(&doing, error))? {
        let Ok(line) = serde_json::from_str::<Line>(&text) else { continue };
        if let Some(message) = line.error.clone().or_else(|| message(status, &text)) {
            return Err(refused(&doing, repository, tag, message));
        }
        layers.told(line);
    }
    if !status.is_success() {
        return Err(refused(&doing, repository, tag, format!("the daemon answers {status}")));
    }
    task.done(tag.to_string());
    Ok(())
}

/// A failed request has its words in `message`.
fn message(status: http::StatusCode, text: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Failed {
        message: String,
    }
    (!status.is_success()).then(|| serde_json::from_str::<Failed>(text).ok().map(|failed| failed.message))?
}

fn request(repository: &Repository, tag: &Tag, login: Option<&Login>) -> Request<Empty<Bytes>> {
    let credentials = login.map(|login| credentials(login, &repository.host)).unwrap_or_default();
    let auth = serde_json::to_vec(&credentials).expect("strings can be written as JSON");
    let mut auth = HeaderValue::from_str(&URL_SAFE.encode(auth)).expect("base64 can stand in a header");
    auth.set_sensitive(true);
    let tag = utf8_percent_encode(tag.as_str(), NON_ALPHANUMERIC);
    Request::builder()
        .method(Method::POST)
        .uri(format!("/images/{repository}/push?tag={tag}"))
        // The daemon wants the header even when there is no login in it.
        .header("X-Registry-Auth", auth)
        .body(Empty::new())
        .expect("a repository's name and an escaped tag can stand in a path")
}

fn refused(doing: &str, repository: &Repository, tag: &Tag, message: String) -> Error {
    let lower = message.to_lowercase();
    let host = &repository.host;
    let help = if lower.contains("immutable") || lower.contains("already exists") {
        format!("{tag} names another image there and cannot be moved: delete it, or let tags be moved")
    } else if lower.contains("denied") || lower.contains("unauthorized") || lower.contains("no basic auth") {
        format!(
            "log in with `docker login {host}`, or set DOCKER_USER and DOCKER_PASS; that user must be allowed to push"
        )
    } else if lower.contains("too many requests") || lower.contains("toomanyrequests") {
        format!("{host} asks for a pause: run the same command again in a while")
    } else if lower.contains("no such host")
        || lower.contains("connection refused")
        || lower.contains("timeout")
    {
        format!("the daemon cannot reach {host}: check the name and its network")
    } else {
        "run the same command again; what was sent is not sent twice".into()
    };
    Error::failed(format!("cannot {doing}")).because(Error::failed(message)).help(help)
}

/// The bars of the layers that are on their way.
struct Layers<'a> {
    subject: &'a str,
    progress: &'a Reporter,
    running: HashMap<String, (Task, u64)>,
}

impl Layers<'_> {
    fn told(&mut self, line: Line) {
        let (Some(id), Some(status)) = (line.id, line.status) else { return };
        let what = || format!("push layer {}", &id[..id.len().min(12)]);
        let detail = line.progress_detail.unwrap_or_default();
        match (status.as_str(), detail.current, detail.total) {
            ("Pushing", Some(current), total) => {
                let (task, before) = self.running.entry(id.clone()).or_insert_with(|| {
                    (self.progress.transfer(self.subject, what(), total.unwrap_or(current)), 0)
                });
                task.advance(current.saturating_sub(*before));
                *before = current.max(*before);
            }
            ("Pushed", ..) => match self.running.remove(&id) {
                Some((task, _)) => task.done(""),
                None => self.progress.task(self.subject, what()).done(""),
            },
            ("Layer already exists", ..) => self.progress.task(self.subject, what()).reused(""),
            (mounted, ..) if mounted.starts_with("Mounted from") => {
                self.progress.task(self.subject, what()).reused(mounted);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_what_to_do() {
        let repository: Repository = "registry.example.com/shop".parse().unwrap();
        let tag: Tag = "build-1".parse().unwrap();
        let cases = [
            ("denied: requested access to the resource is denied", "docker login registry.example.com"),
            (
                "tag invalid: The image tag 'x' already exists and cannot be overwritten because the repository is immutable.",
                "build-1 names another image",
            ),
            ("toomanyrequests: slow down", "asks for a pause"),
            (
                "dial tcp: lookup registry.example.com: no such host",
                "the daemon cannot reach registry.example.com",
            ),
        ];
        for (message, want) in cases {
            let error = refused("push web", &repository, &tag, message.into());
            assert!(error.help_text().unwrap().contains(want), "{message}: {:?}", error.help_text());
        }
    }

    #[test]
    fn the_login_goes_as_url_safe_base64_in_its_header() {
        let repository: Repository = "docker.io/user/shop".parse().unwrap();
        let login = Login { username: "user".into(), password: crate::secret::Secret::new(b"hush".to_vec()) };
        let request = request(&repository, &"v1".parse().unwrap(), Some(&login));
        assert_eq!(request.uri(), "/images/docker.io/user/shop/push?tag=v1");
        let header = URL_SAFE.decode(request.headers()["X-Registry-Auth"].as_bytes()).unwrap();
        let header: serde_json::Value = serde_json::from_slice(&header).unwrap();
        assert_eq!((header["username"].as_str(), header["password"].as_str()), (Some("user"), Some("hush")));
        assert_eq!(header["serveraddress"], "https://index.docker.io/v1/");
    }
}
