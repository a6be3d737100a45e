//! Files that django-split-settings runs where a module includes them, with the names of that module.

use std::path::{Path, PathBuf};

use ruff_python_ast::visitor::Visitor;
use ruff_python_ast::{Expr, ExprCall, InterpolatedStringElement};

use super::Walk;
use crate::template::variables::reading::NOT_READ;

/// Files of settings that servers do not have, or do not take.
const NOT_ON_SERVERS: [&str; 7] = ["ci", "dev", "development", "local", "test", "testing", "tests"];

impl Walk<'_, '_> {
    /// `include("base.py", "components/*.py", optional("local.py"), *FILES)`
    pub(super) fn include(&mut self, call: &ExprCall) {
        let folder = match &self.folder {
            Some(folder) => folder.clone(),
            None => self.reading.root().join(self.package.replace('.', "/")),
        };
        let patterns: Vec<String> = call.arguments.args.iter().flat_map(|file| self.patterns(file)).collect();
        for file in patterns.iter().flat_map(|pattern| matching(&folder, pattern)) {
            if let Some(parsed) = self.reading.include(&file) {
                let around = std::mem::replace(&mut self.folder, file.parent().map(Path::to_owned));
                self.visit_body(&parsed.syntax().body);
                self.folder = around;
            }
        }
    }

    /// The files that an argument of it, or a part of one, names.
    pub(super) fn patterns(&self, expr: &Expr) -> Vec<String> {
        match expr {
            Expr::StringLiteral(literal) => vec![literal.value.to_str().to_owned()],
            // `f"environments/{NAME}.py"`: which it is, the machine says.
            Expr::FString(text) => {
                let parts = text.value.elements().map(|part| match part {
                    InterpolatedStringElement::Literal(literal) => &*literal.value,
                    InterpolatedStringElement::Interpolation(_) => "*",
                });
                vec![parts.collect()]
            }
            Expr::Call(call) if is_format(&call.func) => {
                let text = call.func.as_attribute_expr().map(|method| self.patterns(&method.value));
                text.into_iter().flatten().map(|text| with_stars(&text)).collect()
            }
            Expr::Starred(starred) => self.patterns(&starred.value),
            Expr::Name(name) => self.files.get(name.id.as_str()).cloned().unwrap_or_default(),
            Expr::Call(call) => call.arguments.args.iter().flat_map(|file| self.patterns(file)).collect(),
            Expr::List(list) => list.elts.iter().flat_map(|file| self.patterns(file)).collect(),
            Expr::Tuple(tuple) => tuple.elts.iter().flat_map(|file| self.patterns(file)).collect(),
            _ => Vec::new(),
        }
    }
}

/// Whether this is `"…".format`.
fn is_format(function: &Expr) -> bool {
    function.as_attribute_expr().is_some_and(|method| method.attr.as_str() == "format")
}

/// `environments/{0}.py` as `environments/*.py`.
fn with_stars(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        out.push_str(before);
        out.push('*');
        rest = after.split_once('}').map_or("", |(_, after)| after);
    }
    out + rest
}

/// The files in `folder` with this name, in which a `*` stands for anything; none that is a developer's own.
fn matching(folder: &Path, pattern: &str) -> Vec<PathBuf> {
    let path = folder.join(pattern);
    let (Some(folder), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else {
        return Vec::new();
    };
    let is_named = |file: &str| match name.split_once('*') {
        Some((start, rest)) => {
            let end = rest.rsplit('*').next().unwrap_or_default();
            file.len() >= start.len() + end.len() && file.starts_with(start) && file.ends_with(end)
        }
        None => file == name,
    };
    let is_own = |file: &str| {
        let stem = file.trim_end_matches(".py");
        NOT_ON_SERVERS.contains(&stem) || NOT_READ.contains(&stem)
    };
    let entries = fs_err::read_dir(folder).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let mut files: Vec<PathBuf> =
        names.filter(|file| is_named(file) && !is_own(file)).map(|file| folder.join(file)).collect();
    files.sort();
    files
}
