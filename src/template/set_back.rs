//! Settings of a project's own that are set back on this machine: they are for HTTPS, or for services that are not here.

use serde::Serialize;

use super::variables::Variables;

/// What sets it back, what is set, and to what, in Python's words.
const SETTINGS: [(&str, &str, &str); 12] = [
    // Every answer would be a redirect to where nobody listens.
    ("SECURE_SSL_REDIRECT", "SECURE_SSL_REDIRECT", "False"),
    ("PREPEND_WWW", "PREPEND_WWW", "False"),
    // Nobody could log in: browsers take such cookies over HTTPS alone, or for another name.
    ("SESSION_COOKIE_SECURE", "SESSION_COOKIE_SECURE", "False"),
    ("SESSION_COOKIE_NAME", "SESSION_COOKIE_NAME", "\"sessionid\""),
    ("SESSION_COOKIE_DOMAIN", "SESSION_COOKIE_DOMAIN", "None"),
    ("CSRF_COOKIE_SECURE", "CSRF_COOKIE_SECURE", "False"),
    ("CSRF_COOKIE_NAME", "CSRF_COOKIE_NAME", "\"csrftoken\""),
    ("CSRF_COOKIE_DOMAIN", "CSRF_COOKIE_DOMAIN", "None"),
    // Pages that send mail would fail.
    ("EMAIL_BACKEND", "EMAIL_BACKEND", "\"django.core.mail.backends.console.EmailBackend\""),
    // They ask a bucket for static files.
    ("COLLECTFAST_STRATEGY", "COLLECTFAST_ENABLED", "False"),
    ("COLLECTFASTA_STRATEGY", "COLLECTFASTA_ENABLED", "False"),
    ("COMPRESS_STORAGE", "COMPRESS_ENABLED", "False"),
];

/// A setting with its value in Python's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) struct Setting {
    pub(super) name: &'static str,
    pub(super) value: &'static str,
}

/// Those that a project with these variables needs.
pub(super) fn set_back(variables: &Variables) -> Vec<Setting> {
    let needed = SETTINGS.into_iter().filter(|(when, _, _)| match *when {
        // Scripts of the project may know a name; only one that demands HTTPS (`__Secure-`, `__Host-`) cannot stay.
        "SESSION_COOKIE_NAME" | "CSRF_COOKIE_NAME" => {
            variables.value(when).is_some_and(|value| value.starts_with("__"))
        }
        when => variables.sets(when),
    });
    needed.map(|(_, name, value)| Setting { name, value }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::template::project;

    fn names(settings: &str) -> Vec<&'static str> {
        let folder = project(&[("settings.py", settings)]);
        let settings = set_back(&Variables::read(folder.path(), "settings"));
        settings.into_iter().map(|setting| setting.name).collect()
    }

    #[test]
    fn only_what_a_project_sets_is_set_back() {
        assert_eq!(names("DEBUG = False\nSECURE_HSTS_SECONDS = 60\n"), [] as [&str; 0]);
        assert_eq!(names("if x:\n    SECURE_SSL_REDIRECT = True\n"), ["SECURE_SSL_REDIRECT"]);
        assert_eq!(names("COLLECTFAST_STRATEGY = 'boto3'\n"), ["COLLECTFAST_ENABLED"]);
    }

    #[test]
    fn a_cookies_name_stays_unless_it_demands_https() {
        assert_eq!(names("CSRF_COOKIE_NAME = 'shop'\n"), [] as [&str; 0]);
        assert_eq!(names("CSRF_COOKIE_NAME = '__Secure-shop'\n"), ["CSRF_COOKIE_NAME"]);
    }
}
