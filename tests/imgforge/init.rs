//! `imgforge init` as a command: what it writes, what it leaves alone, what it refuses. Whole sites that it made are in `shop`.

use std::path::Path;
use std::process::Command;

use crate::support::program::Program;
use crate::support::shop::copy;

fn written(folder: &Path) -> Vec<String> {
    let files = walkdir::WalkDir::new(folder)
        .into_iter()
        .map(Result::unwrap)
        .filter(|entry| entry.file_type().is_file());
    files.map(|entry| entry.path().strip_prefix(folder).unwrap().display().to_string()).collect()
}

#[test]
fn a_dry_run_tells_every_file_and_writes_none() {
    let folder = tempfile::tempdir().unwrap();
    let ended =
        Program::new(folder.path()).run(&["init", "--dry-run", "--project", "shop", "--output", "json"]).ok();
    let files = ended.result()["init"]["files"].as_array().unwrap().clone();
    let told =
        |path: &str| files.iter().any(|file| file["path"] == path && file["done"] == "would be written");
    for path in [
        "imgforge.toml",
        "manage.py",
        "shop/settings.py",
        "secrets/server_settings.py.shop",
        "cloudformation/site.yaml",
    ] {
        assert!(told(path), "{path}: {files:#?}");
    }
    assert_eq!(written(folder.path()), [] as [String; 0]);
}

#[test]
fn a_file_that_says_something_else_is_shown_and_left_until_it_may_be_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let program = Program::new(folder.path());
    program.run(&["init", "--yes", "--project", "shop"]).ok();
    let health = folder.path().join("health.py");
    let ours = std::fs::read_to_string(&health).unwrap();
    let secret = std::fs::read_to_string(folder.path().join("secrets/postgres_password")).unwrap();
    std::fs::write(&health, "MINE = 1\n").unwrap();

    let left = program.run(&["init", "--yes"]).ok();
    assert!(left.stdout.contains("left             health.py"), "{}", left.stdout);
    assert!(
        left.stderr.contains("-MINE = 1") && left.stderr.contains("+class HealthMiddleware:"),
        "{}",
        left.stderr
    );
    assert_eq!(std::fs::read_to_string(&health).unwrap(), "MINE = 1\n");

    let replaced = program.run(&["init", "--yes", "--replace"]).ok();
    assert!(replaced.stdout.starts_with("replaced         health.py\n\nNext:"), "{}", replaced.stdout);
    assert_eq!(std::fs::read_to_string(&health).unwrap(), ours);
    assert_eq!(std::fs::read_to_string(folder.path().join("secrets/postgres_password")).unwrap(), secret);
}

#[test]
fn what_cannot_be_answered_is_refused_and_nothing_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let program = Program::new(folder.path());
    program.run(&["init"]).failed(2, "there is no terminal to ask on");
    program
        .run(&["init", "--yes", "--project", "My Shop"])
        .failed(2, "lower case letters, digits and dashes: my-shop");
    program.run(&["init", "--yes", "--project", "celery"]).failed(2, "would hide");
    program.run(&["init", "--yes", "--server", "apache"]).failed(2, "gunicorn");
    assert_eq!(written(folder.path()), [] as [String; 0]);

    std::fs::write(folder.path().join("manage.py"), "print('no settings')\n").unwrap();
    program.run(&["init", "--yes"]).failed(2, "there is no wsgi.py");
    std::fs::create_dir(folder.path().join("site")).unwrap();
    std::fs::write(folder.path().join("site/wsgi.py"), "").unwrap();
    program.run(&["init", "--yes"]).failed(2, "names no settings module");
    program
        .run(&["init", "--yes", "--settings", "site.absent"])
        .failed(2, "there is no settings module site.absent");
}

