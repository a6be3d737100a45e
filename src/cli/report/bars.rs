//! Events as bars on a terminal: a line for each running task, a tick for each that ended.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use console::style;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::human_time;
use crate::image::inspect::human_size;
use crate::progress::{Event, Outcome, Progress, Stage, TaskId};

/// How wide the names in front of bars are.
const SUBJECT: usize = 8;
/// How wide the words after them are.
const WHAT: usize = 26;

/// Bars on stderr.
pub struct Bars {
    multi: MultiProgress,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    running: HashMap<TaskId, Running>,
    stage: Option<Stage>,
}

struct Running {
    bar: ProgressBar,
    subject: String,
    what: String,
    bytes: Option<u64>,
    start: Instant,
}

impl Bars {
    /// Draws nothing yet.
    pub fn new() -> Self {
        Bars { multi: MultiProgress::new(), state: Mutex::default() }
    }

    fn say(&self, line: String) {
        // A terminal that went away is no reason to stop a release half way.
        let _ = self.multi.println(line);
    }

    fn started(&self, subject: String, what: String, bytes: Option<u64>) -> Running {
        let bar = match bytes {
            Some(bytes) => ProgressBar::new(bytes).with_style(transfer_style()),
            None => ProgressBar::new_spinner().with_style(spinner_style()),
        };
        let bar = self.multi.add(bar);
        bar.set_prefix(format!("{} {}", pad(&subject, SUBJECT), pad(&what, WHAT)));
        bar.enable_steady_tick(Duration::from_millis(120));
        Running { bar, subject, what, bytes, start: Instant::now() }
    }

    fn finished(&self, running: Running, outcome: Outcome, detail: &str) {
        let Running { bar, subject, what, bytes, start } = running;
        bar.finish_and_clear();
        self.multi.remove(&bar);
        let millis = start.elapsed().as_millis() as u64;
        let mut facts: Vec<String> = Vec::new();
        if let (Some(bytes), Outcome::Done) = (bytes, outcome) {
            facts.push(human_size(bytes));
        }
        if !detail.is_empty() {
            facts.push(detail.to_owned());
        }
        if outcome == Outcome::Done && millis >= 100 {
            facts.push(human_time(millis));
        }
        let mark = match outcome {
            Outcome::Done => style("✓").green().for_stderr(),
            Outcome::Reused => style("=").cyan().for_stderr(),
            Outcome::Failed => style("✗").red().for_stderr(),
        };
        if outcome == Outcome::Reused && facts.is_empty() {
            facts.push("there already".into());
        }
        let facts = style(facts.join(", ")).dim().for_stderr();
        self.say(format!(" {mark} {} {} {facts}", pad(&subject, SUBJECT), pad(&what, WHAT)));
    }
}

impl Progress for Bars {
    fn event(&self, event: Event) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::StageStarted { stage } => state.stage = Some(stage),
            Event::StageFinished { .. } => {}
            Event::TaskStarted { task, subject, what, bytes } => {
                let running = self.started(subject, what, bytes);
                state.running.insert(task, running);
            }
            Event::TaskAdvanced { task, bytes } => {
                if let Some(running) = state.running.get(&task) {
                    running.bar.inc(bytes);
                }
            }
            Event::TaskDetail { task, detail } => {
                if let Some(running) = state.running.get(&task) {
                    running.bar.set_message(console::strip_ansi_codes(&detail).into_owned());
                }
            }
            Event::TaskFinished { task, outcome, detail } => {
                if let Some(running) = state.running.remove(&task) {
                    self.finished(running, outcome, &detail);
                }
            }
            // A build says hundreds of lines; its bar shows the step, and a failing step's error its last ones. What
            // once-tasks and the service say is shown whole.
            Event::Log { subject, line, .. } => {
                if !matches!(state.stage, Some(Stage::Build | Stage::Bases)) {
                    let line = console::strip_ansi_codes(&line);
                    self.say(format!("   {} {}", pad(&subject, SUBJECT), style(line).dim().for_stderr()));
                }
            }
            Event::Note { text } => self.say(format!(" {} {text}", style("·").cyan().for_stderr())),
            Event::Warning { text } => {
                self.say(format!(" {} {text}", style("!").yellow().bold().for_stderr()));
            }
        }
    }
}

fn pad(text: &str, width: usize) -> String {
    console::pad_str(text, width, console::Alignment::Left, None).into_owned()
}

fn transfer_style() -> ProgressStyle {
    let template = " {spinner:.cyan} {prefix} {bar:24.cyan/dim} {bytes:>10} of {total_bytes} {msg:.dim}";
    style_of(template).progress_chars("━╸─")
}

fn spinner_style() -> ProgressStyle {
    style_of(" {spinner:.cyan} {prefix} {wide_msg:.dim} {elapsed:>4.dim}")
}

fn style_of(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("the template is a constant").tick_chars("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏ ")
}
