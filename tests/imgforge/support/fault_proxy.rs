//! A proxy in front of a real registry that notes every request and spoils the ones it is told to.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;

use super::proxy;

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Seen {
    pub method: Method,
    pub path: String,
    pub query: String,
    pub headers: HeaderMap,
}

impl Seen {
    pub fn is(&self, method: Method, part: &str) -> bool {
        self.method == method && self.path.contains(part)
    }
}

/// What happens to a request instead of being passed on.
#[derive(Clone)]
pub enum Fault {
    /// This is answered.
    Answer(StatusCode, Vec<(&'static str, String)>, String),
    /// The connection is cut before any answer.
    Cut,
    /// So many bytes of the body reach the registry, then the connection is cut. The registry knows how far it got.
    CutAfter(usize),
    /// It is passed on, and these headers of the answer are replaced.
    Rewrite(Vec<(&'static str, String)>),
    /// It is passed on, and the `Location` of the answer has no host.
    RelativeLocation,
    /// The same is to be found at the registry's own address.
    SentElsewhere,
    /// It is passed on, the answer is withheld for so long, and then the connection is cut.
    Stall(Duration),
}

type Rule = Box<dyn FnMut(&Seen) -> Option<Fault> + Send>;

struct Shared {
    upstream: String,
    client: reqwest::Client,
    seen: Mutex<Vec<Seen>>,
    rules: Mutex<Vec<Rule>>,
    /// Where an upload that was cut goes on, by the address that the client knows.
    moved: Mutex<HashMap<String, String>>,
}

pub struct FaultProxy {
    /// `127.0.0.1:PORT`
    pub host: String,
    shared: Arc<Shared>,
    serving: tokio::task::JoinHandle<()>,
}

impl FaultProxy {
    /// Before the server at `upstream` (`127.0.0.1:PORT`).
    pub async fn before(upstream: &str) -> Self {
        let shared = Arc::new(Shared {
            upstream: upstream.into(),
            client: proxy::client(),
            seen: Mutex::default(),
            rules: Mutex::default(),
            moved: Mutex::default(),
        });
        let app = Router::new().fallback(handle).with_state(Arc::clone(&shared));
        let (host, serving) = proxy::serve(app).await;
        FaultProxy { host, shared, serving }
    }

    /// The first rule with an answer for a request counts.
    pub fn rule(&self, rule: impl FnMut(&Seen) -> Option<Fault> + Send + 'static) {
        self.shared.rules.lock().unwrap().push(Box::new(rule));
    }

    /// Spoils the first `times` requests that match.
    pub fn spoil(&self, times: usize, matches: impl Fn(&Seen) -> bool + Send + 'static, fault: Fault) {
        let mut left = times;
        self.rule(move |seen| {
            if left == 0 || !matches(seen) {
                return None;
            }
            left -= 1;
            Some(fault.clone())
        });
    }

    /// Every request so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().unwrap().clone()
    }

    /// How many requests so far match.
    pub fn count(&self, method: Method, part: &str) -> usize {
        self.seen().iter().filter(|seen| seen.is(method.clone(), part)).count()
    }

    /// Forgets what it has seen.
    pub fn forget(&self) {
        self.shared.seen.lock().unwrap().clear();
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// Ends the connection without an answer: the task that serves it unwinds, quietly.
fn cut() -> ! {
    std::panic::resume_unwind(Box::new("cut by a test"))
}

async fn handle(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let seen = Seen {
        method: parts.method.clone(),
        path: parts.uri.path().to_owned(),
        query: parts.uri.query().unwrap_or_default().to_owned(),
        headers: parts.headers.clone(),
    };
    shared.seen.lock().unwrap().push(seen.clone());
    let fault = shared.rules.lock().unwrap().iter_mut().find_map(|rule| rule(&seen));
    let asked = parts.uri.path_and_query().map(ToString::to_string).unwrap_or_default();
    let target = shared.moved.lock().unwrap().get(&asked).cloned().unwrap_or(asked.clone());
    let url = format!("http://{}{target}", shared.upstream);
    let forward = |body: reqwest::Body| {
        shared.client.request(parts.method.clone(), url.clone()).headers(parts.headers.clone()).body(body)
    };
    match fault {
        None => answer(forward(reqwest::Body::wrap_stream(body.into_data_stream())).send().await),
        Some(Fault::Rewrite(headers)) => {
            let mut response =
                answer(forward(reqwest::Body::wrap_stream(body.into_data_stream())).send().await);
            for (name, value) in headers {
                response
                    .headers_mut()
                    .insert(HeaderName::from_static(name), HeaderValue::from_str(&value).unwrap());
            }
            response
        }
        Some(Fault::RelativeLocation) => {
            let mut response =
                answer(forward(reqwest::Body::wrap_stream(body.into_data_stream())).send().await);
            let location = response.headers().get("location").map(|value| value.to_str().unwrap().to_owned());
            if let Some((_, path)) = location.as_deref().and_then(|location| location.split_once("/v2/")) {
                let path = HeaderValue::from_str(&format!("/v2/{path}")).unwrap();
                response.headers_mut().insert("location", path);
            }
            response
        }
        Some(Fault::SentElsewhere) => {
            (StatusCode::TEMPORARY_REDIRECT, [("location", url)], String::new()).into_response()
        }
        Some(Fault::Stall(time)) => {
            drop(forward(reqwest::Body::wrap_stream(body.into_data_stream())).send().await);
            tokio::time::sleep(time).await;
            cut()
        }
        Some(Fault::Answer(status, headers, text)) => {
            // Read first: an answer before the end of a body can look like a cut connection.
            let _ = axum::body::to_bytes(body, usize::MAX).await;
            let mut response = (status, text).into_response();
            for (name, value) in headers {
                response
                    .headers_mut()
                    .append(HeaderName::from_static(name), HeaderValue::from_str(&value).unwrap());
            }
            response
        }
        Some(Fault::Cut) => cut(),
        Some(Fault::CutAfter(bytes)) => {
            let mut part = Vec::new();
            let mut stream = body.into_data_stream();
            while part.len() < bytes
                && let Some(Ok(chunk)) = stream.next().await
            {
                part.extend_from_slice(&chunk);
            }
            part.truncate(bytes);
            let mut headers = parts.headers.clone();
            headers.insert("content-length", part.len().into());
            let request = shared.client.request(parts.method.clone(), url).headers(headers).body(part);
            let answer = request.send().await.unwrap();
            // A whole blob in one request ends here; an upload in parts goes on.
            let next = answer.headers().get("location").map(|value| value.to_str().unwrap().to_owned());
            if let Some((_, next)) = next.as_deref().and_then(|next| next.split_once("/v2/"))
                && answer.status() == StatusCode::ACCEPTED
            {
                shared.moved.lock().unwrap().insert(asked, format!("/v2/{next}"));
            }
            cut()
        }
    }
}

fn answer(response: reqwest::Result<reqwest::Response>) -> Response {
    let Ok(response) = response else { cut() };
    proxy::pass_back(response)
}
