//! The `Authorization` header of a request: Basic, or a bearer token that a token server gave for a scope
//! (distribution spec, "Token Authentication Specification").

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderValue, StatusCode};
use serde::Deserialize;
use url::Url;
use url::form_urlencoded::Serializer;
use zeroize::Zeroizing;

use super::challenge::{Bearer, Challenge};
use super::{Found, Hidden, LoginChain};
use crate::engine::Login;
use crate::error::{Error, Result};
use crate::registry::remote::retry::{RetryPolicy, Tries, is_passing, may_get_through, retry_after};
use crate::registry::remote::transport::Http;

/// What a token server's answer says when it names no lifetime (token specification: at least 60 seconds).
const LIFETIME: Duration = Duration::from_secs(60);
/// A token is renewed so long before its end, but never in the first half of its life: a window longer than the life
/// would defeat the cache.
const EARLY: Duration = Duration::from_secs(30);
/// Token answers are a few kilobytes.
const ANSWER_LIMIT: usize = 1 << 20;

/// What may be done with one repository.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Scope {
    /// The repository's path.
    pub path: String,
    /// What may be done.
    pub access: Access,
}

/// What may be done with a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Access {
    /// Read.
    Pull,
    /// Read and write.
    Push,
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let actions = match self.access {
            Access::Pull => "pull",
            Access::Push => "pull,push",
        };
        write!(f, "repository:{}:{actions}", self.path)
    }
}

impl Scope {
    /// Whether a token for this scope is good where `asked` is wanted.
    fn covers(&self, asked: &str) -> bool {
        let Some((name, actions)) = asked.rsplit_once(':') else { return false };
        let own = self.to_string();
        let (own_name, own_actions) = own.rsplit_once(':').unwrap_or((&own, ""));
        name == own_name && actions.split(',').all(|action| own_actions.split(',').any(|own| own == action))
    }
}

/// Knows what each host asks for, and keeps tokens until shortly before they end.
pub struct Authenticator {
    http: Http,
    retry: RetryPolicy,
    logins: LoginChain,
    challenges: Mutex<BTreeMap<String, Challenge>>,
    // Held while a token is fetched: of many requests that need the same one, the first fetches it.
    tokens: tokio::sync::Mutex<HashMap<Key, Token>>,
}

type Key = (String, Vec<Scope>);

struct Token {
    header: HeaderValue,
    fetched: Instant,
    good_for: Duration,
}

impl Authenticator {
    /// Takes logins from `logins`.
    pub fn new(http: Http, retry: RetryPolicy, logins: LoginChain) -> Self {
        let challenges = Mutex::default();
        Authenticator { http, retry, logins, challenges, tokens: tokio::sync::Mutex::default() }
    }

    /// Where logins come from.
    pub fn logins(&self) -> &LoginChain {
        &self.logins
    }

    /// The header for a request to `host` that needs `scopes`; none while the host has not asked for any, or when there
    /// is no login for it. `asked` is a scope that the host itself named when it refused.
    ///
    /// # Errors
    /// The token server is out of reach or does not accept the login.
    pub async fn header(
        &self,
        host: &str,
        scopes: &[Scope],
        asked: Option<&str>,
    ) -> Result<Option<HeaderValue>> {
        match self.challenge(host) {
            None => Ok(None),
            Some(Challenge::Basic) => match self.logins.find(host).await? {
                Some(found) => Ok(Some(basic(&found.login)?)),
                None => Ok(None),
            },
            Some(Challenge::Bearer(bearer)) => self.token(host, &bearer, scopes, asked).await.map(Some),
        }
    }

    /// Takes in that `host` refused a request: what it asks for from now on, and that the token in `sent`, if there was
    /// one, is no good any more. One that another request has fetched meanwhile stays.
    pub async fn refused(
        &self,
        host: &str,
        scopes: &[Scope],
        challenge: Challenge,
        sent: Option<&HeaderValue>,
    ) {
        self.challenges.lock().unwrap_or_else(PoisonError::into_inner).insert(host.to_owned(), challenge);
        let (mut tokens, key) = (self.tokens.lock().await, key(host, scopes));
        if tokens.get(&key).is_some_and(|token| Some(&token.header) == sent) {
            tokens.remove(&key);
        }
    }

