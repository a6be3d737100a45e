//! `imgforge up`: the project's compose file with the images that were deployed last.

use clap::Args as ClapArgs;

use super::result;
use super::session::Session;
use crate::backends;
use crate::error::Result;

/// Start the compose project with the images that were released last
#[derive(ClapArgs)]
#[command(after_help = "Example:\n  imgforge release && imgforge down && imgforge up")]
pub struct Args {
    /// Say what would be started, and end
    #[arg(long)]
    dry_run: bool,
}

pub async fn run(session: &Session, args: Args) -> Result<()> {
    let compose = backends::compose(&session.config()?, &super::session::environment_variable)?;
    if args.dry_run {
        let described = compose.describe_up().await?;
        return result::print(session.output(), "up", &described, &described);
    }
    let _lock = session.lock()?;
    let deployed = compose.up(session.reporter()).await?;
    let human = match &deployed.url {
        Some(url) => format!("{} at {url}", deployed.description),
        None => deployed.description.clone(),
    };
    result::print(session.output(), "up", &deployed, human)
}
