//! ECS and CloudWatch Logs on loopback: the wire protocol (AWS JSON 1.1, SigV4), and behaviour over time.
//!
//! Time is counted in looks: each DescribeServices and each DescribeTasks moves things on, so no test depends on a clock.
//! Times in answers are wrong on purpose: nothing may compare them with this machine's clock.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use aws_config::SdkConfig;
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_types::region::Region;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

mod service;
mod signature;
mod tasks;

pub use service::{Breaker, Fate, Listing};
pub use tasks::Script;

pub const ACCOUNT: &str = "123456789012";
pub const REGION: &str = "eu-west-1";
const SECRET: &str = "a-simulated-secret-key";

/// The services `web` (with nginx beside it), `worker` and `beat`, each with its own containers of a task definition and a
/// revision of its own.
pub fn apart(definition: &Value) -> Vec<(&'static str, Value)> {
    let services: [(_, &[&str]); 3] =
        [("web", &["web", "nginx"]), ("worker", &["worker"]), ("beat", &["beat"])];
    let own = services.into_iter().zip([41, 11, 7]).map(|((name, containers), revision)| {
        let mut own = definition.clone();
        let family = format!("shop-{name}");
        let task = &mut own["taskDefinition"];
        task["taskDefinitionArn"] =
            json!(format!("arn:aws:ecs:{REGION}:{ACCOUNT}:task-definition/{family}:{revision}"));
        task["family"] = json!(family);
        task["revision"] = json!(revision);
        let list = task["containerDefinitions"].as_array_mut().expect("containers");
        list.retain(|at| containers.iter().any(|name| at["name"] == *name));
        assert_eq!(list.len(), containers.len());
        (name, own)
    });
    own.collect()
}

/// What the simulator answers instead of doing what was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// 400 ThrottlingException, as ECS does it.
    Throttle,
    /// 503 without a body.
    Unavailable,
    /// The connection ends in the middle of the answer, after the work was done.
    CutOff,
    /// 400 AccessDeniedException.
    Deny,
}

/// An error as the API words it.
pub struct Refusal {
    status: StatusCode,
    code: &'static str,
    message: String,
}

pub fn refusal(code: &'static str, message: impl Into<String>) -> Refusal {
    Refusal { status: StatusCode::BAD_REQUEST, code, message: message.into() }
}

pub type Answer = Result<Value, Refusal>;

/// All that the simulated account holds.
pub struct World {
    /// DescribeTaskDefinition's answers, by ARN.
    pub definitions: BTreeMap<String, Value>,
    /// The service `web`.
    pub service: service::ServiceState,
    /// Those beside it.
    pub others: Vec<service::ServiceState>,
    pub tasks: tasks::TaskState,
    /// Every request that was signed well, in order.
    pub requests: Vec<(String, Value)>,
    /// The action, what it meets (nothing, or a fault), and how often. The first entry that is not used up counts.
    faults: Vec<(String, Option<Fault>, usize)>,
}

/// A running simulator; ends when it is dropped.
pub struct EcsSimulator {
    endpoint: String,
    world: Arc<Mutex<World>>,
    server: tokio::task::JoinHandle<()>,
}

impl EcsSimulator {
    /// Cluster `shop` with service `web` at `fixtures/taskdef/shop.json`.
    pub async fn start() -> Self {
        let definition: Value =
            serde_json::from_str(include_str!("../../../fixtures/taskdef/shop.json")).expect("it is JSON");
        Self::start_with(definition).await
    }

    /// The same with another task definition, as DescribeTaskDefinition would answer it.
    pub async fn start_with(definition: Value) -> Self {
        Self::start_several(vec![("web", definition)]).await
    }

    /// Cluster `shop` with these services, the first of them `web`.
    pub async fn start_several(services: Vec<(&'static str, Value)>) -> Self {
        let arn = |definition: &Value| {
            definition["taskDefinition"]["taskDefinitionArn"].as_str().expect("an ARN").to_owned()
        };
        let states = services.iter().zip(0..);
        let mut states: Vec<service::ServiceState> = states
            .map(|((name, definition), at)| service::ServiceState::new(name, &arn(definition), at))
            .collect();
        let world = Arc::new(Mutex::new(World {
            service: states.remove(0),
            others: states,
            definitions: services.into_iter().map(|(_, at)| (arn(&at), at)).collect(),
            tasks: tasks::TaskState::default(),
            requests: Vec::new(),
            faults: Vec::new(),
        }));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
        let router = axum::Router::new().fallback(handle).with_state(Arc::clone(&world));
        let server = tokio::spawn(async move {
            axum::serve(listener, router).await.expect("it serves");
        });
        EcsSimulator { endpoint, world, server }
    }

    /// One more service of the cluster, with a task definition of its own, one task of which is enough.
    pub fn add_service(&self, name: &'static str, definition: Value) {
        let arn = definition["taskDefinition"]["taskDefinitionArn"].as_str().expect("an ARN").to_owned();
        let mut world = self.world();
        let at = world.others.len() as u64 + 1;
        let mut service = service::ServiceState::new(name, &arn, at);
        service.desired = 1;
        world.definitions.insert(arn, definition);
        world.others.push(service);
    }

    pub fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().expect("no test panicked while holding it")
    }

