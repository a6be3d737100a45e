//! From what the API says to what people can act on.

use std::collections::BTreeMap;

use super::answers::{Failure, Task};
use super::api::ApiError;
use crate::deploy::taskdef::short_name;
use crate::error::Error;

impl From<ApiError> for Error {
    fn from(error: ApiError) -> Self {
        let what = match error.code.as_str() {
            "NoCredentials" => return Error::config(error.message).help(CREDENTIALS),
            "" => error.to_string(),
            _ if error.is_denied() => format!("AWS does not allow {}", error.action),
            _ => error.to_string(),
        };
        let help = match error.code.as_str() {
            _ if error.is_denied() => {
                format!("allow the action {} in the policy of this user or role", error.action)
            }
            "UnrecognizedClientException" | "InvalidClientTokenId" | "ExpiredTokenException" => {
                CREDENTIALS.into()
            }
            "InvalidSignatureException" | "SignatureDoesNotMatch" | "RequestExpired" => {
                "check the secret key, and the clock of this machine".into()
            }
            "" => "check the network, the region and AWS_ENDPOINT_URL".into(),
            _ => return Error::failed(what).because(error),
        };
        Error::failed(what).help(help).because(error)
    }
}

const CREDENTIALS: &str =
    "set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; with SSO: aws sso login";

/// A chain of causes out of lines, the first one outermost; `None` when there are none.
pub(super) fn chain(lines: impl IntoIterator<Item = String, IntoIter: DoubleEndedIterator>) -> Option<Error> {
    lines.into_iter().rev().fold(None, |below, line| {
        let error = Error::failed(line);
        Some(match below {
            Some(below) => error.because(below),
            None => error,
        })
    })
}

/// `error` with those lines as its causes.
pub(super) fn with_causes(error: Error, lines: Vec<String>) -> Error {
    match chain(lines) {
        Some(cause) => error.because(cause),
        None => error,
    }
}

/// `failures[]` of an answer with status 200, in words.
pub(super) fn reasons(failures: &[Failure]) -> Vec<String> {
    let words = failures.iter().map(|failure| {
        let on = match short_name(&failure.arn) {
            "" => String::new(),
            name => format!(" ({name})"),
        };
        match failure.detail.as_str() {
            "" => format!("{}{on}", failure.reason),
            detail => format!("{}{on}: {detail}", failure.reason),
        }
    });
    words.collect()
}

/// Why a task stopped: its own reason, and that of each container which has one or did not end with 0.
pub(super) fn why_stopped(task: &Task) -> String {
    let mut words = Vec::new();
    for container in &task.containers {
        let code = match container.exit_code {
            Some(0) | None => String::new(),
            Some(code) => format!("ended with exit code {code}"),
        };
        match (code.as_str(), container.reason.as_str()) {
            ("", "") => {}
            (code, "") => words.push(format!("container {} {code}", container.name)),
            ("", reason) => words.push(format!("container {}: {reason}", container.name)),
            (code, reason) => words.push(format!("container {} {code}: {reason}", container.name)),
        }
    }
    let stopped = Some(task.stopped_reason.clone()).filter(|reason| !reason.is_empty());
    words.extend(stopped);
    match words.is_empty() {
        true => "a task stopped, and ECS does not say why".into(),
        false => words.join("; "),
    }
}

/// The same for many tasks, each reason once, the commonest first.
pub(super) fn why_all_stopped(tasks: &[Task]) -> Vec<String> {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for task in tasks {
        *counts.entry(why_stopped(task)).or_default() += 1;
    }
    let mut counted: Vec<(String, usize)> = counts.into_iter().collect();
    counted.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let lines = counted.into_iter().map(|(why, count)| match count {
        1 => format!("a task stopped: {why}"),
        _ => format!("{count} tasks stopped: {why}"),
    });
    lines.take(5).collect()
}