    fn challenge(&self, host: &str) -> Option<Challenge> {
        self.challenges.lock().unwrap_or_else(PoisonError::into_inner).get(host).cloned()
    }

    async fn token(
        &self,
        host: &str,
        bearer: &Bearer,
        scopes: &[Scope],
        asked: Option<&str>,
    ) -> Result<HeaderValue> {
        let mut tokens = self.tokens.lock().await;
        let key = key(host, scopes);
        if let Some(token) = tokens.get(&key)
            && token.fetched.elapsed() < token.good_for
        {
            return Ok(token.header.clone());
        }
        let mut wanted: Vec<String> = scopes.iter().map(Scope::to_string).collect();
        let asked = asked.unwrap_or_default().split(' ').filter(|asked| !asked.is_empty());
        wanted.extend(asked.filter(|asked| !scopes.iter().any(|s| s.covers(asked))).map(str::to_owned));
        let token = self.fetch(host, bearer, &wanted).await?;
        let header = token.header.clone();
        tokens.insert(key, token);
        Ok(header)
    }

    async fn fetch(&self, host: &str, bearer: &Bearer, scopes: &[String]) -> Result<Token> {
        let login = self.logins.find(host).await?;
        let realm = Url::parse(&bearer.realm).map_err(|error| {
            Error::failed(format!("{host} names a token server that is no URL")).because(error)
        })?;
        let request = match &login {
            Some(found) if found.login.is_identity_token() => {
                self.by_identity_token(&realm, bearer, scopes, &found.login)?
            }
            other => self.by_password(&realm, bearer, scopes, other.as_ref())?,
        };
        let server = realm.host_str().unwrap_or_default().to_owned();
        let body = self.ask(request, host, &server, login.as_ref()).await?;
        let good_token = |body: &[u8]| {
            #[derive(Deserialize)]
            struct Answer {
                token: Option<Hidden>,
                access_token: Option<Hidden>,
                expires_in: Option<u64>,
            }
            let answer: Answer = serde_json::from_slice(body).ok()?;
            let text = answer.token.or(answer.access_token).filter(|text| !text.0.is_empty())?;
            let header = sensitive(Zeroizing::new(format!("Bearer {}", *text.0)))?;
            let lifetime = answer.expires_in.filter(|s| *s > 0).map_or(LIFETIME, Duration::from_secs);
            Some(Token { header, fetched: Instant::now(), good_for: good_for(lifetime) })
        };
        // The body is never told: it may hold a token.
        good_token(&body).ok_or_else(|| {
            Error::failed(format!("the token server {server} of {host} answers without a token"))
        })
    }

    fn by_password(
        &self,
        realm: &Url,
        bearer: &Bearer,
        scopes: &[String],
        found: Option<&Found>,
    ) -> Result<reqwest::RequestBuilder> {
        let mut url = realm.clone();
        {
            let mut query = url.query_pairs_mut();
            if let Some(service) = &bearer.service {
                query.append_pair("service", service);
            }
            for scope in scopes {
                query.append_pair("scope", scope);
            }
        }
        let mut request = self.http.client(&url)?.get(url);
        if let Some(found) = found {
            request = request.header(AUTHORIZATION, basic(&found.login)?);
        }
        Ok(request)
    }

    /// The OAuth2 form of the token endpoint (distribution spec, "Docker Registry v2 authentication using OAuth2").
    fn by_identity_token(
        &self,
        realm: &Url,
        bearer: &Bearer,
        scopes: &[String],
        login: &Login,
    ) -> Result<reqwest::RequestBuilder> {
        let token = std::str::from_utf8(login.password.expose())
            .map_err(|_| Error::failed("the identity token of the login is not text"))?;
        let form = Serializer::new(String::new())
            .append_pair("grant_type", "refresh_token")
            .append_pair("client_id", "imgforge")
            .append_pair("service", bearer.service.as_deref().unwrap_or_default())
            .append_pair("scope", &scopes.join(" "))
            .append_pair("refresh_token", token)
            .finish();
        let request = self.http.client(realm)?.post(realm.clone());
        Ok(request.header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(form))
    }

