//! Deployments that do not go well.

use std::time::Duration;

use imgforge::deploy::Deployer;
use imgforge::deploy::ecs::EcsDeployer;
use imgforge::error::{Error, Kind};
use imgforge::progress::Reporter;

use super::{EcsConfig, Recorder, config, deployer, ready, told};
use crate::support::ecs_simulator::{Breaker, EcsSimulator, Fate, Fault, Listing};

/// Deploys tasks that end at once.
async fn fails(simulator: &EcsSimulator, breaker: Breaker, reporter: &Reporter) -> Error {
    simulator.world().service.breaker = breaker;
    simulator.world().service.fate = Fate::Failing;
    let deployer = deployer(simulator);
    let (running, prepared) = ready(&deployer, reporter).await;
    deployer.apply(&prepared, &running, reporter).await.unwrap_err()
}

fn is_back(simulator: &EcsSimulator, error: &Error) {
    assert_eq!(error.kind(), Kind::RolledBack, "{}", told(error));
    assert_eq!(error.kind().exit_code(), 3);
    assert_eq!(simulator.revision(), "shop:41");
    assert_eq!(simulator.world().service.primary().rollout, "COMPLETED");
    let told = told(error);
    assert!(told.contains("tasks stopped: container web ended with exit code 1"), "{told}");
    assert!(told.contains("(service web) has started 1 tasks"), "{told}");
}

#[tokio::test]
async fn ecs_own_rollback_is_waited_for_and_is_no_success() {
    for listing in [Listing::Offered, Listing::Unsupported] {
        let simulator = EcsSimulator::start().await;
        simulator.world().service.listing = listing;
        let (recorder, reporter) = Recorder::pair();
        let error = fails(&simulator, Breaker::RollsBack, &reporter).await;
        is_back(&simulator, &error);
        assert_eq!(simulator.requests("UpdateService").len(), 1, "ECS goes back by itself");
        assert!(error.what().contains("circuit breaker"), "{error}");
        // What the failing container printed.
        let printed = ["Traceback (most recent call last):", "ModuleNotFoundError: No module named 'shop'"];
        assert_eq!(recorder.lines("web"), printed);
    }
}

#[tokio::test]
async fn where_the_breaker_only_stops_imgforge_goes_back() {
    for listing in [Listing::Offered, Listing::Unsupported] {
        let simulator = EcsSimulator::start().await;
        simulator.world().service.listing = listing;
        let error = fails(&simulator, Breaker::Stops, &Reporter::silent()).await;
        is_back(&simulator, &error);
        assert_eq!(simulator.requests("UpdateService").len(), 2);
    }
}

#[tokio::test]
async fn without_a_breaker_imgforge_gives_up_after_three_failed_tasks_and_goes_back() {
    let simulator = EcsSimulator::start().await;
    let error = fails(&simulator, Breaker::Off, &Reporter::silent()).await;
    is_back(&simulator, &error);
    assert!(error.what().contains("3 tasks in a row failed to start"), "{error}");
}

#[tokio::test]
async fn a_way_back_that_is_denied_says_how_to_go_by_hand() {
    let simulator = EcsSimulator::start().await;
    simulator.world().service.breaker = Breaker::Off;
    simulator.world().service.fate = Fate::Failing;
    let deployer = deployer(&simulator);
    let silent = Reporter::silent();
    let (running, prepared) = ready(&deployer, &silent).await;
    let live = simulator.world().service.primary().revision.clone();
    simulator.world().definitions.get_mut(&live).unwrap()["taskDefinition"]["status"] = "INACTIVE".into();
    let error = deployer.apply(&prepared, &running, &silent).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Failed);
    let by_hand = "aws ecs update-service --cluster shop --service web --task-definition shop:41";
    assert_eq!(error.help_text(), Some(by_hand));
    assert!(error.what().contains("TaskDefinition is inactive"), "{error}");
}

