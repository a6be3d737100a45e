//! What a registry asks for when it answers 401: the `WWW-Authenticate` header (RFC 9110, section 11.6.1; distribution
//! spec, "Token Authentication").

use http::HeaderMap;
use http::header::WWW_AUTHENTICATE;

/// How a registry wants to be told who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Challenge {
    /// User and password with every request.
    Basic,
    /// A token from the server at `realm`.
    Bearer(Bearer),
}

/// The parameters of a Bearer challenge.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bearer {
    /// The token server's URL.
    pub realm: String,
    /// The name that the token server knows the registry by.
    pub service: Option<String>,
    /// The scope that the refused request needed.
    pub scope: Option<String>,
    /// `insufficient_scope`, `invalid_token`.
    pub error: Option<String>,
}

impl Challenge {
    /// The challenge of an answer. Of several the Bearer one counts: who offers tokens prefers them.
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        let mut basic = None;
        for header in headers.get_all(WWW_AUTHENTICATE) {
            // A malformed header tells nothing; the answer's 401 is then the error.
            let Ok(text) = header.to_str() else { continue };
            for (scheme, parameters) in schemes(text) {
                if scheme.eq_ignore_ascii_case("basic") {
                    basic = Some(Challenge::Basic);
                } else if scheme.eq_ignore_ascii_case("bearer")
                    && let Some(bearer) = bearer(parameters)
                {
                    return Some(Challenge::Bearer(bearer));
                }
            }
        }
        basic
    }
}

fn bearer(parameters: Vec<(String, String)>) -> Option<Bearer> {
    let mut bearer = Bearer::default();
    for (name, value) in parameters {
        match name.as_str() {
            "realm" => bearer.realm = value,
            "service" => bearer.service = Some(value),
            "scope" => bearer.scope = Some(value),
            "error" => bearer.error = Some(value),
            _ => {}
        }
    }
    (!bearer.realm.is_empty()).then_some(bearer)
}

/// Each scheme with its parameters. One header may hold several: `Basic realm="a", Bearer realm="b",scope="c"`.
fn schemes(text: &str) -> Vec<(String, Vec<(String, String)>)> {
    let mut found: Vec<(String, Vec<(String, String)>)> = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        if rest.is_empty() {
            return found;
        }
        let end = rest.find([' ', '\t', ',', '=']).unwrap_or(rest.len());
        let word = &rest[..end];
        let after = rest[end..].trim_start_matches([' ', '\t']);
        match after.strip_prefix('=') {
            Some(value) => {
                let (value, after) = parameter(value.trim_start_matches([' ', '\t']));
                if let Some((_, parameters)) = found.last_mut() {
                    parameters.push((word.to_ascii_lowercase(), value));
                }
                rest = after;
            }
            None => {
                found.push((word.to_owned(), Vec::new()));
                rest = after;
            }
        }
    }
}

/// A token or a quoted string, and what comes after it.
fn parameter(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ', '\t']).unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return (value, &quoted[at + 1..]),
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            other => value.push(other),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn challenge(texts: &[&'static str]) -> Option<Challenge> {
        let mut headers = HeaderMap::new();
        for text in texts {
            headers.append(WWW_AUTHENTICATE, text.parse().unwrap());
        }
        Challenge::of(&headers)
    }

    fn want(realm: &str, service: Option<&str>, scope: Option<&str>) -> Option<Challenge> {
        Some(Challenge::Bearer(Bearer {
            realm: realm.into(),
            service: service.map(Into::into),
            scope: scope.map(Into::into),
            error: None,
        }))
    }

    #[test]
    fn reads_what_registries_send() {
        let hub = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push""#;
        assert_eq!(
            challenge(&[hub]),
            want(
                "https://auth.docker.io/token",
                Some("registry.docker.io"),
                Some("repository:a/b:pull,push")
            )
        );
        let ecr = r#"Basic realm="https://1.dkr.ecr.eu-west-1.amazonaws.com/",service="ecr.amazonaws.com""#;
        assert_eq!(challenge(&[ecr]), Some(Challenge::Basic));
        assert_eq!(challenge(&["Basic"]), Some(Challenge::Basic));
        assert_eq!(
            challenge(&["bearer realm=https://t/x , service = s"]),
            want("https://t/x", Some("s"), None)
        );
    }

    #[test]
    fn a_token_is_preferred_whichever_comes_first() {
        let both = r#"Basic realm="a", Bearer realm="https://t/""#;
        assert_eq!(challenge(&[both]), want("https://t/", None, None));
        assert_eq!(
            challenge(&["Basic realm=\"a\"", "Bearer realm=\"https://t/\""]),
            want("https://t/", None, None)
        );
    }

    #[test]
    fn quoted_strings_keep_commas_and_escapes() {
        assert_eq!(
            challenge(&[r#"Bearer realm="https://t/\"q\"",scope="a b,c""#]),
            want("https://t/\"q\"", None, Some("a b,c"))
        );
    }

    #[test]
    fn nonsense_is_no_challenge() {
        for text in ["", ",", "=", "===", "Bearer", "Bearer realm=", "Digest realm=\"x\"", "\"", "Bearer \"x"]
        {
            assert_eq!(challenge(&[text]), None, "{text:?}");
        }
    }
}
