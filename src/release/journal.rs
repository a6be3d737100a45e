//! What a run has done so far, so that a failure or Ctrl-C can say it (contract 9).

use std::fmt;
use std::sync::{Mutex, PoisonError};

use crate::progress::Stage;

#[derive(Default)]
struct State {
    stage: Option<Stage>,
    done: Vec<String>,
    at_work: Option<String>,
    switching: bool,
}

/// Written by the stages, read when the run ends badly.
#[derive(Default)]
pub struct Journal(Mutex<State>);

impl Journal {
    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A stage began.
    pub fn enter(&self, stage: Stage) {
        self.with(|state| state.stage = Some(stage));
    }

    /// A piece of work is done: `pushed web`.
    pub fn did(&self, what: impl Into<String>) {
        self.with(|state| state.done.push(what.into()));
    }

    /// A once-task begins, which goes on by itself when this run ends early.
    pub fn once_task(&self, name: &str) {
        self.with(|state| state.at_work = Some(name.to_owned()));
    }

    /// It has ended.
    pub fn once_task_ended(&self) {
        self.with(|state| state.at_work = None);
    }

    /// From here on the service may have been changed.
    pub fn switching(&self) {
        self.with(|state| state.switching = true);
    }

    /// The switch failed and what ran before runs again.
    pub fn switched_back(&self) {
        self.with(|state| state.switching = false);
    }

    /// Whether anything at all has begun.
    pub fn is_empty(&self) -> bool {
        self.with(|state| state.stage.is_none())
    }
}

impl fmt::Display for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.with(|state| {
            let done = match state.done.is_empty() {
                true => "nothing".to_owned(),
                false => state.done.join(", "),
            };
            write!(f, "done: {done}. ")?;
            if let Some(name) = &state.at_work {
                write!(f, "Once-task {name} was at work and may still be. ")?;
            }
            match state.switching {
                true => f.write_str("The service was being switched: see what runs with `imgforge plan`, then run the same command again."),
                false => f.write_str(
                    "The running service was not touched; running the same command again goes on from here.",
                ),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_was_done_and_that_the_service_was_left_alone() {
        let journal = Journal::default();
        assert!(journal.is_empty());
        journal.enter(Stage::Build);
        journal.did("built web");
        journal.did("built nginx");
        let text = journal.to_string();
        assert!(
            text.starts_with("done: built web, built nginx. The running service was not touched"),
            "{text}"
        );
        journal.once_task("migrate");
        assert!(journal.to_string().contains("Once-task migrate was at work and may still be."));
        journal.once_task_ended();
        assert!(!journal.to_string().contains("migrate"));
        journal.switching();
        assert!(journal.to_string().contains("The service was being switched"));
        journal.switched_back();
        assert!(journal.to_string().contains("was not touched"));
    }
}
