//! The ECS deployer against a simulator of the API, and its documents against moto.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use imgforge::config::OnceConfig;
use imgforge::deploy::ecs::api::Retry;
use imgforge::deploy::ecs::{EcsConfig, EcsDeployer, Pace};
use imgforge::deploy::{Deployer, Prepared, Release, ReleasedImage, Running};
use imgforge::digest::Digest;
use imgforge::error::Error;
use imgforge::image::reference::{Reference, Repository};
use imgforge::progress::{Event, Progress, Reporter};

use crate::support::ecs_simulator::EcsSimulator;

mod documents;
mod failing;
mod observing;
mod once;
mod rolling;
mod several;
mod several_failing;

const REGISTRY: &str = "123456789012.dkr.ecr.eu-west-1.amazonaws.com";

fn config() -> EcsConfig {
    let retry = Retry { attempts: 8, base: Duration::from_millis(1), cap: Duration::from_millis(5) };
    EcsConfig {
        cluster: "shop".into(),
        service: "web".into(),
        // Long enough for the slowest machine; what has to run out is given its own.
        timeout: Duration::from_secs(300),
        strategy: None,
        repositories: BTreeMap::from([("web".into(), repository("shop-web"))]),
        pace: Pace { first: Duration::from_millis(1), longest: Duration::from_millis(4), retry },
    }
}

fn deployer(simulator: &EcsSimulator) -> EcsDeployer {
    EcsDeployer::new(&simulator.sdk_config(), config()).unwrap()
}

fn repository(name: &str) -> Repository {
    format!("{REGISTRY}/{name}").parse().unwrap()
}

fn pinned(name: &str, digest: &str) -> Reference {
    format!("{REGISTRY}/{name}@{digest}").parse().unwrap()
}

fn release(images: &[(&str, Reference)]) -> Release {
    let images = images.iter().map(|(name, reference)| {
        let released = ReleasedImage { reference: reference.clone(), local: None, image: None };
        ((*name).to_owned(), released)
    });
    Release { id: "0123abc.v7".into(), images: images.collect() }
}

fn new_web() -> Reference {
    pinned("shop-web", &Digest::of(b"the new web").to_string())
}

fn migrate() -> OnceConfig {
    OnceConfig {
        name: "migrate".into(),
        container: "web".into(),
        command: ["python3", "manage.py", "migrate", "--noinput"].map(str::to_owned).into(),
    }
}

/// Observed and prepared with a new image for web.
async fn ready(deployer: &EcsDeployer, reporter: &Reporter) -> (Running, Prepared) {
    let running = deployer.observe(&["web".into()], &[migrate()]).await.unwrap();
    let prepared = deployer.prepare(&release(&[("web", new_web())]), &running, reporter).await.unwrap();
    (running, prepared)
}

/// Keeps what was reported.
#[derive(Default)]
struct Recorder(Mutex<Vec<Event>>);

impl Progress for Recorder {
    fn event(&self, event: Event) {
        self.0.lock().unwrap().push(event);
    }
}

impl Recorder {
    fn pair() -> (Arc<Recorder>, Reporter) {
        let recorder = Arc::new(Recorder::default());
        (Arc::clone(&recorder), Reporter::new(recorder))
    }

    fn lines(&self, of: &str) -> Vec<String> {
        let events = self.0.lock().unwrap();
        let lines = events.iter().filter_map(|event| match event {
            Event::Log { subject, line, .. } if subject == of => Some(line.clone()),
            _ => None,
        });
        lines.collect()
    }

    fn details(&self) -> Vec<String> {
        let events = self.0.lock().unwrap();
        let details = events.iter().filter_map(|event| match event {
            Event::TaskDetail { detail, .. } => Some(detail.clone()),
            _ => None,
        });
        details.collect()
    }
}

/// All that the command line would print of an error.
fn told(error: &Error) -> String {
    format!("{error:?}")
}
