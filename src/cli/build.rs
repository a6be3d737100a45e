//! `imgforge build`: the pipeline up to here.

use clap::Args as ClapArgs;

use super::plan;
use super::release::{self, Images};
use super::session::Session;
use crate::error::Result;
use crate::plan::{Request, Start, Until};

/// Build the images, without secrets; they stay with the engine
#[derive(ClapArgs)]
#[command(after_help = "Example:\n  imgforge build --image web")]
pub struct Args {
    #[command(flatten)]
    images: Images,
    /// Print the plan and end
    #[arg(long)]
    dry_run: bool,
}

pub async fn run(session: &Session, args: Args) -> Result<()> {
    let request = Request { start: Start::Sources, until: Until::Build, images: args.images.images };
    if args.dry_run { plan::print(session, &request).await } else { release::apply(session, &request).await }
}
