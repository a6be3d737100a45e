//! One build: the context goes up as it is read, the step log comes down as it is written.
//!
//! The request is made by hand, over the daemon's transport: bollard's own call has no way to give build secrets to
//! `/build`. Dropping the future closes the connection, and with it ends the build.

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use bollard::models::{BuildInfo, BuildInfoAux};
use futures_util::TryStreamExt;
use http::{Method, Request};
use http_body::Frame;
use http_body_util::{BodyDataStream, StreamBody};
use tokio::io::AsyncBufReadExt;
use tokio_util::io::StreamReader;
use url::form_urlencoded;

use super::session::Session;
use super::steps::Steps;
use crate::digest::Digest;
use crate::engine::context::BuildContext;
use crate::engine::daemon::{Builder, Daemon, credentials};
use crate::engine::{Logins, Recipe};
use crate::error::{Error, Result};
use crate::image::inspect::human_size;
use crate::progress::Reporter;

/// Everything that a build needs.
pub(super) struct Build<'a> {
    pub daemon: &'a Daemon,
    pub recipe: &'a Recipe,
    /// `ARG BASE`
    pub base: Option<String>,
    pub builder: Builder,
    pub logins: &'a Logins,
    pub progress: &'a Reporter,
}

impl Build<'_> {
    /// Builds, and gives the image's id.
    pub(super) async fn run(self) -> Result<Digest> {
        let image = &self.recipe.image;
        let task = self.progress.task(image, "build");
        let recipe = self.recipe.clone();
        let listed = tokio::task::spawn_blocking(move || BuildContext::list(&recipe));
        let context = listed.await.expect("listing a folder does not panic")?;
        for warning in &context.warnings {
            self.progress.warning(format!("{image}: {warning}"));
        }
        task.detail(format!("sending {}", human_size(context.size())));
        let session = match self.builder {
            Builder::BuildKit => Some(Session::open(self.daemon, self.recipe, self.logins).await?),
            Builder::Classic => None,
        };
        let doing = format!("build {image}");
        let query = self.query(&context.dockerfile, session.as_ref());
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(format!("/build?{query}"))
            .header("Content-Type", "application/x-tar");
        if self.builder == Builder::Classic {
            request = request.header("X-Registry-Config", self.registry_config());
        }
        let (stream, writing) = context.stream();
        let body = StreamBody::new(stream.map_ok(Frame::data));
        let request = request.body(Box::pin(body)).expect("an escaped query can stand in a path");
        let sent = self.daemon.transport.send(request).await;
        let answer = match sent {
            Ok(answer) => answer,
            Err(failure) => {
                // What the context could not be read for says more than the connection that broke for it.
                writing.await.expect("reading a context does not panic")?;
                return Err(self.daemon.failure(&doing, &failure));
            }
        };
        let status = answer.status();
        let body = BodyDataStream::new(answer.into_body()).map_err(std::io::Error::other);
        let mut lines = StreamReader::new(body).lines();
        let mut steps = Steps::new(image, &task, self.progress);
        let mut id = None;
        loop {
            let line = match lines.next_line().await {
                Ok(Some(line)) => line,
                Ok(None) => break,
                Err(error) => {
                    if writing.is_finished() {
                        writing.await.expect("reading a context does not panic")?;
                    }
                    return Err(self.daemon.gone(&doing, error));
                }
            };
            if !status.is_success() {
                return Err(refused(&doing, &line));
            }
            let Ok(info) = serde_json::from_str::<BuildInfo>(&line) else { continue };
            if let Some(detail) = info.error_detail {
                return Err(steps.failed(detail.message.unwrap_or_default(), detail.code));
            }
            match info.aux {
                Some(BuildInfoAux::BuildKit(status)) => steps.status(status),
                Some(BuildInfoAux::Default(image)) => id = image.id,
                None => {}
            }
            if let Some(text) = info.stream {
                steps.classic(&text);
            }
        }
        drop(session);
        let id = id.ok_or_else(|| {
            self.daemon.gone(&doing, Error::failed("its answer ended before the image was there"))
        })?;
        let id: Digest = id.parse()?;
        let cached = steps.cached();
        match steps.ran() {
            0 => task.reused(format!("{cached} steps cached")),
            ran => task.done(format!("{}, {ran} steps run, {cached} cached", id.short())),
        }
        Ok(id)
    }

    fn query(&self, dockerfile: &str, session: Option<&Session>) -> String {
        let mut args = self.recipe.args.clone();
        if let Some(base) = &self.base {
            args.insert("BASE".into(), base.clone());
        }
        let args = serde_json::to_string(&args).expect("a map of strings can be written as JSON");
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.append_pair("dockerfile", dockerfile).append_pair("buildargs", &args);
        query.append_pair("rm", "1").append_pair("forcerm", "1");
        if let Some(target) = &self.recipe.target {
            query.append_pair("target", target);
        }
        match session {
            Some(session) => query.append_pair("version", "2").append_pair("session", session.id()),
            None => query.append_pair("version", "1"),
        };
        query.finish()
    }

    /// The classic builder takes every login that it may need (Docker Engine API, "Build an image").
    fn registry_config(&self) -> String {
        let logins: HashMap<_, _> = self
            .logins
            .iter()
            .map(|(host, login)| {
                let credentials = credentials(login, host);
                (credentials.serveraddress.clone().unwrap_or_default(), credentials)
            })
            .collect();
        URL_SAFE.encode(serde_json::to_vec(&logins).expect("strings can be written as JSON"))
    }
}

/// The daemon did not begin.
fn refused(doing: &str, line: &str) -> Error {
    #[derive(serde::Deserialize)]
    struct Refused {
        message: String,
    }
    let message =
        serde_json::from_str::<Refused>(line).map_or_else(|_| line.to_owned(), |refused| refused.message);
    Error::failed(format!("cannot {doing}")).because(Error::failed(message))
}
