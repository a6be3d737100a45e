//! What containers print, and how they end.

use bollard::container::LogOutput;
use bollard::errors::Error as DockerError;
use bollard::query_parameters::{LogsOptionsBuilder, WaitContainerOptions};
use futures_util::StreamExt;

use super::Daemon;
use crate::error::{Error, Result};
use crate::progress::Stream;

impl Daemon {
    /// The last lines that a container printed, stdout and stderr together.
    ///
    /// # Errors
    /// There is no such container.
    pub async fn logs_tail(&self, container: &str, lines: usize) -> Result<Vec<String>> {
        let options =
            LogsOptionsBuilder::default().stdout(true).stderr(true).tail(&lines.to_string()).build();
        let mut output = self.docker.logs(container, Some(options));
        let mut text = Vec::new();
        while let Some(part) = output.next().await {
            let part = part.map_err(|error| self.error(&format!("read the logs of {container}"), error))?;
            text.extend_from_slice(&part.into_bytes());
        }
        let text = String::from_utf8_lossy(&text);
        Ok(text.lines().map(|line| line.trim_end().to_owned()).collect())
    }

    /// Everything that a container prints, from its beginning to its end, line by line.
    ///
    /// # Errors
    /// There is no such container, or its logging driver keeps nothing that could be read.
    pub async fn follow_logs(&self, container: &str, told: &(dyn Fn(Stream, &str) + Sync)) -> Result<()> {
        let options = LogsOptionsBuilder::default().stdout(true).stderr(true).follow(true).build();
        let mut output = self.docker.logs(container, Some(options));
        let (mut out, mut err) = (Lines::default(), Lines::default());
        while let Some(part) = output.next().await {
            let part = part.map_err(|error| self.error(&format!("follow the logs of {container}"), error))?;
            match part {
                LogOutput::StdErr { message } => err.add(&message, |line| told(Stream::Stderr, line)),
                other => out.add(&other.into_bytes(), |line| told(Stream::Stdout, line)),
            }
        }
        out.end(|line| told(Stream::Stdout, line));
        err.end(|line| told(Stream::Stderr, line));
        Ok(())
    }

    /// Waits until a container has ended; its exit code.
    ///
    /// # Errors
    /// There is no such container, or the daemon stops telling.
    pub async fn exit_code(&self, container: &str) -> Result<i64> {
        let doing = format!("wait for the container {container}");
        let mut waiting = self.docker.wait_container(container, None::<WaitContainerOptions>);
        match waiting.next().await {
            Some(Ok(ended)) => Ok(ended.status_code),
            // bollard takes every code but 0 for an error.
            Some(Err(DockerError::DockerContainerWaitError { code, .. })) => Ok(code),
            Some(Err(error)) => Err(self.error(&doing, error)),
            None => Err(Error::failed(format!("cannot {doing}: the daemon says nothing more"))),
        }
    }
}

/// Bytes as they come in, cut into lines. What is not UTF-8 is shown all the same.
#[derive(Default)]
struct Lines(Vec<u8>);

impl Lines {
    fn add(&mut self, bytes: &[u8], mut told: impl FnMut(&str)) {
        self.0.extend_from_slice(bytes);
        while let Some(end) = self.0.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.0.drain(..=end).collect();
            told(String::from_utf8_lossy(&line).trim_end_matches(['\n', '\r']));
        }
    }

    fn end(self, mut told: impl FnMut(&str)) {
        if !self.0.is_empty() {
            told(&String::from_utf8_lossy(&self.0));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_whole_wherever_the_bytes_were_cut() {
        let mut lines = Lines::default();
        let mut told = Vec::new();
        for part in ["on", "e\r\ntwo\n\nth", "ree"] {
            lines.add(part.as_bytes(), |line| told.push(line.to_owned()));
        }
        lines.end(|line| told.push(line.to_owned()));
        assert_eq!(told, ["one", "two", "", "three"]);
    }
}
