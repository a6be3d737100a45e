//! A thousand pushes, each with its own bad luck between imgforge and the registry. What comes of it is the right images or an
//! error; never a wrong image, never a hang.

use std::time::Duration;

use futures_util::{StreamExt, stream};
use imgforge::error::Result;
use imgforge::image::reference::{Repository, Tag, Version};
use imgforge::image::{Image, Kind};
use imgforge::progress::Reporter;
use imgforge::registry::Pushed;
use imgforge::registry::auth::LoginChain;
use imgforge::registry::push::{Parcel, push_all};
use imgforge::registry::remote::retry::RetryPolicy;
use imgforge::registry::remote::{Remote, RemoteConfig};

use crate::support::luck::{Luck, UnluckyProxy, is_whole};
use crate::support::oci_registry::OciRegistry;
use crate::support::sample_image::sample_image;

const LANES: u64 = 8;
const RUNS_IN_EACH: u64 = 125;
/// Longer than the registry takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(1);
/// Blobs above this are streamed: one of each image.
const STREAMED: u64 = 10_000;

/// Two images with a layer in common, each for a repository of its own.
struct Images([Image; 2]);

impl Images {
    fn new(kind: Kind, folder: &std::path::Path) -> Self {
        let second = folder.join("second");
        std::fs::create_dir_all(&second).unwrap();
        let one = sample_image(kind, folder, &[300, 40_000]);
        let other = sample_image(kind, &second, &[2000, 20_000]);
        let both = [&one.layers()[..1], other.layers()].concat();
        let mut config = other.config().clone();
        let diff_ids: Vec<_> = both.iter().map(|layer| layer.diff_id).collect();
        config["rootfs"]["diff_ids"] = serde_json::json!(diff_ids);
        config["history"] = serde_json::json!(both.iter().map(|_| serde_json::json!({})).collect::<Vec<_>>());
        let other = Image::new(kind, config, both).unwrap();
        Images([one, other])
    }

    /// Pushes them to `HOST/NAME/0` and `/1`.
    async fn push(&self, registry: &Remote, host: &str, name: &str) -> Result<Vec<Pushed>> {
        let repositories: Vec<Repository> =
            (0..2).map(|number| format!("{host}/{name}/{number}").parse().unwrap()).collect();
        let tags = [tag()];
        let parcels: Vec<Parcel<'_>> = self
            .0
            .iter()
            .zip(&repositories)
            .map(|(image, repository)| Parcel { subject: "web", image, repository, tags: &tags })
            .collect();
        push_all(&parcels, registry, &Reporter::silent(), |_| {}).await
    }
}

fn tag() -> Tag {
    "it".parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_unlucky_pushes_give_the_right_images_or_an_error() {
    let server = OciRegistry::open();
    let proxy = UnluckyProxy::before(&server.host).await;
    let remote = |host: &str, retry: RetryPolicy| {
        let config = RemoteConfig::new(format!("{host}/{{image}}"), "x", LoginChain::none());
        Remote::new(RemoteConfig { retry, one_request_up_to: STREAMED, ..config }).unwrap()
    };
    let honest = remote(&server.host, RetryPolicy::default());
    let folder = tempfile::tempdir().unwrap();
    let (honest, proxy, remote, server) = (&honest, &proxy, &remote, &server);
    let lanes = (0..LANES).map(async |lane| {
        let folder = folder.path().join(lane.to_string());
        std::fs::create_dir(&folder).unwrap();
        let images = Images::new(if lane % 2 == 0 { Kind::Oci } else { Kind::Docker }, &folder);
        let mut counts = (0, 0);
        for run in 0..RUNS_IN_EACH {
            let seed = lane * RUNS_IN_EACH + run + 1;
            let name = format!("push-{seed}");
            let luck = Luck::of(seed, 20, PATIENCE + Duration::from_millis(500));
            let retry = RetryPolicy {
                attempts: 4,
                first_wait: Duration::from_millis(1),
                longest_wait: Duration::from_secs(1),
                patience: PATIENCE,
            };
            // A client of its own: what one run has met is nothing to the next.
            let registry = remote(&proxy.host, retry);
            let push = images.push(&registry, &proxy.host, &name);
            let pushed = proxy.with(&name, seed, luck, push).await;
            match &pushed {
                Ok(_) => counts.0 += 1,
                Err(_) => counts.1 += 1,
            }
            for (number, image) in images.0.iter().enumerate() {
                let repository: Repository = format!("{}/{name}/{number}", server.host).parse().unwrap();
                match (is_whole(honest, &repository, &Version::Tag(tag())).await, &pushed) {
                    (Some(there), _) => assert_eq!(there, image.digest(), "seed {seed}"),
                    (None, Ok(_)) => panic!("seed {seed}: it said that {repository} is there"),
                    (None, Err(_)) => {}
                }
            }
        }
        counts
    });
    let counts: Vec<(u64, u64)> = stream::iter(lanes).buffer_unordered(LANES as usize).collect().await;
    let (good, bad) = counts.into_iter().fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    assert_eq!(good + bad, LANES * RUNS_IN_EACH);
    assert!(good > 100 && bad > 20, "{good} went well, {bad} did not");
}
