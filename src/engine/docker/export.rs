//! Takes an image out of the daemon (`docker save`), layer by layer as they come, into the layer cache.
//!
//! Two forms are read: that of daemons before 25 (`NAME/layer.tar`, where only hashing tells which layer it is) and the
//! OCI layout of later ones (`blobs/sha256/DIFF_ID`). Both have Docker's `manifest.json`.

use std::collections::BTreeMap;
use std::io::{self, Read, Seek};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use futures_util::TryStreamExt;
use serde::Deserialize;

use crate::base::Base;
use crate::digest::{DiffId, Digest, Hashing};
use crate::engine::cache::{LayerCache, is_plain};
use crate::engine::daemon::Daemon;
use crate::engine::{Built, pipe};
use crate::error::{Error, Result};
use crate::image::{Image, Kind, Layer};
use crate::progress::{Reporter, Task};

/// A config is a JSON text; more than this is none.
const CONFIG_LIMIT: u64 = 32 << 20;

/// The built image with every blob in a file: the base's own where they are known, the cache's otherwise. An image that was
/// exported before is not asked for again.
///
/// # Errors
/// The daemon's; a full disk; an archive that is not what `docker save` writes.
pub(super) async fn export(
    daemon: &Daemon,
    cache: &LayerCache,
    built: &Built,
    progress: &Reporter,
) -> Result<Image> {
    let task = progress.task(&built.image, "export");
    let base = base_layers(built);
    if let Some(config) = cache.config(built.id)
        && let Some(image) = image(&config, cache, &base)?
    {
        task.reused("exported before");
        return Ok(image);
    }
    let doing = format!("export {}", built.image);
    let id = built.id.to_string();
    // Through tar only the text of an error would come.
    let broke = Arc::new(OnceLock::new());
    let (daemon_there, doing_there, broke_there) = (daemon.clone(), doing.clone(), Arc::clone(&broke));
    let archive = daemon.docker.export_image(&id).map_err(move |error| {
        let error = daemon_there.error(&doing_there, error);
        let text = io::Error::other(error.to_string());
        let _ = broke_there.set(error);
        text
    });
    let (cache_there, base_there) = (cache.clone(), base.clone());
    let archive = pipe::read(archive, move |archive| {
        let config = read(archive, &cache_there, &base_there, &task);
        (task, config)
    });
    let (task, config) = archive.await.expect("reading an archive does not panic");
    let broke = Arc::into_inner(broke).and_then(OnceLock::into_inner);
    let config = config.map_err(|error| broke.unwrap_or_else(|| error.context(format!("cannot {doing}"))))?;
    if Digest::of(&config) != built.id {
        return Err(Error::failed(format!("cannot {doing}: the daemon gave another image than {id}")).help(
            "its image store names images by something else than their config; push to a registry instead",
        ));
    }
    let image = image(&config, cache, &base)?
        .ok_or_else(|| Error::failed(format!("cannot {doing}: the daemon left out a layer")))?;
    cache.put_config(built.id, &config)?;
    task.done(format!("{} layers", image.layers().len()));
    Ok(image)
}

type Layers = Arc<BTreeMap<DiffId, Layer>>;

fn base_layers(built: &Built) -> Layers {
    let image = match &built.base {
        Some(Base::Local { image, .. }) => Some(image),
        Some(Base::Registry(_) | Base::Read { .. }) | None => None,
    };
    let mut known = BTreeMap::new();
    for layer in image.into_iter().flat_map(|image| image.layers()) {
        // The exported image is an OCI one.
        if Kind::Oci.layer(&layer.descriptor.media_type).is_some() {
            known.insert(layer.diff_id, layer.clone());
        }
    }
    Arc::new(known)
}

/// The image of a config, when all its layers are known.
fn image(config: &Bytes, cache: &LayerCache, base: &Layers) -> Result<Option<Image>> {
    #[derive(Deserialize)]
    struct Config {
        rootfs: RootFs,
    }
    #[derive(Deserialize)]
    struct RootFs {
        #[serde(default)]
        diff_ids: Vec<DiffId>,
    }
    let malformed =
        |error: serde_json::Error| Error::failed("the image's config cannot be read").because(error);
    let known: Config = serde_json::from_slice(config).map_err(malformed)?;
    let find = |diff_id: &DiffId| base.get(diff_id).cloned().or_else(|| cache.layer(*diff_id));
    let layers: Option<Vec<Layer>> = known.rootfs.diff_ids.iter().map(find).collect();
    layers.map(|layers| Image::from_config(Kind::Oci, config.clone(), layers)).transpose()
}

