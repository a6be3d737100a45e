//! What requests mean to IAM: the actions that they need, and on what.
//!
//! By the Service Authorization Reference and, for a registry's data plane, the ECR user guide ("Private registry
//! authentication": `docker pull` and `docker push` need the actions of the calls that ECR's proxy makes for them). A request
//! that is not listed here is a failure: it may need something that nobody has thought of.

use axum::http::Method;
use serde_json::{Value, json};

use super::moto::{ACCOUNT, REGION};
use super::policy::Call;
use super::recorder::Recorded;

fn arn(service: &str, rest: impl std::fmt::Display) -> String {
    format!("arn:aws:{service}:{REGION}:{ACCOUNT}:{rest}")
}

/// A request to the endpoint of S3, ECR and STS.
pub fn of_aws(request: &Recorded) -> Vec<Call> {
    if let Some(target) = request.header("x-amz-target") {
        return of_ecr(target, &request.body);
    }
    // GetCallerIdentity needs no permission, and none can forbid it (STS API reference).
    if request.body.starts_with(b"Action=GetCallerIdentity&") {
        return Vec::new();
    }
    of_s3(request)
}

fn of_ecr(target: &str, body: &[u8]) -> Vec<Call> {
    let input: Value = serde_json::from_slice(body).unwrap();
    match target.strip_prefix("AmazonEC2ContainerRegistry_V20150921.") {
        Some("GetAuthorizationToken") => vec![Call::new("ecr:GetAuthorizationToken", "*")],
        Some("DescribeRepositories") => {
            let names = input["repositoryNames"].as_array().expect("it asks for some repositories");
            let arns = names.iter().map(|name| repository(name.as_str().unwrap()));
            arns.map(|arn| Call::new("ecr:DescribeRepositories", arn)).collect()
        }
        Some("CreateRepository") => {
            let name = input["repositoryName"].as_str().unwrap();
            vec![Call::new("ecr:CreateRepository", repository(name))]
        }
        _ => panic!("{target} is not in this list"),
    }
}

fn repository(name: &str) -> String {
    arn("ecr", format_args!("repository/{name}"))
}

/// Path style: `/BUCKET/KEY`.
fn of_s3(request: &Recorded) -> Vec<Call> {
    let path = request.path.trim_start_matches('/');
    let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
    let on_bucket = format!("arn:aws:s3:::{bucket}");
    let on_object = format!("{on_bucket}/{key}");
    let has = |name| request.parameter(name).is_some();
    let calls = match (request.method.as_str(), key) {
        ("GET", "") if has("versioning") => vec![Call::new("s3:GetBucketVersioning", on_bucket)],
        ("GET", "") if has("publicAccessBlock") => {
            vec![Call::new("s3:GetBucketPublicAccessBlock", on_bucket)]
        }
        ("GET", "") if has("versions") => vec![Call::new("s3:ListBucketVersions", on_bucket)],
        ("GET", "") if has("list-type") => {
            let prefix = request.parameter("prefix").unwrap_or_default();
            vec![Call::new("s3:ListBucket", on_bucket).with("s3:prefix", prefix)]
        }
        ("GET" | "HEAD", key) if !key.is_empty() => {
            let action = if has("versionId") { "s3:GetObjectVersion" } else { "s3:GetObject" };
            let mut calls = vec![Call::new(action, on_object)];
            // Who may not list gets 403 and not 404 for what is not there (GetObject, "Permissions").
            if request.status == 404 {
                calls.push(Call::new("s3:ListBucket", on_bucket));
            }
            calls
        }
        ("PUT", key) if !key.is_empty() => vec![Call::new("s3:PutObject", on_object)],
        _ => panic!("{} {} {:?} is not in this list", request.method, request.path, request.query),
    };
    calls.into_iter().map(|call| call.with("aws:SecureTransport", "true")).collect()
}

