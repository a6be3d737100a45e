//! One request to a registry from its first try to the answer that counts: login, retries, redirects.

use bytes::{Bytes, BytesMut};
use http::header::{AUTHORIZATION, LOCATION};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use reqwest::Response;
use url::Url;

use super::gate::Gates;
use super::retry::{RetryPolicy, Tries, is_about_certificate, is_passing, may_get_through, retry_after};
use super::transport::{Http, endpoint};
use crate::error::{Error, Result};
use crate::registry::auth::challenge::Challenge;
use crate::registry::auth::token::{Authenticator, Scope};

/// No manifest, config or error text is larger. The distribution spec has registries take manifests up to 4 MiB.
const ANSWER_LIMIT: usize = 16 << 20;
/// Object storage is one hop away; more than a few is a loop.
const HOPS: usize = 5;

/// A request without a body, or with one that is in memory.
#[derive(Clone)]
pub(super) struct Call<'a> {
    pub method: Method,
    pub url: Url,
    pub headers: Vec<(HeaderName, HeaderValue)>,
    pub body: Bytes,
    /// The registry as names call it.
    pub host: &'a str,
    pub scopes: Vec<Scope>,
    pub follow: Follow,
}

/// Which redirects are followed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Follow {
    /// Those of reading.
    Reads,
    /// None.
    Nothing,
}

impl<'a> Call<'a> {
    pub fn new(method: Method, url: Url, host: &'a str, scopes: Vec<Scope>) -> Self {
        Call { method, url, headers: Vec::new(), body: Bytes::new(), host, scopes, follow: Follow::Reads }
    }

    pub fn header(mut self, name: HeaderName, value: impl AsRef<str>) -> Result<Self> {
        let value = HeaderValue::from_str(value.as_ref())
            .map_err(|error| Error::failed(format!("{name} cannot be sent")).because(error))?;
        self.headers.push((name, value));
        Ok(self)
    }

    pub fn body(mut self, body: Bytes) -> Self {
        self.body = body;
        self
    }
}

/// An answer that was read to its end.
pub(super) struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// What was asked last, after redirects.
    pub url: Url,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// `Location`, resolved against what was asked. Its query is kept as it is.
    pub fn location(&self) -> Option<Url> {
        self.url.join(self.header(LOCATION.as_str())?).ok()
    }
}

/// Sends requests.
pub(super) struct Session {
    pub http: Http,
    pub retry: RetryPolicy,
    pub auth: Authenticator,
    pub gates: Gates,
}

impl Session {
    /// Sends a call and reads the answer, whatever its status is.
    pub async fn exchange(&self, call: &Call<'_>) -> Result<Answer> {
        let mut tries = Tries::new(&self.retry);
        loop {
            let (response, url) = self.open(call).await?;
            match self.read(response, url).await {
                Ok(answer) => return Ok(answer),
                Err(_) if tries.again(None).await => {}
                Err(error) => return Err(unreachable(call.host).because(error)),
            }
        }
    }

    /// Sends a call; of the answer only status and headers are there yet.
    pub async fn open(&self, call: &Call<'_>) -> Result<(Response, Url)> {
        let mut tries = Tries::new(&self.retry);
        let mut url = call.url.clone();
        let mut hops = 0;
        let mut challenged = None;
        loop {
            let asked = challenged.as_ref().and_then(|scope: &Option<String>| scope.as_deref());
            let mut request = self.http.client(&url)?.request(call.method.clone(), url.clone());
            for (name, value) in &call.headers {
                request = request.header(name, value);
            }
            let login = self.authorization(&url, call.host, &call.scopes, asked).await?;
            if let Some(header) = &login {
                request = request.header(AUTHORIZATION, header);
            }
            if call.method != Method::GET && call.method != Method::HEAD {
                request = request.body(call.body.clone());
            }
            let send = async || tokio::time::timeout(self.retry.patience, request.send()).await.ok();
            let sent = self.gates.of(&url).pass(&mut tries, &self.retry, send).await;
            let response = match sent {
                Some(Ok(response)) => response,
                Some(Err(error)) if may_get_through(&error) && tries.again(None).await => continue,
                Some(Err(error)) => return Err(not_reached(call.host, error)),
                None if tries.again(None).await => continue,
                None => return Err(silent(call.host)),
            };
            let status = response.status();
            tracing::debug!(method = %call.method, host = url.host_str(), path = url.path(), %status);
            if status == StatusCode::UNAUTHORIZED && challenged.is_none() {
                match self.challenged(&response, call.host, &call.scopes, login.as_ref()).await {
                    Some(scope) => challenged = Some(scope),
                    None => return Ok((response, url)),
                }
            } else if is_passing(status) && tries.again(retry_after(response.headers())).await {
                // Once more.
            } else if let Some(next) = redirect(&response, &url, call)
                && hops < HOPS
            {
                hops += 1;
                url = next;
            } else {
                return Ok((response, url));
            }
        }
    }

