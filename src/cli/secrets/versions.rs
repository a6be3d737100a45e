//! `imgforge secrets versions NAME`

use clap::Args as ClapArgs;

use crate::backends;
use crate::cli::result;
use crate::cli::session::Session;
use crate::error::{Error, Result};
use crate::image::inspect::human_size;

/// List the versions of a secret file, newest first
#[derive(ClapArgs)]
#[command(after_help = "Example:\n  imgforge secrets versions server_settings -e production")]
pub struct Args {
    /// A name in [secrets.files], or an object of the store
    name: String,
}

pub async fn run(session: &Session, args: Args) -> Result<()> {
    let config = session.config()?;
    let store = backends::store(&config).await?;
    let object = super::get::object(&config, &args.name);
    let versions = store.versions(&object).await?;
    if versions.is_empty() {
        if store.get(&object, None).await?.is_none() {
            return Err(super::get::missing(&object, &store.describe()));
        }
        return Err(Error::failed(format!("{} keeps no versions", store.describe()))
            .help("an S3 bucket does, once versioning is on: aws s3api put-bucket-versioning"));
    }
    let human: String = versions
        .iter()
        .map(|version| {
            let modified = version.modified.as_deref().unwrap_or("-");
            let latest = if version.latest { "  latest" } else { "" };
            format!("{}  {:>9}  {modified}{latest}\n", version.version, human_size(version.size))
        })
        .collect();
    result::print(session.output(), "versions", &versions, human)
}
