//! A Docker daemon: where it is, whether it answers, and the few things that others than the engine want of it.
//!
//! bollard does the talking, over [`transport`]; its types stay in `engine/daemon` and `engine/docker`.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bollard::Docker;
use bollard::errors::Error as DockerError;
use bollard::query_parameters::{RemoveImageOptionsBuilder, TagImageOptionsBuilder};
use bytes::Bytes;
use http::{Method, Request};
use http_body_util::Empty;

use self::address::{Address, Endpoint};
use self::transport::{Failure, Transport};
use crate::base::platform;
use crate::digest::{DiffId, Digest};
use crate::engine::EngineInfo;
use crate::error::{Error, Result};

pub mod address;
pub mod containers;
mod dial;
mod output;
pub(crate) mod registry;
pub(crate) mod transport;

/// How long the daemon may take to say that it is there.
const PING_PATIENCE: Duration = Duration::from_secs(30);
/// How long an answer may take to begin. Long: a load begins to answer when it has read everything.
const ANSWER_PATIENCE_SECONDS: u64 = 3600;

/// A handle on one daemon. Cheap to clone; connects when first used.
#[derive(Clone)]
pub struct Daemon {
    address: Arc<Address>,
    pub(crate) transport: Transport,
    pub(crate) docker: Docker,
    builder: Option<Builder>,
}

/// What builds in a daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Builder {
    /// BuildKit.
    BuildKit,
    /// The builder before it.
    Classic,
}

/// What a daemon says of itself.
#[derive(Debug, Clone)]
pub struct DaemonInfo {
    /// For people.
    pub engine: EngineInfo,
    /// What to build with.
    pub builder: Builder,
    /// Whether images are kept in containerd's store, where an image's id is its manifest's digest.
    pub containerd_store: bool,
}

impl Daemon {
    /// A daemon found by `DOCKER_HOST`, a Docker context or the default socket; `config_dir` is `~/.docker` or
    /// `DOCKER_CONFIG`. Nothing is connected yet.
    ///
    /// # Errors
    /// An address or a context that makes no sense.
    pub fn connect(env: &dyn Fn(&str) -> Option<String>, config_dir: &Path) -> Result<Self> {
        let address = Arc::new(Address::resolve(env, config_dir)?);
        let transport = Transport::new(Arc::clone(&address));
        let through = transport.clone();
        let send = move |request: bollard::BollardRequest| {
            let through = through.clone();
            async move { through.send(request).await.map_err(as_docker_error) }
        };
        let docker = Docker::connect_with_custom_transport(
            send,
            Some("http://docker"),
            ANSWER_PATIENCE_SECONDS,
            bollard::API_DEFAULT_VERSION,
        )
        .map_err(|error| Error::failed("the Docker client cannot be made").because(error))?;
        // What the docker CLI takes it for: 0 is the classic builder, anything else BuildKit.
        let builder = env("DOCKER_BUILDKIT").filter(|value| !value.is_empty()).map(|value| {
            if matches!(value.as_str(), "0" | "false") { Builder::Classic } else { Builder::BuildKit }
        });
        Ok(Daemon { address, transport, docker, builder })
    }

    /// Where it is.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// The variables that lead a child process to this daemon. [`address::VARIABLES`] are all that should be taken out of
    /// its environment first.
    pub fn environment(&self) -> Vec<(String, String)> {
        self.address.environment()
    }

    /// Whether it runs on this machine, so that loopback means the same to both.
    pub fn is_local(&self) -> bool {
        matches!(self.address.endpoint, Endpoint::Unix(_))
    }

