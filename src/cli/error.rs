//! Draws an error: what, where, why, what to do. With a place in a file, as miette draws it.

use std::fmt::Write;

use console::style;
use miette::{GraphicalReportHandler, GraphicalTheme, LabeledSpan, MietteDiagnostic, NamedSource};

use crate::error::Error;

/// The whole text for a terminal or a log.
pub fn draw(error: &Error, journal: Option<String>) -> String {
    let mut out = String::new();
    let put = |out: &mut String, text: String| writeln!(out, "{text}").expect("a String takes everything");
    put(&mut out, format!("{} {}", style("error:").red().bold().for_stderr(), error.what()));
    if let Some(place) = error.located() {
        out.push_str(&snippet(place));
    }
    for cause in error.causes() {
        let mut lines = cause.lines();
        put(&mut out, format!("  because: {}", lines.next().unwrap_or_default()));
        for line in lines {
            put(&mut out, format!("    {line}"));
        }
    }
    if let Some(help) = error.help_text() {
        put(&mut out, format!("  {} {help}", style("help:").cyan().for_stderr()));
    }
    if let Some(journal) = journal {
        put(&mut out, format!("  {} {journal}", style("state:").dim().for_stderr()));
    }
    out
}

/// The lines of the file around the place. Only for files that hold no secrets: imgforge.toml is one.
fn snippet(place: &crate::error::Place) -> String {
    let theme = match console::colors_enabled_stderr() {
        true => GraphicalTheme::unicode(),
        false => GraphicalTheme::unicode_nocolor(),
    };
    let label = LabeledSpan::new_with_span(Some(place.label.clone()), place.span.clone());
    let diagnostic = MietteDiagnostic::new("").with_label(label);
    let source = NamedSource::new(&place.file, place.text.clone());
    let report = miette::Report::new(diagnostic).with_source_code(source);
    let mut drawn = String::new();
    let handler = GraphicalReportHandler::new_themed(theme).with_width(110).with_context_lines(1);
    match handler.render_report(&mut drawn, report.as_ref()) {
        // The first line is the (empty) message.
        Ok(()) => drawn.lines().filter(|line| !line.trim().is_empty() && line.trim() != "×").fold(
            String::new(),
            |mut text, line| {
                text.push_str(line);
                text.push('\n');
                text
            },
        ),
        Err(_) => {
            let (line, column) = place.line_column();
            format!("  at {}:{line}:{column}\n", place.file)
        }
    }
}