#[tokio::test]
async fn tasks_that_are_never_placed_time_out_with_the_reason() {
    let simulator = EcsSimulator::start().await;
    simulator.world().service.fate = Fate::NeverPlaced;
    let config = EcsConfig { timeout: Duration::from_millis(300), ..config() };
    let deployer = EcsDeployer::new(&simulator.sdk_config(), config).unwrap();
    let (recorder, reporter) = Recorder::pair();
    let (running, prepared) = ready(&deployer, &reporter).await;
    let error = deployer.apply(&prepared, &running, &reporter).await.unwrap_err();
    assert_eq!(error.kind(), Kind::TimedOut);
    assert_eq!(error.kind().exit_code(), 4);
    let reason =
        "(service web) was unable to place a task because no container instance met all of its requirements.";
    assert_eq!(error.causes(), [reason]);
    assert_eq!(recorder.lines("shop/web"), [reason]);
    assert!(error.help_text().unwrap().contains("--task-definition shop:41"));
    assert_eq!(simulator.requests("UpdateService").len(), 1, "what goes on is left alone");
}

#[tokio::test]
async fn a_rival_deployment_is_not_rolled_back() {
    let simulator = EcsSimulator::start().await;
    let rival = "arn:aws:ecs:eu-west-1:123456789012:task-definition/shop:77";
    simulator.world().service.rival = Some(rival.into());
    let deployer = deployer(&simulator);
    let silent = Reporter::silent();
    let (running, prepared) = ready(&deployer, &silent).await;
    let error = deployer.apply(&prepared, &running, &silent).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Failed, "{}", told(&error));
    assert!(error.what().contains("overtaken by one of revision shop:77"), "{error}");
    assert_eq!(simulator.revision(), "shop:77");
    assert_eq!(simulator.requests("UpdateService").len(), 1);
}

#[tokio::test]
async fn losing_sight_of_a_deployment_is_not_called_a_failure() {
    let simulator = EcsSimulator::start().await;
    let deployer = deployer(&simulator);
    let silent = Reporter::silent();
    let (running, prepared) = ready(&deployer, &silent).await;
    simulator.fault("DescribeServiceDeployments", Fault::Throttle, usize::MAX);
    let error = deployer.apply(&prepared, &running, &silent).await.unwrap_err();
    assert_eq!(error.kind(), Kind::TimedOut);
    assert!(told(&error).contains("ThrottlingException"));
}

#[tokio::test]
async fn a_denied_update_changes_nothing() {
    let simulator = EcsSimulator::start().await;
    simulator.fault("UpdateService", Fault::Deny, 1);
    let deployer = deployer(&simulator);
    let silent = Reporter::silent();
    let (running, prepared) = ready(&deployer, &silent).await;
    let error = deployer.apply(&prepared, &running, &silent).await.unwrap_err();
    assert_eq!(error.what(), "service shop/web was not switched to revision shop:42");
    assert_eq!(
        error.help_text(),
        Some("allow the action ecs:UpdateService in the policy of this user or role")
    );
    assert_eq!(simulator.revision(), "shop:41");
}

#[tokio::test]
async fn an_update_whose_answer_is_lost_is_followed_all_the_same() {
    let simulator = EcsSimulator::start().await;
    simulator.fault("UpdateService", Fault::CutOff, usize::MAX);
    let deployer = deployer(&simulator);
    let silent = Reporter::silent();
    let (running, prepared) = ready(&deployer, &silent).await;
    deployer.apply(&prepared, &running, &silent).await.unwrap();
    assert_eq!(simulator.revision(), "shop:42");
}

#[tokio::test]
async fn an_update_that_cannot_be_seen_either_is_not_called_a_failure() {
    let simulator = EcsSimulator::start().await;
    let deployer = deployer(&simulator);
    let silent = Reporter::silent();
    let (running, prepared) = ready(&deployer, &silent).await;
    simulator.fault("UpdateService", Fault::CutOff, usize::MAX);
    // The first look is that at what runs, before the update.
    simulator.fault_after("DescribeServices", 1, Fault::Unavailable);
    let error = deployer.apply(&prepared, &running, &silent).await.unwrap_err();
    assert_eq!(error.kind(), Kind::TimedOut, "{}", told(&error));
    assert!(error.what().contains("is unknown: no answer came"), "{error}");
}

#[tokio::test]
async fn an_update_that_was_not_done_leaves_the_service_where_it_was() {
    let simulator = EcsSimulator::start().await;
    simulator.fault("UpdateService", Fault::Unavailable, usize::MAX);
    let deployer = deployer(&simulator);
    let silent = Reporter::silent();
    let (running, prepared) = ready(&deployer, &silent).await;
    let error = deployer.apply(&prepared, &running, &silent).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Failed, "{}", told(&error));
    assert_eq!(error.what(), "service shop/web was not switched to revision shop:42");
    assert_eq!(simulator.revision(), "shop:41");
}
