//! A compose project with a name of its own and images made on the spot.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use imgforge::config::Config;
use imgforge::deploy::compose::ComposeDeployer;
use imgforge::deploy::{Deployed, Deployer, Release, ReleasedImage};
use imgforge::digest::Digest;
use imgforge::engine::Logins;
use imgforge::error::Result;
use imgforge::image::reference::Reference;
use imgforge::progress::{Event, Reporter};

use crate::support::docker::{Recorder, daemon, unique};
use crate::support::tiny::busybox_tar;

/// One service with a health check and a volume.
pub const WEB: &str = "\
services:
  web:
    image: ${IMGFORGE_WEB:?imgforge release}
    stop_grace_period: 0s
    restart: unless-stopped
    ports: [\"127.0.0.1::8000\"]
    volumes: [\"data:/data\"]
    healthcheck:
      test: [\"CMD\", \"wget\", \"-q\", \"-O\", \"/dev/null\", \"http://127.0.0.1:8000/\"]
      interval: 1s
      retries: 2
volumes:
  data: {}
";

/// Dropped, it takes its containers, volumes and images with it.
pub struct Project {
    dir: tempfile::TempDir,
    pub name: String,
    recorder: Arc<Recorder>,
    images: Mutex<Vec<String>>,
}

impl Project {
    pub fn new(name: &str, compose: &str) -> Self {
        let project = Project {
            dir: tempfile::Builder::new().prefix("imgforge-compose-").tempdir().unwrap(),
            name: unique(&format!("compose-{name}")),
            recorder: Arc::default(),
            images: Mutex::default(),
        };
        project.write("compose.yaml", compose);
        project
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn write(&self, file: &str, text: &str) {
        std::fs::write(self.path().join(file), text).unwrap();
    }

    pub fn read(&self, file: &str) -> String {
        std::fs::read_to_string(self.path().join(file)).unwrap()
    }

    pub fn deployer(&self) -> ComposeDeployer {
        self.deployer_with("")
    }

    /// With `more` in `[deploy]`.
    pub fn deployer_with(&self, more: &str) -> ComposeDeployer {
        let text = format!(
            "project = \"{}\"\n[images.web]\ndockerfile = \"Dockerfile\"\n[deploy]\ntarget = \"compose\"\n{more}\n",
            self.name
        );
        let config = Config::parse(self.path().to_owned(), &text, None, &|_| None).unwrap();
        ComposeDeployer::new(&config, daemon(), Logins::new())
    }

    pub fn progress(&self) -> Reporter {
        Reporter::new(self.recorder.clone())
    }

    /// What containers and once-tasks printed, as far as it was shown: `SUBJECT: LINE`.
    pub fn shown(&self) -> Vec<String> {
        let line = |event| match event {
            Event::Log { subject, line, .. } => Some(format!("{subject}: {line}")),
            _ => None,
        };
        self.recorder.events().into_iter().filter_map(line).collect()
    }

    /// An image that serves `page`. The same text gives the same image.
    pub fn serving(&self, page: &str) -> String {
        self.image(page, "httpd -f -p 8000 -h /www")
    }

    /// An image with `page` as its front page that runs `command`.
    pub fn image(&self, page: &str, command: &str) -> String {
        let mut tar = busybox_tar(Vec::new());
        let mut header = tar::Header::new_ustar();
        header.set_mode(0o644);
        header.set_size(page.len() as u64);
        tar.append_data(&mut header, "www/index.html", page.as_bytes()).unwrap();
        let tar = tar.into_inner().unwrap();
        let tag = format!("{}:{}", self.name, Digest::of(format!("{page}\n{command}").as_bytes()).short());
        if let Ok(id) = docker(&["image", "inspect", "--format", "{{.Id}}", &tag], &[]) {
            return id;
        }
        let cmd = format!("CMD {}", serde_json::json!(["sh", "-c", format!("exec {command}")]));
        let id = docker(&["import", "--change", "ENV PATH=/bin", "--change", &cmd, "-", &tag], &tar).unwrap();
        self.images.lock().unwrap().push(tag);
        id
    }

    /// A release whose `web` is this image of the daemon.
    pub fn release(&self, image: &str) -> Release {
        let id: Digest = image.parse().unwrap();
        let reference: Reference = format!("imgforge.invalid/web@{id}").parse().unwrap();
        let web = ReleasedImage { reference, local: Some(id), image: None };
        Release { id: "test".into(), images: BTreeMap::from([("web".to_owned(), web)]) }
    }

    /// Observe, prepare, apply: an image that serves `page`.
    pub async fn deploy(&self, page: &str) -> Result<Deployed> {
        self.deploy_image(&self.deployer(), &self.serving(page)).await
    }

    pub async fn deploy_image(&self, deployer: &ComposeDeployer, image: &str) -> Result<Deployed> {
        let progress = self.progress();
        let running = deployer.observe(&["web".into()], &[]).await?;
        let prepared = deployer.prepare(&self.release(image), &running, &progress).await?;
        deployer.apply(&prepared, &running, &progress).await
    }

    /// The ids of the project's containers, running or not, also those of `compose run`.
    pub fn containers(&self) -> Vec<String> {
        let label = format!("label=com.docker.compose.project={}", self.name);
        let ids = docker(&["ps", "--all", "--quiet", "--no-trunc", "--filter", &label], &[]).unwrap();
        let mut ids: Vec<String> = ids.lines().map(str::to_owned).collect();
        ids.sort();
        ids
    }

    /// What the first of the containers is doing.
    pub fn state(&self) -> String {
        let container = self.containers().first().cloned().expect("it is there");
        docker(&["inspect", "--format", "{{.State.Status}}", &container], &[]).unwrap()
    }

    /// What a shell command prints in the service's container.
    pub fn exec(&self, command: &str) -> String {
        let container = self.containers().first().cloned().expect("it runs");
        docker(&["exec", &container, "sh", "-c", command], &[]).unwrap()
    }

    /// What the compose of this machine prints, run as by hand.
    pub fn compose(&self, arguments: &[&str]) -> String {
        let plugin = Command::new("docker").args(["compose", "version"]).output();
        let mut command = match plugin {
            Ok(output) if output.status.success() => {
                let mut command = Command::new("docker");
                command.arg("compose");
                command
            }
            _ => Command::new("docker-compose"),
        };
        let output =
            command.args(["--project-name", &self.name]).args(arguments).current_dir(self.path()).output();
        let output = output.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for Project {
    fn drop(&mut self) {
        for container in self.containers() {
            let _ = docker(&["rm", "--force", "--volumes", &container], &[]);
        }
        let _ = docker(&["network", "rm", &format!("{}_default", self.name)], &[]);
        let _ = docker(&["volume", "rm", &format!("{}_data", self.name)], &[]);
        for image in self.images.lock().unwrap().iter() {
            let _ = docker(&["image", "rm", "--force", image], &[]);
        }
    }
}

/// What docker prints, given `input`; its complaint when it fails.
fn docker(arguments: &[&str], input: &[u8]) -> Result<String, String> {
    let mut command = Command::new("docker");
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("docker is there");
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    match output.status.success() {
        true => Ok(String::from_utf8(output.stdout).unwrap().trim().to_owned()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

/// What a page answered.
#[derive(Debug, PartialEq, Eq)]
pub enum Page {
    Text(String),
    Status(u16),
}

pub async fn fetch(url: &str) -> Page {
    let answer = reqwest::get(url).await.unwrap();
    match answer.status().as_u16() {
        200 => Page::Text(answer.text().await.unwrap()),
        status => Page::Status(status),
    }
}
