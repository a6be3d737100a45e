//! What fails because a variable is absent, though asking for it did not.

use ruff_python_ast::visitor::{Visitor, walk_expr, walk_stmt};
use ruff_python_ast::{CmpOp, ExceptHandler, Expr, Operator, Stmt};

use super::Walk;
use crate::template::variables::Kind;
use crate::template::variables::bound::{self, Bound};
use crate::template::variables::known::Known;

/// What is raised when a variable is absent, by its last name, and what is above that.
pub(super) const ABSENT: [&str; 7] = [
    "KeyError",
    "LookupError",
    "Exception",
    "BaseException",
    "ImproperlyConfigured",
    "UndefinedValueError",
    "EnvError",
];
/// What using `None` in place of text raises, and what is above that.
const OF_NOTHING: [&str; 5] = ["TypeError", "AttributeError", "ValueError", "Exception", "BaseException"];
/// What has to do with modules alone.
const OF_IMPORTS: [&str; 2] = ["ImportError", "ModuleNotFoundError"];
/// What ends a process.
const EXITS: [&str; 4] = ["exit", "_exit", "quit", "abort"];
/// What takes no `None`.
const DEMANDING: [&str; 4] = ["Path", "join", "literal_eval", "strtobool"];
const BUILT_IN: [&str; 6] = ["len", "list", "open", "set", "sorted", "tuple"];
/// Words in the names of variables that are set where a site is developed: `if not KEY and not DEBUG: raise`.
const FLAGS: [&str; 7] = ["CI", "DEBUG", "DEV", "DEVELOPMENT", "LOCAL", "TEST", "TESTING"];

/// What a block goes on after.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Forgiven {
    /// What is raised by asking for an absent variable.
    asking: bool,
    /// What is raised by using `None`.
    nothing: bool,
    /// What the project raises itself.
    raised: bool,
}

impl Forgiven {
    /// The two blocks around a statement together.
    pub(super) fn and(self, inner: Forgiven) -> Forgiven {
        Forgiven {
            asking: self.asking || inner.asking,
            nothing: self.nothing || inner.nothing,
            raised: self.raised || inner.raised,
        }
    }

    /// Whether a way to fail is one of them.
    pub(super) fn covers(self, way: Way) -> bool {
        match way {
            Way::Asking => self.asking,
            Way::Nothing => self.nothing,
            Way::Raised => self.raised,
        }
    }
}

/// How the absence of a variable makes settings fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Asking,
    Nothing,
    Raised,
}

impl Walk<'_, '_> {
    /// The variable without which an expression itself fails, and what it is read as: `None` has no methods and no parts, and
    /// is no number.
    pub(super) fn fails_without(&self, expr: &Expr) -> Option<(String, Kind)> {
        let absent = |expr: &Expr| match self.value(expr)? {
            Known::Absent(name) => Some(name),
            _ => None,
        };
        let name = match expr {
            Expr::Attribute(attribute) => absent(&attribute.value)?,
            Expr::Subscript(subscript) => absent(&subscript.value)?,
            Expr::Starred(starred) => absent(&starred.value)?,
            Expr::BinOp(operation) if matches!(operation.op, Operator::Add | Operator::Div) => {
                absent(&operation.left).or_else(|| absent(&operation.right))?
            }
            Expr::Compare(compare) => {
                let parts = compare.ops.iter().zip(&compare.comparators);
                let mut within = parts.filter(|(op, _)| matches!(op, CmpOp::In | CmpOp::NotIn));
                within.find_map(|(_, whole)| absent(whole))?
            }
            Expr::Call(call) => {
                let function = last_name(&call.func)?;
                // All that it is given is part of a path; of others only the first has to be something.
                let of = if function == "join" { call.arguments.args.len() } else { 1 };
                let name = call.arguments.args.iter().take(of).find_map(absent)?;
                let kind = bound::kind_of(&call.func);
                let built_in = call.func.is_name_expr() && BUILT_IN.contains(&function);
                let demands = built_in || DEMANDING.contains(&function);
                if !demands && !matches!(kind, Some(Kind::Number | Kind::Json | Kind::Database)) {
                    return None;
                }
                return Some((name, kind.or(self.kind).unwrap_or(Kind::Text)));
            }
            _ => return None,
        };
        Some((name, self.kind.unwrap_or(Kind::Text)))
    }

