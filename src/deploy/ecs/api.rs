//! The ECS API (and CloudWatch Logs, for what once-tasks print) as JSON over HTTP: AWS JSON 1.1, signed with SigV4.
//!
//! Not the typed SDK client, because RegisterTaskDefinition must get back every field that DescribeTaskDefinition gave:
//! a typed client drops the fields that are newer than itself, and a container would start without them. Credentials,
//! region and endpoints are still those of `aws_config`.
//!
//! Bodies are never logged: people put secrets into task definitions.

use std::fmt;
use std::time::{Duration, SystemTime};

use aws_config::SdkConfig;
use aws_credential_types::Credentials;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use aws_types::service_config::ServiceConfigKey;
use bytes::Bytes;
use serde_json::Value;
use tokio::sync::Mutex;

use crate::digest::Digest;
use crate::error::{Error, Result};

/// A service that speaks AWS JSON 1.1.
#[derive(Debug, Clone, Copy)]
pub struct Service {
    /// For people.
    pub title: &'static str,
    /// As in `AWS_ENDPOINT_URL_…` and in a profile's `services` section.
    id: &'static str,
    /// In host names and in signatures.
    name: &'static str,
    /// Before the action in `X-Amz-Target`.
    target: &'static str,
}

/// Amazon ECS.
pub const ECS: Service =
    Service { title: "ECS", id: "ECS", name: "ecs", target: "AmazonEC2ContainerServiceV20141113" };

/// CloudWatch Logs.
pub const LOGS: Service =
    Service { title: "CloudWatch Logs", id: "CloudWatch Logs", name: "logs", target: "Logs_20140328" };

/// How calls that may be repeated are repeated. The pause doubles each time, and is jittered between nothing and all of
/// it ("full jitter", Amazon Builders' Library, "Timeouts, retries and backoff with jitter").
#[derive(Debug, Clone, Copy)]
pub struct Retry {
    /// How often a call is tried.
    pub attempts: u32,
    /// The longest first pause.
    pub base: Duration,
    /// The longest pause.
    pub cap: Duration,
}

impl Default for Retry {
    /// RegisterTaskDefinition is let through about once a second, so that short pauses alone would not do.
    fn default() -> Self {
        Retry { attempts: 8, base: Duration::from_millis(500), cap: Duration::from_secs(10) }
    }
}

impl Retry {
    fn pause(&self, attempt: u32) -> Duration {
        let most = self.base.saturating_mul(1 << attempt.min(16)).min(self.cap);
        // Without random numbers every pause is the longest one, which is only slower.
        let part = getrandom::u32().map_or(1.0, |random| f64::from(random) / f64::from(u32::MAX));
        most.mul_f64(part)
    }
}

/// Why a call did not succeed.
#[derive(Debug)]
pub struct ApiError {
    /// `ecs:UpdateService`, as in a policy.
    pub action: String,
    /// The error's name, `ClusterNotFoundException`; empty when no answer came.
    pub code: String,
    /// What the service said.
    pub message: String,
    status: Option<u16>,
    source: Option<reqwest::Error>,
}

impl ApiError {
    /// Whether the service answered with this error.
    pub fn is(&self, code: &str) -> bool {
        self.code == code
    }

    /// Whether the caller may not do this.
    pub fn is_denied(&self) -> bool {
        matches!(self.code.as_str(), "AccessDeniedException" | "AccessDenied" | "UnauthorizedOperation")
    }

    /// Whether the work may have been done all the same: the request went out, and no answer to it came.
    pub fn leaves_open(&self) -> bool {
        match (self.status, &self.source) {
            (None, Some(source)) => !source.is_connect(),
            (Some(500..), _) => true,
            _ => false,
        }
    }

    fn is_expired(&self) -> bool {
        matches!(self.code.as_str(), "ExpiredTokenException" | "ExpiredToken" | "RequestExpired")
    }

