//! The command line. Only here is anything printed: results on stdout, progress and errors on stderr (contract 3).

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::error::{Error, Kind, Result};

mod build;
mod completions;
mod deploy;
mod diff;
mod doctor;
mod down;
mod error;
mod init;
mod inspect;
mod plan;
mod push;
mod release;
mod report;
mod result;
mod rotate;
mod run;
mod secrets;
mod session;
mod trace;
mod up;

use report::Output;
use session::Session;

/// Builds the images of a Django site, bakes its secrets into them as one replaceable layer, pushes and deploys them.
#[derive(Parser)]
#[command(name = "imgforge", version, arg_required_else_help = true)]
#[command(after_help = "Start with:  imgforge init        what a Django project needs\n             \
    imgforge doctor      what is missing\n             imgforge plan        what a release would do\n             imgforge release     do it")]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// What every command takes.
#[derive(Args)]
struct Global {
    /// The project's folder (imgforge.toml is looked for there and above)
    #[arg(short = 'C', value_name = "DIR", default_value = ".", global = true, hide_default_value = true)]
    directory: PathBuf,
    /// The environment: an overlay [env.NAME] of imgforge.toml; "local" when none is named
    #[arg(short, long, value_name = "ENV", env = "IMGFORGE_ENV", global = true)]
    environment: Option<String>,
    /// How output is written
    #[arg(
        long,
        value_enum,
        default_value_t,
        value_name = "FORM",
        global = true,
        hide_possible_values = false
    )]
    output: Output,
}

#[derive(Subcommand)]
enum Command {
    Init(init::Args),
    Release(release::Args),
    Rotate(rotate::Args),
    Plan(plan::Args),
    Build(build::Args),
    Push(push::Args),
    Deploy(deploy::Args),
    Run(run::Args),
    Inspect(inspect::Args),
    Diff(diff::Args),
    Secrets(secrets::Args),
    Doctor(doctor::Args),
    Up(up::Args),
    Down(down::Args),
    Completions(completions::Args),
}

/// Parses the command line, runs the command, prints its error, and gives the exit code.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    trace::install();
    let session = Session::new(cli.global);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return finish(&session, Err(Error::from(error))),
    };
    let result = runtime.block_on(async {
        let interrupted = interrupted();
        tokio::select! {
            result = dispatch(&session, cli.command) => result,
            interrupted = interrupted => Err(interrupted),
        }
    });
    // Blocking work (a compression, say) must not hold up the end after Ctrl-C.
    runtime.shutdown_background();
    finish(&session, result)
}

async fn dispatch(session: &Session, command: Command) -> Result<()> {
    match command {
        Command::Init(args) => init::run(session, args).await,
        Command::Release(args) => release::run(session, args).await,
        Command::Rotate(args) => rotate::run(session, args).await,
        Command::Plan(args) => plan::run(session, args).await,
        Command::Build(args) => build::run(session, args).await,
        Command::Push(args) => push::run(session, args).await,
        Command::Deploy(args) => deploy::run(session, args).await,
        Command::Run(args) => run::run(session, args).await,
        Command::Inspect(args) => inspect::run(session, args).await,
        Command::Diff(args) => diff::run(session, args).await,
        Command::Secrets(args) => secrets::run(session, args).await,
        Command::Doctor(args) => doctor::run(session, args).await,
        Command::Up(args) => up::run(session, args).await,
        Command::Down(args) => down::run(session, args).await,
        Command::Completions(args) => completions::run(args),
    }
}

/// Ends when the user or the system asks to stop. Dropping the command's future then ends what it started.
///
/// The handlers are in place when this returns, not when its future is first polled: a signal that comes in the first moment
/// of a command must not kill the process without a word.
fn interrupted() -> impl Future<Output = Error> {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let interrupt = signal(SignalKind::interrupt());
        let terminate = signal(SignalKind::terminate());
        async move {
            match (interrupt, terminate) {
                (Ok(mut interrupt), Ok(mut terminate)) => tokio::select! {
                    _ = interrupt.recv() => Error::failed("interrupted"),
                    _ = terminate.recv() => Error::failed("asked to stop (SIGTERM)"),
                },
                // Without handlers the system's own way of ending the process is left.
                _ => std::future::pending().await,
            }
        }
    }
    #[cfg(not(unix))]
    async {
        let _ = tokio::signal::ctrl_c().await;
        Error::failed("interrupted")
    }
}

fn finish(session: &Session, result: Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        // `run` gives the container's own code and says nothing more.
        Err(error) if matches!(error.kind(), Kind::Container(_)) => error.exit_code(),
        Err(error) => {
            result::print_error(session.output(), &error, session.state());
            error.exit_code()
        }
    }
}
