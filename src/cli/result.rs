//! Results on stdout: lines for people, NDJSON on request. The only place that writes them.

use std::fmt::Display;
use std::io::Write;

use serde::Serialize;
use serde_json::json;

use super::report::Output;
use crate::error::{Error, Result};

/// The version of the JSON output (docs/json.md). A field may be added under the same version, never removed.
pub const SCHEMA: u32 = 1;

/// `value` as one line with the schema's version in it.
pub fn json_line(value: &impl Serialize) -> String {
    let mut object = json!({ "schema": SCHEMA });
    let value = serde_json::to_value(value).expect("results and events can be written as JSON");
    if let (Some(object), serde_json::Value::Object(fields)) = (object.as_object_mut(), value) {
        object.extend(fields);
    }
    object.to_string()
}

/// Prints a result: `human` as it is, or `value` under `name` as one JSON line.
///
/// # Errors
/// stdout cannot be written.
pub fn print(output: Output, name: &str, value: &impl Serialize, human: impl Display) -> Result<()> {
    match output {
        Output::Json => line(json_line(&json!({ "event": "result", "result": name, name: value }))),
        Output::Human => text(human.to_string()),
    }
}

/// Prints an error: drawn on stderr for people, one line on stdout in JSON.
pub fn print_error(output: Output, error: &Error, journal: Option<String>) {
    let printed = match output {
        Output::Json => {
            let place = error.located().map(|place| {
                let (line, column) = place.line_column();
                json!({ "file": place.file, "line": line, "column": column })
            });
            line(json_line(&json!({
                "event": "error", "kind": error.kind().name(), "exit_code": error.kind().exit_code(),
                "what": error.what(), "because": error.causes(), "help": error.help_text(), "place": place,
                "state": journal,
            })))
        }
        Output::Human => {
            let drawn = super::error::draw(error, journal);
            writeln!(std::io::stderr().lock(), "{}", drawn.trim_end()).map_err(Error::from)
        }
    };
    // There is nowhere left to say it.
    let _ = printed;
}

/// Prints text that may have many lines.
fn text(mut text: String) -> Result<()> {
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    bytes(text.as_bytes())
}

fn line(text: String) -> Result<()> {
    bytes(format!("{text}\n").as_bytes())
}

/// Prints bytes as they are; for `secrets get`.
///
/// # Errors
/// stdout cannot be written.
pub fn bytes(bytes: &[u8]) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        // Whoever reads has read enough: `imgforge inspect web | head`.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written?),
    }
}
