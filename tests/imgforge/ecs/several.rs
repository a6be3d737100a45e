//! Several services that get one release together, as far as it goes well.

use std::time::Duration;

use imgforge::config::OnceConfig;
use imgforge::deploy::ecs::{EcsDeployer, together};
use imgforge::deploy::several::Several;
use imgforge::deploy::{Deployer, Prepared, Running, TaskExit};
use imgforge::error::{Error, Kind};
use imgforge::progress::Reporter;
use serde_json::{Value, json};

use super::{EcsConfig, Recorder, config, migrate, new_web, pinned, release, repository, told};
use crate::support::ecs_simulator::{EcsSimulator, Fault, apart};

pub(super) const ALL: [&str; 3] = ["web", "worker", "beat"];

/// `web` at `shop-web:41`, `worker` at `shop-worker:11`, `beat` at `shop-beat:7`.
pub(super) async fn simulator() -> EcsSimulator {
    EcsSimulator::start_several(apart(&shop())).await
}

fn shop() -> Value {
    serde_json::from_str(include_str!("../../../fixtures/taskdef/shop.json")).unwrap()
}

pub(super) fn deployer(simulator: &EcsSimulator, services: &[&str]) -> Several<EcsDeployer> {
    deployer_with(simulator, services, &config(), |_| None)
}

/// `hurried` may give a service less time than the others.
pub(super) fn deployer_with(
    simulator: &EcsSimulator,
    services: &[&str],
    config: &EcsConfig,
    hurried: impl Fn(&str) -> Option<Duration>,
) -> Several<EcsDeployer> {
    let deployers = services.iter().map(|service| {
        let timeout = hurried(service).unwrap_or(config.timeout);
        let config = EcsConfig { service: (*service).into(), timeout, ..config.clone() };
        EcsDeployer::new(&simulator.sdk_config(), config).unwrap()
    });
    together(deployers.collect(), config.repositories.clone())
}

/// Observed and prepared with a new image for web.
pub(super) async fn ready(deployer: &Several<EcsDeployer>) -> (Running, Prepared) {
    let running = deployer.observe(&["web".into()], &[migrate()]).await.unwrap();
    let release = release(&[("web", new_web())]);
    let prepared = deployer.prepare(&release, &running, &Reporter::silent()).await.unwrap();
    (running, prepared)
}

pub(super) fn revisions(simulator: &EcsSimulator) -> [String; 3] {
    ALL.map(|service| simulator.revision_of(service))
}

/// The service and the revision of each UpdateService.
pub(super) fn updates(simulator: &EcsSimulator) -> Vec<String> {
    let updates = simulator.requests("UpdateService").into_iter().map(|input| {
        let revision = input["taskDefinition"].as_str().unwrap().rsplit('/').next().unwrap();
        format!("{} {revision}", input["service"].as_str().unwrap())
    });
    updates.collect()
}

/// The image of the only container that a service's next revision is to have.
fn set_image(simulator: &EcsSimulator, service: &str, image: &str) {
    let mut world = simulator.world();
    let live = world.service_mut(service).primary().revision.clone();
    world.definitions.get_mut(&live).unwrap()["taskDefinition"]["containerDefinitions"][0]["image"] =
        json!(image);
}

#[tokio::test]
async fn what_each_runs_is_told_in_the_order_of_the_list() {
    let simulator = simulator().await;
    let deployer = deployer(&simulator, &["worker", "web", "beat"]);
    assert_eq!(deployer.describe(), "ecs services shop/worker, shop/web, shop/beat");
    let running = deployer.observe(&["web".into()], &[migrate()]).await.unwrap();
    assert_eq!(
        running.description,
        "worker: revision shop-worker:11, web: revision shop-web:41, beat: revision shop-beat:7"
    );
    let services: Vec<(&str, &str)> =
        running.services.iter().map(|at| (at.target.as_str(), at.description.as_str())).collect();
    assert_eq!(
        services,
        [
            ("ecs service shop/worker", "revision shop-worker:11"),
            ("ecs service shop/web", "revision shop-web:41"),
            ("ecs service shop/beat", "revision shop-beat:7"),
        ]
    );
    let containers: Vec<&str> = running.containers.keys().map(String::as_str).collect();
    assert_eq!(containers, ["beat/beat", "web/nginx", "web/web", "worker/worker"]);
}

