//! Whether an IAM policy allows a call: the part of IAM's rules that the template's policies use ("Policy evaluation logic" in
//! the IAM user guide). What it does not know it refuses to judge, so that no policy passes for want of a rule.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// A call, as a policy sees it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Call {
    /// `ecs:UpdateService`
    pub action: String,
    /// The ARN that it is about, or `*`.
    pub resource: String,
    /// Condition keys.
    pub context: BTreeMap<String, String>,
}

impl Call {
    pub fn new(action: &str, resource: impl Into<String>) -> Self {
        Call { action: action.into(), resource: resource.into(), context: BTreeMap::new() }
    }

    /// With a condition key.
    pub fn with(mut self, key: &str, value: impl Into<String>) -> Self {
        self.context.insert(key.to_ascii_lowercase(), value.into());
        self
    }
}

/// A policy document. Of a bucket's policy only statements for everyone are known.
pub struct Policy {
    statements: Vec<Statement>,
}

struct Statement {
    allows: bool,
    actions: Vec<String>,
    resources: Vec<String>,
    /// Operator, key, values.
    conditions: Vec<(String, String, Vec<String>)>,
}

impl Policy {
    pub fn parse(document: &Value) -> Self {
        let statements = list(&document["Statement"]);
        assert!(!statements.is_empty(), "a policy without statements: {document}");
        Policy { statements: statements.iter().map(|statement| Statement::parse(statement)).collect() }
    }

    /// A Deny that fits beats every Allow; without an Allow that fits the answer is no.
    pub fn allows(&self, call: &Call) -> bool {
        let fitting: Vec<&Statement> =
            self.statements.iter().filter(|statement| statement.fits(call)).collect();
        !fitting.is_empty() && fitting.iter().all(|statement| statement.allows)
    }

    /// The actions that are allowed on something.
    pub fn actions(&self) -> BTreeSet<String> {
        let allowing = self.statements.iter().filter(|statement| statement.allows);
        allowing.flat_map(|statement| statement.actions.clone()).collect()
    }

    /// The actions that are allowed on everything, whatever the conditions.
    pub fn unrestricted(&self) -> BTreeSet<String> {
        let allowing =
            self.statements.iter().filter(|at| at.allows && at.resources.iter().any(|on| on == "*"));
        allowing.flat_map(|statement| statement.actions.clone()).collect()
    }
}

impl Statement {
    fn parse(statement: &Value) -> Self {
        let known = ["Sid", "Effect", "Action", "Resource", "Condition", "Principal"];
        for key in statement.as_object().expect("a statement is an object").keys() {
            assert!(known.contains(&key.as_str()), "{key} is not understood here: {statement}");
        }
        let principal = &statement["Principal"];
        assert!(principal.is_null() || principal == "*", "not for everyone: {statement}");
        let conditions = statement["Condition"].as_object().into_iter().flatten();
        let conditions = conditions.flat_map(|(operator, keys)| {
            assert!(OPERATORS.contains(&operator.as_str()), "{operator} is not understood here");
            let keys = keys.as_object().expect("keys").iter();
            keys.map(|(key, values)| (operator.clone(), key.to_ascii_lowercase(), strings(values)))
        });
        Statement {
            allows: match statement["Effect"].as_str() {
                Some("Allow") => true,
                Some("Deny") => false,
                other => panic!("Effect {other:?}"),
            },
            actions: strings(&statement["Action"]),
            resources: strings(&statement["Resource"]),
            conditions: conditions.collect(),
        }
    }

    fn fits(&self, call: &Call) -> bool {
        let action = call.action.to_ascii_lowercase();
        self.actions.iter().any(|pattern| is_like(&pattern.to_ascii_lowercase(), &action))
            && self.resources.iter().any(|pattern| is_arn_like(pattern, &call.resource))
            && self.conditions.iter().all(|(operator, key, values)| {
                // A key that the call does not have fits nothing.
                call.context
                    .get(key)
                    .is_some_and(|have| values.iter().any(|want| holds(operator, want, have)))
            })
    }
}

