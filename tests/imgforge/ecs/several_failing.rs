//! Several services, when one of them does not go well: what runs where, and the exit code.

use std::time::Duration;

use imgforge::deploy::Deployer;
use imgforge::error::{Error, Kind};
use imgforge::progress::Reporter;

use super::several::{ALL, deployer, deployer_with, ready, revisions, simulator, updates};
use super::{config, migrate, new_web, release, told};
use crate::support::ecs_simulator::{Breaker, EcsSimulator, Fate, Fault};

const BEFORE: [&str; 3] = ["shop-web:41", "shop-worker:11", "shop-beat:7"];

async fn fails(simulator: &EcsSimulator, exit_code: u8) -> Error {
    let deployer = deployer(simulator, &ALL);
    let (running, prepared) = ready(&deployer).await;
    let error = deployer.apply(&prepared, &running, &Reporter::silent()).await.unwrap_err();
    assert_eq!(error.kind().exit_code(), exit_code, "{}", told(&error));
    error
}

/// Time enough to go well, for a service that is not meant to.
fn hurry(service: &'static str) -> impl Fn(&str) -> Option<Duration> {
    move |name| (name == service).then_some(Duration::from_secs(2))
}

/// The revisions that were taken out of use.
fn discarded(simulator: &EcsSimulator) -> Vec<String> {
    let discarded = simulator.requests("DeregisterTaskDefinition").into_iter();
    discarded
        .map(|at| at["taskDefinition"].as_str().unwrap().rsplit('/').next().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn those_switched_before_are_taken_back_and_those_after_are_never_switched() {
    for breaker in [Breaker::RollsBack, Breaker::Stops, Breaker::Off] {
        let simulator = simulator().await;
        simulator.world().service_mut("worker").fate = Fate::Failing;
        simulator.world().service_mut("worker").breaker = breaker;
        let error = fails(&simulator, 3).await;
        assert_eq!(
            error.what(),
            "shop/worker does not run the release; shop/web is back on revision shop-web:41; shop/beat was not switched"
        );
        let help = "all services run as before: mend the cause, run this again";
        assert_eq!(error.help_text(), Some(help), "{breaker:?}");
        let told = told(&error);
        assert!(told.contains("container worker ended with exit code 1"), "{told}");
        assert_eq!(revisions(&simulator), BEFORE, "{breaker:?}");
        assert_eq!(updates(&simulator).last().unwrap(), "web shop-web:41");
        assert_eq!(discarded(&simulator), ["shop-beat:8"]);
        for service in ALL {
            assert_eq!(simulator.world().service_mut(service).primary().rollout, "COMPLETED", "{service}");
        }
    }
}

#[tokio::test]
async fn the_last_to_be_switched_is_the_first_to_be_taken_back() {
    let simulator = simulator().await;
    simulator.world().service_mut("beat").fate = Fate::Failing;
    let error = fails(&simulator, 3).await;
    let back = "shop/worker is back on revision shop-worker:11; shop/web is back on revision shop-web:41";
    assert!(error.what().ends_with(back), "{error}");
    assert_eq!(revisions(&simulator), BEFORE);
    let switched = ["web shop-web:42", "worker shop-worker:12", "beat shop-beat:8"];
    assert_eq!(updates(&simulator)[..3], switched);
    assert_eq!(updates(&simulator)[3..], ["worker shop-worker:11", "web shop-web:41"]);
    assert_eq!(discarded(&simulator), [] as [String; 0]);
}

#[tokio::test]
async fn where_the_first_fails_no_other_is_touched() {
    let simulator = simulator().await;
    simulator.world().service_mut("web").fate = Fate::Failing;
    let error = fails(&simulator, 3).await;
    let others = "shop/worker was not switched; shop/beat was not switched";
    assert_eq!(error.what(), format!("shop/web does not run the release; {others}"));
    assert_eq!(updates(&simulator), ["web shop-web:42"], "ECS goes back by itself");
    assert_eq!(discarded(&simulator), ["shop-worker:12", "shop-beat:8"]);
    assert_eq!(revisions(&simulator), BEFORE);
}

#[tokio::test]
async fn one_that_is_never_steady_is_left_alone_and_the_others_are_taken_back() {
    let simulator = simulator().await;
    simulator.world().service_mut("worker").fate = Fate::NeverPlaced;
    let deployer = deployer_with(&simulator, &ALL, &config(), hurry("worker"));
    let (running, prepared) = ready(&deployer).await;
    let error = deployer.apply(&prepared, &running, &Reporter::silent()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::TimedOut, "{}", told(&error));
    let back = "shop/web is back on revision shop-web:41; shop/beat was not switched";
    assert_eq!(error.what(), format!("whether shop/worker runs the release is unknown; {back}"));
    assert!(error.help_text().unwrap().contains("--service worker --task-definition shop-worker:11"));
    assert!(told(&error).contains("no container instance met all of its requirements"), "{}", told(&error));
    assert_eq!(revisions(&simulator), ["shop-web:41", "shop-worker:12", "shop-beat:7"]);
}

#[tokio::test]
async fn one_that_may_not_be_switched_leaves_all_as_they_were() {
    let simulator = simulator().await;
    simulator.world().service_mut("worker").denied = true;
    let error = fails(&simulator, 3).await;
    let what = "shop/worker does not run the release; shop/web is back on revision shop-web:41; \
                shop/beat was not switched; shop/worker was not switched";
    assert_eq!(error.what(), what);
    let help = "allow the action ecs:UpdateService in the policy of this user or role";
    assert_eq!(error.help_text(), Some(help));
    assert_eq!(revisions(&simulator), BEFORE);
}

#[tokio::test]
async fn a_rival_deployment_of_one_is_left_alone_and_is_no_rollback() {
    let simulator = simulator().await;
    let rival = "arn:aws:ecs:eu-west-1:123456789012:task-definition/shop-worker:77";
    simulator.world().service_mut("worker").rival = Some(rival.into());
    let error = fails(&simulator, 1).await;
    assert!(told(&error).contains("overtaken by one of revision shop-worker:77"), "{}", told(&error));
    assert_eq!(revisions(&simulator), ["shop-web:41", "shop-worker:77", "shop-beat:7"]);
}

#[tokio::test]
async fn a_way_back_that_ecs_takes_in_vain_is_no_rollback() {
    let simulator = simulator().await;
    simulator.world().service_mut("worker").fate = Fate::Failing;
    simulator.world().service_mut("worker").breaker = Breaker::RollsBackInVain;
    let error = fails(&simulator, 1).await;
    assert!(told(&error).contains("and so did ECS's way back"), "{}", told(&error));
    assert!(error.help_text().unwrap().contains("--service worker --task-definition shop-worker:11"));
    assert!(error.what().contains("shop/web is back on revision shop-web:41"), "{error}");
}

#[tokio::test]
async fn one_that_cannot_be_taken_back_is_told_with_how_to_do_it_by_hand() {
    let simulator = simulator().await;
    simulator.world().service_mut("worker").fate = Fate::Failing;
    let deployer = deployer(&simulator, &ALL);
    let (running, prepared) = ready(&deployer).await;
    let live = simulator.world().service_mut("web").primary().revision.clone();
    simulator.world().definitions.get_mut(&live).unwrap()["taskDefinition"]["status"] = "INACTIVE".into();
    let error = deployer.apply(&prepared, &running, &Reporter::silent()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Failed, "{}", told(&error));
    assert!(error.what().contains("service shop/web is not back on revision shop-web:41"), "{error}");
    let by_hand = "aws ecs update-service --cluster shop --service web --task-definition shop-web:41";
    assert!(error.help_text().unwrap().contains(by_hand), "{}", told(&error));
    assert_eq!(revisions(&simulator), ["shop-web:42", "shop-worker:11", "shop-beat:7"]);
}

#[tokio::test]
async fn what_someone_else_deployed_since_is_not_taken_back() {
    let simulator = simulator().await;
    simulator.world().service_mut("worker").fate = Fate::NeverPlaced;
    let deployer = deployer_with(&simulator, &ALL, &config(), hurry("worker"));
    let (running, prepared) = ready(&deployer).await;
    let silent = Reporter::silent();
    let someone = async {
        while !updates(&simulator).iter().any(|update| update.starts_with("worker")) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let other = "arn:aws:ecs:eu-west-1:123456789012:task-definition/shop-web:99";
        simulator.world().service_mut("web").begin(other, None, None);
    };
    let (ended, ()) = tokio::join!(deployer.apply(&prepared, &running, &silent), someone);
    let error = ended.unwrap_err();
    assert_eq!(error.kind(), Kind::TimedOut, "{}", told(&error));
    assert!(error.what().contains("it went from shop-web:42 to shop-web:99 meanwhile"), "{error}");
    assert_eq!(updates(&simulator), ["web shop-web:42", "worker shop-worker:12"]);
}

#[tokio::test]
async fn a_way_back_whose_end_is_not_seen_is_told_as_unknown() {
    let simulator = simulator().await;
    simulator.world().service_mut("worker").fate = Fate::Failing;
    let deployer = deployer_with(&simulator, &ALL, &config(), hurry("web"));
    let (running, prepared) = ready(&deployer).await;
    let silent = Reporter::silent();
    // Once it runs the release, web's old revision finds no place any more.
    let no_place = async {
        while !updates(&simulator).iter().any(|update| update.starts_with("worker")) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let mut world = simulator.world();
        let web = world.service_mut("web");
        web.forget_good();
        web.fate = Fate::NeverPlaced;
    };
    let (ended, ()) = tokio::join!(deployer.apply(&prepared, &running, &silent), no_place);
    let error = ended.unwrap_err();
    assert_eq!(error.kind(), Kind::TimedOut, "{}", told(&error));
    assert!(error.what().contains("service shop/web is not back on revision shop-web:41"), "{error}");
}

#[tokio::test]
async fn one_that_cannot_be_made_ready_takes_the_others_revisions_along() {
    let simulator = simulator().await;
    simulator.fault_after("RegisterTaskDefinition", 2, Fault::Deny);
    let deployer = deployer(&simulator, &ALL);
    let running = deployer.observe(&["web".into()], &[migrate()]).await.unwrap();
    let release = release(&[("web", new_web())]);
    let error = deployer.prepare(&release, &running, &Reporter::silent()).await.unwrap_err();
    assert_eq!(error.what(), "shop/beat could not be made ready; no service was switched");
    assert_eq!(
        error.help_text(),
        Some("allow the action ecs:RegisterTaskDefinition in the policy of this user or role")
    );
    assert_eq!(discarded(&simulator), ["shop-worker:12", "shop-web:42"]);
    assert_eq!(updates(&simulator), [] as [String; 0]);
}

#[tokio::test]
async fn a_deployment_of_the_last_one_by_someone_else_since_the_plan_stops_all() {
    let simulator = simulator().await;
    let deployer = deployer(&simulator, &ALL);
    let (running, prepared) = ready(&deployer).await;
    let other = simulator.world().service_mut("beat").primary().revision.replace(":7", ":6");
    let definition = simulator.world().definitions.values().next().unwrap().clone();
    simulator.world().definitions.insert(other.clone(), definition);
    simulator.world().service_mut("beat").begin(&other, None, None);
    simulator.world().service_mut("beat").deployments[0].rollout = "COMPLETED";
    let error = deployer.apply(&prepared, &running, &Reporter::silent()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Failed);
    assert!(
        told(&error).contains("shop/beat went from revision shop-beat:7 to revision shop-beat:6"),
        "{error:?}"
    );
    assert_eq!(updates(&simulator), [] as [String; 0]);
    assert_eq!(discarded(&simulator), ["shop-beat:8", "shop-worker:12", "shop-web:42"]);
}
