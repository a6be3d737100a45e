//! `imgforge completions`: for shells.

use clap::{Args as ClapArgs, CommandFactory};
use clap_complete::Shell;

use super::{Cli, result};
use crate::error::Result;

/// Print a completion script for a shell
#[derive(ClapArgs)]
#[command(
    after_help = "Example:\n  imgforge completions bash > ~/.local/share/bash-completion/completions/imgforge"
)]
pub struct Args {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

pub fn run(args: Args) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "imgforge", &mut script);
    result::bytes(&script)
}
