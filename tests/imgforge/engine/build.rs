//! Builds: by BuildKit, by the classic builder, failing, cancelled, and what gets into them.

use std::time::Duration;

use imgforge::engine::{Built, Engine, Logins, Recipe};
use imgforge::error::{Error, Kind};
use imgforge::progress::Outcome;
use imgforge::secret::Secret;

use crate::support::docker::{Proxy, Recorder, Site, daemon, daemon_with, docker_prints, unique};

async fn build(site: &Site, recipe: &Recipe) -> (Result<Built, Error>, Vec<String>) {
    let (recorder, progress) = Recorder::new();
    let built = site.engine(daemon()).build(recipe, &Logins::new(), &progress).await;
    (built, recorder.lines())
}

/// Everything that an image holds: its archive and its history.
fn all_of(image: &str) -> Vec<u8> {
    let mut bytes = crate::support::docker::docker(&["save", image]).stdout;
    bytes.extend(docker_prints(&["history", "--no-trunc", image]).into_bytes());
    bytes
}

fn holds(bytes: &[u8], word: &str) -> bool {
    bytes.windows(word.len()).any(|window| window == word.as_bytes())
}

#[tokio::test(flavor = "multi_thread")]
async fn both_images_build_at_once_and_again_from_the_cache() {
    let site = Site::new(&[
        ("web.Dockerfile", "ARG BASE\nFROM $BASE\nARG WHO\nRUN echo \"hello $WHO\" > /hello\n"),
        ("nginx.Dockerfile", "ARG BASE\nFROM $BASE\nCOPY page /page\n"),
        ("page", "a page"),
    ]);
    let mut web = site.recipe("web");
    web.args.insert("WHO".into(), "shop".into());
    let (nginx, logins) = (site.recipe("nginx"), Logins::new());
    let engine = site.engine(daemon());
    let (recorder, progress) = Recorder::new();
    let both = || async {
        tokio::join!(engine.build(&web, &logins, &progress), engine.build(&nginx, &logins, &progress))
    };
    let (first_web, first_nginx) = both().await;
    let (first_web, first_nginx) = (first_web.unwrap(), first_nginx.unwrap());
    assert!(!first_web.reused && !first_nginx.reused);
    let id = first_web.id.to_string();
    assert_eq!(docker_prints(&["run", "--rm", &id, "cat", "/hello"]), "hello shop\n");
    let page = docker_prints(&["run", "--rm", &site.built_name("nginx"), "cat", "/page"]);
    assert_eq!(page, "a page");
    assert!(recorder.lines().iter().any(|line| line.contains("RUN echo")), "{:?}", recorder.lines());

    let (again_web, again_nginx) = both().await;
    let (again_web, again_nginx) = (again_web.unwrap(), again_nginx.unwrap());
    assert_eq!((again_web.id, again_nginx.id), (first_web.id, first_nginx.id));
    assert!(again_web.reused && again_nginx.reused);
    assert!(recorder.lines().iter().any(|line| line.ends_with("(cached)")), "{:?}", recorder.lines());
}

#[tokio::test]
async fn a_failing_step_is_told_with_its_last_lines_and_its_exit_code() {
    let site = Site::new(&[(
        "web.Dockerfile",
        "ARG BASE\nFROM $BASE\nRUN echo before\nRUN seq 1 40; echo the cause >&2; exit 3\n",
    )]);
    for buildkit in ["1", "0"] {
        let (recorder, progress) = Recorder::new();
        let engine = site.engine(daemon_with(&[("DOCKER_BUILDKIT", buildkit)]));
        let error = engine.build(&site.recipe("web"), &Logins::new(), &progress).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Failed);
        assert!(error.what().contains("RUN seq 1 40"), "{buildkit}: {error:?}");
        assert!(error.what().ends_with("(exit code 3)"), "{buildkit}: {error:?}");
        let causes = error.causes();
        let lines: Vec<&str> = causes[0].lines().collect();
        assert_eq!(lines.len(), 20, "{error:?}");
        // The two streams of a step may come in either order.
        assert!(lines.contains(&"the cause") && lines.contains(&"40"), "{error:?}");
        assert!(!lines.contains(&"before"), "{error:?}");
        assert_eq!(recorder.outcome("build"), Some(Outcome::Failed));
    }
}

