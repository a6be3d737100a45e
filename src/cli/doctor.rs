//! `imgforge doctor`: what is missing, before it is missed.

use clap::Args as ClapArgs;
use console::style;

use super::result;
use super::session::Session;
use crate::backends;
use crate::doctor::{self, Outcome};
use crate::error::{Error, Result};

/// Check everything that a release needs: tools, daemon, secrets, logins, the service
#[derive(ClapArgs)]
#[command(after_help = "Example:\n  imgforge doctor -e production")]
pub struct Args {}

pub async fn run(session: &Session, _: Args) -> Result<()> {
    let config = session.config()?;
    let checks = backends::checks(&config, &super::session::environment_variable).await;
    let reports = doctor::run(checks).await;
    let mut human = String::new();
    for report in &reports {
        let (mark, text) = match &report.outcome {
            Outcome::Ok { found } => (style("ok  ").green(), found.clone()),
            Outcome::Skip { why } => (style("skip").dim(), why.clone()),
            Outcome::Warn { why } => (style("warn").yellow(), why.clone()),
            Outcome::Fail { why, .. } => (style("FAIL").red().bold(), why.clone()),
        };
        human.push_str(&format!("{mark}  {:<12} {text}\n", report.name));
        if let Outcome::Fail { help: Some(help), .. } = &report.outcome {
            human.push_str(&format!("                   {help}\n"));
        }
    }
    result::print(session.output(), "doctor", &reports, human)?;
    match reports.iter().filter(|report| matches!(report.outcome, Outcome::Fail { .. })).count() {
        0 => Ok(()),
        1 => Err(Error::refused("1 check failed")),
        failed => Err(Error::refused(format!("{failed} checks failed"))),
    }
}
