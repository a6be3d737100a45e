//! Makes the secret layer (contract 7).
//!
//! The rules, each for a reason: the files, and the folders above them exactly as the image has them: an entry with other
//! attributes would re-own the folder below it, and so would a missing one, since a Docker daemon makes parents that are not
//! listed anew, as root's (moby, pkg/archive/diff.go, `UnpackLayer`); fixed mtime, sorted paths and a pinned encoder, so that the same secrets give the same digest; a PAX comment with a salt that
//! is derived from the store's random salt object, so that nobody can check a guess at a short secret against the digest.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{Digests, LayerWriter};
use crate::config::{Compression, Mode, Owner};
use crate::error::{Error, Result};
use crate::secret::Secret;

/// A secret file at its place in an image.
#[derive(Debug, Clone)]
pub struct BakedFile {
    /// Absolute path in the image.
    pub path: String,
    /// Who owns it.
    pub owner: Owner,
    /// Its mode.
    pub mode: Mode,
    /// What is in it.
    pub value: Secret,
}

/// A folder as an image has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Folder {
    /// Who owns it.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// Its permissions, with set-id and sticky bits.
    pub mode: u32,
}

/// Folders by path, without a slash at either end.
pub type Folders = BTreeMap<String, Folder>;

/// The folders above files, without a slash at either end.
pub fn folders_above<'p>(paths: impl IntoIterator<Item = &'p str>) -> BTreeSet<String> {
    let mut above = BTreeSet::new();
    for path in paths {
        let path = path.trim_matches('/');
        above.extend(path.match_indices('/').map(|(end, _)| path[..end].to_owned()));
    }
    above
}

/// The secret layer, in memory and nowhere else.
#[derive(Debug, Clone)]
pub struct SecretLayer {
    /// The blob.
    pub blob: Bytes,
    /// Its digests.
    pub digests: Digests,
}

/// Makes the layer that holds `files`, whose order does not matter, and those of `folders` that are above them.
///
/// # Errors
/// No files, no salt, or a path that tar cannot hold.
pub fn bake(files: &[BakedFile], folders: &Folders, salt: &Secret) -> Result<SecretLayer> {
    if files.is_empty() {
        return Err(Error::failed("a secret layer without files makes no sense"));
    }
    if salt.is_empty() {
        return Err(Error::failed("a secret layer without a salt would let anyone guess at what is in it"));
    }
    let mut files: Vec<&BakedFile> = files.iter().collect();
    files.sort_by(|a, b| a.path.cmp(&b.path));
    // Always gzip, whatever the other layers are: there is nothing to gain in a few kilobytes, and so the same secrets give
    // the same layer everywhere, also in an image that is rotated by who does not know how it was built.
    let mut tar = tar::Builder::new(LayerWriter::new(Compression::Gzip, Vec::new()));
    tar.mode(tar::HeaderMode::Deterministic);
    let mut above = folders_above(files.iter().map(|file| file.path.as_str()));
    above.retain(|path| folders.contains_key(path));
    // All folders first: each is there before what is in it.
    for path in above {
        append_folder(&mut tar, &path, folders[&path])
            .map_err(|error| Error::failed(format!("cannot bake /{path}")).because(error))?;
    }
    for file in files {
        append(&mut tar, file, salt)
            .map_err(|error| Error::failed(format!("cannot bake {}", file.path)).because(error))?;
    }
    let (blob, digests) = tar.into_inner()?.finish()?;
    Ok(SecretLayer { blob: blob.into(), digests })
}

fn append<W: Write>(tar: &mut tar::Builder<W>, file: &BakedFile, salt: &Secret) -> std::io::Result<()> {
    let attributes = [
        u64::from(file.owner.uid).to_be_bytes(),
        u64::from(file.owner.gid).to_be_bytes(),
        u64::from(file.mode.0).to_be_bytes(),
    ]
    .concat();
    // Over everything in the entry: two files with one content still get salts that tell nothing of each other.
    let derived =
        salt.hmac(&[b"imgforge secret layer 1", file.path.as_bytes(), &attributes, file.value.expose()]);
    tar.append_pax_extensions([("comment", hex::encode(derived).as_bytes())])?;
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(tar::EntryType::Regular);
    header.set_size(file.value.len() as u64);
    header.set_uid(file.owner.uid.into());
    header.set_gid(file.owner.gid.into());
    header.set_mode(file.mode.0);
    header.set_mtime(0);
    let path = file.path.trim_start_matches('/');
    tar.append_data(&mut header, path, file.value.expose())
}

