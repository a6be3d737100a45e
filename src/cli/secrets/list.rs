//! `imgforge secrets list`

use clap::Args as ClapArgs;

use crate::backends;
use crate::cli::result;
use crate::cli::session::Session;
use crate::error::Result;
use crate::image::inspect::human_size;

/// List the objects in the store
#[derive(ClapArgs)]
#[command(after_help = "Example:\n  imgforge secrets list -e production")]
pub struct Args {}

pub async fn run(session: &Session, _: Args) -> Result<()> {
    let config = session.config()?;
    let store = backends::store(&config).await?;
    let listed = store.list().await?;
    let width = listed.iter().map(|one| one.object.len()).max().unwrap_or(0);
    let named = |object: &str| {
        let files = config.secrets.iter().flat_map(|secrets| &secrets.files);
        files.filter(|(_, file)| *file == object).map(|(name, _)| name.clone()).collect::<Vec<_>>().join(", ")
    };
    let human: String = listed
        .iter()
        .map(|one| {
            let modified = one.modified.as_deref().unwrap_or("-");
            let line = format!(
                "{:width$}  {:>9}  {modified}  {}",
                one.object,
                human_size(one.size),
                named(&one.object)
            );
            format!("{}\n", line.trim_end())
        })
        .collect();
    result::print(session.output(), "secrets", &listed, human)
}
