//! The compose program: `docker compose` (the plugin) or `docker-compose` (the first generation, Debian's).

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::Command;
use tokio::sync::mpsc;

use super::images::Images;
use crate::engine::daemon::address;
use crate::error::{Error, Result};

/// The names that compose looks for by itself.
const FILES: [&str; 4] = ["compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml"];
/// How many lines of a failed command are told.
const TOLD: usize = 15;

/// A compose project and how to run compose for it.
#[derive(Debug, Clone)]
pub struct Compose {
    /// The project's name.
    pub project: String,
    /// The folder of imgforge.toml.
    pub root: PathBuf,
    /// The compose file, when imgforge.toml names one. Compose finds its own, with its override file, otherwise.
    pub file: Option<PathBuf>,
    /// Variables for compose: where the daemon is, for one.
    pub environment: Vec<(String, String)>,
}

/// Which compose is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tool {
    program: &'static str,
    leading: &'static [&'static str],
}

const TOOLS: [Tool; 2] =
    [Tool { program: "docker", leading: &["compose"] }, Tool { program: "docker-compose", leading: &[] }];

impl Compose {
    /// Finds the program and the compose file.
    ///
    /// # Errors
    /// [`crate::error::Kind::Refused`] when one of them is not there.
    pub async fn find(&self) -> Result<Tool> {
        self.check_file()?;
        for tool in TOOLS {
            let mut command = self.program(tool);
            command.arg("version");
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
            if command.status().await.is_ok_and(|status| status.success()) {
                return Ok(tool);
            }
        }
        Err(Error::refused("neither `docker compose` nor `docker-compose` is there")
            .help("install Docker's compose plugin, or Debian's package docker-compose"))
    }

    fn check_file(&self) -> Result<()> {
        let exists = |file: &Path| self.root.join(file).is_file();
        match &self.file {
            Some(file) if exists(file) => Ok(()),
            Some(file) => Err(Error::refused(format!("there is no compose file {}", file.display()))
                .help("[deploy] in imgforge.toml names it, from the project's folder")),
            None if FILES.iter().any(|file| exists(file.as_ref())) => Ok(()),
            None => Err(Error::refused("there is no compose file in the project's folder")
                .help(format!("write {}, or name another one: [deploy] file = \"…\"", FILES[0]))),
        }
    }

    /// The daemon is the one that built the images, whatever else the caller's environment says.
    fn program(&self, tool: Tool) -> Command {
        let mut command = Command::new(tool.program);
        command.args(tool.leading);
        for name in address::VARIABLES {
            command.env_remove(name);
        }
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    fn command(&self, tool: Tool, arguments: &[&str], images: &Images) -> Command {
        let mut command = self.program(tool);
        command.arg("--project-name").arg(&self.project);
        if let Some(file) = &self.file {
            command.arg("--file").arg(file);
        }
        command.args(arguments).envs(images.variables());
        // Compose's own progress display is for terminals, and its hints are about itself.
        command.env("COMPOSE_ANSI", "never").env("DOCKER_CLI_HINTS", "false");
        for name in ["COMPOSE_FILE", "COMPOSE_PROFILES"] {
            command.env_remove(name);
        }
        command.current_dir(&self.root).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs a command that only answers, and returns what it printed.
    ///
    /// # Errors
    /// It ended with another code than 0; compose's own words are the cause.
    pub async fn ask(&self, tool: Tool, arguments: &[&str], images: &Images) -> Result<String> {
        let mut command = self.command(tool, arguments, images);
        let output = command.kill_on_drop(true).output().await?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(failed(arguments, output.status, &said.lines().map(str::to_owned).collect::<Vec<_>>()))
    }

    /// Runs a command that changes something; each line that compose prints about it goes to `line`.
    ///
    /// It is not killed when this is dropped: what compose has begun should come to its end.
    ///
    /// # Errors
    /// As [`Compose::ask`].
    pub async fn run(
        &self,
        tool: Tool,
        arguments: &[&str],
        images: &Images,
        line: &(dyn Fn(&str) + Sync),
    ) -> Result<()> {
        let mut child = self.command(tool, arguments, images).spawn()?;
        let (sender, mut lines) = mpsc::channel(64);
        if let Some(out) = child.stdout.take() {
            tokio::spawn(pass_on(out, sender.clone()));
        }
        if let Some(err) = child.stderr.take() {
            tokio::spawn(pass_on(err, sender.clone()));
        }
        drop(sender);
        let mut last = Vec::new();
        while let Some(text) = lines.recv().await {
            line(&text);
            if last.len() == TOLD {
                last.remove(0);
            }
            last.push(text);
        }
        let status = child.wait().await?;
        if status.success() { Ok(()) } else { Err(failed(arguments, status, &last)) }
    }
}

/// Sends each line on. A program that prints something else than UTF-8 is read all the same.
async fn pass_on(stream: impl AsyncRead + Unpin, lines: mpsc::Sender<String>) {
    let mut reader = BufReader::new(stream);
    let mut bytes = Vec::new();
    while reader.read_until(b'\n', &mut bytes).await.is_ok_and(|read| read > 0) {
        let text = String::from_utf8_lossy(&bytes).trim_end().to_owned();
        bytes.clear();
        if !text.is_empty() {
            // Read on when nobody listens any more: a closed pipe would end the program.
            let _ = lines.send(text).await;
        }
    }
}

fn failed(arguments: &[&str], status: ExitStatus, said: &[String]) -> Error {
    let what = arguments.first().copied().unwrap_or_default();
    let said = &said[said.len().saturating_sub(TOLD)..];
    let error = Error::failed(format!("compose {what} failed ({status})"));
    if said.is_empty() { error } else { error.because(said.join("\n")) }
}
