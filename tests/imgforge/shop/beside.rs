//! Containers beside the shop's own, of its images, with another line in one of their files.

use std::process::Command;
use std::time::{Duration, Instant};

use crate::support::docker::{docker, docker_prints};
use crate::support::shop::Shop;

/// A container beside the shop's own. Dropped, it is gone.
pub struct Container(pub String);

impl Container {
    pub fn run(shop: &Shop, name: &str, like: &str, more: &[&str]) -> Self {
        let name = format!("{}-{name}", shop.project);
        let image = docker_prints(&["inspect", "--format", "{{.Image}}", &shop.container(like)]);
        let network = format!("{}_default", shop.project);
        let base = ["run", "--detach", "--name", &name, "--network", &network, "--network-alias", &name];
        let port = if like == "nginx" { "127.0.0.1::8080" } else { "127.0.0.1::8000" };
        docker_prints(&[&base[..], &["--publish", port], more, &[image.trim()]].concat());
        Container(name)
    }

    /// A web server, with lines of its configuration in place of others.
    pub fn web(shop: &Shop, server: &str, name: &str, lines: &[(&str, &str)], more: &[&str]) -> Self {
        let file = match server {
            "uwsgi" => "dockerfiles/uwsgi.ini",
            _ => "dockerfiles/gunicorn.conf.py",
        };
        let mut text = shop.read(file);
        for (right, other) in lines {
            assert!(text.contains(right), "{right}");
            text = text.replace(right, other);
        }
        shop.write(&format!("{name}.conf"), &text);
        let mount = format!("{}:/home/docker/code/{file}:ro", shop.path(&format!("{name}.conf")).display());
        let server = format!("SERVER={server}");
        Self::run(
            shop,
            name,
            "web",
            &[&["--env", &server, "--volume", &mount, "--volume", &files(shop)], more].concat(),
        )
    }

    /// uWSGI, with lines of uwsgi.ini in place of others.
    pub fn uwsgi(shop: &Shop, name: &str, lines: &[(&str, &str)], more: &[&str]) -> Self {
        Self::web(shop, "uwsgi", name, lines, more)
    }

    /// nginx before it.
    pub fn nginx(&self, shop: &Shop, more: &[&str]) -> Self {
        let app = format!("APP_SERVER={}:8000", self.0);
        let name = format!("nginx-{}", self.0.rsplit_once('-').unwrap().1);
        Self::run(shop, &name, "nginx", &[&["--env", &app], more].concat())
    }

    pub fn address(&self) -> String {
        docker_prints(&["port", &self.0]).lines().next().unwrap().rsplit(' ').next().unwrap().to_owned()
    }

    pub fn log(&self) -> String {
        let done = docker(&["logs", &self.0]);
        [done.stdout, done.stderr].iter().map(|bytes| String::from_utf8_lossy(bytes).into_owned()).collect()
    }

    pub fn state(&self) -> String {
        docker_prints(&["inspect", "--format", "{{.State.Status}}", &self.0]).trim().to_owned()
    }

    /// Waits until it says so.
    #[track_caller]
    pub fn says(&self, words: &str) {
        within(30, &format!("{} says {words:?}", self.0), || self.log().contains(words));
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        docker(&["rm", "--force", "--volumes", &self.0]);
    }
}

#[track_caller]
pub fn within(seconds: u64, what: &str, mut is: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(seconds);
    while !is() {
        assert!(Instant::now() < deadline, "not within {seconds} s: {what}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// The status of a page; 0 when the connection ended without one.
pub fn status(address: &str, page: &str, host: Option<&str>) -> u16 {
    let url = format!("http://{address}{page}");
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--max-time", "20", "--output", "/dev/null", "--write-out", "%{http_code}", &url]);
    if let Some(host) = host {
        curl.args(["--header", &format!("Host: {host}")]);
    }
    String::from_utf8_lossy(&curl.output().unwrap().stdout).parse().unwrap()
}

/// The volume of static files and uploads, as `docker run` takes it.
pub fn files(shop: &Shop) -> String {
    format!("{}_files:/home/docker/files:ro", shop.project)
}
