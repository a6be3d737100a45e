//! uWSGI behind nginx behind a load balancer as it is often set up, and what visitors get then: each fault reproduced with the wrong
//! line, and gone with the template's own.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::docker::{docker, docker_prints};
use crate::support::shop::{Built, Shop};

/// Sleeps as long as a slow page does.
const SLOW: &str = "import time\n\n\ndef application(environ, start_response):\n    time.sleep(3)\n    \
                    start_response('200 OK', [])\n    return [b'slow']\n";

/// A container beside the shop's own. Dropped, it is gone.
struct Container(String);

impl Container {
    fn run(shop: &Shop, name: &str, like: &str, more: &[&str]) -> Self {
        let name = format!("{}-{name}", shop.project);
        let image = docker_prints(&["inspect", "--format", "{{.Image}}", &shop.container(like)]);
        let network = format!("{}_default", shop.project);
        let base = ["run", "--detach", "--name", &name, "--network", &network, "--network-alias", &name];
        let port = if like == "nginx" { "127.0.0.1::8080" } else { "127.0.0.1::8000" };
        docker_prints(&[&base[..], &["--publish", port], more, &[image.trim()]].concat());
        Container(name)
    }

    /// uWSGI, with lines of uwsgi.ini in place of others.
    fn uwsgi(shop: &Shop, name: &str, lines: &[(&str, &str)], more: &[&str]) -> Self {
        let mut ini = shop.read("dockerfiles/uwsgi.ini");
        for (right, wrong) in lines {
            assert!(ini.contains(right), "{right}");
            ini = ini.replace(right, wrong);
        }
        shop.write(&format!("{name}.ini"), &ini);
        let mount = format!(
            "{}:/home/docker/code/dockerfiles/uwsgi.ini:ro",
            shop.path(&format!("{name}.ini")).display()
        );
        Self::run(
            shop,
            name,
            "web",
            &[&["--env", "SERVER=uwsgi", "--volume", &mount, "--volume", &files(shop)], more].concat(),
        )
    }

    /// nginx before it.
    fn nginx(&self, shop: &Shop, more: &[&str]) -> Self {
        let app = format!("APP_SERVER={}:8000", self.0);
        let name = format!("nginx-{}", self.0.rsplit_once('-').unwrap().1);
        Self::run(shop, &name, "nginx", &[&["--env", &app], more].concat())
    }

    fn address(&self) -> String {
        docker_prints(&["port", &self.0]).lines().next().unwrap().rsplit(' ').next().unwrap().to_owned()
    }

    fn log(&self) -> String {
        let done = docker(&["logs", &self.0]);
        [done.stdout, done.stderr].iter().map(|bytes| String::from_utf8_lossy(bytes).into_owned()).collect()
    }

    fn state(&self) -> String {
        docker_prints(&["inspect", "--format", "{{.State.Status}}", &self.0]).trim().to_owned()
    }

    /// Waits until it says so.
    #[track_caller]
    fn says(&self, words: &str) {
        within(30, &format!("{} says {words:?}", self.0), || self.log().contains(words));
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        docker(&["rm", "--force", "--volumes", &self.0]);
    }
}