    fn is_passing(&self) -> bool {
        match (self.status, self.code.as_str()) {
            // No answer: not connected, reset, cut off, timed out.
            (None, _) => self.source.is_some(),
            (Some(429 | 500..), _) => true,
            (_, "ThrottlingException" | "Throttling" | "ThrottledException") => true,
            (_, "TooManyRequestsException" | "RequestLimitExceeded" | "RequestThrottled") => true,
            (_, "ServerException" | "UpdateInProgressException" | "ServiceUnavailableException") => true,
            // Answered when two revisions of a family are registered at the same moment.
            (_, "ClientException") => self.message.contains("Too many concurrent attempts"),
            _ => false,
        }
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.action)?;
        match (self.code.as_str(), self.message.as_str()) {
            ("", message) => f.write_str(message),
            (code, "") => f.write_str(code),
            (code, message) => write!(f, "{code}: {message}"),
        }
    }
}

impl std::error::Error for ApiError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|source| source as &(dyn std::error::Error + 'static))
    }
}

/// One service in one region.
pub struct Client {
    service: Service,
    endpoint: String,
    region: String,
    http: reqwest::Client,
    credentials: CredentialCache,
    retry: Retry,
}

impl Client {
    /// A client for `service`, with the region (unless another is given), endpoint and credentials of `sdk`.
    ///
    /// # Errors
    /// No region or no credentials are configured.
    pub fn new(
        service: Service,
        sdk: &SdkConfig,
        region: Option<&str>,
        http: reqwest::Client,
        retry: Retry,
    ) -> Result<Self> {
        let configured = sdk.region().map(|region| region.as_ref());
        let region = region.or(configured).ok_or_else(|| {
            Error::config("no AWS region is configured")
                .help("set AWS_REGION (or AWS_DEFAULT_REGION), or `region` in the AWS profile")
        })?;
        let provider = sdk.credentials_provider().ok_or_else(|| {
            Error::config("no AWS credentials are configured")
                .help("set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE")
        })?;
        Ok(Client {
            endpoint: configured_endpoint(service, sdk)
                .unwrap_or_else(|| public_endpoint(service, sdk, region)),
            service,
            region: region.to_owned(),
            http,
            credentials: CredentialCache { provider, held: Mutex::new(None) },
            retry,
        })
    }

    /// The region it talks to.
    pub fn region(&self) -> &str {
        &self.region
    }

    /// Calls an action. Throttling, server errors and lost connections are tried again: every call made here may be
    /// repeated (RunTask carries a client token, UpdateService to the same revision is no new deployment).
    ///
    /// # Errors
    /// What the service answered, or why no answer came.
    pub async fn call(&self, action: &str, input: &Value) -> Result<Value, ApiError> {
        let body = Bytes::from(input.to_string());
        let mut attempt = 0;
        let mut renewed = false;
        loop {
            let error = match self.send(action, body.clone()).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            attempt += 1;
            if error.is_expired() && !renewed {
                renewed = true;
                self.credentials.forget().await;
                continue;
            }
            if !error.is_passing() || attempt >= self.attempts(&error) {
                return Err(error);
            }
            let pause = self.retry.pause(attempt - 1);
            tracing::debug!(%error, attempt, ?pause, "calling again");
            tokio::time::sleep(pause).await;
        }
    }

    /// Where nobody listens, nobody will: a wrong endpoint is told soon.
    fn attempts(&self, error: &ApiError) -> u32 {
        match &error.source {
            Some(source) if source.is_connect() => self.retry.attempts.min(4),
            _ => self.retry.attempts,
        }
    }

