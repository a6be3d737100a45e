//! The whole pipeline in the local environment: build, bake, an OCI layout, compose. Nothing but the daemon is needed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;

use crate::support::program::Program;
use crate::support::tiny::{Tiny, files, holds};

fn release(tiny: &Tiny) -> Value {
    tiny.program().run(&["release", "--output", "json"]).ok().result()["release"].clone()
}

#[test]
fn a_release_serves_what_only_the_secret_file_knows_and_a_second_one_changes_nothing() {
    let tiny = Tiny::new("");
    tiny.commit();
    let first = release(&tiny);
    assert!(tiny.fetch("private/server_settings.py").contains(&tiny.canary));
    let image = &first["images"][0];
    assert!(image["uploaded"].as_u64().unwrap() > 0);
    let containers = tiny.containers();

    let second = release(&tiny);
    assert_eq!(second["images"][0]["digest"], image["digest"]);
    assert_eq!(second["images"][0]["uploaded"], 0, "nothing is sent twice");
    assert_eq!(second["images"][0]["built"], false);
    assert_eq!(second["release"], first["release"]);
    assert_eq!(tiny.containers(), containers, "what runs is left alone");

    let inspected = tiny.program().run(&["inspect", "web"]).ok().stdout;
    assert!(
        inspected.contains("secret layer") && inspected.contains("secret    server_settings"),
        "{inspected}"
    );
    let run = tiny.program().run(&["run", "web", "--", "sh", "-c", "echo out; echo problem >&2; exit 7"]);
    assert_eq!((run.code, run.stdout.as_str()), (7, "out\n"), "{run:?}");
    assert!(run.stderr.lines().any(|line| line == "problem"), "{run:?}");

    tiny.program().run(&["down"]).ok();
    assert_eq!(tiny.containers(), [] as [String; 0]);
    tiny.program().run(&["up"]).ok();
    assert!(tiny.fetch("").contains("public"));
    tiny.program().run(&["down", "--volumes"]).ok();
}

#[test]
fn a_changed_secret_gives_one_new_layer_and_the_service_gets_it() {
    let tiny = Tiny::new("");
    release(&tiny);
    let before = layers(&tiny);
    tiny.write("secrets/server_settings.py", "SECRET_KEY = \"another\"\n");
    release(&tiny);
    let after = layers(&tiny);
    assert_eq!(after.len(), before.len());
    assert_eq!(after[..after.len() - 1], before[..before.len() - 1], "layers below the secret are the same");
    assert_ne!(after.last(), before.last());
    assert!(tiny.fetch("private/server_settings.py").contains("another"));
}

