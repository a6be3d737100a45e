//! Gives the daemon an image of which it has the lower layers: an archive in which those are named and absent.
//!
//! The classic image store looks a layer up before it opens the archive's file for it (moby, image/tarexport/load.go), so
//! only what is new is sent. containerd's store wants every blob; it gets the whole image.
//!
//! Invariant (contract 6): the archive is streamed as it is made; the secret layer is never in a file here.

use std::io::{self, Read, Seek, Write};
use std::path::Path;

use bollard::query_parameters::ImportImageOptionsBuilder;
use futures_util::StreamExt;
use serde_json::json;

use crate::digest::Digest;
use crate::engine::daemon::Daemon;
use crate::engine::pipe;
use crate::error::{Error, Result};
use crate::image::{Content, Image, Layer};
use crate::layer::packing::{Packing, unpacked};
use crate::progress::Reporter;

/// Which layers' tars are in the archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Send {
    /// Those in memory: what was made just now. The daemon has the others.
    New,
    /// Those above so many, which the daemon has.
    Above(usize),
    /// All.
    Whole,
}

/// Loads `image`, and gives its id: the digest of its config. Nothing is sent when it is there.
///
/// # Errors
/// The daemon's; a layer whose blob is not on this machine.
pub(super) async fn load(
    daemon: &Daemon,
    image: &Image,
    subject: &str,
    send: Send,
    progress: &Reporter,
) -> Result<Digest> {
    let id = image.config_descriptor().digest;
    let task = progress.task(subject, "load into the daemon");
    if daemon.image_exists(&id.to_string()).await? {
        task.reused(id.short());
        return Ok(id);
    }
    if !matches!(send, Send::Whole | Send::Above(0)) {
        match transfer(daemon, image, send).await {
            Ok(()) if daemon.image_exists(&id.to_string()).await? => {
                task.done(id.short());
                return Ok(id);
            }
            // A store that wants every blob, or a daemon that lost a layer meanwhile.
            Ok(()) => tracing::debug!("the daemon took the new layers and has no image {id}"),
            Err(error) => tracing::debug!("the daemon wants all layers: {error:?}"),
        }
    }
    transfer(daemon, image, Send::Whole).await?;
    if !daemon.image_exists(&id.to_string()).await? {
        return Err(Error::failed(format!("the daemon loaded {subject} under another id than {id}")).help(
            "containerd's image store names images by their manifest: switch it off, or push to a registry",
        ));
    }
    task.done(id.short());
    Ok(id)
}

async fn transfer(daemon: &Daemon, image: &Image, send: Send) -> Result<()> {
    let doing = "load an image into the Docker daemon";
    let image = image.clone();
    let (archive, writing) = pipe::written(move |out| write(&image, send, out));
    let options = ImportImageOptionsBuilder::default().quiet(true).build();
    let mut answers = daemon.docker.import_image_stream(options, archive, None);
    let mut refused = None;
    while let Some(answer) = answers.next().await {
        match answer {
            Ok(answer) => {
                if let Some(message) = answer.error_detail.and_then(|detail| detail.message) {
                    refused = Some(Error::failed(format!("cannot {doing}")).because(Error::failed(message)));
                }
            }
            Err(error) => refused = Some(daemon.error(doing, error)),
        }
    }
    drop(answers);
    // What stopped the writing says more than the daemon's word about an archive that was cut.
    writing.await.expect("writing an archive does not panic")?;
    refused.map_or(Ok(()), Err)
}

/// `docker save`'s archive: manifest.json, the config, `DIFF_ID.tar.gz` for each layer that is sent. Blobs go as they are:
/// the daemon tells by their bytes how they are packed, inflates them (moby, image/tarexport/load.go, `loadLayer`) and checks
/// their diff_ids. Those that are zstd, which daemons before 23 do not read, are sent as tars.
fn write(image: &Image, send: Send, out: &mut impl Write) -> Result<()> {
    let mut archive = tar::Builder::new(out);
    let config = image.config_bytes();
    let config_name = format!("{}.json", Digest::of(&config).hex());
    let name = |layer: &Layer| format!("{}.tar.gz", layer.diff_id.0.hex());
    let layers: Vec<String> = image.layers().iter().map(name).collect();
    let manifest = json!([{ "Config": config_name, "RepoTags": null, "Layers": layers }]).to_string();
    append(&mut archive, "manifest.json", manifest.len() as u64, manifest.as_bytes())?;
    append(&mut archive, &config_name, config.len() as u64, &config[..])?;
    for (at, layer) in image.layers().iter().enumerate() {
        if matches!(send, Send::Above(there) if at < there) {
            continue;
        }
        match (&layer.content, send) {
            (Content::Memory(blob), _) => append(&mut archive, &name(layer), blob.len() as u64, &blob[..])?,
            (Content::File(path), Send::Whole | Send::Above(_)) => {
                append_blob(&mut archive, &name(layer), path)?;
            }
            (Content::Registry(repository), Send::Whole | Send::Above(_)) => {
                let (digest, repository) = (layer.descriptor.digest.short(), repository.clone());
                return Err(Error::failed(format!(
                    "layer {digest} is in {repository} and not on this machine"
                ))
                .help("let the daemon pull the image: docker pull REPOSITORY@DIGEST"));
            }
            (Content::File(_) | Content::Registry(_), Send::New) => {}
        }
    }
    archive.finish()?;
    Ok(())
}

fn append_blob<W: Write>(archive: &mut tar::Builder<W>, name: &str, path: &Path) -> io::Result<()> {
    let mut file = fs_err::File::open(path)?;
    let mut start = Vec::new();
    (&file).take(4).read_to_end(&mut start)?;
    file.rewind()?;
    match Packing::of(&start) {
        Packing::Plain | Packing::Gzip => append(archive, name, file.metadata()?.len(), file),
        Packing::Zstd => {
            // Its size comes before it in the archive, so it is unpacked twice: that is faster than to keep it anywhere.
            let size = io::copy(&mut unpacked(&mut file)?, &mut io::sink())?;
            file.rewind()?;
            append(archive, name, size, unpacked(file)?)
        }
    }
}

fn append<W: Write>(
    archive: &mut tar::Builder<W>,
    name: &str,
    size: u64,
    bytes: impl Read,
) -> io::Result<()> {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(tar::EntryType::Regular);
    header.set_mode(0o444);
    header.set_size(size);
    archive.append_data(&mut header, name, bytes)
}