#[tokio::test]
async fn which_image_runs_is_known_when_all_services_agree() {
    let simulator = simulator().await;
    let deployer = deployer(&simulator, &ALL);
    let images = async || deployer.observe(&["web".into()], &[]).await.unwrap().images;
    // The fixture's beat is older.
    assert_eq!(images().await.get("web"), None);
    let same = pinned("shop-web", &format!("sha256:{}", "a".repeat(64)));
    set_image(&simulator, "beat", &same.to_string());
    assert_eq!(images().await.get("web"), Some(&same));
}

#[tokio::test]
async fn all_get_a_revision_before_any_is_switched_and_each_is_followed_to_its_end() {
    for order in [ALL, ["beat", "worker", "web"]] {
        let simulator = simulator().await;
        let deployer = deployer(&simulator, &order);
        let (running, prepared) = ready(&deployer).await;
        assert!(!prepared.unchanged);
        assert_eq!(simulator.requests("RegisterTaskDefinition").len(), 3);
        assert_eq!(updates(&simulator), [] as [String; 0]);

        let (recorder, reporter) = Recorder::pair();
        let deployed = deployer.apply(&prepared, &running, &reporter).await.unwrap();
        assert_eq!(revisions(&simulator), ["shop-web:42", "shop-worker:12", "shop-beat:8"]);
        let next = |service: &&str| format!("{service} {}", simulator.revision_of(service));
        assert_eq!(updates(&simulator), order.each_ref().map(next), "in the order of the list");
        let each = order.map(|service| format!("revision {}", simulator.revision_of(service)));
        let told: Vec<&str> = deployed.services.iter().map(|at| at.description.as_str()).collect();
        assert_eq!(told, each);
        for (service, revision) in order.iter().zip(&each) {
            let words = format!("{service}: {revision}");
            assert!(deployed.description.contains(&words), "{}", deployed.description);
            let steady = format!("(service {service}) has reached a steady state.");
            assert_eq!(recorder.lines(&format!("shop/{service}")), [steady]);
        }
        // Between two UpdateServices the first deployment came to its end.
        let world = simulator.world();
        let actions: Vec<&str> = world.requests.iter().map(|(action, _)| action.as_str()).collect();
        let at: Vec<usize> = (0..actions.len()).filter(|at| actions[*at] == "UpdateService").collect();
        for pair in at.windows(2) {
            assert!(actions[pair[0]..pair[1]].contains(&"DescribeServiceDeployments"), "{actions:?}");
        }
    }
}

#[tokio::test]
async fn every_revision_has_the_new_image_in_its_own_containers() {
    let simulator = simulator().await;
    ready(&deployer(&simulator, &ALL)).await;
    let registered = simulator.requests("RegisterTaskDefinition");
    let containers = registered.iter().flat_map(|at| at["containerDefinitions"].as_array().unwrap());
    let containers: Vec<(&str, bool)> =
        containers.map(|at| (at["name"].as_str().unwrap(), at["image"] == new_web().to_string())).collect();
    assert_eq!(containers, [("web", true), ("nginx", false), ("worker", true), ("beat", true)]);
}

#[tokio::test]
async fn only_what_is_not_up_to_date_is_switched_and_nothing_when_all_are() {
    let simulator = simulator().await;
    set_image(&simulator, "worker", &new_web().to_string());
    let deployer = deployer(&simulator, &ALL);
    let (running, prepared) = ready(&deployer).await;
    assert!(!prepared.unchanged);
    let deployed = deployer.apply(&prepared, &running, &Reporter::silent()).await.unwrap();
    assert_eq!(updates(&simulator), ["web shop-web:42", "beat shop-beat:8"]);
    assert!(deployed.description.contains("worker: revision shop-worker:11"), "{}", deployed.description);

    let before = simulator.requests("RegisterTaskDefinition").len();
    let (running, prepared) = ready(&deployer).await;
    assert!(prepared.unchanged);
    deployer.apply(&prepared, &running, &Reporter::silent()).await.unwrap();
    deployer.discard(&prepared).await.unwrap();
    assert_eq!(simulator.requests("RegisterTaskDefinition").len(), before);
    assert_eq!(updates(&simulator).len(), 2);
    assert!(simulator.requests("DeregisterTaskDefinition").is_empty());
}

