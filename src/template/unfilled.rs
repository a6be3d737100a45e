//! The variables that the site would have on this machine, and that only its owner can give a value.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::Answers;
use super::change::Change;
use super::site::Site;
use super::value::is_known;
use super::variables::given;
use crate::error::Result;

/// What is to be written into a secret file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unfilled {
    /// The file, from the project's folder.
    pub file: PathBuf,
    /// The variables.
    pub names: Vec<String>,
    /// Whether the file has them, with a value that can only be read.
    pub there: bool,
}

impl fmt::Display for Unfilled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = if self.there { "fill in" } else { "add to ENVIRONMENT in" };
        write!(f, "{what} {}: {}", self.file.display(), self.names.join(", "))
    }
}

/// What is missing in the settings of this machine when these changes are made; `None` for nothing.
///
/// # Errors
/// The file is there and cannot be read.
pub fn unfilled(root: &Path, site: &Site, answers: &Answers, changes: &[Change]) -> Result<Option<Unfilled>> {
    let file = PathBuf::from(format!("secrets/server_settings.py.{}", answers.project));
    let wanted = &site.variables.wanted;
    let there = changes.iter().any(|change| change.path == file);
    let names: Vec<String> = if there {
        wanted.iter().filter(|variable| !is_known(variable)).map(|variable| variable.name.clone()).collect()
    } else if wanted.is_empty() || !root.join(&file).is_file() {
        Vec::new()
    } else {
        // An earlier init wrote it, or its owner did: it stays as it is.
        let given = given(&fs_err::read_to_string(root.join(&file))?).unwrap_or_default();
        wanted.iter().map(|variable| variable.name.clone()).filter(|name| !given.contains(name)).collect()
    };
    Ok((!names.is_empty()).then_some(Unfilled { file, names, there }))
}
