//! A site whose workers are services of their own: one release, one image, three services.

use serde_json::{Value, json};

use super::reference;
use crate::support::ecs_simulator::Fate;
use crate::support::production::Production;

/// The revision that each service is at.
fn revisions(production: &Production) -> [String; 3] {
    ["web", "worker", "clock"].map(|service| production.ecs.revision_of(service))
}

/// The image that a container of a revision runs.
fn image(production: &Production, revision: &str, container: &str) -> String {
    let world = production.ecs.world();
    let mut definitions = world.definitions.iter();
    let (_, definition) = definitions.find(|(arn, _)| arn.ends_with(&format!("/{revision}"))).unwrap();
    let containers = definition["taskDefinition"]["containerDefinitions"].as_array().unwrap();
    let found = containers.iter().find(|at| at["name"] == container).unwrap();
    found["image"].as_str().unwrap().to_owned()
}

fn switched(production: &Production) -> Vec<String> {
    let updates = production.ecs.requests("UpdateService");
    updates.iter().map(|input| input["service"].as_str().unwrap().to_owned()).collect()
}

fn fate(production: &Production, service: &str, fate: Fate) {
    production.ecs.world().service_mut(service).fate = fate;
}

#[test]
fn one_release_switches_each_service_in_order_and_runs_once_tasks_once() {
    let production = Production::with_workers("");
    let plan = production.program().run(&["plan", "-e", "production"]).ok().stdout;
    let deploy: Vec<&str> = plan.lines().filter(|line| line.starts_with("  deploy")).collect();
    assert_eq!(
        deploy,
        [
            "  deploy ecs service shop/web (runs now: revision shop:41)",
            "  deploy ecs service shop/worker (runs now: revision worker:7)",
            "  deploy ecs service shop/clock (runs now: revision clock:7)",
        ]
    );
    let plan = production.run(&["plan"]).ok().result()["plan"]["deploy"].clone();
    assert_eq!(plan["target"], "ecs services shop/web, shop/worker, shop/clock");
    assert_eq!(
        plan["services"][2],
        json!({"target": "ecs service shop/clock", "running": "revision clock:7"})
    );

    let release = production.release();
    assert_eq!(revisions(&production), ["shop:42", "worker:8", "clock:8"]);
    assert_eq!(switched(&production), ["web", "worker", "clock"]);
    let changes = production.changes();
    let at = |action: &str| changes.iter().position(|at| at == action).unwrap();
    assert_eq!(changes[..3], ["RegisterTaskDefinition"; 3], "all are ready before anything runs");
    assert!(at("RunTask") < at("UpdateService"));
    assert_eq!(production.ecs.requests("RunTask").len(), 1);
    for (revision, container) in [("shop:42", "web"), ("worker:8", "worker"), ("clock:8", "clock")] {
        assert_eq!(image(&production, revision, container), reference(&release), "{revision}");
    }
    let description = "web: revision shop:42, worker: revision worker:8, clock: revision clock:8";
    let services = json!([
        {"target": "ecs service shop/web", "description": "revision shop:42"},
        {"target": "ecs service shop/worker", "description": "revision worker:8"},
        {"target": "ecs service shop/clock", "description": "revision clock:8"},
    ]);
    assert_eq!(release["deployed"], json!({"description": description, "services": services}));

    let again = production.release();
    assert_eq!(production.changes(), changes, "ECS was left alone");
    assert_eq!(again["deployed"], release["deployed"]);

    // A new secret reaches all of them.
    production.put_secret("another-canary");
    let plan = production.program().run(&["rotate", "-e", "production", "--dry-run"]).ok().stdout;
    assert!(plan.contains("  deploy ecs service shop/clock (runs now: revision clock:8)\n"), "{plan}");
    production.run(&["rotate"]).ok();
    assert_eq!(revisions(&production), ["shop:43", "worker:9", "clock:9"]);
    assert_ne!(image(&production, "shop:43", "web"), reference(&release));
    for (revision, container) in [("worker:9", "worker"), ("clock:9", "clock")] {
        assert_eq!(image(&production, revision, container), image(&production, "shop:43", "web"));
    }
    assert_eq!(production.ecs.requests("RunTask").len(), 1, "once-tasks belong to the code");
}

