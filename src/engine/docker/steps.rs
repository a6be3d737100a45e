//! What a build is doing: its steps, their output, and what is left of it to tell when one fails.

use std::collections::{HashMap, VecDeque};

use super::build_failed;
use crate::engine::Recipe;
use crate::error::Error;
use crate::progress::{Reporter, Task};

/// How many lines of a failed step are told.
const TAIL: usize = 20;
/// A step's name is a whole command; this much of it is told.
const NAME: usize = 160;
/// Larger build secrets are bundles of certificates: nothing to hide, and long to look for.
const MASKED_SECRET: usize = 4096;
/// A shorter word of a secret would hide half of the log.
const MASKED_WORD: usize = 6;

/// Follows a build.
pub(super) struct Steps<'a> {
    image: &'a str,
    task: &'a Task,
    progress: &'a Reporter,
    masked: Vec<String>,
    steps: HashMap<String, Step>,
}

/// A step as the builder tells it. Each is told several times, with more in it.
#[derive(Debug, Default)]
pub(super) struct Told<'t> {
    /// The builder's own key for it.
    pub(super) key: &'t str,
    /// `[2/4] RUN make`
    pub(super) name: &'t str,
    pub(super) started: bool,
    pub(super) cached: bool,
    /// Why it failed; empty when it did not.
    pub(super) error: &'t str,
}

#[derive(Default)]
struct Step {
    name: String,
    announced: bool,
    cached: bool,
    error: String,
    tail: VecDeque<String>,
    /// A line whose end did not come yet.
    begun: String,
}

impl Step {
    /// Whether the Dockerfile says so: what BuildKit does for itself is no news.
    fn is_of_dockerfile(&self) -> bool {
        self.name.starts_with('[') && !self.name.starts_with("[internal]")
    }
}

/// The parts of a secret's line that a step may print by themselves: the whole, the value of `name = value`, the password
/// of a URL.
fn telling(line: &str) -> Vec<&str> {
    let line = line.trim();
    let value = line.split_once('=').map(|(_, value)| value.trim().trim_matches(['"', '\'']));
    let password = line
        .split_once("://")
        .and_then(|(_, rest)| rest.split('/').next()?.rsplit_once('@'))
        .and_then(|(user, _)| user.split_once(':'))
        .map(|(_, password)| password);
    [Some(line), value, password].into_iter().flatten().collect()
}

impl<'a> Steps<'a> {
    pub(super) fn new(recipe: &'a Recipe, task: &'a Task, progress: &'a Reporter) -> Self {
        let small = recipe.secrets.values().filter(|secret| secret.len() <= MASKED_SECRET);
        let mut masked = small
            .flat_map(|secret| {
                let text = String::from_utf8_lossy(secret.expose()).into_owned();
                text.lines().flat_map(telling).map(str::to_owned).collect::<Vec<_>>()
            })
            .filter(|part| part.len() >= MASKED_WORD)
            .collect::<Vec<_>>();
        // The longest first: what is left of a masked part would tell of the rest.
        masked.sort_by_key(|part| std::cmp::Reverse(part.len()));
        Steps { image: &recipe.image, task, progress, masked, steps: HashMap::new() }
    }

    /// The builder told of a step.
    pub(super) fn told(&mut self, told: &Told<'_>) {
        let name = self.mask(&shorten(told.name));
        let error = self.mask(told.error);
        let step = self.steps.entry(told.key.to_owned()).or_default();
        if !name.is_empty() {
            step.name = name;
        }
        step.cached |= told.cached;
        if !error.is_empty() {
            step.error = error;
        }
        if (told.started || told.cached) && !step.announced {
            step.announced = true;
            self.task.detail(&step.name);
            if step.is_of_dockerfile() {
                let cached = if step.cached { " (cached)" } else { "" };
                self.progress.log(self.image, format!("{}{cached}", step.name));
            }
        }
    }

    /// The step of this key printed something.
    pub(super) fn printed(&mut self, key: &str, text: &str) {
        let mut rest = std::mem::take(&mut self.steps.entry(key.to_owned()).or_default().begun);
        rest.push_str(text);
        while let Some((line, after)) = rest.split_once('\n') {
            self.line(key, line);
            rest = after.to_owned();
        }
        self.steps.entry(key.to_owned()).or_default().begun = rest;
    }

    /// The step of this key prints no more.
    pub(super) fn ended(&mut self, key: &str) {
        if self.steps.get(key).is_some_and(|step| !step.begun.is_empty()) {
            self.printed(key, "\n");
        }
    }

    fn line(&mut self, key: &str, line: &str) {
        // Of a bar that was drawn over itself, the last state.
        let line = line.trim_end().rsplit('\r').next().unwrap_or_default();
        // The classic builder prints stderr in red; a line that was nothing but colour is none.
        let plain = console::strip_ansi_codes(line);
        if plain.is_empty() && !line.is_empty() {
            return;
        }
        let line = self.mask(&plain);
        self.progress.log(self.image, line.clone());
        let step = self.steps.entry(key.to_owned()).or_default();
        if step.tail.len() == TAIL {
            step.tail.pop_front();
        }
        step.tail.push_back(line);
    }

    /// The build is done: how many steps it had and how many of them were cached.
    pub(super) fn summary(&self) -> String {
        let steps = || self.steps.values().filter(|step| step.announced && step.is_of_dockerfile());
        let cached = steps().filter(|step| step.cached).count();
        format!("{} steps, {cached} cached", steps().count())
    }

