//! Draws the events of a run: bars on a terminal, plain lines elsewhere, NDJSON on request.

use std::io::IsTerminal;
use std::sync::Arc;

use clap::ValueEnum;

use crate::progress::{Progress, Reporter};

mod bars;
mod json;
mod plain;
mod raw;

pub use plain::stage_word;

/// How output is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Output {
    /// For people: the result on stdout, progress on stderr.
    #[default]
    Human,
    /// One JSON object a line on stdout, progress included (docs/json.md).
    Json,
}

/// The reporter for an output: bars only where stderr is a terminal that can draw them, and not in CI.
pub fn reporter(output: Output) -> Reporter {
    let terminal = std::io::stderr().is_terminal()
        && std::env::var_os("CI").is_none()
        && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
    let progress: Arc<dyn Progress> = match (output, terminal) {
        (Output::Json, _) => Arc::new(json::Json),
        (Output::Human, true) => Arc::new(bars::Bars::new()),
        (Output::Human, false) => Arc::new(plain::Plain::default()),
    };
    Reporter::new(progress)
}

/// The reporter for `run`: in human form the container's output is the result.
pub fn pass_through(output: Output) -> Reporter {
    match output {
        Output::Json => Reporter::new(Arc::new(json::Json)),
        Output::Human => Reporter::new(Arc::new(raw::Raw::default())),
    }
}

/// Milliseconds as people read them: `340 ms`, `7.4 s`, `2 min 5 s`.
pub fn human_time(millis: u64) -> String {
    match millis {
        0..1000 => format!("{millis} ms"),
        1000..60_000 => format!("{:.1} s", millis as f64 / 1000.0),
        _ => format!("{} min {} s", millis / 60_000, millis % 60_000 / 1000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_readable() {
        let cases = [(0, "0 ms"), (999, "999 ms"), (7440, "7.4 s"), (125_000, "2 min 5 s")];
        for (millis, want) in cases {
            assert_eq!(human_time(millis), want);
        }
    }
}
