//! One module, statement by statement.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::mem::Discriminant;
use std::path::PathBuf;

use ruff_python_ast::visitor::{Visitor, walk_expr, walk_stmt};
use ruff_python_ast::{BoolOp, ExceptHandler, Expr, ExprCall, Stmt, StmtIf, StmtImportFrom, StmtTry};
use ruff_text_size::TextRange;

use self::absent::{Forgiven, Way};
use self::expressions::place;
use super::bound::{self, Absent, Asked, Bound, Scope};
use super::known::Known;
use super::reading::Reading;
use super::{Kind, Variable};

mod absent;
mod expressions;
mod helper;
mod include;

/// By where an expression is in its file, and of which kind: two of one kind are nowhere at the same place.
type Values = HashMap<(TextRange, Discriminant<Expr>), Option<Known>>;

/// A module while it is read.
pub(super) struct Walk<'w, 'r> {
    reading: &'w mut Reading<'r>,
    /// The package that relative imports start from.
    package: &'w str,
    scope: Scope,
    /// How many branches around this statement may not be taken.
    unsure: usize,
    /// What the blocks around it go on after.
    forgiven: Forgiven,
    /// What expressions of this statement were found to be.
    values: RefCell<Values>,
    /// The folder of the file that is included here.
    folder: Option<PathBuf>,
    /// What looks like names of files, by the names that have them.
    files: BTreeMap<String, Vec<String>>,
    /// What `env.prefixed` puts before names.
    prefix: String,
    setting: Option<String>,
    key: Option<String>,
    /// What is made of the text that is read.
    kind: Option<Kind>,
}

impl<'w, 'r> Walk<'w, 'r> {
    /// Reads a module; its names.
    pub(super) fn through(reading: &'w mut Reading<'r>, package: &'w str, body: &[Stmt]) -> Scope {
        let mut walk = Walk {
            reading,
            package,
            scope: Scope::new(),
            unsure: 0,
            forgiven: Forgiven::default(),
            values: RefCell::default(),
            folder: None,
            files: BTreeMap::new(),
            prefix: String::new(),
            setting: None,
            key: None,
            kind: None,
        };
        walk.visit_body(body);
        walk.scope
    }

    fn maybe(&mut self, body: &[Stmt]) {
        self.unsure += 1;
        self.visit_body(body);
        self.unsure -= 1;
    }

    fn bind(&mut self, name: &str, bound: Option<Bound>) {
        self.values.get_mut().clear();
        match bound {
            Some(Bound::Value(_)) if self.unsure > 0 => self.scope.remove(name),
            Some(bound) => self.scope.insert(name.to_owned(), bound),
            None => self.scope.remove(name),
        };
    }

    /// What is put into the environment; what may be put there is not there for sure.
    fn gives(&mut self, name: &str) {
        if self.unsure == 0 {
            self.values.get_mut().clear();
            self.reading.given.insert(name.to_owned());
        }
    }

    /// A variable that may not be absent, unless somebody goes on when it is.
    fn wants(&mut self, name: String, kind: Kind, way: Way) {
        if !self.forgiven.covers(way) {
            let (setting, key) = (self.setting.clone(), self.key.clone());
            self.reading.wants(Variable { name, kind, setting, key });
        }
    }

    /// What is given up because variables are absent wants them.
    fn wants_seen(&mut self, test: &Expr) {
        for name in self.seen_absent(test) {
            self.wants(name, Kind::Text, Way::Raised);
        }
    }

    fn import_from(&mut self, import: &StmtImportFrom) {
        let named = import.module.as_ref().map(|module| module.as_str());
        let Some(module) = self.absolute(named, import.level) else { return };
        self.reading.imports(&module);
        let own = self.reading.module(&module);
        for alias in &import.names {
            if alias.name.as_str() == "*" {
                for (name, bound) in own.iter().flatten() {
                    self.bind(name, Some(bound.clone()));
                }
                continue;
            }
            let bound = self.reading.member(&module, &alias.name);
            self.bind(alias.asname.as_ref().unwrap_or(&alias.name), bound);
        }
    }

    /// The module that `from` names.
    fn absolute(&self, module: Option<&str>, level: u32) -> Option<String> {
        if level == 0 {
            return module.map(str::to_owned);
        }
        let mut package = self.package;
        for _ in 1..level {
            package = package.rsplit_once('.')?.0;
        }
        Some(match module {
            Some(module) if package.is_empty() => module.to_owned(),
            Some(module) => format!("{package}.{module}"),
            None => package.to_owned(),
        })
    }

