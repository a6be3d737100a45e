//! The steps of a release by themselves, and what stands beside it: push, deploy, run, doctor.

use std::process::Command;

use axum::http::StatusCode;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::json;

use super::reference;
use crate::support::ecs_simulator::Script;
use crate::support::fault_proxy::{Fault, FaultProxy};
use crate::support::production::{Production, password};
use crate::support::tiny::Tiny;

/// Where no daemon is.
const NOWHERE: &str = "unix:///nowhere/docker.sock";

#[test]
fn what_was_pushed_is_deployed_by_digest_without_a_daemon() {
    let production = Production::with("once = []");
    let push = || reference(&production.run(&["push"]).ok().result()["release"]);
    let first = push();
    assert!(production.is_built());
    assert_eq!(production.changes(), [] as [String; 0], "push deploys nothing");

    let without_daemon = production.program().with("DOCKER_HOST", NOWHERE);
    let deploy = |more: &[&str]| without_daemon.run(&[&["deploy", "-e", "production"], more].concat());
    let plan = deploy(&["--dry-run"]).ok().stdout;
    assert_eq!(plan, format!("web={first}\n"));
    assert_eq!(production.changes(), [] as [String; 0], "a dry run changes nothing");
    deploy(&[]).ok();
    assert_eq!(production.ecs.revision(), "shop:42");
    deploy(&[]).ok();
    assert_eq!(
        production.changes(),
        ["RegisterTaskDefinition", "UpdateService"],
        "the second changes nothing"
    );

    production.put_secret("another-canary");
    let second = push();
    assert_ne!(second, first);
    deploy(&["--image", &format!("web={first}")]).ok();
    assert_eq!(production.ecs.revision(), "shop:42", "it is named, and runs already");
    deploy(&["--image", &format!("web={second}")]).ok();
    assert_eq!(production.ecs.revision(), "shop:43");
    let registered = production.ecs.requests("RegisterTaskDefinition").pop().unwrap();
    assert_eq!(registered["containerDefinitions"][0]["image"], second);

    let (repository, _) = second.split_once('@').unwrap();
    deploy(&["--image", &format!("web={repository}:1")]).failed(2, "is no digest");
    let nobody = format!("web={repository}@sha256:{}", "0".repeat(64));
    deploy(&["--image", &nobody]).failed(6, "there is no image");

    // A commit that was not pushed.
    production.tiny.write("www/index.html", "changed\n");
    production.tiny.commit();
    deploy(&[]).failed(6, "push it first with `imgforge push`");
    assert_eq!(production.ecs.revision(), "shop:43");
}

#[test]
fn other_tools_take_what_was_pushed_and_its_container_has_the_secret_file() {
    let production = Production::new();
    let reference = reference(&production.run(&["push"]).ok().result()["release"]);
    let seen = production.skopeo(&[], &reference);
    assert_eq!(seen["Os"], "linux");

    let auth = BASE64_STANDARD.encode(format!("AWS:{}", password()));
    let login = json!({"auths": {&production.registry.host: {"auth": auth}}});
    std::fs::write(production.home.path().join("config.json"), login.to_string()).unwrap();
    let docker = |arguments: &[&str]| {
        let home = production.home.path();
        let done = Command::new("docker").arg("--config").arg(home).args(arguments).output().unwrap();
        assert!(done.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).unwrap()
    };
    docker(&["pull", "--quiet", &reference]);
    let file = "/www/private/server_settings.py";
    let stat = docker(&["run", "--rm", &reference, "stat", "-c", "%u:%g %a", file]);
    assert_eq!(stat, "1000:1000 400\n");
    let text = docker(&["run", "--rm", &reference, "cat", file]);
    assert_eq!(text, format!("SECRET_KEY = \"{}\"\n", production.canary));
    let config = docker(&["inspect", &reference]) + &docker(&["history", "--no-trunc", &reference]);
    assert!(!config.contains(&production.canary));
}

#[test]
fn run_gives_the_containers_own_output_and_code() {
    let production = Production::new();
    production.ecs.world().tasks.script = Script::Exits(7, &["one", "two"]);
    let ended = production.program().run(&["run", "-e", "production", "web", "--", "sh", "-c", "exit 7"]);
    assert_eq!((ended.code, ended.stdout.as_str()), (7, "one\ntwo\n"), "{}", ended.stderr);
    assert_eq!(production.changes(), ["RunTask"]);
    let task = &production.ecs.requests("RunTask")[0];
    assert!(task["taskDefinition"].as_str().unwrap().ends_with("shop:41"), "{task}");
    let unknown = production.program().run(&["run", "-e", "production", "wbe", "--", "true"]);
    unknown.failed(6, "did you mean \"web\"?");
}

#[test]
fn doctor_finds_everything_in_order_or_names_what_is_not() {
    let production = Production::new();
    let arguments = ["doctor", "-e", "production"];
    // moto gives this document another root element than S3 does (Amazon S3 API reference, GetBucketVersioning).
    let proxy = production.wait(FaultProxy::before(production.moto.url.trim_start_matches("http://")));
    let enabled = "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>".to_owned();
    let enabled = Fault::Answer(StatusCode::OK, vec![("content-type", "application/xml".into())], enabled);
    proxy.spoil(usize::MAX, |seen| seen.query.starts_with("versioning"), enabled);
    let program = production.program().with("AWS_ENDPOINT_URL_S3", format!("http://{}", proxy.host));
    let ended = program.run(&arguments).ok();
    assert!(!ended.stdout.contains("FAIL") && !ended.stdout.contains("warn"), "{}", ended.stdout);
    for words in ["arn:aws:", "s3://shop-secrets", "server_settings", "-web", "ecs service shop/web, runs"] {
        assert!(ended.stdout.contains(words), "{words} is not in\n{}", ended.stdout);
    }
    assert!(!ended.stdout.contains(&production.canary));
    assert_eq!((production.registry.blobs(), production.changes()), (Vec::new(), Vec::new()));

    let failing = |name: &str, value: &str, check: &str, words: &str| {
        let ended = program.clone().with(name, value).run(&arguments).failed(6, words);
        let line = |line: &&str| line.starts_with("FAIL") && line.contains(check);
        assert!(ended.stdout.lines().any(|at| line(&at)), "{check} does not fail in\n{}", ended.stdout);
    };
    failing("BUCKET_NAME", "nowhere", "secrets", "there is no bucket nowhere");
    failing("DOCKER_HOST", NOWHERE, "daemon", "/nowhere/docker.sock");
    production.ecs.world().service.name = "web2";
    failing("DOCKER_HOST", "", "service", "does not exist");
}

#[test]
fn a_build_asks_for_no_account_anywhere() {
    let live = "\n[env.live]\nsecrets.store = \"s3://nobody\"\nregistry.repository = \"ecr:shop-{image}\"\n\
                deploy = { target = \"ecs\", cluster = \"shop\", service = \"web\" }\n";
    let tiny = Tiny::new(live);
    let nowhere = tiny.program().with("AWS_EC2_METADATA_DISABLED", "true");
    nowhere.run(&["build", "-e", "live"]).ok();
    let refused = nowhere.run(&["push", "-e", "live"]);
    assert_ne!(refused.code, 0, "{refused:?}");
}
