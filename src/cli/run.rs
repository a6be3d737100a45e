//! `imgforge run`: a command with the service's image and settings, as once-tasks are run.

use clap::Args as ClapArgs;

use super::session::Session;
use super::{report, result};
use crate::backends::Needs;
use crate::config::OnceConfig;
use crate::error::{Error, Kind, Result};

/// Run a command in a new container of the running service; the exit code is the container's own
#[derive(ClapArgs)]
#[command(after_help = "Examples:\n  imgforge run web -- python3 manage.py showmigrations\n  \
    imgforge run -e production web -- python3 manage.py migrate --plan")]
pub struct Args {
    /// The container (ecs) or service (compose)
    container: String,
    /// The command and its arguments
    #[arg(required = true, last = true)]
    command: Vec<String>,
    /// Say what would be run where, and end
    #[arg(long)]
    dry_run: bool,
}

pub async fn run(session: &Session, args: Args) -> Result<()> {
    let parts = session.parts(Needs::deployer()).await?;
    let deployer = parts.deployer()?;
    let task = OnceConfig { name: "run".into(), container: args.container, command: args.command };
    let running = deployer.observe(&[], std::slice::from_ref(&task)).await?;
    let current = deployer.current(&running).await?;
    if args.dry_run {
        let human = format!("{} in {} of {}", task.command.join(" "), task.container, current.description);
        return result::print(session.output(), "run", &task, human);
    }
    let exit = deployer.run_once(&current, &task, &report::pass_through(session.output())).await?;
    if session.output() == report::Output::Json {
        result::print(session.output(), "run", &exit, "")?;
    }
    match exit.code {
        0 => Ok(()),
        code => Err(Error::new(Kind::Container(code), format!("the container ended with code {code}"))),
    }
}
