//! The daemon's own push and pull, to a real registry on loopback.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use imgforge::digest::Digest;
use imgforge::engine::{Engine, Login, Logins};
use imgforge::error::Kind;
use imgforge::image::reference::{Reference, Repository, Tag};
use imgforge::progress::{Outcome, Reporter};
use imgforge::secret::Secret;

use crate::support::docker::{Recorder, Site, built, daemon, daemon_with, docker, docker_prints, unique};

/// A registry of its own, ended when dropped.
struct Registry {
    process: Child,
    host: String,
    _folder: tempfile::TempDir,
}

impl Registry {
    /// Starts one; with a user and a password it lets nobody else in.
    fn start(user: Option<(&str, &str)>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        // Another process may take the port between asking for it and using it.
        for _ in 0..20 {
            let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
            let mut process = Registry::process(folder.path(), port, user);
            for _ in 0..600 {
                if process.try_wait().unwrap().is_some() {
                    break;
                }
                if TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok() {
                    return Registry { process, host: format!("127.0.0.1:{port}"), _folder: folder };
                }
                std::thread::sleep(Duration::from_millis(50));
            }
            let _ = process.kill();
            let _ = process.wait();
        }
        panic!("docker-registry does not start");
    }

    fn process(folder: &Path, port: u16, user: Option<(&str, &str)>) -> Child {
        let mut config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: '127.0.0.1:{port}'}}\n",
            folder.join("data").display()
        );
        if let Some((name, password)) = user {
            let line = Command::new("htpasswd").args(["-Bbn", name, password]).output().unwrap();
            std::fs::write(folder.join("htpasswd"), line.stdout).unwrap();
            config += &format!(
                "auth: {{htpasswd: {{realm: test, path: {}}}}}\n",
                folder.join("htpasswd").display()
            );
        }
        std::fs::write(folder.join("config.yml"), config).unwrap();
        Command::new("docker-registry")
            .arg("serve")
            .arg(folder.join("config.yml"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the package docker-registry is installed")
    }

    fn repository(&self, path: &str) -> Repository {
        format!("{}/{path}", self.host).parse().unwrap()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Its JSON in base64 has the two characters in which the alphabets differ.
const PASSWORD: &str = "pass?>~word~~>>??";

const DOCKERFILE: &str = "ARG BASE\nFROM $BASE\nRUN echo pushed > /pushed\n";

#[tokio::test]
async fn the_daemon_pushes_by_itself_and_keeps_no_name() {
    let (site, registry) = (Site::new(&[("web.Dockerfile", DOCKERFILE)]), Registry::start(None));
    let engine = site.engine(daemon());
    let built = engine.build(&site.recipe("web"), &Logins::new(), &Reporter::silent()).await.unwrap();
    assert!(engine.can_push_to(&built, &registry.host));
    let (repository, tag) = (registry.repository("shop/web"), "build-1".parse::<Tag>().unwrap());
    let (recorder, progress) = Recorder::new();
    engine.push(&built, &repository, &tag, None, &progress).await.unwrap();
    assert_eq!(recorder.outcome("send without secrets"), Some(Outcome::Done));
    let name = format!("{repository}:{tag}");
    assert!(!daemon().image_exists(&name).await.unwrap(), "the name was only for sending");
    assert!(daemon().image_exists(&site.built_name("web")).await.unwrap());

    docker_prints(&["image", "rm", "--force", &built.id.to_string()]);
    let reference: Reference = name.parse().unwrap();
    let pulled = daemon().pull(&reference, None, &Reporter::silent()).await.unwrap();
    assert_eq!(pulled, built.id, "what was pushed is what was built");
    docker(&["image", "rm", "--force", &built.id.to_string()]);
}

#[tokio::test]
async fn a_registry_with_a_login_wants_the_right_one() {
    let (site, registry) =
        (Site::new(&[("web.Dockerfile", DOCKERFILE)]), Registry::start(Some(("me", PASSWORD))));
    let engine = site.engine(daemon());
    let built = engine.build(&site.recipe("web"), &Logins::new(), &Reporter::silent()).await.unwrap();
    let (repository, tag) = (registry.repository("shop/web"), "build-1".parse::<Tag>().unwrap());
    let login =
        |password: &str| Login { username: "me".into(), password: Secret::new(password.as_bytes().to_vec()) };
    for wrong in [None, Some(login("wrong-word"))] {
        let error =
            engine.push(&built, &repository, &tag, wrong.as_ref(), &Reporter::silent()).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Failed);
        assert!(error.help_text().unwrap().contains("docker login"), "{error:?}");
        assert!(!format!("{error:?}").contains("wrong-word"), "{error:?}");
    }
    engine.push(&built, &repository, &tag, Some(&login(PASSWORD)), &Reporter::silent()).await.unwrap();
}

#[tokio::test]
async fn a_base_behind_a_login_is_fetched_by_the_build() {
    let (site, registry) =
        (Site::new(&[("web.Dockerfile", DOCKERFILE)]), Registry::start(Some(("me", PASSWORD))));
    let login = Login { username: "me".into(), password: Secret::new(PASSWORD.as_bytes().to_vec()) };
    let built =
        site.engine(daemon()).build(&site.recipe("web"), &Logins::new(), &Reporter::silent()).await.unwrap();
    let repository = registry.repository("base");
    let tag = "one".parse::<Tag>().unwrap();
    site.engine(daemon()).push(&built, &repository, &tag, Some(&login), &Reporter::silent()).await.unwrap();
    docker_prints(&["image", "rm", "--force", &built.id.to_string()]);
    site.write("web.Dockerfile", "ARG BASE\nFROM $BASE\nRUN cat /pushed\n");
    let mut recipe = site.recipe("web");
    recipe.base = Some(imgforge::base::Base::Registry(format!("{repository}:{tag}").parse().unwrap()));
    for buildkit in ["1", "0"] {
        let engine = site.engine(daemon_with(&[("DOCKER_BUILDKIT", buildkit)]));
        let error = engine.build(&recipe, &Logins::new(), &Reporter::silent()).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Failed, "{buildkit}");
        let logins = Logins::from([(registry.host.clone(), login.clone())]);
        let (recorder, progress) = Recorder::new();
        engine.build(&recipe, &logins, &progress).await.unwrap();
        assert!(recorder.lines().contains(&"pushed".to_owned()), "{buildkit}: {:?}", recorder.lines());
        docker(&["image", "rm", "--force", &format!("{repository}:{tag}")]);
    }
}

