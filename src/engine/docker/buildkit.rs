//! A build by the BuildKit that is in the daemon.

use bollard::moby::buildkit::v1::StatusResponse;
use bollard::models::{BuildInfo, BuildInfoAux};

use super::request::{BuildRequest, Ended, With};
use super::session::Session;
use super::steps::{Steps, Told};
use crate::digest::Digest;
use crate::engine::Logins;
use crate::error::Result;
use crate::progress::{Reporter, Task};

/// Builds, and gives the image's id and a word on how it went.
///
/// # Errors
/// A failing step, with its last lines.
pub(super) async fn build(
    request: BuildRequest<'_>,
    logins: &Logins,
    task: &Task,
    progress: &Reporter,
) -> Result<(Digest, String)> {
    let recipe = request.recipe;
    let session = Session::open(request.daemon, &recipe.image, logins, &recipe.secrets).await?;
    let mut steps = Steps::new(recipe, task, progress);
    let told = |line: BuildInfo| {
        if let Some(BuildInfoAux::BuildKit(status)) = line.aux {
            follow(&mut steps, &status);
        }
    };
    match request.run(With::Session(&session.id), told).await? {
        Ended::Image(id) => Ok((id, steps.summary())),
        Ended::Failed(message) => Err(steps.failure(&message)),
    }
}

fn follow(steps: &mut Steps<'_>, status: &StatusResponse) {
    for vertex in &status.vertexes {
        steps.told(&Told {
            key: &vertex.digest,
            name: &vertex.name,
            started: vertex.started.is_some(),
            cached: vertex.cached,
            error: &vertex.error,
        });
    }
    for log in &status.logs {
        steps.printed(&log.vertex, &String::from_utf8_lossy(&log.msg));
    }
}
