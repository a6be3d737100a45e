//! Files that django-split-settings runs where a module includes them, with the names of that module.

use std::path::{Path, PathBuf};

use ruff_python_ast::visitor::Visitor;
use ruff_python_ast::{Expr, ExprCall};

use super::Walk;
use crate::template::variables::reading::NOT_READ;

impl Walk<'_, '_> {
    /// `include("base.py", "components/*.py", optional("local.py"), *FILES)`
    pub(super) fn include(&mut self, call: &ExprCall) {
        let folder = self.reading.root().join(self.package.replace('.', "/"));
        let patterns: Vec<String> = call.arguments.args.iter().flat_map(|file| self.patterns(file)).collect();
        for file in patterns.iter().flat_map(|pattern| matching(&folder, pattern)) {
            if let Some(parsed) = self.reading.include(&file) {
                self.visit_body(&parsed.syntax().body);
            }
        }
    }

    /// The files that an argument of it, or a part of one, names.
    pub(super) fn patterns(&self, expr: &Expr) -> Vec<String> {
        match expr {
            Expr::StringLiteral(literal) => vec![literal.value.to_str().to_owned()],
            Expr::Starred(starred) => self.patterns(&starred.value),
            Expr::Name(name) => self.files.get(name.id.as_str()).cloned().unwrap_or_default(),
            Expr::Call(call) => call.arguments.args.iter().flat_map(|file| self.patterns(file)).collect(),
            Expr::List(list) => list.elts.iter().flat_map(|file| self.patterns(file)).collect(),
            Expr::Tuple(tuple) => tuple.elts.iter().flat_map(|file| self.patterns(file)).collect(),
            _ => Vec::new(),
        }
    }
}

/// The files in `folder` with this name, in which a `*` stands for anything; none that is a developer's own.
fn matching(folder: &Path, pattern: &str) -> Vec<PathBuf> {
    let path = folder.join(pattern);
    let (Some(folder), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else {
        return Vec::new();
    };
    let is_named = |file: &str| match name.split_once('*') {
        Some((start, end)) => {
            file.len() >= start.len() + end.len() && file.starts_with(start) && file.ends_with(end)
        }
        None => file == name,
    };
    let is_own = |file: &str| {
        let stem = file.trim_end_matches(".py");
        stem == "local" || NOT_READ.contains(&stem)
    };
    let entries = fs_err::read_dir(folder).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let mut files: Vec<PathBuf> =
        names.filter(|file| is_named(file) && !is_own(file)).map(|file| folder.join(file)).collect();
    files.sort();
    files
}
