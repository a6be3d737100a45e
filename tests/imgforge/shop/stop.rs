//! A web container that is told to stop while requests run, wait and come: what is lost without `start-web`, and that nothing is
//! with it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread::{JoinHandle, sleep, spawn};
use std::time::{Duration, Instant};

use super::beside::Container;
use crate::support::docker::docker_prints;
use crate::support::shop::{Built, Shop};

/// A request takes a while, and is read before it is answered.
const SLOW: &str = "import time\n\n\ndef application(environ, start_response):\n    environ['wsgi.input'].read()\n    \
     time.sleep(1.5)\n    start_response('200 OK', [])\n    return [b'done']\n";

/// Loads when it may.
const HEAVY: &str = "import os\nimport time\n\nprint('loading', flush=True)\nwhile not os.path.exists('/tmp/go'):\n    \
     time.sleep(0.1)\n\n\ndef application(environ, start_response):\n    start_response('200 OK', [])\n    \
     return [b'done']\n";

/// Takes a while to load.
const LONG: &str = "import time\n\nprint('loading', flush=True)\ntime.sleep(3)\n\n\n\
     def application(environ, start_response):\n    start_response('200 OK', [])\n    return [b'done']\n";

/// Starts the server as most do: it opens its socket itself, and gets the signal at once.
const PLAIN: &str = "import os\n\nos.environ['LISTEN_FD'] = ''\ncommand = ['uwsgi', '--ini', 'dockerfiles/uwsgi.ini']\n\
     if os.environ['SERVER'] == 'gunicorn':\n    \
     command = ['gunicorn', '--config', 'dockerfiles/gunicorn.conf.py']\nos.execvp(command[0], command)\n";
const PLAIN_SOCKETS: [(&str, &[(&str, &str)]); 2] = [
    ("gunicorn", &[("\"fd://\" + os.environ[\"LISTEN_FD\"]", "\"0.0.0.0:8000\"")]),
    ("uwsgi", &[("fd://$(LISTEN_FD)", "0.0.0.0:8000"), ("hook-post-app", "# hook-post-app")]),
];

/// What became of an order that nginx would have sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    /// It was answered.
    Answered,
    /// The connection was not taken: another container can be asked.
    Refused,
    /// It was sent, and no answer came: nobody may send it again.
    Lost,
}

fn order(address: SocketAddr) -> Order {
    // nginx waits as long: proxy_connect_timeout.
    let Ok(mut stream) = TcpStream::connect_timeout(&address, Duration::from_secs(1)) else {
        return Order::Refused;
    };
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let request = b"POST / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 4\r\n\r\nbook";
    let mut answer = Vec::new();
    match stream.write_all(request).and_then(|()| stream.read_to_end(&mut answer)) {
        Ok(_) if answer.starts_with(b"HTTP/1.1 200") => Order::Answered,
        _ => Order::Lost,
    }
}

/// The web server alone, with another application.
fn serving(
    shop: &Shop,
    server: &str,
    name: &str,
    application: &str,
    lines: &[(&str, &str)],
    more: &[&str],
) -> (Container, SocketAddr) {
    shop.write(&format!("{name}.py"), application);
    let mount = format!("{}:/home/docker/code/other.py:ro", shop.path(&format!("{name}.py")).display());
    let other = ["--env", "WSGI=other:application", "--env", "WEB_CONCURRENCY=1", "--volume", &mount];
    let container = Container::web(shop, server, name, lines, &[&other, more].concat());
    let format = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}";
    let ip = docker_prints(&["inspect", "--format", format, &container.0]);
    (container, SocketAddr::new(ip.trim().parse().unwrap(), 8000))
}

/// Waits until it answers; before that it refuses.
#[track_caller]
fn ready(container: &Container, address: SocketAddr) {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        match order(address) {
            Order::Answered => return,
            Order::Refused if Instant::now() < deadline => sleep(Duration::from_millis(100)),
            other => panic!("{other:?}\n{}", container.log()),
        }
    }
}

/// Five orders for a server that does one at a time, SIGTERM, and two orders that come while it stops.
fn stopped(shop: &Shop, server: &str, name: &str, lines: &[(&str, &str)], more: &[&str]) -> Vec<Order> {
    let one = [&[("threads = 4", "threads = 1")], lines].concat();
    let (container, address) = serving(shop, server, name, SLOW, &one, more);
    ready(&container, address);

    let ordered = || -> JoinHandle<Order> { spawn(move || order(address)) };
    let mut orders: Vec<JoinHandle<Order>> = (0..5).map(|_| ordered()).collect();
    sleep(Duration::from_millis(500));
    docker_prints(&["kill", "--signal", "TERM", &container.0]);
    sleep(Duration::from_millis(500));
    orders.extend((0..2).map(|_| ordered()));
    let ended = orders.into_iter().map(|order| order.join().unwrap()).collect();
    let code = docker_prints(&["wait", &container.0]);
    assert_eq!(code.trim(), "0", "{}", container.log());
    ended
}

#[tokio::test]
async fn no_order_is_lost_when_the_web_server_starts_and_stops() {
    let shop = Shop::new(Built { server: "gunicorn", engine: "direct" }).await;
    shop.program().run(&["release"]).ok();
    shop.write("plain", PLAIN);
    let plain = format!("{}:/home/docker/code/dockerfiles/start-web:ro", shop.path("plain").display());
    for (server, sockets) in PLAIN_SOCKETS {
        // Without it: those that come late are taken by nobody, and uWSGI leaves those that wait.
        let name = format!("plain-{server}");
        let plainly = stopped(&shop, server, &name, sockets, &["--volume", &plain]);
        assert_eq!(plainly[5..], [Order::Lost, Order::Lost], "{server}");
        assert_eq!(plainly[..5].contains(&Order::Lost), server == "uwsgi", "{server}: {plainly:?}");

        let gracefully = stopped(&shop, server, &format!("graceful-{server}"), &[], &[]);
        assert_eq!(gracefully[..5], [Order::Answered; 5], "{server}");
        assert_eq!(gracefully[5..], [Order::Refused; 2], "{server}");

        // Nobody waits while the site is loaded.
        let (container, address) = serving(&shop, server, &format!("heavy-{server}"), HEAVY, &[], &[]);
        container.says("loading");
        assert_eq!(order(address), Order::Refused, "{}", container.log());
        docker_prints(&["exec", &container.0, "touch", "/tmp/go"]);
        ready(&container, address);

        // Nor is it served after all, when the container was told to stop meanwhile.
        let (container, _) = serving(&shop, server, &format!("long-{server}"), LONG, &[], &[]);
        container.says("loading");
        docker_prints(&["stop", "--time", "20", &container.0]);
        let code = docker_prints(&["inspect", "--format", "{{.State.ExitCode}}", &container.0]);
        assert!(["0", "143"].contains(&code.trim()), "{code}{}", container.log());
    }
    let absent = ["--env", "PATH=/usr/bin:/bin", "--env", "SERVER="];
    let container = Container::run(&shop, "absent", "web", &absent);
    container.says("start-web: gunicorn is not in the image");
}