#[track_caller]
fn within(seconds: u64, what: &str, mut is: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(seconds);
    while !is() {
        assert!(Instant::now() < deadline, "not within {seconds} s: {what}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// The volume of static files and uploads, as `docker run` takes it.
fn files(shop: &Shop) -> String {
    format!("{}_files:/home/docker/files:ro", shop.project)
}

/// The status of a page; 0 when the connection ended without one.
fn status(address: &str, page: &str, host: Option<&str>) -> u16 {
    let url = format!("http://{address}{page}");
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--max-time", "20", "--output", "/dev/null", "--write-out", "%{http_code}", &url]);
    if let Some(host) = host {
        curl.args(["--header", &format!("Host: {host}")]);
    }
    String::from_utf8_lossy(&curl.output().unwrap().stdout).parse().unwrap()
}

#[track_caller]
fn comes(address: &str, page: &str, wanted: u16) {
    within(30, &format!("{page} at {address} is {wanted}"), || status(address, page, None) == wanted);
}

/// HAProxy with the health check of an AWS load balancer: by address, and 200 or nothing.
struct LoadBalancer(Child, String);

impl LoadBalancer {
    fn before(server: &str, folder: &Path) -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let config = format!(
            "defaults\n  mode http\n  timeout connect 5s\n  timeout client 20s\n  timeout server 20s\n\
             frontend site\n  bind 127.0.0.1:{port}\n  default_backend tasks\n\
             backend tasks\n  option httpchk\n  http-check send meth GET uri /health/ ver HTTP/1.1 hdr Host 10.0.0.7\n  \
             http-check expect status 200\n  server task {server} check inter 300ms fall 2 rise 1\n"
        );
        let file = folder.join("haproxy.cfg");
        std::fs::write(&file, config).unwrap();
        let mut command = Command::new("/usr/sbin/haproxy");
        let child =
            command.arg("-db").arg("-f").arg(file).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        LoadBalancer(child.expect("haproxy is there: scripts/setup test"), format!("127.0.0.1:{port}"))
    }
}

impl Drop for LoadBalancer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn faults_of_uwsgi_behind_nginx_are_reproduced_and_gone_with_the_templates_settings() {
    let shop = Shop::new(Built { server: "uwsgi", engine: "direct" }).await;
    shop.program().run(&["release"]).ok();
    let files = files(&shop);

    // 502: nginx speaks HTTP, uWSGI its own protocol.
    let wrong =
        Container::uwsgi(&shop, "socket", &[("http-socket =", "socket ="), ("buffer-size = 32768", "")], &[]);
    wrong.says("spawned uWSGI worker");
    let nginx = wrong.nginx(&shop, &["--volume", &files]);
    comes(&nginx.address(), "/", 502);
    wrong.says("invalid request block size");
    drop((wrong, nginx));

    let right = Container::uwsgi(&shop, "right", &[], &[]);
    let nginx = right.nginx(&shop, &["--volume", &files]);
    comes(&nginx.address(), "/", 200);

    // 404: nginx looks for static files where collectstatic did not put them.
    let elsewhere =
        Container::run(&shop, "elsewhere", "nginx", &["--env", &format!("APP_SERVER={}:8000", right.0)]);
    comes(&elsewhere.address(), "/", 200);
    assert_eq!(status(&elsewhere.address(), "/static/admin/css/base.css", None), 404);
    assert_eq!(status(&nginx.address(), "/static/admin/css/base.css", None), 200);
    drop(elsewhere);

    // 503: the load balancer's check asks by address, and Django refuses a host that it does not know, or redirects to HTTPS.
    let balancer = LoadBalancer::before(&nginx.address(), shop.folder());
    comes(&balancer.1, "/", 200);
    drop(balancer);
    let settings = shop.read("shop/settings.py");
    let without = settings.replace("\"health.HealthMiddleware\", ", "");
    assert_ne!(without, settings);
    for (name, more, answer) in
        [("unknown", "", 400), ("redirect", "SECURE_SSL_REDIRECT = True\nALLOWED_HOSTS = [\"*\"]\n", 301)]
    {
        shop.write("wrong_settings.py", &format!("{without}\n{more}"));
        let mount =
            format!("{}:/home/docker/code/shop/settings.py:ro", shop.path("wrong_settings.py").display());
        let wrong = Container::uwsgi(&shop, name, &[], &["--volume", &mount]);
        let nginx = wrong.nginx(&shop, &["--volume", &files]);
        within(30, name, || status(&nginx.address(), "/health/", Some("10.0.0.7")) == answer);
        let balancer = LoadBalancer::before(&nginx.address(), shop.folder());
        comes(&balancer.1, "/", 503);
    }
    drop((right, nginx));

    // 500: uWSGI goes on without an application.
    let absent = ["--env", "WSGI=absent:application"];
    let wrong = Container::uwsgi(&shop, "noapp", &[("need-app = true", "")], &absent);
    wrong.says("spawned uWSGI worker");
    comes(&wrong.address(), "/", 500);
    wrong.says("no python application found");
    let right = Container::uwsgi(&shop, "needapp", &[], &absent);
    within(30, "the container ends", || right.state() == "exited");
    drop((wrong, right));

    // Requests that are cut off when the container is stopped.
    shop.write("slow.py", SLOW);
    let mount = format!("{}:/home/docker/code/slow.py:ro", shop.path("slow.py").display());
    let slow = ["--env", "WSGI=slow:application", "--volume", &mount];
    let hook = "hook-master-start = unix_signal:15 gracefully_kill_them_all";
    for (name, lines, answer) in
        [("brutal", vec![(hook, "die-on-term = true")], 0), ("graceful", vec![], 200)]
    {
        let container = Container::uwsgi(&shop, name, &lines, &slow);
        container.says("spawned uWSGI worker 2");
        let address = container.address();
        let request = std::thread::spawn(move || status(&address, "/", None));
        std::thread::sleep(Duration::from_secs(1));
        docker_prints(&["stop", "--time", "20", &container.0]);
        assert_eq!(request.join().unwrap(), answer, "{name}: {}", container.log());
    }
}
