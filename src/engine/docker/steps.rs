//! Follows the steps of a build: which run, what they print, and which failed with what words.

use std::collections::{HashMap, VecDeque};

use bollard::moby::buildkit::v1::{StatusResponse, Vertex};

use crate::error::Error;
use crate::progress::{Reporter, Task};

/// How many of a step's last lines are kept for its error.
const LINES: usize = 20;

/// One step: a vertex of BuildKit's graph, or an instruction of the classic builder.
#[derive(Default)]
struct Step {
    name: String,
    started: bool,
    cached: bool,
    error: String,
    lines: VecDeque<String>,
    /// What came without a line's end.
    rest: String,
}

impl Step {
    fn keep(&mut self, line: &str) {
        if self.lines.len() == LINES {
            self.lines.pop_front();
        }
        self.lines.push_back(line.to_owned());
    }
}

/// The steps of one image's build.
pub(super) struct Steps<'a> {
    image: &'a str,
    task: &'a Task,
    progress: &'a Reporter,
    steps: HashMap<String, Step>,
    /// The classic builder runs one at a time.
    current: String,
}

impl<'a> Steps<'a> {
    pub(super) fn new(image: &'a str, task: &'a Task, progress: &'a Reporter) -> Self {
        Steps { image, task, progress, steps: HashMap::new(), current: String::new() }
    }

    /// How many steps came from the cache.
    pub(super) fn cached(&self) -> usize {
        self.steps.values().filter(|step| is_instruction(&step.name) && step.cached).count()
    }

    /// How many were run. Naming a base is no work.
    pub(super) fn ran(&self) -> usize {
        let from = |step: &Step| step.name.contains("] FROM ") || step.name.starts_with("FROM ");
        self.steps.values().filter(|step| is_instruction(&step.name) && !step.cached && !from(step)).count()
    }

    /// What BuildKit says.
    pub(super) fn status(&mut self, status: StatusResponse) {
        for vertex in status.vertexes {
            self.vertex(vertex);
        }
        for log in status.logs {
            let text = String::from_utf8_lossy(&log.msg).into_owned();
            self.print(&log.vertex, &text);
        }
    }

    fn vertex(&mut self, vertex: Vertex) {
        let step = self.steps.entry(vertex.digest).or_default();
        step.name = vertex.name;
        step.cached |= vertex.cached;
        if !vertex.error.is_empty() {
            step.error = vertex.error;
        }
        if vertex.started.is_some() && !step.started {
            step.started = true;
            self.task.detail(&step.name);
            if is_instruction(&step.name) {
                self.progress.log(self.image, &step.name);
            }
        }
        if vertex.cached && is_instruction(&step.name) && vertex.completed.is_some() {
            self.progress.log(self.image, format!("{} (cached)", step.name));
        }
    }

    /// What the classic builder says.
    pub(super) fn classic(&mut self, text: &str) {
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            if let Some((_, instruction)) = line.strip_prefix("Step ").and_then(|rest| rest.split_once(" : "))
            {
                self.current = line.to_owned();
                let step = Step { name: instruction.to_owned(), started: true, ..Step::default() };
                self.steps.insert(self.current.clone(), step);
                self.task.detail(instruction);
                self.progress.log(self.image, instruction);
            } else if line.trim() == "---> Using cache" {
                let current = self.current.clone();
                self.steps.entry(current).or_default().cached = true;
            } else if !line.starts_with(" ---> ") {
                let current = self.current.clone();
                self.print(&current, &format!("{line}\n"));
            }
        }
    }

    fn print(&mut self, step: &str, text: &str) {
        let step = self.steps.entry(step.to_owned()).or_default();
        step.rest.push_str(text);
        while let Some(end) = step.rest.find('\n') {
            let line: String = step.rest.drain(..=end).collect();
            // A progress bar redraws its line: only what it showed last counts.
            let line = line.trim_end_matches(['\n', '\r']).rsplit('\r').next().unwrap_or_default().to_owned();
            step.keep(&line);
            self.progress.log(self.image, line);
        }
    }

    /// The error of the step that failed, with its own last lines.
    pub(super) fn failed(mut self, message: String, code: Option<i64>) -> Error {
        let others = |error: &str| error.is_empty() || error.contains("context canceled");
        let failed = self.steps.iter().find(|(_, step)| !others(&step.error)).map(|(key, _)| key.clone());
        let key = failed.unwrap_or_else(|| self.current.clone());
        let step = self.steps.remove(&key).unwrap_or_default();
        let mut lines: Vec<String> = step.lines.into_iter().collect();
        if !step.rest.trim().is_empty() {
            lines.push(step.rest.trim().to_owned());
        }
        let error = match step.name.is_empty() {
            true => Error::failed(format!("image {} was not built", self.image)),
            false => Error::failed(format!("image {} was not built: {} failed", self.image, step.name)),
        };
        let code = exit_code(&message).or(code.filter(|code| *code != 0));
        let why = match code {
            Some(code) => format!("exit code {code}"),
            None => message,
        };
        let because = match lines.is_empty() {
            true => why,
            false => format!("{why}; its last lines:\n{}", lines.join("\n")),
        };
        error
            .because(Error::failed(because))
            .help("mend the step and run the same command again: the steps before it are cached")
    }
}

