//! Any registry that speaks the OCI distribution protocol over HTTP(S), Docker Hub among them.
//!
//! A thin client of our own: it asks nothing before an operation that it does not need, because rotating a secret is seven
//! small requests and an extra one for each would double its time.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{Method, StatusCode};
use tokio_util::io::StreamReader;
use url::Url;

use self::failure::Said;
use self::gate::Gates;
use self::retry::RetryPolicy;
use self::session::{Answer, Call, Session};
use self::transport::{Http, endpoint, is_loopback};
use self::upload::{Meter, Source, Upload};
use super::auth::LoginChain;
use super::auth::token::{Access, Authenticator, Scope};
use super::verify::Verified;
use super::{BlobReader, Manifest, Registry, expand};
use crate::digest::Digest;
use crate::engine::Login;
use crate::error::{Error, Result};
use crate::image::reference::{Repository, Version};
use crate::image::{Content, Descriptor, Layer, media_type};
use crate::progress::{Reporter, Task};

mod failure;
mod gate;
pub mod retry;
mod session;
pub mod transport;
mod upload;

/// Every kind of manifest that imgforge can read. Registries convert, or answer 404, for who accepts too little.
const ACCEPTED: &str = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, \
                        application/vnd.docker.distribution.manifest.v2+json, \
                        application/vnd.docker.distribution.manifest.list.v2+json";
/// Blobs up to here are sent in one request: sparing a round trip is worth more than being able to go on.
const ONE_REQUEST: u64 = 8 << 20;

/// How to reach registries, and what repositories are called there.
#[derive(Clone)]
pub struct RemoteConfig {
    /// `HOST/NAME` with `{image}` and `{project}`; none to read only.
    pub pattern: Option<String>,
    /// The project's name.
    pub project: String,
    /// Who we are.
    pub logins: LoginChain,
    /// The connections.
    pub http: Http,
    /// What happens after a failure that may pass.
    pub retry: RetryPolicy,
    /// Blobs of at most so many bytes are sent in one request.
    pub one_request_up_to: u64,
}

impl RemoteConfig {
    /// The registry of `[registry] repository`.
    pub fn new(pattern: impl Into<String>, project: impl Into<String>, logins: LoginChain) -> Self {
        RemoteConfig {
            pattern: Some(pattern.into()),
            project: project.into(),
            ..RemoteConfig::reader(logins)
        }
    }

    /// Whatever registry a reference names, to read from.
    pub fn reader(logins: LoginChain) -> Self {
        RemoteConfig {
            pattern: None,
            project: String::new(),
            logins,
            http: Http::new(),
            retry: RetryPolicy::default(),
            one_request_up_to: ONE_REQUEST,
        }
    }
}

/// Registries over HTTP(S). The host is that of each repository; one client serves all of them.
pub struct Remote {
    pattern: Option<(String, String)>,
    one_request_up_to: u64,
    session: Session,
    // Asking for a token that can push from the first request on spares fetching a second one.
    writable: Mutex<BTreeSet<Repository>>,
    // Uploads that the registry has begun in place of a mount: going on with one spares a request.
    begun: Mutex<HashMap<(Repository, Digest), Url>>,
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Remote({})", self.describe())
    }
}

impl Remote {
    /// Nothing is asked yet.
    ///
    /// # Errors
    /// A pattern that gives no repository.
    pub fn new(config: RemoteConfig) -> Result<Self> {
        let auth = Authenticator::new(config.http.clone(), config.retry.clone(), config.logins);
        let remote = Remote {
            pattern: config.pattern.map(|pattern| (pattern, config.project)),
            one_request_up_to: config.one_request_up_to,
            session: Session { http: config.http, retry: config.retry, auth, gates: Gates::default() },
            writable: Mutex::default(),
            begun: Mutex::default(),
        };
        if remote.pattern.is_some() {
            endpoint(&remote.repository("image")?.host)?;
        }
        Ok(remote)
    }

