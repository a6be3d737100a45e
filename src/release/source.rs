//! What Git says about the sources of a release.

use std::path::Path;
use std::process::Stdio;

use crate::config::FILE;
use crate::plan::Source;

/// Asks Git about the project's folder. Without Git or a repository the sources are unknown; that is no error.
pub async fn source(root: &Path) -> Source {
    let Some(id) = git(root, &["rev-parse", "--verify", "HEAD"]).await else { return Source::Unknown };
    // Only this folder counts: a change elsewhere in a larger repository does not change the images.
    let status = git(root, &["status", "--porcelain", "--", "."]);
    match tokio::join!(git(root, &["check-ignore", "--", FILE]), status) {
        // A folder that a larger repository ignores is in none of its commits.
        (Some(_), _) => Source::Unknown,
        (None, Some(changes)) if changes.is_empty() => Source::Commit { id },
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_folder_that_a_larger_repository_ignores_is_in_no_commit() {
        let repository = tempfile::tempdir().unwrap();
        let run = async |arguments: &[&str]| assert!(git(repository.path(), arguments).await.is_some());
        run(&["init", "--quiet"]).await;
        fs_err::write(repository.path().join(".gitignore"), "made/\n").unwrap();
        for folder in ["made", "kept"] {
            fs_err::create_dir(repository.path().join(folder)).unwrap();
            fs_err::write(repository.path().join(folder).join(FILE), "project = \"shop\"\n").unwrap();
        }
        run(&["add", "."]).await;
        run(&["-c", "user.name=t", "-c", "user.email=t@example.com", "commit", "--quiet", "-m", "one"]).await;
        assert_eq!(source(&repository.path().join("made")).await, Source::Unknown);
        assert!(matches!(source(&repository.path().join("kept")).await, Source::Commit { .. }));
    }
}
