//! What is refused before anything is changed.

use imgforge::config::{OnceConfig, Strategy};
use imgforge::deploy::Deployer;
use imgforge::deploy::ecs::EcsDeployer;
use imgforge::error::{Error, Kind};
use imgforge::progress::Reporter;
use serde_json::json;

use super::{EcsConfig, config, deployer, migrate, pinned, release, repository, told};
use crate::support::ecs_simulator::{EcsSimulator, Fault, Listing};

async fn refused(simulator: &EcsSimulator, config: EcsConfig) -> Error {
    let deployer = EcsDeployer::new(&simulator.sdk_config(), config).unwrap();
    let error = deployer.observe(&["web".into()], &[migrate()]).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Refused, "{}", told(&error));
    for (action, _) in &simulator.world().requests {
        assert!(action.starts_with("Describe") || action.starts_with("List"), "{action} was called");
    }
    error
}

#[tokio::test]
async fn what_runs_is_shown_by_container() {
    let simulator = EcsSimulator::start().await;
    let running = deployer(&simulator).observe(&["web".into(), "nginx".into()], &[migrate()]).await.unwrap();
    let names: Vec<&str> = running.containers.keys().map(String::as_str).collect();
    assert_eq!(names, ["beat", "nginx", "web", "worker"]);
    assert_eq!(running.containers["beat"], format!("{}:2025-01", repository("shop-web")));
}

#[tokio::test]
async fn a_service_that_does_not_exist_is_refused_with_the_nearest_one() {
    let simulator = EcsSimulator::start().await;
    let error = refused(&simulator, EcsConfig { service: "wep".into(), ..config() }).await;
    assert_eq!(error.what(), "service \"wep\" does not exist (cluster shop in eu-west-1)");
    assert_eq!(error.help_text(), Some("did you mean \"web\"?"));
}

#[tokio::test]
async fn a_cluster_that_does_not_exist_is_refused_with_the_nearest_one() {
    let simulator = EcsSimulator::start().await;
    let error = refused(&simulator, EcsConfig { cluster: "shopp".into(), ..config() }).await;
    assert_eq!(error.help_text(), Some("did you mean \"shop\"?"));
}

#[tokio::test]
async fn a_deleted_service_is_refused() {
    let simulator = EcsSimulator::start().await;
    simulator.world().service.status = "INACTIVE";
    let error = refused(&simulator, config()).await;
    assert!(error.what().contains("is inactive"), "{error}");
}

#[tokio::test]
async fn an_unknown_container_of_a_once_task_is_refused_with_the_nearest_one() {
    let simulator = EcsSimulator::start().await;
    let once = OnceConfig { container: "wbe".into(), ..migrate() };
    let error = deployer(&simulator).observe(&["web".into()], &[once]).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Refused);
    assert!(error.what().contains("\"migrate\"") && error.what().contains("\"wbe\""), "{error}");
    assert!(error.help_text().unwrap().contains("did you mean \"web\"?"));
}

#[tokio::test]
async fn an_image_for_no_container_is_refused() {
    let simulator = EcsSimulator::start().await;
    let error = deployer(&simulator).observe(&["engine".into()], &[]).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Refused);
    assert!(error.help_text().unwrap().contains("web, nginx, worker, beat"), "{}", told(&error));
}

#[tokio::test]
async fn an_image_of_another_name_is_known_by_its_repository() {
    let simulator = EcsSimulator::start().await;
    let mut config = config();
    config.repositories.insert("site".into(), repository("shop-web"));
    let deployer = EcsDeployer::new(&simulator.sdk_config(), config).unwrap();
    deployer.observe(&["site".into()], &[]).await.unwrap();
}

#[tokio::test]
async fn a_deployment_in_progress_is_refused_with_how_to_wait() {
    let simulator = EcsSimulator::start().await;
    let live = simulator.world().service.primary().revision.clone();
    simulator.world().service.begin(&live, Some("PENDING"), None);
    let error = refused(&simulator, config()).await;
    assert!(error.what().contains("in progress"), "{error}");
    assert!(error.help_text().unwrap().contains("aws ecs wait services-stable"));
}

#[tokio::test]
async fn deployments_that_are_not_rolling_are_refused() {
    let simulator = EcsSimulator::start().await;
    simulator.world().service.strategy = "BLUE_GREEN";
    assert!(refused(&simulator, config()).await.what().contains("BLUE_GREEN"));
    simulator.world().service.strategy = "ROLLING";
    simulator.world().service.controller = "CODE_DEPLOY";
    assert!(refused(&simulator, config()).await.what().contains("CODE_DEPLOY"));
    let blue_green = EcsConfig { strategy: Some(Strategy::BlueGreen), ..config() };
    assert!(refused(&simulator, blue_green).await.what().contains("blue-green"));
}

#[tokio::test]
async fn a_denied_call_names_the_action_to_allow() {
    let simulator = EcsSimulator::start().await;
    simulator.fault("DescribeTaskDefinition", Fault::Deny, 1);
    let error = refused(&simulator, config()).await;
    assert_eq!(
        error.help_text(),
        Some("allow the action ecs:DescribeTaskDefinition in the policy of this user or role")
    );
}

#[tokio::test]
async fn after_a_failed_deployment_the_last_good_revision_is_what_ran() {
    // It is told by the service deployments, or else by the tasks that still run.
    for (listing, still_running) in [(Listing::Offered, 0), (Listing::Unsupported, 2)] {
        let simulator = EcsSimulator::start().await;
        let failed = "arn:aws:ecs:eu-west-1:123456789012:task-definition/shop:42";
        {
            let mut world = simulator.world();
            let mut definition = world.definitions.values().next().unwrap().clone();
            definition["taskDefinition"]["taskDefinitionArn"] = json!(failed);
            definition["taskDefinition"]["revision"] = json!(42);
            world.definitions.insert(failed.into(), definition);
            world.service.begin(failed, Some("STOPPED"), None);
            world.service.deployments[0].rollout = "FAILED";
            world.service.deployments[1].running = still_running;
            world.service.listing = listing;
        }
        let deployer = deployer(&simulator);
        let running = deployer.observe(&["nginx".into()], &[]).await.unwrap();
        assert_eq!(running.description, "revision shop:41 (that of revision shop:42 failed)");

        // The same images once more: the service is not at what runs, so this is a deployment.
        let nginx = pinned("shop-nginx", &format!("sha256:{}", "b".repeat(64)));
        let silent = Reporter::silent();
        let prepared = deployer.prepare(&release(&[("nginx", nginx)]), &running, &silent).await.unwrap();
        assert_eq!(prepared.description, "revision shop:43");
        deployer.apply(&prepared, &running, &silent).await.unwrap();
        assert_eq!(simulator.revision(), "shop:43");
    }
}
