//! Events as plain lines on stderr, for CI and log files: nothing is ever redrawn.

use std::collections::HashMap;
use std::io::Write;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use super::human_time;
use crate::image::inspect::human_size;
use crate::progress::{Event, Outcome, Progress, Stage, TaskId};

/// Prints a line when a task begins that takes long, and one when it ends.
#[derive(Default)]
pub struct Plain(Mutex<HashMap<TaskId, Running>>);

struct Running {
    subject: String,
    what: String,
    bytes: Option<u64>,
    start: Instant,
}

/// The word for a stage.
pub fn stage_word(stage: Stage) -> &'static str {
    match stage {
        Stage::Observe => "look",
        Stage::Bases => "bases",
        Stage::Build => "build",
        Stage::Bake => "bake",
        Stage::Push => "push",
        Stage::Deploy => "deploy",
    }
}

/// `web: push layer 3f2a: done, 12.0 MB, 1.2 s`
pub fn ended(
    subject: &str,
    what: &str,
    bytes: Option<u64>,
    outcome: Outcome,
    detail: &str,
    millis: u64,
) -> String {
    let word = match outcome {
        Outcome::Done => "done",
        Outcome::Reused => "there already",
        Outcome::Failed => "failed",
    };
    let mut line = format!("{subject}: {what}: {word}");
    if let (Some(bytes), Outcome::Done) = (bytes, outcome) {
        line.push_str(&format!(", {}", human_size(bytes)));
    }
    if !detail.is_empty() {
        line.push_str(&format!(", {detail}"));
    }
    if outcome == Outcome::Done && millis >= 100 {
        line.push_str(&format!(", {}", human_time(millis)));
    }
    line
}

impl Progress for Plain {
    fn event(&self, event: Event) {
        let mut running = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let line = match event {
            Event::StageStarted { stage } => format!("== {}", stage_word(stage)),
            Event::StageFinished { .. } | Event::TaskAdvanced { .. } | Event::TaskDetail { .. } => return,
            Event::TaskStarted { task, subject, what, bytes } => {
                running.insert(task, Running { subject, what, bytes, start: Instant::now() });
                return;
            }
            Event::TaskFinished { task, outcome, detail } => {
                let Some(Running { subject, what, bytes, start }) = running.remove(&task) else { return };
                ended(&subject, &what, bytes, outcome, &detail, start.elapsed().as_millis() as u64)
            }
            Event::Log { subject, line, .. } => format!("{subject} | {}", console::strip_ansi_codes(&line)),
            Event::Note { text } => format!("note: {text}"),
            Event::Warning { text } => format!("warning: {text}"),
        };
        let _ = writeln!(std::io::stderr().lock(), "{line}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_task_is_one_line() {
        let line = ended("web", "push layer 3f2a", Some(12_000_000), Outcome::Done, "", 1200);
        assert_eq!(line, "web: push layer 3f2a: done, 12.0 MB, 1.2 s");
        let line = ended("web", "push layer 3f2a", Some(12_000_000), Outcome::Reused, "", 3);
        assert_eq!(line, "web: push layer 3f2a: there already");
        let line = ended("db", "wait", None, Outcome::Failed, "exit 1", 3);
        assert_eq!(line, "db: wait: failed, exit 1");
    }
}
