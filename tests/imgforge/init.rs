//! `imgforge init` as a command: what it writes, what it leaves alone, what it refuses. Whole sites that it made are in `shop`.

use std::path::Path;

use crate::support::program::Program;

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