#[test]
fn a_service_that_fails_takes_those_before_it_back_and_leaves_those_after_it() {
    let production = Production::with_workers("once = []");
    fate(&production, "worker", Fate::Failing);
    let ended = production.run(&["release"]).failed(3, "shop/web is back on revision shop:41");
    let error: Value = ended.json().into_iter().find(|line| line["event"] == "error").unwrap();
    assert_eq!(error["kind"], "rolled-back");
    assert!(error["because"].to_string().contains("container worker ended with exit code 1"), "{error}");
    assert!(error["state"].as_str().unwrap().contains("was not touched"), "{error}");
    assert_eq!(revisions(&production), ["shop:41", "worker:7", "clock:7"]);
    assert_eq!(switched(&production), ["web", "worker", "web"]);
    // Mended, the same command goes on from there.
    fate(&production, "worker", Fate::Healthy);
    production.release();
    assert_eq!(revisions(&production), ["shop:43", "worker:9", "clock:9"]);
}

#[test]
fn one_whose_end_is_unknown_is_left_alone_and_those_before_it_are_taken_back() {
    let production = Production::with_workers("once = []\ntimeout = \"3s\"");
    fate(&production, "worker", Fate::NeverPlaced);
    let ended = production.run(&["release"]).failed(4, "whether shop/worker runs the release is unknown");
    for words in
        ["was not through after 3s", "shop/web is back on revision shop:41", "shop/clock was not switched"]
    {
        assert!(ended.stdout.contains(words), "{words} is not in\n{}", ended.stdout);
    }
    assert!(ended.stdout.contains("--service worker --task-definition worker:7"), "{}", ended.stdout);
    assert_eq!(switched(&production), ["web", "worker", "web"]);
    assert_eq!(revisions(&production), ["shop:41", "worker:8", "clock:7"]);
}

#[test]
fn what_no_service_has_is_refused_before_anything_is_built() {
    let once = r#"once = [{ name = "migrate", container = "wbe", command = ["true"] }]"#;
    let production = Production::with_workers(once);
    production.run(&["release"]).failed(6, "which none of shop/web, shop/worker, shop/clock has");
    assert!(!production.is_built());
    assert_eq!(production.changes(), [] as [String; 0]);
    // Any service's container is good for a once-task, too.
    let once = r#"once = [{ name = "migrate", container = "clock", command = ["true"] }]"#;
    let production = Production::with_workers(once);
    production.release();
    assert!(production.ecs.requests("RunTask")[0]["taskDefinition"].as_str().unwrap().ends_with("clock:8"));
}

#[test]
fn a_service_that_is_not_there_is_refused_by_name() {
    let production = Production::with("service = [\"web\", \"wroker\"]");
    production.run(&["release"]).failed(6, "service \\\"wroker\\\" does not exist");
}

#[test]
fn run_finds_the_service_by_its_container_and_doctor_tells_each() {
    let production = Production::with_workers("");
    let run =
        |container: &str| production.program().run(&["run", "-e", "production", container, "--", "true"]);
    run("clock").ok();
    run("wokrer").failed(6, "did you mean \"worker\"?");
    let [ran] = &production.ecs.requests("RunTask")[..] else { panic!("one is wanted") };
    assert!(ran["taskDefinition"].as_str().unwrap().ends_with("clock:7"), "{ran}");
    assert_eq!(production.changes(), ["RunTask"]);

    let doctor = production.program().run(&["doctor", "-e", "production"]).stdout;
    for found in ["shop/web, runs revision shop:41", "shop/clock, runs revision clock:7"] {
        assert!(doctor.contains(&format!("ecs service {found}")), "{doctor}");
    }
}
