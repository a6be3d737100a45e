//! Daemons reached by socket, context, TLS and ssh, and daemons that are not there.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use imgforge::digest::Digest;
use imgforge::engine::daemon::Daemon;
use imgforge::engine::{Engine, Logins};
use imgforge::error::Kind;
use imgforge::progress::Reporter;
use imgforge::secret::Secret;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use tokio::net::{TcpListener, UnixStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

use crate::support::docker::{SOCKET, Site, daemon, daemon_with, docker, docker_prints, pass, unique};

const WITH_A_SECRET: &str = "ARG BASE\nFROM $BASE\nRUN --mount=type=secret,id=token test -s /run/secrets/token && echo built > /built\n";

/// Builds with a build secret: the request, its upgraded session, and the plain calls all go to `daemon`.
async fn builds(daemon: Daemon) {
    let site = Site::new(&[("web.Dockerfile", WITH_A_SECRET)]);
    let mut recipe = site.recipe("web");
    recipe.secrets.insert("token".into(), Secret::new(b"hush-hush".to_vec()));
    let built = site.engine(daemon).build(&recipe, &Logins::new(), &Reporter::silent()).await.unwrap();
    assert_eq!(docker_prints(&["run", "--rm", &built.id.to_string(), "cat", "/built"]), "built\n");
}

#[tokio::test]
async fn the_default_socket_answers() {
    let info = daemon().info().await.unwrap();
    assert!(info.engine.description.starts_with("docker "), "{info:?}");
    assert!(info.engine.description.contains("BuildKit"), "{info:?}");
    assert_eq!(info.engine.address, format!("unix://{SOCKET}"));
    assert!(info.engine.platform.starts_with("linux/"), "{info:?}");
}

#[tokio::test]
async fn no_daemon_is_refused_with_where_it_was_looked_for() {
    let folder = tempfile::tempdir().unwrap();
    let socket = format!("unix://{}/none.sock", folder.path().display());
    let site = Site::new(&[("web.Dockerfile", "FROM scratch\n")]);
    let engine = site.engine(daemon_with(&[("DOCKER_HOST", &socket)]));
    for error in [
        engine.check().await.unwrap_err(),
        engine.build(&site.recipe("web"), &Logins::new(), &Reporter::silent()).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), Kind::Refused);
        assert_eq!(error.what(), format!("no Docker daemon answers at {socket} (DOCKER_HOST)"));
        assert!(error.help_text().unwrap().contains("start Docker"), "{error:?}");
    }
}

#[tokio::test]
async fn a_port_where_nothing_or_something_else_listens_is_refused() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = format!("tcp://{}", listener.local_addr().unwrap());
    let answering = tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            use tokio::io::{AsyncReadExt, AsyncWriteExt};
            let _ = client.read(&mut [0; 1024]).await;
            let _ = client.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n").await;
        }
    });
    let error = daemon_with(&[("DOCKER_HOST", &host)]).info().await.unwrap_err();
    assert_eq!(error.kind(), Kind::Refused);
    assert!(error.causes().concat().contains("404"), "{error:?}");
    answering.abort();
    let _ = answering.await;
    let error = daemon_with(&[("DOCKER_HOST", &host)]).info().await.unwrap_err();
    assert_eq!(error.kind(), Kind::Refused);
    assert!(error.help_text().unwrap().contains("DOCKER_HOST"), "{error:?}");
}

#[tokio::test]
async fn a_context_leads_to_its_daemon() {
    let config = tempfile::tempdir().unwrap();
    let meta = config.path().join("contexts/meta").join(Digest::of(b"here").hex());
    std::fs::create_dir_all(&meta).unwrap();
    let text = format!(
        r#"{{"Name":"here","Metadata":{{}},"Endpoints":{{"docker":{{"Host":"unix://{SOCKET}","SkipTLSVerify":false}}}}}}"#
    );
    std::fs::write(meta.join("meta.json"), text).unwrap();
    std::fs::write(config.path().join("config.json"), r#"{"currentContext":"here"}"#).unwrap();
    let daemon = Daemon::connect(&|_| None, config.path()).unwrap();
    assert_eq!(daemon.address().said_by, "context here");
    daemon.info().await.unwrap();
    assert_eq!(daemon.environment(), [("DOCKER_HOST".to_owned(), format!("unix://{SOCKET}"))]);
}

/// A certificate authority with a server and a client certificate, in the files that docker-machine makes.
fn certificates(folder: &Path) -> ServerConfig {
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
    let signed = |names: &[&str], usage| {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &authority).unwrap(), key)
    };
    let (client, client_key) = signed(&[], ExtendedKeyUsagePurpose::ClientAuth);
    std::fs::create_dir_all(folder).unwrap();
    std::fs::write(folder.join("ca.pem"), authority.pem()).unwrap();
    std::fs::write(folder.join("cert.pem"), client.pem()).unwrap();
    std::fs::write(folder.join("key.pem"), client_key.serialize_pem()).unwrap();
    let (server, server_key) = signed(&["127.0.0.1"], ExtendedKeyUsagePurpose::ServerAuth);
    let mut roots = RootCertStore::empty();
    roots.add(authority.der().clone()).unwrap();
    let provider = Arc::new(aws_lc_rs::default_provider());
    let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
    ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(clients.build().unwrap())
        .with_single_cert(
            vec![server.der().clone()],
            PrivateKeyDer::try_from(server_key.serialize_der()).unwrap(),
        )
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn docker_machines_variables_lead_through_tls_both_ways() {
    let folder = tempfile::tempdir().unwrap();
    let machine = folder.path().join("machine");
    let acceptor = TlsAcceptor::from(Arc::new(certificates(&machine)));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = format!("tcp://{}", listener.local_addr().unwrap());
    let serving = tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                // A client that is not let in is that client's news.
                if let Ok(client) = acceptor.accept(client).await {
                    let server = UnixStream::connect(SOCKET).await.unwrap();
                    pass(client, server, &AtomicU64::new(0)).await;
                }
            });
        }
    });
    let with = |certificates: &Path| {
        let path = certificates.display().to_string();
        daemon_with(&[("DOCKER_HOST", &host), ("DOCKER_TLS_VERIFY", "1"), ("DOCKER_CERT_PATH", &path)])
    };
    let daemon = with(&machine);
    assert!(!daemon.is_local());
    daemon.info().await.unwrap();
    builds(daemon).await;

    let stranger = folder.path().join("stranger");
    certificates(&stranger);
    let error = with(&stranger).info().await.unwrap_err();
    assert_eq!(error.kind(), Kind::Refused);
    assert!(error.causes().concat().contains("certificate"), "{error:?}");
    let error = with(&folder.path().join("none")).info().await.unwrap_err();
    assert!(error.help_text().unwrap().contains("ca.pem"), "{error:?}");
    serving.abort();
}