#[test]
fn settings_that_read_the_environment_get_what_they_ask_for_before_they_do() {
    let folder = tempfile::tempdir().unwrap();
    copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/environ"), folder.path());
    let program = Program::new(folder.path());
    let read = |file: &str| std::fs::read_to_string(folder.path().join(file)).unwrap();
    let init = ["init", "--yes", "--project", "bakery", "--bases", "debian", "--ci", "github"];
    let first = program.run(&init).ok();
    let fill_in = "\nfill in secrets/server_settings.py.bakery: REDIS_URL, MAILGUN_API_KEY, MAILGUN_DOMAIN, SENTRY_DSN\n";
    assert!(first.stdout.contains(fill_in), "{}", first.stdout);
    assert!(first.stderr.contains("+def _take_environment():"), "{}", first.stderr);

    let settings = read("config/settings/production.py");
    let place = |words: &str| settings.find(words).unwrap_or_else(|| panic!("{words}:\n{settings}"));
    let places = [
        "# ruff: noqa",
        "\"\"\"The settings of servers",
        "\n_take_environment()",
        "import logging",
        "SENTRY_DSN =",
        "server_settings import *",
    ];
    assert!(places.map(place).is_sorted(), "{settings}");
    // The database's password is the one that the container has.
    let here = read("secrets/server_settings.py.bakery");
    let password = read("secrets/postgres_password");
    let url = format!("\"DATABASE_URL\": \"postgres://bakery:{}@postgres:5432/bakery\",\n", password.trim());
    assert!(here.contains(&url), "{here}");
    assert!(here.contains("\"SENTRY_DSN\": \"\",  # imgforge does not know it\n"), "{here}");
    assert!(
        here.contains("\nSECURE_SSL_REDIRECT = False\n") && here.contains("\"ATOMIC_REQUESTS\": True"),
        "{here}"
    );
    let sample = read("config/settings/server_settings.py.bakery");
    assert!(
        sample.contains("\"SENTRY_DSN\": \"SENTRY_DSN\",\n") && !sample.contains("SSL_REDIRECT"),
        "{sample}"
    );
    let developer = read("config/settings/local_settings.py.sample");
    assert!(developer.contains("\"DATABASE_URL\": \"sqlite:///db.sqlite3\",\n"), "{developer}");
    // Those that manage.py names do not take ENVIRONMENT.
    let pipeline = read(".github/workflows/release.yml");
    assert!(
        pipeline.contains("run: python manage.py test --settings config.settings.production\n"),
        "{pipeline}"
    );

    let again = program.run(&init).ok();
    assert!(again.stdout.starts_with("everything is as init would write it"), "{}", again.stdout);
    assert_eq!(read("config/settings/production.py"), settings);
    // A variable that came later is told, and a secret file that is there stays its owner's.
    let later = settings.replace("SENTRY_DSN =", "STRIPE_KEY = env(\"STRIPE_KEY\")\nSENTRY_DSN =");
    std::fs::write(folder.path().join("config/settings/production.py"), later).unwrap();
    let told = program.run(&init).ok();
    let add = "\nadd to ENVIRONMENT in secrets/server_settings.py.bakery: STRIPE_KEY\n";
    assert!(told.stdout.contains(add), "{}", told.stdout);
    assert_eq!(read("secrets/server_settings.py.bakery"), here);

    // Nothing gives it, so doctor says so; then somebody does.
    let doctor = || program.run(&["doctor"]).stdout;
    let why = "config.settings.production cannot be imported without STRIPE_KEY: put into ENVIRONMENT of";
    let told = doctor();
    assert!(told.contains(why), "{told}");
    std::fs::write(
        folder.path().join("secrets/server_settings.py.bakery"),
        here.replace("ENVIRONMENT = {", "ENVIRONMENT = {\n    \"STRIPE_KEY\": \"\","),
    )
    .unwrap();
    let found = "config.settings.production finds everything that it wants of the environment";
    let told = doctor();
    assert!(told.contains(found), "{told}");
}

/// Python imports the package before the settings in it, and the settings' own package before `server_settings` in that.
#[test]
fn packages_that_ask_while_they_are_imported_find_what_server_settings_gives() {
    let folder = tempfile::tempdir().unwrap();
    let write = |file: &str, text: &str| {
        let path = folder.path().join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    write("manage.py", "import os\nos.environ.setdefault('DJANGO_SETTINGS_MODULE', 'shop.settings')\n");
    write("requirements.txt", "Django\n");
    write("shop/__init__.py", "import os\nPLACE = os.environ['PLACE']\n");
    write("shop/wsgi.py", "");
    write("shop/settings/__init__.py", "from .base import *\n");
    let base = "import os\nINSTALLED_APPS = []\nMIDDLEWARE = []\nTOKEN = os.environ['TOKEN']\n\
                DATABASES = {'default': {}}\n";
    let search = "HAYSTACK_CONNECTIONS = {\n    'default': {'ENGINE': 'haystack.backends.whoosh_backend.WhooshEngine', \
                  'PATH': 'beside', 'BATCH_SIZE': 10},\n    'other': {'ENGINE': 'simple'},\n}\n";
    write("shop/settings/base.py", &format!("{base}{search}"));
    let program = Program::new(folder.path());
    let started = program.run(&["init", "--yes", "--project", "shop", "--bases", "debian"]).ok();
    assert!(
        started.stdout.contains("fill in secrets/server_settings.py.shop: PLACE, TOKEN"),
        "{}",
        started.stdout
    );

    let secret = std::fs::read_to_string(folder.path().join("secrets/server_settings.py.shop")).unwrap();
    write("shop/settings/server_settings.py", &secret.replace("\"TOKEN\": \"\"", "\"TOKEN\": \"t0\""));
    let script = "import sys, unittest.mock; sys.modules['shop.celery'] = unittest.mock.MagicMock(); \
                  import os, shop.settings as s; print(repr(s.TOKEN), repr(os.environ['PLACE']), s.DEBUG, \
                  hasattr(s, 'ENVIRONMENT')); print(s.HAYSTACK_CONNECTIONS)";
    let mut python = Command::new("python3");
    let done = python.args(["-c", script]).current_dir(folder.path()).env("PLACE", "given").output().unwrap();
    let (told, why) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    let (variables, search) = told.split_once('\n').unwrap_or_else(|| panic!("{why}"));
    assert_eq!(variables, "'t0' 'given' False False");
    // The index is in the volume, and nothing else of it is changed.
    let whoosh = "'PATH': '/home/docker/files/whoosh_index/default', 'BATCH_SIZE': 10}";
    assert!(search.contains(whoosh) && search.contains("'other': {'ENGINE': 'simple'}"), "{search}");
    let developer =
        std::fs::read_to_string(folder.path().join("shop/settings/local_settings.py.sample")).unwrap();
    assert!(!developer.contains("WHOOSH"), "{developer}");
}
