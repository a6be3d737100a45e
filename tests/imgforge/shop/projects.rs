//! Django projects that others' commands make: `imgforge init` and `imgforge release`, and no file is edited by hand.

use std::path::Path;
use std::process::Command;

use crate::support::program::Program;
use crate::support::shop::{Built, Shop};

const DIRECTLY: Built = Built { server: "gunicorn", engine: "direct" };

/// A project as a command of these packages makes it.
struct Made(tempfile::TempDir);

impl Made {
    fn by(packages: &[&str], command: &[&str]) -> Self {
        let folder = tempfile::Builder::new().prefix("imgforge-made-").tempdir().unwrap();
        let mut uv = Command::new("uv");
        uv.args(["tool", "run", "--quiet", "--from", packages[0]]);
        for package in &packages[1..] {
            uv.args(["--with", package]);
        }
        let done =
            uv.args(command).current_dir(folder.path()).output().expect("uv is there: scripts/setup test");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        Made(folder)
    }

    /// The sources of a package.
    fn sources(package: &str) -> Self {
        let folder = tempfile::Builder::new().prefix("imgforge-made-").tempdir().unwrap();
        let pip = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/venv/bin/pip");
        let mut download = Command::new(pip);
        download.args(["download", "--quiet", "--disable-pip-version-check"]);
        download.args(["--no-deps", "--no-binary", ":all:", package]);
        let unpack = "for archive in *.tar.gz; do tar -xzf $archive --strip-components 1; done; rm *.tar.gz";
        let mut shell = Command::new("sh");
        for command in [&mut download, shell.args(["-ec", unpack])] {
            let done = command.current_dir(folder.path()).output().unwrap();
            assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        }
        Made(folder)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

async fn released(project: &Path, built: Built) -> Shop {
    let shop = Shop::of(project, built, &[]).await;
    let doctor = shop.program().run(&["doctor"]).ok();
    assert!(!doctor.stdout.contains("FAIL"), "{}", doctor.stdout);
    shop.program().run(&["release"]).ok();
    shop
}

#[tokio::test]
async fn a_project_as_startproject_makes_it() {
    let made = Made::by(&["Django==5.2.19"], &["django-admin", "startproject", "mysite", "."]);
    let shop = released(made.path(), Built { server: "uwsgi", engine: "docker" }).await;
    shop.answers("/admin/login/", "Django administration");
    shop.answers("/static/admin/css/base.css", "--primary");
    // Again: everything is as init would write it.
    let named = ["--project", &shop.project, "--server", "uwsgi", "--bases", "debian"];
    let again = shop.program().run(&[&["init", "--yes"], &named[..]].concat()).ok();
    assert!(again.stdout.starts_with("everything is as init would write it"), "{}", again.stdout);
}

#[tokio::test]
async fn a_project_that_init_writes_itself() {
    let empty = Made(tempfile::tempdir().unwrap());
    let shop = released(empty.path(), DIRECTLY).await;
    shop.answers("/", "It runs");
    shop.answers("/admin/login/", "Django administration");
}

/// Settings in several files, those for servers among them; Django 6.1.
#[tokio::test]
async fn a_project_as_wagtail_makes_it() {
    let made = Made::by(&["wagtail==8.0.1"], &["wagtail", "start", "mysite", "."]);
    let shop = released(made.path(), DIRECTLY).await;
    shop.answers("/", "Wagtail");
    shop.answers("/admin/login/", "Sign in");
    let version = shop.exec("web", "python3 -c 'import django; print(django.__version__)'");
    assert!(version.starts_with("6.1"), "{version}");
    let settings =
        shop.exec("web", "python3 -c 'from django.conf import settings; print(settings.SETTINGS_MODULE)'");
    assert_eq!(settings, "mysite.settings.production");
}

#[tokio::test]
async fn a_project_as_coderedcms_makes_it() {
    let made = Made::by(&["coderedcms==6.0.0"], &["coderedcms", "start", "mysite", "."]);
    let shop = released(made.path(), DIRECTLY).await;
    shop.answers("/", "<html");
    shop.answers("/admin/login/", "Sign in");
}

/// An example that came with a Dockerfile and a compose file of its own, and has no folder for static files.
#[tokio::test]
async fn a_project_as_allauth_gives_it_for_an_example() {
    let made = Made::sources("django-allauth==65.22.1");
    let shop = released(&made.path().join("examples/regular-django"), DIRECTLY).await;
    shop.answers("/accounts/login/", "Sign In");
    shop.answers("/accounts/signup/", "Sign Up");
    shop.answers("/static/admin/css/base.css", "--primary");
    assert!(shop.read("docker-compose.yml").contains("allauth"), "its own stays");
}

/// Packages in pyproject.toml, their versions in uv.lock; one has no wheels.
#[tokio::test]
async fn a_project_whose_packages_uv_keeps() {
    let made = Made::by(&["Django==5.2.19"], &["django-admin", "startproject", "mysite", "."]);
    let project = "[project]\nname = \"mysite\"\nversion = \"1\"\nrequires-python = \">=3.11\"\n\
                   dependencies = [\"Django==5.2.18\", \"Pillow>=11\", \"psycopg[c]\"]\n\n\
                   [dependency-groups]\ndev = [\"django-debug-toolbar\"]\n";
    std::fs::write(made.path().join("pyproject.toml"), project).unwrap();
    let init = Program::new(made.path());
    init.run(&["init", "--yes"]).failed(2, "uv lock");
    let locked =
        Command::new("uv").args(["lock", "--quiet"]).current_dir(made.path()).output().expect("uv is there");
    assert!(locked.status.success(), "{}", String::from_utf8_lossy(&locked.stderr));

    let shop = released(made.path(), Built { server: "gunicorn", engine: "docker" }).await;
    shop.answers("/admin/login/", "Django administration");
    let listed = "python3 -c 'import django, importlib.util as u; print(django.__version__, u.find_spec(\"debug_toolbar\"))'";
    assert_eq!(shop.exec("web", listed), "5.2.18 None");
    assert_eq!(shop.exec("web", "python3 -c 'import psycopg; print(psycopg.pq.__impl__)'"), "c");
    assert_eq!(shop.exec("web", "command -v gcc || true"), "");
}

/// Settings that cannot be imported without variables of the environment, and that are for HTTPS.
#[tokio::test]
async fn a_project_whose_settings_read_the_environment() {
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/environ");
    let shop = released(&project, DIRECTLY).await;
    shop.answers("/", "Bread at seven");
    shop.answers("/static/css/bakery.css", "saddlebrown");
    shop.answers("/admin/login/", "Django administration");
    // What the container is given counts, and the dictionary is no setting.
    let settings = |given: &str, what: &str| {
        shop.exec(
            "web",
            &format!("{given} python3 -c 'from django.conf import settings as s; print({what})'"),
        )
    };
    assert_eq!(settings("", "s.ADMIN_URL, hasattr(s, \"ENVIRONMENT\")"), "admin/ False");
    assert_eq!(settings("DJANGO_ADMIN_URL=else/", "s.ADMIN_URL"), "else/");
    assert_eq!(settings("", "s.DATABASES[\"default\"][\"ATOMIC_REQUESTS\"]"), "True");
    // A worker that could not read its settings, or find its broker, would not answer.
    let queued = "from thumbnails.tasks import sweep; print(bool(sweep.delay().id))";
    assert!(shop.exec("web", &format!("python3 manage.py shell -v 0 -c '{queued}'")).ends_with("True"));
}
