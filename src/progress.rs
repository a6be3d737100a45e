//! What happens during a run, as typed events. Nothing here draws; `cli/report` does.
//!
//! The shapes are public: `--output json` prints each event as one line (docs/json.md).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

/// A stage of the pipeline, in the order of the drawing in ARCHITECTURE.md.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// Read secrets, look at bases, registry and service.
    Observe,
    /// Make the bases that are not there yet.
    Bases,
    /// Build the images without secrets.
    Build,
    /// Add the secret layer.
    Bake,
    /// Send images to the registry.
    Push,
    /// Once-tasks, switch, verify.
    Deploy,
}

/// How a task ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The work was done.
    Done,
    /// The result was there already; nothing was done.
    Reused,
    /// It did not get to its end.
    Failed,
}

/// Names one task within a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct TaskId(u64);

/// One thing that happened.
///
/// Invariant: no field holds a secret value.
#[allow(missing_docs, reason = "the fields are described in docs/json.md, one row each")]
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// A stage began.
    StageStarted { stage: Stage },
    /// A stage ended well.
    StageFinished { stage: Stage, millis: u64 },
    /// A piece of work began. `subject` is the image (or base, or service) it is about.
    TaskStarted {
        task: TaskId,
        subject: String,
        what: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        bytes: Option<u64>,
    },
    /// So many bytes more are through.
    TaskAdvanced { task: TaskId, bytes: u64 },
    /// What the task is doing just now, in a few words.
    TaskDetail { task: TaskId, detail: String },
    /// A piece of work ended.
    TaskFinished {
        task: TaskId,
        outcome: Outcome,
        #[serde(skip_serializing_if = "String::is_empty")]
        detail: String,
    },
    /// A line that a build step, a once-task or a container printed, and where it printed it, as far as that is known.
    Log { subject: String, line: String, stream: Stream },
    /// Something worth knowing.
    Note { text: String },
    /// Something that may be wrong.
    Warning { text: String },
}

/// Where a program prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stream {
    /// Its output; also where nobody can tell.
    Stdout,
    /// Its errors.
    Stderr,
}

/// Takes events. Implementations must be quick and must not fail.
pub trait Progress: Send + Sync {
    /// Called for every event, from any thread.
    fn event(&self, event: Event);
}

/// A shared [`Progress`] with the calls that stages make.
#[derive(Clone)]
pub struct Reporter {
    sink: Arc<dyn Progress>,
    next: Arc<AtomicU64>,
}

impl Reporter {
    /// Sends events to `sink`.
    pub fn new(sink: Arc<dyn Progress>) -> Self {
        Reporter { sink, next: Arc::new(AtomicU64::new(1)) }
    }

    /// Drops every event; for tests and for commands that have nothing to show.
    pub fn silent() -> Self {
        struct Silent;
        impl Progress for Silent {
            fn event(&self, _: Event) {}
        }
        Reporter::new(Arc::new(Silent))
    }

    /// Begins a piece of work about `subject` (an image's name, say).
    pub fn task(&self, subject: impl Into<String>, what: impl Into<String>) -> Task {
        self.begin(subject.into(), what.into(), None)
    }

    /// Begins a piece of work that moves `bytes` bytes.
    pub fn transfer(&self, subject: impl Into<String>, what: impl Into<String>, bytes: u64) -> Task {
        self.begin(subject.into(), what.into(), Some(bytes))
    }

    fn begin(&self, subject: String, what: String, bytes: Option<u64>) -> Task {
        let id = TaskId(self.next.fetch_add(1, Ordering::Relaxed));
        self.sink.event(Event::TaskStarted { task: id, subject, what, bytes });
        Task { id, sink: Arc::clone(&self.sink), open: true }
    }

    /// Passes on a line that something printed.
    pub fn log(&self, subject: impl Into<String>, line: impl Into<String>) {
        self.log_from(Stream::Stdout, subject, line);
    }

    /// Passes on a line that something printed to `stream`.
    pub fn log_from(&self, stream: Stream, subject: impl Into<String>, line: impl Into<String>) {
        self.sink.event(Event::Log { subject: subject.into(), line: line.into(), stream });
    }

    /// Says something worth knowing.
    pub fn note(&self, text: impl Into<String>) {
        self.sink.event(Event::Note { text: text.into() });
    }

    /// Says that something may be wrong.
    pub fn warning(&self, text: impl Into<String>) {
        self.sink.event(Event::Warning { text: text.into() });
    }

    /// Says that a stage began.
    pub fn stage_started(&self, stage: Stage) {
        self.sink.event(Event::StageStarted { stage });
    }

    /// Says that a stage ended well.
    pub fn stage_finished(&self, stage: Stage, millis: u64) {
        self.sink.event(Event::StageFinished { stage, millis });
    }
}

/// A running piece of work. Dropped without `done` or `reused`, it counts as failed.
pub struct Task {
    id: TaskId,
    sink: Arc<dyn Progress>,
    open: bool,
}

impl Task {
    /// So many bytes more are through.
    pub fn advance(&self, bytes: u64) {
        self.sink.event(Event::TaskAdvanced { task: self.id, bytes });
    }

    /// What it is doing just now.
    pub fn detail(&self, detail: impl Into<String>) {
        self.sink.event(Event::TaskDetail { task: self.id, detail: detail.into() });
    }

    /// It is done; `detail` says with what result.
    pub fn done(self, detail: impl Into<String>) {
        self.finish(Outcome::Done, detail.into());
    }

    /// There was nothing to do.
    pub fn reused(self, detail: impl Into<String>) {
        self.finish(Outcome::Reused, detail.into());
    }

    fn finish(mut self, outcome: Outcome, detail: String) {
        self.open = false;
        self.sink.event(Event::TaskFinished { task: self.id, outcome, detail });
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        if self.open {
            self.sink.event(Event::TaskFinished {
                task: self.id,
                outcome: Outcome::Failed,
                detail: String::new(),
            });
        }
    }
}
