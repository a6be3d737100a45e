//! Tasks: those of RunTask, with a script each, and those of the service that stopped.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{ACCOUNT, Answer, REGION, World, refusal};

/// How a once-task goes.
#[derive(Debug, Clone)]
pub enum Script {
    /// It prints these lines and ends with the code.
    Exits(i64, &'static [&'static str]),
    /// It never gets a container: no exit code, for these reasons of the task and of the container.
    NeverStarts(&'static str, &'static str),
    /// RunTask answers 200 with this failure.
    NotPlaced(&'static str),
    /// It goes on for ever.
    Hangs,
}

#[derive(Debug, Clone)]
pub struct Ran {
    pub id: String,
    pub input: Value,
    pub looks: u32,
    pub script: Script,
    pub stopped_by_us: bool,
}

/// A task of the service that ended.
#[derive(Debug, Clone)]
pub struct Stopped {
    pub service: &'static str,
    pub revision: String,
    pub exit_code: i64,
}

pub struct TaskState {
    /// How the next once-tasks go.
    pub script: Script,
    pub ran: Vec<Ran>,
    pub stopped: Vec<Stopped>,
    /// Once-tasks stay RUNNING after their named container has ended, because that one is not essential.
    pub others_go_on: bool,
    tokens: BTreeMap<String, (Value, String)>,
}

impl Default for TaskState {
    fn default() -> Self {
        TaskState {
            script: Script::Exits(0, &[]),
            ran: Vec::new(),
            stopped: Vec::new(),
            others_go_on: false,
            tokens: BTreeMap::new(),
        }
    }
}

impl Ran {
    fn arn(&self) -> String {
        format!("arn:aws:ecs:{REGION}:{ACCOUNT}:task/shop/{}", self.id)
    }

    fn status(&self) -> &'static str {
        match (self.looks, &self.script) {
            (0 | 1, _) => "PROVISIONING",
            (2, Script::NeverStarts(..)) => "STOPPED",
            (2, _) => "PENDING",
            (3 | 4, _) | (_, Script::Hangs) => "RUNNING",
            _ => "STOPPED",
        }
    }

    fn describe(&self, containers: &[String], others_go_on: bool) -> Value {
        let named = self.input["overrides"]["containerOverrides"][0]["name"].as_str().unwrap_or_default();
        let stopped = self.status() == "STOPPED";
        let containers = containers.iter().map(|name| {
            let mut container = json!({"name": name, "lastStatus": self.status()});
            if others_go_on && name != named {
                return container;
            }
            match &self.script {
                Script::Exits(code, _) if stopped => {
                    container["exitCode"] = json!(if name == named { *code } else { 137 });
                }
                Script::NeverStarts(_, reason) if stopped => container["reason"] = json!(reason),
                _ => {}
            }
            container
        });
        json!({
            "taskArn": self.arn(),
            "taskDefinitionArn": self.input["taskDefinition"],
            "group": self.input["group"],
            "startedBy": self.input["startedBy"],
            "lastStatus": if stopped && others_go_on { "RUNNING" } else { self.status() },
            "stoppedReason": match &self.script {
                Script::NeverStarts(reason, _) if stopped => reason,
                _ if stopped => "Essential container in task exited",
                _ => "",
            },
            "containers": containers.collect::<Vec<_>>(),
        })
    }
}

impl World {
    fn containers(&self, revision: &str) -> Vec<String> {
        let definitions =
            self.definitions.get(revision).map(|at| &at["taskDefinition"]["containerDefinitions"]);
        let definitions = definitions.and_then(Value::as_array).into_iter().flatten();
        definitions.filter_map(|at| at["name"].as_str()).map(str::to_owned).collect()
    }

