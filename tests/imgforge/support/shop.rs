//! A copy of `fixtures/shop`, made a site for servers by `imgforge init`, with a name, secrets and a port of its own.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::debian;
use super::docker::{docker, docker_prints, remove_images, unique};
use super::program::Program;

/// What the template asks.
#[derive(Debug, Clone, Copy)]
pub struct Built {
    pub server: &'static str,
    pub engine: &'static str,
}

/// The bases that the template makes of Debian packages.
pub const BASES: [&[&str]; 3] = [
    &["python3", "python3-venv", "ca-certificates"],
    &["nginx-light", "ca-certificates"],
    &["postgresql", "memcached", "rabbitmq-server"],
];

/// Dropped, it takes its containers, networks, volumes and images with it.
pub struct Shop {
    dir: tempfile::TempDir,
    pub project: String,
    /// Only the secret settings know it.
    pub motto: String,
}

impl Shop {
    /// Ready to be released.
    pub async fn new(built: Built) -> Self {
        let shop = Self::of(&Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/shop"), built, &[]).await;
        shop.add("secrets/server_settings.py", &format!("\nMOTTO = \"{}\"\n", shop.motto));
        shop
    }

    /// A copy of another Django project, made a site for servers by `imgforge init` with these arguments more.
    pub async fn of(project: &Path, built: Built, more: &[&str]) -> Self {
        let dir = tempfile::Builder::new().prefix("imgforge-shop-").tempdir().unwrap();
        copy(project, dir.path());
        let shop = Shop { motto: unique("motto"), project: unique("shop"), dir };
        let Built { server, engine } = built;
        let named = ["--project", &shop.project, "--server", server, "--engine", engine, "--bases", "debian"];
        shop.program().run(&[&["init", "--yes"], &named[..], more].concat()).ok();
        for packages in BASES {
            debian::base_of("trixie", packages).await;
        }
        std::fs::create_dir_all(shop.path(".imgforge")).unwrap();
        std::os::unix::fs::symlink(debian::bases(), shop.path(".imgforge/bases")).unwrap();
        shop
    }

    /// The project's folder.
    pub fn folder(&self) -> &Path {
        self.dir.path()
    }

    pub fn path(&self, file: &str) -> PathBuf {
        self.dir.path().join(file)
    }

    pub fn read(&self, file: &str) -> String {
        std::fs::read_to_string(self.path(file)).unwrap()
    }

    pub fn write(&self, file: &str, text: &str) {
        std::fs::write(self.path(file), text).unwrap();
    }

    /// Adds to a file. The secret settings are called after the project: `secrets/server_settings.py` will do.
    pub fn add(&self, file: &str, text: &str) {
        let file = match file {
            "secrets/server_settings.py" => format!("{file}.{}", self.project),
            _ => file.to_owned(),
        };
        self.write(&file, &(self.read(&file) + text));
    }

    /// imgforge in it; nginx gets any free port.
    pub fn program(&self) -> Program {
        Program::new(self.dir.path()).with("SITE_PORT", "")
    }

    /// The id of a service's container.
    pub fn container(&self, service: &str) -> String {
        let project = format!("label=com.docker.compose.project={}", self.project);
        let service = format!("label=com.docker.compose.service={service}");
        docker_prints(&["ps", "--quiet", "--filter", &project, "--filter", &service]).trim().to_owned()
    }

    /// What a command prints in a service's container.
    pub fn exec(&self, service: &str, command: &str) -> String {
        docker_prints(&["exec", &self.container(service), "sh", "-c", command]).trim().to_owned()
    }

    /// Where nginx is.
    pub fn url(&self) -> String {
        let published = docker_prints(&["port", &self.container("nginx"), "8080/tcp"]);
        format!("http://{}", published.lines().next().unwrap())
    }

    /// A page is there and has these words.
    ///
    /// # Panics
    /// It is not, or has not.
    pub fn answers(&self, page: &str, words: &str) {
        let url = self.url() + page;
        let done = Command::new("curl")
            .args(["--silent", "--show-error", "--fail", "--location", &url])
            .output()
            .unwrap();
        let body = String::from_utf8_lossy(&done.stdout);
        let said = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success() && body.contains(words), "{page}: {said}\n{body}\n{}", self.logs());
    }

    /// Runs a script of tests/shop against the running site; what it prints.
    ///
    /// # Panics
    /// It ended with another code than 0.
    pub fn visit(&self, script: &str, arguments: &[&str]) -> String {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/shop").join(script);
        let done = Command::new("python3").arg(script).arg(self.url()).args(arguments).output().unwrap();
        let printed = String::from_utf8_lossy(&done.stdout).into_owned();
        let said = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "{printed}\n{said}\n{}", self.logs());
        printed
    }

    /// The last lines of every container.
    fn logs(&self) -> String {
        let project = format!("label=com.docker.compose.project={}", self.project);
        let listed = docker_prints(&["ps", "--all", "--filter", &project, "--format", "{{.Names}}"]);
        let tail = |name: &str| {
            let done = docker(&["logs", "--tail", "20", name]);
            format!(
                "--- {name}\n{}{}",
                String::from_utf8_lossy(&done.stdout),
                String::from_utf8_lossy(&done.stderr)
            )
        };
        listed.lines().map(tail).collect()
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        let project = format!("label=com.docker.compose.project={}", self.project);
        let lists: [(&[&str], &[&str]); 3] = [
            (&["ps", "--all"], &["rm", "--force", "--volumes"]),
            (&["network", "ls"], &["network", "rm"]),
            (&["volume", "ls"], &["volume", "rm"]),
        ];
        for (list, remove) in lists {
            let listed = docker(&[list, &["--quiet", "--filter", &project]].concat()).stdout;
            for name in String::from_utf8_lossy(&listed).lines() {
                docker(&[remove, &[name]].concat());
            }
        }
        remove_images(&self.project);
    }
}

/// Copies a folder, without what a run left there.
pub fn copy(from: &Path, to: &Path) {
    let left = [".imgforge", "secrets", "__pycache__", ".env", "db.sqlite3"];
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if left.iter().any(|name| entry.file_name() == *name) {
            continue;
        }
        if entry.file_type().unwrap().is_dir() {
            copy(&source, &target);
        } else if entry.file_type().unwrap().is_file() {
            std::fs::copy(&source, &target).unwrap();
        }
    }
}
