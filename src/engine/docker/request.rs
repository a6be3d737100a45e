//! One call of `POST /build`: the request, the context as its body, the lines of the answer.
//!
//! Made by hand over the daemon's transport: bollard's own call leaves no way to serve secrets from memory.

use std::collections::BTreeMap;

use bollard::models::{BuildInfo, BuildInfoAux};
use futures_util::TryStreamExt;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response};
use http_body_util::{BodyDataStream, StreamBody};
use hyper::body::{Frame, Incoming};
use serde::Deserialize;
use serde_json::json;
use tokio::io::AsyncBufReadExt;
use tokio_util::io::StreamReader;
use url::form_urlencoded::Serializer;

use crate::digest::Digest;
use crate::engine::context::BuildContext;
use crate::engine::daemon::{Daemon, registry};
use crate::engine::{Logins, Recipe};
use crate::error::{Error, Result};

/// What to build.
pub(super) struct BuildRequest<'a> {
    pub(super) daemon: &'a Daemon,
    pub(super) recipe: &'a Recipe,
    /// The name that the image gets.
    pub(super) name: &'a str,
    /// `ARG BASE`
    pub(super) base: Option<&'a str>,
    pub(super) context: BuildContext,
}

/// What builds it.
pub(super) enum With<'a> {
    /// BuildKit, which asks the session of this id for logins and secrets.
    Session(&'a str),
    /// The classic builder, which gets the logins with the request.
    Logins(&'a Logins),
}

/// How the builder ended.
pub(super) enum Ended {
    /// With an image.
    Image(Digest),
    /// With an error, in its words.
    Failed(String),
}

impl BuildRequest<'_> {
    /// Sends the request and reads the answer, telling each line as it comes. Dropping this ends the build.
    ///
    /// # Errors
    /// The context cannot be read, or the daemon is gone. A build that fails is [`Ended::Failed`].
    pub(super) async fn run(self, with: With<'_>, told: impl FnMut(BuildInfo) + Send) -> Result<Ended> {
        let doing = format!("build image {}", self.recipe.image);
        let request = self.request(&with);
        let (daemon, (context, made)) = (self.daemon, self.context.stream());
        let body = StreamBody::new(context.map_ok(Frame::data));
        let ended = match daemon.transport.send(request.map(|()| body)).await {
            Ok(answer) => read(daemon, &doing, answer, told).await,
            Err(failure) => Err(daemon.failure(&doing, &failure)),
        };
        // A context that could not be made is why the request broke, and says so better.
        made.await.expect("making a tar does not panic").and(ended)
    }

    fn request(&self, with: &With<'_>) -> Request<()> {
        let recipe = self.recipe;
        let mut args = recipe.args.clone();
        if let Some(base) = self.base {
            args.insert("BASE".into(), base.to_owned());
        }
        let mut query = Serializer::new(String::new());
        query.append_pair("t", self.name);
        query.append_pair("dockerfile", &self.context.dockerfile);
        query.append_pair("buildargs", &json!(args).to_string());
        // The classic builder's containers between steps.
        query.append_pair("rm", "1").append_pair("forcerm", "1");
        if let Some(target) = &recipe.target {
            query.append_pair("target", target);
        }
        let mut builder = Request::builder().method(Method::POST).header(CONTENT_TYPE, "application/x-tar");
        match with {
            With::Session(session) => {
                query.append_pair("version", "2").append_pair("session", session);
            }
            With::Logins(logins) => {
                query.append_pair("version", "1");
                builder = builder.header("X-Registry-Config", registry_config(logins));
            }
        }
        builder
            .uri(format!("/build?{}", query.finish()))
            .body(())
            .expect("an escaped query can stand in a URI")
    }
}

/// Logins by server, as the classic builder takes them (Docker Engine API, "Build an image", X-Registry-Config).
fn registry_config(logins: &Logins) -> HeaderValue {
    let by_server: BTreeMap<&str, _> = logins
        .iter()
        .map(|(host, login)| (registry::server(host), registry::credentials(login, host)))
        .collect();
    registry::header(&by_server)
}

async fn read(
    daemon: &Daemon,
    doing: &str,
    answer: Response<Incoming>,
    mut told: impl FnMut(BuildInfo) + Send,
) -> Result<Ended> {
    #[derive(Deserialize)]
    struct Refused {
        message: String,
    }
    let status = answer.status();
    let body = BodyDataStream::new(answer.into_body()).map_err(std::io::Error::other);
    let mut lines = StreamReader::new(body).lines();
    let mut image = None;
    while let Some(line) = lines.next_line().await.map_err(|error| daemon.gone(doing, error))? {
        if !status.is_success() {
            let message = serde_json::from_str::<Refused>(&line).map_or(line, |refused| refused.message);
            return Ok(Ended::Failed(message));
        }
        let Ok(line) = serde_json::from_str::<BuildInfo>(&line) else {
            tracing::debug!("the builder said something that is not understood");
            continue;
        };
        if let Some(message) = line.error_detail.as_ref().and_then(|detail| detail.message.clone()) {
            return Ok(Ended::Failed(message));
        }
        if let Some(BuildInfoAux::Default(id)) = &line.aux
            && let Some(id) = &id.id
        {
            image = Some(id.parse::<Digest>()?);
        }
        told(line);
    }
    // The answer ends with the image or an error; an end without either is a daemon that was stopped.
    image.map(Ended::Image).ok_or_else(|| {
        if status.is_success() {
            daemon.gone(doing, Error::failed("it stopped in the middle of the build"))
        } else {
            Error::failed(format!("cannot {doing}: the Docker daemon answers {status}"))
        }
    })
}
