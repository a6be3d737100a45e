//! A server in a process of its own: started on a port of its choosing, and ended with the test.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How long a server may take to say where it listens. Only a broken one takes so long.
const START: Duration = Duration::from_secs(60);

pub struct ServerProcess {
    child: Child,
    /// `127.0.0.1:PORT`
    pub address: String,
    log: Arc<Mutex<Vec<String>>>,
}

impl ServerProcess {
    /// Starts `command`, which is told to take port 0; the address is what follows `marker` in its log.
    pub fn start(mut command: Command, marker: &'static str) -> Self {
        let program = command.get_program().to_string_lossy().into_owned();
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{program} cannot be started ({error}); run scripts/setup"));
        let stderr = child.stderr.take().unwrap();
        let log = Arc::new(Mutex::new(Vec::new()));
        let (say, hear) = mpsc::channel();
        let lines = Arc::clone(&log);
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if let Some((_, rest)) = line.split_once(marker) {
                    let address = rest.split(|c: char| c == '"' || c == ',' || c.is_whitespace()).next();
                    let _ = say.send(address.unwrap_or_default().to_owned());
                }
                lines.lock().unwrap().push(line);
            }
        });
        match hear.recv_timeout(START) {
            Ok(address) => ServerProcess { child, address, log },
            Err(_) => {
                let _ = child.kill();
                let _ = child.wait();
                panic!("{program} did not start:\n{}", log.lock().unwrap().join("\n"));
            }
        }
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().join("\n")
    }
}

#[expect(clippy::print_stderr, reason = "a failed test shows the server's side too")]
impl Drop for ServerProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("log of the server at {}:\n{}", self.address, self.log());
        }
    }
}
