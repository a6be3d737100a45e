//! `imgforge release`: the whole pipeline. `build` and `push` are the same, cut short.

use std::fmt;

use clap::Args as ClapArgs;
use console::style;

use super::report::human_time;
use super::session::Session;
use super::{plan, result};
use crate::backends::Needs;
use crate::error::Result;
use crate::image::inspect::human_size;
use crate::plan::{Request, Start, Until};
use crate::release::summary::Summary;

/// Build, bake secrets, push, and deploy
#[derive(ClapArgs)]
#[command(after_help = "Examples:\n  imgforge release                     \
    the local environment: needs no account anywhere\n  imgforge release -e production --dry-run\n  \
    imgforge release -e production --output json")]
pub struct Args {
    #[command(flatten)]
    pub images: Images,
    /// Print the plan and end
    #[arg(long)]
    pub dry_run: bool,
}

/// Which images a command is about.
#[derive(ClapArgs)]
pub struct Images {
    /// Only this image (may be given more than once); all of imgforge.toml when none is named
    #[arg(long = "image", value_name = "NAME")]
    pub images: Vec<String>,
}

pub async fn run(session: &Session, args: Args) -> Result<()> {
    let request = Request { start: Start::Sources, until: Until::Deploy, images: args.images.images };
    if args.dry_run { plan::print(session, &request).await } else { apply(session, &request).await }
}

/// Plans and does what `request` asks for, and prints the summary.
pub async fn apply(session: &Session, request: &Request) -> Result<()> {
    let lock = session.lock()?;
    let (parts, plan, seen) = session.plan(request, Needs::to_do(request)).await?;
    let summary =
        crate::release::apply(&lock, &parts, &plan, seen, session.reporter(), session.journal()).await?;
    result::print(session.output(), "release", &summary, Human(&summary))
}

/// The summary for people: what is where, what was reused, how long it took.
struct Human<'a>(&'a Summary);

impl fmt::Display for Human<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Summary { release, images, deployed, times } = self.0;
        writeln!(f, "{} {release}", style("release").bold())?;
        let width = images.iter().map(|image| image.image.len()).max().unwrap_or(0);
        for image in images {
            let name = format!("{:width$}", image.image);
            match &image.reference {
                None => writeln!(f, "  {name}  {}", image.digest)?,
                Some(reference) => {
                    writeln!(f, "  {name}  {reference}")?;
                    let built = if image.built { "built" } else { "unchanged" };
                    let sent = match image.uploaded {
                        0 => "nothing sent".to_owned(),
                        bytes => format!("{} sent", human_size(bytes)),
                    };
                    write!(f, "  {:width$}  {}, {built}, {sent}", "", human_size(image.size))?;
                    for (secret, version) in &image.secrets {
                        write!(f, ", {secret} {version}")?;
                    }
                    writeln!(f)?;
                }
            }
        }
        if let Some(deployed) = deployed {
            write!(f, "  {}", deployed.description)?;
            match &deployed.url {
                Some(url) => writeln!(f, " at {}", style(url).underlined())?,
                None => writeln!(f)?,
            }
        }
        let each: Vec<String> = times
            .iter()
            .map(|(stage, millis)| format!("{} {}", super::report::stage_word(*stage), human_time(*millis)))
            .collect();
        let total = human_time(times.iter().map(|(_, millis)| millis).sum());
        writeln!(f, "  {total} ({})", each.join(", "))
    }
}
