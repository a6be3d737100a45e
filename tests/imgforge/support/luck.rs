//! Bad luck between imgforge and a registry, by seed; and whether what it left behind is whole.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::http::{Method, StatusCode};
use imgforge::digest::Digest;
use imgforge::image::reference::{Repository, Version};
use imgforge::registry::Registry;
use imgforge::registry::read::read;
use imgforge::registry::remote::Remote;
use tokio::io::AsyncReadExt;

use super::fault_proxy::{Fault, FaultProxy, Seen};

/// xorshift64*: the same luck for the same seed, on every machine.
pub struct Luck {
    state: u64,
    /// One request of so many meets with a fault.
    one_of: u64,
    /// How long an answer that stalls does.
    stall: Duration,
}

impl Luck {
    /// The luck of a seed.
    pub fn of(seed: u64, one_of: u64, stall: Duration) -> Self {
        Luck { state: seed.wrapping_mul(0x9E37_79B9_7F4A_7C15), one_of, stall }
    }

    fn next(&mut self, below: u64) -> u64 {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        (self.state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % below
    }

    /// What meets a request; mostly nothing.
    pub fn fault(&mut self, seen: &Seen) -> Option<Fault> {
        if self.next(self.one_of) != 0 {
            return None;
        }
        let writes = [Method::PUT, Method::POST, Method::PATCH].contains(&seen.method);
        let wrong = format!("sha256:{}", "0".repeat(64));
        Some(match self.next(10) {
            0 => Fault::Cut,
            1 if writes => Fault::CutAfter(self.next(5000) as usize),
            1 => Fault::Answer(StatusCode::OK, Vec::new(), "something else".into()),
            2 => {
                Fault::Answer(StatusCode::TOO_MANY_REQUESTS, vec![("retry-after", "0".into())], String::new())
            }
            3 => Fault::Answer(StatusCode::INTERNAL_SERVER_ERROR, Vec::new(), "trouble".into()),
            4 => Fault::Answer(StatusCode::BAD_GATEWAY, Vec::new(), "<html>proxy</html>".into()),
            5 => Fault::Rewrite(vec![("docker-content-digest", wrong)]),
            6 | 7 => Fault::RelativeLocation,
            8 if !writes => Fault::SentElsewhere,
            8 => Fault::Answer(StatusCode::FORBIDDEN, Vec::new(), "no".into()),
            _ => Fault::Stall(self.stall),
        })
    }
}

/// A proxy before a registry. Whoever asks for a repository meets with the luck that its name's first part has just now.
pub struct UnluckyProxy {
    pub host: String,
    luck: Arc<Mutex<HashMap<String, Luck>>>,
    _proxy: FaultProxy,
}

impl UnluckyProxy {
    pub async fn before(host: &str) -> Self {
        let proxy = FaultProxy::before(host).await;
        let luck: Arc<Mutex<HashMap<String, Luck>>> = Arc::default();
        let of = Arc::clone(&luck);
        proxy.rule(move |seen| {
            let name = seen.path.strip_prefix("/v2/")?.split('/').next()?.to_owned();
            of.lock().unwrap().get_mut(&name)?.fault(seen)
        });
        UnluckyProxy { host: proxy.host.clone(), luck, _proxy: proxy }
    }

    /// Does `work` while `name` has this luck. It must end within a minute.
    pub async fn with<T>(&self, name: &str, seed: u64, luck: Luck, work: impl Future<Output = T>) -> T {
        self.luck.lock().unwrap().insert(name.to_owned(), luck);
        let done = tokio::time::timeout(Duration::from_secs(60), work).await;
        self.luck.lock().unwrap().remove(name);
        done.unwrap_or_else(|_| panic!("seed {seed} hangs"))
    }
}

/// Every blob of what a version names is there and has its digest.
pub async fn is_whole(registry: &Remote, repository: &Repository, version: &Version) -> Option<Digest> {
    let image = read(registry, repository, version, "linux/amd64").await.unwrap()?;
    for layer in image.layers() {
        let mut bytes = Vec::new();
        registry.blob(repository, &layer.descriptor).await.unwrap().read_to_end(&mut bytes).await.unwrap();
    }
    Some(image.digest())
}
