//! `imgforge rotate`: new secrets into images that are in a registry, and onto the service; no build, no pull.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Instant;

use clap::{Args as ClapArgs, ValueEnum};
use console::style;
use futures_util::future::join_all;

use super::report::{human_time, stage_word};
use super::result;
use super::session::{Session, environment_variable};
use crate::backends::{self, Needs};
use crate::config::Config;
use crate::error::{Error, Kind, Result};
use crate::image::inspect::human_size;
use crate::plan::Until;
use crate::progress::Stage;
use crate::release::lock::Lock;
use crate::rotate::{self, Request, Summary};
use crate::secret::Version;

mod projects;

/// Replace the secret layer of images in the registry, and deploy them; no build, no pull
///
/// Without --image: every image that holds secrets, as the service runs it now. The images get the newest secrets, or the
/// versions that --secret names: that is how to go back to an earlier secret.
#[derive(ClapArgs)]
#[command(
    after_help = "Examples:\n  imgforge rotate -e production                      a secret has changed\n  \
    imgforge rotate -e production --secret server_settings=3HL4kqtJvjVBH40N\n  \
    imgforge rotate --image web=docker.io/user/shop-web:1.2 --until push\n  \
    imgforge rotate -e production --dry-run            the digests that it would give"
)]
pub struct Args {
    /// An image: NAME as the service runs it, or NAME=REFERENCE (may be given more than once)
    #[arg(long = "image", value_name = "NAME[=REFERENCE]")]
    images: Vec<String>,
    /// A secret file at a version of `imgforge secrets versions` (may be given more than once)
    #[arg(long = "secret", value_name = "NAME=VERSION")]
    secrets: Vec<String>,
    /// How far it goes; "push" leaves the service alone
    #[arg(long, value_enum, default_value_t, value_name = "STEP")]
    until: Step,
    /// Every project below the folder, all at once
    #[arg(long, conflicts_with_all = ["images", "secrets"])]
    all: bool,
    /// Print the plan and end
    #[arg(long)]
    dry_run: bool,
}

#[derive(Clone, Copy, Default, ValueEnum)]
enum Step {
    Push,
    #[default]
    Deploy,
}

pub async fn run(session: &Session, args: Args) -> Result<()> {
    let all = args.all;
    let work = Work::from(args)?;
    if !all {
        return work.done_to(session, session.config()?).await;
    }
    let folders = projects::find(session.directory())?;
    let ended = join_all(folders.iter().map(async |folder| {
        let done = async { work.done_to(session, session.config_in(folder)?).await };
        // Told when it happens: the others go on.
        done.await.map_err(|error| {
            let error = error.context(format!("{} was not rotated", folder.display()));
            result::print_error(session.output(), &error, None);
            error.kind()
        })
    }))
    .await;
    let failed: Vec<Kind> = ended.into_iter().filter_map(Result::err).collect();
    match failed[..] {
        [] => Ok(()),
        [first, ..] => {
            Err(Error::new(first, format!("{} of {} projects were not rotated", failed.len(), folders.len()))
                .help("mend what is told above, then run the same command again: what is done stays done"))
        }
    }
}

/// What is done to each project.
struct Work {
    request: Request,
    pins: BTreeMap<String, Version>,
    dry_run: bool,
}

impl Work {
    fn from(args: Args) -> Result<Self> {
        let until = match args.until {
            Step::Push => Until::Push,
            Step::Deploy => Until::Deploy,
        };
        let mut request = Request { images: Vec::new(), chosen: Vec::new(), until };
        for image in args.images {
            match image.split_once('=') {
                Some((name, reference)) => request.chosen.push((name.to_owned(), reference.parse()?)),
                None => request.images.push(image),
            }
        }
        let mut pins = BTreeMap::new();
        for secret in args.secrets {
            let (name, version) = secret.split_once('=').ok_or_else(|| {
                Error::config(format!("--secret {secret:?} names no version"))
                    .help("--secret NAME=VERSION, with a version of `imgforge secrets versions NAME`")
            })?;
            pins.insert(name.to_owned(), Version(version.to_owned()));
        }
        Ok(Work { request, pins, dry_run: args.dry_run })
    }

    async fn done_to(&self, session: &Session, config: Config) -> Result<()> {
        let Work { request, pins, dry_run } = self;
        let lock = if *dry_run { None } else { Some(Lock::take(&config)?) };
        let reporter = session.reporter();
        let start = Instant::now();
        reporter.stage_started(Stage::Observe);
        let needs = Needs::to_rotate(request.until, pins.clone());
        let parts = backends::connect(config, needs, &environment_variable).await?;
        let (plan, seen) = rotate::plan(&parts, request).await?;
        reporter.stage_finished(Stage::Observe, start.elapsed().as_millis() as u64);
        let Some(lock) = &lock else {
            return result::print(session.output(), "rotate_plan", &plan, &plan);
        };
        let summary = rotate::apply(lock, &parts, seen, reporter, session.journal()).await?;
        result::print(session.output(), "rotate", &summary, Human(&summary))
    }
}

/// The summary for people.
struct Human<'a>(&'a Summary);

impl fmt::Display for Human<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Summary { project, environment, images, deployed, times } = self.0;
        writeln!(f, "{} {project} ({environment})", style("rotate").bold())?;
        let width = images.iter().map(|image| image.image.len()).max().unwrap_or(0);
        for image in images {
            let name = format!("{:width$}", image.image);
            writeln!(f, "  {name}  {}", image.to)?;
            let sent = match image.unchanged {
                true => "unchanged: it holds these secrets".to_owned(),
                false => format!("rotated, {} sent", human_size(image.uploaded)),
            };
            write!(f, "  {:width$}  {sent}", "")?;
            if let Some(tag) = &image.tag {
                write!(f, ", tag {tag}")?;
            }
            for (secret, version) in &image.secrets {
                write!(f, ", {secret} {version}")?;
            }
            writeln!(f)?;
        }
        match deployed {
            Some(deployed) => {
                write!(f, "  {}", deployed.description)?;
                match &deployed.url {
                    Some(url) => writeln!(f, " at {}", style(url).underlined())?,
                    None => writeln!(f)?,
                }
            }
            None if images.iter().all(|image| image.unchanged) => writeln!(f, "  nothing changed")?,
            None => {}
        }
        let each: Vec<String> = times
            .iter()
            .map(|(stage, millis)| format!("{} {}", stage_word(*stage), human_time(*millis)))
            .collect();
        writeln!(f, "  {}", each.join(", "))
    }
}
