//! The HTTP clients that all registries share, and what a connection may be trusted with.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use reqwest::redirect::Policy;
use reqwest::{Client, ClientBuilder};
use url::Url;

use crate::error::{Error, Result};
use crate::image::reference::DOCKER_HUB;

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(15);

/// Pooled HTTP clients. A clone shares the pool; one per process is enough.
///
/// Reading a system's certificates takes tens of milliseconds, so it waits until the first `https` request.
#[derive(Clone, Default)]
pub struct Http {
    plain: Arc<OnceLock<Client>>,
    tls: Arc<OnceLock<Client>>,
}

impl Http {
    /// With an empty pool.
    pub fn new() -> Self {
        Http::default()
    }

    /// The client for a URL.
    ///
    /// # Errors
    /// Plain `http` to another machine: logins and secret layers would cross the network in the clear.
    pub(in crate::registry) fn client(&self, url: &Url) -> Result<&Client> {
        let unusable = |error: reqwest::Error| {
            Error::failed("cannot set up HTTPS").help("check the system's CA certificates").because(error)
        };
        if url.scheme() == "https" {
            return get_or_build(&self.tls, settings()).map_err(unusable);
        }
        let host = url.host_str().unwrap_or_default();
        if url.scheme() != "http" || !is_loopback(host) {
            let shown = format!("{}://{}", url.scheme(), host);
            return Err(Error::failed(format!("{shown} would be asked without encryption")).help(
                "a registry on another machine has to answer, and to name its own addresses, with https",
            ));
        }
        // Nothing on this machine is behind a proxy.
        get_or_build(&self.plain, settings().no_proxy().tls_certs_only([])).map_err(unusable)
    }
}

/// Redirects are followed by hand, since a login must not follow them. HTTP/1.1, because layers that share one HTTP/2
/// connection share its flow-control window too.
fn settings() -> ClientBuilder {
    Client::builder()
        .user_agent(concat!("imgforge/", env!("CARGO_PKG_VERSION")))
        .redirect(Policy::none())
        .connect_timeout(CONNECT)
        .http1_only()
}

fn get_or_build(cell: &OnceLock<Client>, settings: ClientBuilder) -> reqwest::Result<&Client> {
    if let Some(client) = cell.get() {
        return Ok(client);
    }
    let client = settings.build()?;
    Ok(cell.get_or_init(|| client))
}

/// Whether a host, with or without its port, is this machine: `localhost`, 127.0.0.0/8, `[::1]`.
pub fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(rest),
        None => host.split(':').next().unwrap_or(host),
    };
    name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Where the registry of a name's host answers.
///
/// # Errors
/// Not a host.
pub fn endpoint(host: &str) -> Result<Url> {
    let scheme = if is_loopback(host) { "http" } else { "https" };
    let host = if host == DOCKER_HUB { "registry-1.docker.io" } else { host };
    let bad = || Error::config(format!("{host:?} is not a registry's host")).help("write HOST or HOST:PORT");
    let url = Url::parse(&format!("{scheme}://{host}/")).map_err(|error| bad().because(error))?;
    if url.path() != "/" || url.query().is_some() || !url.username().is_empty() || url.password().is_some() {
        return Err(bad());
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_is_for_this_machine_only() {
        for (host, want) in [
            ("127.0.0.1:5000", "http://127.0.0.1:5000/"),
            ("127.8.9.1", "http://127.8.9.1/"),
            ("localhost:5000", "http://localhost:5000/"),
            ("[::1]:5000", "http://[::1]:5000/"),
            ("docker.io", "https://registry-1.docker.io/"),
            ("registry.example.com:5000", "https://registry.example.com:5000/"),
            ("localhost.example.com", "https://localhost.example.com/"),
            ("127.example.com", "https://127.example.com/"),
            ("10.0.0.1:5000", "https://10.0.0.1:5000/"),
        ] {
            assert_eq!(endpoint(host).unwrap().as_str(), want);
        }
        let elsewhere = Url::parse("http://registry.example.com/v2/").unwrap();
        assert!(Http::new().client(&elsewhere).unwrap_err().what().contains("without encryption"));
    }

    #[test]
    fn a_host_is_nothing_more_than_a_host() {
        for host in ["", "a b", "me:hush@registry.example.com", "registry.example.com/path", "host?x"] {
            assert!(endpoint(host).is_err(), "{host}");
        }
    }
}
