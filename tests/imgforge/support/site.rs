//! A copy of `fixtures/shop` with a name, secrets and a port of its own.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::debian;
use super::docker::{docker, docker_prints, unique};
use super::program::Program;

/// What speaks to nginx.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Server {
    Gunicorn,
    Uwsgi,
}

/// Dropped, it takes its containers, volume and images with it.
pub struct Shop {
    dir: tempfile::TempDir,
    pub project: String,
    /// Only the secret settings know it.
    pub motto: String,
}

/// A page as it came.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: String,
    pub body: String,
}

impl Shop {
    /// With its bases made already: those are the same for all.
    pub async fn new(server: Server) -> Self {
        let dir = tempfile::Builder::new().prefix("imgforge-shop-").tempdir().unwrap();
        copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/shop"), dir.path());
        let project = unique("shop");
        let shop = Shop { motto: unique("motto"), project, dir };
        let mut config = shop.read("imgforge.toml");
        let mut replace = |from: &str, to: &str| {
            assert!(config.contains(from), "{from:?} is not in imgforge.toml");
            config = config.replacen(from, to, 1);
        };
        replace("project = \"shop\"", &format!("project = \"{}\"", shop.project));
        if server == Server::Uwsgi {
            replace("dockerfiles/web.gunicorn.Dockerfile", "dockerfiles/web.uwsgi.Dockerfile");
            replace("PROTOCOL = \"http\"", "PROTOCOL = \"uwsgi\"");
        }
        shop.write("imgforge.toml", &config);
        std::fs::create_dir(shop.path("secrets")).unwrap();
        std::fs::copy(shop.path("secrets.sample/ecs.config"), shop.path("secrets/ecs.config")).unwrap();
        shop.write_motto(&shop.motto);
        debian::base(&["python3", "python3-venv", "ca-certificates"]).await;
        debian::base(&["nginx-light"]).await;
        std::fs::create_dir(shop.path(".imgforge")).unwrap();
        std::os::unix::fs::symlink(debian::bases(), shop.path(".imgforge/bases")).unwrap();
        shop
    }

    fn path(&self, file: &str) -> PathBuf {
        self.dir.path().join(file)
    }

    pub fn read(&self, file: &str) -> String {
        std::fs::read_to_string(self.path(file)).unwrap()
    }

    pub fn write(&self, file: &str, text: &str) {
        std::fs::write(self.path(file), text).unwrap();
    }

    /// Writes the secret settings.
    pub fn write_motto(&self, motto: &str) {
        let sample = self.read("secrets.sample/server_settings.py.shop");
        let settings = sample.replace("@MOTTO@", motto).replace("@SECRET_KEY@", &unique("key"));
        assert!(settings.contains(motto));
        self.write("secrets/server_settings.py.shop", &settings);
    }

    /// imgforge in it; nginx gets any free port.
    pub fn program(&self) -> Program {
        Program::new(self.dir.path()).with("SHOP_PORT", "")
    }

    /// The same with images that are built directly, without their Dockerfiles.
    pub async fn direct(server: Server) -> Self {
        let shop = Shop::new(server).await;
        let config = shop.read("imgforge.toml");
        let lines = config
            .lines()
            .filter(|line| !line.starts_with("args "))
            .map(|line| if line.starts_with("dockerfile ") { "engine = \"direct\"" } else { line });
        let config: String = lines.flat_map(|line| [line, "\n"]).collect();
        let mut tables = [include_str!("site/web.toml"), include_str!("site/nginx.toml")].concat();
        if server == Server::Uwsgi {
            for (gunicorn, uwsgi) in [
                ("gunicorn==27.0.1", "pyuwsgi==2.0.30.post1"),
                (
                    "\"gunicorn\", \"--config\", \"dockerfiles/gunicorn.conf.py\"",
                    "\"uwsgi\", \"--ini\", \"dockerfiles/uwsgi.ini\"",
                ),
                ("127.0.0.1:8000/health/", "127.0.0.1:8001/health/"),
                ("dockerfiles/nginx.http.conf", "dockerfiles/nginx.uwsgi.conf"),
            ] {
                assert!(tables.contains(gunicorn), "{gunicorn}");
                tables = tables.replace(gunicorn, uwsgi);
            }
        }
        shop.write("imgforge.toml", &format!("{config}{tables}"));
        shop
    }

    /// The project's folder.
    pub fn folder(&self) -> &Path {
        self.dir.path()
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

    /// Fetches a page from nginx, with another host name when one is given.
    pub fn fetch(&self, page: &str, host: Option<&str>) -> Answer {
        let published = docker_prints(&["port", &self.container("nginx"), "8080/tcp"]);
        let url = format!("http://{}{page}", published.lines().next().unwrap());
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--show-error", "--include", "--max-time", "30", &url]);
        if let Some(host) = host {
            curl.args(["--header", &format!("Host: {host}")]);
        }
        let output = curl.output().expect("curl is there");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let (headers, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let status = headers.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or_default();
        Answer { status, headers: headers.to_ascii_lowercase(), body: body.to_owned() }
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        let project = format!("label=com.docker.compose.project={}", self.project);
        let listed = docker(&["ps", "--all", "--quiet", "--filter", &project]).stdout;
        for container in String::from_utf8_lossy(&listed).lines() {
            docker(&["rm", "--force", "--volumes", container]);
        }
        docker(&["network", "rm", &format!("{}_default", self.project)]);
        docker(&["volume", "rm", &format!("{}_data", self.project)]);
        let named = format!("reference=imgforge/{}-*", self.project);
        let listed = docker(&["image", "ls", "--quiet", "--filter", &named]).stdout;
        for image in String::from_utf8_lossy(&listed).lines() {
            docker(&["image", "rm", "--force", image]);
        }
    }
}

fn copy(from: &Path, to: &Path) {
    // What a demo left there is not part of the fixture.
    let left = [".imgforge", "secrets", "__pycache__", ".env"];
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if left.iter().any(|name| entry.file_name() == *name) {
            continue;
        }
        if entry.file_type().unwrap().is_dir() {
            std::fs::create_dir(&target).unwrap();
            copy(&source, &target);
        } else if entry.file_type().unwrap().is_file() {
            std::fs::copy(&source, &target).unwrap();
        }
    }
}
