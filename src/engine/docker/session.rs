//! The session beside a BuildKit build: the daemon asks this process, over a connection turned round, for build secrets and
//! registry logins (moby, "/session"; BuildKit's session protocol is gRPC over HTTP/2).
//!
//! Only what is asked for by id leaves, and only to the daemon that builds.

use std::collections::BTreeMap;
use std::pin::Pin;

use bollard::health::health_check_response::ServingStatus;
use bollard::health::health_server::{Health, HealthServer};
use bollard::health::{HealthCheckRequest, HealthCheckResponse, HealthListRequest, HealthListResponse};
use bollard::moby::buildkit::secrets::v1::secrets_server::{Secrets, SecretsServer};
use bollard::moby::buildkit::secrets::v1::{GetSecretRequest, GetSecretResponse};
use bollard::moby::filesync::v1::auth_server::{Auth, AuthServer};
use bollard::moby::filesync::v1::{
    CredentialsRequest, CredentialsResponse, FetchTokenRequest, FetchTokenResponse, GetTokenAuthorityRequest,
    GetTokenAuthorityResponse, VerifyTokenAuthorityRequest, VerifyTokenAuthorityResponse,
};
use bytes::Bytes;
use futures_util::{Stream, stream};
use http::{Method, StatusCode};
use http_body_util::Empty;
use hyper_util::rt::TokioExecutor;
use hyper_util::service::TowerToHyperService;
use tokio::task::JoinHandle;
use tonic::service::Routes;
use tonic::{Request, Response, Status};

use crate::engine::daemon::Daemon;
use crate::engine::{Logins, Recipe};
use crate::error::{Error, Result};
use crate::image::reference::DOCKER_HUB;
use crate::secret::Secret;

/// What the session offers. Tokens are not: the daemon gets them by itself with the login.
const METHODS: [&str; 2] =
    ["/moby.filesync.v1.Auth/Credentials", "/moby.buildkit.secrets.v1.Secrets/GetSecret"];

/// An open session. Dropped, it is closed.
pub(super) struct Session {
    id: String,
    serving: JoinHandle<()>,
}

impl Session {
    /// Opens a session for the build of `recipe`.
    ///
    /// # Errors
    /// The daemon's.
    pub(super) async fn open(daemon: &Daemon, recipe: &Recipe, logins: &Logins) -> Result<Self> {
        let doing = format!("build {}", recipe.image);
        let mut random = [0; 16];
        getrandom::fill(&mut random)
            .map_err(|error| Error::failed("the system gives no random bytes").because(error))?;
        let id = hex::encode(random);
        let mut request = http::Request::builder()
            .method(Method::POST)
            .uri("/session")
            .header("Connection", "Upgrade")
            .header("Upgrade", "h2c")
            .header("X-Docker-Expose-Session-Uuid", &id)
            .header("X-Docker-Expose-Session-Name", &recipe.image)
            .header("X-Docker-Expose-Session-Sharedkey", "");
        for method in METHODS {
            request = request.header("X-Docker-Expose-Session-Grpc-Method", method);
        }
        let request = request.body(Empty::<Bytes>::new()).expect("an image's name can stand in a header");
        let mut answer =
            daemon.transport.send(request).await.map_err(|failure| daemon.failure(&doing, &failure))?;
        if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(Error::failed(format!("cannot {doing}: the daemon opens no session"))
                .because(Error::failed(format!("it answers {}", answer.status())))
                .help("set DOCKER_BUILDKIT=0 to build without BuildKit"));
        }
        let connection = hyper::upgrade::on(&mut answer).await.map_err(|error| daemon.gone(&doing, error))?;
        let routes = Routes::new(SecretsServer::new(BuildSecrets(recipe.secrets.clone())))
            .add_service(AuthServer::new(RegistryLogins(logins.clone())))
            .add_service(HealthServer::new(Alive));
        let service = TowerToHyperService::new(routes.prepare());
        let serving = tokio::spawn(async move {
            let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            // That the daemon goes away is told by the build.
            let _ = server.serve_connection(connection, service).await;
        });
        Ok(Session { id, serving })
    }

    /// What the build request names it by.
    pub(super) fn id(&self) -> &str {
        &self.id
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// Answers with the secrets of `[build.secrets]`.
struct BuildSecrets(BTreeMap<String, Secret>);

#[tonic::async_trait]
impl Secrets for BuildSecrets {
    async fn get_secret(
        &self,
        request: Request<GetSecretRequest>,
    ) -> std::result::Result<Response<GetSecretResponse>, Status> {
        let id = &request.get_ref().id;
        match self.0.get(id) {
            Some(secret) => Ok(Response::new(GetSecretResponse { data: secret.expose().to_vec() })),
            // NotFound is what lets a mount without `required` go on (BuildKit, solver/llbsolver/mounts).
            None => Err(Status::not_found(format!("there is no {id} in [build.secrets]"))),
        }
    }
}

/// Answers with the logins for the registries that bases come from.
struct RegistryLogins(Logins);

#[tonic::async_trait]
impl Auth for RegistryLogins {
    async fn credentials(
        &self,
        request: Request<CredentialsRequest>,
    ) -> std::result::Result<Response<CredentialsResponse>, Status> {
        // Docker Hub is asked for by where its API is.
        let host = match request.get_ref().host.as_str() {
            "registry-1.docker.io" | "index.docker.io" => DOCKER_HUB,
            host => host,
        };
        let answer = self.0.get(host).map(|login| CredentialsResponse {
            username: login.username.clone(),
            secret: String::from_utf8_lossy(login.password.expose()).into_owned(),
        });
        Ok(Response::new(answer.unwrap_or_default()))
    }

    async fn fetch_token(
        &self,
        _: Request<FetchTokenRequest>,
    ) -> std::result::Result<Response<FetchTokenResponse>, Status> {
        Err(Status::unimplemented("tokens are the daemon's own business"))
    }

    async fn get_token_authority(
        &self,
        _: Request<GetTokenAuthorityRequest>,
    ) -> std::result::Result<Response<GetTokenAuthorityResponse>, Status> {
        Err(Status::unimplemented("tokens are the daemon's own business"))
    }

    async fn verify_token_authority(
        &self,
        _: Request<VerifyTokenAuthorityRequest>,
    ) -> std::result::Result<Response<VerifyTokenAuthorityResponse>, Status> {
        Err(Status::unimplemented("tokens are the daemon's own business"))
    }
}

/// BuildKit asks now and then whether the session is alive.
struct Alive;

type Watch = Pin<Box<dyn Stream<Item = std::result::Result<HealthCheckResponse, Status>> + Send>>;

fn serving() -> HealthCheckResponse {
    HealthCheckResponse { status: ServingStatus::Serving.into() }
}

#[tonic::async_trait]
impl Health for Alive {
    type WatchStream = Watch;

    async fn check(
        &self,
        _: Request<HealthCheckRequest>,
    ) -> std::result::Result<Response<HealthCheckResponse>, Status> {
        Ok(Response::new(serving()))
    }

    async fn list(
        &self,
        _: Request<HealthListRequest>,
    ) -> std::result::Result<Response<HealthListResponse>, Status> {
        Ok(Response::new(HealthListResponse::default()))
    }

    async fn watch(
        &self,
        _: Request<HealthCheckRequest>,
    ) -> std::result::Result<Response<Self::WatchStream>, Status> {
        Ok(Response::new(Box::pin(stream::once(async { Ok(serving()) }))))
    }
}