#[tokio::test]
async fn a_once_task_runs_with_the_first_service_that_has_its_container() {
    let simulator = simulator().await;
    let deployer = deployer(&simulator, &ALL);
    let (running, prepared) = ready(&deployer).await;
    let flush = OnceConfig { name: "flush".into(), container: "worker".into(), ..migrate() };
    let silent = Reporter::silent();
    for task in [migrate(), flush.clone()] {
        assert_eq!(deployer.run_once(&prepared, &task, &silent).await.unwrap(), TaskExit { code: 0 });
    }
    // As `imgforge run` does it: with what runs now.
    let current = deployer.current(&running).await.unwrap();
    deployer.run_once(&current, &flush, &silent).await.unwrap();
    let ran = |at: &Value| {
        let revision = at["taskDefinition"].as_str().unwrap().rsplit('/').next().unwrap();
        format!("{revision} {}", at["group"].as_str().unwrap())
    };
    let ran: Vec<String> = simulator.requests("RunTask").iter().map(ran).collect();
    assert_eq!(
        ran,
        [
            "shop-web:42 imgforge:web:migrate",
            "shop-worker:12 imgforge:worker:flush",
            "shop-worker:11 imgforge:worker:flush",
        ]
    );
}

#[tokio::test]
async fn of_two_services_with_the_container_the_one_named_first_runs_the_once_task() {
    let mut services = apart(&shop());
    services[1].1["taskDefinition"]["containerDefinitions"][0]["name"] = json!("web");
    let simulator = EcsSimulator::start_several(services).await;
    for (order, revision) in [(["web", "worker"], "shop-web:42"), (["worker", "web"], "shop-worker:13")] {
        let deployer = deployer(&simulator, &order);
        let (_, prepared) = ready(&deployer).await;
        deployer.run_once(&prepared, &migrate(), &Reporter::silent()).await.unwrap();
        let ran = simulator.requests("RunTask").pop().unwrap();
        assert!(ran["taskDefinition"].as_str().unwrap().ends_with(revision), "{ran}");
    }
}

#[tokio::test]
async fn throttled_registrations_are_tried_again() {
    let simulator = simulator().await;
    simulator.fault("RegisterTaskDefinition", Fault::Throttle, 4);
    let (_, prepared) = ready(&deployer(&simulator, &ALL)).await;
    assert!(prepared.description.contains("beat: revision shop-beat:8"), "{}", prepared.description);
    assert_eq!(simulator.requests("RegisterTaskDefinition").len(), 7);
}

async fn refused(simulator: &EcsSimulator, services: &[&str], image: &str, once: &[OnceConfig]) -> Error {
    let mut config = config();
    config.repositories.insert("engine".into(), repository("shop-engine"));
    let deployer = deployer_with(simulator, services, &config, |_| None);
    let error = deployer.observe(&[image.into()], once).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Refused, "{}", told(&error));
    error
}

#[tokio::test]
async fn an_image_or_a_once_task_for_no_service_is_refused_with_the_nearest_container() {
    let simulator = simulator().await;
    let error = refused(&simulator, &ALL, "engine", &[]).await;
    assert!(error.what().contains("no container of shop/web, shop/worker, shop/beat"), "{error}");
    assert!(error.what().contains("shop-engine"), "{error}");

    let once = OnceConfig { container: "beet".into(), ..migrate() };
    let error = refused(&simulator, &ALL, "web", &[once]).await;
    assert!(error.what().contains("\"migrate\"") && error.what().contains("\"beet\""), "{error}");
    assert_eq!(
        error.help_text(),
        Some("shop/web has nginx, web; shop/worker has worker; shop/beat has beat; did you mean \"beat\"?")
    );
}

#[tokio::test]
async fn a_service_that_runs_no_image_of_the_project_or_is_not_there_is_refused() {
    let simulator = simulator().await;
    let error = refused(&simulator, &["web", "beet"], "web", &[]).await;
    assert_eq!(error.help_text(), Some("did you mean \"beat\"?"), "{}", told(&error));

    set_image(&simulator, "worker", "docker.io/someone/celery:5");
    let error = refused(&simulator, &ALL, "web", &[]).await;
    assert!(error.what().contains("no container of shop/worker"), "{error}");
    assert!(
        error.help_text().unwrap().contains("worker runs docker.io/someone/celery:5"),
        "{}",
        told(&error)
    );
}