    /// Reads an answer to its end.
    pub async fn read(&self, mut response: Response, url: Url) -> Result<Answer> {
        let (status, headers) = (response.status(), response.headers().clone());
        let mut body = BytesMut::new();
        loop {
            let chunk = tokio::time::timeout(self.retry.patience, response.chunk())
                .await
                .map_err(|_| Error::failed("nothing came any more"))?
                .map_err(|error| Error::failed("the answer broke off").because(error.without_url()))?;
            match chunk {
                Some(chunk) if body.len() + chunk.len() <= ANSWER_LIMIT => body.extend_from_slice(&chunk),
                Some(_) => return Err(Error::failed("the answer is larger than any manifest")),
                None => return Ok(Answer { status, headers, body: body.freeze(), url }),
            }
        }
    }

    /// Takes in what a 401 asks for. The scope that it names, if it names one; `None` when it asks for nothing known.
    pub async fn challenged(
        &self,
        response: &Response,
        host: &str,
        scopes: &[Scope],
        sent: Option<&HeaderValue>,
    ) -> Option<Option<String>> {
        let challenge = Challenge::of(response.headers())?;
        let scope = match &challenge {
            Challenge::Bearer(bearer) => bearer.scope.clone(),
            Challenge::Basic => None,
        };
        self.auth.refused(host, scopes, challenge, sent).await;
        Some(scope)
    }

    /// The header for a URL. Only the registry itself gets a login: object storage refuses a request that has both a
    /// signature in its query and a header, and anyone else has no business with it.
    pub async fn authorization(
        &self,
        url: &Url,
        host: &str,
        scopes: &[Scope],
        asked: Option<&str>,
    ) -> Result<Option<HeaderValue>> {
        if url.origin() != endpoint(host)?.origin() {
            return Ok(None);
        }
        self.auth.header(host, scopes, asked).await
    }
}

fn redirect(response: &Response, url: &Url, call: &Call<'_>) -> Option<Url> {
    let moved = matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308);
    let reads = call.method == Method::GET || call.method == Method::HEAD;
    if !moved || !reads || call.follow == Follow::Nothing {
        return None;
    }
    url.join(response.headers().get(LOCATION)?.to_str().ok()?).ok()
}

/// The error for a request that did not get through.
pub(super) fn not_reached(host: &str, error: reqwest::Error) -> Error {
    let told = match is_about_certificate(&error) {
        true => Error::failed(format!("the registry {host} shows a certificate that is not trusted here"))
            .help("add the authority that signed it to the system's, or name its file in SSL_CERT_FILE"),
        false => unreachable(host),
    };
    // The URL may have a signature in its query.
    told.because(error.without_url())
}

fn unreachable(host: &str) -> Error {
    Error::failed(format!("cannot reach the registry {host}"))
        .help("is it running, and is its name in `repository` of [registry] right?")
}

pub(super) fn silent(host: &str) -> Error {
    Error::failed(format!("the registry {host} does not answer"))
        .help("it took the connection and then nothing came; try again later")
}
