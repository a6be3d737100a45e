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
    }
}