    /// Whether anyone can pull from a repository: it can be listed without a login. An image with a secret layer must not
    /// be in such a one.
    pub async fn is_public(&self, repository: &Repository) -> Result<bool> {
        let Session { http, retry, gates, .. } = &self.session;
        let (http, retry, gates) = (http.clone(), retry.clone(), gates.clone());
        let auth = Authenticator::new(http.clone(), retry.clone(), LoginChain::none());
        let url = self.url(repository, "tags/list?n=1")?;
        let scopes = vec![Scope { path: repository.path.clone(), access: Access::Pull }];
        let call = Call::new(Method::GET, url, &repository.host, scopes);
        // A token server that gives nobody a token says no as well.
        let answer = Session { http, retry, auth, gates }.exchange(&call).await;
        Ok(answer.is_ok_and(|answer| answer.status.is_success()))
    }

    fn url(&self, repository: &Repository, rest: &str) -> Result<Url> {
        let base = endpoint(&repository.host)?;
        base.join(&format!("v2/{}/{rest}", repository.path))
            .map_err(|error| Error::failed(format!("{repository} cannot be put into a URL")).because(error))
    }

    fn scopes(&self, repository: &Repository) -> Vec<Scope> {
        let writable = self.writable.lock().unwrap_or_else(PoisonError::into_inner).contains(repository);
        let access = if writable { Access::Push } else { Access::Pull };
        vec![Scope { path: repository.path.clone(), access }]
    }

    fn will_push(&self, repository: &Repository) {
        self.writable.lock().unwrap_or_else(PoisonError::into_inner).insert(repository.clone());
    }

    fn call<'a>(&self, method: Method, repository: &'a Repository, rest: &str) -> Result<Call<'a>> {
        let url = self.url(repository, rest)?;
        Ok(Call::new(method, url, &repository.host, self.scopes(repository)))
    }

    /// The upload that a refused mount of this blob has begun.
    fn begun(&self, repository: &Repository, digest: Digest) -> Option<Url> {
        let mut begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        begun.remove(&(repository.clone(), digest))
    }

    /// Compares what the registry says it has with what it was sent.
    fn check_answered(&self, answer: &Answer, sent: Digest, repository: &Repository) -> Result<()> {
        match answer.header("docker-content-digest") {
            Some(answered) if answered != sent.to_string() => Err(Error::failed(format!(
                "the registry {} took {sent} and answers that it has {answered:?}",
                repository.host
            ))
            .help("something between here and the registry changes what passes; nothing of it should be deployed")),
            _ => Ok(()),
        }
    }
}

/// The host that a pattern of `[registry] repository` names.
///
/// # Errors
/// It gives no repository.
pub fn host_of(pattern: &str) -> Result<String> {
    Ok(named(pattern, "project", "image")?.host)
}

fn named(pattern: &str, project: &str, image: &str) -> Result<Repository> {
    expand(pattern, project, image).parse::<Repository>().map_err(|error| {
        error
            .context(format!("{pattern:?} gives no repository for the image {image}"))
            .help("write HOST/NAME, such as \"docker.io/USER/shop-{image}\"; names are lower case")
    })
}

#[async_trait]
impl Registry for Remote {
    fn describe(&self) -> String {
        match &self.pattern {
            Some((pattern, _)) => host_of(pattern).unwrap_or_else(|_| pattern.clone()),
            None => "any registry".into(),
        }
    }

    fn repository(&self, image: &str) -> Result<Repository> {
        match &self.pattern {
            Some((pattern, project)) => named(pattern, project, image),
            None => Err(Error::config("no registry is set up").help("set `repository` in [registry]")),
        }
    }

    fn is_remote(&self) -> bool {
        true
    }

    async fn login(&self, repository: &Repository) -> Result<Option<Login>> {
        Ok(self.session.auth.logins().find(&repository.host).await?.map(|found| found.login))
    }

    async fn problems(&self, repository: &Repository) -> Result<Vec<String>> {
        // A registry on this machine is open to this machine.
        Ok(self.exposed(repository).await?.into_iter().collect())
    }

