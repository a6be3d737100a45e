//! One file of the project: what is there, and what it would be.
//!
//! Invariant: a file that init did not write is never lost. A change that would replace text is told apart from one that adds.

use std::io::Write;
use std::path::{Path, PathBuf};

use ruff_python_ast::Stmt;
use serde::Serialize;

use super::files::Form;
use crate::error::Result;
use crate::partial::Partial;

/// How the first and the last line begin of what init puts into a file that is not its own.
struct Marks(&'static str, &'static str);

const AT_THE_END: Marks = Marks("# imgforge: begin.", "# imgforge: end.");
/// None of them is a part of one above: the two blocks may stand in one file.
const AT_THE_START: Marks =
    Marks("# imgforge: begin of the environment.", "# imgforge: end of the environment.");

const BYTE_ORDER_MARK: char = '\u{feff}';

/// Whether these settings have the block by which they take `ENVIRONMENT`.
pub fn takes_environment(settings: &str) -> bool {
    settings.contains(AT_THE_START.0)
}

/// What a change does to its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// There is no such file yet.
    New,
    /// As `New`, for its owner alone.
    Secret,
    /// Text is added, or an earlier addition of init's is replaced.
    Extend,
    /// Another text stands there.
    Replace,
}

/// A change of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The file, from the project's folder.
    pub path: PathBuf,
    /// What it does.
    pub kind: Kind,
    /// The text that is there; empty for none.
    pub before: String,
    /// The text that would be.
    pub after: String,
}

impl Change {
    /// What `text`, put in this form, changes; `None` when everything is as it should be.
    pub(super) fn of(root: &Path, path: PathBuf, form: Form, text: &str) -> Result<Option<Change>> {
        let before = match fs_err::read_to_string(root.join(&path)) {
            Ok(text) => Some(text),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(error.into()),
        };
        let kind = match (form, &before) {
            (Form::Secret, Some(_)) => return Ok(None),
            (Form::Secret, None) => Kind::Secret,
            (_, None) => Kind::New,
            (Form::Whole, Some(_)) => Kind::Replace,
            (Form::Lines | Form::Block | Form::Start, Some(_)) => Kind::Extend,
        };
        let after = form.on(before.as_deref().unwrap_or_default(), text);
        let changes = before.as_deref() != Some(after.as_str());
        Ok(changes.then(|| Change { path, kind, before: before.unwrap_or_default(), after }))
    }

    /// The same with another text for the same file on top.
    pub(super) fn and(&mut self, form: Form, text: &str) {
        self.after = form.on(&self.after, text);
    }

    /// Writes the file. Under its name it is whole at any time.
    ///
    /// # Errors
    /// Those of writing.
    pub fn apply(&self, root: &Path) -> Result<()> {
        let path = root.join(&self.path);
        let folder = path.parent().unwrap_or(root);
        let fresh = !folder.exists();
        fs_err::create_dir_all(folder)?;
        #[cfg(unix)]
        if fresh && self.kind == Kind::Secret {
            use std::os::unix::fs::PermissionsExt;
            fs_err::set_permissions(folder, std::fs::Permissions::from_mode(0o700))?;
        }
        let mut file = Partial::new(folder)?;
        file.file().write_all(self.after.as_bytes())?;
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let there = fs_err::metadata(&path).map(|metadata| metadata.permissions().mode() & 0o7777);
            let runs = self.after.starts_with("#!");
            let mode = match (self.kind, there) {
                (Kind::Secret, _) => 0o600,
                (_, Ok(mode)) => mode,
                (_, Err(_)) => {
                    if runs {
                        0o755
                    } else {
                        0o644
                    }
                }
            };
            file.file().set_permissions(std::fs::Permissions::from_mode(mode))?;
        }
        file.persist(&path)
    }

    /// The change as a unified diff, without its header.
    pub fn diff(&self) -> String {
        similar::TextDiff::from_lines(&self.before, &self.after).unified_diff().context_radius(3).to_string()
    }
}