    /// Whether it is there and what it is.
    ///
    /// # Errors
    /// [`crate::error::Kind::Refused`], with where it was looked for.
    pub async fn info(&self) -> Result<DaemonInfo> {
        let doing = "ask the Docker daemon what it is";
        let ping = Request::builder()
            .method(Method::GET)
            .uri("/_ping")
            .body(Empty::<Bytes>::new())
            .expect("a request without variable parts is well formed");
        let answer = match tokio::time::timeout(PING_PATIENCE, self.transport.send(ping)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(Failure::Broken { error, words })) if words.is_empty() => {
                return Err(self.no_daemon(
                    &format!("what is there does not speak HTTP: {error}"),
                    "check that DOCKER_HOST names a Docker daemon, and DOCKER_TLS_VERIFY when it wants TLS",
                ));
            }
            Ok(Err(failure)) => return Err(self.failure(doing, &failure)),
            Err(_) => {
                return Err(self.no_daemon(
                    &format!("it did not answer within {} seconds", PING_PATIENCE.as_secs()),
                    "see whether it is stuck: `docker version`",
                ));
            }
        };
        let header = |name: &str| {
            answer.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
        };
        let (api, default_builder) = (header("api-version"), header("builder-version"));
        if !answer.status().is_success() {
            return Err(self.no_daemon(
                &format!("what is there answers {}", answer.status()),
                "check that DOCKER_HOST names a Docker daemon, and DOCKER_TLS_VERIFY when it wants TLS",
            ));
        }
        let info = self.docker.info().await.map_err(|error| self.error(doing, error))?;
        let builder =
            self.builder.filter(|_| speaks_buildkit(&api)).unwrap_or_else(|| default(&api, &default_builder));
        let containerd_store = info.driver_status.iter().flatten().any(|pair| {
            pair.first().is_some_and(|name| name == "driver-type")
                && pair.get(1).is_some_and(|value| value.starts_with("io.containerd."))
        });
        let builder_name = match builder {
            Builder::BuildKit => "BuildKit",
            Builder::Classic => "the classic builder",
        };
        let description = format!(
            "docker {} (API {api}, {builder_name}, {})",
            info.server_version.as_deref().unwrap_or("of unknown version"),
            info.driver.as_deref().unwrap_or("unknown storage"),
        );
        let platform = format!(
            "{}/{}",
            info.os_type.as_deref().unwrap_or("linux"),
            platform::architecture(info.architecture.as_deref().unwrap_or_default()),
        );
        let engine = EngineInfo { description, address: self.address.to_string(), platform };
        Ok(DaemonInfo { engine, builder, containerd_store })
    }

    /// The id of an image by its name or id; `None` when it is not there.
    ///
    /// # Errors
    /// The daemon cannot be asked.
    pub async fn image_id(&self, name: &str) -> Result<Option<Digest>> {
        match self.docker.inspect_image(name).await {
            Ok(image) => image.id.as_deref().map(str::parse).transpose(),
            Err(DockerError::DockerResponseServerError { status_code: 404, .. }) => Ok(None),
            Err(error) => Err(self.error(&format!("look for the image {name}"), error)),
        }
    }

    /// The layers of an image, bottom first; none when there is no such image.
    ///
    /// # Errors
    /// The daemon's.
    pub async fn layers(&self, name: &str) -> Result<Vec<DiffId>> {
        match self.docker.inspect_image(name).await {
            Ok(image) => {
                let layers = image.root_fs.and_then(|root_fs| root_fs.layers).unwrap_or_default();
                layers.iter().map(|layer| layer.parse().map(DiffId)).collect()
            }
            Err(DockerError::DockerResponseServerError { status_code: 404, .. }) => Ok(Vec::new()),
            Err(error) => Err(self.error(&format!("look at the image {name}"), error)),
        }
    }

    /// Whether an image is there, by its name or id.
    ///
    /// # Errors
    /// The daemon cannot be asked.
    pub async fn image_exists(&self, name: &str) -> Result<bool> {
        Ok(self.image_id(name).await?.is_some())
    }

    /// Names an image `repository:tag`; the name moves when it is another image's.
    ///
    /// # Errors
    /// There is no such image.
    pub async fn tag(&self, image: &str, repository: &str, tag: &str) -> Result<()> {
        let options = TagImageOptionsBuilder::default().repo(repository).tag(tag).build();
        let tagged = self.docker.tag_image(image, Some(options)).await;
        tagged.map_err(|error| self.error(&format!("name an image {repository}:{tag}"), error))
    }

    /// Takes a name (or, given an id, the image) away; well when it is not there. Layers that other images use stay.
    ///
    /// # Errors
    /// A container uses the image.
    pub async fn untag(&self, name: &str) -> Result<()> {
        let options = RemoveImageOptionsBuilder::default().noprune(false).build();
        match self.docker.remove_image(name, Some(options), None).await {
            Ok(_) | Err(DockerError::DockerResponseServerError { status_code: 404, .. }) => Ok(()),
            Err(error) => Err(self.error(&format!("remove {name} from the Docker daemon"), error)),
        }
    }

    /// Tells an error of bollard in our words. `doing` reads after "cannot".
    pub(crate) fn error(&self, doing: &str, error: DockerError) -> Error {
        match error {
            DockerError::IOError { err } => match as_failure(err) {
                Ok(failure) => self.failure(doing, &failure),
                Err(error) => Error::failed(format!("cannot {doing}")).because(error),
            },
            DockerError::DockerResponseServerError { status_code, message } => {
                Error::failed(format!("cannot {doing}"))
                    .because(Error::failed(format!("the Docker daemon answers {status_code}: {message}")))
            }
            DockerError::HyperResponseError { err } => self.gone(doing, err),
            DockerError::DockerStreamError { error } => {
                Error::failed(format!("cannot {doing}")).because(Error::failed(error))
            }
            error => Error::failed(format!("cannot {doing}")).because(error),
        }
    }

    /// Tells a failed request in our words.
    pub(crate) fn failure(&self, doing: &str, failure: &Failure) -> Error {
        match failure {
            Failure::Unreachable(error) => self.unreachable(error),
            Failure::Broken { words, .. } if !words.is_empty() => {
                self.no_daemon(words, "try it by hand: `ssh HOST docker version`")
            }
            Failure::Broken { error, .. } => self.gone(doing, error.to_string()),
        }
    }

    /// The connection broke in the middle of something.
    pub(crate) fn gone(
        &self,
        doing: &str,
        cause: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Error {
        let address = &self.address;
        Error::failed(format!("cannot {doing}: the Docker daemon at {address} closed the connection"))
            .help("see whether it still runs (`docker version`), then run the same command again")
            .because(cause)
    }

    fn unreachable(&self, error: &io::Error) -> Error {
        let help = match (&self.address.endpoint, error.kind()) {
            (Endpoint::Unix(_), io::ErrorKind::PermissionDenied) => {
                "you may not open its socket: `sudo usermod -aG docker $USER`, then log in again"
            }
            (Endpoint::Unix(_), _) => {
                "start Docker (`sudo systemctl start docker`, or Docker Desktop), or say where it is with \
                 DOCKER_HOST or `docker context use`"
            }
            (Endpoint::Tcp { .. }, _) => "check DOCKER_HOST, and that the daemon listens there",
            (Endpoint::Tls { .. }, io::ErrorKind::NotFound) => {
                "DOCKER_CERT_PATH must hold ca.pem, cert.pem and key.pem: `eval $(docker-machine env NAME)`"
            }
            (Endpoint::Tls { .. }, _) => "check DOCKER_HOST and the certificates in DOCKER_CERT_PATH",
            (Endpoint::Ssh { .. }, _) => "install an ssh client: it is what reaches that daemon",
        };
        self.no_daemon(&error.to_string(), help)
    }

    fn no_daemon(&self, why: &str, help: &str) -> Error {
        let (address, said_by) = (&self.address, &self.address.said_by);
        Error::refused(format!("no Docker daemon answers at {address} ({said_by})"))
            .because(Error::refused(why))
            .help(help)
    }
}

