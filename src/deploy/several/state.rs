//! What the services run and what was made ready for them, as the handles of [`Running`] and [`Prepared`] hold it.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::deploy::taskdef::{Container, runs};
use crate::deploy::{Prepared, Running};
use crate::error::{Error, Result};
use crate::image::reference::{Reference, Repository};

/// A service's [`Running`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Seen {
    pub(super) description: String,
    pub(super) containers: BTreeMap<String, String>,
    /// As text.
    images: BTreeMap<String, String>,
    pub(super) handle: Option<String>,
}

impl From<Running> for Seen {
    fn from(running: Running) -> Self {
        let images = running.images.into_iter().map(|(name, reference)| (name, reference.to_string()));
        Seen {
            description: running.description,
            containers: running.containers,
            images: images.collect(),
            handle: running.handle,
        }
    }
}

impl Seen {
    pub(super) fn running(&self) -> Result<Running> {
        let images =
            self.images.iter().map(|(name, reference)| Ok((name.clone(), reference.parse::<Reference>()?)));
        Ok(Running {
            description: self.description.clone(),
            containers: self.containers.clone(),
            services: Vec::new(),
            images: images.collect::<Result<_>>()?,
            handle: self.handle.clone(),
        })
    }

    pub(super) fn has(&self, container: &str) -> bool {
        self.containers.contains_key(container)
    }

    fn all(&self) -> impl Iterator<Item = Container<'_>> {
        self.containers.iter().map(|(name, image)| Container { name, image })
    }

    /// Whether some container gets the image: it has its name, or runs one from its repository.
    pub(super) fn runs(&self, image: &str, repository: Option<&Repository>) -> bool {
        self.all().any(|container| runs(container, image, repository))
    }

    fn runs_from(&self, repository: &Repository) -> bool {
        let is_from = |image: &str| image.parse::<Reference>().is_ok_and(|at| at.repository == *repository);
        self.all().any(|container| is_from(container.image))
    }
}

/// The images that run, as far as all services that run one agree on which it is.
pub(super) fn agreed(
    seen: &[Seen],
    repositories: &BTreeMap<String, Repository>,
) -> BTreeMap<String, Reference> {
    let agreed = repositories.iter().filter_map(|(name, repository)| {
        let mut found = seen.iter().filter(|seen| seen.runs_from(repository)).map(|at| at.images.get(name));
        // One whose own containers do not agree has none.
        let first = found.next()??;
        found.all(|other| other == Some(first)).then(|| Some((name.clone(), first.parse().ok()?)))?
    });
    agreed.collect()
}

/// A service: what it ran, and what was made ready for it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Part {
    pub(super) seen: Seen,
    description: String,
    pub(super) unchanged: bool,
    handle: String,
}

impl Part {
    pub(super) fn prepared(&self) -> Prepared {
        Prepared {
            description: self.description.clone(),
            unchanged: self.unchanged,
            handle: self.handle.clone(),
        }
    }
}

/// [`Prepared::handle`]
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Parts(pub(super) Vec<Part>);

impl Parts {
    pub(super) fn of(seen: Vec<Seen>, prepared: Vec<Prepared>) -> Self {
        let parts = seen.into_iter().zip(prepared).map(|(seen, prepared)| {
            let Prepared { description, unchanged, handle } = prepared;
            Part { seen, description, unchanged, handle }
        });
        Parts(parts.collect())
    }

    pub(super) fn write(&self) -> Result<String> {
        write(self)
    }

    pub(super) fn read(prepared: &Prepared) -> Result<Self> {
        read(Some(&prepared.handle))
    }
}

pub(super) fn write<T: Serialize + ?Sized>(state: &T) -> Result<String> {
    serde_json::to_string(state).map_err(|error| Error::failed("cannot note what runs").because(error))
}

pub(super) fn read<T: DeserializeOwned>(text: Option<&str>) -> Result<T> {
    serde_json::from_str(text.unwrap_or_default())
        .map_err(|error| Error::failed("this state was not made for several services").because(error))
}
