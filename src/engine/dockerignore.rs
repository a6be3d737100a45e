//! `.dockerignore`, as moby reads and matches it (moby/patternmatcher: `ignorefile` and `patternmatcher.go`).
//!
//! The last pattern that matches a path, or a folder above it, decides; `!` takes a path back in.

use std::path::{Component, Path};

use crate::error::{Error, Result};

/// A parsed ignore file.
#[derive(Debug, Clone, Default)]
pub struct Ignore {
    patterns: Vec<Pattern>,
}

#[derive(Debug, Clone)]
struct Pattern {
    /// Cleaned, without `!`.
    text: String,
    exception: bool,
    rule: Rule,
}

/// How a pattern is matched. The kinds are moby's, because they differ in more than speed: `**file` is a suffix and so
/// matches `myfile`.
#[derive(Debug, Clone)]
enum Rule {
    Exact(String),
    Prefix(String),
    Suffix(String),
    Glob(Vec<Token>),
}

#[derive(Debug, Clone)]
enum Token {
    Char(char),
    /// `?`: any character but a slash.
    One,
    /// `*`: any number of them.
    Star,
    /// `**` with something behind it: nothing, or anything that ends in a slash.
    Folders,
    /// `**` at the end: anything.
    Rest,
    /// `[a-c]`: lowest and highest characters.
    Class {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
}

impl Ignore {
    /// Parses an ignore file's bytes; `file` is what errors call it.
    ///
    /// # Errors
    /// A malformed pattern.
    pub fn parse(bytes: &[u8], file: &str) -> Result<Self> {
        Ignore::new(&read_lines(bytes)).map_err(|error| {
            error
                .context(format!("{file} has a pattern that cannot be used"))
                .help(format!("fix it in {file}"))
        })
    }

    /// Takes patterns as an ignore file's lines give them.
    ///
    /// # Errors
    /// A malformed pattern.
    pub fn new(patterns: &[String]) -> Result<Self> {
        let mut parsed = Vec::new();
        for written in patterns {
            let written = written.trim();
            if written.is_empty() {
                continue;
            }
            let cleaned = clean(written);
            let (exception, text) = match cleaned.strip_prefix('!') {
                Some("") => return Err(Error::config("a pattern that is only \"!\" takes nothing back in")),
                Some(text) => (true, text.to_owned()),
                None => (false, cleaned),
            };
            let rule = compile(&text)
                .ok_or_else(|| Error::config(format!("the pattern {written:?} is malformed")))?;
            parsed.push(Pattern { text, exception, rule });
        }
        Ok(Ignore { patterns: parsed })
    }

    /// Whether `path` (relative, with slashes) is ignored, by itself or by a folder above it
    /// (`MatchesOrParentMatches`).
    pub fn matches(&self, path: &str) -> bool {
        let mut ignored = false;
        for pattern in &self.patterns {
            // An exception has nothing to do for a path that is in, nor a pattern for one that is out.
            if pattern.exception == ignored && pattern.matches_or_above(path) {
                ignored = !pattern.exception;
            }
        }
        ignored
    }

    /// Whether something below the ignored folder `folder` may be taken back in.
    ///
    /// BuildKit's rule (fsutil, walker.go): an exception without wildcards leads to one place, one with wildcards may be
    /// anywhere below its fixed part.
    pub fn may_take_back_below(&self, folder: &str) -> bool {
        let within = |inner: &str, outer: &str| {
            outer.is_empty()
                || inner == outer
                || inner.strip_prefix(outer).is_some_and(|rest| rest.starts_with('/'))
        };
        self.patterns.iter().filter(|pattern| pattern.exception).any(|pattern| {
            let wild = |part: &&str| part.contains(['*', '?', '[', '\\']);
            let fixed: Vec<&str> = pattern.text.split('/').take_while(|part| !wild(part)).collect();
            let fixed_part = fixed.join("/");
            let has_wildcards = fixed.len() < pattern.text.split('/').count();
            within(&fixed_part, folder) || (has_wildcards && within(folder, &fixed_part))
        })
    }
}

impl Pattern {
    fn matches_or_above(&self, path: &str) -> bool {
        self.rule.matches(path)
            || path.match_indices('/').any(|(slash, _)| slash > 0 && self.rule.matches(&path[..slash]))
    }
}

impl Rule {
    fn matches(&self, path: &str) -> bool {
        match self {
            Rule::Exact(text) => path == text,
            Rule::Prefix(start) => path.starts_with(start),
            Rule::Suffix(end) => path.ends_with(end) || end.strip_prefix('/') == Some(path),
            Rule::Glob(tokens) => glob(tokens, path),
        }
    }
}

/// Reads an ignore file's lines: no comments, no blank lines, cleaned, a leading slash taken away (`ignorefile.ReadAll`).
fn read_lines(bytes: &[u8]) -> Vec<String> {
    let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
    let text = String::from_utf8_lossy(bytes);
    let mut patterns = Vec::new();
    for line in text.lines() {
        // Only before trimming: an indented # is a pattern.
        if line.starts_with('#') {
            continue;
        }
        let line = line.trim();
        if line.is_empty() {
            continue;
        }
        let (sign, pattern) = match line.strip_prefix('!') {
            Some(rest) => ("!", rest.trim()),
            None => ("", line),
        };
        let cleaned = if pattern.is_empty() { String::new() } else { clean(pattern) };
        let relative = if cleaned.len() > 1 { cleaned.trim_start_matches('/') } else { &cleaned };
        patterns.push(format!("{sign}{relative}"));
    }
    patterns
}

/// Go's `path.Clean`: no empty and no `.` parts, `..` taken back where something is before it.
fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            ".." if rooted => {}
            part => parts.push(part),
        }
    }
    match (rooted, parts.is_empty()) {
        (true, _) => format!("/{}", parts.join("/")),
        (false, true) => ".".into(),
        (false, false) => parts.join("/"),
    }
}

