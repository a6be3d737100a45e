//! One HTTP/1.1 request on one fresh connection: what bollard sends through, and what the build and its session use.
//!
//! A connection of its own for each request means that dropping an answer closes the connection, which is how the daemon
//! learns that a build is not wanted any more.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{HOST, HeaderValue};
use http::{Request, Response, Uri};
use hyper::body::{Body, Incoming};
use hyper_util::rt::TokioIo;

use super::address::Address;
use super::dial;

/// Sends requests to one daemon.
#[derive(Clone)]
pub struct Transport {
    address: Arc<Address>,
}

/// Why no answer came.
#[derive(Debug)]
pub enum Failure {
    /// Nothing is there to talk to.
    Unreachable(io::Error),
    /// It was reached, and then the connection broke.
    Broken {
        /// How.
        error: hyper::Error,
        /// What ssh said, where there is one.
        words: String,
    },
}

impl Transport {
    /// Sends to `address`.
    pub fn new(address: Arc<Address>) -> Self {
        Transport { address }
    }

    /// Sends one request; only the path and query of its URI count.
    ///
    /// # Errors
    /// The daemon cannot be reached, or went away.
    pub async fn send<B>(&self, request: Request<B>) -> Result<Response<Incoming>, Failure>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let connection = dial::dial(&self.address).await.map_err(Failure::Unreachable)?;
        let words = connection.words;
        match exchange(connection.stream, request).await {
            Ok(response) => Ok(response),
            Err(error) => Err(Failure::Broken { error, words: words.last().await }),
        }
    }
}

async fn exchange<B>(
    stream: Box<dyn dial::Stream>,
    mut request: Request<B>,
) -> hyper::Result<Response<Incoming>>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    // It ends by itself: when the answer is read, when the answer is dropped, or when it was upgraded.
    tokio::spawn(connection.with_upgrades());
    origin_form(&mut request);
    sender.send_request(request).await
}

/// A request to a socket has no host to name; the docker CLI sends one all the same, as HTTP/1.1 wants it.
fn origin_form<B>(request: &mut Request<B>) {
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    if let Ok(uri) = path.parse::<Uri>() {
        *request.uri_mut() = uri;
    }
    request.headers_mut().insert(HOST, HeaderValue::from_static("docker"));
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Failure::Unreachable(error) => error.fmt(f),
            Failure::Broken { words, error } if words.is_empty() => error.fmt(f),
            Failure::Broken { words, .. } => f.write_str(words),
        }
    }
}

impl std::error::Error for Failure {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Failure::Unreachable(error) => Some(error),
            Failure::Broken { error, .. } => Some(error),
        }
    }
}
