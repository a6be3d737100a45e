//! The modules of a project, each read once, in the order in which Python would run them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use ruff_python_ast::ModModule;
use ruff_python_parser::Parsed;

use super::bound::{Bound, Scope};
use super::known::Known;
use super::walk::Walk;
use super::{Variable, Variables, is_wanted};
use crate::template::site::module_file;

/// What is never in an image beside the code: developers' own, and what imgforge bakes.
pub(super) const NOT_READ: [&str; 2] = ["local_settings", "server_settings"];

/// What was read so far.
pub(super) struct Reading<'r> {
    root: &'r Path,
    /// A module that is being read has the names that it had when it began: as with Python, it may be imported in a circle.
    scopes: BTreeMap<String, Scope>,
    found: Variables,
    /// What the settings put into the environment themselves.
    pub(super) given: BTreeSet<String>,
    /// The files that were run in the place of a statement.
    included: BTreeSet<PathBuf>,
}

impl Reading<'_> {
    /// What a settings module wants.
    pub(super) fn of(root: &Path, settings_module: &str) -> Variables {
        let mut reading = Reading {
            root,
            scopes: BTreeMap::new(),
            found: Variables::default(),
            given: BTreeSet::new(),
            included: BTreeSet::new(),
        };
        // Packages around the settings run before them, from the outermost.
        for (end, _) in settings_module.match_indices('.') {
            let package = &settings_module[..end];
            reading.module(package);
            if !reading.found.wanted.is_empty() && reading.found.earlier.is_none() {
                reading.found.earlier = module_file(root, package);
            }
        }
        reading.module(settings_module);
        reading.found
    }

    /// The names of one of the project's own modules; `None` when it is none.
    pub(super) fn module(&mut self, name: &str) -> Option<Scope> {
        if let Some(scope) = self.scopes.get(name) {
            return Some(scope.clone());
        }
        if name.rsplit('.').next().is_some_and(|last| NOT_READ.contains(&last)) {
            return None;
        }
        let file = module_file(self.root, name)?;
        self.scopes.insert(name.to_owned(), Scope::new());
        if let Some((parent, _)) = name.rsplit_once('.') {
            self.module(parent);
        }
        let parsed = parsed(&self.root.join(&file))?;
        let package = match (file.ends_with("__init__.py"), name.rsplit_once('.')) {
            (true, _) => name,
            (false, Some((package, _))) => package,
            (false, None) => "",
        };
        let scope = Walk::through(self, package, &parsed.syntax().body);
        self.scopes.insert(name.to_owned(), scope.clone());
        Some(scope)
    }

    /// The project's folder.
    pub(super) fn root(&self) -> &Path {
        self.root
    }

    /// A file that a module runs in its own place; `None` when that has begun before.
    pub(super) fn include(&mut self, file: &Path) -> Option<Parsed<ModModule>> {
        self.included.insert(file.to_owned()).then_some(())?;
        parsed(file)
    }

    /// A module that is imported from.
    pub(super) fn imports(&mut self, module: &str) {
        let is_library = module == "configurations" || module.starts_with("configurations.");
        self.found.classes |= is_library && module_file(self.root, "configurations").is_none();
    }

    /// What `module.name` stands for.
    pub(super) fn member(&mut self, module: &str, name: &str) -> Option<Bound> {
        if let Some(bound) = Bound::of_library(module, name) {
            return Some(bound);
        }
        if let Some(bound) = self.module(module).and_then(|scope| scope.get(name).cloned()) {
            return Some(bound);
        }
        let inner = format!("{module}.{name}");
        self.module(&inner).map(|_| Bound::Module(inner))
    }

    /// What `module.name` stands for, of modules that were read.
    pub(super) fn member_read(&self, module: &str, name: &str) -> Option<Bound> {
        let of_library = Bound::of_library(module, name);
        let own = || self.scopes.get(module).and_then(|scope| scope.get(name)).cloned();
        let inner = format!("{module}.{name}");
        of_library.or_else(own).or_else(|| self.scopes.contains_key(&inner).then_some(Bound::Module(inner)))
    }

    /// A variable that cannot be absent.
    pub(super) fn wants(&mut self, variable: Variable) {
        if !is_wanted(&variable.name) || self.given.contains(&variable.name) {
            return;
        }
        match self.found.wanted.iter_mut().find(|there| there.name == variable.name) {
            Some(there) => {
                // The plainest way to ask for it says least.
                if there.kind == super::Kind::Text {
                    there.kind = variable.kind;
                }
                if there.setting.is_none() {
                    (there.setting, there.key) = (variable.setting, variable.key);
                }
            }
            None => self.found.wanted.push(variable),
        }
    }

    /// A setting that is set, or a key of one.
    pub(super) fn sets(&mut self, name: &str, value: Option<Known>) {
        if name.chars().any(|c| c.is_ascii_uppercase()) {
            self.found.set.entry(name.to_owned()).or_default().push(value.and_then(Known::printed));
        }
    }
}

/// A file that can be read, and is Python.
fn parsed(file: &Path) -> Option<Parsed<ModModule>> {
    ruff_python_parser::parse_module(&fs_err::read_to_string(file).ok()?).ok()
}
