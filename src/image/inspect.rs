//! What an image is made of, for people: each layer with its size and what made it, the seam, the secret versions.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;
use serde_json::Value;

use super::{Image, Kind, seam};
use crate::digest::{DiffId, Digest};
use crate::error::Result;

/// One layer of an inspected image.
#[derive(Debug, Clone, Serialize)]
pub struct InspectedLayer {
    /// The blob.
    pub digest: Digest,
    /// The tar inside.
    pub diff_id: DiffId,
    /// Bytes of the blob.
    pub size: u64,
    /// What made it, as the history says; empty when it does not.
    pub created_by: String,
    /// Whether it is the secret layer.
    pub seam: bool,
}

/// An image taken apart.
#[derive(Debug, Clone, Serialize)]
pub struct Inspected {
    /// Docker or OCI.
    pub kind: Kind,
    /// The manifest's digest.
    pub digest: Digest,
    /// The config's digest: the id on a Docker daemon.
    pub config: Digest,
    /// `linux/amd64`
    pub platform: String,
    /// When it was built.
    pub created: Option<String>,
    /// Whom it runs as.
    pub user: Option<String>,
    /// Bytes of all layers.
    pub size: u64,
    /// Bottom first.
    pub layers: Vec<InspectedLayer>,
    /// The secret files' versions, by name.
    pub secrets: BTreeMap<String, String>,
}

/// Takes an image apart.
///
/// # Errors
/// A seam label that points at no layer.
pub fn inspect(image: &Image) -> Result<Inspected> {
    let seam = seam::find(image)?;
    let made_by = created_by(image);
    let layers = image.layers().iter().enumerate().map(|(index, layer)| InspectedLayer {
        digest: layer.descriptor.digest,
        diff_id: layer.diff_id,
        size: layer.descriptor.size,
        created_by: made_by.get(index).cloned().unwrap_or_default(),
        seam: seam == Some(index),
    });
    let text = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned);
    Ok(Inspected {
        kind: image.kind(),
        digest: image.digest(),
        config: image.config_descriptor().digest,
        platform: image.platform(),
        created: text(image.config().get("created")),
        user: text(image.config().get("config").and_then(|config| config.get("User"))),
        size: image.size(),
        layers: layers.collect(),
        secrets: seam::versions(image),
    })
}

/// `created_by` of each layer. History has entries without a layer, and may be missing (OCI image-spec, config.md).
fn created_by(image: &Image) -> Vec<String> {
    let history =
        image.config().get("history").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let with_layer =
        history.iter().filter(|entry| entry.get("empty_layer").and_then(Value::as_bool) != Some(true));
    with_layer
        .map(|entry| entry.get("created_by").and_then(Value::as_str).unwrap_or_default().to_owned())
        .collect()
}

/// Bytes as people read them: `217.0 MB` (powers of 1000, as Docker prints them).
pub fn human_size(bytes: u64) -> String {
    let units = ["B", "kB", "MB", "GB", "TB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 999.95 && unit + 1 < units.len() {
        value /= 1000.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{value:.1} {}", units[unit]) }
}

impl fmt::Display for Inspected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "digest    {}", self.digest)?;
        writeln!(f, "id        {}", self.config)?;
        let kind = if self.kind == Kind::Docker { "Docker" } else { "OCI" };
        writeln!(f, "kind      {kind}, {}", self.platform)?;
        writeln!(f, "created   {}", self.created.as_deref().unwrap_or("not said"))?;
        writeln!(f, "user      {}", self.user.as_deref().filter(|user| !user.is_empty()).unwrap_or("root"))?;
        writeln!(f, "size      {} in {} layers", human_size(self.size), self.layers.len())?;
        for (name, version) in &self.secrets {
            writeln!(f, "secret    {name}, version {version}")?;
        }
        for layer in &self.layers {
            let what = match layer.seam {
                true => "secret layer".to_owned(),
                false => one_line(&layer.created_by),
            };
            writeln!(f, "{:>10}  {}  {what}", human_size(layer.size), layer.digest.short())?;
        }
        Ok(())
    }
}

/// At most 72 characters, white space folded.
fn one_line(text: &str) -> String {
    let folded = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match folded.char_indices().nth(72) {
        Some((cut, _)) => format!("{}…", &folded[..cut]),
        None => folded,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_readable() {
        let cases = [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (217_000_000, "217.0 MB"),
            (999_999, "1.0 MB"),
            (1_500_000_000, "1.5 GB"),
        ];
        for (bytes, want) in cases {
            assert_eq!(human_size(bytes), want);
        }
    }
}