/// A folder with an `ssh` that keeps its arguments, and the PATH that finds it first.
fn stub_ssh(folder: &Path, script: &str) -> String {
    let ssh = folder.join("ssh");
    let text = format!("#!/bin/sh\necho \"$@\" >> {}/arguments\n{script}\n", folder.display());
    std::fs::write(&ssh, text).unwrap();
    std::fs::set_permissions(&ssh, PermissionsExt::from_mode(0o755)).unwrap();
    format!("{}:{}", folder.display(), std::env::var("PATH").unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn ssh_carries_builds_to_a_daemon() {
    let folder = tempfile::tempdir().unwrap();
    let path = stub_ssh(folder.path(), &format!("exec docker --host unix://{SOCKET} system dial-stdio"));
    let daemon = daemon_with(&[("DOCKER_HOST", "ssh://me@build.example.com:2222"), ("PATH", &path)]);
    assert!(!daemon.is_local());
    builds(daemon).await;
    let arguments = std::fs::read_to_string(folder.path().join("arguments")).unwrap();
    let first = arguments.lines().next().unwrap();
    assert!(first.ends_with("-l me -p 2222 -- build.example.com docker system dial-stdio"), "{first}");
}

#[tokio::test]
async fn what_ssh_says_is_told_when_it_does_not_get_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = stub_ssh(folder.path(), "echo 'Permission denied (publickey).' >&2; exit 255");
    let daemon = daemon_with(&[("DOCKER_HOST", "ssh://build.example.com"), ("PATH", &path)]);
    let error = daemon.info().await.unwrap_err();
    assert_eq!(error.kind(), Kind::Refused);
    assert_eq!(error.what(), "no Docker daemon answers at ssh://build.example.com (DOCKER_HOST)");
    assert!(error.causes().concat().contains("Permission denied (publickey)."), "{error:?}");
    let nowhere = daemon_with(&[("DOCKER_HOST", "ssh://build.example.com"), ("PATH", "/no-such-folder")]);
    let error = nowhere.info().await.unwrap_err();
    assert!(error.help_text().unwrap().contains("ssh client"), "{error:?}");
}

#[tokio::test]
async fn containers_of_a_compose_project_are_seen_with_state_and_output() {
    let site = Site::new(&[("web.Dockerfile", "ARG BASE\nFROM $BASE\n")]);
    let built =
        site.engine(daemon()).build(&site.recipe("web"), &Logins::new(), &Reporter::silent()).await.unwrap();
    let (id, project) = (built.id.to_string(), unique("project"));
    let label = format!("com.docker.compose.project={project}");
    let run = |service: &str, one_off: &str, command: &str| {
        let service = format!("com.docker.compose.service={service}");
        let one_off = format!("com.docker.compose.oneoff={one_off}");
        docker_prints(&[
            "run", "--detach", "--label", &label, "--label", &service, "--label", &one_off, &id, "sh", "-c",
            command,
        ])
        .trim()
        .to_owned()
    };
    let containers = [
        run("web", "False", "echo one; echo two >&2; exit 4"),
        run("db", "False", "sleep 3600"),
        run("web", "True", "sleep 3600"),
    ];
    docker_prints(&["wait", &containers[0]]);
    let seen = daemon().containers_of_project(&project).await;
    let logs = daemon().logs_tail(&containers[0], 10).await;
    let last = daemon().logs_tail(&containers[0], 1).await;
    for container in &containers {
        docker(&["rm", "--force", container]);
    }
    let seen = seen.unwrap();
    let told: Vec<_> =
        seen.iter().map(|one| (one.service.as_str(), one.state.as_str(), one.exit_code)).collect();
    assert_eq!(told, [("db", "running", 0), ("web", "exited", 4)]);
    assert_eq!(seen[1].image, Some(built.id));
    let mut logs = logs.unwrap();
    logs.sort();
    assert_eq!(logs, ["one", "two"]);
    assert_eq!(last.unwrap().len(), 1);
    assert!(daemon().containers_of_project(&project).await.unwrap().is_empty());
}
