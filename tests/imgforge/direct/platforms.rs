//! Images for several platforms: one build for each, one name for all.

use std::path::Path;
use std::process::Command;

use imgforge::digest::Digest;
use serde_json::{Value, json};

use super::python;
use crate::support::conformance::{self, Schema};
use crate::support::debian;
use crate::support::direct::{Direct, Pushed, entries};
use crate::support::docker::docker_prints;
use crate::support::oci_registry::OciRegistry;

const SITE: &str = "platforms = [\"linux/amd64\", \"linux/arm64\"]\n\
                    bake = [{ secret = \"settings\", path = \"/srv/private/settings.py\" }]\n\
                    [[images.web.copy]]\nfrom = \"site\"\nto = \"/srv\"\n";

/// The machine that tests run on, and another one.
fn platforms() -> (&'static str, &'static str) {
    if cfg!(target_arch = "aarch64") { ("arm64", "amd64") } else { ("amd64", "arm64") }
}

/// A layout that has an image for one architecture gets the same for the other.
fn add_architecture(layout: &Path) {
    let (_, other) = platforms();
    let blobs = layout.join("blobs/sha256");
    let read = |descriptor: &Value| -> Value {
        let hex = descriptor["digest"].as_str().unwrap().trim_start_matches("sha256:");
        serde_json::from_slice(&std::fs::read(blobs.join(hex)).unwrap()).unwrap()
    };
    let put = |document: &Value, media_type: &Value| {
        let bytes = serde_json::to_vec(document).unwrap();
        let digest = Digest::of(&bytes);
        std::fs::write(blobs.join(digest.hex()), &bytes).unwrap();
        json!({"mediaType": media_type, "digest": digest, "size": bytes.len()})
    };
    let mut index: Value =
        serde_json::from_slice(&std::fs::read(layout.join("index.json")).unwrap()).unwrap();
    let listed = index["manifests"][0].clone();
    let mut manifest = read(&listed);
    let mut config = read(&manifest["config"]);
    config["architecture"] = other.into();
    manifest["config"] = put(&config, &manifest["config"]["mediaType"]);
    let mut entry = put(&manifest, &listed["mediaType"]);
    entry["platform"] = json!({"os": "linux", "architecture": other});
    index["manifests"].as_array_mut().unwrap().push(entry);
    std::fs::write(layout.join("index.json"), index.to_string()).unwrap();
}

fn project() -> Direct {
    let direct = Direct::new(SITE);
    add_architecture(&direct.base());
    direct.write("site/index.html", "public\n");
    direct
}

/// The project for the other architecture alone.
fn for_another_machine() -> (Direct, &'static str) {
    let (direct, (_, other)) = (project(), platforms());
    let both = "platforms = [\"linux/amd64\", \"linux/arm64\"]";
    direct.replace(both, &format!("platforms = [\"linux/{other}\"]"));
    (direct, other)
}

/// The project pushes to a registry.
fn at(registry: &OciRegistry, direct: &Direct) {
    let repository = format!("[registry]\nrepository = \"{}/site/{{image}}\"\n", registry.host);
    direct.replace("[bases.busybox]", &format!("{repository}[bases.busybox]"));
}

fn pushed(direct: &Direct) -> Value {
    direct.program().run(&["push", "--output", "json"]).ok().result()["release"]["images"][0].clone()
}

fn raw(reference: &str) -> Value {
    let mut command = Command::new("skopeo");
    command.args(["inspect", "--raw", "--tls-verify=false", &format!("docker://{reference}")]);
    serde_json::from_slice(&command.output().unwrap().stdout).unwrap()
}

#[test]
fn one_name_stands_for_an_image_of_each_platform() {
    let registry = OciRegistry::open();
    let direct = project();
    at(&registry, &direct);
    let image = pushed(&direct);
    assert_eq!(image["platforms"], json!(["linux/amd64", "linux/arm64"]));
    let reference = image["reference"].as_str().unwrap();
    let index = raw(reference);
    conformance::conforms(Schema::Index, &index);
    conformance::crane_validates(reference);
    let repository = reference.split('@').next().unwrap();
    let listed = index["manifests"].as_array().unwrap();
    let of = |number: usize| raw(&format!("{repository}@{}", listed[number]["digest"].as_str().unwrap()));
    assert_eq!(listed[0]["platform"], json!({"os": "linux", "architecture": "amd64"}));
    assert_eq!(listed[1]["platform"], json!({"os": "linux", "architecture": "arm64"}));
    assert_ne!(of(0)["config"]["digest"], of(1)["config"]["digest"]);
    assert_eq!(of(0)["layers"], of(1)["layers"], "what is the same for both is made and sent once");
    for platform in ["linux/amd64", "linux/arm64"] {
        let said = direct.program().run(&["inspect", reference, "--platform", platform]).ok().stdout;
        assert!(said.contains(platform) && said.contains("settings"), "{said}");
    }
    // A daemon takes the one that it can run.
    docker_prints(&["pull", "--quiet", reference]);
    assert_eq!(docker_prints(&["run", "--rm", reference, "cat", "/srv/index.html"]), "public\n");
    docker_prints(&["rmi", reference]);

    // Nothing changed, nothing sent, the same name.
    let again = pushed(&direct);
    assert_eq!((&again["reference"], &again["uploaded"]), (&image["reference"], &json!(0)));

    // A rotation is about all of them.
    direct.write("secrets/settings.py", "SECRET = \"another\"\n");
    let rotate = ["rotate", "--until", "push", "--output", "json", "--image", &format!("web={reference}")];
    let rotated = direct.program().run(&rotate).ok().result()["rotate"]["images"][0].clone();
    assert_eq!(rotated["platforms"], json!(["linux/amd64", "linux/arm64"]));
    assert_eq!(rotated["to"], pushed(&direct)["reference"], "as a push with the new secret gives it");
}

