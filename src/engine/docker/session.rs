//! The session of a BuildKit build: the daemon calls back over it, by gRPC on an upgraded connection, for logins and for
//! the secrets that `RUN --mount=type=secret` names (moby/buildkit, session/).
//!
//! bollard's own session reads secrets from files or from this process's environment; ours are in memory only. It lasts as
//! long as the value does.

use std::collections::BTreeMap;
use std::pin::Pin;

use bollard::health::health_server::{Health, HealthServer};
use bollard::health::{
    HealthCheckRequest, HealthCheckResponse, HealthListRequest, HealthListResponse,
    health_check_response::ServingStatus,
};
use bollard::moby::buildkit::secrets::v1::secrets_server::{self, Secrets, SecretsServer};
use bollard::moby::buildkit::secrets::v1::{GetSecretRequest, GetSecretResponse};
use bollard::moby::filesync::v1::auth_server::{self, Auth, AuthServer};
use bollard::moby::filesync::v1::{
    CredentialsRequest, CredentialsResponse, FetchTokenRequest, FetchTokenResponse, GetTokenAuthorityRequest,
    GetTokenAuthorityResponse, VerifyTokenAuthorityRequest, VerifyTokenAuthorityResponse,
};
use bytes::Bytes;
use futures_util::Stream;
use http::{Method, Request, StatusCode};
use http_body_util::Empty;
use hyper_util::rt::TokioExecutor;
use hyper_util::service::TowerToHyperService;
use tokio::task::JoinSet;
use tonic::service::Routes;
use tonic::{Response, Status};

use crate::engine::Logins;
use crate::engine::daemon::Daemon;
use crate::error::{Error, Result};
use crate::image::reference::DOCKER_HUB;
use crate::random;
use crate::secret::Secret;

/// BuildKit takes no larger secrets (session/secrets/secretsprovider/file.go).
const MAX_SECRET: usize = 500 * 1024;
/// What BuildKit calls Docker Hub.
const HUB_REGISTRY: &str = "registry-1.docker.io";

/// An open session. Dropping it closes it.
pub(super) struct Session {
    /// Names it to the build.
    pub(super) id: String,
    /// Aborts what is in it when dropped.
    _serving: JoinSet<()>,
}

impl Session {
    /// Opens one that answers with these logins and secrets.
    ///
    /// # Errors
    /// A secret that BuildKit would not take; a daemon that is gone or has no BuildKit.
    pub(super) async fn open(
        daemon: &Daemon,
        image: &str,
        logins: &Logins,
        secrets: &BTreeMap<String, Secret>,
    ) -> Result<Self> {
        if let Some((id, _)) = secrets.iter().find(|(_, secret)| secret.len() > MAX_SECRET) {
            return Err(Error::config(format!("the build secret {id} is larger than 500 KiB"))
                .help("BuildKit takes no larger ones; pass what it is needed for in another way"));
        }
        let doing = format!("open a build session for image {image}");
        let id = random_id()?;
        let request = Request::builder()
            .method(Method::POST)
            .uri("/session")
            .header("Connection", "Upgrade")
            .header("Upgrade", "h2c")
            .header("X-Docker-Expose-Session-Uuid", &id)
            .header("X-Docker-Expose-Session-Name", "imgforge")
            // Named, so that BuildKit does not ask for what is not there.
            .header(
                "X-Docker-Expose-Session-Grpc-Method",
                format!("/{}/Credentials", auth_server::SERVICE_NAME),
            )
            .header(
                "X-Docker-Expose-Session-Grpc-Method",
                format!("/{}/GetSecret", secrets_server::SERVICE_NAME),
            )
            .body(Empty::<Bytes>::new())
            .expect("a hexadecimal id can stand in a header");
        let answer =
            daemon.transport.send(request).await.map_err(|failure| daemon.failure(&doing, &failure))?;
        if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
            let status = answer.status();
            return Err(Error::failed(format!("cannot {doing}: the Docker daemon answers {status}"))
                .help("DOCKER_BUILDKIT=0 builds without BuildKit, where no build secrets are needed"));
        }
        let upgraded = hyper::upgrade::on(answer).await.map_err(|error| daemon.gone(&doing, error))?;
        let routes = Routes::new(HealthServer::new(Alive))
            .add_service(SecretsServer::new(InMemory(secrets.clone())))
            .add_service(AuthServer::new(Credentials(logins.clone())))
            .prepare();
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let service = TowerToHyperService::new(routes);
            let served = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .serve_connection(upgraded, service)
                .await;
            if let Err(error) = served {
                tracing::debug!("the build session ended: {error}");
            }
        });
        Ok(Session { id, _serving: serving })
    }
}

