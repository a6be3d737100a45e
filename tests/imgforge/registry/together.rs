//! All images of a release in one pass.

use std::time::{Duration, Instant};

use axum::http::{Method, StatusCode};
use imgforge::image::reference::{Repository, Tag};
use imgforge::image::{Image, Kind};
use imgforge::progress::Reporter;
use imgforge::registry::auth::LoginChain;
use imgforge::registry::push::{Parcel, push_all};
use imgforge::registry::remote::Remote;
use imgforge::registry::{BlobCounts, Pushed};

use super::config;
use crate::support::fault_proxy::{Fault, FaultProxy};
use crate::support::oci_registry::OciRegistry;
use crate::support::sample_image::{Events, sample_image};

async fn pushed(registry: &Remote, images: &[(&Image, &str)], progress: &Reporter) -> Vec<Pushed> {
    let repositories: Vec<Repository> = images.iter().map(|(_, name)| name.parse().unwrap()).collect();
    let tags: Vec<[Tag; 1]> =
        (0..images.len()).map(|number| [format!("t{number}").parse().unwrap()]).collect();
    let parcels: Vec<Parcel<'_>> = images
        .iter()
        .zip(&repositories)
        .zip(&tags)
        .map(|(((image, _), repository), tags)| Parcel { subject: "web", image, repository, tags })
        .collect();
    push_all(&parcels, registry, progress, |_| {}).await.unwrap()
}

#[tokio::test]
async fn a_blob_that_images_share_is_sent_once_and_mounted_into_the_other_repository() {
    let (server, folder) = (OciRegistry::open(), tempfile::tempdir().unwrap());
    let proxy = FaultProxy::before(&server.host).await;
    let registry = Remote::new(config(&proxy.host, LoginChain::none())).unwrap();
    let image = sample_image(Kind::Oci, folder.path(), &[100, 3000]);
    let other = image.with_labels(&[("other", "yes".into())]);
    let (one, two) = (format!("{}/one", proxy.host), format!("{}/two", proxy.host));
    let images = [(&image, &*one), (&other, &*one), (&other, &*two)];
    let pushed = pushed(&registry, &images, &Reporter::silent()).await;
    // Two layers and two configs are put into the first repository; layers and config are mounted into the second.
    assert_eq!(proxy.count(Method::PUT, "/blobs/uploads/"), 4);
    let mounts = proxy.seen().into_iter().filter(|seen| seen.query.contains("mount=")).count();
    assert_eq!(mounts, 3);
    let of = |uploaded, mounted, present| BlobCounts { uploaded, mounted, present };
    let counts: Vec<BlobCounts> = pushed.iter().map(|pushed| pushed.blobs).collect();
    assert_eq!(counts, [of(3, 0, 0), of(1, 0, 2), of(0, 3, 0)]);
}

#[tokio::test]
async fn a_mount_that_is_refused_is_an_upload() {
    let (server, folder) = (OciRegistry::open(), tempfile::tempdir().unwrap());
    let proxy = FaultProxy::before(&server.host).await;
    proxy.rule(|seen| {
        let is_mount = seen.query.contains("mount=");
        is_mount.then(|| Fault::Answer(StatusCode::FORBIDDEN, Vec::new(), "no".into()))
    });
    let registry = Remote::new(config(&proxy.host, LoginChain::none())).unwrap();
    let image = sample_image(Kind::Oci, folder.path(), &[100]);
    let (one, two) = (format!("{}/one", proxy.host), format!("{}/two", proxy.host));
    let pushed = pushed(&registry, &[(&image, &*one), (&image, &*two)], &Reporter::silent()).await;
    assert!(pushed.iter().all(|pushed| pushed.blobs.uploaded == 2), "{:?}", pushed[1].blobs);
}

#[tokio::test]
async fn a_registry_that_limits_requests_is_asked_less_and_the_push_ends_well() {
    let (server, folder) = (OciRegistry::open(), tempfile::tempdir().unwrap());
    let proxy = FaultProxy::before(&server.host).await;
    // So many requests in a second, as Docker Hub counts them by the hour.
    const ALLOWED: usize = 15;
    let (mut since, mut taken) = (Instant::now(), 0);
    proxy.rule(move |_| {
        if since.elapsed() >= Duration::from_secs(1) {
            (since, taken) = (Instant::now(), 0);
        }
        taken += 1;
        let wait = || vec![("retry-after", "1".to_owned())];
        (taken > ALLOWED).then(|| Fault::Answer(StatusCode::TOO_MANY_REQUESTS, wait(), String::new()))
    });
    let registry = Remote::new(config(&proxy.host, LoginChain::none())).unwrap();
    let image = sample_image(Kind::Oci, folder.path(), &[50; 20]);
    let (events, reporter) = Events::reporter();
    let name = format!("{}/one", proxy.host);
    let pushed = pushed(&registry, &[(&image, &name)], &reporter).await;
    assert_eq!(pushed[0].blobs.uploaded, 21);
    // Without a gate for the host each of the twenty layers would ask on its own.
    let (all, needed) = (proxy.seen().len(), 20 * 3 + 3 + 3);
    assert!(all <= needed + 40, "{all} requests for {needed}");
    let told = format!("{:?}", events.all());
    assert_eq!(told.matches("limits how often it may be asked").count(), 1, "{told}");
}
