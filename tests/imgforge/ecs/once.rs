//! Once-tasks.

use std::time::Duration;

use imgforge::deploy::ecs::EcsDeployer;
use imgforge::deploy::{Deployer, TaskExit};
use imgforge::error::{Kind, Result};
use imgforge::progress::Reporter;
use serde_json::json;

use super::{EcsConfig, Recorder, config, deployer, migrate, ready, told};
use crate::support::ecs_simulator::{EcsSimulator, Fault, Script};

async fn run(simulator: &EcsSimulator, script: Script, reporter: &Reporter) -> Result<TaskExit> {
    simulator.world().tasks.script = script;
    let deployer = deployer(simulator);
    let (_, prepared) = ready(&deployer, &Reporter::silent()).await;
    deployer.run_once(&prepared, &migrate(), reporter).await
}

#[tokio::test]
async fn it_runs_the_new_revision_in_the_services_surroundings() {
    let simulator = EcsSimulator::start().await;
    let (recorder, reporter) = Recorder::pair();
    let lines = &["Operations to perform:", "  Applying shop.0001_initial... OK"];
    let exit = run(&simulator, Script::Exits(0, lines), &reporter).await.unwrap();
    assert_eq!(exit, TaskExit { code: 0 });
    assert_eq!(recorder.lines("migrate"), lines, "all lines, also the late one, each once");

    let [mut input] = <[_; 1]>::try_from(simulator.requests("RunTask")).unwrap();
    let token = input["clientToken"].take();
    assert_eq!(token.as_str().map(str::len), Some(64));
    let want = json!({
        "cluster": "shop",
        "taskDefinition": "arn:aws:ecs:eu-west-1:123456789012:task-definition/shop:42",
        "count": 1,
        "startedBy": "imgforge",
        "group": "imgforge:web:migrate",
        "clientToken": null,
        "overrides": {"containerOverrides": [
            {"name": "web", "command": ["python3", "manage.py", "migrate", "--noinput"]},
        ]},
        "launchType": "FARGATE",
        "networkConfiguration": {"awsvpcConfiguration": {
            "subnets": ["subnet-0a"], "securityGroups": ["sg-0a"], "assignPublicIp": "DISABLED",
        }},
        "platformVersion": "1.4.0",
    });
    assert_eq!(input, want);
    assert!(simulator.requests("UpdateService").is_empty());
}

#[tokio::test]
async fn a_services_capacity_providers_come_before_its_launch_type() {
    let simulator = EcsSimulator::start().await;
    let strategy = json!([{"capacityProvider": "FARGATE_SPOT", "weight": 1, "base": 0}]);
    simulator.world().service.capacity_providers = strategy.clone();
    run(&simulator, Script::Exits(0, &[]), &Reporter::silent()).await.unwrap();
    let input = &simulator.requests("RunTask")[0];
    assert_eq!(input["capacityProviderStrategy"], strategy);
    assert!(input.get("launchType").is_none());
}

#[tokio::test]
async fn a_code_that_is_not_zero_is_the_answer() {
    let simulator = EcsSimulator::start().await;
    let exit = run(&simulator, Script::Exits(3, &["no such table"]), &Reporter::silent()).await.unwrap();
    assert_eq!(exit, TaskExit { code: 3 });
}

#[tokio::test]
async fn failures_in_a_good_answer_are_failures() {
    let simulator = EcsSimulator::start().await;
    let error = run(&simulator, Script::NotPlaced("RESOURCE:MEMORY"), &Reporter::silent()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Failed);
    assert_eq!(error.what(), "once-task \"migrate\" could not be started: RESOURCE:MEMORY (0a1b)");
}

#[tokio::test]
async fn no_exit_code_is_a_failure_with_both_reasons() {
    let simulator = EcsSimulator::start().await;
    let script = Script::NeverStarts("Task failed to start", "CannotPullContainerError: manifest unknown");
    let error = run(&simulator, script, &Reporter::silent()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Failed);
    assert!(error.what().contains("CannotPullContainerError: manifest unknown"), "{error}");
    assert!(error.what().contains("Task failed to start"), "{error}");
}

#[tokio::test]
async fn a_repeated_run_task_is_the_same_task() {
    let simulator = EcsSimulator::start().await;
    simulator.fault("RunTask", Fault::CutOff, 1);
    run(&simulator, Script::Exits(0, &[]), &Reporter::silent()).await.unwrap();
    assert_eq!(simulator.requests("RunTask").len(), 2);
    assert_eq!(simulator.world().tasks.ran.len(), 1);
}

#[tokio::test]
async fn a_second_try_of_a_release_is_a_new_task() {
    let simulator = EcsSimulator::start().await;
    run(&simulator, Script::Exits(1, &[]), &Reporter::silent()).await.unwrap();
    let exit = run(&simulator, Script::Exits(0, &[]), &Reporter::silent()).await.unwrap();
    assert_eq!(exit, TaskExit { code: 0 });
    assert_eq!(simulator.world().tasks.ran.len(), 2);
}

#[tokio::test]
async fn a_task_that_does_not_end_times_out_and_is_in_the_way_of_the_next() {
    let simulator = EcsSimulator::start().await;
    simulator.world().tasks.script = Script::Hangs;
    let hurried = EcsConfig { timeout: Duration::from_millis(300), ..config() };
    let hurried = EcsDeployer::new(&simulator.sdk_config(), hurried).unwrap();
    let (_, prepared) = ready(&hurried, &Reporter::silent()).await;
    let error = hurried.run_once(&prepared, &migrate(), &Reporter::silent()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::TimedOut);
    assert!(error.help_text().unwrap().contains("aws ecs stop-task --cluster shop"));

    let error = run(&simulator, Script::Exits(0, &[]), &Reporter::silent()).await.unwrap_err();
    assert!(error.what().contains("of an earlier run is still at work"), "{}", told(&error));
    assert_eq!(error.kind(), Kind::Locked);
    assert_eq!(simulator.world().tasks.ran.len(), 1);
}

#[tokio::test]
async fn logs_that_may_not_be_read_are_no_failure() {
    let simulator = EcsSimulator::start().await;
    simulator.fault("GetLogEvents", Fault::Deny, 1);
    let exit = run(&simulator, Script::Exits(0, &["unseen"]), &Reporter::silent()).await.unwrap();
    assert_eq!(exit, TaskExit { code: 0 });
    assert_eq!(simulator.requests("GetLogEvents").len(), 1);
}

#[tokio::test]
async fn a_container_that_is_not_essential_takes_its_task_along() {
    let simulator = EcsSimulator::start().await;
    {
        let mut world = simulator.world();
        let definition = world.definitions.values_mut().next().unwrap();
        definition["taskDefinition"]["containerDefinitions"][0]["essential"] = json!(false);
    }
    simulator.world().tasks.others_go_on = true;
    let exit = run(&simulator, Script::Exits(0, &[]), &Reporter::silent()).await.unwrap();
    assert_eq!(exit, TaskExit { code: 0 });
    assert!(simulator.world().tasks.ran[0].stopped_by_us);
}