/// Takes what is traced.
#[derive(Clone, Default)]
struct Traced(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Traced {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn logins_and_build_secrets_are_in_no_trace() {
    let traced = Traced::default();
    let writer = traced.clone();
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .init();
    let canary = unique("canary");
    let registry = Registry::start(Some(("me", &canary)));
    let site = Site::new(&[(
        "web.Dockerfile",
        "ARG BASE\nFROM $BASE\nRUN --mount=type=secret,id=token cat /run/secrets/token\n",
    )]);
    let login = Login { username: "me".into(), password: Secret::new(canary.clone().into_bytes()) };
    let logins = Logins::from([(registry.host.clone(), login.clone())]);
    let mut recipe = site.recipe("web");
    recipe.secrets.insert("token".into(), login.password.clone());
    let engine = site.engine(daemon());
    let built = engine.build(&recipe, &logins, &Reporter::silent()).await.unwrap();
    let (repository, tag) = (registry.repository("shop"), "one".parse::<Tag>().unwrap());
    engine.push(&built, &repository, &tag, Some(&login), &Reporter::silent()).await.unwrap();
    let reference: Reference = format!("{repository}:{tag}").parse().unwrap();
    daemon().pull(&reference, Some(&login), &Reporter::silent()).await.unwrap();
    recipe.secrets.clear();
    site.write("web.Dockerfile", "ARG BASE\nFROM $BASE\n");
    let classic = site.engine(daemon_with(&[("DOCKER_BUILDKIT", "0")]));
    classic.build(&recipe, &logins, &Reporter::silent()).await.unwrap();
    docker(&["image", "rm", "--force", &format!("{repository}:{tag}")]);

    let traced = String::from_utf8_lossy(&traced.0.lock().unwrap()).into_owned();
    assert!(traced.contains("bollard") && traced.contains("h2::"), "nothing was traced");
    assert!(!traced.contains(&canary));
    // In whatever place of the header's JSON the password is, its middle gives one of three words in base64.
    for skipped in 0..3 {
        let word = URL_SAFE_NO_PAD.encode(&canary.as_bytes()[skipped..]);
        assert!(!traced.contains(&word[..word.len() - 4]), "{word}");
    }
}

#[tokio::test]
async fn a_registry_that_is_not_there_is_told_with_its_host() {
    let site = Site::new(&[("web.Dockerfile", DOCKERFILE)]);
    let engine = site.engine(daemon());
    let built = engine.build(&site.recipe("web"), &Logins::new(), &Reporter::silent()).await.unwrap();
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
    let repository: Repository = format!("127.0.0.1:{port}/shop").parse().unwrap();
    let tag = "one".parse::<Tag>().unwrap();
    let error = engine.push(&built, &repository, &tag, None, &Reporter::silent()).await.unwrap_err();
    assert!(error.help_text().unwrap().contains(&format!("cannot reach 127.0.0.1:{port}")), "{error:?}");
    assert!(!daemon().image_exists(&format!("{repository}:{tag}")).await.unwrap());
}

#[test]
fn a_remote_daemon_is_not_sent_to_this_machines_loopback() {
    let site = Site::new(&[]);
    let remote = site.engine(daemon_with(&[("DOCKER_HOST", "tcp://10.0.0.1:2375")]));
    let built = built(Digest::of(b"any"));
    assert!(!remote.can_push_to(&built, "127.0.0.1:5000"));
    assert!(remote.can_push_to(&built, "registry.example.com"));
}
