//! Amazon ECR: its control calls through the AWS SDK, image traffic through [`Remote`].
//!
//! AWS types stay in this file (contract 2).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use aws_config::SdkConfig;
use aws_sdk_ecr::Client;
use aws_sdk_ecr::config::{Builder, Region};
use aws_sdk_ecr::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};
use aws_sdk_ecr::types::{ImageScanningConfiguration, ImageTagMutability};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use tokio::sync::Mutex;
use zeroize::Zeroizing;

use super::auth::{LoginChain, LoginSource, normal_host};
use super::remote::retry::RetryPolicy;
use super::remote::transport::Http;
use super::remote::{Remote, RemoteConfig};
use super::{BlobReader, Manifest, Registry};
use crate::digest::Digest;
use crate::engine::Login;
use crate::error::{Error, Result};
use crate::image::reference::{Repository, Version};
use crate::image::{Content, Descriptor, Layer};
use crate::progress::{Reporter, Task};
use crate::secret::Secret;

/// A token lasts 12 hours (ECR user guide, "Private registry authentication"). It is timed by the monotonic clock from
/// when it came, never by AWS's clock against ours.
const TOKEN_USED_FOR: Duration = Duration::from_secs(11 * 60 * 60);

/// What an ECR registry needs to know.
#[derive(Clone)]
pub struct EcrConfig {
    /// `NAME` of `ecr:NAME`, with `{image}` and `{project}`.
    pub pattern: String,
    /// The project's name.
    pub project: String,
    /// `IMGFORGE_ECR_REGISTRY`: where image traffic goes, when not to the registry's own address.
    pub registry: Option<String>,
    /// Logins for the other registries that images are read from.
    pub logins: LoginChain,
    /// The connections.
    pub http: Http,
    /// What happens after a failure that may pass.
    pub retry: RetryPolicy,
}

/// The private ECR registry of an account in a region.
pub struct Ecr {
    client: Client,
    region: String,
    remote: Remote,
    prepared: Mutex<BTreeSet<Repository>>,
}

/// What of a repository's settings counts here.
struct Settings {
    /// Whether a tag that is there cannot be given to another image.
    immutable: bool,
    /// Whether images are scanned when they are pushed.
    scanned: bool,
}

impl fmt::Debug for Ecr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.describe())
    }
}

impl Ecr {
    /// Asks for a token, whose answer also names the registry.
    ///
    /// # Errors
    /// No region, no credentials, or credentials that may not ask.
    pub async fn connect(aws: &SdkConfig, config: EcrConfig) -> Result<Self> {
        let region = aws.region().map(ToString::to_string).ok_or_else(no_region)?;
        let logins = EcrLogins::new(aws.clone());
        let host = match &config.registry {
            Some(host) => {
                logins.serve(host, &region).await;
                host.clone()
            }
            None => logins.token(&region).await?.host,
        };
        let remote = Remote::new(RemoteConfig {
            http: config.http,
            retry: config.retry,
            ..RemoteConfig::new(
                format!("{host}/{}", config.pattern),
                config.project,
                config.logins.first(logins.clone()),
            )
        })?;
        Ok(Ecr { client: logins.client(&region), region, remote, prepared: Mutex::default() })
    }

    /// The repository's settings; `None` when there is no such repository.
    async fn settings(&self, repository: &Repository) -> Result<Option<Settings>, EcrError> {
        let answer = self.client.describe_repositories().repository_names(&repository.path).send().await;
        match answer {
            Ok(answer) => Ok(answer.repositories().first().map(|settings| {
                // IMMUTABLE, or IMMUTABLE_WITH_EXCLUSION: whoever excludes tags has said so.
                let immutable = settings
                    .image_tag_mutability()
                    .is_some_and(|mutability| mutability.as_str().starts_with("IMMUTABLE"));
                let scanned = settings.image_scanning_configuration().is_some_and(|scan| scan.scan_on_push());
                Settings { immutable, scanned }
            })),
            Err(error) => match EcrError::of(error) {
                EcrError { code: Some(code), .. } if code == "RepositoryNotFoundException" => Ok(None),
                error => Err(error),
            },
        }
    }

    /// A new repository is private, as all of this API are; tags cannot be moved, images are scanned.
    async fn create(&self, repository: &Repository) -> Result<()> {
        let scan = ImageScanningConfiguration::builder().scan_on_push(true).build();
        let answer = self
            .client
            .create_repository()
            .repository_name(&repository.path)
            .image_tag_mutability(ImageTagMutability::Immutable)
            .image_scanning_configuration(scan)
            .send()
            .await;
        let Err(error) = answer else { return Ok(()) };
        let error = EcrError::of(error);
        // Another push was quicker.
        if error.code.as_deref() == Some("RepositoryAlreadyExistsException") {
            return Ok(());
        }
        Err(error.told(&format!("make the repository {}", repository.path), "ecr:CreateRepository").help(format!(
            "allow ecr:CreateRepository, or make it once by hand: aws ecr create-repository --region {} \
             --repository-name {} --image-tag-mutability IMMUTABLE --image-scanning-configuration scanOnPush=true",
            self.region, repository.path
        )))
    }
}

