//! A site whose workers are services of their own: one release, one image, three services.

use serde_json::Value;

use super::reference;
use crate::support::ecs_simulator::Fate;
use crate::support::production::Production;

/// The revision that each service is at.
fn revisions(production: &Production) -> [String; 3] {
    let ecs = &production.ecs;
    [ecs.revision(), ecs.revision_of("worker"), ecs.revision_of("clock")]
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

#[test]
fn one_release_switches_each_service_in_order_and_runs_once_tasks_once() {
    let production = Production::with_workers("");
    let plan = production.program().run(&["plan", "-e", "production"]).ok();
    assert!(plan.stdout.contains("shop/web, shop/worker, shop/clock"), "{}", plan.stdout);
    assert!(plan.stdout.contains("worker: revision worker:7"), "{}", plan.stdout);

    let release = production.release();
    assert_eq!(revisions(&production), ["shop:42", "worker:8", "clock:8"]);
    assert_eq!(switched(&production), ["web", "worker", "clock"]);
    assert_eq!(production.ecs.requests("RunTask").len(), 1);
    for (revision, container) in [("shop:42", "web"), ("worker:8", "worker"), ("clock:8", "clock")] {
        assert_eq!(image(&production, revision, container), reference(&release), "{revision}");
    }
    let description = "web: revision shop:42, worker: revision worker:8, clock: revision clock:8";
    assert_eq!(release["deployed"]["description"], description);

    let changes = production.changes();
    let again = production.release();
    assert_eq!(production.changes(), changes, "ECS was left alone");
    assert_eq!(again["deployed"]["description"], description);

    // A new secret reaches all of them.
    production.put_secret("another-canary");
    production.run(&["rotate"]).ok();
    assert_eq!(revisions(&production), ["shop:43", "worker:9", "clock:9"]);
    assert_eq!(image(&production, "clock:9", "clock"), image(&production, "shop:43", "web"));
    assert_eq!(production.ecs.requests("RunTask").len(), 1, "once-tasks belong to the code");
}

#[test]
fn a_service_that_fails_takes_those_before_it_back_and_leaves_those_after_it() {
    let production = Production::with_workers("once = []");
    production.ecs.world().others.get_mut("worker").unwrap().fate = Fate::Failing;
    let ended = production.run(&["release"]).failed(3, "before it switched and back as before: shop/web");
    let error: Value = ended.json().into_iter().find(|line| line["event"] == "error").unwrap();
    assert_eq!(error["kind"], "rolled-back");
    assert_eq!(revisions(&production), ["shop:41", "worker:7", "clock:7"]);
    assert_eq!(switched(&production), ["web", "worker", "web"]);
    // Mended, the same command goes on from there.
    production.ecs.world().others.get_mut("worker").unwrap().fate = Fate::Healthy;
    production.release();
    assert_eq!(production.ecs.revision_of("clock"), "clock:9");
}

#[test]
fn when_it_is_unknown_how_one_ends_nothing_is_taken_back() {
    let production = Production::with_workers("once = []\ntimeout = \"1s\"");
    production.ecs.world().others.get_mut("worker").unwrap().fate = Fate::NeverPlaced;
    let ended =
        production.run(&["release"]).failed(4, "switched before, and left so: shop/web at revision shop:42");
    assert!(ended.stdout.contains("was not through after 1s"), "{}", ended.stdout);
    assert_eq!(switched(&production), ["web", "worker"]);
    assert_eq!(revisions(&production), ["shop:42", "worker:8", "clock:7"]);
}

#[test]
fn what_no_service_has_is_refused_before_anything_is_built() {
    let once = r#"once = [{ name = "migrate", container = "wbe", command = ["true"] }]"#;
    let production = Production::with_workers(once);
    production.run(&["release"]).failed(6, "none of shop/web, shop/worker, shop/clock has it");
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
