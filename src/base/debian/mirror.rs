//! Where this machine gets Debian's packages from, taken from its own apt: its mirror is the one that it can reach.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::Command;
use url::Url;

/// Where Debian's own signing keys are, also on machines that are not Debian's.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// What to give mmdebstrap.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Sources {
    /// One-line sources as they are used; they may hold a mirror's password. Empty where apt knows no mirror of Debian:
    /// mmdebstrap then takes its own.
    pub(super) lines: Vec<String>,
    /// The same without passwords: what stays in the image.
    pub(super) clean: Vec<String>,
    /// The keys that packages are checked with, where they are not apt's own.
    pub(super) keyring: Option<PathBuf>,
    /// apt's settings for reaching mirrors (proxy, CA), in the form of its configuration.
    pub(super) transport: String,
}

/// A stanza of `apt-get indextargets`: one index file of one source.
type Target = BTreeMap<String, String>;

/// What this machine's apt would take `suite` from.
pub(super) async fn sources(suite: &str) -> Sources {
    let targets = output("apt-get", &["indextargets", "Created-By: Packages"]).await;
    let targets: Vec<Target> = targets.split("\n\n").map(stanza).collect();
    let settings = output("apt-config", &["dump", "--no-empty"]).await;
    let mut sources = choose(&targets, suite);
    let reaching = settings.lines().filter(|line| line.starts_with("Acquire::http"));
    sources.transport = reaching.map(|line| format!("{line}\n")).collect();
    sources.keyring = keyring(&targets);
    sources
}

/// What a command prints; nothing when it is not there or fails.
async fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).env("LC_ALL", "C").output().await;
    let output = output.ok().filter(|output| output.status.success());
    output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default()
}

fn stanza(text: &str) -> Target {
    let fields = text.lines().filter_map(|line| line.split_once(": "));
    fields.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect()
}

/// Sources for `suite` with its updates: the machine's own when it follows that suite, else its mirrors of Debian
/// with that suite.
fn choose(targets: &[Target], suite: &str) -> Sources {
    let field = |target: &Target, name: &str| target.get(name).cloned().unwrap_or_default();
    let mirrors: Vec<(String, String)> = targets
        .iter()
        .filter(|target| is_debian(target))
        .map(|target| (field(target, "Repo-URI"), field(target, "Release")))
        .filter(|(uri, _)| uri.starts_with("http://") || uri.starts_with("https://"))
        .collect();
    let releases = [suite.to_owned(), format!("{suite}-updates"), format!("{suite}-security")];
    let own = |release: &str| mirrors.iter().find(|(_, has)| has == release).map(|(uri, _)| uri.as_str());
    let mut found: Vec<(&str, &str)> = Vec::new();
    if own(suite).is_some() {
        found.extend(releases.iter().filter_map(|release| Some((own(release)?, release.as_str()))));
    } else {
        let of_kind = |security| mirrors.iter().find(|(uri, _)| is_security(uri) == security);
        // The development suites have no updates of their own.
        let only_one = matches!(suite, "sid" | "unstable" | "experimental");
        if let Some((uri, _)) = of_kind(false) {
            found.extend(
                releases
                    .iter()
                    .take(if only_one { 1 } else { 2 })
                    .map(|release| (uri.as_str(), release.as_str())),
            );
            let security = of_kind(true).filter(|_| !only_one);
            found.extend(security.map(|(uri, _)| (uri.as_str(), releases[2].as_str())));
        }
    }
    let line = |uri: &str, release: &str| format!("deb {uri} {release} main");
    Sources {
        lines: found.iter().map(|(uri, release)| line(uri, release)).collect(),
        clean: found.iter().map(|(uri, release)| line(&without_password(uri), release)).collect(),
        ..Sources::default()
    }
}

/// By what its Release file says, or, before the first `apt-get update`, by how mirrors are laid out.
fn is_debian(target: &Target) -> bool {
    match target.get("Origin") {
        Some(origin) => origin == "Debian",
        None => target
            .get("Repo-URI")
            .is_some_and(|uri| uri.trim_end_matches('/').ends_with("/debian") || is_security(uri)),
    }
}

fn is_security(uri: &str) -> bool {
    uri.trim_end_matches('/').ends_with("debian-security")
}

fn without_password(uri: &str) -> String {
    let Ok(mut url) = Url::parse(uri) else { return uri.to_owned() };
    // Both fail only for addresses without a host, which are not taken.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.to_string()
}

fn keyring(targets: &[Target]) -> Option<PathBuf> {
    let named =
        targets.iter().filter(|target| is_debian(target)).filter_map(|target| target.get("Signed-By"));
    let named = named.map(PathBuf::from).find(|path| path.is_absolute() && path.exists());
    named.or_else(|| Some(Path::new(KEYRING).to_owned()).filter(|path| path.exists()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(uri: &str, release: &str, origin: Option<&str>) -> Target {
        let origin = origin.map(|origin| format!("\nOrigin: {origin}")).unwrap_or_default();
        stanza(&format!("MetaKey: main/binary-amd64/Packages\nRepo-URI: {uri}\nRelease: {release}{origin}"))
    }

    #[test]
    fn the_machines_own_sources_are_taken_for_its_own_suite() {
        let targets = [
            target("https://u:p@mirror.example/debian/", "bookworm", Some("Debian")),
            target("https://u:p@mirror.example/debian/", "bookworm-updates", Some("Debian")),
            target("https://other.example/apt/", "bookworm", Some("Other")),
            target("https://mirror.example/debian-security/", "bookworm-security", None),
        ];
        let sources = choose(&targets, "bookworm");
        assert_eq!(sources.lines[0], "deb https://u:p@mirror.example/debian/ bookworm main");
        assert_eq!(
            sources.clean,
            [
                "deb https://mirror.example/debian/ bookworm main",
                "deb https://mirror.example/debian/ bookworm-updates main",
                "deb https://mirror.example/debian-security/ bookworm-security main",
            ]
        );
    }

    #[test]
    fn another_suite_comes_from_the_machines_mirrors() {
        let targets = [
            target("http://mirror.example/debian-security/", "bookworm-security", Some("Debian")),
            target("http://mirror.example/debian/", "bookworm", Some("Debian")),
        ];
        assert_eq!(
            choose(&targets, "trixie").lines,
            [
                "deb http://mirror.example/debian/ trixie main",
                "deb http://mirror.example/debian/ trixie-updates main",
                "deb http://mirror.example/debian-security/ trixie-security main",
            ]
        );
        assert_eq!(choose(&targets, "sid").lines, ["deb http://mirror.example/debian/ sid main"]);
    }

    #[test]
    fn a_machine_without_a_mirror_of_debian_gives_none() {
        let targets = [
            target("http://archive.example/ubuntu/", "noble", Some("Ubuntu")),
            target("file:/srv/debian/", "bookworm", Some("Debian")),
        ];
        assert_eq!(choose(&targets, "bookworm").lines, Vec::<String>::new());
    }
}
