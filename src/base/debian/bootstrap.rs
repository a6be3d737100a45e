//! Runs mmdebstrap and compresses what it writes, as it writes it.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWriteExt, BufReader};
use tokio::process::{Child, Command};

use super::mirror::Sources;
use crate::config::Compression;
use crate::error::{Error, Result};
use crate::layer::{Digests, LayerWriter};
use crate::progress::Task;

/// How many of mmdebstrap's last lines an error shows.
const LAST_LINES: usize = 15;
/// What no service reads: documentation, manuals, translations. Licences stay (as in Debian's own slim images).
const LEFT_OUT: [&str; 6] = [
    "path-exclude=/usr/share/doc/*",
    "path-include=/usr/share/doc/*/copyright",
    "path-exclude=/usr/share/info/*",
    "path-exclude=/usr/share/lintian/*",
    "path-exclude=/usr/share/locale/*",
    "path-exclude=/usr/share/man/*",
];
/// mmdebstrap copies these from the machine; a container gets its own.
const OF_THIS_MACHINE: &str = r#": >"$1/etc/resolv.conf"; echo localhost >"$1/etc/hostname""#;

/// What to make.
pub(super) struct Arguments<'a> {
    pub(super) suite: &'a str,
    pub(super) packages: &'a [&'a str],
    pub(super) architecture: &'a str,
    pub(super) sources: Sources,
    pub(super) epoch: i64,
}

/// Whether mmdebstrap is on this machine; its version.
///
/// # Errors
/// It is not there.
pub async fn check() -> Result<String> {
    let output = Command::new("mmdebstrap").arg("--version").stdin(Stdio::null()).output().await;
    let output = output.map_err(not_started)?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn not_started(error: io::Error) -> Error {
    match error.kind() {
        ErrorKind::NotFound => {
            Error::refused("Debian bases are made with mmdebstrap, which is not installed")
                .help("apt-get install mmdebstrap")
        }
        _ => Error::failed("cannot start mmdebstrap").because(error),
    }
}

/// What a failed write means.
pub(super) fn on_disk(error: io::Error) -> Error {
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => disk_full(),
        _ => Error::failed("the base cannot be written"),
    }
    .because(error)
}

fn disk_full() -> Error {
    Error::failed("the base cannot be made: the disk is full")
        .help("free some space, then run the same command again; nothing half-made was left behind")
}

/// Makes a root filesystem; its layer's blob, in `folder`, with the digests.
pub(super) async fn run(folder: &Path, arguments: &Arguments<'_>, task: &Task) -> Result<(PathBuf, Digests)> {
    check().await?;
    let mut command = command(folder, arguments, own_mounts().await).map_err(on_disk)?;
    let mut process = Running(command.spawn().map_err(not_started)?);
    let tar = process.0.stdout.take().expect("it is piped").into_owned_fd()?;
    let stderr = process.0.stderr.take().expect("it is piped");
    let mut stdin = process.0.stdin.take().expect("it is piped");
    let lines: String = arguments.sources.lines.iter().map(|line| format!("{line}\n")).collect();
    // A process that ends before it has read them says why on stderr.
    let _ = stdin.write_all(lines.as_bytes()).await;
    drop(stdin);
    let blob = folder.join("layer");
    let path = blob.clone();
    // When writing fails the pipe closes, and mmdebstrap ends.
    let compressing = tokio::task::spawn_blocking(move || compress(File::from(tar), &path));
    let (compressed, last) = tokio::join!(compressing, last_lines(stderr, task));
    let status = process.0.wait().await?;
    let digests = compressed.expect("compressing does not panic").map_err(on_disk)?;
    if status.success() {
        return Ok((blob, digests));
    }
    if last.iter().any(|line| line.contains("No space left on device")) {
        return Err(disk_full().because(last.join("\n")));
    }
    Err(Error::failed(format!("mmdebstrap could not make {} ({status})", arguments.suite))
        .help("check the suite and the packages in [bases], and that apt-get update works on this machine")
        .because(last.join("\n")))
}

/// Who sees what mmdebstrap mounts while it works.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mounts {
    /// Only its own processes: the mounts go with them, however they end.
    Private,
    /// The machine, or a user namespace that mmdebstrap makes by itself.
    Plain,
}

