//! A proxy that keeps every request with its body and how it was answered.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::Response;

use super::proxy;

/// A request, and its answer's status.
#[derive(Debug, Clone)]
pub struct Recorded {
    pub method: Method,
    pub path: String,
    pub query: Vec<(String, String)>,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub status: StatusCode,
}

impl Recorded {
    /// A query parameter; empty when it is there without a value.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// A header, when it is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

struct Shared {
    upstream: String,
    client: reqwest::Client,
    recorded: Mutex<Vec<Recorded>>,
}

pub struct Recorder {
    /// `127.0.0.1:PORT`
    pub host: String,
    shared: Arc<Shared>,
    serving: tokio::task::JoinHandle<()>,
}

impl Recorder {
    /// Before the server at `upstream` (`127.0.0.1:PORT`).
    pub async fn before(upstream: &str) -> Self {
        let shared = Arc::new(Shared {
            upstream: upstream.into(),
            client: proxy::client(),
            recorded: Mutex::default(),
        });
        let app = Router::new().fallback(handle).with_state(Arc::clone(&shared));
        let (host, serving) = proxy::serve(app).await;
        Recorder { host, shared, serving }
    }

    /// Every request so far.
    pub fn recorded(&self) -> Vec<Recorded> {
        self.shared.recorded.lock().unwrap().clone()
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn handle(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    let target = parts.uri.path_and_query().map(ToString::to_string).unwrap_or_default();
    let url = format!("http://{}{target}", shared.upstream);
    let query = url::form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes());
    let query = query.into_owned().collect();
    let mut headers = parts.headers.clone();
    // The body is sent whole, however it came.
    headers.remove("transfer-encoding");
    headers.remove("content-length");
    let sent = shared.client.request(parts.method.clone(), url).headers(headers).body(body.clone());
    let answer = sent.send().await.unwrap();
    let recorded = Recorded {
        method: parts.method,
        path: parts.uri.path().to_owned(),
        query,
        headers: parts.headers,
        body,
        status: answer.status(),
    };
    shared.recorded.lock().unwrap().push(recorded);
    proxy::pass_back(answer)
}
