//! What an expression of a module stands for, asks for, and is worth.

use ruff_python_ast::{BoolOp, CmpOp, Expr, UnaryOp};
use ruff_text_size::Ranged;

use super::Walk;
use crate::template::variables::Kind;
use crate::template::variables::bound::{self, Absent, Asked, Bound};
use crate::template::variables::known::Known;

impl Walk<'_, '_> {
    /// What an expression stands for.
    pub(super) fn bound(&self, expr: &Expr) -> Option<Bound> {
        match expr {
            Expr::Name(name) => self.scope.get(name.id.as_str()).cloned(),
            Expr::Attribute(attribute) => match self.bound(&attribute.value)? {
                Bound::Module(module) => self.reading.member_read(&module, &attribute.attr),
                bound => bound.attribute(&attribute.attr),
            },
            Expr::Call(call) => match self.bound(&call.func) {
                Some(Bound::EnvClass(library)) => {
                    Some(Bound::Env(library, bound::scheme(&call.arguments, |expr| self.value(expr))))
                }
                Some(Bound::ConfigClass) => Some(Bound::Config),
                _ => self.value(expr).map(Bound::Value),
            },
            _ => self.value(expr).map(Bound::Value),
        }
    }

    /// What an expression asks the environment for.
    pub(super) fn asked(&self, expr: &Expr) -> Option<Asked> {
        let mut asked = match expr {
            Expr::Subscript(subscript) if self.bound(&subscript.value) == Some(Bound::Environ) => Asked {
                name: subscript.slice.as_string_literal_expr()?.value.to_str().to_owned(),
                kind: Kind::Text,
                absent: Absent::Fails,
                scheme: None,
            },
            Expr::Call(call) => {
                let function = self.bound(&call.func)?;
                let mut asked = bound::asked(&function, &call.arguments)?;
                if matches!(function, Bound::Env(..) | Bound::Method(..)) {
                    asked.name.insert_str(0, &self.prefix);
                }
                asked
            }
            _ => return None,
        };
        if asked.kind == Kind::Text {
            asked.kind = self.kind.unwrap_or(Kind::Text);
        }
        Some(asked)
    }

    /// What an expression is when nothing is set. Chains of calls ask for the same again and again, so it is kept as long as the
    /// statement that it is in.
    pub(super) fn value(&self, expr: &Expr) -> Option<Known> {
        let place = (expr.range(), std::mem::discriminant(expr));
        if let Some(value) = self.values.borrow().get(&place) {
            return value.clone();
        }
        let value = self.evaluated(expr);
        self.values.borrow_mut().insert(place, value.clone());
        value
    }

    fn evaluated(&self, expr: &Expr) -> Option<Known> {
        if let Some(asked) = self.asked(expr) {
            if self.reading.given.contains(&asked.name) {
                return None;
            }
            let default = match (asked.absent, asked.scheme) {
                (Absent::Default(default), _) => self.value(&default)?,
                (Absent::Made(default), _) => return self.value(&default)?.made(),
                (Absent::Nothing, _) => Known::Nothing,
                (Absent::Fails | Absent::Raises, Some(scheme)) => return Some(scheme?.read_as(asked.kind)),
                (Absent::Fails | Absent::Raises, None) | (Absent::Somehow, _) => return None,
            };
            return Some(match default {
                Known::Nothing => Known::Absent(asked.name),
                Known::Text(text) if text.is_empty() && asked.kind == Kind::Text => Known::Blank(asked.name),
                default => default.read_as(asked.kind),
            });
        }
        Some(match expr {
            Expr::NoneLiteral(_) => Known::Nothing,
            Expr::BooleanLiteral(literal) => Known::Truth(literal.value),
            Expr::StringLiteral(literal) => Known::Text(literal.value.to_str().to_owned()),
            Expr::NumberLiteral(literal) => Known::Number(literal.value.as_int()?.as_i64()?),
            Expr::List(list) => self.several(&list.elts)?,
            Expr::Tuple(tuple) => self.several(&tuple.elts)?,
            Expr::Set(set) => self.several(&set.elts)?,
            Expr::Name(_) | Expr::Attribute(_) => match self.bound(expr)? {
                Bound::Value(value) => value,
                _ => return None,
            },
            Expr::UnaryOp(unary) if unary.op == UnaryOp::Not => {
                Known::Truth(!self.value(&unary.operand)?.truth())
            }
            Expr::BoolOp(operation) => {
                let ends = operation.op == BoolOp::Or;
                let mut last = None;
                for value in &operation.values {
                    let value = self.value(value)?;
                    if value.truth() == ends {
                        return Some(value);
                    }
                    last = Some(value);
                }
                last?
            }
            Expr::If(choice) => match self.value(&choice.test)?.truth() {
                true => self.value(&choice.body)?,
                false => self.value(&choice.orelse)?,
            },
            Expr::Compare(compare) if compare.ops.len() == 1 => {
                self.compared(&compare.left, compare.ops[0], &compare.comparators[0])?
            }
            Expr::Call(call) => match (call.func.as_ref(), call.arguments.args.as_ref()) {
                (Expr::Name(function), [value]) => self.value(value)?.through(&function.id)?,
                (Expr::Attribute(method), []) => self.value(&method.value)?.through(&method.attr)?,
                _ => return None,
            },
            _ => return None,
        })
    }

    pub(super) fn several(&self, values: &[Expr]) -> Option<Known> {
        values.iter().map(|value| self.value(value)).collect::<Option<_>>().map(Known::Several)
    }

    pub(super) fn compared(&self, left: &Expr, operator: CmpOp, right: &Expr) -> Option<Known> {
        let left = self.value(left)?;
        if self.bound(right) == Some(Bound::Environ) {
            let Known::Text(name) = left else { return None };
            let absent = !self.reading.given.contains(&name);
            return match operator {
                CmpOp::In => absent.then_some(Known::Truth(false)),
                CmpOp::NotIn => absent.then_some(Known::Truth(true)),
                _ => None,
            };
        }
        let right = self.value(right)?;
        Some(Known::Truth(match (operator, &right) {
            (CmpOp::Eq | CmpOp::Is, _) => left.equals(&right),
            (CmpOp::NotEq | CmpOp::IsNot, _) => !left.equals(&right),
            (CmpOp::In, Known::Several(values)) => values.iter().any(|value| value.equals(&left)),
            (CmpOp::NotIn, Known::Several(values)) => !values.iter().any(|value| value.equals(&left)),
            _ => return None,
        }))
    }
}

/// `DATABASES["default"]["HOST"]`: the setting, and the last key.
pub(super) fn place(target: &Expr) -> (Option<String>, Option<String>) {
    let mut key = None;
    let mut expr = target;
    loop {
        match expr {
            Expr::Subscript(subscript) => {
                let literal = subscript.slice.as_string_literal_expr();
                key = key.or_else(|| literal.map(|literal| literal.value.to_str().to_owned()));
                expr = &subscript.value;
            }
            Expr::Name(name) => return (Some(name.id.to_string()), key),
            _ => return (None, key),
        }
    }
}
