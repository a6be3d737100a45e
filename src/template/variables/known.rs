//! Values that are known without running anything.

/// A value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Known {
    Nothing,
    /// `None`, because this variable is absent.
    Absent(String),
    /// Text without anything in it, because this variable is absent.
    Blank(String),
    Truth(bool),
    Number(i64),
    Text(String),
    /// A list, tuple or set of such values.
    Several(Vec<Known>),
}

impl Known {
    /// Whether Python takes it for true.
    pub(super) fn truth(&self) -> bool {
        match self {
            Known::Nothing | Known::Absent(_) | Known::Blank(_) => false,
            Known::Truth(truth) => *truth,
            Known::Number(number) => *number != 0,
            Known::Text(text) => !text.is_empty(),
            Known::Several(values) => !values.is_empty(),
        }
    }

    /// What a function of one value, or a method of text, makes of it.
    pub(super) fn through(self, function: &str) -> Option<Known> {
        let plain = match self {
            Known::Blank(_) => Known::Text(String::new()),
            other => other,
        };
        Some(match (function, plain) {
            ("bool", value) => Known::Truth(value.truth()),
            ("int", Known::Text(text)) => Known::Number(text.trim().parse().ok()?),
            ("int", Known::Truth(truth)) => Known::Number(truth.into()),
            ("int", number @ Known::Number(_)) => number,
            ("str" | "strip", text @ Known::Text(_)) => text,
            ("lower" | "casefold", Known::Text(text)) => Known::Text(text.to_lowercase()),
            ("upper", Known::Text(text)) => Known::Text(text.to_uppercase()),
            ("title" | "capitalize", Known::Text(text)) => {
                let mut letters = text.chars();
                let first = letters.next().map(|first| first.to_uppercase().to_string()).unwrap_or_default();
                Known::Text(first + &letters.as_str().to_lowercase())
            }
            _ => return None,
        })
    }

    /// What `env.TYPE` reads a default of text as.
    pub(super) fn read_as(self, kind: super::Kind) -> Known {
        match (kind, self) {
            (super::Kind::Bool, Known::Blank(_)) => Known::Truth(false),
            (super::Kind::Bool, Known::Text(text)) => {
                let yes = ["true", "on", "ok", "y", "yes", "1"];
                Known::Truth(yes.contains(&text.to_lowercase().as_str()))
            }
            (_, value) => value,
        }
    }

    /// What a function makes of it that may read text as something else; of `None` it is no more known why.
    pub(super) fn made(self) -> Option<Known> {
        match self {
            Known::Text(_) | Known::Blank(_) => None,
            Known::Absent(_) => Some(Known::Nothing),
            other => Some(other),
        }
    }

    /// Whether Python takes them for the same.
    pub(super) fn equals(&self, other: &Known) -> bool {
        match (self, other) {
            (Known::Nothing | Known::Absent(_), other) => matches!(other, Known::Nothing | Known::Absent(_)),
            (Known::Blank(_), Known::Text(text)) | (Known::Text(text), Known::Blank(_)) => text.is_empty(),
            (Known::Blank(_), Known::Blank(_)) => true,
            (Known::Several(one), Known::Several(other)) => {
                one.len() == other.len() && one.iter().zip(other).all(|(one, other)| one.equals(other))
            }
            (one, other) => one == other,
        }
    }

    /// What Python prints for it.
    pub(super) fn printed(self) -> Option<String> {
        match self {
            Known::Nothing | Known::Absent(_) => Some("None".into()),
            Known::Blank(_) => Some(String::new()),
            Known::Truth(truth) => Some(if truth { "True" } else { "False" }.into()),
            Known::Number(number) => Some(number.to_string()),
            Known::Text(text) => Some(text),
            Known::Several(_) => None,
        }
    }
}
