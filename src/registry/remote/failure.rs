//! What a registry's refusal means, in words with a next step.

use http::StatusCode;
use serde::Deserialize;

use super::session::{Answer, Session};
use crate::error::{Error, Result};
use crate::image::reference::{DOCKER_HUB, Repository};

/// A registry's own words are cut here.
const WORDS: usize = 300;

/// The codes and messages of an error answer (distribution spec, "Error Codes").
pub(super) struct Said {
    status: StatusCode,
    codes: Vec<String>,
    words: String,
}

impl Said {
    pub fn of(answer: &Answer) -> Self {
        #[derive(Deserialize)]
        struct Body {
            errors: Vec<Item>,
        }
        #[derive(Deserialize)]
        struct Item {
            #[serde(default)]
            code: String,
            #[serde(default)]
            message: String,
        }
        let items = serde_json::from_slice::<Body>(&answer.body).map(|body| body.errors).unwrap_or_default();
        let mut words = items
            .iter()
            .map(|item| {
                [&*item.code, &*item.message].into_iter().filter(|w| !w.is_empty()).collect::<Vec<_>>()
            })
            .map(|words| words.join(": "))
            .collect::<Vec<_>>()
            .join("; ");
        if words.is_empty() {
            // ECR and proxies in between answer in plain text.
            words = String::from_utf8_lossy(&answer.body).split_whitespace().collect::<Vec<_>>().join(" ");
        }
        if let Some((end, _)) = words.char_indices().nth(WORDS) {
            words.truncate(end);
            words.push('…');
        }
        Said { status: answer.status, codes: items.into_iter().map(|item| item.code).collect(), words }
    }

    /// Whether a tag could not be written because tags cannot be moved: ECR says `TAG_INVALID`, others 409 or words.
    pub fn is_immutable_tag(&self) -> bool {
        let words = self.words.to_ascii_lowercase();
        let coded =
            self.codes.iter().any(|code| code == "TAG_INVALID" || code == "ImageTagAlreadyExistsException");
        self.status == StatusCode::CONFLICT
            || (self.status.is_client_error() && (coded || words.contains("immutable")))
    }

    fn cause(&self) -> Error {
        let status = self.status;
        match self.words.is_empty() {
            true => Error::failed(format!("HTTP {status}")),
            false => Error::failed(format!("HTTP {status}: {}", self.words)),
        }
    }
}

impl Session {
    /// The error for an answer that says no. `doing` completes "cannot …": `read the manifest 1.0`.
    pub async fn refusal(&self, answer: &Answer, repository: &Repository, doing: &str) -> Error {
        match self.explain(answer, repository, doing).await {
            Ok(error) | Err(error) => error,
        }
    }

    async fn explain(&self, answer: &Answer, repository: &Repository, doing: &str) -> Result<Error> {
        let said = Said::of(answer);
        let host = &repository.host;
        let cannot = |why: &str| Error::failed(format!("cannot {doing} in {repository}: {why}"));
        let error = match answer.status.as_u16() {
            401 | 403 => match self.auth.logins().find(host).await? {
                None => cannot(&format!("{host} wants a login and none was found")).help(format!(
                    "set DOCKER_USER and DOCKER_PASS, or run `docker login {host}`; looked at: {}",
                    self.auth.logins().describe()
                )),
                Some(found) if answer.status == StatusCode::UNAUTHORIZED && !insufficient_scope(answer) => {
                    cannot(&format!("{host} does not accept the login from {}", found.source))
                        .help("check the user and the password (or access token) there")
                }
                Some(found) => cannot(&format!("the login from {} may not do that", found.source))
                    .help(may_push_help(host)),
            },
            404 => cannot("there is no such repository, or nothing of that name in it")
                .help("check the name; some registries want a repository to be made first"),
            413 => cannot("it is larger than the registry, or a proxy before it, takes")
                .help("raise the limit of the proxy's request body"),
            429 => cannot(&format!("{host} limits how often it may be asked")).help(retry_help(answer)),
            500.. => cannot("the registry is in trouble").help("try again later; its log says more"),
            _ => cannot("the registry refuses it"),
        };
        Ok(error.because(said.cause()))
    }
}

fn insufficient_scope(answer: &Answer) -> bool {
    answer.header("www-authenticate").is_some_and(|header| header.contains("insufficient_scope"))
}

fn may_push_help(host: &str) -> String {
    match host {
        DOCKER_HUB => {
            "does the repository's name begin with your user or organization, and does the access token \
                       allow Read & Write?"
                .into()
        }
        host if host.contains(".dkr.ecr.") => {
            "allow this AWS identity the ecr: actions that push (ecr:PutImage, ecr:InitiateLayerUpload, \
             ecr:UploadLayerPart, ecr:CompleteLayerUpload, ecr:BatchCheckLayerAvailability)"
                .into()
        }
        host => format!("give it the right to push on {host}, or log in as someone who has it"),
    }
}

fn retry_help(answer: &Answer) -> String {
    match answer.header("retry-after") {
        Some(after) if after.parse::<u64>().is_ok() => format!("it asks to wait for {after} seconds"),
        _ => "wait a few minutes; a login raises the limit".into(),
    }
}