    /// `target = value`: what it binds, sets, or puts into the environment.
    fn assign(&mut self, targets: &[&Expr], value: &Expr) {
        let (setting, key) = targets.first().map_or((None, None), |target| place(target));
        let around = (self.setting.take(), self.key.take());
        (self.setting, self.key) = (setting, key);
        self.visit_expr(value);
        (self.setting, self.key) = around;
        let bound = self.bound(value);
        let known = self.value(value);
        for target in targets {
            match target {
                Expr::Name(name) => {
                    if value.is_tuple_expr() || value.is_list_expr() {
                        self.files.insert(name.id.to_string(), self.patterns(value));
                    }
                    self.reading.sets(&name.id, known.clone());
                    self.bind(&name.id, bound.clone());
                }
                Expr::Subscript(subscript) => {
                    if let Some(name) = subscript.slice.as_string_literal_expr() {
                        let name = name.value.to_str();
                        self.reading.sets(name, known.clone());
                        if self.bound(&subscript.value) == Some(Bound::Environ) {
                            self.gives(name);
                        }
                    }
                }
                Expr::Tuple(tuple) => {
                    for name in tuple.elts.iter().filter_map(Expr::as_name_expr) {
                        self.reading.sets(&name.id, None);
                        self.bind(&name.id, None);
                    }
                }
                _ => {}
            }
        }
    }

    /// A branch with its test; without one, the last. Whether the branches after it may be taken.
    fn branch(&mut self, test: Option<&Expr>, body: &[Stmt]) -> bool {
        let Some(test) = test else {
            self.visit_body(body);
            return false;
        };
        self.visit_expr(test);
        match self.value(test).map(|value| value.truth()) {
            Some(true) => {
                if self.gives_up(body) {
                    self.wants_seen(test);
                }
                self.visit_body(body);
                false
            }
            Some(false) => true,
            None => {
                self.maybe(body);
                true
            }
        }
    }

    fn choose(&mut self, choice: &StmtIf) {
        let around = self.unsure;
        let mut tests: Vec<&Expr> = Vec::new();
        let clauses = choice.elif_else_clauses.iter().map(|clause| (clause.test.as_ref(), &clause.body));
        for (test, body) in std::iter::once((Some(choice.test.as_ref()), &choice.body)).chain(clauses) {
            // What is left for `else` to refuse is that nothing before it holds.
            if test.is_none() && self.unsure == around && self.gives_up(body) {
                tests.iter().for_each(|test| self.wants_seen(test));
            }
            if !self.branch(test, body) {
                break;
            }
            tests.extend(test);
            // Whether an earlier branch was taken is not always known.
            self.unsure += usize::from(test.is_some_and(|test| self.value(test).is_none()));
        }
        self.unsure = around;
    }

    fn attempt(&mut self, attempt: &StmtTry) {
        let around = self.forgiven;
        self.forgiven = around.and(self.forgiven(&attempt.handlers));
        self.visit_body(&attempt.body);
        self.forgiven = around;
        for ExceptHandler::ExceptHandler(handler) in &attempt.handlers {
            self.maybe(&handler.body);
        }
        self.visit_body(&attempt.orelse);
        self.visit_body(&attempt.finalbody);
    }

    /// What is called with what is read says what that is; `os.environ.setdefault` gives it.
    fn call(&mut self, call: &ExprCall, expr: &Expr) {
        match self.bound(&call.func) {
            Some(Bound::Include) => return self.include(call),
            Some(Bound::EnvironMethod(method)) if method == "setdefault" => {
                if let Some(Expr::StringLiteral(name)) = call.arguments.args.first() {
                    self.gives(name.value.to_str());
                }
            }
            _ => {}
        }
        let splits = call.func.as_attribute_expr().is_some_and(|function| function.attr.as_str() == "split");
        // `list` and `dict` take parts, and split no text.
        let made = bound::kind_of(&call.func).filter(|kind| !matches!(kind, Kind::List | Kind::Dict));
        let around = self.kind;
        self.kind = if splits { Some(Kind::List) } else { made.or(around) };
        walk_expr(self, expr);
        self.kind = around;
    }
}

