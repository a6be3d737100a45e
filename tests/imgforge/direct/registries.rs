//! Bases that are in a registry: their layers stay there when the image goes to a registry, too.

use std::process::Command;

use crate::support::direct::{Direct, Pushed};
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