    async fn ask(
        &self,
        request: reqwest::RequestBuilder,
        host: &str,
        server: &str,
        login: Option<&Found>,
    ) -> Result<Zeroizing<Vec<u8>>> {
        let out_of_reach = || Error::failed(format!("cannot reach the token server {server} of {host}"));
        let mut tries = Tries::new(&self.retry);
        loop {
            let request = request.try_clone().expect("a request whose body is in memory can be cloned");
            let answer = tokio::time::timeout(self.retry.patience, async {
                let response = request.send().await?;
                let (status, headers) = (response.status(), response.headers().clone());
                Ok((status, headers, Zeroizing::new(response.bytes().await?.to_vec())))
            })
            .await;
            let (status, headers, body) = match answer {
                Ok(Ok(answer)) => answer,
                Ok(Err(error)) => {
                    let error: reqwest::Error = error;
                    if may_get_through(&error) && tries.again(None).await {
                        continue;
                    }
                    return Err(out_of_reach().because(error.without_url()));
                }
                Err(_) if tries.again(None).await => continue,
                Err(_) => return Err(out_of_reach().help("it takes the connection and does not answer")),
            };
            if is_passing(status) && tries.again(retry_after(&headers)).await {
                continue;
            }
            if status.is_success() && body.len() <= ANSWER_LIMIT {
                return Ok(body);
            }
            return Err(self.no_token(status, host, server, login));
        }
    }

    fn no_token(&self, status: StatusCode, host: &str, server: &str, login: Option<&Found>) -> Error {
        let cause = Error::failed(format!("HTTP {status}"));
        match (status.as_u16(), login) {
            (400 | 401 | 403, Some(found)) => {
                Error::failed(format!("{host} does not accept the login from {}", found.source))
                    .help("check the user and the password (or access token) there")
                    .because(cause.context(format!("the token server {server} refuses it")))
            }
            (401 | 403, None) => Error::failed(format!("{host} wants a login and none was found"))
                .help(format!("looked at: {}", self.logins.describe()))
                .because(cause.context(format!("the token server {server} refuses anonymous access"))),
            (429, _) => Error::failed(format!("{host} limits how often it may be asked"))
                .help("wait a few minutes, or log in: anonymous use is limited more")
                .because(cause),
            _ => Error::failed(format!("the token server {server} of {host} gives no token")).because(cause),
        }
    }
}

fn key(host: &str, scopes: &[Scope]) -> Key {
    let mut scopes = scopes.to_vec();
    scopes.sort();
    (host.to_owned(), scopes)
}

/// For how long of its life a token is used.
fn good_for(lifetime: Duration) -> Duration {
    lifetime.saturating_sub(EARLY).max(lifetime / 2)
}

fn basic(login: &Login) -> Result<HeaderValue> {
    let mut pair = Zeroizing::new(Vec::new());
    pair.extend_from_slice(login.username.as_bytes());
    pair.push(b':');
    pair.extend_from_slice(login.password.expose());
    let encoded = Zeroizing::new(BASE64_STANDARD.encode(&*pair));
    sensitive(Zeroizing::new(format!("Basic {}", *encoded)))
        .ok_or_else(|| Error::failed("the login cannot be put into a header"))
}

/// A header value that logs as `Sensitive`.
fn sensitive(text: Zeroizing<String>) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(&text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;

    #[test]
    fn a_short_lived_token_is_used_for_half_of_its_life() {
        let seconds = Duration::from_secs;
        for (life, used) in [(300, 270), (60, 30), (40, 20), (2, 1)] {
            assert_eq!(good_for(seconds(life)), seconds(used), "{life}");
        }
    }

    #[test]
    fn a_push_scope_covers_what_a_pull_needs() {
        let push = Scope { path: "a/b".into(), access: Access::Push };
        assert_eq!(push.to_string(), "repository:a/b:pull,push");
        assert!(push.covers("repository:a/b:pull") && push.covers("repository:a/b:push,pull"));
        assert!(
            !push.covers("repository:a/c:pull") && !push.covers("registry:catalog:*") && !push.covers("x")
        );
        assert!(!Scope { path: "a/b".into(), access: Access::Pull }.covers("repository:a/b:pull,push"));
    }

    #[test]
    fn headers_do_not_print_their_value() {
        let login = Login { username: "me".into(), password: Secret::new(b"hush".to_vec()) };
        let header = basic(&login).unwrap();
        assert_eq!(header.to_str().unwrap(), "Basic bWU6aHVzaA==");
        assert_eq!(format!("{header:?}"), "Sensitive");
    }
}