/// A request to a registry's data plane.
pub fn of_registry(request: &Recorded) -> Vec<Call> {
    let rest = request.path.strip_prefix("/v2/").expect("the registry API");
    // Whether the login is good.
    if rest.is_empty() {
        return Vec::new();
    }
    let parts = ["/manifests/", "/blobs/uploads/", "/blobs/"];
    let (name, kind) = parts
        .iter()
        .find_map(|part| Some((rest.split_once(part)?.0, *part)))
        .unwrap_or_else(|| panic!("{} is not in this list", request.path));
    let on = |action: &str| Call::new(action, repository(name));
    match (kind, request.method.clone()) {
        ("/manifests/", Method::GET | Method::HEAD) => vec![on("ecr:BatchGetImage")],
        ("/manifests/", Method::PUT) => vec![on("ecr:PutImage")],
        ("/blobs/", Method::HEAD) => vec![on("ecr:BatchCheckLayerAvailability")],
        ("/blobs/", Method::GET) => vec![on("ecr:GetDownloadUrlForLayer")],
        ("/blobs/uploads/", Method::POST) => {
            let mut calls = vec![on("ecr:InitiateLayerUpload")];
            // A mount reads the layer where it is.
            if let Some(from) = request.parameter("from") {
                calls.push(Call::new("ecr:BatchCheckLayerAvailability", repository(from)));
                calls.push(Call::new("ecr:GetDownloadUrlForLayer", repository(from)));
            }
            calls
        }
        ("/blobs/uploads/", Method::PATCH) => vec![on("ecr:UploadLayerPart")],
        ("/blobs/uploads/", Method::PUT) if request.body.is_empty() => vec![on("ecr:CompleteLayerUpload")],
        ("/blobs/uploads/", Method::PUT) => {
            vec![on("ecr:UploadLayerPart"), on("ecr:CompleteLayerUpload")]
        }
        (_, method) => panic!("{method} {} is not in this list", request.path),
    }
}

/// A request to ECS or CloudWatch Logs. `roles` tells the roles of a revision, by ARN.
pub fn of_ecs(action: &str, input: &Value, roles: impl Fn(&str) -> Vec<String>) -> Vec<Call> {
    let text = |field: &str| input[field].as_str().unwrap_or_default();
    let cluster = text("cluster");
    let in_cluster = |call: Call| call.with("ecs:cluster", arn("ecs", format_args!("cluster/{cluster}")));
    let ecs = format!("ecs:{action}");
    let service =
        |name: &str| in_cluster(Call::new(&ecs, arn("ecs", format_args!("service/{cluster}/{name}"))));
    let listed = |field: &str| -> Vec<String> {
        let values = input[field].as_array().cloned().unwrap_or_else(|| panic!("{action} without {field}"));
        values.iter().map(|value| value.as_str().unwrap().to_owned()).collect()
    };
    let passed = |roles: Vec<String>| {
        let pass =
            |role| Call::new("iam:PassRole", role).with("iam:PassedToService", "ecs-tasks.amazonaws.com");
        roles.into_iter().map(pass)
    };
    match action {
        "DescribeServices" => listed("services").iter().map(|name| service(name)).collect(),
        "UpdateService" | "ListServiceDeployments" => vec![service(text("service"))],
        "DescribeServiceDeployments" => {
            listed("serviceDeploymentArns").into_iter().map(|arn| Call::new(&ecs, arn)).collect()
        }
        "DescribeServiceRevisions" => {
            listed("serviceRevisionArns").into_iter().map(|arn| Call::new(&ecs, arn)).collect()
        }
        "ListServices" => vec![in_cluster(Call::new(&ecs, "*"))],
        "ListTasks" => {
            let instances = arn("ecs", format_args!("container-instance/{cluster}/*"));
            vec![in_cluster(Call::new(&ecs, instances))]
        }
        "DescribeTasks" => listed("tasks").into_iter().map(|arn| in_cluster(Call::new(&ecs, arn))).collect(),
        "StopTask" => vec![in_cluster(Call::new(&ecs, text("task")))],
        // No resource can be named for these.
        "DescribeTaskDefinition" | "DeregisterTaskDefinition" | "ListClusters" => vec![Call::new(&ecs, "*")],
        "RegisterTaskDefinition" => {
            let family = arn("ecs", format_args!("task-definition/{}:*", text("family")));
            let mut calls = vec![Call::new(&ecs, family.clone())];
            if input["tags"].as_array().is_some_and(|tags| !tags.is_empty()) {
                calls.push(Call::new("ecs:TagResource", family).with("ecs:CreateAction", action));
            }
            calls.extend(passed(roles_in(input)));
            calls
        }
        "RunTask" => {
            let revision = text("taskDefinition");
            let mut calls = vec![in_cluster(Call::new(&ecs, revision))];
            assert_eq!(input["tags"], Value::Null, "RunTask with tags needs ecs:TagResource");
            calls.extend(passed(roles(revision)));
            calls
        }
        "GetLogEvents" => {
            let (group, stream) = (text("logGroupName"), text("logStreamName"));
            let stream = arn("logs", format_args!("log-group:{group}:log-stream:{stream}"));
            vec![Call::new("logs:GetLogEvents", stream)]
        }
        _ => panic!("{action} is not in this list: {}", json!(input)),
    }
}

/// The roles that a task definition gives to its tasks and to the agent.
pub fn roles_in(definition: &Value) -> Vec<String> {
    let fields = ["taskRoleArn", "executionRoleArn"];
    fields.iter().filter_map(|field| definition[*field].as_str().map(str::to_owned)).collect()
}
