//! `imgforge secrets …`: the secret store.

use clap::{Args as ClapArgs, Subcommand};

use super::session::Session;
use crate::error::Result;

mod ecs_config;
mod get;
mod list;
mod put;
mod versions;

/// Read and write the secret store
#[derive(ClapArgs)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    List(list::Args),
    Get(get::Args),
    Put(put::Args),
    Versions(versions::Args),
    EcsConfig(ecs_config::Args),
}

pub async fn run(session: &Session, args: Args) -> Result<()> {
    match args.command {
        Command::List(args) => list::run(session, args).await,
        Command::Get(args) => get::run(session, args).await,
        Command::Put(args) => put::run(session, args).await,
        Command::Versions(args) => versions::run(session, args).await,
        Command::EcsConfig(args) => ecs_config::run(session, args).await,
    }
}
