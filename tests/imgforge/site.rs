//! The Django site of `fixtures/shop`, released with one command and asked through nginx, once behind gunicorn and
//! once behind uWSGI.

use crate::support::site::{Server, Shop};

#[tokio::test]
async fn behind_gunicorn_the_page_shows_what_only_the_secret_settings_know() {
    let shop = Shop::new(Server::Gunicorn).await;
    serves(&shop);

    // A new secret and a new release: the proxy that went on finds the site at its new address.
    let (web, nginx) = (shop.container("web"), shop.container("nginx"));
    shop.write_motto("another motto");
    shop.program().run(&["release"]).ok();
    assert_ne!(shop.container("web"), web);
    assert_eq!(shop.container("nginx"), nginx);
    let page = shop.fetch("/", None);
    assert!(page.body.contains("another motto"), "{page:?}");
    // The count is in the volume, which outlives the container.
    assert!(page.body.contains("Visits: 2"), "{page:?}");
    shop.program().run(&["down", "--volumes"]).ok();
}

#[tokio::test]
async fn behind_uwsgi_the_page_shows_what_only_the_secret_settings_know() {
    let shop = Shop::new(Server::Uwsgi).await;
    serves(&shop);
    shop.program().run(&["down", "--volumes"]).ok();
}

/// Built without a daemon, the same site gives the same answers.
#[tokio::test]
async fn built_directly_it_serves_the_same_behind_gunicorn() {
    let shop = Shop::direct(Server::Gunicorn).await;
    serves(&shop);
    // A changed file: the daemon gets the layers from there on, and the page is another.
    let template = shop.read("shop/templates/shop/front.html");
    shop.write("shop/templates/shop/front.html", &template.replace("</body>", "changed</body>"));
    let released = shop.program().run(&["release", "--image", "web"]).ok();
    assert!(!released.stderr.contains("Installed"), "{}", released.stderr);
    assert!(shop.fetch("/", None).body.contains("changed"), "{}", released.stderr);
    shop.program().run(&["down", "--volumes"]).ok();
}

#[tokio::test]
async fn built_directly_it_serves_the_same_behind_uwsgi() {
    let shop = Shop::direct(Server::Uwsgi).await;
    serves(&shop);
    shop.program().run(&["down", "--volumes"]).ok();
}

fn serves(shop: &Shop) {
    shop.program().run(&["release"]).ok();

    let page = shop.fetch("/", None);
    assert_eq!(page.status, 200, "{page:?}");
    // The migrations were run, or there would be no table to count in.
    assert!(page.body.contains(&shop.motto) && page.body.contains("Visits: 1"), "{page:?}");

    // Static files: the site's own and Django's, for ever, and the second time without asking the site.
    let start = page.body.find("/static/shop/shop.").expect("a style sheet with a hash in its name");
    let style = page.body[start..].split('"').next().unwrap();
    for (path, cache) in [(style, "miss"), (style, "hit"), ("/static/admin/css/base.css", "miss")] {
        let file = shop.fetch(path, None);
        assert_eq!(file.status, 200, "{path}: {file:?}");
        assert!(file.headers.contains(&format!("x-cache: {cache}")), "{path}: {file:?}");
        assert!(file.headers.contains("content-type: text/css"), "{path}: {file:?}");
    }
    assert_eq!(shop.fetch("/static/nothing.css", None).status, 404);
    assert_eq!(shop.fetch("/admin/login/", None).status, 200);

    // A load balancer's check comes by address; anybody else's wrong host name is refused by Django.
    assert_eq!(shop.fetch("/health/", Some("10.0.0.7")).body, "ok\n");
    assert_eq!(shop.fetch("/", Some("elsewhere.example.com")).status, 400);

    for service in ["web", "nginx"] {
        assert_eq!(shop.exec(service, "id -u"), "1000");
        assert_eq!(shop.exec(service, "command -v cc gcc make pip pip3 || true"), "", "{service}");
        assert_eq!(shop.exec(service, "find / -xdev -name ca_bundle 2>/dev/null || true"), "", "{service}");
    }
    assert_eq!(shop.exec("web", "pwd"), "/home/docker/code");
    let settings = "stat -c '%u:%g %a' /home/docker/code/shop/server_settings.py";
    assert_eq!(shop.exec("web", settings), "1000:1000 400");
    // The code is not the site's to change.
    assert_eq!(shop.exec("web", "touch manage.py 2>/dev/null || echo refused"), "refused");
}