#[async_trait]
impl Registry for Ecr {
    fn describe(&self) -> String {
        format!("ecr ({})", self.region)
    }

    fn repository(&self, image: &str) -> Result<Repository> {
        self.remote.repository(image)
    }

    fn is_remote(&self) -> bool {
        true
    }

    async fn login(&self, repository: &Repository) -> Result<Option<Login>> {
        self.remote.login(repository).await
    }

    fn content(&self, repository: &Repository, digest: &Digest) -> Content {
        self.remote.content(repository, digest)
    }

    async fn problems(&self, repository: &Repository) -> Result<Vec<String>> {
        let name = &repository.path;
        let settings = self.settings(repository).await;
        let settings =
            settings.map_err(|e| e.told(&format!("look at {name}"), "ecr:DescribeRepositories"))?;
        let Some(Settings { immutable, scanned }) = settings else { return Ok(Vec::new()) };
        let mut problems = Vec::new();
        if !immutable {
            problems.push(format!(
                "tags of {name} can be moved to other images: aws ecr put-image-tag-mutability --repository-name {name} \
                 --image-tag-mutability IMMUTABLE"
            ));
        }
        if !scanned {
            problems.push(format!(
                "images of {name} are not scanned when they are pushed: aws ecr put-image-scanning-configuration \
                 --repository-name {name} --image-scanning-configuration scanOnPush=true"
            ));
        }
        Ok(problems)
    }

    fn will_write(&self, repository: &Repository) {
        self.remote.will_write(repository);
    }

    fn tell(&self, progress: &Reporter) {
        self.remote.tell(progress);
    }

    async fn prepare(&self, repository: &Repository) -> Result<()> {
        self.remote.prepare(repository).await?;
        let mut prepared = self.prepared.lock().await;
        if prepared.contains(repository) {
            return Ok(());
        }
        match self.settings(repository).await {
            Ok(Some(_)) => {}
            Ok(None) => self.create(repository).await?,
            // An identity that may only push needs nothing here when the repository is there; when it is not, the push says so.
            Err(error) if error.is_denied() => {}
            Err(error) => {
                let doing = format!("look at the repository {}", repository.path);
                return Err(error.told(&doing, "ecr:DescribeRepositories"));
            }
        }
        prepared.insert(repository.clone());
        Ok(())
    }

    async fn manifest(&self, repository: &Repository, version: &Version) -> Result<Option<Manifest>> {
        self.remote.manifest(repository, version).await
    }

    async fn head(&self, repository: &Repository, version: &Version) -> Result<Option<Digest>> {
        self.remote.head(repository, version).await
    }

    async fn has_blob(&self, repository: &Repository, digest: &Digest) -> Result<bool> {
        self.remote.has_blob(repository, digest).await
    }

    async fn blob(&self, repository: &Repository, descriptor: &Descriptor) -> Result<BlobReader> {
        self.remote.blob(repository, descriptor).await
    }

    async fn mount(&self, repository: &Repository, digest: &Digest, from: &Repository) -> Result<bool> {
        self.remote.mount(repository, digest, from).await
    }

    async fn put_layer(&self, repository: &Repository, layer: &Layer, task: &Task) -> Result<()> {
        self.remote.put_layer(repository, layer, task).await
    }

    async fn put_bytes(&self, repository: &Repository, descriptor: &Descriptor, bytes: Bytes) -> Result<()> {
        self.remote.put_bytes(repository, descriptor, bytes).await
    }

    async fn put_manifest(
        &self,
        repository: &Repository,
        version: &Version,
        media_type: &str,
        bytes: Bytes,
    ) -> Result<Digest> {
        self.remote.put_manifest(repository, version, media_type, bytes).await
    }
}

/// Logins for ECR hosts, by AWS credentials: one token for each region, asked for when it is first needed.
#[derive(Clone)]
pub struct EcrLogins {
    aws: SdkConfig,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    tokens: BTreeMap<String, (Token, Instant)>,
    /// Hosts that stand for a region's registry without being called so.
    served: BTreeMap<String, String>,
}

#[derive(Clone)]
struct Token {
    login: Login,
    host: String,
}

impl EcrLogins {
    /// With the credentials of `aws`.
    pub fn new(aws: SdkConfig) -> Self {
        EcrLogins { aws, state: Arc::default() }
    }

    async fn serve(&self, host: &str, region: &str) {
        self.state.lock().await.served.insert(normal_host(host), region.to_owned());
    }

    fn client(&self, region: &str) -> Client {
        Client::from_conf(Builder::from(&self.aws).region(Region::new(region.to_owned())).build())
    }

    async fn token(&self, region: &str) -> Result<Token> {
        let mut state = self.state.lock().await;
        if let Some((token, since)) = state.tokens.get(region)
            && since.elapsed() < TOKEN_USED_FOR
        {
            return Ok(token.clone());
        }
        let since = Instant::now();
        let answer =
            self.client(region).get_authorization_token().send().await.map_err(|error| {
                EcrError::of(error).told("get a login for ECR", "ecr:GetAuthorizationToken")
            })?;
        let data = answer.authorization_data().first();
        let token = data.and_then(|data| token(data.authorization_token()?, data.proxy_endpoint()?));
        let token = token.ok_or_else(|| Error::failed("ECR answers without a login"))?;
        state.tokens.insert(region.to_owned(), (token.clone(), since));
        Ok(token)
    }
}