/// What [`Rule`] `compile` has settled on so far.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    Exact,
    Prefix,
    Suffix,
    Glob,
}

/// `None` for a malformed pattern: what Go's `filepath.Match` refuses.
fn compile(pattern: &str) -> Option<Rule> {
    let mut shape = Shape::Exact;
    let mut tokens = Vec::new();
    let mut rest = pattern.chars().peekable();
    let mut first = true;
    while let Some(char) = rest.next() {
        match char {
            '*' if rest.peek() == Some(&'*') => {
                rest.next();
                // **/ is ** too.
                rest.next_if_eq(&'/');
                if rest.peek().is_none() {
                    if shape == Shape::Exact {
                        shape = Shape::Prefix;
                    } else {
                        shape = Shape::Glob;
                    }
                    tokens.push(Token::Rest);
                } else {
                    tokens.push(Token::Folders);
                    shape = Shape::Glob;
                }
                if first {
                    shape = Shape::Suffix;
                }
            }
            '*' => {
                tokens.push(Token::Star);
                shape = Shape::Glob;
            }
            '?' => {
                tokens.push(Token::One);
                shape = Shape::Glob;
            }
            '\\' => {
                tokens.push(Token::Char(rest.next()?));
                shape = Shape::Glob;
            }
            '[' => {
                tokens.push(class(&mut rest)?);
                shape = Shape::Glob;
            }
            ']' => {
                tokens.push(Token::Char(']'));
                shape = Shape::Glob;
            }
            other => tokens.push(Token::Char(other)),
        }
        first = false;
    }
    Some(match shape {
        Shape::Exact => Rule::Exact(pattern.to_owned()),
        Shape::Prefix => Rule::Prefix(pattern.trim_end_matches('/').strip_suffix("**")?.to_owned()),
        Shape::Suffix => Rule::Suffix(pattern.strip_prefix("**")?.to_owned()),
        Shape::Glob => Rule::Glob(tokens),
    })
}

/// A class after its `[`: at least one range, `]` and `-` only escaped (Go's `filepath.Match`).
fn class(rest: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<Token> {
    fn one(rest: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<char> {
        match rest.next()? {
            '-' | ']' => None,
            '\\' => rest.next(),
            char => Some(char),
        }
    }
    let negated = rest.next_if_eq(&'^').is_some();
    let mut ranges = Vec::new();
    loop {
        if !ranges.is_empty() && rest.next_if_eq(&']').is_some() {
            return Some(Token::Class { negated, ranges });
        }
        let low = one(rest)?;
        let high = if rest.next_if_eq(&'-').is_some() { one(rest)? } else { low };
        if low > high {
            return None;
        }
        ranges.push((low, high));
    }
}

/// Matches the whole path. Every position that the tokens so far can end at is followed at once, so that no pattern takes
/// more than its length times the path's.
fn glob(tokens: &[Token], path: &str) -> bool {
    let path: Vec<char> = path.chars().collect();
    let mut ends = vec![false; path.len() + 1];
    ends[0] = true;
    for token in tokens {
        let mut next = vec![false; path.len() + 1];
        for start in (0..=path.len()).filter(|start| ends[*start]) {
            let mut step = |matches: bool| {
                if matches {
                    next[start + 1] = true;
                }
            };
            match (token, path.get(start)) {
                (Token::Char(char), Some(have)) => step(char == have),
                (Token::One, Some(have)) => step(*have != '/'),
                (Token::Class { negated, ranges }, Some(have)) => {
                    step(ranges.iter().any(|(low, high)| low <= have && have <= high) != *negated);
                }
                (Token::Char(_) | Token::One | Token::Class { .. }, None) => {}
                (Token::Star, _) => {
                    let run = path[start..].iter().take_while(|char| **char != '/').count();
                    next[start..=start + run].fill(true);
                }
                (Token::Folders, _) => {
                    next[start] = true;
                    for slash in (start..path.len()).filter(|at| path[*at] == '/') {
                        next[slash + 1] = true;
                    }
                }
                (Token::Rest, _) => next[start..].fill(true),
            }
        }
        ends = next;
    }
    ends[path.len()]
}

/// A relative path with slashes, as patterns are matched against it.
pub(super) fn slashed(path: &Path) -> String {
    path.components()
        .filter_map(|component| match component {
            Component::Normal(name) => Some(name.to_string_lossy()),
            _ => None,
        })
        .collect::<Vec<_>>()
        .join("/")
}

#[cfg(test)]
mod tests;
