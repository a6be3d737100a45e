//! `imgforge plan`: what a release would do. Nothing is changed.

use clap::{Args as ClapArgs, ValueEnum};

use super::release::Images;
use super::result;
use super::session::Session;
use crate::backends::Needs;
use crate::error::Result;
use crate::plan::{Request, Start, Until};

/// Show what a release would do, and change nothing
#[derive(ClapArgs)]
#[command(
    after_help = "Examples:\n  imgforge plan -e production\n  imgforge plan --until push --output json"
)]
pub struct Args {
    #[command(flatten)]
    images: Images,
    /// How far the release goes
    #[arg(long, value_enum, default_value_t, value_name = "STEP")]
    until: Step,
}

#[derive(Clone, Copy, Default, ValueEnum)]
enum Step {
    Build,
    Push,
    #[default]
    Deploy,
}

pub async fn run(session: &Session, args: Args) -> Result<()> {
    let until = match args.until {
        Step::Build => Until::Build,
        Step::Push => Until::Push,
        Step::Deploy => Until::Deploy,
    };
    print(session, &Request { start: Start::Sources, until, images: args.images.images }).await
}

/// Prints the plan of a request.
pub async fn print(session: &Session, request: &Request) -> Result<()> {
    let (_, plan, _) = session.plan(request, Needs::to_look(request)).await?;
    result::print(session.output(), "plan", &plan, &plan)
}