/// A daemon that does not say builds with BuildKit when it can: 20.10 says nothing unless its configuration does.
fn default(api: &str, builder_version: &str) -> Builder {
    match builder_version {
        "1" => Builder::Classic,
        _ if speaks_buildkit(api) => Builder::BuildKit,
        _ => Builder::Classic,
    }
}

/// BuildKit came with API 1.39 (Docker 18.09).
fn speaks_buildkit(api: &str) -> bool {
    let number = |part: Option<&str>| part.and_then(|part| part.parse::<u32>().ok()).unwrap_or_default();
    let mut parts = api.split('.');
    (number(parts.next()), number(parts.next())) >= (1, 39)
}

/// bollard's error has no place for ours but inside an I/O error.
fn as_docker_error(failure: Failure) -> DockerError {
    DockerError::IOError { err: io::Error::other(failure) }
}

fn as_failure(error: io::Error) -> std::result::Result<Failure, io::Error> {
    error.downcast::<Failure>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn builder_follows_what_the_daemon_says() {
        assert_eq!(default("1.41", ""), Builder::BuildKit);
        assert_eq!(default("1.43", "2"), Builder::BuildKit);
        assert_eq!(default("1.41", "1"), Builder::Classic);
        assert_eq!(default("1.38", ""), Builder::Classic);
        assert_eq!(default("", ""), Builder::Classic);
    }
}
