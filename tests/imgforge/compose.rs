//! Deploying to a compose project, with the daemon and the compose of this machine and images of a few bytes.

mod failures;
mod once;
mod project;

use imgforge::deploy::Deployer;
use imgforge::deploy::compose::Volumes;
use project::{Page, Project, WEB};

#[tokio::test]
async fn what_is_released_runs_and_a_second_time_there_is_nothing_to_do() {
    let project = Project::new("comes-up", WEB);
    let deployer = project.deployer();
    let release = project.release(&project.serving("one"));

    let running = deployer.observe(&["web".into()], &[]).await.unwrap();
    assert_eq!((running.description.as_str(), running.handle.as_deref()), ("nothing", None));
    let prepared = deployer.prepare(&release, &running, &project.progress()).await.unwrap();
    assert!(!prepared.unchanged && project.containers().is_empty());
    let deployed = deployer.apply(&prepared, &running, &project.progress()).await.unwrap();
    let url = deployed.url.expect("a port is published");
    assert_eq!(project::fetch(&url).await, Page::Text("one".into()));

    let before = project.containers();
    let running = deployer.observe(&["web".into()], &[]).await.unwrap();
    let web = release.images["web"].local.unwrap().to_string();
    assert_eq!(running.containers.get("web"), Some(&web));
    let prepared = deployer.prepare(&release, &running, &project.progress()).await.unwrap();
    assert!(prepared.unchanged);
    deployer.apply(&prepared, &running, &project.progress()).await.unwrap();
    assert_eq!(project.containers(), before);
}

#[tokio::test]
async fn a_new_image_replaces_the_old_one_and_data_stay() {
    let project = Project::new("replaces", WEB);
    project.deploy("one").await.unwrap();
    project.exec("echo kept >/data/file");
    let url = project.deploy("two").await.unwrap().url.unwrap();
    assert_eq!(project::fetch(&url).await, Page::Text("two".into()));
    assert_eq!(project.exec("cat /data/file"), "kept");
    assert_eq!(project.containers().len(), 1);
}

#[tokio::test]
async fn a_change_of_the_compose_file_alone_is_a_change() {
    let project = Project::new("file", WEB);
    project.deploy("one").await.unwrap();
    project.write(
        "compose.yaml",
        &WEB.replace("stop_grace_period: 0s", "stop_grace_period: 0s\n    hostname: other"),
    );
    let deployer = project.deployer();
    let running = deployer.observe(&["web".into()], &[]).await.unwrap();
    let release = project.release(&project.serving("one"));
    assert!(!deployer.prepare(&release, &running, &project.progress()).await.unwrap().unchanged);
    deployer.up(&project.progress()).await.unwrap();
    assert_eq!(project.exec("hostname"), "other");
}

#[tokio::test]
async fn up_and_down_may_be_said_twice() {
    let project = Project::new("twice", WEB);
    let deployer = project.deployer();
    let progress = project.progress();
    deployer.down(Volumes::Keep, &progress).await.unwrap();
    let error = deployer.up(&progress).await.unwrap_err();
    assert_eq!((error.kind().exit_code(), error.help_text()), (6, Some("imgforge release")));

    project.deploy("one").await.unwrap();
    project.exec("echo kept >/data/file");
    let before = project.containers();
    deployer.up(&progress).await.unwrap();
    assert_eq!(project.containers(), before);
    deployer.down(Volumes::Keep, &progress).await.unwrap();
    deployer.down(Volumes::Keep, &progress).await.unwrap();
    assert!(project.containers().is_empty());
    deployer.up(&progress).await.unwrap();
    assert_eq!(project.exec("cat /data/file"), "kept");

    deployer.down(Volumes::Remove, &progress).await.unwrap();
    deployer.up(&progress).await.unwrap();
    assert_eq!(project.exec("ls /data"), "");
}

#[tokio::test]
async fn the_record_can_be_given_to_compose_by_hand() {
    let project = Project::new("by-hand", WEB);
    project.deploy("one").await.unwrap();
    let record = format!(".imgforge/compose/{}.env", project.name);
    let image = project.release(&project.serving("one")).images["web"].local.unwrap();
    assert_eq!(project.read(&record).lines().next(), Some(format!("IMGFORGE_WEB={image}").as_str()));
    let config = project.compose(&["--env-file", &record, "config"]);
    assert!(config.contains(&image.to_string()), "{config}");
}