    /// The build failed; `message` is the builder's word. Tells of the step whose fault it is and its own last lines.
    pub(super) fn failure(mut self, message: &str) -> Error {
        let message = self.mask(message);
        // Steps beside the failed one are cancelled, which is not their fault.
        let cancelled = |error: &str| error.contains("context canceled") || error.contains("CANCELED");
        let failed = self.steps.iter().find(|(_, step)| !step.error.is_empty() && !cancelled(&step.error));
        let Some(key) = failed.map(|(key, _)| key.clone()) else {
            return build_failed(self.image, &message);
        };
        self.ended(&key);
        let step = &self.steps[&key];
        let code = exit_code(&step.error).or_else(|| exit_code(&message));
        let Some(code) = code else {
            return build_failed(self.image, &message)
                .context(format!("the build of image {} failed at {}", self.image, step.name));
        };
        let lines: Vec<&str> = step.tail.iter().map(String::as_str).collect();
        let said = if lines.is_empty() { "it printed nothing".to_owned() } else { lines.join("\n") };
        Error::failed(format!("the build of image {} failed at {} (exit code {code})", self.image, step.name))
            .because(Error::failed(said))
            .help("fix that step, then run the same command again; the steps before it stay cached")
    }

    /// A step may print what was mounted into it: a package index with its password, say.
    fn mask(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for word in &self.masked {
            if text.contains(word.as_str()) {
                text = text.replace(word.as_str(), "***");
            }
        }
        text
    }
}

fn shorten(name: &str) -> String {
    let line = name.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(NAME) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

/// BuildKit says `… exit code: 3`, the classic builder `… returned a non-zero code: 3`.
fn exit_code(message: &str) -> Option<u32> {
    let (_, after) = message.rsplit_once("code: ")?;
    after.split(|char: char| !char.is_ascii_digit()).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::progress::{Event, Progress};
    use crate::secret::Secret;

    #[derive(Default)]
    struct Kept(Mutex<Vec<String>>);

    impl Progress for Kept {
        fn event(&self, event: Event) {
            if let Event::Log { line, .. } = event {
                self.0.lock().unwrap().push(line);
            }
        }
    }

    fn recipe(secret: &str) -> Recipe {
        Recipe {
            project: "shop".into(),
            image: "web".into(),
            base: None,
            dockerfile: "Dockerfile".into(),
            context: ".".into(),
            withheld: Vec::new(),
            target: None,
            args: BTreeMap::new(),
            secrets: BTreeMap::from([("index".to_owned(), Secret::new(secret.into()))]),
            direct: None,
        }
    }

    fn with_steps<T>(secret: &str, work: impl FnOnce(Steps<'_>) -> T) -> (T, Vec<String>) {
        let kept = Arc::new(Kept::default());
        let progress = Reporter::new(Arc::clone(&kept) as Arc<dyn Progress>);
        let (recipe, task) = (recipe(secret), progress.task("web", "build"));
        let result = work(Steps::new(&recipe, &task, &progress));
        let lines = kept.0.lock().unwrap().clone();
        (result, lines)
    }

    #[test]
    fn failed_step_is_told_with_its_own_last_lines_and_exit_code() {
        let (error, _) = with_steps("", |mut steps| {
            for (key, name) in [("a", "[1/2] RUN sleep"), ("b", "[2/2] RUN make")] {
                steps.told(&Told { key, name, started: true, ..Told::default() });
            }
            steps.printed("a", "not this\n");
            for number in 1..=30 {
                steps.printed("b", &format!("line {number}\n"));
            }
            steps.printed("b", "no newline");
            steps.told(&Told { key: "a", error: "context canceled", ..Told::default() });
            let error = "executor failed running [/bin/sh -c make]: exit code: 3";
            steps.told(&Told { key: "b", error, ..Told::default() });
            steps.failure(error)
        });
        assert_eq!(error.what(), "the build of image web failed at [2/2] RUN make (exit code 3)");
        let causes = error.causes();
        let lines: Vec<&str> = causes[0].lines().collect();
        assert_eq!((lines.len(), lines[0], lines[19]), (TAIL, "line 12", "no newline"));
    }

    #[test]
    fn a_failure_outside_of_any_step_is_told_in_the_builders_words() {
        let message = "Dockerfile parse error line 3: unknown instruction: FROMM";
        let (error, _) = with_steps("", |steps| steps.failure(message));
        assert_eq!(error.causes(), [message]);
    }

    #[test]
    fn build_secrets_are_masked_in_what_steps_print() {
        let ((), lines) = with_steps(
            "token = 'hunter22'\nhttps://user:canary@index.example.com/simple\nshort\n",
            |mut steps| {
                steps.told(&Told { key: "a", name: "[1/1] RUN pip", started: true, ..Told::default() });
                steps.printed("a", "Looking in: https://user:canary@in");
                steps.printed("a", "dex.example.com/simple\r\n10 %\r100 %\nshort\n");
                steps.printed("a", "hunter22 and canary\n");
                steps.printed("a", "\u{1b}[91mred\n\u{1b}[0m\n\nend");
                steps.ended("a");
            },
        );
        assert_eq!(
            lines,
            ["[1/1] RUN pip", "Looking in: ***", "100 %", "short", "*** and ***", "red", "", "end"]
        );
    }
}