#[test]
fn a_layout_holds_them_too_and_the_plan_tells_of_them() {
    let direct = project();
    let plan = direct.program().run(&["push", "--dry-run"]).ok().stdout;
    assert!(plan.contains("build  web directly on busybox for linux/amd64, linux/arm64"), "{plan}");
    let image = pushed(&direct);
    let blob = |digest: &str| -> Vec<u8> {
        let blobs = direct.path().join(".imgforge/images/web/blobs/sha256");
        std::fs::read(blobs.join(digest.trim_start_matches("sha256:"))).unwrap()
    };
    let index: Value = serde_json::from_slice(&blob(image["digest"].as_str().unwrap())).unwrap();
    for entry in index["manifests"].as_array().unwrap() {
        let manifest: Value = serde_json::from_slice(&blob(entry["digest"].as_str().unwrap())).unwrap();
        let seam = manifest["layers"].as_array().unwrap().last().unwrap()["digest"].as_str().unwrap();
        assert!(entries(&blob(seam)).contains_key("srv/private/settings.py"));
    }
}

#[test]
fn one_platform_is_no_index_whatever_machine_builds_it() {
    let (direct, other) = for_another_machine();
    let image = direct.push();
    assert_eq!(image.config["architecture"], other);
}

#[test]
fn a_platform_that_cannot_be_is_refused_before_anything_is_built() {
    let direct = project();
    direct.replace("\"linux/arm64\"", "\"linux/s390x\"");
    direct.program().run(&["push"]).failed(2, "linux/s390x is wanted");
    direct.replace("\"linux/s390x\"", "\"linux/amd64\"");
    direct.program().run(&["push"]).failed(2, "is built for linux/amd64 twice");
    direct.replace("[\"linux/amd64\", \"linux/amd64\"]", "[\"Linux\"]");
    direct.program().run(&["push"]).failed(2, "a platform is such as \"linux/amd64\"");
    direct.replace("[\"Linux\"]", "[\"linux/amd64\"]");
    direct.replace("engine = \"direct\"", "dockerfile = \"Dockerfile\"");
    direct.program().run(&["push"]).failed(2, "for the daemon's own platform");
    assert!(!direct.path().join(".imgforge/images").exists());
}

#[test]
fn a_debian_base_for_a_machine_that_cannot_be_run_here_is_refused() {
    let (direct, other) = for_another_machine();
    direct.replace("layout = \"../busybox\"", "debian = { suite = \"bookworm\" }");
    // Where nothing is installed that could tell.
    let program = direct.program().with("PATH", "/nowhere");
    let ended = program.run(&["push"]).failed(6, &format!("into a base for linux/{other}"));
    assert!(ended.stderr.contains("qemu-user-static"), "{}", ended.stderr);
}

#[test]
fn what_a_daemon_is_to_run_is_built_for_it() {
    let (direct, other) = for_another_machine();
    direct.replace("[bases.busybox]", "[deploy]\ntarget = \"compose\"\n[bases.busybox]");
    direct.write("docker-compose.yml", "services:\n  web:\n    image: ${IMGFORGE_IMAGE_WEB}\n");
    let program = crate::support::program::Program::new(direct.path());
    program.run(&["release"]).failed(2, &format!("image \"web\" is built for linux/{other}"));
}

/// Wheels are those of each platform, whatever machine fetches them.
#[tokio::test]
async fn packages_are_the_wheels_of_each_platform() {
    let direct = python::project("[images.web.python]\npackages = [\"markupsafe==3.0.2\"]\n").await;
    let (_, other) = platforms();
    let packages = debian::recipe(&["python3", "python3-venv", "ca-certificates"]);
    let made = debian::bases().join(imgforge::base::debian::key(&packages, debian::platform()).unwrap());
    let copy = direct.path().join("base");
    assert!(Command::new("cp").arg("-r").args([&made, &copy]).status().unwrap().success());
    add_architecture(&copy);
    let table = std::fs::read_to_string(direct.path().join("imgforge.toml")).unwrap();
    let debian = table.lines().find(|line| line.starts_with("debian = ")).unwrap().to_owned();
    direct.replace(&debian, "layout = \"base\"");
    direct.replace("engine = \"direct\"", &format!("engine = \"direct\"\nplatforms = [\"linux/{other}\"]"));
    let pushed: Pushed = direct.push();
    let machine = if other == "arm64" { "aarch64" } else { "x86_64" };
    let names: Vec<&String> = pushed.layers[1].keys().collect();
    let native = format!("opt/site/markupsafe/_speedups.cpython-311-{machine}-linux-gnu.so");
    assert!(names.contains(&&native), "{names:#?}");
}
