//! What goes wrong: before anything is changed, and while it is.

use imgforge::config::OnceConfig;
use imgforge::deploy::Deployer;
use imgforge::error::Kind;

use super::project::{Page, Project, WEB, fetch};

#[tokio::test]
async fn an_unhealthy_release_goes_back_to_the_old_one() {
    let project = Project::new("unhealthy", WEB);
    let url = project.deploy("one").await.unwrap().url.unwrap();
    assert_eq!(fetch(&url).await, Page::Text("one".into()));
    let record = project.read(&format!(".imgforge/compose/{}.env", project.name));
    // It runs, and serves a folder that is not there.
    let broken = project.image("two", "sh -c 'echo it is broken; httpd -f -p 8000 -h /nowhere'");
    let error = project.deploy_image(&project.deployer(), &broken).await.unwrap_err();
    assert_eq!((error.kind(), error.kind().exit_code()), (Kind::RolledBack, 3));
    assert!(!error.causes().is_empty(), "{error:?}");
    assert!(project.shown().contains(&"web: it is broken".to_owned()), "{:#?}", project.shown());
    assert_eq!(project.exec("cat /www/index.html"), "one");
    assert_eq!(project.read(&format!(".imgforge/compose/{}.env", project.name)), record);
    // And from there the next release goes its way.
    project.deploy("three").await.unwrap();
    assert_eq!(project.exec("cat /www/index.html"), "three");
}

#[tokio::test]
async fn a_release_that_ends_at_once_goes_back_and_shows_its_last_words() {
    let project = Project::new("ends", WEB);
    project.deploy("one").await.unwrap();
    let broken = project.image("two", "sh -c 'echo no such setting >&2; exit 3'");
    let error = project.deploy_image(&project.deployer(), &broken).await.unwrap_err();
    assert_eq!(error.kind(), Kind::RolledBack);
    assert!(error.causes()[0].starts_with("web "), "{error:?}");
    assert!(project.shown().contains(&"web: no such setting".to_owned()), "{:#?}", project.shown());
    assert_eq!(project.exec("cat /www/index.html"), "one");
}

#[tokio::test]
async fn a_page_that_does_not_answer_counts_as_failed() {
    use axum::http::StatusCode;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = axum::Router::new()
        .route("/good", axum::routing::get(|| async { "good" }))
        .route("/bad", axum::routing::get(|| async { StatusCode::BAD_GATEWAY }));
    let server = tokio::spawn(async move { axum::serve(listener, router).await });
    let project = Project::new("page", WEB);
    let deployer = |page: &str| project.deployer_with(&format!("url = \"http://{address}/{page}\""));

    let deployed = project.deploy_image(&deployer("good"), &project.serving("one")).await.unwrap();
    assert_eq!(deployed.url, Some(format!("http://{address}/good")));
    let error = project.deploy_image(&deployer("bad"), &project.serving("two")).await.unwrap_err();
    // Going back is judged by the same page, which is as bad as before.
    assert_eq!(error.kind(), Kind::Failed);
    assert!(error.what().contains("/bad does not answer"), "{error:?}");
    assert_eq!(project.exec("cat /www/index.html"), "one");
    server.abort();
}

#[tokio::test]
async fn a_first_release_that_fails_is_stopped() {
    let project = Project::new("first", WEB);
    let broken = project.image("one", "sh -c 'echo no such setting; exit 3'");
    let error = project.deploy_image(&project.deployer(), &broken).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Failed);
    assert!(error.what().ends_with("failed and was stopped"), "{error:?}");
    assert!(project.shown().contains(&"web: no such setting".to_owned()), "{:#?}", project.shown());
    assert!(project.containers().is_empty());
    assert!(!project.path().join(format!(".imgforge/compose/{}.env", project.name)).exists());
}

#[tokio::test]
async fn time_that_runs_out_goes_back() {
    let project = Project::new("slow", &WEB.replace("retries: 2", "retries: 1000"));
    project.deploy("one").await.unwrap();
    let never = project.image("two", "sh -c 'echo thinking; sleep 1000'");
    let error = project.deploy_image(&project.deployer_with("timeout = \"4s\""), &never).await.unwrap_err();
    assert_eq!(error.kind(), Kind::RolledBack);
    assert_eq!(error.causes(), ["web not healthy after 4 seconds"]);
    assert_eq!(project.exec("cat /www/index.html"), "one");
}

#[tokio::test]
async fn an_image_that_nobody_has_stops_before_anything_is_changed() {
    let project = Project::new("absent", WEB);
    project.deploy("one").await.unwrap();
    let before = project.containers();
    let absent = format!("sha256:{}", "0".repeat(64));
    let error = project.deploy_image(&project.deployer(), &absent).await.unwrap_err();
    assert!(error.what().contains("\"web\" is not on the Docker daemon"), "{error:?}");
    assert_eq!(project.containers(), before);
}

#[tokio::test]
async fn names_that_the_compose_file_does_not_have_are_refused() {
    let project = Project::new("names", WEB);
    let deployer = project.deployer();
    let task = OnceConfig { name: "migrate".into(), container: "wep".into(), command: vec!["true".into()] };
    let error = deployer.observe(&["web".into()], &[task]).await.unwrap_err();
    assert_eq!((error.kind(), error.help_text()), (Kind::Refused, Some("did you mean \"web\"?")));
    let error = deployer.observe(&["web".into(), "nginx".into()], &[]).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Refused);
    assert_eq!(error.help_text(), Some("give a service \"image: ${IMGFORGE_NGINX}\""));
    assert!(project.containers().is_empty());
}

#[tokio::test]
async fn a_compose_file_that_is_wrong_is_refused_with_the_words_of_compose() {
    let project = Project::new("wrong", "services:\n  web:\n    image: a\n    prots: []\n");
    let error = project.deployer().observe(&["web".into()], &[]).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Refused);
    assert!(error.causes().concat().contains("prots"), "{error:?}");
}

#[tokio::test]
async fn without_compose_it_is_refused() {
    let project = Project::new("no-tool", WEB);
    let deployer = project.deployer().variable("PATH", "/nonexistent");
    let error = deployer.observe(&["web".into()], &[]).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Refused);
    assert!(error.help_text().is_some_and(|help| help.contains("install")), "{error:?}");
}

#[tokio::test]
async fn without_a_compose_file_it_is_refused() {
    let project = Project::new("no-file", WEB);
    std::fs::remove_file(project.path().join("compose.yaml")).unwrap();
    let error = project.deployer().observe(&["web".into()], &[]).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Refused);
    let error =
        project.deployer_with("file = \"other.yaml\"").observe(&["web".into()], &[]).await.unwrap_err();
    assert_eq!((error.kind(), error.what()), (Kind::Refused, "there is no compose file other.yaml"));
}
