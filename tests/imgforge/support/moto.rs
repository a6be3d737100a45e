<<<<<<< HEAD
//! A moto server: AWS's control calls on loopback. Each has its own state and ends when it is dropped.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// A running moto server.
pub struct Moto {
    server: Child,
    endpoint: String,
}

impl Moto {
    /// Starts a server on a port that the system picks, and waits until it listens.
    pub fn start() -> Self {
        let binary = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/venv/bin/moto_server");
        let mut server = Command::new(&binary)
            .args(["-H", "127.0.0.1", "-p", "0"])
            .env("PYTHONUNBUFFERED", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{} (run scripts/setup): {error}", binary.display()));
        let mut lines = BufReader::new(server.stderr.take().expect("it is piped")).lines();
        // werkzeug says where it listens once it does: " * Running on http://127.0.0.1:41234".
        let endpoint = lines
            .by_ref()
            .map_while(Result::ok)
            .find_map(|line| Some(line.split_once("Running on ")?.1.trim().to_owned()));
        let Some(endpoint) = endpoint else {
            let status = server.wait();
            panic!("moto_server ended before it listened: {status:?}");
        };
        // Whoever stops reading a pipe stops its writer.
        std::thread::spawn(move || lines.for_each(drop));
        Moto { server, endpoint }
    }

    /// `http://127.0.0.1:PORT`
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
=======
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

    /// The variables that give a process the same.
    pub fn environment(&self) -> [(&'static str, String); 5] {
        [
            ("AWS_ENDPOINT_URL", self.url.clone()),
            ("AWS_REGION", REGION.into()),
            ("AWS_DEFAULT_REGION", REGION.into()),
            ("AWS_ACCESS_KEY_ID", "test".into()),
            ("AWS_SECRET_ACCESS_KEY", "test".into()),
        ]
>>>>>>> registry
    }
}
