//! The production environment of the tiny project, as far as one machine goes: secrets in moto's S3, a repository in
//! moto's ECR whose image traffic goes to a real registry, an ECS service in the simulator.

use std::process::Command;

use serde_json::Value;
use tokio::runtime::Runtime;

use super::ecs_simulator::{EcsSimulator, REGION};
use super::moto::{ACCOUNT, Moto};
use super::oci_registry::OciRegistry;
use super::program::{Ended, Program};
use super::s3;
use super::tiny::{Tiny, holds};

/// Where the secrets are.
pub const BUCKET: &str = "shop-secrets";

/// The usual overlay, `[deploy]` last so that a test can go on with its keys.
const OVERLAY: &str = r#"
[env.production]
secrets.store = "s3://${BUCKET_NAME}"
registry.repository = "ecr:{project}-{image}"
[env.production.deploy]
target = "ecs"
cluster = "shop"
"#;

pub struct Production {
    pub tiny: Tiny,
    pub ecs: EcsSimulator,
    pub moto: Moto,
    pub registry: OciRegistry,
    /// What is in the bucket's secret file and nowhere else.
    pub canary: String,
    /// A Docker configuration folder with nothing in it, and files that a user would have at hand.
    pub home: tempfile::TempDir,
    runtime: Runtime,
}

impl Production {
    /// Ready for a first release, from a clean commit.
    pub fn new() -> Self {
        Self::with("")
    }