/// Reads the archive and gives the config's bytes. Layers that are known are passed over.
fn read(archive: impl Read, cache: &LayerCache, base: &Layers, task: &Task) -> Result<Bytes> {
    let mut tar = tar::Archive::new(archive);
    let mut configs: BTreeMap<String, Bytes> = BTreeMap::new();
    let mut wanted = None;
    for entry in tar.entries()? {
        let mut entry = entry?;
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let path = entry.path()?.to_string_lossy().into_owned();
        match Member::of(&path) {
            Member::Manifest => wanted = Some(config_path(&mut entry)?),
            Member::Layer(name) => {
                let known = cache.named(name);
                if known.is_some_and(|diff_id| base.contains_key(&diff_id) || cache.layer(diff_id).is_some())
                {
                    continue;
                }
                task.detail(&name[..name.len().min(12)]);
                let diff_id = keep(&mut entry, cache, base)?;
                cache.put_name(name, diff_id)?;
            }
            Member::Blob(digest) => {
                let diff_id = DiffId(digest);
                if base.contains_key(&diff_id) || cache.layer(diff_id).is_some() {
                    continue;
                }
                if entry.size() <= CONFIG_LIMIT {
                    let mut bytes = Vec::new();
                    entry.read_to_end(&mut bytes)?;
                    if bytes.first() == Some(&b'{') {
                        configs.insert(path, bytes.into());
                    } else {
                        cache.put(&bytes[..])?;
                    }
                    continue;
                }
                task.detail(digest.short());
                cache.put(&mut entry)?;
            }
            Member::Config if entry.size() <= CONFIG_LIMIT => {
                let mut bytes = Vec::new();
                entry.read_to_end(&mut bytes)?;
                configs.insert(path, bytes.into());
            }
            Member::Config | Member::Other => {}
        }
    }
    let wanted = wanted.ok_or_else(|| Error::failed("the daemon's archive has no manifest.json"))?;
    configs.remove(&wanted).ok_or_else(|| Error::failed("the daemon's archive has no config"))
}

/// Puts a layer of unknown name into the cache. With a base whose layers are known it is hashed first: that takes a tenth of
/// the time, and the base is most of the image.
fn keep(tar: &mut impl Read, cache: &LayerCache, base: &Layers) -> Result<DiffId> {
    if base.is_empty() {
        return Ok(cache.put(tar)?.diff_id);
    }
    let mut spool = Hashing::new(cache.scratch()?);
    io::copy(tar, &mut spool)?;
    let (mut spool, digest, _) = spool.finish();
    let diff_id = DiffId(digest);
    if !base.contains_key(&diff_id) && cache.layer(diff_id).is_none() {
        spool.rewind()?;
        cache.put(spool)?;
    }
    Ok(diff_id)
}

/// What a path of the archive is.
enum Member<'p> {
    Manifest,
    /// `NAME/layer.tar`
    Layer(&'p str),
    /// `blobs/sha256/DIGEST`: a layer's tar or a JSON text.
    Blob(Digest),
    /// `ID.json`
    Config,
    Other,
}

impl<'p> Member<'p> {
    fn of(path: &'p str) -> Self {
        if path == "manifest.json" {
            return Member::Manifest;
        }
        if let Some(name) = path.strip_suffix("/layer.tar").filter(|name| is_plain(name)) {
            return Member::Layer(name);
        }
        if let Some(hex) = path.strip_prefix("blobs/sha256/") {
            return format!("sha256:{hex}").parse().map_or(Member::Other, Member::Blob);
        }
        if path.ends_with(".json") && !path.contains('/') { Member::Config } else { Member::Other }
    }
}

fn config_path(manifest: &mut impl Read) -> Result<String> {
    #[derive(Deserialize)]
    struct Line {
        #[serde(rename = "Config")]
        config: String,
    }
    let mut text = Vec::new();
    manifest.take(CONFIG_LIMIT).read_to_end(&mut text)?;
    let lines: Vec<Line> = serde_json::from_slice(&text).map_err(|error| {
        Error::failed("the daemon's archive has a manifest.json that is none").because(error)
    })?;
    let first = lines.into_iter().next().map(|line| line.config);
    first.ok_or_else(|| Error::failed("the daemon's archive has no image"))
}
