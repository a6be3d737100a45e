//! Secret values and where they come from.
//!
//! Invariant (contract 6): a [`Secret`] can be neither printed nor serialized. Its bytes leave it only through
//! [`Secret::expose`], and the callers of that are few: `layer/bake`, `secret/*`, the registry login.

use std::collections::BTreeMap;
use std::fmt;

use async_trait::async_trait;
use hmac::{Hmac, KeyInit, Mac};
use serde::Serialize;
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::error::Result;

pub mod dir;
pub mod ecs_config;
pub mod pinned;
pub mod python;
pub mod s3;

/// Bytes that must not be seen. They are wiped when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// Takes the bytes over.
    pub fn new(bytes: Vec<u8>) -> Self {
        Secret(Zeroizing::new(bytes))
    }

    /// The bytes themselves. Whoever calls this answers for where they go.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// How many bytes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether it has no bytes at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether there is nothing but white space in it.
    pub fn is_blank(&self) -> bool {
        self.0.iter().all(u8::is_ascii_whitespace)
    }

    /// HMAC-SHA256 of `message` under this secret as the key (RFC 2104).
    pub fn hmac(&self, message: &[&[u8]]) -> [u8; 32] {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes keys of any length");
        for part in message {
            // Lengths keep ("ab", "c") and ("a", "bc") apart.
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part);
        }
        mac.finalize().into_bytes().into()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({} bytes)", self.len())
    }
}

/// Names one version of one object: S3's VersionId, or a salted fingerprint where the store keeps no versions.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Version(pub String);

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An object as the store gave it.
#[derive(Debug, Clone)]
pub struct Object {
    /// Its bytes.
    pub value: Secret,
    /// Its version, where the store keeps versions.
    pub version: Option<Version>,
}

/// One line of a listing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Listed {
    /// The object's name, without the store's prefix.
    pub object: String,
    /// Bytes.
    pub size: u64,
    /// When it was written, RFC 3339, UTC.
    pub modified: Option<String>,
}

/// One version of an object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ObjectVersion {
    /// Its version.
    pub version: Version,
    /// Bytes.
    pub size: u64,
    /// When it was written, RFC 3339, UTC.
    pub modified: Option<String>,
    /// Whether it is what a plain read gives.
    pub latest: bool,
}

/// Where secret files live.
#[async_trait]
pub trait SecretStore: Send + Sync {
    /// As written in imgforge.toml: `s3://bucket/prefix`, `dir:secrets`.
    fn describe(&self) -> String;

    /// Reads an object, its newest version when none is named. `None` when there is no such object.
    ///
    /// # Errors
    /// Refused access, an unreachable store, a version that is not there.
    async fn get(&self, object: &str, version: Option<&Version>) -> Result<Option<Object>>;

    /// Writes an object; the new version where the store keeps them.
    async fn put(&self, object: &str, value: &Secret) -> Result<Option<Version>>;

    /// Writes an object only if there is none of that name; whether it did. Of two callers at once one wins.
    async fn create(&self, object: &str, value: &Secret) -> Result<bool>;

    /// Every object, sorted by name. imgforge's own salt is left out.
    async fn list(&self) -> Result<Vec<Listed>>;

    /// The versions of an object, newest first. Empty where the store keeps none.
    async fn versions(&self, object: &str) -> Result<Vec<ObjectVersion>>;

    /// What about the store itself should worry its owner (no versioning, readable by others); for `doctor`.
    async fn problems(&self) -> Result<Vec<String>>;
}

/// A secret file, pinned to one version for the whole run.
#[derive(Debug, Clone)]
pub struct SecretFile {
    /// The object in the store.
    pub object: String,
    /// Which version was read.
    pub version: Version,
    /// Its bytes.
    pub value: Secret,
}

/// All secret files of a run, by their names in imgforge.toml, with the salt that was beside them.
/// Made by [`pinned::read`] alone.
#[derive(Debug, Clone)]
pub struct SecretSet {
    /// By name in `[secrets.files]`.
    pub files: BTreeMap<String, SecretFile>,
    /// What makes digests tell nothing of what is in them.
    pub salt: Salt,
}

/// 32 random bytes that live in the store ([`pinned::SALT_OBJECT`]).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Salt {
    /// As the store has it.
    Stored(Secret),
    /// The store has none yet: [`pinned::keep_salt`] puts this one there before anything is baked with it.
    Drawn(Secret),
    /// The store has none, and the run only looks.
    Missing,
}

impl Salt {
    /// Its bytes, when there is one.
    pub fn value(&self) -> Option<&Secret> {
        match self {
            Salt::Stored(value) | Salt::Drawn(value) => Some(value),
            Salt::Missing => None,
        }
    }
}

impl SecretSet {
    /// No secret files at all.
    pub fn none() -> Self {
        SecretSet { files: BTreeMap::new(), salt: Salt::Missing }
    }

    /// The same as text, as plans and release ids have them.
    pub fn version_texts(&self) -> BTreeMap<String, String> {
        self.files.iter().map(|(name, file)| (name.clone(), file.version.0.clone())).collect()
    }

    /// The versions that a run is pinned to, by name. This may be shown.
    pub fn versions(&self) -> BTreeMap<String, Version> {
        self.files.iter().map(|(name, file)| (name.clone(), file.version.clone())).collect()
    }
}