fn append_folder<W: Write>(tar: &mut tar::Builder<W>, path: &str, folder: Folder) -> io::Result<()> {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(tar::EntryType::Directory);
    header.set_size(0);
    header.set_uid(folder.uid.into());
    header.set_gid(folder.gid.into());
    header.set_mode(folder.mode);
    header.set_mtime(0);
    tar.append_data(&mut header, format!("{path}/"), io::empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, value: &str) -> BakedFile {
        BakedFile {
            path: path.into(),
            owner: Owner { uid: 1000, gid: 1000 },
            mode: Mode(0o400),
            value: Secret::new(value.into()),
        }
    }

    fn salt() -> Secret {
        Secret::new(vec![7; 32])
    }

    fn settings_and_ecs_config() -> Vec<BakedFile> {
        let mut ecs = file("/etc/ecs/ecs.config", "ECS_ENGINE_AUTH_TYPE=docker\n");
        ecs.owner = Owner { uid: 0, gid: 0 };
        vec![file("/home/docker/code/shop/server_settings.py", "SECRET_KEY = 'x'\n"), ecs]
    }

    fn entries(layer: &SecretLayer) -> Vec<(String, u64, u64, u32, u64, tar::EntryType)> {
        let mut tar = tar::Archive::new(flate2::read::GzDecoder::new(&layer.blob[..]));
        let read = |entry: std::io::Result<tar::Entry<'_, _>>| {
            let entry = entry.unwrap();
            let path = entry.path().unwrap().display().to_string();
            let header = entry.header();
            let (uid, gid) = (header.uid().unwrap(), header.gid().unwrap());
            (path, uid, gid, header.mode().unwrap(), header.mtime().unwrap(), header.entry_type())
        };
        tar.entries().unwrap().map(read).collect()
    }

    /// Contract 8: pinned, so that no change of this code moves a digest unseen.
    #[test]
    fn layer_is_golden() {
        let layer = bake(&settings_and_ecs_config(), &Folders::new(), &salt()).unwrap();
        assert_eq!(
            layer.digests.diff_id.to_string(),
            "sha256:86d9ba2bae8b1721982c435a3f8834b2fb1251907762f9b612e3c5717fb9fa44"
        );
        assert_eq!(
            layer.digests.digest.to_string(),
            "sha256:8dbb81ce076b73462ee67a081175421561e5cd3088f051f39ddab36727887a86"
        );
    }

    #[test]
    fn holds_regular_files_only_sorted_with_stated_owner_and_mode() {
        let layer = bake(&settings_and_ecs_config(), &Folders::new(), &salt()).unwrap();
        let regular = tar::EntryType::Regular;
        assert_eq!(
            entries(&layer),
            [
                ("etc/ecs/ecs.config".into(), 0, 0, 0o400, 0, regular),
                ("home/docker/code/shop/server_settings.py".into(), 1000, 1000, 0o400, 0, regular),
            ]
        );
    }

    #[test]
    fn order_of_the_files_does_not_matter() {
        let mut reversed = settings_and_ecs_config();
        reversed.reverse();
        let one = bake(&settings_and_ecs_config(), &Folders::new(), &salt()).unwrap();
        assert_eq!(one.digests, bake(&reversed, &Folders::new(), &salt()).unwrap().digests);
    }

    #[test]
    fn digest_depends_on_the_salt() {
        let one = bake(&[file("/s", "0000")], &Folders::new(), &salt()).unwrap();
        let two = bake(&[file("/s", "0000")], &Folders::new(), &Secret::new(vec![8; 32])).unwrap();
        assert_ne!(one.digests.diff_id, two.digests.diff_id);
    }

    #[test]
    fn a_path_longer_than_a_tar_header_is_kept() {
        let long = format!("/{}/settings.py", "d".repeat(90).repeat(3));
        let layer = bake(&[file(&long, "x")], &Folders::new(), &salt()).unwrap();
        assert_eq!(entries(&layer)[0].0, long[1..]);
    }

    #[test]
    fn folders_above_are_listed_as_the_image_has_them_and_others_are_not() {
        let folder = |uid, mode| Folder { uid, gid: uid, mode };
        let folders = Folders::from([
            ("home".into(), folder(0, 0o755)),
            ("home/docker".into(), folder(1000, 0o2750)),
            ("etc/ecs".into(), folder(0, 0o700)),
            ("srv".into(), folder(0, 0o755)),
        ]);
        let layer = bake(&settings_and_ecs_config(), &folders, &salt()).unwrap();
        let mut tar = tar::Archive::new(flate2::read::MultiGzDecoder::new(&layer.blob[..]));
        let listed: Vec<String> = tar
            .entries()
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                let header = entry.header();
                let path = entry.path().unwrap().display().to_string();
                format!(
                    "{path} {}:{} {:o}",
                    header.uid().unwrap(),
                    header.gid().unwrap(),
                    header.mode().unwrap()
                )
            })
            .collect();
        assert_eq!(
            listed,
            [
                "etc/ecs/ 0:0 700",
                "home/ 0:0 755",
                "home/docker/ 1000:1000 2750",
                "etc/ecs/ecs.config 0:0 400",
                "home/docker/code/shop/server_settings.py 1000:1000 400",
            ]
        );
    }
}