/// Root can have private mounts, unless it is root of a container that may not mount at all.
async fn own_mounts() -> Mounts {
    let mut unshare = Command::new("unshare");
    unshare.args(["--mount", "true"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    match unshare.status().await {
        Ok(status) if status.success() => Mounts::Private,
        _ => Mounts::Plain,
    }
}

fn command(folder: &Path, arguments: &Arguments<'_>, mounts: Mounts) -> io::Result<Command> {
    let Arguments { suite, packages, architecture, sources, epoch } = arguments;
    let mut command = match mounts {
        Mounts::Private => {
            let mut unshare = Command::new("unshare");
            unshare.args(["--mount", "mmdebstrap"]);
            unshare
        }
        Mounts::Plain => Command::new("mmdebstrap"),
    };
    command.args(["--mode=auto", "--variant=minbase", "--format=tar", "--skip=output/dev"]);
    command.arg(format!("--architectures={architecture}"));
    if !packages.is_empty() {
        command.arg(format!("--include={}", packages.join(",")));
    }
    command.args(LEFT_OUT.map(|option| format!("--dpkgopt={option}")));
    if let Some(keyring) = &sources.keyring {
        command.arg(format!("--keyring={}", keyring.display()));
    }
    command.arg(format!("--customize-hook={OF_THIS_MACHINE}"));
    if !sources.transport.is_empty() {
        // In a file, since a proxy's address may hold a password; and for making the base only.
        let file = private(folder, "apt.conf", &sources.transport)?;
        command.arg(format!("--aptopt={}", file.display()));
        command.arg(r#"--customize-hook=rm -f "$1/etc/apt/apt.conf.d/99mmdebstrap""#);
    }
    if !sources.clean.is_empty() {
        let clean: String = sources.clean.iter().map(|line| format!("{line}\n")).collect();
        let file = private(folder, "sources.list", &clean)?;
        command.arg(format!("--customize-hook=upload '{}' /etc/apt/sources.list", file.display()));
    }
    if !sources.lines.is_empty() {
        // The keyring is given; looking for it with gpg leaves gpg's folder behind when it is cut off.
        command.arg("--skip=check/signed-by");
    }
    command.args([suite, "-"]);
    if !sources.lines.is_empty() {
        // "-" for a mirror: sources come in by stdin, out of sight of ps.
        command.arg("-");
    }
    command
        .env("SOURCE_DATE_EPOCH", epoch.to_string())
        .env("LC_ALL", "C.UTF-8")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // When it fails it sends SIGHUP to its whole process group, which must not be this one.
        .process_group(0);
    Ok(command)
}

fn private(folder: &Path, name: &str, text: &str) -> io::Result<PathBuf> {
    let path = std::path::absolute(folder.join(name))?;
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
    file.write_all(text.as_bytes())?;
    Ok(path)
}

fn compress(mut tar: File, path: &Path) -> io::Result<Digests> {
    // Always gzip: a base is made once and kept for every project and engine, and any daemon takes it as it is.
    let mut layer = LayerWriter::new(
        Compression::Gzip,
        io::BufWriter::with_capacity(1 << 20, fs_err::File::create(path)?),
    );
    io::copy(&mut tar, &mut layer)?;
    let (mut blob, digests) = layer.finish()?;
    blob.flush()?;
    blob.get_ref().sync_all()?;
    Ok(digests)
}

/// Tells the task each line and keeps the last ones.
async fn last_lines(stderr: impl AsyncRead + Unpin, task: &Task) -> Vec<String> {
    let mut lines = BufReader::new(stderr).split(b'\n');
    let mut last = VecDeque::with_capacity(LAST_LINES);
    while let Ok(Some(line)) = lines.next_segment().await {
        let line = String::from_utf8_lossy(&line);
        // Progress is drawn over itself with carriage returns: the last state counts.
        let line = line.trim_end().rsplit('\r').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        task.detail(line.strip_prefix("I: ").unwrap_or(line));
        if last.len() == LAST_LINES {
            last.pop_front();
        }
        last.push_back(line.to_owned());
    }
    last.into()
}

/// mmdebstrap and what it started, asked to end when it is dropped: it then unmounts and removes what it has made.
/// Killing it would leave mounts behind.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // There is no id once it has ended and was waited for. The standard library can only kill, and only one process:
        // mmdebstrap itself waits for its parts, so all of them have to be asked.
        if let Some(id) = self.0.id() {
            let ask = ["-c", r#"kill -s TERM -- "-$1""#, "sh", &id.to_string()];
            let _ = std::process::Command::new("sh").args(ask).stderr(Stdio::null()).status();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_said_in_these_words() {
        let folder = tempfile::tempdir().unwrap();
        let tar = folder.path().join("tar");
        std::fs::write(&tar, vec![7; 4 << 20]).unwrap();
        let error = compress(File::open(&tar).unwrap(), Path::new("/dev/full")).unwrap_err();
        let error = on_disk(error);
        assert!(error.what().contains("the disk is full"), "{error:?}");
        assert!(error.help_text().unwrap().contains("free some space"));
    }

    #[tokio::test]
    async fn last_lines_are_kept_and_redrawn_ones_count_once() {
        let task = crate::progress::Reporter::silent().task("base", "base");
        let mut text: String = (0..100).map(|line| format!("I: line {line}\n")).collect();
        text.push_str("\n 1%\r 50%\r 100%\n");
        let last = last_lines(text.as_bytes(), &task).await;
        assert_eq!(last.len(), LAST_LINES);
        assert_eq!(last.last().unwrap(), "100%");
        assert_eq!(last[0], "I: line 86");
    }
}