    /// What `aws_config` would give for this account.
    pub fn sdk_config(&self) -> SdkConfig {
        self.sdk_config_with_secret(SECRET)
    }

    pub fn sdk_config_with_secret(&self, secret: &str) -> SdkConfig {
        let credentials = Credentials::new("AKIDSIMULATED", secret, Some("a-token".into()), None, "test");
        SdkConfig::builder()
            .region(Region::new(REGION))
            .credentials_provider(SharedCredentialsProvider::new(credentials))
            .endpoint_url(&self.endpoint)
            .build()
    }

    /// The variables that lead a program to this account.
    pub fn variables(&self) -> [(&'static str, String); 6] {
        [
            ("AWS_REGION", REGION.into()),
            ("AWS_ACCESS_KEY_ID", "AKIDSIMULATED".into()),
            ("AWS_SECRET_ACCESS_KEY", SECRET.into()),
            ("AWS_SESSION_TOKEN", "a-token".into()),
            ("AWS_ENDPOINT_URL_ECS", self.endpoint.clone()),
            ("AWS_ENDPOINT_URL_CLOUDWATCH_LOGS", self.endpoint.clone()),
        ]
    }

    /// The next `times` requests for `action` meet this fault.
    pub fn fault(&self, action: &str, fault: Fault, times: usize) {
        self.world().faults.push((action.to_owned(), Some(fault), times));
    }

    /// All requests for `action` but the next `good` meet this fault.
    pub fn fault_after(&self, action: &str, good: usize, fault: Fault) {
        let faults = &mut self.world().faults;
        faults.push((action.to_owned(), None, good));
        faults.push((action.to_owned(), Some(fault), usize::MAX));
    }

    /// The inputs of all requests for `action`.
    pub fn requests(&self, action: &str) -> Vec<Value> {
        let world = self.world();
        let of_action = world.requests.iter().filter(|(name, _)| name == action);
        of_action.map(|(_, input)| input.clone()).collect()
    }

    /// The revision (`shop:42`) that the service `web` is at.
    pub fn revision(&self) -> String {
        self.revision_of("web")
    }

    /// The revision that a service is at.
    pub fn revision_of(&self, service: &str) -> String {
        let mut world = self.world();
        let arn = &world.service_mut(service).primary().revision;
        arn.rsplit('/').next().unwrap_or_default().to_owned()
    }
}

impl Drop for EcsSimulator {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn handle(State(world): State<Arc<Mutex<World>>>, headers: HeaderMap, body: Bytes) -> Response {
    let mut world = world.lock().expect("no test panicked while holding it");
    let target = headers.get("x-amz-target").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let (service, action) = match target.split_once('.') {
        Some(("AmazonEC2ContainerServiceV20141113", action)) => ("ecs", action),
        Some(("Logs_20140328", action)) => ("logs", action),
        _ => return error(refusal("UnknownOperationException", "")),
    };
    if headers.get("content-type").is_none_or(|value| value != "application/x-amz-json-1.1") {
        return error(refusal("SerializationException", "not AWS JSON 1.1"));
    }
    if let Err(why) = signature::check(&headers, &body, service, REGION, SECRET) {
        return error(refusal("InvalidSignatureException", why));
    }
    let Ok(input) = serde_json::from_slice::<Value>(&body) else {
        return error(refusal("SerializationException", "not JSON"));
    };
    world.requests.push((action.to_owned(), input.clone()));
    let fault = world.faults.iter_mut().find(|(name, _, times)| name == action && *times > 0);
    let fault = fault.and_then(|(_, fault, times)| {
        *times -= 1;
        *fault
    });
    match fault {
        Some(Fault::Throttle) => return error(refusal("ThrottlingException", "Rate exceeded")),
        Some(Fault::Deny) => {
            let who = format!(
                "User: arn:aws:iam::{ACCOUNT}:user/ci is not authorized to perform: {service}:{action}"
            );
            return error(refusal("AccessDeniedException", who));
        }
        Some(Fault::Unavailable) => return StatusCode::SERVICE_UNAVAILABLE.into_response(),
        Some(Fault::CutOff) | None => {}
    }
    let answer = match world.answer(action, &input) {
        Ok(answer) => answer,
        Err(refused) => return error(refused),
    };
    if fault == Some(Fault::CutOff) {
        let cut = futures_util::stream::iter([
            Ok(Bytes::from_static(b"{\"half\":")),
            Err(std::io::Error::other("cut off")),
        ]);
        return Body::from_stream(cut).into_response();
    }
    ([("content-type", "application/x-amz-json-1.1")], answer.to_string()).into_response()
}

fn error(refused: Refusal) -> Response {
    let body = json!({"__type": format!("com.amazonaws.ecs#{}", refused.code), "message": refused.message});
    (refused.status, [("content-type", "application/x-amz-json-1.1")], body.to_string()).into_response()
}

impl World {
    fn answer(&mut self, action: &str, input: &Value) -> Answer {
        match action {
            "DescribeTaskDefinition" => self.describe_task_definition(input),
            "RegisterTaskDefinition" => self.register_task_definition(input),
            "DeregisterTaskDefinition" => self.deregister_task_definition(input),
            "ListClusters" => Ok(json!({"clusterArns": [
                format!("arn:aws:ecs:{REGION}:{ACCOUNT}:cluster/default"),
                format!("arn:aws:ecs:{REGION}:{ACCOUNT}:cluster/shop"),
            ]})),
            "ListServices" => self.list_services(input),
            "DescribeServices" => self.describe_services(input),
            "UpdateService" => self.update_service(input),
            "ListServiceDeployments" => self.list_service_deployments(input),
            "DescribeServiceDeployments" => self.describe_service_deployments(input),
            "DescribeServiceRevisions" => self.describe_service_revisions(input),
            "RunTask" => self.run_task(input),
            "StopTask" => self.stop_task(input),
            "ListTasks" => self.list_tasks(input),
            "DescribeTasks" => self.describe_tasks(input),
            "GetLogEvents" => self.get_log_events(input),
            _ => Err(refusal("UnknownOperationException", "")),
        }
    }