fn random_id() -> Result<String> {
    let mut bytes = [0; 16];
    random::fill(&mut bytes)?;
    Ok(hex::encode(bytes))
}

/// Serves the build's secrets.
struct InMemory(BTreeMap<String, Secret>);

#[tonic::async_trait]
impl Secrets for InMemory {
    async fn get_secret(
        &self,
        request: tonic::Request<GetSecretRequest>,
    ) -> Result<Response<GetSecretResponse>, Status> {
        let id = request.into_inner().id;
        match self.0.get(&id) {
            Some(secret) => Ok(Response::new(GetSecretResponse { data: secret.expose().to_vec() })),
            // BuildKit takes this code for "not there", which is an error only for a required mount.
            None => Err(Status::not_found(format!("secret {id} is not in [build.secrets] of imgforge.toml"))),
        }
    }
}

/// Serves registry logins. BuildKit fetches tokens with them by itself when the token calls are not implemented.
struct Credentials(Logins);

#[tonic::async_trait]
impl Auth for Credentials {
    async fn credentials(
        &self,
        request: tonic::Request<CredentialsRequest>,
    ) -> Result<Response<CredentialsResponse>, Status> {
        let host = request.into_inner().host;
        let host = if host == HUB_REGISTRY { DOCKER_HUB } else { &host };
        // No login is an empty one: the registry may be open.
        let answer =
            self.0.get(host).map_or_else(CredentialsResponse::default, |login| CredentialsResponse {
                // An identity token comes without a user (moby/buildkit, session/auth/authprovider).
                username: match login.is_identity_token() {
                    true => String::new(),
                    false => login.username.clone(),
                },
                secret: String::from_utf8_lossy(login.password.expose()).into_owned(),
            });
        Ok(Response::new(answer))
    }

    async fn fetch_token(
        &self,
        _: tonic::Request<FetchTokenRequest>,
    ) -> Result<Response<FetchTokenResponse>, Status> {
        Err(Status::unimplemented("tokens are the daemon's work"))
    }

    async fn get_token_authority(
        &self,
        _: tonic::Request<GetTokenAuthorityRequest>,
    ) -> Result<Response<GetTokenAuthorityResponse>, Status> {
        Err(Status::unimplemented("tokens are the daemon's work"))
    }

    async fn verify_token_authority(
        &self,
        _: tonic::Request<VerifyTokenAuthorityRequest>,
    ) -> Result<Response<VerifyTokenAuthorityResponse>, Status> {
        Err(Status::unimplemented("tokens are the daemon's work"))
    }
}

/// The daemon asks now and then and ends the session when nothing answers.
struct Alive;

#[tonic::async_trait]
impl Health for Alive {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn check(
        &self,
        _: tonic::Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        Ok(Response::new(HealthCheckResponse { status: ServingStatus::Serving.into() }))
    }

    async fn list(
        &self,
        _: tonic::Request<HealthListRequest>,
    ) -> Result<Response<HealthListResponse>, Status> {
        Err(Status::unimplemented("there is one service to ask about"))
    }

    async fn watch(
        &self,
        _: tonic::Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        Err(Status::unimplemented("ask again"))
    }
}