/// Digests of the newest pushed image's layers.
fn layers(tiny: &Tiny) -> Vec<String> {
    let reference = release(tiny)["images"][0]["reference"].as_str().unwrap().to_owned();
    let inspected = tiny.program().run(&["inspect", &reference, "--output", "json"]).ok().result();
    let layers = inspected["inspect"]["layers"].as_array().unwrap().clone();
    layers.iter().map(|layer| layer["digest"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn two_clean_checkouts_with_the_same_salt_give_the_same_secret_layer_and_image() {
    let one = Tiny::new("");
    let first = release(&one);
    // The same project elsewhere: same name, same secrets, same salt.
    let two = Tiny::new("");
    let config = std::fs::read_to_string(one.path().join("imgforge.toml")).unwrap();
    let config = config.replacen(&one.project, &two.project, 1);
    two.write("imgforge.toml", &config);
    for file in ["server_settings.py", "imgforge.salt"] {
        std::fs::copy(one.path().join("secrets").join(file), two.path().join("secrets").join(file)).unwrap();
    }
    let second = release(&two);
    // The daemon's cache gives the image without secrets its creation time; it is the same daemon here.
    assert_eq!(second["images"][0]["digest"], first["images"][0]["digest"]);
}

#[test]
fn the_canary_is_in_the_secret_layer_and_nowhere_else() {
    let tiny = Tiny::new("");
    let tmp = tempfile::tempdir().unwrap();
    let program = tiny.program().with("RUST_LOG", "trace").with("TMPDIR", tmp.path().to_str().unwrap());
    // Looks into temporary files while they are there.
    let (stop, folder, canary) =
        (Arc::new(AtomicBool::new(false)), tmp.path().to_owned(), tiny.canary.clone());
    let watcher = {
        let stop = Arc::clone(&stop);
        std::thread::spawn(move || {
            let mut seen = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                seen.extend(
                    files(&folder)
                        .into_iter()
                        .filter(|(_, bytes)| holds(bytes, &canary))
                        .map(|(path, _)| path),
                );
                std::thread::sleep(Duration::from_millis(5));
            }
            seen
        })
    };
    let ended = program.run(&["release", "--output", "json"]).ok();
    stop.store(true, Ordering::Relaxed);
    assert_eq!(watcher.join().unwrap(), [] as [std::path::PathBuf; 0], "in a temporary file");
    assert_eq!(files(tmp.path()).len(), 0, "temporary files stayed");
    assert!(!ended.stdout.contains(&tiny.canary), "in an event");
    assert!(!ended.stderr.contains(&tiny.canary), "in the trace");
    assert!(ended.stderr.contains("TRACE"), "the trace was on");

    let result = ended.result();
    let reference = result["release"]["images"][0]["reference"].as_str().unwrap().to_owned();
    let inspected = tiny.program().run(&["inspect", &reference, "--output", "json"]).ok().result();
    let layers = inspected["inspect"]["layers"].as_array().unwrap().clone();
    let seam: Vec<&Value> = layers.iter().filter(|layer| layer["seam"] == true).collect();
    assert_eq!(seam.len(), 1);
    let seam = seam[0]["digest"].as_str().unwrap().trim_start_matches("sha256:");
    let holding: Vec<_> = files(&tiny.path().join(".imgforge"))
        .into_iter()
        .filter(|(_, bytes)| holds(bytes, &tiny.canary))
        .collect();
    assert_eq!(holding.len(), 1, "only the secret layer's blob holds it: {:?}", names(&holding));
    assert!(holding[0].0.ends_with(seam), "{:?}", names(&holding));

    let id = tiny.docker(&["inspect", "--format", "{{.Image}}", &tiny.containers()[0]]);
    let daemon = tiny.docker(&["inspect", &id]) + &tiny.docker(&["history", "--no-trunc", &id]);
    assert!(!daemon.contains(&tiny.canary), "in the config or history");
    let stat = ["exec", &tiny.containers()[0], "stat", "-c", "%u:%g %a", "/www/private/server_settings.py"];
    assert_eq!(tiny.docker(&stat), "1000:1000 400");
}

fn names(files: &[(std::path::PathBuf, Vec<u8>)]) -> Vec<&std::path::Path> {
    files.iter().map(|(path, _)| path.as_path()).collect()
}

#[test]
fn a_plan_and_a_dry_run_are_the_same_and_change_nothing() {
    let tiny = Tiny::new("");
    let before = tree(&tiny);
    let plan = tiny.program().run(&["plan"]).ok().stdout;
    for words in [
        "base   busybox: layout bases/busybox",
        "bake   web: server_settings",
        "once   migrate",
        "deploy compose",
    ] {
        assert!(plan.contains(words), "{words} is not in\n{plan}");
    }
    assert!(!plan.contains(&tiny.canary));
    let dry_run = tiny.program().run(&["release", "--dry-run"]).ok().stdout;
    assert_eq!(dry_run.lines().count(), plan.lines().count());
    assert_eq!(tree(&tiny), before, "nothing was written");
    assert_eq!(tiny.containers(), [] as [String; 0]);
}

fn tree(tiny: &Tiny) -> BTreeMap<std::path::PathBuf, Vec<u8>> {
    files(tiny.path()).into_iter().collect()
}

#[test]
fn what_was_pushed_can_be_deployed_without_a_build() {
    let tiny = Tiny::new("");
    tiny.commit();
    tiny.program().run(&["push"]).ok();
    assert_eq!(tiny.containers(), [] as [String; 0]);
    let deployed = tiny.program().run(&["deploy"]).ok();
    assert!(tiny.fetch("private/server_settings.py").contains(&tiny.canary), "{}", deployed.stderr);
}

#[test]
fn doctor_finds_everything_in_order() {
    let tiny = Tiny::new("");
    tiny.commit();
    let ended = tiny.program().run(&["doctor"]).ok();
    assert!(ended.stdout.contains("ok    daemon"), "{}", ended.stdout);
    let broken =
        tiny.program().with("DOCKER_HOST", "unix:///nowhere.sock").run(&["doctor"]).failed(6, "FAIL");
    assert!(broken.stdout.contains("daemon"), "{}", broken.stdout);
}

#[test]
fn plain_output_has_a_line_for_each_step_and_no_control_characters() {
    let tiny = Tiny::new("");
    let ended = Program::run(&tiny.program(), &["release"]).ok();
    for words in ["== build", "web: ", "== deploy", "migrated"] {
        assert!(ended.stderr.contains(words), "{words} is not in\n{}", ended.stderr);
    }
    assert!(!ended.stderr.contains('\u{1b}') && !ended.stdout.contains('\u{1b}'));
    assert!(ended.stdout.starts_with("release "), "{}", ended.stdout);
}

#[test]
fn the_folders_above_a_secret_file_stay_as_the_image_has_them_also_after_a_rotation() {
    let tiny = Tiny::new("");
    let dockerfile = std::fs::read_to_string(tiny.path().join("web.Dockerfile")).unwrap();
    let dockerfile = dockerfile.replace(
        "RUN echo built",
        "RUN mkdir -p /www/private && chown 1000:1000 /www/private && chmod 750 /www/private && echo built",
    );
    tiny.write("web.Dockerfile", &dockerfile);
    release(&tiny);
    let stat = || {
        let container = tiny.containers()[0].clone();
        tiny.docker(&["exec", &container, "stat", "-c", "%n %u:%g %a", "/www", "/www/private"])
    };
    let as_built = "/www 0:0 755\n/www/private 1000:1000 750";
    assert_eq!(stat(), as_built);
    tiny.write("secrets/server_settings.py", "SECRET_KEY = \"another-secret\"\n");
    tiny.program().run(&["rotate"]).ok();
    assert!(tiny.fetch("private/server_settings.py").contains("another-secret"));
    assert_eq!(stat(), as_built);
}
