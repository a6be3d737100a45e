//! The blobs of a pass: what has to be where, and each on its way once.
//!
//! A blob that two repositories of one registry lack is sent to one of them and mounted into the other when it is there. It
//! is never sent to both at once: that would be twice the bytes, and docker-registry 2.8 can answer to one of two
//! simultaneous uploads that it does not know the blob.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};

use futures_util::future::{join_all, try_join_all};
use tokio::sync::{Semaphore, SetOnce};

use super::Parcel;
use crate::digest::Digest;
use crate::error::Result;
use crate::image::reference::Repository;
use crate::image::{Content, Descriptor, Image, Layer};
use crate::progress::Reporter;
use crate::registry::{BlobCounts, Registry, Sent};

/// How many layers are on their way at once, of all images together. More of them fill no line that these do not.
const AT_ONCE: usize = 8;

/// The blobs of all images of a pass.
pub(super) struct Blobs<'p> {
    registry: &'p dyn Registry,
    progress: &'p Reporter,
    blobs: Vec<Blob<'p>>,
    /// By registry and digest.
    index: HashMap<(&'p str, Digest), usize>,
    /// A layer that is on its way holds one.
    lines: Semaphore,
}

/// A blob in one registry.
struct Blob<'p> {
    descriptor: Descriptor,
    body: Body<'p>,
    /// Where the image that brings it was read: a repository of the same registry.
    origin: Option<Repository>,
    places: Vec<Place<'p>>,
}

/// Where the bytes come from.
#[derive(Clone, Copy)]
enum Body<'p> {
    Layer(&'p Layer),
    Config(&'p Image),
}

impl Body<'_> {
    /// The repository that they would have to be read from.
    fn origin(&self) -> Option<&str> {
        match self {
            Body::Layer(Layer { content: Content::Registry(from), .. }) => Some(&**from),
            _ => None,
        }
    }
}

/// One repository that should have a blob.
struct Place<'p> {
    repository: &'p Repository,
    /// The image that wants it there first.
    subject: &'p str,
    /// How it got there; set when it is.
    there: SetOnce<Sent>,
}

/// An image's part in one blob of a repository.
pub(super) struct Share {
    blob: usize,
    place: usize,
    is_first: bool,
}

impl<'p> Blobs<'p> {
    /// None yet.
    pub fn new(registry: &'p dyn Registry, progress: &'p Reporter) -> Self {
        Blobs { registry, progress, blobs: Vec::new(), index: HashMap::new(), lines: Semaphore::new(AT_ONCE) }
    }

    /// Adds those of an image that is there, where other images can take theirs from; how many.
    pub fn has(&mut self, parcel: &Parcel<'p>) -> usize {
        let shares = self.wants(parcel);
        for share in &shares {
            // By way of another image it may be known already.
            let _ = self.place(share).1.there.set(Sent::Present);
        }
        shares.len()
    }

    /// Adds those of an image that is not there: each layer once, since images often have the same empty layer several
    /// times, and the config.
    pub fn wants(&mut self, parcel: &Parcel<'p>) -> Vec<Share> {
        let mut seen = BTreeSet::new();
        let layers = parcel.image.layers().iter().filter(|layer| seen.insert(layer.descriptor.digest));
        let mut shares: Vec<Share> =
            layers.map(|layer| self.want(parcel, layer.descriptor.clone(), Body::Layer(layer))).collect();
        shares.push(self.want(parcel, parcel.image.config_descriptor(), Body::Config(parcel.image)));
        shares
    }

    fn want(&mut self, parcel: &Parcel<'p>, descriptor: Descriptor, body: Body<'p>) -> Share {
        let Parcel { repository, subject, .. } = *parcel;
        let count = self.blobs.len();
        let at = *self.index.entry((repository.host.as_str(), descriptor.digest)).or_insert(count);
        if at == count {
            self.blobs.push(Blob { descriptor, body, origin: None, places: Vec::new() });
        }
        let blob = &mut self.blobs[at];
        let found = blob.places.iter().position(|place| place.repository == repository);
        let place = found.unwrap_or_else(|| {
            blob.places.push(Place { repository, subject, there: SetOnce::new() });
            blob.places.len() - 1
        });
        match body.origin() {
            // What was read from this very repository is there; rotating a secret spares a request for each layer.
            Some(from) if from == repository.to_string() => {
                let _ = blob.places[place].there.set(Sent::Present);
            }
            Some(from) => {
                let from = from.parse::<Repository>().ok().filter(|from| from.host == repository.host);
                blob.origin = blob.origin.take().or(from);
            }
            // It is at hand, so it is not read from a registry.
            None => blob.body = body,
        }
        Share { blob: at, place, is_first: found.is_none() }
    }