#[async_trait]
impl LoginSource for EcrLogins {
    fn describe(&self) -> String {
        "an ECR token (for *.dkr.ecr.*.amazonaws.com)".into()
    }

    async fn find(&self, host: &str) -> Result<Option<Login>> {
        let served = self.state.lock().await.served.get(host).cloned();
        match served.or_else(|| region_of(host).map(str::to_owned)) {
            Some(region) => Ok(Some(self.token(&region).await?.login)),
            None => Ok(None),
        }
    }
}

/// The token is base64 of `AWS:password`.
fn token(encoded: &str, endpoint: &str) -> Option<Token> {
    let decoded = Zeroizing::new(BASE64_STANDARD.decode(encoded).ok()?);
    let (username, password) = std::str::from_utf8(&decoded).ok()?.split_once(':')?;
    let login = Login { username: username.to_owned(), password: Secret::new(password.into()) };
    Some(Token { login, host: normal_host(endpoint) })
}

/// The region in `ACCOUNT.dkr.ecr.REGION.amazonaws.com` (also `dkr.ecr-fips`, and `.com.cn` in China).
fn region_of(host: &str) -> Option<&str> {
    let rest = host.strip_suffix(".cn").unwrap_or(host).strip_suffix(".amazonaws.com")?;
    let (account, rest) = rest.split_once(".dkr.")?;
    let region = rest.strip_prefix("ecr.").or_else(|| rest.strip_prefix("ecr-fips."))?;
    (account.bytes().all(|byte| byte.is_ascii_digit()) && !region.contains('.')).then_some(region)
}

fn no_region() -> Error {
    Error::config("no AWS region is set, so ECR cannot be found")
        .help("set AWS_REGION or AWS_DEFAULT_REGION, or `region` in the AWS profile")
}

/// An error of the SDK without its types.
struct EcrError {
    code: Option<String>,
    text: String,
}

impl EcrError {
    fn of<E, R>(error: SdkError<E, R>) -> Self
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
        R: fmt::Debug,
    {
        let code = error.as_service_error().and_then(|error| error.code()).map(str::to_owned);
        let message = error.as_service_error().and_then(|error| error.message());
        let text = match (&code, message) {
            (Some(code), Some(message)) => format!("{code}: {message}"),
            (Some(code), None) => code.clone(),
            // The whole context of an answer holds its headers and body; of a failure to send, only what went wrong.
            _ if error.raw_response().is_some() => "ECR's answer cannot be read".into(),
            _ => DisplayErrorContext(&error).to_string(),
        };
        EcrError { code, text }
    }

    fn is_denied(&self) -> bool {
        self.code.as_deref().is_some_and(|code| code.contains("AccessDenied") || code == "NotAuthorized")
    }

    fn told(self, doing: &str, action: &str) -> Error {
        let code = self.code.clone().unwrap_or_default();
        let help = if self.is_denied() {
            format!("allow {action} to this AWS identity (aws sts get-caller-identity says which one it is)")
        } else if code.contains("UnrecognizedClient")
            || code.contains("InvalidSignature")
            || code.contains("Expired")
        {
            "the AWS credentials are wrong or have ended: check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or log in again"
                .into()
        } else if self.text.to_ascii_lowercase().contains("credentials") {
            "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or run `aws sso login`".into()
        } else if code.is_empty() {
            "can this machine reach AWS? AWS_ENDPOINT_URL and AWS_REGION say where it is looked for".into()
        } else {
            "see the ECR documentation for this error".into()
        };
        Error::failed(format!("cannot {doing}")).help(help).because(Error::failed(self.text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_of_ecr_tell_their_region() {
        for (host, want) in [
            ("123456789012.dkr.ecr.eu-west-1.amazonaws.com", Some("eu-west-1")),
            ("123456789012.dkr.ecr-fips.us-gov-west-1.amazonaws.com", Some("us-gov-west-1")),
            ("123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn", Some("cn-north-1")),
            ("123456789012.dkr.ecr.eu-west-1.amazonaws.com.evil.example.com", None),
            ("evil.example.com", None),
            ("x.dkr.ecr.eu-west-1.amazonaws.com", None),
            ("docker.io", None),
        ] {
            assert_eq!(region_of(host), want, "{host}");
        }
    }

    #[test]
    fn a_token_is_a_login_and_its_endpoint_the_host() {
        let encoded = BASE64_STANDARD.encode("AWS:pass:word");
        let token = token(&encoded, "https://123456789012.dkr.ecr.eu-west-1.amazonaws.com").unwrap();
        assert_eq!(token.host, "123456789012.dkr.ecr.eu-west-1.amazonaws.com");
        assert_eq!(
            (token.login.username.as_str(), token.login.password.expose()),
            ("AWS", &b"pass:word"[..])
        );
    }
}
