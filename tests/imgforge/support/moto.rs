//! moto server: AWS's control calls on this machine.

use std::path::Path;
use std::process::Command;

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;

use super::server_process::ServerProcess;

/// The account that moto plays, and a region.
pub const ACCOUNT: &str = "123456789012";
pub const REGION: &str = "eu-west-1";

pub struct Moto {
    /// `http://127.0.0.1:PORT`
    pub url: String,
    _process: ServerProcess,
}

impl Moto {
    pub fn start() -> Self {
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/venv/bin/moto_server");
        let mut command = Command::new(program);
        command.args(["-H", "127.0.0.1", "-p", "0"]);
        let process = ServerProcess::start(command, "Running on http://");
        Moto { url: format!("http://{}", process.address), _process: process }
    }

    /// What the AWS SDK makes of an environment that points to it.
    pub async fn config(&self) -> SdkConfig {
        let credentials = Credentials::new("test", "test", None, None, "tests");
        aws_config::defaults(BehaviorVersion::latest())
            .endpoint_url(&self.url)
            .region(Region::new(REGION))
            .credentials_provider(credentials)
            .load()
            .await
    }
}
