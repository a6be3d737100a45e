//! Reads the secret files of a run once, each pinned to one version, and checks them.

use std::collections::BTreeMap;

use futures_util::future::join_all;

use super::{Listed, Object, Salt, Secret, SecretFile, SecretSet, SecretStore, Version, ecs_config, python};
use crate::config::Config;
use crate::error::{Error, Kind, Result};
use crate::random;

/// The object that holds the salt of secret layers and fingerprints, kept beside the secrets.
pub const SALT_OBJECT: &str = "imgforge.salt";
/// Its size.
const SALT_BYTES: usize = 32;
/// The version of a file in a store without versions, while there is no salt to make a fingerprint with.
const UNSALTED: &str = "unsalted";

/// What is done about a missing salt. Reading writes nothing in either case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SaltPolicy {
    /// A new one is drawn, for [`keep_salt`].
    DrawIfMissing,
    /// The set has none, and no layer can be baked with it.
    ReadOnly,
}

/// A secret file that a run needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Its name in `[secrets.files]`.
    pub name: String,
    /// The object in the store.
    pub object: String,
    /// Where it is baked, in any image. What a file is (Python, ecs.config) shows in its names.
    pub paths: Vec<String>,
    /// The version to read; the newest when none is named.
    pub version: Option<Version>,
}

impl Wanted {
    /// The secret files that images bake. Others are declared, but a run does without them.
    pub fn baked(config: &Config) -> Vec<Wanted> {
        let files = config.secrets.iter().flat_map(|secrets| &secrets.files);
        let wanted = files.map(|(name, object)| {
            let bakes = config.images.values().flat_map(|image| &image.bake);
            let paths =
                bakes.filter(|bake| bake.secret.get_ref() == name).map(|bake| bake.path.get_ref().clone());
            Wanted { name: name.clone(), object: object.clone(), paths: paths.collect(), version: None }
        });
        wanted.filter(|wanted| !wanted.paths.is_empty()).collect()
    }

    /// The secret file `name` of a configuration, or the object of that name.
    pub fn named(config: &Config, name: &str) -> Wanted {
        let baked = Wanted::baked(config).into_iter().find(|wanted| wanted.name == name);
        let object = config.secrets.as_ref().and_then(|secrets| secrets.files.get(name)).cloned();
        baked.unwrap_or_else(|| Wanted {
            name: name.to_owned(),
            object: object.unwrap_or_else(|| name.to_owned()),
            paths: Vec::new(),
            version: None,
        })
    }

    /// The same file at an earlier version.
    pub fn at(self, version: Version) -> Self {
        Wanted { version: Some(version), ..self }
    }

    fn file_names(&self) -> impl Iterator<Item = &str> {
        let whole = self.paths.iter().chain([&self.object]);
        whole.map(|path| path.rsplit('/').next().unwrap_or(path))
    }

    /// `settings.py`, and with a suffix that tells projects apart: `server_settings.py.shop`.
    fn is_python(&self) -> bool {
        self.file_names().any(|name| name.split('.').skip(1).any(|part| part == "py"))
    }

    fn is_ecs_config(&self) -> bool {
        self.name == "ecs_config" || self.file_names().any(|name| name == "ecs.config")
    }
}

/// Reads what is wanted, all at once, and checks each file by its kind.
///
/// # Errors
/// A file that is missing, empty or malformed, always by name and never with what is in it; a salt of a wrong size.
pub async fn read(store: &dyn SecretStore, wanted: &[Wanted], salt: SaltPolicy) -> Result<SecretSet> {
    let (objects, salt_read) = tokio::join!(
        join_all(wanted.iter().map(|wanted| read_one(store, wanted))),
        store.get(SALT_OBJECT, None)
    );
    let mut found = Vec::with_capacity(wanted.len());
    for (wanted, object) in wanted.iter().zip(objects) {
        let Some(object) = object? else { return Err(missing(store, wanted).await) };
        check(store, wanted, &object.value)?;
        found.push((wanted, object));
    }
    let salt = match (salt_read?, salt) {
        (Some(object), _) => Salt::Stored(sized(store, object.value)?),
        (None, SaltPolicy::DrawIfMissing) => Salt::Drawn(draw_salt()?),
        (None, SaltPolicy::ReadOnly) => Salt::Missing,
    };
    let mut files = BTreeMap::new();
    for (wanted, Object { value, version }) in found {
        let version = match version {
            Some(version) => version,
            None => {
                let fingerprint = fingerprint(&salt, &wanted.object, &value);
                still_the_same(store, wanted, &fingerprint)?;
                fingerprint
            }
        };
        let file = SecretFile { object: wanted.object.clone(), version, value };
        files.insert(wanted.name.clone(), file);
    }
    Ok(SecretSet { files, salt })
}

async fn read_one(store: &dyn SecretStore, wanted: &Wanted) -> Result<Option<Object>> {
    // A fingerprint names what was there, but a store without versions has only the present object to compare it with.
    let version = wanted.version.as_ref().filter(|version| !is_fingerprint(version));
    store.get(&wanted.object, version).await
}

/// What tells contents of one object apart, in 12 hex digits. Salted, so that it tells nothing of a short secret.
fn fingerprint(salt: &Salt, object: &str, value: &Secret) -> Version {
    let Some(salt) = salt.value() else { return Version(UNSALTED.into()) };
    let digest = salt.hmac(&[b"imgforge fingerprint 1", object.as_bytes(), value.expose()]);
    Version(hex::encode(&digest[..6]))
}

