//! What the folders of a built image are like.
//!
//! The daemon tells it of a container that is made from the image and never started: the archive of a path begins with the
//! path itself (Docker Engine API, "Get an archive of a filesystem resource in a container"). Nothing more of it is read.

use std::collections::BTreeSet;
use std::io;

use bollard::models::ContainerCreateBody;
use bollard::query_parameters::{CreateContainerOptions, DownloadFromContainerOptionsBuilder};
use futures_util::StreamExt;

use crate::engine::Built;
use crate::engine::daemon::Daemon;
use crate::error::{Error, Result};
use crate::layer::bake::{Folder, Folders};

/// Reads what those of `wanted` are like that the image has.
///
/// # Errors
/// The daemon's.
pub(super) async fn folders(daemon: &Daemon, built: &Built, wanted: &BTreeSet<String>) -> Result<Folders> {
    let doing = format!("look at the folders of {}", built.image);
    let body = ContainerCreateBody {
        image: Some(built.id.to_string()),
        // Never run; an image without a command makes no container otherwise.
        cmd: Some(vec!["-".into()]),
        ..ContainerCreateBody::default()
    };
    let made = daemon.docker.create_container(None::<CreateContainerOptions>, body).await;
    let container = made.map_err(|error| daemon.error(&doing, error))?.id;
    let looked = look(daemon, &container, wanted, &doing).await;
    let removed = daemon.remove_container(&container).await;
    let folders = looked?;
    removed.map(|()| folders)
}

async fn look(daemon: &Daemon, container: &str, wanted: &BTreeSet<String>, doing: &str) -> Result<Folders> {
    let mut folders = Folders::new();
    for path in wanted {
        // Below a folder that is not there, or is a link, there is nothing to keep.
        let parent = path.rsplit_once('/').map(|(parent, _)| parent);
        if parent.is_some_and(|parent| !folders.contains_key(parent)) {
            continue;
        }
        if let Some(folder) = folder(daemon, container, path, doing).await? {
            folders.insert(path.clone(), folder);
        }
    }
    Ok(folders)
}

async fn folder(daemon: &Daemon, container: &str, path: &str, doing: &str) -> Result<Option<Folder>> {
    use bollard::errors::Error::DockerResponseServerError;
    let options = DownloadFromContainerOptionsBuilder::default().path(&format!("/{path}")).build();
    let mut archive = std::pin::pin!(daemon.docker.download_from_container(container, Some(options)));
    let mut begun = Vec::new();
    loop {
        match archive.next().await {
            Some(Ok(bytes)) => begun.extend_from_slice(&bytes),
            Some(Err(DockerResponseServerError { status_code: 404, .. })) => return Ok(None),
            Some(Err(error)) => return Err(daemon.error(doing, error)),
            None => return Err(Error::failed(format!("cannot {doing}: /{path} has no end"))),
        }
        if let Some(first) =
            first(&begun).map_err(|error| Error::failed(format!("cannot {doing}")).because(error))?
        {
            return Ok(first);
        }
    }
}

/// The first entry of a tar of which there is only the beginning; none as long as that is too short.
fn first(begun: &[u8]) -> io::Result<Option<Option<Folder>>> {
    let mut archive = tar::Archive::new(begun);
    let entry = match archive.entries()?.next() {
        Some(Ok(entry)) => entry,
        Some(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof || begun.len() < 4096 => {
            tracing::trace!(%error, "too short yet");
            return Ok(None);
        }
        Some(Err(error)) => return Err(error),
        None => return Ok(None),
    };
    let header = entry.header();
    if header.entry_type() != tar::EntryType::Directory {
        return Ok(Some(None));
    }
    let number = |value: u64| u32::try_from(value).map_err(io::Error::other);
    Ok(Some(Some(Folder {
        uid: number(header.uid()?)?,
        gid: number(header.gid()?)?,
        mode: header.mode()? & 0o7777,
    })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_entry_is_known_when_enough_is_there() {
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(tar::EntryType::Directory);
        header.set_size(0);
        header.set_uid(1000);
        header.set_gid(1001);
        header.set_mode(0o40750);
        tar.append_data(&mut header, "docker/", io::empty()).unwrap();
        let bytes = tar.into_inner().unwrap();
        let want = Folder { uid: 1000, gid: 1001, mode: 0o750 };
        assert_eq!(first(&bytes[..100]).unwrap(), None);
        assert_eq!(first(&bytes[..512]).unwrap(), Some(Some(want)));
    }
}