    /// By ARN or by `family:revision`.
    fn definition(&mut self, input: &Value) -> Result<&mut Value, Refusal> {
        let name = input["taskDefinition"].as_str().unwrap_or_default();
        let found =
            self.definitions.iter_mut().find(|(arn, _)| *arn == name || arn.ends_with(&format!("/{name}")));
        match found {
            Some((_, definition)) => Ok(definition),
            None => Err(refusal("ClientException", "Unable to describe task definition.")),
        }
    }

    fn describe_task_definition(&mut self, input: &Value) -> Answer {
        let with_tags = input["include"] == json!(["TAGS"]);
        let mut answer = self.definition(input)?.clone();
        if !with_tags {
            answer["tags"] = json!([]);
        }
        Ok(answer)
    }

    fn register_task_definition(&mut self, input: &Value) -> Answer {
        let Value::Object(mut document) = input.clone() else {
            return Err(refusal("SerializationException", "not an object"));
        };
        for field in REFUSED {
            if document.contains_key(field) {
                return Err(refusal("SerializationException", format!("unexpected field {field}")));
            }
        }
        let tags = document.shift_remove("tags");
        if let Some(tags) = &tags {
            let list = tags.as_array().filter(|list| !list.is_empty());
            let list = list.ok_or_else(|| refusal("InvalidParameterException", "Tags can not be empty."))?;
            if list.iter().any(|tag| tag["key"].as_str().is_none_or(|key| key.starts_with("aws:"))) {
                return Err(refusal("InvalidParameterException", "aws: prefixed tag keys are reserved."));
            }
        }
        let family = document.get("family").and_then(Value::as_str).unwrap_or_default().to_owned();
        let revisions =
            self.definitions.values().filter(|at| at["taskDefinition"]["family"] == family.as_str());
        let last = revisions.filter_map(|at| at["taskDefinition"]["revision"].as_u64()).max().unwrap_or(0);
        let revision = last + 1;
        let arn = format!("arn:aws:ecs:{REGION}:{ACCOUNT}:task-definition/{family}:{revision}");
        document.insert("taskDefinitionArn".into(), json!(arn));
        document.insert("revision".into(), json!(revision));
        document.insert("status".into(), json!("ACTIVE"));
        document.insert("requiresAttributes".into(), json!([{"name": "ecs.capability.task-eni"}]));
        document.insert("compatibilities".into(), json!(["EC2", "FARGATE"]));
        document.insert("registeredAt".into(), json!(1.5));
        document.insert("registeredBy".into(), json!(format!("arn:aws:iam::{ACCOUNT}:user/ci")));
        let answer = json!({"taskDefinition": document, "tags": tags.unwrap_or_else(|| json!([]))});
        self.definitions.insert(arn, answer.clone());
        Ok(answer)
    }

    fn deregister_task_definition(&mut self, input: &Value) -> Answer {
        let definition = self.definition(input)?;
        definition["taskDefinition"]["status"] = json!("INACTIVE");
        Ok(definition.clone())
    }
}

const REFUSED: [&str; 9] = [
    "compatibilities",
    "deleteRequestedAt",
    "deregisteredAt",
    "registeredAt",
    "registeredBy",
    "requiresAttributes",
    "revision",
    "status",
    "taskDefinitionArn",
];
