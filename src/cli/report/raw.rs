//! For `run`: what the container prints goes where it printed it, as it is; the rest as plain lines to stderr.

use std::io::Write;

use super::plain::Plain;
use crate::progress::{Event, Progress, Stream};

/// Passes a container's output on.
#[derive(Default)]
pub struct Raw(Plain);

impl Progress for Raw {
    fn event(&self, event: Event) {
        match event {
            // A reader that went away does not end what runs.
            Event::Log { line, stream: Stream::Stdout, .. } => {
                let _ = writeln!(std::io::stdout().lock(), "{line}");
            }
            Event::Log { line, stream: Stream::Stderr, .. } => {
                let _ = writeln!(std::io::stderr().lock(), "{line}");
            }
            Event::TaskFinished { .. } | Event::TaskStarted { .. } => {}
            other => self.0.event(other),
        }
    }
}