    async fn send(&self, action: &str, body: Bytes) -> Result<Value, ApiError> {
        let failed = |code: &str, message: String, source: Option<reqwest::Error>| ApiError {
            action: format!("{}:{action}", self.service.name),
            code: code.to_owned(),
            message,
            status: None,
            source,
        };
        let credentials =
            self.credentials.get().await.map_err(|message| failed("NoCredentials", message, None))?;
        let request = self
            .signed(action, body, credentials)
            .map_err(|message| failed("NotSigned", format!("cannot sign the request: {message}"), None))?;
        let lost = |source: reqwest::Error| {
            failed("", format!("no answer from {}", self.endpoint), Some(source.without_url()))
        };
        let answer = self.http.execute(request).await.map_err(lost)?;
        let status = answer.status();
        let named = answer.headers().get("x-amzn-errortype");
        let named = named.and_then(|value| value.to_str().ok()).map(str::to_owned);
        let bytes = answer.bytes().await.map_err(lost)?;
        tracing::debug!(action, status = status.as_u16(), "answered");
        let parsed: Option<Value> = serde_json::from_slice(&bytes).ok();
        if status.is_success() {
            return match parsed {
                Some(value) => Ok(value),
                None if bytes.is_empty() => Ok(Value::Null),
                None => Err(failed("NotJson", format!("{} answered something else", self.endpoint), None)),
            };
        }
        let field = |name: &str| parsed.as_ref()?.get(name)?.as_str().map(str::to_owned);
        let code = named.or_else(|| field("__type")).or_else(|| field("code")).unwrap_or_default();
        let message = field("message").or_else(|| field("Message")).unwrap_or_default();
        Err(ApiError {
            status: Some(status.as_u16()),
            ..match bare_code(&code) {
                "" => failed(&format!("HTTP {status}"), message, None),
                code => failed(code, message, None),
            }
        })
    }

    /// The request with its signature (AWS IAM user guide, "Signature Version 4"). The body goes in as its hash only, so
    /// that the signer's own trace cannot show it.
    fn signed(
        &self,
        action: &str,
        body: Bytes,
        credentials: Credentials,
    ) -> Result<reqwest::Request, String> {
        let hash = Digest::of(&body).hex();
        let request = http::Request::post(&self.endpoint)
            .header(http::header::CONTENT_TYPE, "application/x-amz-json-1.1")
            .header("x-amz-target", format!("{}.{action}", self.service.target))
            .body(body);
        let mut request = request.map_err(|error| error.to_string())?;
        let headers: Vec<(String, String)> = (request.headers().iter())
            .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
            .collect();
        let identity = credentials.into();
        let parameters = v4::SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name(self.service.name)
            .time(SystemTime::now())
            .settings(SigningSettings::default())
            .build()
            .map_err(|error| error.to_string())?
            .into();
        let signable = SignableRequest::new(
            "POST",
            self.endpoint.as_str(),
            headers.iter().map(|(name, value)| (name.as_str(), value.as_str())),
            SignableBody::Precomputed(hash),
        );
        let signable = signable.map_err(|error| error.to_string())?;
        let (instructions, _) = sign(signable, &parameters).map_err(|error| error.to_string())?.into_parts();
        instructions.apply_to_request_http1x(&mut request);
        reqwest::Request::try_from(request).map_err(|error| error.to_string())
    }
}

/// `com.amazonaws.ecs#ClientException` and `ClientException:http://…` are both `ClientException`.
fn bare_code(code: &str) -> &str {
    let code = code.split(':').next().unwrap_or_default();
    code.rsplit('#').next().unwrap_or_default()
}

/// What the user set, in the SDK's own order: in code, `AWS_ENDPOINT_URL_ECS`, the profile's `services`, then
/// `AWS_ENDPOINT_URL` and the profile's `endpoint_url` (AWS SDKs reference guide, "Service-specific endpoints").
fn configured_endpoint(service: Service, sdk: &SdkConfig) -> Option<String> {
    let general = || sdk.endpoint_url().map(str::to_owned);
    if sdk.get_origin("endpoint_url").is_client_config() {
        return general();
    }
    let key = ServiceConfigKey::builder()
        .service_id(service.id)
        .env("AWS_ENDPOINT_URL")
        .profile("endpoint_url")
        .build()
        .expect("all three parts are set");
    sdk.service_config().and_then(|config| config.load_config(key)).or_else(general)
}