    pub(super) fn run_task(&mut self, input: &Value) -> Answer {
        let bad = |message: &str| Err(refusal("InvalidParameterException", message));
        let text = |field: &str| input[field].as_str().unwrap_or_default();
        let has_strategy = input["capacityProviderStrategy"].as_array().is_some_and(|list| !list.is_empty());
        if input["launchType"].is_string() && has_strategy {
            return bad("Specifying both a launch type and capacity provider strategy is not supported.");
        }
        if input["networkConfiguration"]["awsvpcConfiguration"]["subnets"].as_array().is_none() {
            return bad("Network Configuration must be provided when networkMode 'awsvpc' is specified.");
        }
        let token = text("clientToken");
        if token.is_empty() || token.len() > 64 || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return bad("Invalid client token.");
        }
        let containers = self.containers(text("taskDefinition"));
        let named = input["overrides"]["containerOverrides"][0]["name"].as_str().unwrap_or_default();
        if !containers.iter().any(|name| name == named) {
            return bad("Override for container is not a container in the TaskDefinition.");
        }
        if let Some((before, id)) = self.tasks.tokens.get(token) {
            if before != input {
                return Err(refusal("ConflictException", "The token was used with other parameters."));
            }
            let ran = self.tasks.ran.iter().find(|ran| ran.id == *id).expect("tokens name tasks");
            return Ok(
                json!({"tasks": [ran.describe(&containers, self.tasks.others_go_on)], "failures": []}),
            );
        }
        let script = self.tasks.script.clone();
        if let Script::NotPlaced(reason) = script {
            let arn = format!("arn:aws:ecs:{REGION}:{ACCOUNT}:container-instance/shop/0a1b");
            return Ok(json!({"tasks": [], "failures": [{"arn": arn, "reason": reason}]}));
        }
        let id = format!("{:032x}", self.tasks.ran.len() + 1);
        self.tasks.tokens.insert(token.to_owned(), (input.clone(), id.clone()));
        let ran = Ran { id, input: input.clone(), looks: 0, script, stopped_by_us: false };
        let answer = json!({"tasks": [ran.describe(&containers, self.tasks.others_go_on)], "failures": []});
        self.tasks.ran.push(ran);
        Ok(answer)
    }

    pub(super) fn stop_task(&mut self, input: &Value) -> Answer {
        let wanted = input["task"].as_str().unwrap_or_default();
        let ran = self.tasks.ran.iter_mut().find(|ran| ran.arn() == wanted);
        let ran =
            ran.ok_or_else(|| refusal("InvalidParameterException", "The referenced task was not found."))?;
        ran.stopped_by_us = true;
        Ok(json!({"task": {"taskArn": ran.arn()}}))
    }

    pub(super) fn list_tasks(&self, input: &Value) -> Answer {
        let arns: Vec<String> = match (input["startedBy"].as_str(), input["desiredStatus"].as_str()) {
            (Some(_), Some(_)) => {
                return Err(refusal("InvalidParameterException", "startedBy must be the only filter."));
            }
            (Some(by), None) => {
                let ran = self.tasks.ran.iter().filter(|ran| ran.input["startedBy"] == by);
                ran.filter(|ran| ran.status() != "STOPPED").map(Ran::arn).collect()
            }
            (None, Some("STOPPED")) => {
                let stopped = self.tasks.stopped.iter().enumerate();
                let of_service = stopped.filter(|(_, stopped)| input["serviceName"] == stopped.service);
                of_service.map(|(at, _)| stopped_arn(at)).collect()
            }
            _ => Vec::new(),
        };
        Ok(json!({"taskArns": arns}))
    }

    pub(super) fn describe_tasks(&mut self, input: &Value) -> Answer {
        let wanted: Vec<String> = input["tasks"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|arn| arn.as_str().map(str::to_owned))
            .collect();
        let mut found = Vec::new();
        let mut failures = Vec::new();
        for arn in wanted {
            let stopped = self.tasks.stopped.iter().enumerate().find(|(at, _)| stopped_arn(*at) == arn);
            if let Some((at, stopped)) = stopped {
                // The first container is what ended it.
                let names = self.containers(&stopped.revision).into_iter().enumerate();
                let containers = names.map(|(number, name)| {
                    json!({"name": name, "exitCode": if number == 0 { stopped.exit_code } else { 0 }})
                });
                found.push(json!({
                    "taskArn": stopped_arn(at),
                    "taskDefinitionArn": stopped.revision,
                    "group": format!("service:{}", stopped.service),
                    "lastStatus": "STOPPED",
                    "stoppedReason": "Essential container in task exited",
                    "containers": containers.collect::<Vec<_>>(),
                }));
                continue;
            }
            let ran = self.tasks.ran.iter_mut().find(|ran| ran.arn() == arn);
            let looks = ran.map(|ran| {
                ran.looks += 1;
                ran.looks
            });
            match looks {
                // What RunTask made is not known everywhere at once.
                None | Some(1) => failures.push(json!({"arn": arn, "reason": "MISSING"})),
                Some(_) => {
                    let ran = self.tasks.ran.iter().find(|ran| ran.arn() == arn).expect("it was there");
                    let revision = ran.input["taskDefinition"].as_str().unwrap_or_default();
                    found.push(ran.describe(&self.containers(revision), self.tasks.others_go_on));
                }
            }
        }
        Ok(json!({"tasks": found, "failures": failures}))
    }

    /// The stream `shop/CONTAINER/TASK`: there once the task runs, its last line only after the task has stopped.
    pub(super) fn get_log_events(&self, input: &Value) -> Answer {
        let stream = input["logStreamName"].as_str().unwrap_or_default();
        let missing = || refusal("ResourceNotFoundException", "The specified log stream does not exist.");
        if input["logGroupName"] != "/ecs/shop" {
            return Err(missing());
        }
        let mut lines: Vec<&str> = Vec::new();
        if let Some(ran) = self.tasks.ran.iter().find(|ran| {
            let named = ran.input["overrides"]["containerOverrides"][0]["name"].as_str().unwrap_or_default();
            stream == format!("shop/{named}/{}", ran.id)
        }) {
            match (&ran.script, ran.status()) {
                (Script::Exits(_, all), "STOPPED") => lines.extend(*all),
                (Script::Exits(_, all), "RUNNING") => {
                    lines.extend(all.iter().take(all.len().saturating_sub(1)))
                }
                _ => return Err(missing()),
            }
        } else if stream.starts_with("shop/") && stream.contains("/stopped-") {
            lines.extend([
                "Traceback (most recent call last):",
                "ModuleNotFoundError: No module named 'shop'",
            ]);
        } else {
            return Err(missing());
        }
        let from: usize = match input["nextToken"].as_str() {
            Some(token) => token.trim_start_matches("f/").parse().unwrap_or(0),
            None => 0,
        };
        // Without startFromHead the last ones.
        let limit = input["limit"].as_u64().and_then(|limit| usize::try_from(limit).ok()).unwrap_or(10_000);
        let from = match input["startFromHead"] == true {
            true => from,
            false => lines.len().saturating_sub(limit),
        };
        let events = lines.iter().skip(from).map(|line| json!({"timestamp": 1, "message": line}));
        Ok(json!({
            "events": events.collect::<Vec<_>>(),
            "nextForwardToken": format!("f/{}", lines.len()),
            "nextBackwardToken": "b/0",
        }))
    }
}

fn stopped_arn(at: usize) -> String {
    format!("arn:aws:ecs:{REGION}:{ACCOUNT}:task/shop/stopped-{at}")
}
