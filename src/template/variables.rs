//! The variables that a project's settings read from the environment while they are imported, and cannot do without.
//!
//! The settings are parsed and never run. Branches whose test says which way they go when nothing is set are followed that
//! way, others both ways: a name too many costs a line in a file, and one too few costs the site its start.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use ruff_python_ast::{Expr, Stmt};

use self::reading::Reading;

mod bound;
mod known;
mod reading;
mod walk;

/// Parser and walk recurse as deep as the settings nest; only what is used of this becomes memory.
const STACK: usize = 64 << 20;
/// What a process in a container has without anybody's doing.
const THERE: [&str; 5] = ["DJANGO_SETTINGS_MODULE", "HOME", "HOSTNAME", "PATH", "PWD"];

/// What a variable's text is read as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// As it is.
    Text,
    /// Yes or no.
    Bool,
    /// A number.
    Number,
    /// Parts between commas.
    List,
    /// Names with values.
    Dict,
    /// JSON.
    Json,
    /// The URL of a database.
    Database,
    /// The URL of a cache.
    Cache,
    /// The URL of a mail server.
    Email,
    /// The URL of a search engine.
    Search,
    /// The URL of Channels' layer.
    Channels,
}

/// A variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variable {
    /// Its name.
    pub name: String,
    /// What it is read as.
    pub kind: Kind,
    /// The setting that it becomes, or becomes a part of.
    pub setting: Option<String>,
    /// The key in that setting.
    pub key: Option<String>,
}

/// What is known of a project's settings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Variables {
    /// What they cannot do without, in the order in which they ask for it.
    pub wanted: Vec<Variable>,
    /// The file that asks first, when that is not the settings file but a package around it.
    pub earlier: Option<PathBuf>,
    /// Whether they are classes, of django-configurations.
    pub classes: bool,
    /// Every setting that they set, and every key of those, alone and as `SETTING.KEY`; with what it is each time, when that is
    /// a plain value.
    set: BTreeMap<String, Vec<Option<String>>>,
}

impl Variables {
    /// Reads what the settings module, and the project's own modules that it imports, want. What cannot be read or parsed
    /// wants nothing: it is Python's to refuse.
    pub fn read(root: &Path, settings_module: &str) -> Variables {
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().stack_size(STACK);
            let reading = thread.spawn_scoped(scope, || Reading::of(root, settings_module));
            // Without memory for a thread there are worse things to tell than this.
            reading.ok().and_then(|reading| reading.join().ok()).unwrap_or_default()
        })
    }

    /// Whether the settings set this, or have a part of that name.
    pub fn sets(&self, name: &str) -> bool {
        self.set.contains_key(name)
    }

    /// What the settings set it to in the end, as Python would print it, when that is plain to see.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.set.get(name)?.last()?.as_deref()
    }

    /// Everything that they set it to: keys of one name may be at several places in a setting.
    pub fn values(&self, name: &str) -> impl Iterator<Item = &str> {
        self.set.get(name).into_iter().flatten().flatten().map(String::as_str)
    }
}

/// The names in the dictionary `ENVIRONMENT` of a file of settings; `None` when the file has none that can be read.
pub fn given(settings: &str) -> Option<BTreeSet<String>> {
    let parsed = ruff_python_parser::parse_module(settings).ok()?;
    let dictionary = parsed.syntax().body.iter().find_map(|stmt| match stmt {
        Stmt::Assign(assign) if assign.targets.iter().any(is_environment) => assign.value.as_dict_expr(),
        Stmt::AnnAssign(assign) if is_environment(&assign.target) => assign.value.as_deref()?.as_dict_expr(),
        _ => None,
    })?;
    let names = dictionary.items.iter().filter_map(|item| item.key.as_ref()?.as_string_literal_expr());
    Some(names.map(|name| name.value.to_str().to_owned()).collect())
}

fn is_environment(target: &Expr) -> bool {
    target.as_name_expr().is_some_and(|name| name.id == "ENVIRONMENT")
}

/// Whether init can write this name into a file of Python, and nobody else gives it.
fn is_wanted(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    !name.is_empty() && name.chars().all(plain) && !THERE.contains(&name)
}

#[cfg(test)]
mod tests;
