//! The page that shows that it works.

use std::time::Duration;

use crate::engine::daemon::containers::{ContainerState, Published};
use crate::error::{Error, Result};

/// How often a page is tried before it counts as broken: a proxy may need a moment to find what is new behind it.
const TRIES: u32 = 20;
const BETWEEN: Duration = Duration::from_millis(500);
const PATIENCE: Duration = Duration::from_secs(10);

/// Ports that browsers know come first, whatever else a project publishes.
const KNOWN: [u16; 5] = [443, 80, 8443, 8080, 8000];

/// The address of the published port that looks most like a web server's.
pub fn published(containers: &[ContainerState]) -> Option<String> {
    let rank = |port: &&Published| KNOWN.iter().position(|known| *known == port.inside);
    let known =
        containers.iter().flat_map(|container| &container.published).filter(|port| rank(port).is_some());
    let port = known.min_by_key(rank)?;
    let host = match port.address.as_str() {
        "" | "0.0.0.0" | "::" | "127.0.0.1" | "::1" => "127.0.0.1",
        address => address,
    };
    let scheme = if matches!(port.inside, 443 | 8443) { "https" } else { "http" };
    Some(format!("{scheme}://{host}:{}/", port.outside))
}

/// Fetches a page until it answers with something else than an error.
///
/// # Errors
/// It still does not after many tries.
pub async fn fetch(url: &str) -> Result<()> {
    let client = reqwest::Client::builder()
        .timeout(PATIENCE)
        .user_agent(concat!("imgforge/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|error| Error::failed("the HTTP client cannot be made").because(error))?;
    let mut tries = 0;
    loop {
        let answer = client.get(url).send().await.and_then(reqwest::Response::error_for_status);
        match answer {
            Ok(_) => return Ok(()),
            Err(error) if tries + 1 == TRIES => {
                return Err(Error::failed(format!("{url} does not answer as it should")).because(error));
            }
            Err(_) => tries += 1,
        }
        tokio::time::sleep(BETWEEN).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::daemon::containers::Health;

    fn container(ports: &[(u16, &str, u16)]) -> ContainerState {
        ContainerState {
            id: String::new(),
            name: String::new(),
            service: String::new(),
            state: "running".into(),
            health: Health::None,
            exit_code: 0,
            restarts: 0,
            image: None,
            problem: String::new(),
            config_hash: String::new(),
            published: ports
                .iter()
                .map(|(inside, address, outside)| Published {
                    inside: *inside,
                    address: (*address).into(),
                    outside: *outside,
                })
                .collect(),
        }
    }

    #[test]
    fn the_web_servers_port_is_shown() {
        let db = container(&[(5432, "0.0.0.0", 5432)]);
        let nginx = container(&[(8080, "0.0.0.0", 32768), (8080, "::", 32768)]);
        assert_eq!(published(&[db.clone(), nginx]).as_deref(), Some("http://127.0.0.1:32768/"));
        assert_eq!(published(&[db]), None);
        let tls = container(&[(80, "192.0.2.7", 80), (443, "192.0.2.7", 443)]);
        assert_eq!(published(&[tls]).as_deref(), Some("https://192.0.2.7:443/"));
    }
}
