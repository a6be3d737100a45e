//! An AWS account with a stack in it, as far as one machine goes: the stack on moto, its services with the stack's own task
//! definitions in the ECS simulator, its repositories' images in a real registry. Every request is kept.

use std::collections::BTreeSet;

use serde_json::Value;
use tokio::runtime::Runtime;

use super::PARAMETERS;
use crate::support::calls;
use crate::support::ecs_simulator::EcsSimulator;
use crate::support::moto::{ACCOUNT, Moto, REGION};
use crate::support::oci_registry::OciRegistry;
use crate::support::policy::Call;
use crate::support::production::{BUCKET, password};
use crate::support::program::{Ended, Program};
use crate::support::recorder::Recorder;
use crate::support::stack::Stack;
use crate::support::tiny::Tiny;

/// The production environment that `imgforge init` writes, with a name that a test can get wrong.
const OVERLAY: &str = r#"
[images.nginx]
base       = "busybox"
dockerfile = "web.Dockerfile"

[env.production]
secrets.store = "s3://${BUCKET_NAME}"
secrets.files.server_settings = "server_settings.py.shop"
secrets.files.ecs_config = "ecs.config"
registry.repository = "ecr:shop-{image}"
deploy = { target = "ecs", cluster = "shop", service = ["web", "worker", "${LAST_SERVICE}"], timeout = "1m" }
"#;

pub struct Account {
    pub tiny: Tiny,
    pub ecs: EcsSimulator,
    pub moto: Moto,
    pub stack: Stack,
    aws: Recorder,
    images: Recorder,
    _registry: OciRegistry,
    home: tempfile::TempDir,
    _runtime: Runtime,
}

impl Account {
    /// After `create-stack`: nothing is released.
    pub fn new() -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let moto = Moto::start();
        let stack = Stack::create(&moto.url, "shop", &PARAMETERS);
        let registry = OciRegistry::basic("AWS", &password());
        let aws = runtime.block_on(Recorder::before(moto.url.trim_start_matches("http://")));
        let images = runtime.block_on(Recorder::before(&registry.host));
        // The registry's host is not ECR's own, here as for imgforge (IMGFORGE_ECR_REGISTRY).
        let definitions = stack.state["definitions"].to_string();
        let definitions =
            definitions.replace(&format!("{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com"), &images.host);
        let mut definitions: Value = serde_json::from_str(&definitions).unwrap();
        let ecs = runtime.block_on(EcsSimulator::start_with(definitions["WebDefinition"].take()));
        ecs.add_service("worker", definitions["WorkerDefinition"].take());
        ecs.add_service("beat", definitions["BeatDefinition"].take());
        let tiny = Tiny::new(OVERLAY);
        tiny.commit();
        let home = tempfile::tempdir().unwrap();
        let account =
            Account { tiny, ecs, moto, stack, aws, images, _registry: registry, home, _runtime: runtime };
        account.run_so_many(0);
        account
    }

    /// What an update of the stack does with WebCount and its like.
    pub fn run_so_many(&self, count: u64) {
        let mut world = self.ecs.world();
        world.service.desired = count;
        world.others.iter_mut().for_each(|service| service.desired = count);
    }

    /// imgforge with what a CI system would set.
    pub fn program(&self) -> Program {
        let program = self.tiny.program();
        let program = program
            .with("AWS_ENDPOINT_URL", format!("http://{}", self.aws.host))
            .with("BUCKET_NAME", BUCKET)
            .with("LAST_SERVICE", "beat")
            .with("IMGFORGE_ECR_REGISTRY", &self.images.host)
            .with("DOCKER_CONFIG", self.home.path().to_str().unwrap());
        self.ecs.variables().into_iter().fold(program, |program, (name, value)| program.with(name, value))
    }

    /// Runs a command in the production environment, with JSON output.
    pub fn run(&self, arguments: &[&str]) -> Ended {
        self.program().run(&[&["-e", "production", "--output", "json"], arguments].concat())
    }

    /// Puts a settings file with this value into the bucket.
    pub fn put_settings(&self, value: &str) {
        let file = self.home.path().join("settings");
        std::fs::write(&file, format!("SECRET_KEY = \"{value}\"\n")).unwrap();
        self.run(&["secrets", "put", "server_settings", file.to_str().unwrap()]).ok();
    }

    /// What IAM was asked for so far, each once.
    pub fn calls(&self) -> BTreeSet<Call> {
        let mut found = BTreeSet::new();
        found.extend(self.aws.recorded().iter().flat_map(calls::of_aws));
        found.extend(self.images.recorded().iter().flat_map(calls::of_registry));
        let world = self.ecs.world();
        let roles = |revision: &str| calls::roles_in(&world.definitions[revision]["taskDefinition"]);
        found.extend(world.requests.iter().flat_map(|(action, input)| calls::of_ecs(action, input, roles)));
        found
    }
}
