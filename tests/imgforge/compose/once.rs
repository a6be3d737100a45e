//! Once-tasks: a command with the new image and the service's settings.

use std::sync::Arc;

use imgforge::config::OnceConfig;
use imgforge::deploy::Deployer;
use imgforge::error::Kind;

use super::project::{Project, WEB};

fn task(command: &[&str]) -> OnceConfig {
    OnceConfig {
        name: "migrate".into(),
        container: "web".into(),
        command: command.iter().map(|part| (*part).to_owned()).collect(),
    }
}

#[tokio::test]
async fn it_runs_with_the_new_image_while_the_old_one_goes_on() {
    let project = Project::new("once-new", WEB);
    project.deploy("one").await.unwrap();
    let before = project.containers();
    let deployer = project.deployer();
    let running = deployer.observe(&["web".into()], &[task(&["true"])]).await.unwrap();
    let release = project.release(&project.serving("two"));
    let prepared = deployer.prepare(&release, &running, &project.progress()).await.unwrap();
    let command =
        task(&["sh", "-c", "cat /www/index.html; echo; echo problem >&2; echo done >/data/migrated"]);
    let exit = deployer.run_once(&prepared, &command, &project.progress()).await.unwrap();
    assert_eq!(exit.code, 0);
    let shown = project.shown();
    for line in ["migrate: two", "migrate: problem"] {
        assert!(shown.iter().any(|shown| shown == line), "{line:?} is not in {shown:#?}");
    }
    // Its volume is the service's, its container is gone, and nothing was switched.
    assert_eq!(project.exec("cat /data/migrated"), "done");
    assert_eq!(project.exec("cat /www/index.html"), "one");
    assert_eq!(project.containers(), before);
}

#[tokio::test]
async fn its_code_is_the_containers_own() {
    let project = Project::new("once-code", WEB);
    let deployer = project.deployer();
    let running = deployer.observe(&["web".into()], &[]).await.unwrap();
    let release = project.release(&project.serving("one"));
    let prepared = deployer.prepare(&release, &running, &project.progress()).await.unwrap();
    // 1 is what compose itself ends with, too.
    for code in [1, 7, 255] {
        let command = task(&["sh", "-c", &format!("exit {code}")]);
        let exit = deployer.run_once(&prepared, &command, &project.progress()).await.unwrap();
        assert_eq!(exit.code, code);
    }
    assert!(project.containers().is_empty());
}

#[tokio::test]
async fn a_command_that_is_not_there_is_an_error_and_not_a_code() {
    let project = Project::new("once-missing", WEB);
    let deployer = project.deployer();
    let running = deployer.observe(&["web".into()], &[]).await.unwrap();
    let release = project.release(&project.serving("one"));
    let prepared = deployer.prepare(&release, &running, &project.progress()).await.unwrap();
    let error = deployer.run_once(&prepared, &task(&["mygrate"]), &project.progress()).await.unwrap_err();
    assert_eq!((error.kind(), error.what()), (Kind::Failed, "migrate could not be started"));
    assert!(error.causes().concat().contains("mygrate"), "{error:?}");
    // What it left behind is not in the way of the next try.
    let exit = deployer.run_once(&prepared, &task(&["true"]), &project.progress()).await.unwrap();
    assert_eq!(exit.code, 0);
    assert!(project.containers().is_empty());
}

#[tokio::test]
async fn the_same_one_does_not_run_twice_at_once() {
    let project = Project::new("once-twice", WEB);
    let deployer = Arc::new(project.deployer());
    let running = deployer.observe(&["web".into()], &[]).await.unwrap();
    let release = project.release(&project.serving("one"));
    let prepared = deployer.prepare(&release, &running, &project.progress()).await.unwrap();
    let waiting = task(&["sh", "-c", "until [ -e /data/go ]; do sleep 0.1; done"]);
    let first = tokio::spawn({
        let (deployer, prepared, progress) = (deployer.clone(), prepared.clone(), project.progress());
        async move { deployer.run_once(&prepared, &waiting, &progress).await }
    });
    while project.containers().is_empty() || project.state() != "running" {
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    let error = deployer.run_once(&prepared, &task(&["true"]), &project.progress()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Locked);
    project.exec("touch /data/go");
    assert_eq!(first.await.unwrap().unwrap().code, 0);
}
