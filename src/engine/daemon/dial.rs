//! Opens a stream of bytes to the daemon: a socket, a port, TLS, or an ssh child. No HTTP here.

use std::io;
use std::path::Path;
use std::pin::Pin;
use std::process::Stdio;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::watch;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::address::{Address, Endpoint};

/// How long a port may take to answer. A socket answers at once or never.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long ssh's stderr may stay open after its stdout.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// How much of what ssh says is kept.
const STDERR_KEPT: usize = 4096;

/// A stream to the daemon.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A fresh connection and, where a program made it, what that program says on stderr.
pub struct Connection {
    /// The bytes.
    pub stream: Box<dyn Stream>,
    /// ssh's own words, for when nothing else comes.
    pub words: Words,
}

/// What the ssh child has said so far.
#[derive(Clone, Default)]
pub struct Words(Option<watch::Receiver<Vec<u8>>>);

impl Words {
    /// All of it, when it is broken off anyway; empty when it said nothing.
    pub async fn last(mut self) -> String {
        let Some(said) = &mut self.0 else { return String::new() };
        // The sender goes when ssh's stderr ends, which is a moment after its stdout.
        let ended = async { while said.changed().await.is_ok() {} };
        let _ = tokio::time::timeout(LAST_WORDS, ended).await;
        String::from_utf8_lossy(&said.borrow()).trim().to_owned()
    }
}

/// Connects.
///
/// # Errors
/// As the system or the TLS library says.
pub async fn dial(address: &Address) -> io::Result<Connection> {
    let mut words = Words::default();
    let stream: Box<dyn Stream> = match &address.endpoint {
        Endpoint::Unix(path) => Box::new(UnixStream::connect(path).await?),
        Endpoint::Tcp { host, port } => Box::new(tcp(host, *port).await?),
        Endpoint::Tls { host, port, certificates } => {
            let connector = TlsConnector::from(Arc::new(tls_config(certificates)?));
            let name = ServerName::try_from(host.clone()).map_err(io::Error::other)?;
            let handshake = connector.connect(name, tcp(host, *port).await?);
            Box::new(in_time(handshake).await?)
        }
        Endpoint::Ssh { user, host, port } => {
            let (stream, said) = ssh(user.as_deref(), host, *port, address.search_path.as_deref())?;
            words = said;
            Box::new(stream)
        }
    };
    Ok(Connection { stream, words })
}

async fn in_time<T>(work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    match tokio::time::timeout(PATIENCE, work).await {
        Ok(result) => result,
        Err(_) => Err(io::Error::new(
            io::ErrorKind::TimedOut,
            format!("no answer within {} seconds", PATIENCE.as_secs()),
        )),
    }
}

async fn tcp(host: &str, port: u16) -> io::Result<TcpStream> {
    let stream = in_time(TcpStream::connect((host, port))).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// The files that `docker-machine env` and Docker contexts use: `ca.pem`, `cert.pem`, `key.pem`. Only that authority is
/// trusted, as the docker CLI does it: the system's own says nothing of a private daemon.
fn tls_config(certificates: &Path) -> io::Result<ClientConfig> {
    let parsed = |path: &Path, error: &dyn std::fmt::Display| {
        io::Error::new(io::ErrorKind::InvalidData, format!("{}: {error}", path.display()))
    };
    let certificates_in = |name: &str| -> io::Result<Vec<CertificateDer<'static>>> {
        let path = certificates.join(name);
        let text = fs_err::read(&path)?;
        CertificateDer::pem_slice_iter(&text)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| parsed(&path, &error))
    };
    let mut roots = RootCertStore::empty();
    for certificate in certificates_in("ca.pem")? {
        roots.add(certificate).map_err(|error| parsed(&certificates.join("ca.pem"), &error))?;
    }
    let key_path = certificates.join("key.pem");
    let key = PrivateKeyDer::from_pem_slice(&fs_err::read(&key_path)?)
        .map_err(|error| parsed(&key_path, &error))?;
    ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(roots)
        .with_client_auth_cert(certificates_in("cert.pem")?, key)
        .map_err(|error| parsed(certificates, &error))
}

/// `ssh -- HOST docker system dial-stdio`, as the docker CLI starts it (docker/cli, cli/connhelper).
fn ssh(
    user: Option<&str>,
    host: &str,
    port: Option<u16>,
    path: Option<&str>,
) -> io::Result<(SshStream, Words)> {
    let mut command = Command::new("ssh");
    if let Some(path) = path {
        command.env("PATH", path);
    }
    command.args(["-o", "ConnectTimeout=30", "-T"]);
    if let Some(user) = user {
        command.args(["-l", user]);
    }
    if let Some(port) = port {
        command.args(["-p", &port.to_string()]);
    }
    command.args(["--", host, "docker", "system", "dial-stdio"]);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| io::Error::new(error.kind(), format!("cannot start ssh: {error}")))?;
    let (said, words) = watch::channel(Vec::new());
    if let Some(mut stderr) = child.stderr.take() {
        tokio::spawn(async move {
            let mut buffer = [0; 1024];
            while let Ok(read @ 1..) = stderr.read(&mut buffer).await {
                said.send_modify(|kept: &mut Vec<u8>| {
                    let room = STDERR_KEPT.saturating_sub(kept.len());
                    kept.extend_from_slice(&buffer[..read.min(room)]);
                });
            }
        });
    }
    let stdin = child.stdin.take().ok_or_else(|| io::Error::other("ssh has no stdin"))?;
    let stdout = child.stdout.take().ok_or_else(|| io::Error::other("ssh has no stdout"))?;
    Ok((SshStream { stdin, stdout, _child: child }, Words(Some(words))))
}

/// The two pipes of an ssh child as one stream. Dropping it ends the child.
struct SshStream {
    stdin: ChildStdin,
    stdout: ChildStdout,
    _child: Child,
}

impl AsyncRead for SshStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stdout).poll_read(cx, buf)
    }
}

impl AsyncWrite for SshStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stdin).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stdin).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stdin).poll_shutdown(cx)
    }
}
