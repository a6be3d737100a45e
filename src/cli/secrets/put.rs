//! `imgforge secrets put NAME FILE`

use std::io::Read;
use std::path::PathBuf;

use clap::Args as ClapArgs;
use serde_json::json;

use crate::backends;
use crate::cli::result;
use crate::cli::session::Session;
use crate::error::{Error, Result};
use crate::secret::Secret;
use crate::secret::pinned::{self, Wanted};

/// Write a secret file to the store, after the checks that a release would make
#[derive(ClapArgs)]
#[command(
    after_help = "Examples:\n  imgforge secrets put server_settings server_settings.py -e production\n  \
    generate-settings | imgforge secrets put server_settings -"
)]
pub struct Args {
    /// A name in [secrets.files], or an object of the store
    name: String,
    /// The file, or - for standard input
    file: PathBuf,
    /// Check it and end
    #[arg(long)]
    dry_run: bool,
}

pub async fn run(session: &Session, args: Args) -> Result<()> {
    let config = session.config()?;
    let store = backends::store(&config).await?;
    let wanted = Wanted::named(&config, &args.name);
    let object = wanted.object.clone();
    if object == pinned::SALT_OBJECT {
        return Err(Error::config(format!("{object} is imgforge's own: another salt changes every digest")));
    }
    // Not on this thread: it has Ctrl-C to watch.
    let file = args.file.clone();
    let value =
        tokio::task::spawn_blocking(move || read(&file)).await.expect("reading a file does not panic")?;
    pinned::check(store.as_ref(), &wanted, &value)?;
    if args.dry_run {
        let human = format!("{object} is fine; it would go to {}", store.describe());
        return result::print(session.output(), "put", &json!({ "object": object, "written": false }), human);
    }
    let version = store.put(&object, &value).await?;
    let human = match &version {
        Some(version) => format!("{object} is in {}, version {version}", store.describe()),
        None => format!("{object} is in {}", store.describe()),
    };
    let value = json!({ "object": object, "store": store.describe(), "version": version, "written": true });
    result::print(session.output(), "put", &value, human)
}

fn read(path: &std::path::Path) -> Result<Secret> {
    let mut bytes = Vec::new();
    match path.to_str() {
        Some("-") => std::io::stdin().lock().read_to_end(&mut bytes).map_err(Error::from)?,
        _ => fs_err::File::open(path)
            .and_then(|mut file| file.read_to_end(&mut bytes))
            .map_err(|error| Error::config("cannot read the secret file").because(error))?,
    };
    Ok(Secret::new(bytes))
}
