//! `imgforge down`: stops what `up` and `release` started.

use clap::Args as ClapArgs;

use super::result;
use super::session::Session;
use crate::backends;
use crate::deploy::compose::Volumes;
use crate::error::Result;

/// Stop and remove the compose project's containers and networks; volumes stay unless asked
#[derive(ClapArgs)]
#[command(after_help = "Examples:\n  imgforge down\n  imgforge down --volumes    the database too")]
pub struct Args {
    /// Remove volumes too: the database's data is gone
    #[arg(long)]
    volumes: bool,
    /// Say what would be stopped, and end
    #[arg(long)]
    dry_run: bool,
}

pub async fn run(session: &Session, args: Args) -> Result<()> {
    let compose = backends::compose(&session.config()?, &super::session::environment_variable)?;
    let volumes = if args.volumes { Volumes::Remove } else { Volumes::Keep };
    let _lock = if args.dry_run { None } else { Some(session.lock()?) };
    let described = compose.describe_down(volumes).await?;
    if !args.dry_run {
        compose.down(volumes, session.reporter()).await?;
    }
    result::print(session.output(), "down", &described, &described)
}
