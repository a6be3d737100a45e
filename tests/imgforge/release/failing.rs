//! Releases that do not go well: the exit code, what was done, and that the service is as it was.

use axum::http::StatusCode;

use crate::support::ecs_simulator::{Fate, Script};
use crate::support::fault_proxy::{Fault, FaultProxy};
use crate::support::production::Production;
use crate::support::program::Ended;

/// Refused before anything was built, pushed or changed.
fn refused(production: &Production, ended: Ended, words: &str) {
    ended.failed(6, words);
    assert!(!production.is_built(), "something was built");
    assert_eq!(production.registry.blobs(), [], "something was pushed");
    assert_eq!(production.changes(), [] as [String; 0], "something was changed at ECS");
}

#[test]
fn tasks_that_fail_leave_the_service_at_its_old_revision() {
    let production = Production::with("once = []");
    production.ecs.world().service.fate = Fate::Failing;
    let ended = production.run(&["release"]).failed(3, "ECS put revision shop:41 back");
    assert_eq!(production.ecs.revision(), "shop:41");
    assert_eq!(production.ecs.requests("UpdateService").len(), 1);
    let error = ended.json().into_iter().find(|line| line["event"] == "error").unwrap();
    assert_eq!(error["kind"], "rolled-back");
    assert!(error["because"].to_string().contains("container web ended with exit code 1"), "{error}");
    assert!(error["state"].as_str().unwrap().contains("pushed web"), "{error}");

    // Mended, the same command goes on from there.
    production.ecs.world().service.fate = Fate::Healthy;
    let release = production.release();
    assert_eq!(
        (&release["images"][0]["uploaded"], &release["images"][0]["built"]),
        (&0.into(), &false.into())
    );
    assert_eq!(production.ecs.revision(), "shop:43");
}

#[test]
fn a_once_task_that_fails_stops_before_the_switch_and_its_revision_is_taken_back() {
    let production = Production::new();
    production.ecs.world().tasks.script = Script::Exits(5, &["starting", "cannot migrate"]);
    let ended = production.run(&["release"]).failed(1, "once-task migrate ended with code 5");
    for words in ["cannot migrate", "was not touched", "imgforge run web -- sh -c"] {
        assert!(ended.stdout.contains(words), "{words} is not in\n{}", ended.stdout);
    }
    assert_eq!(production.changes(), ["RegisterTaskDefinition", "RunTask", "DeregisterTaskDefinition"]);
    assert_eq!(production.ecs.revision(), "shop:41");
    let world = production.ecs.world();
    let taken_back = world.definitions.iter().find(|(arn, _)| arn.ends_with("shop:42")).unwrap().1;
    assert_eq!(taken_back["taskDefinition"]["status"], "INACTIVE");
}

#[test]
fn a_deployment_that_is_never_steady_is_left_alone_when_time_is_up() {
    let production = Production::with("once = []\ntimeout = \"1s\"");
    production.ecs.world().service.fate = Fate::NeverPlaced;
    let ended = production.run(&["release"]).failed(4, "was not through after 1s");
    let reason = "no container instance met all of its requirements";
    assert!(ended.stdout.contains(reason), "{}", ended.stdout);
    assert!(ended.stdout.contains("--task-definition shop:41"), "the way back is told: {}", ended.stdout);
    assert_eq!(production.changes(), ["RegisterTaskDefinition", "UpdateService"]);
}

#[test]
fn a_once_task_that_never_ends_is_told_when_time_is_up_and_nothing_is_switched() {
    let production = Production::with("timeout = \"1s\"");
    production.ecs.world().tasks.script = Script::Hangs;
    let ended = production.run(&["release"]).failed(4, "once-task migrate failed");
    assert!(ended.stdout.contains("was not touched"), "{}", ended.stdout);
    assert_eq!(production.ecs.requests("UpdateService").len(), 0);
    assert_eq!(production.ecs.revision(), "shop:41");
}

#[test]
fn a_service_that_is_not_there_or_not_ours_is_refused_before_anything_is_built() {
    let production = Production::new();
    production.ecs.world().service.name = "web2";
    refused(&production, production.run(&["release"]), "web2");
    production.ecs.world().service.name = "web";
    let arguments = ["release", "-e", "production"];
    let unsigned = production.program().with("AWS_SECRET_ACCESS_KEY", "another-key").run(&arguments);
    assert!(!unsigned.stderr.contains("another-key"), "{}", unsigned.stderr);
    refused(&production, unsigned, "InvalidSignatureException");
}

#[test]
fn a_bucket_that_is_not_there_or_denied_is_refused_before_anything_is_built() {
    let production = Production::new();
    let arguments = ["release", "-e", "production"];
    let nowhere = production.program().with("BUCKET_NAME", "nowhere").run(&arguments);
    refused(&production, nowhere, "there is no bucket nowhere");

    let upstream = production.moto.url.trim_start_matches("http://");
    let proxy = production.wait(FaultProxy::before(upstream));
    let denied = "<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>".to_owned();
    let denied =
        Fault::Answer(StatusCode::FORBIDDEN, vec![("content-type", "application/xml".into())], denied);
    proxy.spoil(usize::MAX, |_| true, denied);
    let s3 = format!("http://{}", proxy.host);
    let denied = production.program().with("AWS_ENDPOINT_URL_S3", s3).run(&arguments);
    assert!(denied.stderr.contains("allow s3:GetObject"), "{}", denied.stderr);
    refused(&production, denied, "access denied");

    // One that is there without the file.
    let ended = production.program().with("BUCKET_NAME", "shop-secrets/elsewhere").run(&arguments);
    refused(&production, ended, "server_settings.py");
}
