//! `${VAR}` in strings of imgforge.toml.

/// Replaces every `${NAME}` in `text` by what `lookup` gives; `$$` is one dollar sign, any other `$` stays as it is.
///
/// # Errors
/// The name that has no value, or the words that say what is wrong with the form.
pub(super) fn interpolate(text: &str, lookup: &dyn Fn(&str) -> Option<String>) -> Result<String, Fault> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some(after) = rest.strip_prefix('{') {
            let end = after.find('}').ok_or(Fault::Unclosed)?;
            let name = &after[..end];
            let valid = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
            if !valid {
                return Err(Fault::BadName(name.to_owned()));
            }
            match lookup(name) {
                Some(value) if !value.is_empty() => out.push_str(&value),
                _ => return Err(Fault::Unset(name.to_owned())),
            }
            rest = &after[end + 1..];
        } else {
            out.push('$');
        }
    }
    out.push_str(rest);
    Ok(out)
}

/// What is wrong with a `${…}`.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The closing brace is missing.
    Unclosed,
    /// Not a variable's name.
    BadName(String),
    /// Not set, or empty.
    Unset(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(name: &str) -> Option<String> {
        match name {
            "BUCKET_NAME" => Some("shop-secrets".into()),
            "EMPTY" => Some(String::new()),
            _ => None,
        }
    }

    #[test]
    fn replaces_variables_and_keeps_other_dollars() {
        let cases = [
            ("s3://${BUCKET_NAME}/a", "s3://shop-secrets/a"),
            ("${BUCKET_NAME}${BUCKET_NAME}", "shop-secretsshop-secrets"),
            ("cost $5 and $$", "cost $5 and $"),
            ("$${BUCKET_NAME}", "${BUCKET_NAME}"),
            ("", ""),
        ];
        for (text, want) in cases {
            assert_eq!(interpolate(text, &env).as_deref(), Ok(want), "{text}");
        }
    }

    #[test]
    fn names_what_is_missing() {
        assert_eq!(interpolate("${NOPE}", &env), Err(Fault::Unset("NOPE".into())));
        assert_eq!(interpolate("${EMPTY}", &env), Err(Fault::Unset("EMPTY".into())));
        assert_eq!(interpolate("${NOPE", &env), Err(Fault::Unclosed));
        assert_eq!(interpolate("${a-b}", &env), Err(Fault::BadName("a-b".into())));
    }
}