    async fn exposed(&self, repository: &Repository) -> Result<Option<String>> {
        if is_loopback(&repository.host) || !self.is_public(repository).await? {
            return Ok(None);
        }
        Ok(Some(format!(
            "anyone can pull {repository}, and with it every secret baked into its images: make it private"
        )))
    }

    fn will_write(&self, repository: &Repository) {
        self.will_push(repository);
    }

    fn tell(&self, progress: &Reporter) {
        self.session.gates.tell(progress);
    }

    async fn prepare(&self, repository: &Repository) -> Result<()> {
        self.will_push(repository);
        Ok(())
    }

    async fn manifest(&self, repository: &Repository, version: &Version) -> Result<Option<Manifest>> {
        let call = self.call(Method::GET, repository, &format!("manifests/{version}"))?;
        let answer = self.session.exchange(&call.header(ACCEPT, ACCEPTED)?).await?;
        let doing = format!("read the manifest {version}");
        match answer.status {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => return Ok(None),
            _ => return Err(self.session.refusal(&answer, repository, &doing).await),
        }
        let digest = Digest::of(&answer.body);
        let wrong = |want: &str| {
            Error::failed(format!("the manifest {version} of {repository} does not have its digest"))
                .help("something between here and the registry changes what passes")
                .because(Error::failed(format!("wanted {want}, the bytes have {digest}")))
        };
        match (version, answer.header("docker-content-digest")) {
            (Version::Digest(want), _) if *want != digest => return Err(wrong(&want.to_string())),
            (Version::Tag(_), Some(want)) if want != digest.to_string() => return Err(wrong(want)),
            _ => {}
        }
        let media_type = match answer.header("content-type").and_then(|value| value.split(';').next()) {
            Some(media_type) if is_manifest(media_type.trim()) => media_type.trim().to_owned(),
            // Plain file servers and some proxies answer with a generic type; the manifest itself knows better.
            _ => media_type_within(&answer.body),
        };
        Ok(Some(Manifest { media_type, digest, bytes: answer.body }))
    }

    async fn head(&self, repository: &Repository, version: &Version) -> Result<Option<Digest>> {
        let call = self.call(Method::HEAD, repository, &format!("manifests/{version}"))?;
        let answer = self.session.exchange(&call.header(ACCEPT, ACCEPTED)?).await?;
        match answer.status {
            StatusCode::OK => {
                if let Some(Ok(digest)) = answer.header("docker-content-digest").map(str::parse) {
                    return Ok(Some(digest));
                }
            }
            StatusCode::NOT_FOUND => return Ok(None),
            StatusCode::METHOD_NOT_ALLOWED => {}
            _ => {
                let doing = format!("look for the manifest {version}");
                return Err(self.session.refusal(&answer, repository, &doing).await);
            }
        }
        Ok(self.manifest(repository, version).await?.map(|manifest| manifest.digest))
    }

    async fn has_blob(&self, repository: &Repository, digest: &Digest) -> Result<bool> {
        let mut call = self.call(Method::HEAD, repository, &format!("blobs/{digest}"))?;
        call.follow = session::Follow::Nothing;
        let answer = self.session.exchange(&call).await?;
        match answer.status {
            // The address of object storage is for GET; that there is one says enough.
            status if status.is_success() || status.is_redirection() => Ok(true),
            StatusCode::NOT_FOUND => Ok(false),
            _ => {
                let doing = format!("look for the blob {}", digest.short());
                Err(self.session.refusal(&answer, repository, &doing).await)
            }
        }
    }

    async fn blob(&self, repository: &Repository, descriptor: &Descriptor) -> Result<BlobReader> {
        let call = self.call(Method::GET, repository, &format!("blobs/{}", descriptor.digest))?;
        let (response, url) = self.session.open(&call).await?;
        if response.status() != StatusCode::OK {
            let answer = self.session.read(response, url).await?;
            let doing = format!("read the blob {}", descriptor.digest.short());
            return Err(self.session.refusal(&answer, repository, &doing).await);
        }
        let patience = self.session.retry.patience;
        let chunks = stream::try_unfold(response, move |mut response| async move {
            let stalled = |_| std::io::Error::new(std::io::ErrorKind::TimedOut, "nothing comes any more");
            let broken = |error: reqwest::Error| std::io::Error::other(error.without_url());
            let chunk = tokio::time::timeout(patience, response.chunk()).await.map_err(stalled)?;
            std::io::Result::Ok(chunk.map_err(broken)?.map(|chunk| (chunk, response)))
        });
        let reader = StreamReader::new(Box::pin(chunks));
        Ok(Box::new(Verified::new(reader, descriptor.digest, descriptor.size)))
    }

