//! What Git says about the sources of a release.

use std::path::Path;
use std::process::Stdio;

use crate::plan::Source;

/// Asks Git about the project's folder. Without Git or a repository the sources are unknown; that is no error.
pub async fn source(root: &Path) -> Source {
    let Some(id) = git(root, &["rev-parse", "--verify", "HEAD"]).await else { return Source::Unknown };
    // Only this folder counts: a change elsewhere in a larger repository does not change the images.
    match git(root, &["status", "--porcelain", "--", "."]).await {
        Some(changes) if changes.is_empty() => Source::Commit { id },
        _ => Source::Changed { id },
    }
}

async fn git(root: &Path, arguments: &[&str]) -> Option<String> {
    let output = tokio::process::Command::new("git")
        .args(["-c", "core.fsmonitor=false"])
        .args(arguments)
        .current_dir(root)
        .env("GIT_OPTIONAL_LOCKS", "0")
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .ok()?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    output.status.success().then_some(text)
}
