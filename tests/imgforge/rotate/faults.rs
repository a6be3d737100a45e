//! A thousand rotations, each with its own bad luck between imgforge and the registry. What comes of it is the right image or
//! an error; never a wrong image, never a hang.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use imgforge::backends::{self, Needs};
use imgforge::config::{Config, Mode, Owner};
use imgforge::digest::Digest;
use imgforge::image::reference::{Reference, Repository, Tag, Version};
use imgforge::image::{Image, Kind, seam};
use imgforge::layer::bake::{BakedFile, Folders, bake};
use imgforge::plan::Until;
use imgforge::progress::Reporter;
use imgforge::registry::auth::LoginChain;
use imgforge::registry::push;
use imgforge::registry::remote::retry::RetryPolicy;
use imgforge::registry::remote::{Remote, RemoteConfig};
use imgforge::release::journal::Journal;
use imgforge::release::lock::Lock;
use imgforge::rotate::{self, Request};
use imgforge::secret::{self, Salt, Secret, SecretFile, SecretSet};

use crate::support::luck::{Luck, UnluckyProxy, is_whole};
use crate::support::oci_registry::OciRegistry;
use crate::support::sample_image::sample_image;

const REPOSITORIES: u64 = 40;
const RUNS_IN_EACH: u64 = 25;

fn secrets(value: &str) -> SecretSet {
    let file = SecretFile {
        object: "s.py".into(),
        version: secret::Version(Digest::of(value.as_bytes()).short()),
        value: Secret::new(value.into()),
    };
    SecretSet {
        files: BTreeMap::from([("s".to_owned(), file)]),
        salt: Salt::Stored(Secret::new(vec![7; 32])),
    }
}

fn baked(image: &Image) -> Image {
    let file = BakedFile {
        path: "/s.py".into(),
        owner: Owner::default(),
        mode: Mode::default(),
        value: Secret::new(b"the first".to_vec()),
    };
    let layer = bake(&[file], &Folders::new(), &Secret::new(vec![7; 32])).unwrap();
    seam::append(image, layer, &BTreeMap::from([("s".into(), secret::Version("1".into()))]), &Folders::new())
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_unlucky_rotations_give_the_right_image_or_an_error() {
    let server = OciRegistry::open();
    let proxy = UnluckyProxy::before(&server.host).await;
    let folder = tempfile::tempdir().unwrap();
    let honest =
        Remote::new(RemoteConfig::new(format!("{}/{{image}}", server.host), "x", LoginChain::none()))
            .unwrap();
    let (honest, proxy) = (&honest, &proxy);
    let shops = (0..REPOSITORIES).map(async |number| {
        let folder = folder.path().join(number.to_string());
        std::fs::create_dir(&folder).unwrap();
        let kind = if number % 2 == 0 { Kind::Oci } else { Kind::Docker };
        let image = baked(&sample_image(kind, &folder, &[300, 2000]));
        let name = format!("shop-{number}");
        let repository: Repository = format!("{}/{name}", server.host).parse().unwrap();
        let first: Tag = "first".parse().unwrap();
        push::push("web", &image, honest, &repository, &[first], &Reporter::silent()).await.unwrap();
        let mut counts = (0, 0);
        for run in 0..RUNS_IN_EACH {
            let seed = number * RUNS_IN_EACH + run + 1;
            let luck = Luck::of(seed, 4, Duration::from_millis(400));
            let rotate = unlucky(&folder, &proxy.host, &name, image.digest(), seed);
            let rotated = proxy.with(&name, seed, luck, rotate).await;
            let want =
                seam::replace(&image, layer(seed), &secrets(&value(seed)).versions()).unwrap().unwrap();
            let tag = Version::Tag(format!("rotated-{}", want.digest().short()).parse().unwrap());
            let there = is_whole(honest, &repository, &tag).await;
            match rotated {
                Ok(digest) => {
                    assert_eq!(digest, want.digest(), "seed {seed}");
                    assert_eq!(there, Some(digest), "seed {seed}: what it said is there");
                    counts.0 += 1;
                }
                // An answer that was lost may leave the right image behind, and no other.
                Err(error) => {
                    assert!(there.is_none_or(|there| there == want.digest()), "seed {seed}: {error}");
                    counts.1 += 1;
                }
            }
            let before = is_whole(honest, &repository, &Version::Digest(image.digest())).await;
            assert_eq!(before, Some(image.digest()), "seed {seed}: the old image is as it was");
        }
        counts
    });
    let counts: Vec<(u64, u64)> = stream::iter(shops).buffer_unordered(REPOSITORIES as usize).collect().await;
    let (good, bad) = counts.into_iter().fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    assert_eq!(good + bad, REPOSITORIES * RUNS_IN_EACH);
    // Much bad luck passes (on a busy machine less: what is slow is a stall, too); some does not, or this would show nothing.
    assert!(good > 100 && bad > 100, "{good} went well, {bad} did not");
}

fn value(seed: u64) -> String {
    format!("KEY = {seed}\n")
}

fn layer(seed: u64) -> imgforge::layer::bake::SecretLayer {
    let file = BakedFile {
        path: "/s.py".into(),
        owner: Owner::default(),
        mode: Mode::default(),
        value: Secret::new(value(seed).into_bytes()),
    };
    bake(&[file], &Folders::new(), &Secret::new(vec![7; 32])).unwrap()
}

/// One rotation through the proxy; the digest that it says is there now.
async fn unlucky(
    folder: &std::path::Path,
    host: &str,
    name: &str,
    from: Digest,
    seed: u64,
) -> imgforge::error::Result<Digest> {
    let text = "project = \"x\"\n[secrets]\nstore = \"dir:secrets\"\nfiles = { s = \"s.py\" }\n[images.web]\n\
                dockerfile = \"D\"\nbake = [{ secret = \"s\", path = \"/s.py\" }]\n";
    // Every other one knows what it has read before.
    if seed.is_multiple_of(2) {
        let _ = std::fs::remove_dir_all(folder.join(".imgforge/layers"));
    }
    let config = Config::parse(folder.to_owned(), text, None, &|_| None)?;
    let lock = Lock::take(&config)?;
    std::fs::create_dir_all(folder.join("secrets"))?;
    std::fs::write(folder.join("secrets/s.py"), value(seed))?;
    let mut parts =
        backends::connect(config, Needs::to_rotate(Until::Push, BTreeMap::new()), &|_| None).await?;
    parts.secrets = secrets(&value(seed));
    let retry = RetryPolicy {
        attempts: 4,
        first_wait: Duration::from_millis(1),
        longest_wait: Duration::from_secs(1),
        patience: Duration::from_millis(200),
    };
    let remote =
        RemoteConfig { retry, ..RemoteConfig::new(format!("{host}/{name}"), "x", LoginChain::none()) };
    parts.registry = Some(Arc::new(Remote::new(remote)?));
    let reference =
        Reference { repository: format!("{host}/{name}").parse()?, tag: None, digest: Some(from) };
    let request = Request { images: Vec::new(), chosen: vec![("web".into(), reference)], until: Until::Push };
    let (_, seen) = rotate::plan(&parts, &request).await?;
    let summary = rotate::apply(&lock, &parts, seen, &Reporter::silent(), &Journal::default()).await?;
    summary.images[0].to.parse::<Reference>()?.digest.ok_or_else(|| unreachable!("it is named by digest"))
}
