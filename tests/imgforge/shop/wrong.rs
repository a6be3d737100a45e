//! uWSGI behind nginx behind a load balancer as it is often set up, and what visitors get then: each fault reproduced with the wrong
//! line, and gone with the template's own.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::beside::{Container, files, status, within};
use crate::support::docker::docker_prints;
use crate::support::shop::{Built, Shop};

/// Sleeps as long as a slow page does.
const SLOW: &str = "import time\n\n\ndef application(environ, start_response):\n    time.sleep(3)\n    \
                    start_response('200 OK', [])\n    return [b'slow']\n";

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
