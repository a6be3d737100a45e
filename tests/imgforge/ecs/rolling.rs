//! The good way: register, one UpdateService, follow.

use imgforge::deploy::Deployer;
use imgforge::progress::Reporter;
use serde_json::{Value, json};

use super::{Recorder, config, deployer, new_web, pinned, ready, release};
use crate::support::ecs_simulator::{EcsSimulator, Fault, Listing};

#[tokio::test]
async fn one_update_switches_the_service_to_the_new_revision() {
    let simulator = EcsSimulator::start().await;
    let (recorder, reporter) = Recorder::pair();
    let deployer = deployer(&simulator);
    let (running, prepared) = ready(&deployer, &reporter).await;
    assert_eq!(running.description, "revision shop:41");
    assert_eq!(prepared.description, "revision shop:42");
    assert!(!prepared.unchanged);

    let deployed = deployer.apply(&prepared, &running, &reporter).await.unwrap();
    assert_eq!(deployed.description, "revision shop:42");
    assert_eq!(simulator.revision(), "shop:42");
    let revision = format!("arn:aws:ecs:eu-west-1:123456789012:task-definition/{}", simulator.revision());
    let updates = simulator.requests("UpdateService");
    assert_eq!(updates, [json!({"cluster": "shop", "service": "web", "taskDefinition": revision})]);
    assert_eq!(recorder.lines("shop/web"), ["(service web) has reached a steady state."]);
    let details = recorder.details();
    assert!(details.iter().any(|detail| detail == "1 of 2 running, 1 pending, 2 old"), "{details:?}");
}

#[tokio::test]
async fn the_new_revision_differs_in_the_images_only() {
    let document: Value =
        serde_json::from_str(include_str!("../../../fixtures/taskdef/every-field.json")).unwrap();
    let simulator = EcsSimulator::start_with(document.clone()).await;
    let (_, prepared) = ready(&deployer(&simulator), &Reporter::silent()).await;
    assert_eq!(prepared.description, "revision shop-web:42");

    let [registered] = &simulator.requests("RegisterTaskDefinition")[..] else { panic!("one is wanted") };
    let mut want = document["taskDefinition"].clone();
    want["containerDefinitions"][0]["image"] = json!(new_web().to_string());
    want["tags"] = document["tags"].clone();
    let was = want.as_object_mut().unwrap();
    was.retain(|field, _| registered.get(field).is_some());
    assert_eq!(was.len(), document["taskDefinition"].as_object().unwrap().len() - 9 + 1);
    assert_eq!(*registered, want);
}

#[tokio::test]
async fn containers_that_share_the_image_get_it_too_and_tags_are_kept() {
    let simulator = EcsSimulator::start().await;
    ready(&deployer(&simulator), &Reporter::silent()).await;
    let [registered] = &simulator.requests("RegisterTaskDefinition")[..] else { panic!("one is wanted") };
    let images = registered["containerDefinitions"].as_array().unwrap().iter();
    let images: Vec<(&str, bool)> =
        images.map(|at| (at["name"].as_str().unwrap(), at["image"] == new_web().to_string())).collect();
    assert_eq!(images, [("web", true), ("nginx", false), ("worker", true), ("beat", true)]);
    assert_eq!(registered["tags"], json!([{"key": "team", "value": "shop"}]));
}

#[tokio::test]
async fn nothing_is_called_when_nothing_changed() {
    let simulator = EcsSimulator::start().await;
    let deployer = deployer(&simulator);
    let running = deployer.observe(&["nginx".into()], &[]).await.unwrap();
    let nginx = pinned("shop-nginx", &format!("sha256:{}", "b".repeat(64)));
    let silent = Reporter::silent();
    let prepared = deployer.prepare(&release(&[("nginx", nginx)]), &running, &silent).await.unwrap();
    assert!(prepared.unchanged);
    assert_eq!(prepared.description, "revision shop:41");
    deployer.apply(&prepared, &running, &silent).await.unwrap();
    deployer.discard(&prepared).await.unwrap();
    for action in ["RegisterTaskDefinition", "UpdateService", "DeregisterTaskDefinition"] {
        assert!(simulator.requests(action).is_empty(), "{action}");
    }
}

#[tokio::test]
async fn throttling_outages_and_cut_connections_are_tried_again() {
    let simulator = EcsSimulator::start().await;
    simulator.fault("RegisterTaskDefinition", Fault::Throttle, 3);
    simulator.fault("DescribeServices", Fault::Unavailable, 2);
    simulator.fault("UpdateService", Fault::CutOff, 1);
    let deployer = deployer(&simulator);
    let silent = Reporter::silent();
    let (running, prepared) = ready(&deployer, &silent).await;
    deployer.apply(&prepared, &running, &silent).await.unwrap();
    assert_eq!(simulator.requests("RegisterTaskDefinition").len(), 4);
    // The second one asked for what the first had done: no further deployment.
    assert_eq!(simulator.requests("UpdateService").len(), 2);
    assert_eq!(simulator.world().service.deployments.len(), 2);
}

#[tokio::test]
async fn without_service_deployments_the_rollout_state_is_followed() {
    for unoffered in [true, false] {
        let simulator = EcsSimulator::start().await;
        if unoffered {
            simulator.world().service.listing = Listing::Unsupported;
        } else {
            simulator.fault("ListServiceDeployments", Fault::Deny, 1);
        }
        let deployer = deployer(&simulator);
        let silent = Reporter::silent();
        let (running, prepared) = ready(&deployer, &silent).await;
        deployer.apply(&prepared, &running, &silent).await.unwrap();
        assert_eq!(simulator.revision(), "shop:42");
        assert_eq!(simulator.requests("ListServiceDeployments").len(), 1);
    }
}

#[tokio::test]
async fn a_discarded_revision_is_deregistered() {
    let simulator = EcsSimulator::start().await;
    let deployer = deployer(&simulator);
    let (_, prepared) = ready(&deployer, &Reporter::silent()).await;
    deployer.discard(&prepared).await.unwrap();
    let arn = "arn:aws:ecs:eu-west-1:123456789012:task-definition/shop:42";
    assert_eq!(simulator.requests("DeregisterTaskDefinition"), [json!({"taskDefinition": arn})]);
    assert_eq!(simulator.world().definitions[arn]["taskDefinition"]["status"], "INACTIVE");
    assert_eq!(simulator.revision(), "shop:41");
}

#[tokio::test]
async fn a_deployment_by_someone_else_since_the_plan_stops_the_release() {
    let simulator = EcsSimulator::start().await;
    let deployer = deployer(&simulator);
    let silent = Reporter::silent();
    let (running, prepared) = ready(&deployer, &silent).await;
    simulator.world().service.begin("arn:aws:ecs:eu-west-1:123456789012:task-definition/shop:40", None, None);
    let error = deployer.apply(&prepared, &running, &silent).await.unwrap_err();
    assert!(error.what().contains("from shop:41 to shop:40"), "{error}");
    assert!(simulator.requests("UpdateService").is_empty());
}

#[tokio::test]
async fn requests_with_a_wrong_secret_key_are_refused_and_told_plainly() {
    let simulator = EcsSimulator::start().await;
    let sdk = simulator.sdk_config_with_secret("another secret");
    let deployer = imgforge::deploy::ecs::EcsDeployer::new(&sdk, config()).unwrap();
    let error = deployer.observe(&[], &[]).await.unwrap_err();
    assert!(error.what().contains("InvalidSignatureException"), "{error}");
    assert!(error.help_text().unwrap().contains("clock"));
    assert!(!super::told(&error).contains("another secret"));
}