const OPERATORS: [&str; 5] = ["StringEquals", "StringLike", "ArnEquals", "ArnLike", "Bool"];

fn holds(operator: &str, want: &str, have: &str) -> bool {
    match operator {
        "StringEquals" => want == have,
        "StringLike" => is_like(want, have),
        // The two are the same.
        "ArnEquals" | "ArnLike" => is_arn_like(want, have),
        "Bool" => want.eq_ignore_ascii_case(have),
        _ => unreachable!("refused when it was read"),
    }
}

/// `*` is any run of characters, `?` any one.
fn is_like(pattern: &str, text: &str) -> bool {
    match pattern.chars().next() {
        None => text.is_empty(),
        Some('*') => {
            let rest = &pattern[1..];
            (0..=text.len()).filter(|at| text.is_char_boundary(*at)).any(|at| is_like(rest, &text[at..]))
        }
        Some(wanted) => match text.chars().next() {
            Some(first) if wanted == '?' || wanted == first => {
                is_like(&pattern[wanted.len_utf8()..], &text[first.len_utf8()..])
            }
            _ => false,
        },
    }
}

/// A wildcard does not go beyond its part of an ARN; the sixth part is all the rest.
fn is_arn_like(pattern: &str, arn: &str) -> bool {
    if pattern == "*" {
        return true;
    }
    let (pattern, arn): (Vec<_>, Vec<_>) = (pattern.splitn(6, ':').collect(), arn.splitn(6, ':').collect());
    pattern.len() == arn.len() && pattern.iter().zip(&arn).all(|(pattern, part)| is_like(pattern, part))
}

fn list(value: &Value) -> Vec<&Value> {
    match value {
        Value::Array(values) => values.iter().collect(),
        Value::Null => Vec::new(),
        value => vec![value],
    }
}

