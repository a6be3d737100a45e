//! Images of one project with different engines.

use crate::support::tiny::Tiny;

const ASSETS: &str = "
[images.assets]
base = \"busybox\"
engine = \"direct\"
[[images.assets.copy]]
from = \"www\"
to = \"/srv\"
";

#[test]
fn each_image_has_the_engine_that_it_names_and_the_daemon_is_asked_only_for_its_own() {
    let tiny = Tiny::new(ASSETS);
    let nowhere = tiny.program().with("DOCKER_HOST", "unix:///nowhere.sock");
    let plan = nowhere.run(&["push", "--image", "assets", "--dry-run"]).ok().stdout;
    assert!(plan.contains("build  assets directly on busybox"), "{plan}");
    let alone = nowhere.run(&["push", "--image", "assets", "--output", "json"]).ok().result();
    nowhere.run(&["push"]).failed(6, "nowhere.sock");
    let doctor = nowhere.run(&["doctor"]).failed(6, "nowhere.sock");
    assert!(doctor.stdout.contains("uv"), "{}", doctor.stdout);

    let both = tiny.program().run(&["push", "--output", "json"]).ok().result();
    let images = both["release"]["images"].as_array().unwrap();
    let digest = |name: &str| images.iter().find(|image| image["image"] == name).unwrap()["digest"].clone();
    assert_eq!(digest("assets"), alone["release"]["images"][0]["digest"]);
    assert!(digest("web").is_string());
}

#[test]
fn where_no_image_needs_a_daemon_doctor_does_not_miss_it() {
    let tiny = Tiny::new(ASSETS);
    let config = std::fs::read_to_string(tiny.path().join("imgforge.toml")).unwrap();
    let start = config.find("[images.web]").unwrap();
    let end = config.find("[registry]").unwrap();
    let deploy = config.find("[deploy]").unwrap();
    let assets = config.find("\n[images.assets]").unwrap();
    let config = [&config[..start], &config[end..deploy], &config[assets..]].concat();
    tiny.write("imgforge.toml", &config);
    let nowhere = tiny.program().with("DOCKER_HOST", "unix:///nowhere.sock");
    let doctor = nowhere.run(&["doctor"]).ok();
    assert!(doctor.stdout.contains("skip  daemon"), "{}", doctor.stdout);
    nowhere.run(&["push"]).ok();
}
