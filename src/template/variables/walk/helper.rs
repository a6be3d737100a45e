//! Functions of a project's own that read a variable for who calls them: `get_env_variable("SECRET_KEY")`.

use ruff_python_ast::visitor::{Visitor, walk_expr, walk_stmt};
use ruff_python_ast::{ExceptHandler, Expr, ParameterWithDefault, Stmt, StmtFunctionDef};

use super::Walk;
use super::absent::{ABSENT, catches};
use crate::template::variables::bound::{self, Absent, Bound, Helper};

/// Words in the name of a parameter that stands for an absent variable.
const DEFAULTS: [&str; 3] = ["default", "fallback", "otherwise"];

impl Walk<'_, '_> {
    /// What a function reads for its caller; `None` when it reads nothing that its first parameter names.
    pub(super) fn helper(&self, function: &StmtFunctionDef) -> Option<Helper> {
        let parameters: Vec<_> = function.parameters.iter_non_variadic_params().collect();
        let name = parameters.first()?.name().as_str();
        let is_default = |parameter: &ParameterWithDefault| {
            DEFAULTS.iter().any(|word| parameter.name().as_str().contains(word))
        };
        // Where nothing has to be given, what is raised is about something else: text that is no number.
        let lenient = parameters[1..].iter().any(|parameter| match parameter.default() {
            Some(Expr::BooleanLiteral(literal)) => !literal.value || is_default(parameter),
            Some(Expr::NoneLiteral(_) | Expr::Name(_) | Expr::Attribute(_)) | None => false,
            Some(_) => is_default(parameter),
        });
        let mut search = Reads { walk: self, name, lenient, reads: false, fails: false, forgiving: false };
        search.visit_body(&function.body);
        if !search.reads {
            return None;
        }
        let default = parameters.iter().position(|parameter| is_default(parameter));
        let fails = search.fails || !lenient && self.gives_up(&function.body);
        let otherwise = || self.value(parameters[default?].default()?)?.made();
        Some(Helper {
            name: name.to_owned(),
            default: default.map(|at| (at, parameters[at].name().to_string())),
            absent: (!fails).then(otherwise),
        })
    }

    /// Whether a test asks if the variable that a parameter names is there.
    fn guards(&self, test: &Expr, name: &str) -> bool {
        match test {
            Expr::Compare(compare) => {
                let is_name = compare.left.as_name_expr().is_some_and(|left| left.id.as_str() == name);
                is_name && self.bound(&compare.comparators[0]) == Some(Bound::Environ)
            }
            Expr::BoolOp(operation) => operation.values.iter().any(|test| self.guards(test, name)),
            Expr::UnaryOp(unary) => self.guards(&unary.operand, name),
            _ => false,
        }
    }
}

/// Looks for what reads the variable that a parameter names.
struct Reads<'s, 'w, 'r> {
    walk: &'s Walk<'w, 'r>,
    name: &'s str,
    /// Whether the function has something for who gives nothing.
    lenient: bool,
    /// It is read.
    reads: bool,
    /// In a way that fails when it is absent.
    fails: bool,
    forgiving: bool,
}

impl Reads<'_, '_, '_> {
    fn forgives(&self, handler: &ExceptHandler) -> bool {
        let ExceptHandler::ExceptHandler(caught) = handler;
        catches(caught.type_.as_deref(), &ABSENT) && (self.lenient || !self.walk.gives_up(&caught.body))
    }
}

impl Visitor<'_> for Reads<'_, '_, '_> {
    fn visit_stmt(&mut self, stmt: &Stmt) {
        match stmt {
            Stmt::Try(attempt) if attempt.handlers.iter().any(|handler| self.forgives(handler)) => {
                let around = std::mem::replace(&mut self.forgiving, true);
                self.visit_body(&attempt.body);
                self.forgiving = around;
                let others = [&attempt.orelse, &attempt.finalbody];
                others.into_iter().for_each(|body| self.visit_body(body));
            }
            Stmt::If(choice) if self.walk.guards(&choice.test, self.name) => {
                let around = std::mem::replace(&mut self.forgiving, true);
                walk_stmt(self, stmt);
                self.forgiving = around;
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
                Some(matches!(asked.absent, Absent::Fails | Absent::Raises) && asked.scheme.is_none())
            }),
            _ => None,
        };
        if let Some(fails) = fails {
            self.reads = true;
            self.fails |= fails && !self.forgiving;
        }
        let around = self.forgiving;
        self.forgiving |= expr.as_if_expr().is_some_and(|choice| self.walk.guards(&choice.test, self.name));
        walk_expr(self, expr);
        self.forgiving = around;
    }
}