fn strings(value: &Value) -> Vec<String> {
    let strings = list(value).into_iter().map(|value| match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    });
    strings.collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn policy(statements: Value) -> Policy {
        Policy::parse(&json!({"Version": "2012-10-17", "Statement": statements}))
    }

    fn get(key: &str) -> Call {
        Call::new("s3:GetObject", format!("arn:aws:s3:::shop/{key}"))
    }

    #[test]
    fn nothing_is_allowed_that_no_statement_names() {
        let one =
            policy(json!([{"Effect": "Allow", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::shop/a"}]));
        assert!(one.allows(&get("a")));
        assert!(!one.allows(&get("b")), "another object");
        assert!(!one.allows(&get("a/b")));
        assert!(!one.allows(&Call::new("s3:PutObject", "arn:aws:s3:::shop/a")), "another action");
        assert!(!one.allows(&Call::new("s3:GetObject", "*")), "everything is more than one object");
        assert!(one.allows(&Call::new("S3:getobject", "arn:aws:s3:::shop/a")), "actions have no case");
        assert!(!one.allows(&Call::new("s3:GetObject", "arn:aws:s3:::shop/A")), "resources have one");
    }

    #[test]
    fn wildcards_stay_in_their_part_of_an_arn() {
        let like = |resource: &str| {
            policy(json!({"Effect": "Allow", "Action": ["s3:Get*", "ecs:*"], "Resource": [resource]}))
        };
        assert!(like("arn:aws:s3:::shop/*").allows(&get("media/a.png")), "also beyond a slash");
        assert!(like("arn:aws:s3:::sh?p/a").allows(&get("a")));
        assert!(!like("arn:aws:s3:::sh?p/a").allows(&get("aa")));
        assert!(!like("arn:aws:s3:::shop/*").allows(&Call::new("s3:PutObject", "arn:aws:s3:::shop/a")));
        let revision = Call::new("ecs:RunTask", "arn:aws:ecs:eu-west-1:1:task-definition/shop-web:3");
        assert!(like("arn:aws:ecs:eu-west-1:1:task-definition/shop-web:*").allows(&revision));
        assert!(like("arn:aws:ecs:*:1:task-definition/*").allows(&revision));
        assert!(!like("arn:aws:*:task-definition/shop-web:3").allows(&revision), "not over several parts");
        assert!(
            !like("arn:aws:ecs:eu-west-1:2:task-definition/shop-web:*").allows(&revision),
            "another account"
        );
        assert!(!like("arn:aws:ecs:eu-west-1:1:task-definition/shop:*").allows(&revision), "a longer name");
        assert!(like("*").allows(&revision));
    }

    #[test]
    fn a_deny_beats_an_allow_wherever_it_stands() {
        let allow = json!({"Effect": "Allow", "Action": "s3:*", "Resource": "*"});
        let deny = json!({"Effect": "Deny", "Action": "s3:Get*", "Resource": "arn:aws:s3:::shop/secret"});
        for statements in [json!([allow, deny]), json!([deny, allow])] {
            let both = policy(statements);
            assert!(both.allows(&get("public")));
            assert!(!both.allows(&get("secret")));
            assert!(both.allows(&Call::new("s3:PutObject", "arn:aws:s3:::shop/secret")));
        }
        assert!(!policy(json!([deny])).allows(&get("public")), "no deny is not an allow");
    }

    #[test]
    fn all_conditions_must_hold_and_one_value_of_each_is_enough() {
        let with = |condition: Value| {
            policy(json!({"Effect": "Allow", "Action": "*", "Resource": "*", "Condition": condition}))
        };
        let equals = with(json!({"StringEquals": {"aws:SourceVpce": ["vpce-1", "vpce-2"]}}));
        assert!(equals.allows(&get("a").with("aws:SourceVpce", "vpce-2")));
        assert!(equals.allows(&get("a").with("AWS:sourcevpce", "vpce-1")), "keys have no case");
        assert!(!equals.allows(&get("a").with("aws:SourceVpce", "vpce-3")));
        assert!(!equals.allows(&get("a").with("aws:SourceVpce", "vpce-*")));
        assert!(!equals.allows(&get("a")), "a key that is not there");
        let like = with(json!({"StringLike": {"s3:prefix": "media/*"}}));
        assert!(like.allows(&get("a").with("s3:prefix", "media/1")));
        assert!(!like.allows(&get("a").with("s3:prefix", "static/1")));
        let cluster = with(json!({"ArnEquals": {"ecs:cluster": "arn:aws:ecs:eu-west-1:1:cluster/shop"}}));
        assert!(cluster.allows(&get("a").with("ecs:cluster", "arn:aws:ecs:eu-west-1:1:cluster/shop")));
        assert!(!cluster.allows(&get("a").with("ecs:cluster", "arn:aws:ecs:eu-west-1:1:cluster/shop2")));
        let two = with(json!({"StringEquals": {"a": "1"}, "Bool": {"aws:SecureTransport": "true"}}));
        assert!(two.allows(&get("a").with("a", "1").with("aws:SecureTransport", "true")));
        assert!(!two.allows(&get("a").with("a", "1").with("aws:SecureTransport", "false")));
        assert!(!two.allows(&get("a").with("a", "1")));
    }

    #[test]
    fn what_is_not_understood_is_not_judged() {
        let base = json!({"Effect": "Allow", "Action": "s3:*", "Resource": "*"});
        for (key, value) in [
            ("NotAction", json!("s3:DeleteObject")),
            ("NotResource", json!("arn:aws:s3:::shop/*")),
            ("NotPrincipal", json!("*")),
            ("Principal", json!({"AWS": "*"})),
            ("Condition", json!({"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}})),
            ("Condition", json!({"StringEqualsIfExists": {"a": "1"}})),
            ("Effect", json!("Perhaps")),
        ] {
            let mut statement = base.clone();
            statement[key] = value;
            let read = std::panic::catch_unwind(|| policy(statement));
            assert!(read.is_err(), "{key} was taken");
        }
    }
}
