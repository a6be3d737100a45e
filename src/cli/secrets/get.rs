//! `imgforge secrets get NAME`: the one command that writes a secret out, because it was asked to.

use std::io::IsTerminal;
use std::path::PathBuf;

use clap::Args as ClapArgs;

use crate::backends;
use crate::cli::result;
use crate::cli::session::Session;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::secret::Version;
use crate::secret::pinned::Wanted;

/// Write a secret file to stdout or to a file that only you can read
#[derive(ClapArgs)]
#[command(
    after_help = "Examples:\n  imgforge secrets get server_settings -e production --to server_settings.py\n  \
    imgforge secrets get server_settings | less"
)]
pub struct Args {
    /// A name in [secrets.files], or an object of the store
    name: String,
    /// This version instead of the newest
    #[arg(long, value_name = "VERSION")]
    version: Option<String>,
    /// Write it to this new file (mode 0600)
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
}

/// The object that a name stands for.
pub(super) fn object(config: &Config, name: &str) -> String {
    Wanted::named(config, name).object
}

pub(super) fn missing(object: &str, store: &str) -> Error {
    Error::failed(format!("there is no {object} in {store}"))
        .help(format!("see `imgforge secrets list`, or put it there: imgforge secrets put {object} FILE"))
}

pub async fn run(session: &Session, args: Args) -> Result<()> {
    if args.to.is_none() && std::io::stdout().is_terminal() {
        return Err(Error::config(
            "secrets are not written to a terminal, where they stay in its scroll-back",
        )
        .help("add --to FILE, or pipe it on: imgforge secrets get NAME | less"));
    }
    let config = session.config()?;
    let store = backends::store(&config).await?;
    let object = object(&config, &args.name);
    let version = args.version.map(Version);
    let found =
        store.get(&object, version.as_ref()).await?.ok_or_else(|| missing(&object, &store.describe()))?;
    match args.to {
        None => result::bytes(found.value.expose()),
        Some(path) => write_private(&path, found.value.expose())
            .map_err(|error| Error::from(error).context(format!("cannot write {}", path.display()))),
    }
}

/// A new file with mode 0600; one that is there is not overwritten.
fn write_private(path: &std::path::Path, bytes: &[u8]) -> std::io::Result<()> {
    use std::io::Write;
    let mut options = fs_err::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use fs_err::os::unix::fs::OpenOptionsExt;
        options.mode(0o600);
    }
    options.open(path)?.write_all(bytes)
}