impl Form {
    /// What a file with the text `there` becomes.
    fn on(self, there: &str, text: &str) -> String {
        match self {
            Form::Whole | Form::Secret => text.to_owned(),
            Form::Lines => with_lines(there, text),
            Form::Block => with_block(there, text),
            Form::Start => with_start(there, text),
        }
    }
}

/// `text` with those of `lines` that it lacks at its end.
fn with_lines(text: &str, lines: &str) -> String {
    let mut out = text.to_owned();
    for line in lines.lines().filter(|line| !text.lines().any(|there| there.trim() == *line)) {
        if !out.is_empty() && !out.ends_with('\n') {
            out.push('\n');
        }
        out.push_str(line);
        out.push('\n');
    }
    out
}

/// `text` with `block` at its end, and without the one that was there.
fn with_block(text: &str, block: &str) -> String {
    if let Some(replaced) = replaced(text, block, &AT_THE_END) {
        return replaced;
    }
    let mut out = text.to_owned();
    if !out.is_empty() && !out.ends_with('\n') {
        out.push('\n');
    }
    out.push_str(if out.is_empty() { block.trim_start_matches('\n') } else { block });
    out
}

/// `text`, a module, with `block` before everything that it does, and without the one that was there.
fn with_start(text: &str, block: &str) -> String {
    if let Some(replaced) = replaced(text, block, &AT_THE_START) {
        return replaced;
    }
    let (before, after) = text.split_at(start(text));
    let mut out = before.to_owned();
    if !out.is_empty() && !out.ends_with('\n') {
        out.push('\n');
    }
    out.push_str(if out.is_empty() { block.trim_start_matches('\n') } else { block });
    if !after.is_empty() && !after.starts_with('\n') {
        out.push('\n');
    }
    out + after
}

/// `text` with the block between these marks exchanged, if there is one: a place of its own stays its place.
fn replaced(text: &str, block: &str, marks: &Marks) -> Option<String> {
    let (begin, end) = (text.find(marks.0)?, text.find(marks.1)?);
    let rest = text[end..].split_once('\n').map_or("", |(_, rest)| rest);
    (begin < end).then(|| format!("{}{}{rest}", &text[..begin], block.trim_start_matches('\n')))
}

