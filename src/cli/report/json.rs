//! Events as NDJSON on stdout.

use std::io::Write;

use crate::cli::result;
use crate::progress::{Event, Progress};

/// Prints each event as one line.
pub struct Json;

impl Progress for Json {
    fn event(&self, event: Event) {
        let line = result::json_line(&event);
        // A reader that went away is no reason to stop a release half way.
        let _ = writeln!(std::io::stdout().lock(), "{line}");
    }
}