    fn place(&self, share: &Share) -> (&Blob<'p>, &Place<'p>) {
        let blob = &self.blobs[share.blob];
        (blob, &blob.places[share.place])
    }

    /// Asks for everything of which it is not known whether it is there.
    pub async fn ask(&self) -> Result<()> {
        let places = self.blobs.iter().flat_map(|blob| blob.places.iter().map(move |place| (blob, place)));
        let unknown = places.filter(|(_, place)| !place.there.initialized());
        try_join_all(unknown.map(async |(blob, place)| {
            if self.registry.has_blob(place.repository, &blob.descriptor.digest).await? {
                let _ = place.there.set(Sent::Present);
            }
            Ok(())
        }))
        .await
        .map(drop)
    }

    /// Sends what is missing, the largest first: what is begun last is short, so no line idles at the end.
    pub async fn send(&self) -> Result<()> {
        let mut blobs: Vec<&Blob<'_>> = self.blobs.iter().collect();
        blobs.sort_by_key(|blob| Reverse(blob.descriptor.size));
        try_join_all(blobs.into_iter().map(|blob| self.send_one(blob))).await.map(drop)
    }

    async fn send_one(&self, blob: &Blob<'p>) -> Result<()> {
        let (there, missing): (Vec<_>, Vec<_>) =
            blob.places.iter().partition(|place| place.there.initialized());
        let mut missing = missing.into_iter();
        let mut from = there.first().map(|place| place.repository).or(blob.origin.as_ref());
        if from.is_none()
            && let Some(place) = missing.next()
        {
            self.put(blob, place).await?;
            from = Some(place.repository);
        }
        let Some(from) = from else { return Ok(()) };
        try_join_all(missing.map(async |place| match self.mount(blob, place, from).await? {
            true => Ok(()),
            false => self.put(blob, place).await,
        }))
        .await
        .map(drop)
    }

    async fn mount(&self, blob: &Blob<'p>, place: &Place<'p>, from: &Repository) -> Result<bool> {
        let is_mounted = self.registry.mount(place.repository, &blob.descriptor.digest, from).await?;
        if is_mounted {
            let _ = place.there.set(Sent::Mounted);
        }
        Ok(is_mounted)
    }

    async fn put(&self, blob: &Blob<'p>, place: &Place<'p>) -> Result<()> {
        let Blob { descriptor, body, .. } = blob;
        match body {
            Body::Layer(layer) => {
                let _line = self.lines.acquire().await.expect("it is never closed");
                let task = self.progress.transfer(place.subject, layer_name(blob), descriptor.size);
                self.registry.put_layer(place.repository, layer, &task).await?;
                task.done("sent");
            }
            // A few kilobytes, which would wait behind layers for longer than they take.
            Body::Config(image) => {
                self.registry.put_bytes(place.repository, descriptor, image.config_bytes()).await?;
            }
        }
        let _ = place.there.set(Sent::Uploaded);
        Ok(())
    }

    /// Waits until all of an image's are there: how they got there, and how many bytes were uploaded.
    pub async fn arrive(&self, subject: &str, shares: &[Share]) -> (BlobCounts, u64) {
        let sent = join_all(shares.iter().map(|share| self.arrive_one(subject, share))).await;
        let (mut counts, mut uploaded) = (BlobCounts::default(), 0);
        for (share, sent) in shares.iter().zip(sent) {
            match sent {
                Sent::Present => counts.present += 1,
                Sent::Mounted => counts.mounted += 1,
                Sent::Uploaded => {
                    counts.uploaded += 1;
                    uploaded += self.place(share).0.descriptor.size;
                }
            }
        }
        (counts, uploaded)
    }

    /// What was sent for another image is there, for this one.
    async fn arrive_one(&self, subject: &str, share: &Share) -> Sent {
        let (blob, place) = self.place(share);
        let sent = *place.there.wait().await;
        let how = match sent {
            Sent::Present => "is there".to_owned(),
            Sent::Mounted | Sent::Uploaded if !share.is_first => format!("came with {}", place.subject),
            Sent::Mounted => "mounted".to_owned(),
            // Its own task has told so.
            Sent::Uploaded => return sent,
        };
        if let Body::Layer(_) = blob.body {
            self.progress.transfer(subject, layer_name(blob), blob.descriptor.size).reused(how);
        }
        if share.is_first { sent } else { Sent::Present }
    }
}

fn layer_name(blob: &Blob<'_>) -> String {
    format!("layer {}", blob.descriptor.digest.short())
}
