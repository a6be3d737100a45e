//! Runs the imgforge binary as a user would: its own folder, an environment with nothing in it but what the test says.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The binary under test.
pub const BINARY: &str = env!("CARGO_BIN_EXE_imgforge");

/// How a run ended.
#[derive(Debug)]
pub struct Ended {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Ended {
    /// The JSON lines on stdout.
    pub fn json(&self) -> Vec<serde_json::Value> {
        let parse = |line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        self.stdout.lines().map(parse).collect()
    }

    /// The result of the command (`--output json`).
    pub fn result(&self) -> serde_json::Value {
        let lines = self.json();
        lines
            .into_iter()
            .find(|line| line["event"] == "result")
            .unwrap_or_else(|| panic!("no result: {self:#?}"))
    }

    /// The same, when it ended well.
    pub fn ok(self) -> Self {
        assert_eq!(self.code, 0, "{}\n{}", self.stdout, self.stderr);
        self
    }

    /// The same, when it ended with `code` and said `words` on stderr.
    pub fn failed(self, code: i32, words: &str) -> Self {
        let said = self.stderr.contains(words) || self.stdout.contains(words);
        assert!(
            self.code == code && said,
            "wanted {code} and {words:?}, got {}:\n{}\n{}",
            self.code,
            self.stdout,
            self.stderr
        );
        self
    }
}

/// How to run it.
#[derive(Clone)]
pub struct Program {
    directory: PathBuf,
    variables: Vec<(String, String)>,
}

impl Program {
    /// In `directory`, with the variables that any program needs and no others.
    pub fn new(directory: impl AsRef<Path>) -> Self {
        let kept = ["PATH", "HOME", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR"];
        let variables = kept.iter().filter_map(|name| Some(((*name).to_owned(), std::env::var(name).ok()?)));
        Program { directory: directory.as_ref().to_owned(), variables: variables.collect() }
    }

    /// With this variable.
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.variables.retain(|(known, _)| known != name);
        self.variables.push((name.to_owned(), value.into()));
        self
    }

    /// The command, for tests that feed or kill it.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(BINARY);
        command.args(arguments).current_dir(&self.directory).env_clear().envs(self.variables.iter().cloned());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs it to its end.
    pub fn run(&self, arguments: &[&str]) -> Ended {
        let output = self.command(arguments).output().expect("the binary starts");
        Ended {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}
