//! Rotating what a service runs: ECS and Compose.

use serde_json::json;

use super::NOWHERE;
use crate::support::production::Production;
use crate::support::program::Program;
use crate::support::tiny::Tiny;

#[test]
fn what_the_ecs_service_runs_gets_the_new_secret_by_one_switch_without_a_daemon_or_a_once_task() {
    let production = Production::new();
    let first = production.release();
    let before = production.changes().len();
    let old = first["images"][0]["secrets"]["server_settings"].as_str().unwrap().to_owned();
    production.put_secret("another-canary");
    let without_daemon = production.program().with("DOCKER_HOST", NOWHERE);
    let rotate = |arguments: &[&str]| {
        without_daemon.run(&[&["rotate", "-e", "production", "--output", "json"], arguments].concat())
    };
    let plan = rotate(&["--dry-run"]).ok().result()["rotate_plan"].clone();
    assert_eq!(production.changes().len(), before, "a dry run changes nothing");
    assert_eq!(plan["deploy"]["running"], "revision shop:42");

    let rotated = rotate(&[]).ok().result()["rotate"].clone();
    let to = rotated["images"][0]["to"].as_str().unwrap();
    assert_eq!(rotated["images"][0]["from"], first["images"][0]["reference"]);
    assert!(to.ends_with(plan["images"][0]["to"].as_str().unwrap()));
    assert_eq!(production.changes()[before..], ["RegisterTaskDefinition", "UpdateService"]);
    assert_eq!(production.ecs.revision(), "shop:43");
    let registered = production.ecs.requests("RegisterTaskDefinition").pop().unwrap();
    assert_eq!(registered["containerDefinitions"][0]["image"], to);
    let seam = production.layers(to).last().unwrap().clone();
    assert_eq!(production.blobs_with("another-canary"), [seam]);

    // Nothing changed since.
    let again = rotate(&[]).ok().result()["rotate"].clone();
    assert_eq!((&again["images"][0]["unchanged"], &again["deployed"]), (&json!(true), &json!(null)));
    assert_eq!(production.ecs.revision(), "shop:43");

    // Going back to the earlier version is a rotation, too, and gives the image that was.
    let back = rotate(&["--secret", &format!("server_settings={old}")]).ok().result()["rotate"].clone();
    assert_eq!(back["images"][0]["to"], first["images"][0]["reference"]);
    assert_eq!(production.ecs.revision(), "shop:44");
}

#[test]
fn a_service_that_runs_something_else_says_what_to_name() {
    let production = Production::new();
    production.put_secret("another-canary");
    let program = production.program().with("DOCKER_HOST", NOWHERE);
    let ended = program.run(&["rotate", "-e", "production"]);
    ended.failed(6, "it is not known which image \"web\" of revision shop:41 is");
    assert_eq!(production.changes(), [] as [String; 0]);
}

#[test]
fn what_compose_runs_gets_the_new_secret_and_everything_else_goes_on() {
    let tiny = Tiny::new("");
    tiny.program().run(&["rotate"]).failed(6, "it is not known which image \"web\"");
    let release = tiny.program().run(&["release", "--output", "json"]).ok().result()["release"].clone();
    assert!(tiny.fetch("private/server_settings.py").contains(&tiny.canary));
    tiny.write("secrets/server_settings.py", "SECRET_KEY = \"another-secret\"\n");
    let ended = tiny.program().run(&["rotate", "--output", "json"]).ok();
    let rotated = &ended.result()["rotate"]["images"][0];
    assert_eq!(rotated["from"], release["images"][0]["reference"]);
    assert!(tiny.fetch("private/server_settings.py").contains("another-secret"));
    assert!(!ended.stdout.contains("migrated"), "the code did not change");
    // The next rotation starts from there.
    let again = tiny.program().run(&["rotate", "--output", "json"]).ok();
    assert_eq!(again.result()["rotate"]["images"][0]["to"], rotated["to"]);
}

#[test]
fn every_project_below_a_folder_is_rotated_and_one_that_fails_does_not_hold_up_the_others() {
    let root = tempfile::tempdir().unwrap();
    let sites: Vec<Tiny> = (0..3).map(|_| Tiny::new("")).collect();
    for (number, site) in sites.iter().enumerate() {
        site.program().run(&["release"]).ok();
        site.write("secrets/server_settings.py", &format!("SECRET_KEY = \"new-{number}\"\n"));
    }
    // Moved together, as somebody's folder of sites has them.
    std::fs::write(sites[1].path().join("secrets/server_settings.py"), "not python (\n").unwrap();
    let moved: Vec<_> = sites
        .iter()
        .enumerate()
        .map(|(number, site)| {
            let to = root.path().join(format!("site-{number}"));
            std::fs::rename(site.path(), &to).unwrap();
            to
        })
        .collect();
    let root_path = root.path().to_str().unwrap();
    let ended = Program::new(root.path()).run(&["-C", root_path, "rotate", "--all", "--output", "json"]);
    for (site, moved) in sites.iter().zip(&moved) {
        std::fs::rename(moved, site.path()).unwrap();
    }
    ended.failed(6, "1 of 3 projects were not rotated");
    for number in [0, 2] {
        assert!(sites[number].fetch("private/server_settings.py").contains(&format!("new-{number}")));
    }
    assert!(sites[1].fetch("private/server_settings.py").contains(&sites[1].canary));
}