#[tokio::test]
async fn a_dockerfile_that_does_not_parse_is_told_in_the_builders_words() {
    let site = Site::new(&[("web.Dockerfile", "ARG BASE\nFROM $BASE\nRUNN echo\n")]);
    let (built, _) = build(&site, &site.recipe("web")).await;
    let error = built.unwrap_err();
    assert!(error.causes().concat().to_lowercase().contains("unknown instruction: runn"), "{error:?}");
}

#[tokio::test]
async fn a_build_secret_is_seen_by_its_step_and_by_nothing_else() {
    let canary = unique("canary");
    let site = Site::new(&[(
        "web.Dockerfile",
        "ARG BASE\nFROM $BASE\nRUN --mount=type=secret,id=token test -s /run/secrets/token && wc -c < /run/secrets/token \
         && cat /run/secrets/token\nRUN test ! -s /run/secrets/token\n",
    )]);
    let mut recipe = site.recipe("web");
    recipe.secrets.insert("token".into(), Secret::new(canary.clone().into_bytes()));
    let (built, lines) = build(&site, &recipe).await;
    built.unwrap();
    assert!(lines.contains(&canary.len().to_string()), "{lines:?}");
    assert!(lines.contains(&"***".to_owned()), "{lines:?}");
    assert!(!lines.iter().any(|line| line.contains(&canary)));
    assert!(!holds(&all_of(&site.built_name("web")), &canary));
}

#[tokio::test]
async fn a_required_build_secret_that_is_not_configured_fails_the_step() {
    let site = Site::new(&[(
        "web.Dockerfile",
        "ARG BASE\nFROM $BASE\nRUN --mount=type=secret,id=token,required=true cat /run/secrets/token\n",
    )]);
    let (built, _) = build(&site, &site.recipe("web")).await;
    let error = format!("{:?}", built.unwrap_err());
    assert!(error.contains("token"), "{error}");
}

#[tokio::test]
async fn the_hosts_certificates_are_seen_by_a_step_and_stay_out_of_the_image() {
    let bundle = std::fs::read("/etc/ssl/certs/ca-certificates.crt").unwrap();
    let site = Site::new(&[(
        "web.Dockerfile",
        "ARG BASE\nFROM $BASE\nRUN --mount=type=secret,id=ca_bundle,target=/etc/ssl/ca.crt wc -c < /etc/ssl/ca.crt\n",
    )]);
    let mut recipe = site.recipe("web");
    recipe.secrets.insert("ca_bundle".into(), Secret::new(bundle.clone()));
    let (built, lines) = build(&site, &recipe).await;
    built.unwrap();
    assert!(lines.contains(&bundle.len().to_string()), "{lines:?}");
    assert!(!holds(&all_of(&site.built_name("web")), "BEGIN CERTIFICATE"));
}

#[tokio::test]
async fn what_is_withheld_or_ignored_never_reaches_the_daemon() {
    let (secret, ignored) = (unique("canary"), unique("ignored"));
    let site = Site::new(&[
        ("web.Dockerfile", "ARG BASE\nFROM $BASE\nCOPY . /context\nRUN find /context\n"),
        (".dockerignore", "**/*.log\n!secrets\n!**/local_settings.py\n"),
        ("shop/settings.py", "DEBUG = False"),
        ("shop/debug.log", &ignored),
        ("secrets/server_settings.py", &secret),
        ("shop/local_settings.py", &secret),
        (".git/config", &secret),
    ]);
    let mut recipe = site.recipe("web");
    recipe.withheld = vec!["secrets".into()];
    let (built, lines) = build(&site, &recipe).await;
    built.unwrap();
    assert!(lines.contains(&"/context/shop/settings.py".to_owned()), "{lines:?}");
    for name in ["secrets", ".git", "/context/shop/local_settings.py", "/context/shop/debug.log"] {
        assert!(!lines.iter().any(|line| line.ends_with(name)), "{name}: {lines:?}");
    }
    let all = all_of(&site.built_name("web"));
    assert!(!holds(&all, &secret) && !holds(&all, &ignored));
}

