//! The two families of media types: Docker's (image manifest v2, schema 2) and OCI's (image-spec, media-types.md).

use serde::Serialize;

use crate::config::Compression;

/// Which family of media types an image uses. Never mixed in one manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Docker image manifest v2, schema 2.
    Docker,
    /// OCI image-spec 1.x.
    Oci,
}

/// Media types of manifests and indexes.
pub mod media_type {
    /// OCI image manifest.
    pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    /// OCI image index.
    pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
    /// Docker manifest.
    pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
    /// Docker manifest list.
    pub const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
}

/// A layer's media types, Docker's and OCI's.
struct LayerType {
    /// Docker's own; none where its specification has none.
    docker: Option<&'static str>,
    /// What some tools write into Docker's manifests all the same (containerd, images/mediatypes.go).
    seen: Option<&'static str>,
    oci: &'static str,
}

const GZIP: LayerType = LayerType {
    docker: Some("application/vnd.docker.image.rootfs.diff.tar.gzip"),
    seen: None,
    oci: "application/vnd.oci.image.layer.v1.tar+gzip",
};
const ZSTD: LayerType = LayerType {
    docker: None,
    seen: Some("application/vnd.docker.image.rootfs.diff.tar.zstd"),
    oci: "application/vnd.oci.image.layer.v1.tar+zstd",
};
const PLAIN: LayerType = LayerType {
    docker: Some("application/vnd.docker.image.rootfs.diff.tar"),
    seen: None,
    oci: "application/vnd.oci.image.layer.v1.tar",
};
const FOREIGN: LayerType = LayerType {
    docker: Some("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"),
    seen: None,
    oci: "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
};

impl LayerType {
    fn of(media_type: &str) -> Option<&'static Self> {
        let known = [&GZIP, &ZSTD, &PLAIN, &FOREIGN];
        known.into_iter().find(|known| {
            known.oci == media_type || known.docker == Some(media_type) || known.seen == Some(media_type)
        })
    }
}

impl Kind {
    /// The media type of its manifest.
    pub fn manifest(self) -> &'static str {
        match self {
            Kind::Docker => media_type::DOCKER_MANIFEST,
            Kind::Oci => media_type::OCI_MANIFEST,
        }
    }

    /// The media type of an index of its images.
    pub fn index(self) -> &'static str {
        match self {
            Kind::Docker => media_type::DOCKER_INDEX,
            Kind::Oci => media_type::OCI_INDEX,
        }
    }

    /// The media type of its config.
    pub fn config(self) -> &'static str {
        match self {
            Kind::Docker => "application/vnd.docker.container.image.v1+json",
            Kind::Oci => "application/vnd.oci.image.config.v1+json",
        }
    }

    /// The media type of a layer compressed with gzip.
    pub fn gzip_layer(self) -> &'static str {
        match self {
            Kind::Docker => GZIP.docker.expect("Docker's layers are gzip"),
            Kind::Oci => GZIP.oci,
        }
    }

    /// OCI's media type of a layer that is compressed so.
    pub fn oci_layer(compression: Compression) -> &'static str {
        match compression {
            Compression::Gzip => GZIP.oci,
            Compression::Zstd => ZSTD.oci,
        }
    }

    /// What a layer of this media type, of either family, is called in this one: none when it has no such layers, or nobody
    /// knows of any.
    pub fn layer(self, media_type: &str) -> Option<&'static str> {
        let known = LayerType::of(media_type)?;
        match self {
            Kind::Docker => known.docker,
            Kind::Oci => Some(known.oci),
        }
    }

    /// The family that has room for layers of these media types: this one where it can be.
    pub(super) fn with_room_for<'m>(self, mut layers: impl Iterator<Item = &'m str>) -> Self {
        let homeless =
            |media_type: &str| LayerType::of(media_type).is_some_and(|known| known.docker.is_none());
        if layers.any(homeless) { Kind::Oci } else { self }
    }

    pub(super) fn of_manifest(media_type: &str) -> Option<Self> {
        [Kind::Docker, Kind::Oci].into_iter().find(|kind| kind.manifest() == media_type)
    }
}
