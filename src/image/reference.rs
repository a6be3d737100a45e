//! Names of images: `[host[:port]/]repository[:tag][@digest]` (distribution's reference grammar), and of those in an OCI
//! layout on disk: `oci:PATH[:tag][@digest]`.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

use crate::digest::Digest;
use crate::error::{Error, Result};

/// The registry that names without a host mean.
pub const DOCKER_HUB: &str = "docker.io";

/// A repository in a registry: host (with its port) and path.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Repository {
    /// `docker.io`, `127.0.0.1:5000`.
    pub host: String,
    /// `library/python`, `shop/web`.
    pub path: String,
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.host, self.path)
    }
}

impl Serialize for Repository {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl FromStr for Repository {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let reference: Reference = text.parse()?;
        match (&reference.tag, &reference.digest) {
            (None, None) => Ok(reference.repository),
            _ => Err(Error::config(format!("{text:?} should be a repository without tag and digest"))),
        }
    }
}

/// A tag: `[A-Za-z0-9_][A-Za-z0-9._-]{0,127}`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct Tag(String);

impl Tag {
    /// The tag as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Tag {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let first = text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_');
        let rest = text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'));
        if first && rest && text.len() <= 128 {
            return Ok(Tag(text.to_owned()));
        }
        Err(Error::config(format!("{text:?} is not a tag"))
            .help("a tag is up to 128 letters, digits, dots, dashes and underscores"))
    }
}

/// What picks one image in a repository.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Version {
    /// A name that can move.
    Tag(Tag),
    /// The manifest itself.
    Digest(Digest),
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Version::Tag(tag) => tag.fmt(f),
            Version::Digest(digest) => digest.fmt(f),
        }
    }
}

/// A full name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Reference {
    /// Where.
    pub repository: Repository,
    /// The tag, when one is written.
    pub tag: Option<Tag>,
    /// The digest, when one is written. With both, the digest counts.
    pub digest: Option<Digest>,
}

impl Reference {
    /// What the reference picks: the digest, else the tag, else `latest`.
    pub fn version(&self) -> Version {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => Version::Digest(*digest),
            (None, Some(tag)) => Version::Tag(tag.clone()),
            (None, None) => Version::Tag(Tag("latest".into())),
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.repository.fmt(f)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        match &self.digest {
            Some(digest) => write!(f, "@{digest}"),
            None => Ok(()),
        }
    }
}

impl Serialize for Reference {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl FromStr for Reference {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bad = |why: &str| Error::config(format!("{text:?} is not an image's name: {why}"));
        let is_layout = text.starts_with("oci:");
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.parse().map_err(|_| bad("the digest is malformed"))?)),
            None => (text, None),
        };
        // A colon after the last slash begins a tag; before it, it belongs to the host's port.
        let (name, tag) = match rest.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => {
                (name, Some(tag.parse::<Tag>().map_err(|_| bad("the tag is malformed"))?))
            }
            _ => (rest, None),
        };
        if is_layout {
            // A folder: no host, and no rules for its letters.
            let (host, path) = name.rsplit_once('/').ok_or_else(|| bad("a layout is oci:PATH/IMAGE"))?;
            return Ok(Reference {
                repository: Repository { host: host.into(), path: path.into() },
                tag,
                digest,
            });
        }
        let (host, path) = match name.split_once('/') {
            Some((host, path)) if host.contains(['.', ':']) || host == "localhost" => (host, path.to_owned()),
            Some(_) => (DOCKER_HUB, name.to_owned()),
            None => (DOCKER_HUB, format!("library/{name}")),
        };
        let host = if host == "index.docker.io" { DOCKER_HUB } else { host };
        let component = |part: &str| {
            let edge = |byte: Option<u8>| byte.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
            edge(part.bytes().next())
                && edge(part.bytes().last())
                && part
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-'))
        };
        if !path.split('/').all(component) {
            return Err(bad("a repository is lower case letters, digits, and . _ - between them"));
        }
        Ok(Reference { repository: Repository { host: host.to_owned(), path }, tag, digest })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_published_forms() {
        let digest = Digest::of(b"x");
        let pinned = format!("localhost:5000/a/b:t@{digest}");
        let cases = [
            ("python:3.13", "docker.io/library/python:3.13"),
            ("user/shop", "docker.io/user/shop"),
            ("docker.io/user/shop:1", "docker.io/user/shop:1"),
            ("index.docker.io/user/shop", "docker.io/user/shop"),
            ("127.0.0.1:5000/shop", "127.0.0.1:5000/shop"),
            ("localhost/shop", "localhost/shop"),
            ("registry.example.com:443/a/b/c:v1", "registry.example.com:443/a/b/c:v1"),
            (pinned.as_str(), pinned.as_str()),
            ("oci:.imgforge/images/web:1", "oci:.imgforge/images/web:1"),
        ];
        for (text, want) in cases {
            assert_eq!(text.parse::<Reference>().unwrap().to_string(), want, "{text}");
        }
    }

    #[test]
    fn the_digest_counts_when_both_are_there() {
        let digest = Digest::of(b"x");
        let reference: Reference = format!("a/b:t@{digest}").parse().unwrap();
        assert_eq!(reference.version(), Version::Digest(digest));
    }

    #[test]
    fn refuses_malformed_names() {
        for text in ["", "a//b", "A/b", "a/b:", "a/b:é", "a/b@sha256:12", "localhost:5000/", "-a/b"] {
            assert!(text.parse::<Reference>().is_err(), "{text}");
        }
    }
}
