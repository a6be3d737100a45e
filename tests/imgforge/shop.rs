//! The shop of `fixtures/shop` as `imgforge init` makes it ready: released with one command, and used over HTTP from outside.

mod beside;
mod bucket;
mod projects;
mod stop;
mod wrong;

use crate::support::docker::docker_prints;
use crate::support::shop::{Built, Shop};

#[tokio::test]
async fn behind_gunicorn_built_with_its_dockerfile_everything_works() {
    let shop = Shop::new(Built { server: "gunicorn", engine: "docker" }).await;
    works(&shop, "gunicorn");

    // A new secret and a new release: the proxy that went on finds the site at its new address, and the data are still there.
    let (web, nginx) = (shop.container("web"), shop.container("nginx"));
    let orders = shop.exec("web", COUNT);
    shop.add("secrets/server_settings.py", "\nMOTTO = \"another motto\"\n");
    shop.program().run(&["release"]).ok();
    assert_ne!(shop.container("web"), web);
    assert_eq!(shop.container("nginx"), nginx);
    assert_eq!(shop.exec("web", COUNT), orders);
    shop.visit("check.py", &["--motto", "another motto"]);
    gone_when_taken_down(&shop);
}

#[tokio::test]
async fn behind_uwsgi_built_with_its_dockerfile_everything_works() {
    let shop = Shop::new(Built { server: "uwsgi", engine: "docker" }).await;
    // The newest Django; the other tests have the one with long-term support.
    let requirements = shop.read("requirements.txt");
    shop.write("requirements.txt", &requirements.replace("Django==5.2.19", "Django==6.1.3"));
    works(&shop, "uwsgi");
    assert_eq!(shop.exec("web", "python3 -c 'import django; print(django.__version__)'"), "6.1.3");
    // The tests of the template's own modules and of the shop, with the database, cache and settings of servers.
    let tested = shop.exec("web", "python3 manage.py test 2>&1 || true");
    assert!(tested.ends_with("OK") || tested.contains("\nOK\n"), "{tested}");
    // memcached, RabbitMQ and PostgreSQL are killed under load, and nothing is lost.
    let told = shop.visit("outages.py", &["--project", &shop.project, "--seconds", "4"]);
    assert!(told.contains("postgres killed") && told.contains("have their thumbnails"), "{told}");
}

#[tokio::test]
async fn behind_gunicorn_built_directly_everything_works() {
    let shop = Shop::new(Built { server: "gunicorn", engine: "direct" }).await;
    works(&shop, "gunicorn");
    replaced_under_load(&shop);

    // One line makes it the other server.
    let config = shop.read("imgforge.toml");
    let other = config.replace("SERVER = \"gunicorn\"", "SERVER = \"uwsgi\"");
    assert_eq!(config.lines().zip(other.lines()).filter(|(one, two)| one != two).count(), 1);
    shop.write("imgforge.toml", &other);
    works(&shop, "uwsgi");
    replaced_under_load(&shop);
}

const COUNT: &str =
    "python3 manage.py shell -v 0 -c 'from shop.models import Order; print(Order.objects.count())'";

fn works(shop: &Shop, server: &str) {
    let released = shop.program().run(&["release"]).ok();
    for once in ["migrate", "collectstatic"] {
        assert!(released.stderr.contains(once), "{}", released.stderr);
    }
    shop.visit("check.py", &["--motto", &shop.motto]);

    let processes = docker_prints(&["top", &shop.container("web")]);
    assert!(processes.contains(server), "{processes}");
    for service in ["web", "worker", "beat", "nginx"] {
        assert_eq!(shop.exec(service, "id -u"), "1000");
        assert_eq!(shop.exec(service, "command -v cc gcc make pip pip3 || true"), "", "{service}");
        assert_eq!(shop.exec(service, "find / -xdev -name ca_bundle 2>/dev/null || true"), "", "{service}");
    }
    let settings = "stat -c '%u:%g %a' /home/docker/code/shop/server_settings.py";
    assert_eq!(shop.exec("worker", settings), "1000:1000 400");
    // The code is not the site's to change; neither is there what belongs to developers and to the bucket.
    assert_eq!(shop.exec("web", "touch manage.py 2>/dev/null || echo refused"), "refused");
    assert_eq!(
        shop.exec(
            "web",
            "ls -d secrets shop/local_settings.py shop/server_settings.py.* .git 2>/dev/null || true"
        ),
        ""
    );
    // nginx has none of the secrets, and no code.
    assert_eq!(shop.exec("nginx", "find /home /opt /srv -name '*.py' 2>/dev/null || true"), "");
}

/// Both web containers, while visitors read and order: no request fails.
fn replaced_under_load(shop: &Shop) {
    let folder = shop.folder().display().to_string();
    let told =
        shop.visit("replace.py", &["--project", &shop.project, "--folder", &folder, "--containers", "2"]);
    assert!(told.contains("2 containers replaced"), "{told}");
}

fn gone_when_taken_down(shop: &Shop) {
    shop.program().run(&["down", "--volumes"]).ok();
    let project = format!("label=com.docker.compose.project={}", shop.project);
    for list in [["ps", "--all"].as_slice(), &["volume", "ls"], &["network", "ls"]] {
        assert_eq!(docker_prints(&[list, &["--quiet", "--filter", &project]].concat()), "", "{list:?}");
    }
}