    async fn mount(&self, repository: &Repository, digest: &Digest, from: &Repository) -> Result<bool> {
        self.will_push(repository);
        let mut call = self.call(Method::POST, repository, "blobs/uploads/")?;
        call.url.query_pairs_mut().append_pair("mount", &digest.to_string()).append_pair("from", &from.path);
        call.scopes.push(Scope { path: from.path.clone(), access: Access::Pull });
        // Whatever is wrong with it, the upload that follows says so better.
        let Ok(answer) = self.session.exchange(&call).await else { return Ok(false) };
        if answer.status == StatusCode::ACCEPTED
            && let Some(location) = answer.location()
        {
            let mut begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
            begun.insert((repository.clone(), *digest), location);
        }
        Ok(answer.status == StatusCode::CREATED)
    }

    async fn put_layer(&self, repository: &Repository, layer: &Layer, task: &Task) -> Result<()> {
        self.will_push(repository);
        let source = match &layer.content {
            Content::Memory(bytes) => Source::Memory(bytes.clone()),
            Content::File(path) => Source::File(path.to_path_buf()),
            Content::Registry(from) => Source::Registry(from.parse()?),
        };
        let (descriptor, meter) = (&layer.descriptor, Meter::new(Some(task)));
        let begun = self.begun(repository, descriptor.digest);
        Upload { remote: self, repository, descriptor, source, meter }.run(begun).await
    }

    async fn put_bytes(&self, repository: &Repository, descriptor: &Descriptor, bytes: Bytes) -> Result<()> {
        self.will_push(repository);
        let (source, meter) = (Source::Memory(bytes), Meter::new(None));
        let begun = self.begun(repository, descriptor.digest);
        Upload { remote: self, repository, descriptor, source, meter }.run(begun).await
    }

    async fn put_manifest(
        &self,
        repository: &Repository,
        version: &Version,
        media_type: &str,
        bytes: Bytes,
    ) -> Result<Digest> {
        self.will_push(repository);
        let digest = Digest::of(&bytes);
        let call = self.call(Method::PUT, repository, &format!("manifests/{version}"))?;
        let answer = self.session.exchange(&call.header(CONTENT_TYPE, media_type)?.body(bytes)).await?;
        if answer.status.is_success() {
            self.check_answered(&answer, digest, repository)?;
            return Ok(digest);
        }
        if let Version::Tag(tag) = version
            && Said::of(&answer).is_immutable_tag()
        {
            let there = self.head(repository, version).await?;
            if there == Some(digest) {
                return Ok(digest);
            }
            return Err(Error::failed(format!(
                "the tag {tag} of {repository} names another image and cannot be moved"
            ))
            .help("release from a new commit or with new secrets, or push under another tag")
            .because(self.session.refusal(&answer, repository, "write the tag").await));
        }
        Err(self.session.refusal(&answer, repository, &format!("write the manifest {version}")).await)
    }
}

fn is_manifest(text: &str) -> bool {
    use media_type::{DOCKER_INDEX, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST};
    [DOCKER_INDEX, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST].contains(&text)
}

/// The media type that a manifest gives itself; OCI made it optional, and then an index is what lists manifests.
fn media_type_within(bytes: &[u8]) -> String {
    let Ok(fields) = serde_json::from_slice::<crate::image::Object>(bytes) else { return String::new() };
    match fields.get("mediaType").and_then(serde_json::Value::as_str) {
        Some(written) => written.to_owned(),
        None if fields.contains_key("manifests") => media_type::OCI_INDEX.into(),
        None => media_type::OCI_MANIFEST.into(),
    }
}
