//! Functions of a project's own that read a variable for who calls them: `get_env_variable("SECRET_KEY")`.

use ruff_python_ast::visitor::{Visitor, walk_expr, walk_stmt};
use ruff_python_ast::{Expr, Stmt, StmtFunctionDef};

use super::Walk;
use super::absent::{forgives, gives_up};
use crate::template::variables::bound::{self, Absent, Bound, Helper};

/// What such a parameter is called.
const DEFAULTS: [&str; 4] = ["default", "default_value", "fallback", "otherwise"];

impl Walk<'_, '_> {
    /// What a function reads for its caller; `None` when it reads nothing that its first parameter names.
    pub(super) fn helper(&self, function: &StmtFunctionDef) -> Option<Helper> {
        let parameters: Vec<_> = function.parameters.iter_non_variadic_params().collect();
        let name = parameters.first()?.name().as_str();
        let mut search = Reads { walk: self, name, reads: false, fails: false, forgiving: false };
        search.visit_body(&function.body);
        if !search.reads {
            return None;
        }
        let default = parameters.iter().position(|parameter| DEFAULTS.contains(&parameter.name().as_str()));
        let fails = search.fails || gives_up(&function.body);
        let otherwise = || self.value(parameters[default?].default()?);
        Some(Helper {
            name: name.to_owned(),
            default: default.map(|at| (at, parameters[at].name().to_string())),
            absent: (!fails).then(otherwise),
        })
    }
}

/// Looks for what reads the variable that a parameter names.
struct Reads<'s, 'w, 'r> {
    walk: &'s Walk<'w, 'r>,
    name: &'s str,
    /// It is read.
    reads: bool,
    /// In a way that fails when it is absent.
    fails: bool,
    forgiving: bool,
}

impl Visitor<'_> for Reads<'_, '_, '_> {
    fn visit_stmt(&mut self, stmt: &Stmt) {
        match stmt {
            Stmt::Try(attempt) if attempt.handlers.iter().any(forgives) => {
                let around = std::mem::replace(&mut self.forgiving, true);
                self.visit_body(&attempt.body);
                self.forgiving = around;
                let others = [&attempt.orelse, &attempt.finalbody];
                others.into_iter().for_each(|body| self.visit_body(body));
            }
            _ => walk_stmt(self, stmt),
        }
    }

    fn visit_expr(&mut self, expr: &Expr) {
        let is_name = |expr: &Expr| expr.as_name_expr().is_some_and(|name| name.id.as_str() == self.name);
        let fails = match expr {
            Expr::Subscript(subscript) if is_name(&subscript.slice) => {
                (self.walk.bound(&subscript.value) == Some(Bound::Environ)).then_some(true)
            }
            Expr::Call(call) => self.walk.bound(&call.func).and_then(|function| {
                let asked =
                    bound::asked_by(&function, &call.arguments, |name| is_name(name).then(String::new))?;
                Some(matches!(asked.absent, Absent::Fails) && asked.scheme.is_none())
            }),
            _ => None,
        };
        if let Some(fails) = fails {
            self.reads = true;
            self.fails |= fails && !self.forgiving;
        }
        walk_expr(self, expr);
    }
}
