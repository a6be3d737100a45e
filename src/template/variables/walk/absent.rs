//! What fails because a variable is absent, though asking for it did not.

use ruff_python_ast::visitor::{Visitor, walk_expr, walk_stmt};
use ruff_python_ast::{CmpOp, ExceptHandler, Expr, Operator, Stmt};

use super::Walk;
use crate::template::variables::Kind;
use crate::template::variables::bound::{self, Bound};
use crate::template::variables::known::Known;

/// What is raised when a variable is absent, by its last name, and what is above that.
const ABSENT: [&str; 7] = [
    "KeyError",
    "LookupError",
    "Exception",
    "BaseException",
    "ImproperlyConfigured",
    "UndefinedValueError",
    "EnvError",
];
/// What ends a process.
const EXITS: [&str; 4] = ["exit", "_exit", "quit", "abort"];
/// What takes everything but `None`.
const DEMANDING: [&str; 7] = ["Path", "join", "len", "sorted", "set", "list", "tuple"];
/// Words in the names of variables that are set where a site is developed: `if not KEY and not DEBUG: raise`.
const FLAGS: [&str; 7] = ["CI", "DEBUG", "DEV", "DEVELOPMENT", "LOCAL", "TEST", "TESTING"];

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
            Expr::BinOp(operation) if operation.op == Operator::Add => {
                absent(&operation.left).or_else(|| absent(&operation.right))?
            }
            Expr::Compare(compare) => {
                let parts = compare.ops.iter().zip(&compare.comparators);
                let mut within = parts.filter(|(op, _)| matches!(op, CmpOp::In | CmpOp::NotIn));
                within.find_map(|(_, whole)| absent(whole))?
            }
            Expr::Call(call) => {
                let name = call.arguments.args.first().and_then(absent)?;
                let kind = bound::kind_of(&call.func);
                let demands = last_name(&call.func).is_some_and(|name| DEMANDING.contains(&name));
                if !demands && !matches!(kind, Some(Kind::Number | Kind::Json)) {
                    return None;
                }
                return Some((name, kind.or(self.kind).unwrap_or(Kind::Text)));
            }
            _ => return None,
        };
        Some((name, self.kind.unwrap_or(Kind::Text)))
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
        if let Some(Known::Absent(name)) = self.walk.value(expr) {
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

/// Whether a handler goes on when a variable is absent.
pub(super) fn forgives(handler: &ExceptHandler) -> bool {
    let ExceptHandler::ExceptHandler(handler) = handler;
    let catches = |expr: &Expr| last_name(expr).is_some_and(|name| ABSENT.contains(&name));
    let caught = match handler.type_.as_deref() {
        None => true,
        Some(Expr::Tuple(tuple)) => tuple.elts.iter().any(catches),
        Some(expr) => catches(expr),
    };
    caught && !gives_up(&handler.body)
}

/// Whether statements raise, or end the process, maybe under a condition of their own.
pub(super) fn gives_up(body: &[Stmt]) -> bool {
    let mut search = GivesUp(false);
    search.visit_body(body);
    search.0
}

struct GivesUp(bool);

impl Visitor<'_> for GivesUp {
    fn visit_stmt(&mut self, stmt: &Stmt) {
        match stmt {
            Stmt::Raise(_) => self.0 = true,
            Stmt::FunctionDef(_) | Stmt::ClassDef(_) => {}
            Stmt::Expr(stmt) => {
                let called = stmt.value.as_call_expr().and_then(|call| last_name(&call.func));
                if called.is_some_and(|name| EXITS.contains(&name)) {
                    self.0 = true;
                }
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
