//! A build by the classic builder, for daemons without BuildKit.

use bollard::models::BuildInfo;

use super::request::{BuildRequest, Ended, With};
use super::steps::{Steps, Told};
use crate::digest::Digest;
use crate::engine::Logins;
use crate::error::{Error, Result};
use crate::progress::{Reporter, Task};

/// Builds, and gives the image's id and a word on how it went.
///
/// # Errors
/// A recipe with build secrets, which this builder does not have; a failing step, with its last lines.
pub(super) async fn build(
    request: BuildRequest<'_>,
    logins: &Logins,
    task: &Task,
    progress: &Reporter,
) -> Result<(Digest, String)> {
    let recipe = request.recipe;
    if !recipe.secrets.is_empty() {
        let ids = recipe.secrets.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
        return Err(Error::refused(format!("the daemon builds without BuildKit, which has no build secrets ({ids})"))
            .help("unset DOCKER_BUILDKIT, or switch BuildKit on in the daemon (18.09 or later); or remove [build.secrets]"));
    }
    let mut steps = Steps::new(recipe, task, progress);
    let mut current = String::new();
    let told = |line: BuildInfo| {
        if let Some(text) = line.stream {
            follow(&mut steps, &mut current, &text);
        }
    };
    let ended = request.run(With::Logins(logins), told).await?;
    match ended {
        Ended::Image(id) => Ok((id, steps.summary())),
        Ended::Failed(message) => {
            // This builder does not say which step failed: it is the one that ran.
            if !current.is_empty() {
                steps.told(&Told { key: &current, error: &message, ..Told::default() });
            }
            Err(steps.failure(&message))
        }
    }
}

/// `Step 2/3 : RUN make` begins a step, ` ---> Using cache` says it was cached, the rest is its output.
fn follow(steps: &mut Steps<'_>, current: &mut String, text: &str) {
    if let Some(step) = text.strip_prefix("Step ")
        && let Some((number, instruction)) = step.split_once(" : ")
    {
        *current = number.to_owned();
        let name = format!("[{number}] {}", instruction.trim());
        steps.told(&Told { key: current, name: &name, started: true, ..Told::default() });
    } else if text.trim() == "---> Using cache" {
        steps.told(&Told { key: current, cached: true, ..Told::default() });
    } else if !text.starts_with(" ---> ") && !text.starts_with("Removing intermediate container") {
        steps.printed(current, text);
    }
}
