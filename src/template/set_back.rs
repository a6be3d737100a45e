//! Settings of a project's own that are set back on this machine: they are for HTTPS, or for services that are not here.

use serde::Serialize;

use super::variables::Variables;

/// What sets it back, what is set, and to what, in Python's words.
const SETTINGS: [(&str, &str, &str); 13] = [
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
    // Its index is a folder, as a rule beside the code, where the site may write nothing.
    (WHOOSH, "HAYSTACK_CONNECTIONS", INDEX),
];
/// Where django-haystack is told to use Whoosh.
const WHOOSH: &str = "HAYSTACK_CONNECTIONS.ENGINE";
/// With the index in the volume.
const INDEX: &str = "{\n    \"default\": {\n        \"ENGINE\": \"haystack.backends.whoosh_backend.WhooshEngine\",\n        \
                     \"PATH\": \"/home/docker/files/whoosh_index\",\n    }\n}";

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
        WHOOSH => variables.value(when).is_some_and(|engine| engine.contains("WhooshEngine")),
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
    fn a_search_index_beside_the_code_goes_to_the_volume() {
        let connections = |engine: &str| {
            format!(
                "HAYSTACK_CONNECTIONS = {{'default': {{'ENGINE': '{engine}', 'PATH': here('index')}}}}\nDATABASES = {{'default': {{'ENGINE': 'x'}}}}\n"
            )
        };
        let engine = "haystack.backends.whoosh_backend.WhooshEngine";
        assert_eq!(names(&connections(engine)), ["HAYSTACK_CONNECTIONS"]);
        assert_eq!(names(&connections("haystack.backends.solr_backend.SolrEngine")), [] as [&str; 0]);
    }

    #[test]
    fn a_cookies_name_stays_unless_it_demands_https() {
        assert_eq!(names("CSRF_COOKIE_NAME = 'shop'\n"), [] as [&str; 0]);
        assert_eq!(names("CSRF_COOKIE_NAME = '__Secure-shop'\n"), ["CSRF_COOKIE_NAME"]);
    }
}
