//! An update of the stack after a release: it takes the service back, unless it is told what runs.

use serde_json::{Value, json};

use super::PARAMETERS;
use crate::support::moto::{ACCOUNT, Moto, REGION};
use crate::support::stack::Stack;

/// What is given again at each update, as `UsePreviousValue`.
const KEPT: [&str; 4] = ["Project", "SecretsBucket", "DatabasePassword", "BrokerPassword"];

/// moto's ECS, by its wire protocol.
struct Ecs<'m>(&'m Moto, reqwest::Client);

impl Ecs<'_> {
    async fn call(&self, action: &str, input: Value) -> Value {
        // moto finds the service and the region in the credential scope, and does not check signatures.
        let scope = format!(
            "AWS4-HMAC-SHA256 Credential=test/20260101/{REGION}/ecs/aws4_request, SignedHeaders=host, Signature=0"
        );
        let request = self.1.post(&self.0.url).body(input.to_string());
        let request = request
            .header("authorization", scope)
            .header("content-type", "application/x-amz-json-1.1")
            .header("x-amz-target", format!("AmazonEC2ContainerServiceV20141113.{action}"));
        let answer = request.send().await.unwrap();
        assert!(answer.status().is_success(), "{action}: {}", answer.text().await.unwrap());
        serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap()
    }

    async fn service(&self, name: &str) -> Value {
        let answer = self.call("DescribeServices", json!({"cluster": "shop", "services": [name]})).await;
        answer["services"][0].clone()
    }

    /// The number of the revision that a service is at.
    async fn revision(&self, name: &str) -> String {
        let service = self.service(name).await;
        service["taskDefinition"].as_str().unwrap().rsplit_once(':').unwrap().1.to_owned()
    }

    /// What a release does: the next revision, and the service pointed at it. Returns the revision's ARN.
    async fn release(&self, name: &str) -> String {
        let family = format!("shop-{name}");
        let live = self.call("DescribeTaskDefinition", json!({"taskDefinition": family})).await;
        let containers = live["taskDefinition"]["containerDefinitions"].clone();
        let next = json!({"family": family, "containerDefinitions": containers});
        let next = self.call("RegisterTaskDefinition", next).await;
        let arn = next["taskDefinition"]["taskDefinitionArn"].as_str().unwrap().to_owned();
        self.call("UpdateService", json!({"cluster": "shop", "service": name, "taskDefinition": arn})).await;
        arn
    }
}

#[tokio::test]
async fn an_update_that_is_told_what_runs_leaves_it_and_one_that_is_not_takes_it_back() {
    let moto = Moto::start();
    let ecs = Ecs(&moto, reqwest::Client::new());
    let mut stack = Stack::create(&moto.url, "shop", &PARAMETERS);
    for name in ["web", "worker", "beat"] {
        assert_eq!(ecs.revision(name).await, "1");
        assert_eq!(ecs.service(name).await["desiredCount"], 0, "no image is there yet");
    }
    let released = ecs.release("web").await;
    assert_eq!(released, format!("arn:aws:ecs:{REGION}:{ACCOUNT}:task-definition/shop-web:2"));

    // The service is not touched when nothing of it changes, whatever the parameter says.
    stack.change(&[("InstanceMax", "3")], &KEPT);
    assert_eq!(ecs.revision("web").await, "2");

    // The fault: more containers are asked for, and the first revision comes with them.
    stack.change(&[("WebCount", "2")], &KEPT);
    assert_eq!(ecs.service("web").await["desiredCount"], 2);
    assert_eq!(ecs.revision("web").await, "1", "the parameter was left out");
    ecs.release("web").await;
    assert_eq!(ecs.revision("web").await, "3");
    stack.change(&[("WebCount", "3")], &[&KEPT[..], &["WebTaskDefinition"]].concat());
    assert_eq!(ecs.revision("web").await, "1", "its previous value was nothing");

    // The cure: the parameter is what runs now.
    let released = ecs.release("web").await;
    stack.change(&[("WebCount", "2"), ("WebTaskDefinition", &released)], &KEPT);
    assert_eq!(ecs.service("web").await["desiredCount"], 2);
    assert_eq!(ecs.revision("web").await, "4");
    // A previous value is as old as the last update.
    let released = ecs.release("web").await;
    let kept = [&KEPT[..], &["WebTaskDefinition"]].concat();
    stack.change(&[("WebCount", "3")], &kept);
    assert_eq!(ecs.revision("web").await, "4", "a release was made since");
    stack.change(&[("WebCount", "2"), ("WebTaskDefinition", &released)], &KEPT);
    assert_eq!(ecs.revision("web").await, "5");

    // Each service has its own.
    let worker = ecs.release("worker").await;
    let beat = ecs.release("beat").await;
    let told = [
        ("WebTaskDefinition", released.as_str()),
        ("WorkerTaskDefinition", worker.as_str()),
        ("BeatTaskDefinition", beat.as_str()),
        ("WebCount", "1"),
        ("WorkerCount", "2"),
        ("BeatCount", "1"),
    ];
    stack.change(&told, &KEPT);
    for (name, revision, count) in [("web", "5", 1), ("worker", "2", 2), ("beat", "2", 1)] {
        assert_eq!(ecs.revision(name).await, revision, "{name}");
        assert_eq!(ecs.service(name).await["desiredCount"], count, "{name}");
    }
    // What was there first stays, so that nothing that runs can be taken away.
    assert_eq!(stack.state["template"]["Resources"]["WebDefinition"]["DeletionPolicy"], "Retain");
}