#[tokio::test]
async fn a_dockerfile_outside_of_the_context_builds_one_of_its_stages() {
    let site = Site::new(&[
        ("docker/web.Dockerfile", "ARG BASE\nFROM $BASE AS one\nCOPY a /a\nFROM one AS two\nRUN exit 1\n"),
        ("site/a", "here"),
    ]);
    let mut recipe = site.recipe("web");
    recipe.context = site.context().join("site");
    recipe.dockerfile = site.context().join("docker/web.Dockerfile");
    recipe.target = Some("one".into());
    let (built, _) = build(&site, &recipe).await;
    let id = built.unwrap().id.to_string();
    assert_eq!(docker_prints(&["run", "--rm", &id, "cat", "/a"]), "here");
}

#[tokio::test]
async fn the_classic_builder_builds_and_says_what_was_cached() {
    let site = Site::new(&[
        ("web.Dockerfile", "ARG BASE\nFROM $BASE\nCOPY a /a\nRUN cat /a\n"),
        ("a", "classic output\n"),
    ]);
    let engine = site.engine(daemon_with(&[("DOCKER_BUILDKIT", "0")]));
    assert!(engine.check().await.unwrap().description.contains("classic builder"));
    let (recorder, progress) = Recorder::new();
    let first = engine.build(&site.recipe("web"), &Logins::new(), &progress).await.unwrap();
    assert!(recorder.lines().contains(&"classic output".to_owned()), "{:?}", recorder.lines());
    let again = engine.build(&site.recipe("web"), &Logins::new(), &progress).await.unwrap();
    assert_eq!(again.id, first.id);
    assert!(again.reused && !first.reused);
}

#[tokio::test]
async fn the_classic_builder_refuses_build_secrets() {
    let site = Site::new(&[("web.Dockerfile", "ARG BASE\nFROM $BASE\n")]);
    let mut recipe = site.recipe("web");
    recipe.secrets.insert("token".into(), Secret::new(b"hush-hush".to_vec()));
    let engine = site.engine(daemon_with(&[("DOCKER_BUILDKIT", "0")]));
    let (_, progress) = Recorder::new();
    let error = engine.build(&recipe, &Logins::new(), &progress).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Refused);
    assert!(error.what().contains("(token)") && !format!("{error:?}").contains("hush"), "{error:?}");
}

/// Waits until something is so. It fails only by never becoming so.
async fn until(mut is_so: impl FnMut() -> bool) {
    for _ in 0..6000 {
        if is_so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("it did not become so in five minutes");
}

/// Whether a process of this machine has the word in its command line.
fn runs(word: &str) -> bool {
    let processes = std::fs::read_dir("/proc").unwrap();
    processes.flatten().any(|process| {
        std::fs::read(process.path().join("cmdline")).is_ok_and(|command| holds(&command, word))
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_that_is_dropped_ends_on_the_daemon() {
    let word = unique("sleeper");
    let site = Site::new(&[(
        "web.Dockerfile",
        &format!("ARG BASE\nFROM $BASE\nRUN echo begun; sh -c 'sleep 3600; : {word}'\n"),
    )]);
    for buildkit in ["1", "0"] {
        let engine = site.engine(daemon_with(&[("DOCKER_BUILDKIT", buildkit)]));
        let recipe = site.recipe("web");
        let building = tokio::spawn(async move {
            let (_, progress) = Recorder::new();
            engine.build(&recipe, &Logins::new(), &progress).await
        });
        until(|| runs(&format!(": {word}"))).await;
        building.abort();
        until(|| !runs(&format!(": {word}"))).await;
        assert!(building.await.unwrap_err().is_cancelled());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_dies_in_the_middle_of_a_build_is_told_as_that() {
    let site = Site::new(&[("web.Dockerfile", "ARG BASE\nFROM $BASE\nRUN echo begun; sleep 3600\n")]);
    for buildkit in ["1", "0"] {
        let proxy = Proxy::start();
        let engine =
            site.engine(daemon_with(&[("DOCKER_HOST", &proxy.host()), ("DOCKER_BUILDKIT", buildkit)]));
        let (recorder, progress) = Recorder::new();
        let recipe = site.recipe("web");
        let building = tokio::spawn(async move { engine.build(&recipe, &Logins::new(), &progress).await });
        until(|| recorder.lines().contains(&"begun".to_owned())).await;
        proxy.cut();
        let error = building.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), Kind::Failed);
        assert!(error.what().contains("closed the connection"), "{error:?}");
        assert!(error.help_text().unwrap().contains("docker version"), "{error:?}");
    }
}
