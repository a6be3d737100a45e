//! `imgforge diff`: what one image has that another has not.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use clap::Args as ClapArgs;
use serde::Serialize;

use super::result;
use super::session::{Session, environment_variable};
use crate::backends::{self, ImageTarget};
use crate::base::platform;
use crate::digest::Digest;
use crate::error::Result;
use crate::image::inspect::human_size;
use crate::image::{Image, seam};
use crate::layer::files::{Change, Difference, Files};
use crate::registry::files;

/// Show how two images differ: layers, secret versions, and file by file
///
/// Contents are compared and never shown. Layers are read through and not kept.
#[derive(ClapArgs)]
#[command(after_help = "Examples:\n  imgforge diff docker.io/user/shop-web:1 docker.io/user/shop-web:2\n  \
    imgforge diff web oci:.imgforge/images/web@sha256:…")]
pub struct Args {
    /// An image's name in imgforge.toml, a reference, or oci:PATH[:TAG|@DIGEST]
    first: String,
    /// Another one
    second: String,
    /// Of an index, the image for this platform
    #[arg(long, value_name = "OS/ARCH", default_value_t = platform::here())]
    platform: String,
}

#[derive(Serialize)]
struct Diff {
    /// The manifests' digests.
    first: Digest,
    second: Digest,
    /// How many layers, from the bottom up, are the same.
    shared_layers: usize,
    first_layers: usize,
    second_layers: usize,
    /// Secret versions that are not the same, before and after.
    secrets: BTreeMap<String, (Option<String>, Option<String>)>,
    files: Vec<Difference>,
}

pub async fn run(session: &Session, args: Args) -> Result<()> {
    let find = async |name: &str| -> Result<(ImageTarget, Image)> {
        let target = backends::image_target(name, || session.config(), &environment_variable).await?;
        let image = target.read(&args.platform).await?;
        Ok((target, image))
    };
    let ((one, first), (two, second)) = futures_util::try_join!(find(&args.first), find(&args.second))?;
    let shared =
        first.layers().iter().zip(second.layers()).take_while(|(a, b)| a.diff_id == b.diff_id).count();
    let same = shared == first.layers().len() && shared == second.layers().len();
    let differences = match same {
        true => Vec::new(),
        false => {
            let of = async |target: &ImageTarget, image: &Image, layers: Range<usize>, below: Files| {
                let ImageTarget { registry, repository, .. } = target;
                files::read(registry.as_ref(), repository, image, layers, below, session.reporter()).await
            };
            // What both have is read once.
            let below = of(&one, &first, 0..shared, Files::default()).await?;
            let before = of(&one, &first, shared..first.layers().len(), below.clone());
            let after = of(&two, &second, shared..second.layers().len(), below);
            let (before, after) = futures_util::try_join!(before, after)?;
            before.differences(&after)
        }
    };
    let (old, new) = (seam::versions(&first), seam::versions(&second));
    let names = old.keys().chain(new.keys()).filter(|name| old.get(*name) != new.get(*name));
    let secrets = names.map(|name| (name.clone(), (old.get(name).cloned(), new.get(name).cloned())));
    let diff = Diff {
        first: first.digest(),
        second: second.digest(),
        shared_layers: shared,
        first_layers: first.layers().len(),
        second_layers: second.layers().len(),
        secrets: secrets.collect(),
        files: differences,
    };
    result::print(session.output(), "diff", &diff, &diff)
}

impl fmt::Display for Diff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "first   {}", self.first)?;
        writeln!(f, "second  {}", self.second)?;
        let (one, two) = (self.first_layers, self.second_layers);
        writeln!(f, "layers  {} are the same, of {one} and {two}", self.shared_layers)?;
        for (name, (before, after)) in &self.secrets {
            let word = |version: &Option<String>| version.clone().unwrap_or_else(|| "none".into());
            writeln!(f, "secret  {name}: {} → {}", word(before), word(after))?;
        }
        for file in &self.files {
            let size = |size: Option<u64>| human_size(size.unwrap_or_default());
            match file.change {
                Change::Added => writeln!(f, "+ {}  {}", file.path, size(file.after))?,
                Change::Removed => writeln!(f, "- {}  {}", file.path, size(file.before))?,
                Change::Changed => {
                    writeln!(f, "~ {}  {}", file.path, file.what.join(", "))?;
                }
            }
        }
        if self.files.is_empty() {
            writeln!(f, "no file differs")?;
        }
        Ok(())
    }
}