    /// Whether statements raise, or end the process, maybe under a condition of their own.
    pub(super) fn gives_up(&self, body: &[Stmt]) -> bool {
        let mut search = GivesUp { walk: self, found: false };
        search.visit_body(body);
        search.found
    }

    /// What a `try` with these handlers goes on after.
    pub(super) fn forgiven(&self, handlers: &[ExceptHandler]) -> Forgiven {
        let mut forgiven = Forgiven::default();
        for ExceptHandler::ExceptHandler(handler) in handlers.iter() {
            let caught = handler.type_.as_deref();
            if !self.gives_up(&handler.body) {
                forgiven.asking |= catches(caught, &ABSENT);
                forgiven.nothing |= catches(caught, &OF_NOTHING);
                forgiven.raised |= !caught.is_some_and(|caught| catches(Some(caught), &OF_IMPORTS));
            }
        }
        forgiven
    }

    /// The variables whose absence a test sees, without those that say where the site runs.
    pub(super) fn seen_absent(&self, test: &Expr) -> Vec<String> {
        let mut search = SeenAbsent { walk: self, names: Vec::new() };
        search.visit_expr(test);
        search.names.retain(|name| !name.split('_').any(|word| FLAGS.contains(&word)));
        search.names
    }
}

struct SeenAbsent<'s, 'w, 'r> {
    walk: &'s Walk<'w, 'r>,
    names: Vec<String>,
}

impl Visitor<'_> for SeenAbsent<'_, '_, '_> {
    fn visit_expr(&mut self, expr: &Expr) {
        if let Some(Known::Absent(name) | Known::Blank(name)) = self.walk.value(expr) {
            self.names.push(name);
        }
        if let Expr::Compare(compare) = expr
            && self.walk.bound(&compare.comparators[0]) == Some(Bound::Environ)
            && let Some(Known::Text(name)) = self.walk.value(&compare.left)
        {
            self.names.push(name);
        }
        walk_expr(self, expr);
    }
}

/// Whether a handler of this type takes one of these exceptions.
pub(super) fn catches(handled: Option<&Expr>, exceptions: &[&str]) -> bool {
    let is_one = |expr: &Expr| last_name(expr).is_some_and(|name| exceptions.contains(&name));
    match handled {
        None => true,
        Some(Expr::Tuple(tuple)) => tuple.elts.iter().any(is_one),
        Some(expr) => is_one(expr),
    }
}

/// Looks for what raises, or ends the process.
struct GivesUp<'s, 'w, 'r> {
    walk: &'s Walk<'w, 'r>,
    found: bool,
}

impl Visitor<'_> for GivesUp<'_, '_, '_> {
    fn visit_stmt(&mut self, stmt: &Stmt) {
        match stmt {
            Stmt::Raise(_) => self.found = true,
            Stmt::FunctionDef(_) | Stmt::ClassDef(_) => {}
            Stmt::If(choice) => match self.walk.value(&choice.test).map(|value| value.truth()) {
                Some(true) => self.visit_body(&choice.body),
                Some(false) => {
                    choice.elif_else_clauses.iter().for_each(|clause| self.visit_body(&clause.body))
                }
                None => walk_stmt(self, stmt),
            },
            Stmt::Expr(stmt) => {
                let called = stmt.value.as_call_expr().and_then(|call| last_name(&call.func));
                self.found |= called.is_some_and(|name| EXITS.contains(&name));
            }
            _ => walk_stmt(self, stmt),
        }
    }
}

/// `b` of `a.b`.
fn last_name(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Name(name) => Some(name.id.as_str()),
        Expr::Attribute(attribute) => Some(attribute.attr.as_str()),
        _ => None,
    }
}