/// `https://ecs.eu-west-1.amazonaws.com`, and its forms in other partitions, for FIPS and for IPv6 (botocore's
/// partitions.json).
fn public_endpoint(service: Service, sdk: &SdkConfig, region: &str) -> String {
    let fips = if sdk.use_fips() == Some(true) { "-fips" } else { "" };
    let (suffix, dual) = match region.split('-').next().unwrap_or_default() {
        "cn" => ("amazonaws.com.cn", "api.amazonwebservices.com.cn"),
        "eusc" => ("amazonaws.eu", "api.amazonwebservices.eu"),
        _ => ("amazonaws.com", "api.aws"),
    };
    let suffix = if sdk.use_dual_stack() == Some(true) { dual } else { suffix };
    format!("https://{}{fips}.{region}.{suffix}", service.name)
}

/// Credentials for as long as they are good. Providers themselves ask the network (SSO, roles, instances) at every call.
struct CredentialCache {
    provider: SharedCredentialsProvider,
    held: Mutex<Option<Credentials>>,
}

impl CredentialCache {
    async fn get(&self) -> Result<Credentials, String> {
        let mut held = self.held.lock().await;
        // Credentials that live shorter than a minute are fetched each time, and work.
        let soon = SystemTime::now() + Duration::from_secs(60);
        if let Some(credentials) = held.as_ref()
            && credentials.expiry().is_none_or(|expiry| expiry > soon)
        {
            return Ok(credentials.clone());
        }
        let fresh = self.provider.provide_credentials().await.map_err(|error| {
            let causes = std::iter::successors(std::error::Error::source(&error), |cause| cause.source());
            let causes: Vec<String> = causes.map(|cause| cause.to_string()).collect();
            match causes.last() {
                Some(cause) => format!("no AWS credentials: {error}: {cause}"),
                None => format!("no AWS credentials: {error}"),
            }
        })?;
        *held = Some(fresh.clone());
        Ok(fresh)
    }

    async fn forget(&self) {
        *self.held.lock().await = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sdk() -> aws_types::sdk_config::Builder {
        SdkConfig::builder().region(aws_types::region::Region::new("eu-west-1"))
    }

    #[test]
    fn public_endpoints_follow_partition_fips_and_dual_stack() {
        let plain = sdk().build();
        let cases = [
            (plain.clone(), "eu-west-1", "https://ecs.eu-west-1.amazonaws.com"),
            (plain, "cn-north-1", "https://ecs.cn-north-1.amazonaws.com.cn"),
            (sdk().use_fips(true).build(), "us-east-1", "https://ecs-fips.us-east-1.amazonaws.com"),
            (sdk().use_dual_stack(true).build(), "us-east-1", "https://ecs.us-east-1.api.aws"),
        ];
        for (sdk, region, want) in cases {
            assert_eq!(public_endpoint(ECS, &sdk, region), want);
        }
    }

    #[test]
    fn a_service_of_its_own_endpoint_comes_before_the_general_one() {
        #[derive(Debug)]
        struct Written;
        impl aws_types::service_config::LoadServiceConfig for Written {
            fn load_config(&self, key: ServiceConfigKey<'_>) -> Option<String> {
                (key.service_id() == "ECS").then(|| format!("http://{}.example", key.env()))
            }
        }
        let sdk = sdk().endpoint_url("http://all.example").service_config(Written).build();
        assert_eq!(configured_endpoint(ECS, &sdk).unwrap(), "http://AWS_ENDPOINT_URL.example");
        assert_eq!(configured_endpoint(LOGS, &sdk).unwrap(), "http://all.example");
    }

    #[test]
    fn error_names_lose_their_namespace() {
        assert_eq!(bare_code("com.amazonaws.ecs#ClientException"), "ClientException");
        assert_eq!(bare_code("ClientException:http://internal.amazon.com/coral/"), "ClientException");
    }

    #[test]
    fn pauses_grow_up_to_the_cap() {
        let retry = Retry { attempts: 9, base: Duration::from_millis(100), cap: Duration::from_millis(300) };
        for attempt in 0..40 {
            assert!(retry.pause(attempt) <= Duration::from_millis(300));
        }
    }
}