fn is_fingerprint(version: &Version) -> bool {
    let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    version.0 == UNSALTED || (version.0.len() == 12 && version.0.bytes().all(hex))
}

fn still_the_same(store: &dyn SecretStore, wanted: &Wanted, now: &Version) -> Result<()> {
    match &wanted.version {
        Some(version) if version != now => Err(Error::refused(format!(
            "{} has changed since version {version}, and {} keeps no earlier versions",
            wanted.object,
            store.describe()
        ))
        .help("put the earlier file back, or keep secrets in a bucket with versioning")),
        _ => Ok(()),
    }
}

/// The error for an object that is not there, with the one that was probably meant.
async fn missing(store: &dyn SecretStore, wanted: &Wanted) -> Error {
    let Wanted { name, object, .. } = wanted;
    let error = Error::refused(format!("secret file {name}: there is no {object} in {}", store.describe()));
    let put = format!("imgforge secrets put {name} FILE");
    // A listing that fails only costs the suggestion: the missing object is the news.
    match nearest(object, &store.list().await.unwrap_or_default()) {
        Some(near) => error.help(format!("did you mean {near}? Else write it with: {put}")),
        None => error.help(format!("write it with: {put}")),
    }
}

fn nearest<'l>(object: &str, listed: &'l [Listed]) -> Option<&'l str> {
    const SIMILAR: f64 = 0.7;
    let scored = listed.iter().map(|listed| {
        let name = listed.object.as_str();
        let same_file = name.rsplit('/').next() == object.rsplit('/').next();
        (if same_file { 1.0 } else { strsim::jaro_winkler(object, name) }, name)
    });
    scored.filter(|(score, _)| *score >= SIMILAR).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, name)| name)
}

/// Whether `value` could be the secret file `wanted` of `store`: it is not empty, and is what its names say.
///
/// # Errors
/// It could not; never with what is in it.
pub fn check(store: &dyn SecretStore, wanted: &Wanted, value: &Secret) -> Result<()> {
    let Wanted { name, object, .. } = wanted;
    let put = format!("write it with: imgforge secrets put {name} FILE");
    let place = format!("secret file {name} ({object} in {})", store.describe());
    if value.is_empty() {
        return Err(Error::refused(format!("{place} is empty")).help(put));
    }
    if value.is_blank() {
        return Err(Error::refused(format!("{place} holds nothing but white space")).help(put));
    }
    if wanted.is_python() {
        python::check(value, &place)?;
    }
    if wanted.is_ecs_config() {
        ecs_config::parse(value, &place)?;
    }
    Ok(())
}

fn draw_salt() -> Result<Secret> {
    let mut bytes = vec![0; SALT_BYTES];
    random::fill(&mut bytes)?;
    Ok(Secret::new(bytes))
}

/// Puts a salt that was drawn into the store; nothing happens when it came from there. To be called when everything that
/// could be refused was looked at, and before anything is baked.
///
/// # Errors
/// [`Kind::Locked`] when another run has put one there meanwhile: the versions that this run shows are salted with its own.
pub async fn keep_salt(store: &dyn SecretStore, salt: &Salt) -> Result<()> {
    let Salt::Drawn(salt) = salt else { return Ok(()) };
    if store.create(SALT_OBJECT, salt).await? {
        return Ok(());
    }
    Err(Error::new(
        Kind::Locked,
        format!("another run has written {SALT_OBJECT} to {} meanwhile", store.describe()),
    )
    .help("run the same command again: it goes on with that one"))
}

fn sized(store: &dyn SecretStore, salt: Secret) -> Result<Secret> {
    if salt.len() == SALT_BYTES {
        return Ok(salt);
    }
    Err(Error::refused(format!(
        "{SALT_OBJECT} in {} has {} bytes and should have {SALT_BYTES}",
        store.describe(),
        salt.len()
    ))
    .help(
        "something else wrote it: bring its earlier version back, or remove it and imgforge makes a new one",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(name: &str, object: &str, paths: &[&str]) -> Wanted {
        let paths = paths.iter().map(|path| (*path).to_owned()).collect();
        Wanted { name: name.into(), object: object.into(), paths, version: None }
    }

    #[test]
    fn kinds_show_in_names() {
        assert!(wanted("s", "server_settings.py.shop", &[]).is_python());
        assert!(wanted("s", "blob", &["/code/settings.py"]).is_python());
        assert!(!wanted("s", "python.pyx", &["/home/x.py.d/blob"]).is_python());
        assert!(wanted("ecs_config", "blob", &[]).is_ecs_config());
        assert!(wanted("e", "prod/ecs.config", &[]).is_ecs_config());
        assert!(!wanted("e", "my-ecs.config", &[]).is_ecs_config());
    }

    #[test]
    fn fingerprints_depend_on_salt_name_and_content() {
        let salt = |byte| Salt::Stored(Secret::new(vec![byte; SALT_BYTES]));
        let value = |text: &str| Secret::new(text.into());
        let one = fingerprint(&salt(1), "a", &value("x"));
        assert_eq!(one, fingerprint(&salt(1), "a", &value("x")));
        assert!(is_fingerprint(&one), "{one}");
        assert_ne!(one, fingerprint(&salt(2), "a", &value("x")));
        assert_ne!(one, fingerprint(&salt(1), "b", &value("x")));
        assert_ne!(one, fingerprint(&salt(1), "a", &value("y")));
        assert!(!is_fingerprint(&Version("3HL4kqtJvjVBH40N".into())));
    }
}
