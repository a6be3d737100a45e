//! Bases that are in a registry: their layers stay there when the image goes to a registry, too.

use std::process::Command;

use crate::support::conformance;
use crate::support::direct::{Direct, Pushed};
use crate::support::docker::docker_prints;
use crate::support::oci_registry::OciRegistry;
use crate::support::tiny::files;

const SITE: &str = "[[images.web.copy]]\nfrom = \"site\"\nto = \"/tmp/site\"\n";

/// A project whose base is in the registry.
fn project(registry: &OciRegistry) -> Direct {
    let direct = Direct::new(SITE);
    direct.write("site/index.html", "public\n");
    let (from, to) =
        (format!("oci:{}", direct.base().display()), format!("docker://{}/bases/busybox:1", registry.host));
    let copied =
        Command::new("skopeo").args(["copy", "--dest-tls-verify=false", &from, &to]).output().unwrap();
    assert!(copied.status.success(), "{}", String::from_utf8_lossy(&copied.stderr));
    direct.replace("layout = \"../busybox\"", &format!("image = \"{}/bases/busybox:1\"", registry.host));
    direct
}

#[test]
fn what_is_made_is_accepted_by_crane_the_schemas_umoci_and_docker_and_homes_stay_their_users() {
    let registry = OciRegistry::open();
    let direct = project(&registry);
    direct.configure(
        "[[images.web.users]]\nname = \"docker\"\nuid = 1000\n[[images.web.copy]]\nfrom = \"site\"\nto = \"/home/docker/code\"\n\
         [images.web.config]\nuser = \"docker\"\nworkdir = \"/home/docker/code\"\nexpose = [\"8000\"]\n\
         healthcheck = { command = [\"true\"], interval = \"10s\" }\n",
    );
    direct.push();
    let repository = format!("[registry]\nrepository = \"{}/site/{{image}}\"\n", registry.host);
    direct.replace("[bases.busybox]", &format!("{repository}[bases.busybox]"));
    let result = direct.program().run(&["push", "--output", "json"]).ok().result();
    let reference = result["release"]["images"][0]["reference"].as_str().unwrap().to_owned();
    conformance::crane_validates(&reference);
    let raw = |arguments: &[&str]| {
        let mut command = Command::new("skopeo");
        command.args(["inspect", "--raw", "--tls-verify=false"]).args(arguments);
        let raw = command.arg(format!("docker://{reference}")).output().unwrap().stdout;
        serde_json::from_slice::<serde_json::Value>(&raw).unwrap()
    };
    conformance::conforms(conformance::Schema::Manifest, &raw(&[]));
    conformance::conforms(conformance::Schema::Config, &raw(&["--config"]));

    let folder = tempfile::tempdir().unwrap();
    let layout = folder.path().join("layout").display().to_string();
    let mut copy = Command::new("skopeo");
    copy.args(["copy", "--quiet", "--src-tls-verify=false", &format!("docker://{reference}")]);
    assert!(copy.arg(format!("oci:{layout}:it")).status().unwrap().success());
    let mut unpack = Command::new("umoci");
    unpack.args(["unpack", "--rootless", "--image", &format!("{layout}:it")]);
    assert!(unpack.arg(folder.path().join("bundle")).output().unwrap().status.success());
    let page = folder.path().join("bundle/rootfs/home/docker/code/index.html");
    assert_eq!(std::fs::read_to_string(page).unwrap(), "public\n");

    docker_prints(&["pull", "--quiet", &reference]);
    let run = |arguments: &[&str]| {
        docker_prints(&[&["run", "--rm", &reference], arguments].concat()).trim().to_owned()
    };
    let homes = run(&["stat", "-c", "%n %u:%g %a", "/home", "/home/docker", "/home/docker/code"]);
    let user = run(&["id", "-u"]);
    let place = run(&["sh", "-c", "cat index.html"]);
    docker_prints(&["rmi", "--force", &reference]);
    assert_eq!(homes, "/home 0:0 755\n/home/docker 1000:1000 755\n/home/docker/code 0:0 755");
    assert_eq!((user.as_str(), place.as_str()), ("1000", "public"));
}

fn blobs(direct: &Direct) -> usize {
    files(&direct.path().join(".imgforge/layers/blobs")).len()
}

#[test]
fn a_registrys_base_is_mounted_and_not_kept_here() {
    let registry = OciRegistry::open();
    let direct = project(&registry);
    let repository = format!("[registry]\nrepository = \"{}/site/{{image}}\"\n", registry.host);
    direct.replace("[bases.busybox]", &format!("{repository}[bases.busybox]"));
    let ended = direct.program().run(&["push", "--output", "json"]).ok();
    let image = &ended.result()["release"]["images"][0];
    assert_eq!(image["blobs"]["mounted"], 1, "{image}");
    assert_eq!(blobs(&direct), 1, "only the layer that was made");
    let reference = format!("docker://{}", image["reference"].as_str().unwrap());
    let inspected =
        Command::new("skopeo").args(["inspect", "--tls-verify=false", &reference]).output().unwrap();
    let inspected: serde_json::Value = serde_json::from_slice(&inspected.stdout).unwrap();
    assert_eq!(inspected["Layers"].as_array().unwrap().len(), 2);

    // What is in the base is known by now: it is not looked into again.
    direct.write("site/index.html", "another\n");
    let again = direct.program().run(&["push"]).ok();
    assert!(!again.stderr.contains("look into"), "{}", again.stderr);
}

#[test]
fn a_registrys_base_comes_here_for_a_layout_and_gives_the_same_layers() {
    let registry = OciRegistry::open();
    let direct = project(&registry);
    let from_registry = direct.push();
    direct.configure(SITE);
    let from_layout = direct.push();
    assert_eq!(from_registry.digest, from_layout.digest);
    assert_eq!(from_registry.layers[1]["tmp"], from_registry.layers[0]["tmp"]);
}

#[test]
fn a_build_needs_no_layer_of_a_registrys_base() {
    let registry = OciRegistry::open();
    let direct = project(&registry);
    direct.program().run(&["build"]).ok();
    assert_eq!(blobs(&direct), 1);
    let pushed: Pushed = direct.push();
    assert!(!pushed.built, "it was built before");
}
