//! `imgforge deploy`: what is in the registry already, by digest.

use std::collections::BTreeMap;

use clap::Args as ClapArgs;

use super::result;
use super::session::Session;
use crate::backends::Needs;
use crate::error::{Error, Result};
use crate::image::reference::Reference;
use crate::plan::{Request, Start, Until};
use crate::progress::Stage;
use crate::release;

/// Deploy images that are in the registry: those of this commit and these secrets, or those that are named
#[derive(ClapArgs)]
#[command(after_help = "Examples:\n  imgforge deploy -e production\n  imgforge deploy -e production \
    --image web=docker.io/user/shop-web@sha256:…")]
pub struct Args {
    /// An image and what to deploy for it: NAME, or NAME=REPOSITORY@DIGEST
    #[arg(long = "image", value_name = "NAME[=REFERENCE]")]
    images: Vec<String>,
    /// Print what would be deployed, by digest, and end
    #[arg(long)]
    dry_run: bool,
}

pub async fn run(session: &Session, args: Args) -> Result<()> {
    let mut names = Vec::new();
    let mut chosen = BTreeMap::new();
    for image in &args.images {
        match image.split_once('=') {
            Some((name, reference)) => {
                let reference: Reference = reference.parse()?;
                if reference.digest.is_none() {
                    return Err(Error::config(format!(
                        "{reference} is no digest: a tag can move while it is deployed"
                    ))
                    .help("name it by digest, as `imgforge push` printed it: REPOSITORY@sha256:…"));
                }
                chosen.insert(name.to_owned(), reference);
                names.push(name.to_owned());
            }
            None => names.push(image.clone()),
        }
    }
    let request = Request { start: Start::Registry, until: Until::Deploy, images: names };
    let reporter = session.reporter();
    let _lock = if args.dry_run { None } else { Some(session.lock()?) };
    let (parts, plan, seen) = session.plan(&request, Needs::to_look(&request)).await?;
    let found = release::find(&parts, &plan, &chosen, seen.running.as_ref()).await?;
    if args.dry_run {
        let images: BTreeMap<&String, String> =
            found.images.iter().map(|(name, image)| (name, image.reference.to_string())).collect();
        let human =
            images.iter().map(|(name, reference)| format!("{name}={reference}\n")).collect::<String>();
        return result::print(session.output(), "deploy", &images, human);
    }
    let running = seen.running.ok_or_else(crate::plan::no_deploy)?;
    session.journal().enter(Stage::Deploy);
    reporter.stage_started(Stage::Deploy);
    let start = std::time::Instant::now();
    let once = release::once_tasks(&parts.config);
    let found = release::fetch(&parts, found, reporter).await?;
    let deployed = release::deploy(&parts, &found, &running, &once, reporter, session.journal()).await?;
    reporter.stage_finished(Stage::Deploy, start.elapsed().as_millis() as u64);
    let human = match &deployed.url {
        Some(url) => format!("{} at {url}", deployed.description),
        None => deployed.description.clone(),
    };
    result::print(session.output(), "deploy", &deployed, human)
}