/// Where a module may do something first: behind its docstring and its imports from the future, which have to be first, or
/// else behind the comments that it begins with.
fn start(module: &str) -> usize {
    let mut end = None;
    if let Ok(parsed) = ruff_python_parser::parse_module(module) {
        for stmt in &parsed.syntax().body {
            end = match stmt {
                Stmt::Expr(stmt) if end.is_none() && stmt.value.is_string_literal_expr() => {
                    Some(stmt.range.end().to_usize())
                }
                Stmt::ImportFrom(import)
                    if import.module.as_ref().is_some_and(|module| module.as_str() == "__future__") =>
                {
                    Some(import.range.end().to_usize())
                }
                _ => break,
            };
        }
    }
    match end {
        Some(end) => module[end..].find('\n').map_or(module.len(), |newline| end + newline + 1),
        None => {
            let bare = |line: &&str| line.trim_start_matches(BYTE_ORDER_MARK).starts_with('#');
            let comments: usize = module.split_inclusive('\n').take_while(bare).map(str::len).sum();
            // Nothing may stand before the mark that some editors begin a file with.
            comments.max(if module.starts_with(BYTE_ORDER_MARK) { BYTE_ORDER_MARK.len_utf8() } else { 0 })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_put_once_and_replaced_where_it_stands() {
        let Marks(begin, end) = AT_THE_END;
        let block = |word: &str| format!("\n{begin} why\n{word}\n{end}\n");
        let once = with_block("A = 1", &block("B = 1"));
        assert_eq!(once, format!("A = 1\n\n{begin} why\nB = 1\n{end}\n"));
        assert_eq!(with_block(&once, &block("B = 1")), once);
        let followed = format!("{once}C = 1\n");
        let replaced = with_block(&followed, &block("B = 2"));
        assert_eq!(replaced, format!("A = 1\n\n{begin} why\nB = 2\n{end}\nC = 1\n"));
        assert_eq!(with_block("", &block("B")), format!("{begin} why\nB\n{end}\n"));
    }

    #[test]
    fn a_block_at_the_start_comes_before_everything_that_a_module_does() {
        let Marks(begin, end) = AT_THE_START;
        let block = |word: &str| format!("\n{begin} why\n{word}\n{end}\n");
        let lines = format!("{begin} why\nB = 1\n{end}\n");
        let cases = [
            ("", "A = 1\n"),
            ("\"\"\"Why.\n\nMore.\"\"\"\n", "\nA = 1\n"),
            ("\"\"\"Why.\"\"\"  # noqa\n", "# of A\nA = 1\n"),
            ("#!/usr/bin/env python3\n# coding: utf-8\n", "\nA = 1\n"),
            ("# noqa\n\"why\"\nfrom __future__ import annotations\n", "import os\n"),
            (
                "from __future__ import (\n    annotations,\n)\nfrom __future__ import division\n",
                "\"no docstring\"\n",
            ),
            ("'Why.'\n", ""),
            ("# nothing\n", ""),
        ];
        for (before, after) in cases {
            let once = with_start(&format!("{before}{after}"), &block("B = 1"));
            let first = if before.is_empty() { "" } else { "\n" };
            let last = if after.is_empty() || after.starts_with('\n') { "" } else { "\n" };
            assert_eq!(once, format!("{before}{first}{lines}{last}{after}"));
            assert_eq!(with_start(&once, &block("B = 1")), once);
            let other = once.replace("B = 1", "B = 2");
            assert_eq!(with_start(&once, &block("B = 2")), other);
        }
    }

    #[test]
    fn a_byte_order_mark_stays_first() {
        for module in ["\u{feff}A = 1\n", "\u{feff}# why\nA = 1\n", "\u{feff}\"\"\"Why.\"\"\"\nA = 1\n"] {
            let with = with_start(module, "\n# imgforge: begin of the environment.\nB = 1\n");
            assert!(with.starts_with('\u{feff}') && with.matches('\u{feff}').count() == 1, "{with:?}");
            assert!(ruff_python_parser::parse_module(&with).is_ok(), "{with:?}");
        }
    }

    #[test]
    fn the_two_blocks_of_one_file_are_told_apart() {
        let block = |marks: &Marks, word: &str| format!("\n{} why\n{word}\n{}\n", marks.0, marks.1);
        let (first, last) = (block(&AT_THE_START, "FIRST"), block(&AT_THE_END, "LAST"));
        let one = with_block(&with_start("'why'\n\nA = 1\n", &first), &last);
        let other = with_start(&with_block("'why'\n\nA = 1\n", &last), &first);
        assert_eq!(one, other);
        assert_eq!(one, format!("'why'\n{first}\nA = 1\n{last}"));
        assert_eq!(with_block(&with_start(&one, &first), &last), one);
    }

    #[test]
    fn lines_are_added_beside_those_that_are_there() {
        assert_eq!(with_lines("a\nb", "b\nc\n"), "a\nb\nc\n");
        assert_eq!(with_lines("", "b\n"), "b\n");
    }

    #[test]
    fn a_secret_that_is_there_stays_and_another_is_its_owners_alone() {
        let folder = tempfile::tempdir().unwrap();
        let secret =
            |text: &str| Change::of(folder.path(), "secrets/key".into(), Form::Secret, text).unwrap();
        secret("one").unwrap().apply(folder.path()).unwrap();
        assert_eq!(secret("two"), None);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode =
                |path: &str| fs_err::metadata(folder.path().join(path)).unwrap().permissions().mode() & 0o777;
            assert_eq!((mode("secrets"), mode("secrets/key")), (0o700, 0o600));
        }
    }
}
