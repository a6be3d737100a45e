//! For `run`: what the container prints goes to stdout as it is, the rest as plain lines to stderr.

use std::io::Write;

use super::plain::Plain;
use crate::progress::{Event, Progress};

/// Passes a container's output on.
#[derive(Default)]
pub struct Raw(Plain);

impl Progress for Raw {
    fn event(&self, event: Event) {
        match event {
            Event::Log { line, .. } => {
                let _ = writeln!(std::io::stdout().lock(), "{line}");
            }
            Event::TaskFinished { .. } | Event::TaskStarted { .. } => {}
            other => self.0.event(other),
        }
    }
}