    /// The same with more keys in the environment's `[deploy]`.
    pub fn with(deploy: &str) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let service = if deploy.contains("service =") { "" } else { "service = \"web\"\n" };
        let tiny = Tiny::new(&format!("{OVERLAY}{service}{deploy}"));
        tiny.commit();
        let registry = OciRegistry::basic("AWS", &password());
        let repository = format!("{}/{}-web", registry.host, tiny.project);
        let ecs = runtime.block_on(EcsSimulator::start_with(definition(&repository)));
        // One task is enough, and is there at the second look.
        ecs.world().service.desired = 1;
        let moto = Moto::start();
        runtime.block_on(s3::bucket(&moto.url, BUCKET));
        let canary = format!("production-{}", tiny.canary);
        let home = tempfile::tempdir().unwrap();
        let production = Production { tiny, ecs, moto, registry, canary, home, runtime };
        production.put_secret(&production.canary);
        production
    }

    /// The same with two more services that run the image: `worker` and `clock`, each with a task definition of its own.
    pub fn with_workers(deploy: &str) -> Self {
        let production = Self::with(&format!("service = [\"web\", \"worker\", \"clock\"]\n{deploy}"));
        let repository = format!("{}/{}-web", production.registry.host, production.tiny.project);
        for name in ["worker", "clock"] {
            production.ecs.add_service(name, neighbour(name, &repository));
        }
        production
    }

    /// imgforge with what a CI system would set.
    pub fn program(&self) -> Program {
        let program = self
            .tiny
            .program()
            .with("AWS_ENDPOINT_URL", &self.moto.url)
            .with("BUCKET_NAME", BUCKET)
            .with("IMGFORGE_ECR_REGISTRY", &self.registry.host)
            .with("DOCKER_CONFIG", self.home.path().to_str().unwrap());
        self.ecs.variables().into_iter().fold(program, |program, (name, value)| program.with(name, value))
    }

    /// Runs a command in the production environment, with JSON output.
    pub fn run(&self, arguments: &[&str]) -> Ended {
        self.program().run(&[arguments, &["-e", "production", "--output", "json"]].concat())
    }

    /// A release that ends well: its result.
    pub fn release(&self) -> Value {
        self.run(&["release"]).ok().result()["release"].clone()
    }

    /// Puts a settings file with this value into the bucket.
    pub fn put_secret(&self, value: &str) {
        self.put("server_settings", &format!("SECRET_KEY = \"{value}\"\n"));
    }

    /// Puts a secret file into the bucket, as a user would.
    pub fn put(&self, name: &str, text: &str) {
        let file = self.home.path().join("secret");
        std::fs::write(&file, text).unwrap();
        let file = file.to_str().unwrap();
        self.run(&["secrets", "put", name, file]).ok();
    }

    /// The requests so far that change something at ECS, by action.
    pub fn changes(&self) -> Vec<String> {
        let changing = ["RegisterTaskDefinition", "DeregisterTaskDefinition", "RunTask", "UpdateService"];
        let world = self.ecs.world();
        let actions = world.requests.iter().map(|(action, _)| action.clone());
        actions.filter(|action| changing.contains(&action.as_str())).collect()
    }

    /// The blobs of the registry that hold `text`, by digest.
    pub fn blobs_with(&self, text: &str) -> Vec<String> {
        let blobs = self.registry.blobs().into_iter().filter(|(_, bytes)| holds(bytes, text));
        blobs.map(|(digest, _)| format!("sha256:{digest}")).collect()
    }

    /// Whether the daemon has built anything of the project.
    pub fn is_built(&self) -> bool {
        let label = format!("label=tiny={}", self.tiny.project);
        !self.tiny.docker(&["images", "-aq", "--filter", &label]).is_empty()
    }

    /// Waits for something that is asynchronous.
    pub fn wait<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    /// What skopeo says of an image in the registry.
    pub fn skopeo(&self, arguments: &[&str], reference: &str) -> Value {
        let mut command = Command::new("skopeo");
        command.arg("inspect").args(arguments).args(["--tls-verify=false", "--creds"]);
        let done = command.arg(format!("AWS:{}", password())).arg(format!("docker://{reference}")).output();
        let done =
            done.unwrap_or_else(|error| panic!("skopeo cannot be started ({error}); run scripts/setup"));
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        serde_json::from_slice(&done.stdout).unwrap()
    }

    /// Puts the image of a layout on disk into the registry, past imgforge; its digest.
    pub fn copy_layout(&self, layout: &str, reference: &str) -> String {
        let mut command = Command::new("skopeo");
        command.args(["copy", "--quiet", "--dest-tls-verify=false", "--dest-creds"]);
        command.arg(format!("AWS:{}", password()));
        command.arg(format!("oci:{}", self.tiny.path().join(layout).display()));
        assert!(command.arg(format!("docker://{reference}")).status().unwrap().success());
        self.skopeo(&[], reference)["Digest"].as_str().unwrap().to_owned()
    }

    /// The digests of an image's layers.
    pub fn layers(&self, reference: &str) -> Vec<String> {
        let manifest = self.skopeo(&["--raw"], reference);
        let layers = manifest["layers"].as_array().unwrap().iter();
        layers.map(|layer| layer["digest"].as_str().unwrap().to_owned()).collect()
    }
}

/// The password in the token that moto's ECR hands out.
pub fn password() -> String {
    format!("{ACCOUNT}-auth-token")
}

/// The shop's task definition with `repository` in place of that of its web image.
fn definition(repository: &str) -> Value {
    let text = include_str!("../../../fixtures/taskdef/shop.json");
    let theirs = format!("{ACCOUNT}.dkr.ecr.eu-west-1.amazonaws.com/shop-web");
    assert!(text.contains(&theirs));
    serde_json::from_str(&text.replace(&theirs, repository)).unwrap()
}

/// A task definition with one container, called after its family, that runs an image of `repository`.
fn neighbour(name: &str, repository: &str) -> Value {
    serde_json::json!({
        "taskDefinition": {
            "taskDefinitionArn": format!("arn:aws:ecs:{REGION}:{ACCOUNT}:task-definition/{name}:7"),
            "family": name,
            "revision": 7,
            "status": "ACTIVE",
            "containerDefinitions": [{
                "name": name,
                "image": format!("{repository}:first"),
                "essential": true,
                "command": ["sh", format!("dockerfiles/start-{name}")],
            }],
        },
        "tags": [],
    })
}