impl Visitor<'_> for Walk<'_, '_> {
    fn visit_stmt(&mut self, stmt: &Stmt) {
        self.values.get_mut().clear();
        match stmt {
            // What a function does it does when it is called.
            Stmt::FunctionDef(function) => {
                let helper = self.helper(function).map(Bound::Helper);
                // One that is there for want of a library is not the one that is used.
                if self.unsure == 0 || !self.scope.contains_key(function.name.as_str()) {
                    self.bind(&function.name, helper);
                }
            }
            Stmt::Assign(assign) => {
                self.assign(&assign.targets.iter().collect::<Vec<_>>(), &assign.value);
            }
            Stmt::AnnAssign(assign) => {
                if let Some(value) = &assign.value {
                    self.assign(&[&assign.target], value);
                }
            }
            Stmt::AugAssign(assign) => {
                let before =
                    assign.target.as_name_expr().and_then(|name| self.files.remove(name.id.as_str()));
                self.assign(&[&assign.target], &assign.value);
                if let Expr::Name(name) = assign.target.as_ref() {
                    self.bind(&name.id, None);
                    if let (Some(before), Some(more)) = (before, self.files.get_mut(name.id.as_str())) {
                        more.splice(0..0, before);
                    }
                }
            }
            Stmt::Import(import) => {
                for alias in &import.names {
                    self.reading.imports(&alias.name);
                    self.reading.module(&alias.name);
                    match &alias.asname {
                        Some(name) => self.bind(name, Some(Bound::Module(alias.name.to_string()))),
                        None => {
                            let first = alias.name.split('.').next().unwrap_or_default();
                            self.bind(first, Some(Bound::Module(first.to_owned())));
                        }
                    }
                }
            }
            Stmt::ImportFrom(import) => self.import_from(import),
            Stmt::If(choice) => self.choose(choice),
            Stmt::Assert(assert) => {
                if self.value(&assert.test).is_some_and(|value| !value.truth()) {
                    self.wants_seen(&assert.test);
                }
                walk_stmt(self, stmt);
            }
            Stmt::Try(attempt) => self.attempt(attempt),
            Stmt::With(with) => {
                let around = self.prefix.clone();
                for item in &with.items {
                    self.visit_expr(&item.context_expr);
                    if let Some(Expr::Name(name)) = item.optional_vars.as_deref() {
                        self.bind(&name.id, None);
                    }
                    if let Expr::Call(call) = &item.context_expr
                        && let Some(Bound::Method(.., method)) = self.bound(&call.func)
                        && let ("prefixed", Some(Expr::StringLiteral(prefix))) =
                            (method.as_str(), call.arguments.args.first())
                    {
                        self.prefix.push_str(prefix.value.to_str());
                    }
                }
                self.visit_body(&with.body);
                self.prefix = around;
            }
            // Its names are its own.
            Stmt::ClassDef(_) => {
                let around = self.scope.clone();
                walk_stmt(self, stmt);
                self.scope = around;
            }
            Stmt::For(_) | Stmt::While(_) | Stmt::Match(_) => {
                if let Some(Expr::Name(name)) = stmt.as_for_stmt().map(|each| each.target.as_ref()) {
                    self.bind(&name.id, None);
                }
                self.unsure += 1;
                walk_stmt(self, stmt);
                self.unsure -= 1;
            }
            _ => walk_stmt(self, stmt),
        }
    }

    fn visit_expr(&mut self, expr: &Expr) {
        if let Some(Asked { name, kind, absent, scheme: None }) = self.asked(expr) {
            match absent {
                Absent::Fails => self.wants(name, kind, Way::Asking),
                Absent::Raises => self.wants(name, kind, Way::Raised),
                Absent::Nothing | Absent::Default(_) | Absent::Made(_) | Absent::Somehow => {}
            }
        }
        if let Some((name, kind)) = self.fails_without(expr) {
            self.wants(name, kind, Way::Nothing);
        }
        match expr {
            Expr::Lambda(_) => {}
            Expr::If(choice) => {
                self.visit_expr(&choice.test);
                let truth = self.value(&choice.test).map(|value| value.truth());
                if truth != Some(false) {
                    self.visit_expr(&choice.body);
                }
                if truth != Some(true) {
                    self.visit_expr(&choice.orelse);
                }
            }
            Expr::BoolOp(operation) => {
                let ends = operation.op == BoolOp::Or;
                for value in &operation.values {
                    self.visit_expr(value);
                    if self.value(value).is_some_and(|value| value.truth() == ends) {
                        break;
                    }
                }
            }
            Expr::Dict(dict) => {
                for item in &dict.items {
                    let around = self.key.clone();
                    if let Some(key) = item.key.as_ref().and_then(Expr::as_string_literal_expr) {
                        let key = key.value.to_str();
                        let value = self.value(&item.value);
                        if let Some(setting) = &self.setting {
                            self.reading.sets(&format!("{setting}.{key}"), value.clone());
                        }
                        self.reading.sets(key, value);
                        self.key = Some(key.to_owned());
                    }
                    self.visit_expr(&item.value);
                    self.key = around;
                }
            }
            Expr::Call(call) => self.call(call, expr),
            _ => walk_expr(self, expr),
        }
    }
}
