//! What a task's container printed, from CloudWatch Logs.

use serde::Deserialize;
use serde_json::{Value, json};

use super::EcsDeployer;
use super::answers::{Container, part};
use super::api::{self, Client};
use crate::deploy::taskdef::{AwsLogs, short_name};
use crate::error::Result;
use crate::progress::Reporter;

/// A container's log stream, read from its beginning on.
pub(super) struct Tail {
    client: Client,
    logs: AwsLogs,
    task: String,
    token: Option<String>,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// It cannot be read, and that was said.
    GivenUp,
}

/// How much a container that failed is quoted.
const LAST_LINES: usize = 30;

#[derive(Default, Deserialize)]
#[serde(default)]
struct Line {
    message: String,
}

impl EcsDeployer {
    /// The log stream of a task's container that logs with awslogs.
    pub(super) fn tail(&self, logs: AwsLogs, task_arn: &str) -> Result<Tail> {
        let region = logs.region.clone();
        let retry = self.config.pace.retry;
        let client = Client::new(api::LOGS, &self.sdk, region.as_deref(), self.http.clone(), retry)?;
        Ok(Tail { client, logs, task: short_name(task_arn).into(), token: None, state: State::Open })
    }
}

impl Tail {
    /// Passes on what is new, as lines of `subject`. Returns how many there were. What cannot be read is said once: it is
    /// no reason to fail.
    pub(super) async fn pass_on(
        &mut self,
        container: &Container,
        subject: &str,
        progress: &Reporter,
    ) -> usize {
        let Some(stream) = self.stream(container) else { return 0 };
        let mut count = 0;
        while self.state == State::Open {
            let mut input = json!({
                "logGroupName": self.logs.group,
                "logStreamName": stream,
                "startFromHead": true,
            });
            if let Some(token) = &self.token {
                input["nextToken"] = json!(token);
            }
            let answer = match self.client.call("GetLogEvents", &input).await {
                Ok(answer) => answer,
                // The stream is made with the first line.
                Err(error) if error.is("ResourceNotFoundException") => break,
                Err(error) => {
                    self.state = State::GivenUp;
                    progress.warning(format!("cannot read what {subject} prints: {error}"));
                    break;
                }
            };
            let next = answer.get("nextForwardToken").and_then(Value::as_str).map(str::to_owned);
            let lines: Vec<Line> = part(answer, "events").unwrap_or_default();
            for line in &lines {
                progress.log(subject, line.message.trim_end_matches(['\n', '\r']));
            }
            count += lines.len();
            // The end is where the token does not move (CloudWatch Logs API reference, GetLogEvents).
            let is_end = next.is_none() || next == self.token;
            self.token = next.or_else(|| self.token.take());
            if is_end || lines.is_empty() {
                break;
            }
        }
        count
    }

    /// Passes on the last lines only. What cannot be read is left out: the error they belong to is told anyway.
    pub(super) async fn pass_on_last(&self, container: &Container, progress: &Reporter) {
        let Some(stream) = self.stream(container) else { return };
        let input = json!({
            "logGroupName": self.logs.group,
            "logStreamName": stream,
            "startFromHead": false,
            "limit": LAST_LINES,
        });
        let Ok(answer) = self.client.call("GetLogEvents", &input).await else { return };
        let lines: Vec<Line> = part(answer, "events").unwrap_or_default();
        for line in lines {
            progress.log(&container.name, line.message.trim_end_matches(['\n', '\r']));
        }
    }

    /// `prefix/container/task`; without a prefix (on EC2) Docker's id of the container (ECS developer guide, "awslogs").
    fn stream(&self, container: &Container) -> Option<String> {
        match &self.logs.stream_prefix {
            Some(prefix) => Some(format!("{prefix}/{}/{}", container.name, self.task)),
            None => container.runtime_id.clone(),
        }
    }
}