/// `[2/5] RUN …`, `[builder 1/3] COPY …`, `RUN …`; not BuildKit's own `[internal] load …`, nor its `exporting …`.
fn is_instruction(name: &str) -> bool {
    let upper = |text: &str| text.starts_with(|c: char| c.is_ascii_uppercase());
    match name.strip_prefix('[').and_then(|rest| rest.split_once("] ")) {
        Some((place, rest)) => place != "internal" && upper(rest),
        None => name.split(' ').next().is_some_and(|word| word.bytes().all(|b| b.is_ascii_uppercase())),
    }
}

/// `… did not complete successfully: exit code: 3`, `executor failed running […]: exit code: 3`, `non-zero code: 3`.
fn exit_code(message: &str) -> Option<i64> {
    let (_, after) = message.rsplit_once("code: ")?;
    after.chars().take_while(char::is_ascii_digit).collect::<String>().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vertex(digest: &str, name: &str, error: &str) -> Vertex {
        Vertex { digest: digest.into(), name: name.into(), error: error.into(), ..Vertex::default() }
    }

    #[test]
    fn the_failing_step_is_named_with_its_own_last_lines() {
        let progress = Reporter::silent();
        let task = progress.task("web", "build");
        let mut steps = Steps::new("web", &task, &progress);
        steps.vertex(vertex("a", "[2/3] RUN one", "context canceled"));
        steps.vertex(vertex("b", "[3/3] RUN two", "exit code: 3"));
        steps.print("a", "of another\n");
        steps.print("b", "first\nbar 1%\rbar 100%\nthe rea");
        steps.print("b", "son\n");
        let error = steps.failed("executor failed running [/bin/sh -c two]: exit code: 3".into(), None);
        assert_eq!(error.what(), "image web was not built: [3/3] RUN two failed");
        assert_eq!(error.causes(), ["exit code 3; its last lines:\nfirst\nbar 100%\nthe reason"]);
    }

    #[test]
    fn the_classic_builders_steps_are_told_apart() {
        let progress = Reporter::silent();
        let task = progress.task("web", "build");
        let mut steps = Steps::new("web", &task, &progress);
        steps.classic("Step 1/3 : FROM x\n");
        steps.classic(" ---> 1234\n");
        steps.classic("Step 2/3 : COPY . .\n");
        steps.classic(" ---> Using cache\n");
        steps.classic("Step 3/3 : RUN false\n");
        steps.classic(" ---> Running in abcd\n");
        steps.classic("out\n");
        assert_eq!((steps.cached(), steps.ran()), (1, 1));
        let error =
            steps.failed("The command '/bin/sh -c false' returned a non-zero code: 1".into(), Some(1));
        assert_eq!(error.what(), "image web was not built: RUN false failed");
        assert_eq!(error.causes(), ["exit code 1; its last lines:\nout"]);
    }

    #[test]
    fn instructions_are_told_from_the_builders_own_work() {
        for name in ["[2/5] RUN a", "[builder 1/3] COPY a b", "[1/2] FROM x", "RUN a"] {
            assert!(is_instruction(name), "{name}");
        }
        for name in
            ["[internal] load build definition from Dockerfile", "exporting to image", "importing cache"]
        {
            assert!(!is_instruction(name), "{name}");
        }
    }
}
