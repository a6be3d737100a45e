//! Registries with a login of their own: where images go, and where a base comes from.

use std::path::Path;
use std::process::Command;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::json;

use crate::support::moto::Moto;
use crate::support::oci_registry::OciRegistry;
use crate::support::program::Program;
use crate::support::s3;
use crate::support::tiny::{Tiny, holds};
use crate::support::token_server::TokenServer;

const PASSWORD: &str = "pa?ss~w0rd>canary";

const OVERLAY: &str = r#"
[env.production]
secrets.store = "s3://${BUCKET_NAME}"
secrets.files.ecs_config = "ecs.config"
registry.repository = "${REGISTRY}/shop/{project}-{image}"
"#;

/// As on Docker Hub: one user, tokens for what is below `shop/`.
struct Hub {
    tiny: Tiny,
    tokens: TokenServer,
    registry: OciRegistry,
    moto: Moto,
    home: tempfile::TempDir,
}

impl Hub {
    async fn start() -> Self {
        let tiny = Tiny::new(OVERLAY);
        tiny.commit();
        let tokens = TokenServer::start("me", PASSWORD, "shop/").await;
        let registry = OciRegistry::token(&tokens);
        let moto = Moto::start();
        s3::bucket(&moto.url, "shop").await;
        let hub = Hub { tiny, tokens, registry, moto, home: tempfile::tempdir().unwrap() };
        hub.program().run(&["secrets", "put", "server_settings", "secrets/server_settings.py"]).ok();
        hub
    }

    fn program(&self) -> Program {
        self.tiny
            .program()
            .with("IMGFORGE_ENV", "production")
            .with("AWS_ENDPOINT_URL", &self.moto.url)
            .with("AWS_REGION", "eu-west-1")
            .with("AWS_ACCESS_KEY_ID", "test")
            .with("AWS_SECRET_ACCESS_KEY", "test")
            .with("BUCKET_NAME", "shop")
            .with("REGISTRY", &self.registry.host)
            .with("DOCKER_CONFIG", self.home.path().to_str().unwrap())
    }

    fn with_login(&self, password: &str) -> Program {
        self.program().with("DOCKER_USER", "me").with("DOCKER_PASS", password)
    }

    fn blobs_with_the_secret(&self) -> usize {
        self.registry.blobs().iter().filter(|(_, bytes)| holds(bytes, &self.tiny.canary)).count()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_in_the_variables_pushes_with_tokens_and_a_wrong_one_is_told() {
    let hub = Hub::start().await;
    let missing = hub.program().run(&["push"]).failed(6, "wants a login and none was found");
    for place in ["DOCKER_USER and DOCKER_PASS", "Docker config"] {
        assert!(missing.stderr.contains(place), "{place} is not in\n{}", missing.stderr);
    }
    let wrong = hub.with_login("another-password").run(&["push"]).failed(6, "does not accept the login");
    assert!(wrong.stderr.contains("from DOCKER_USER and DOCKER_PASS"), "{}", wrong.stderr);
    assert!(!wrong.stderr.contains("another-password"), "{}", wrong.stderr);
    assert_eq!(hub.registry.blobs(), []);

    let pushed = hub.with_login(PASSWORD).with("RUST_LOG", "trace").run(&["push"]).ok();
    assert_eq!(hub.blobs_with_the_secret(), 1);
    let encoded = BASE64_STANDARD.encode(format!("me:{PASSWORD}"));
    for hidden in [PASSWORD, &encoded, "Bearer ey", &hub.tiny.canary] {
        let line = pushed.stderr.lines().find(|line| line.contains(hidden));
        assert_eq!(line, None, "{hidden}");
    }
    let asked = hub.tokens.seen();
    assert!(asked.iter().any(|asked| asked.user.as_deref() == Some("me")), "{asked:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_only_the_buckets_ecs_config_has_is_enough() {
    let hub = Hub::start().await;
    let registry = hub.registry.host.clone();
    let arguments = ["secrets", "ecs-config", "--registry", &registry];
    hub.with_login(PASSWORD).with("DOCKER_EMAIL", "me@example.com").run(&arguments).ok();
    let pushed = hub.program().run(&["push"]).ok();
    assert_eq!(hub.blobs_with_the_secret(), 1, "{}", pushed.stderr);
    assert!(!pushed.stderr.contains(PASSWORD) && !pushed.stdout.contains(PASSWORD));
    // The login is not in the image: only its settings file is baked.
    assert!(hub.registry.blobs().iter().all(|(_, bytes)| !holds(bytes, PASSWORD)));
    let doctor = hub.program().run(&["doctor"]);
    assert!(doctor.stdout.contains("the auth data in ecs.config"), "{}", doctor.stdout);

    hub.with_login("another-password").run(&arguments).ok();
    let wrong = hub.program().run(&["push"]).failed(6, "does not accept the login");
    assert!(wrong.stderr.contains("the auth data in ecs.config"), "{}", wrong.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_base_in_a_private_registry_is_pinned_and_built_on_with_the_docker_login() {
    let registry = OciRegistry::basic("me", PASSWORD);
    let tiny = Tiny::new("\n[env.private]\nbases.busybox = { image = \"${REGISTRY}/base:1\" }\n");
    copy_base(&tiny.path().join("bases/busybox"), &registry.host);
    let home = tempfile::tempdir().unwrap();
    let program = tiny
        .program()
        .with("IMGFORGE_ENV", "private")
        .with("REGISTRY", &registry.host)
        .with("DOCKER_CONFIG", home.path().to_str().unwrap());
    let missing = program.run(&["plan"]).failed(6, "wants a login and none was found");
    assert!(missing.stderr.contains("docker login"), "{}", missing.stderr);

    let auth = BASE64_STANDARD.encode(format!("me:{PASSWORD}"));
    let login = json!({"auths": {&registry.host: {"auth": auth}}});
    std::fs::write(home.path().join("config.json"), login.to_string()).unwrap();
    let plan = program.run(&["plan"]).ok().stdout;
    assert!(plan.contains(&format!("base   busybox: {}/base:1@sha256:", registry.host)), "{plan}");
    let built = program.with("RUST_LOG", "trace").run(&["push"]).ok();
    assert!(!built.stderr.contains(PASSWORD) && !built.stderr.contains(&auth));
}

fn copy_base(layout: &Path, host: &str) {
    let from = format!("oci:{}", layout.display());
    let (to, login) = (format!("docker://{host}/base:1"), format!("me:{PASSWORD}"));
    let mut command = Command::new("skopeo");
    command.args(["copy", "--quiet", "--dest-tls-verify=false", "--dest-creds", &login, &from, &to]);
    let done = command.output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}
