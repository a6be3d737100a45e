//! A token server as Docker Hub's is: it signs tokens for scopes (distribution spec, "Token Authentication").

use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use rcgen::{CertificateParams, KeyPair, SigningKey};
use serde_json::{Value, json};
use url::form_urlencoded;

/// Starts with the whole life of every token; it is far longer than any test.
const LIFETIME: u64 = 300;

pub struct TokenServer {
    pub realm: String,
    pub service: String,
    pub issuer: String,
    /// PEM of what the registry checks signatures with.
    pub certificate: String,
    seen: Arc<Mutex<Vec<TokenRequest>>>,
    serving: tokio::task::JoinHandle<()>,
}

/// A request as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRequest {
    pub user: Option<String>,
    pub scopes: Vec<String>,
}

struct Shared {
    user: String,
    password: String,
    /// The repository path's beginning under which the user may push.
    owns: String,
    service: String,
    issuer: String,
    key: KeyPair,
    der: Vec<u8>,
    seen: Arc<Mutex<Vec<TokenRequest>>>,
}

impl TokenServer {
    /// Knows one user, who may push below `owns`; anyone may pull what is below `public/`.
    pub async fn start(user: &str, password: &str, owns: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let certificate =
            CertificateParams::new(vec!["tokens.example.com".into()]).unwrap().self_signed(&key).unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (service, issuer) = ("registry.example.com".to_owned(), "tokens.example.com".to_owned());
        let shared = Arc::new(Shared {
            user: user.into(),
            password: password.into(),
            owns: owns.into(),
            service: service.clone(),
            issuer: issuer.clone(),
            key,
            der: certificate.der().to_vec(),
            seen: Arc::clone(&seen),
        });
        let app = Router::new().route("/token", get(by_password).post(by_identity)).with_state(shared);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let realm = format!("http://{}/token", listener.local_addr().unwrap());
        let serving = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        TokenServer { realm, service, issuer, certificate: certificate.pem(), seen, serving }
    }

    /// Every request for a token so far.
    pub fn seen(&self) -> Vec<TokenRequest> {
        self.seen.lock().unwrap().clone()
    }
}

impl Drop for TokenServer {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn by_password(
    State(shared): State<Arc<Shared>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let query = query.unwrap_or_default();
    let values = |wanted: &str| {
        let pairs = form_urlencoded::parse(query.as_bytes()).into_owned();
        pairs.filter(|(name, _)| name == wanted).map(|(_, value)| value).collect::<Vec<_>>()
    };
    let login = headers.get("authorization").map(|value| {
        let encoded = value.to_str().unwrap().strip_prefix("Basic ").unwrap();
        String::from_utf8(BASE64_STANDARD.decode(encoded).unwrap()).unwrap()
    });
    if login.as_ref().is_some_and(|login| *login != format!("{}:{}", shared.user, shared.password)) {
        return (StatusCode::UNAUTHORIZED, "no such login").into_response();
    }
    let user = login.map(|_| shared.user.clone());
    shared.answer(user, values("scope"), &values("service"), "token")
}

/// The user's password is also the identity token.
async fn by_identity(State(shared): State<Arc<Shared>>, body: String) -> Response {
    let value = |wanted: &str| {
        let mut pairs = form_urlencoded::parse(body.as_bytes()).into_owned();
        pairs.find(|(name, _)| name == wanted).map(|(_, value)| value).unwrap_or_default()
    };
    if value("grant_type") != "refresh_token" || value("refresh_token") != shared.password {
        return (StatusCode::UNAUTHORIZED, "no such token").into_response();
    }
    let scopes = value("scope").split(' ').map(str::to_owned).collect();
    shared.answer(Some(shared.user.clone()), scopes, &[value("service")], "access_token")
}

impl Shared {
    fn answer(
        &self,
        user: Option<String>,
        scopes: Vec<String>,
        services: &[String],
        field: &str,
    ) -> Response {
        if services != [self.service.clone()] {
            return (StatusCode::BAD_REQUEST, "another service").into_response();
        }
        let access: Vec<Value> =
            scopes.iter().filter_map(|scope| self.grant(user.as_deref(), scope)).collect();
        self.seen.lock().unwrap().push(TokenRequest { user, scopes });
        let token = self.sign(&access);
        Json(json!({field: token, "expires_in": LIFETIME})).into_response()
    }

    /// What of a scope is granted; what is not is left out, and the registry then says no.
    fn grant(&self, user: Option<&str>, scope: &str) -> Option<Value> {
        let [kind, name, asked] = scope.splitn(3, ':').collect::<Vec<_>>()[..] else { return None };
        let owned = user.is_some() && name.starts_with(&self.owns);
        let actions: Vec<&str> = asked
            .split(',')
            .filter(|action| owned || (*action == "pull" && name.starts_with("public/")))
            .collect();
        (!actions.is_empty()).then(|| json!({"type": kind, "name": name, "actions": actions}))
    }

    fn sign(&self, access: &[Value]) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let header = json!({"typ": "JWT", "alg": "ES256", "x5c": [BASE64_STANDARD.encode(&self.der)]});
        let claims = json!({
            "iss": self.issuer, "sub": self.user, "aud": self.service, "jti": format!("{now}"),
            "iat": now, "nbf": now - 30, "exp": now + LIFETIME, "access": access,
        });
        let part = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(&header), part(&claims));
        let signature = raw_signature(&self.key.sign(signed.as_bytes()).unwrap());
        format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
    }
}

/// JWS wants r and s as 32 bytes each (RFC 7518, section 3.4); the key gives an ASN.1 sequence of two integers.
fn raw_signature(der: &[u8]) -> Vec<u8> {
    let mut rest = &der[2..];
    let mut raw = Vec::new();
    for _ in 0..2 {
        let length = usize::from(rest[1]);
        let integer = &rest[2..2 + length];
        let digits = &integer[length.saturating_sub(32)..];
        raw.extend(std::iter::repeat_n(0, 32 - digits.len()));
        raw.extend_from_slice(digits);
        rest = &rest[2 + length..];
    }
    raw
}
