//! Layers in zstd, and bases in zstd.
//!
//! Who judges them: the JSON schemas, skopeo, umoci and a Docker daemon. crane's and umoci's versions here read gzip alone, and
//! Docker daemons before 23 do, too, so that these get what skopeo has unpacked: the daemon compares each tar with its diff_id.

use std::path::Path;
use std::process::Command;

use imgforge::config::Compression;
use imgforge::image::Kind;
use imgforge::progress::Reporter;
use serde_json::Value;

use crate::support::conformance;
use crate::support::direct::{Direct, Pushed};
use crate::support::docker::{daemon, docker_prints, unique};
use crate::support::oci_registry::OciRegistry;
use crate::support::tiny::{Tiny, busybox_layout_in, files, holds};

const SITE: &str = "bake = [{ secret = \"settings\", path = \"/srv/private/settings.py\" }]\n\
                    [[images.web.copy]]\nfrom = \"site\"\nto = \"/srv\"\n";

fn project() -> Direct {
    let direct = Direct::new(SITE);
    direct.write("site/index.html", "public\n");
    direct.write("site/deep/er/page.html", &"a page\n".repeat(1000));
    direct
}

/// The project pushes there, in zstd with `-e zstd`.
fn at(registry: &OciRegistry, direct: &Direct) {
    let repository = format!(
        "[env.zstd]\nbuild.compression = \"zstd\"\n[registry]\nrepository = \"{}/site/{{image}}\"\n",
        registry.host
    );
    direct.replace("[bases.busybox]", &format!("{repository}[bases.busybox]"));
}

/// Pushes; gives the image by digest.
fn pushed(direct: &Direct, more: &[&str]) -> String {
    let result = direct.program().run(&[&["push", "--output", "json"], more].concat()).ok().result();
    result["release"]["images"][0]["reference"].as_str().unwrap().to_owned()
}

fn skopeo(arguments: &[&str]) -> Vec<u8> {
    let done = Command::new("skopeo").args(arguments).output().unwrap();
    assert!(done.status.success(), "skopeo {arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
    done.stdout
}

fn raw(reference: &str, more: &[&str]) -> Value {
    let name = format!("docker://{reference}");
    let raw = skopeo(&[&["inspect", "--raw", "--tls-verify=false"], more, &[&name]].concat());
    serde_json::from_slice(&raw).unwrap()
}

/// The media types of a manifest and its layers.
fn types(manifest: &Value) -> Vec<&str> {
    let layers = manifest["layers"].as_array().unwrap();
    let all = [manifest].into_iter().chain(layers);
    all.map(|one| one["mediaType"].as_str().unwrap()).collect()
}

const OCI: &str = "application/vnd.oci.image.manifest.v1+json";

fn gzip() -> &'static str {
    Kind::oci_layer(Compression::Gzip)
}

fn zstd() -> &'static str {
    Kind::oci_layer(Compression::Zstd)
}

/// What umoci unpacks from what skopeo unpacked of the image, and what a container of it says.
fn is_read_by_others(reference: &str, page: &str, want: &str) {
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name).display().to_string();
    let (plain, layout) = (format!("dir:{}", place("plain")), format!("oci:{}:it", place("layout")));
    let from = format!("docker://{reference}");
    skopeo(&["copy", "--quiet", "--src-tls-verify=false", "--dest-decompress", &from, &plain]);
    skopeo(&["copy", "--quiet", &plain, &layout]);
    let mut umoci = Command::new("umoci");
    umoci.args(["unpack", "--rootless", "--image", &format!("{}:it", place("layout"))]);
    let unpacked = umoci.arg(place("bundle")).output().unwrap();
    assert!(unpacked.status.success(), "{}", String::from_utf8_lossy(&unpacked.stderr));
    let read = std::fs::read_to_string(Path::new(&place("bundle")).join("rootfs").join(page)).unwrap();
    assert_eq!(read, want);

    let name = format!("{}:it", unique("imgforge-zstd"));
    skopeo(&["copy", "--quiet", &layout, &format!("docker-archive:{}:{name}", place("archive"))]);
    docker_prints(&["load", "--quiet", "--input", &place("archive")]);
    let said = docker_prints(&["run", "--rm", &name, "cat", &format!("/{page}")]);
    docker_prints(&["rmi", "--force", &name]);
    assert_eq!(said, want);
}

#[test]
fn an_image_in_zstd_has_the_right_media_types_and_is_read_by_others() {
    let registry = OciRegistry::open();
    let direct = project();
    at(&registry, &direct);
    let reference = pushed(&direct, &["-e", "zstd"]);
    let manifest = raw(&reference, &[]);
    assert_eq!(types(&manifest), [OCI, gzip(), zstd(), gzip()], "the base's, the site's, the secrets'");
    conformance::conforms(conformance::Schema::Manifest, &manifest);
    conformance::conforms(conformance::Schema::Config, &raw(&reference, &["--config"]));
    is_read_by_others(&reference, "srv/index.html", "public\n");
    let inspected = direct.program().run(&["inspect", &reference, "--output", "json"]).ok().result();
    assert_eq!(inspected["inspect"]["kind"], "oci", "{inspected}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_pulls_it_or_says_from_which_version_on_it_would() {
    let registry = OciRegistry::open();
    let direct = project();
    at(&registry, &direct);
    let reference = pushed(&direct, &["-e", "zstd"]);
    match daemon().pull(&reference.parse().unwrap(), None, &Reporter::silent()).await {
        Ok(id) => {
            let said = docker_prints(&["run", "--rm", &id.to_string(), "cat", "/srv/index.html"]);
            docker_prints(&["rmi", "--force", &reference]);
            assert_eq!(said, "public\n");
        }
        Err(error) => assert!(error.help_text().unwrap().contains("from version 23 on"), "{error:?}"),
    }
}

#[test]
fn a_service_in_zstd_on_a_base_in_zstd_runs_on_any_daemon() {
    let tiny = Tiny::new("\n[env.local]\nbuild.compression = \"zstd\"\n");
    std::fs::remove_dir_all(tiny.path().join("bases/busybox")).unwrap();
    busybox_layout_in(Compression::Zstd, &tiny.path().join("bases/busybox"));
    tiny.program().run(&["release"]).ok();
    assert_eq!(tiny.fetch("index.html"), "public\n");
    let manifests = files(&tiny.path().join(".imgforge/images/web/blobs/sha256")).into_iter();
    let manifests = manifests.filter_map(|(_, blob)| serde_json::from_slice::<Value>(&blob).ok());
    let manifests: Vec<Value> = manifests.filter(|document| document["layers"].is_array()).collect();
    let [manifest] = &manifests[..] else { panic!("{manifests:?}") };
    let types = types(manifest);
    assert!(types[1..types.len() - 1].iter().all(|layer| *layer == zstd()), "{types:?}");
    assert_eq!(types.last(), Some(&gzip()), "the secrets'");
}

#[test]
fn both_compressions_are_kept_and_neither_is_taken_for_the_other() {
    let registry = OciRegistry::open();
    let direct = project();
    at(&registry, &direct);
    let of = |more: &[&str]| {
        let reference = pushed(&direct, more);
        let manifest = raw(&reference, &[]);
        (types(&manifest)[2].to_owned(), reference)
    };
    let (in_gzip, one) = of(&[]);
    let (in_zstd, two) = of(&["-e", "zstd"]);
    assert_eq!((in_gzip.as_str(), in_zstd.as_str()), (gzip(), zstd()));
    assert_eq!(of(&[]).1, one);
    assert_eq!(of(&["-e", "zstd"]).1, two);
    let diff = |one: &str, two: &str| direct.program().run(&["diff", one, two]).ok().stdout;
    assert!(diff(&one, &two).contains("no file differs"), "{}", diff(&one, &two));

    direct.write("site/index.html", "PUBLIC\n");
    let told = diff(&one, &pushed(&direct, &["-e", "zstd"]));
    let lines: Vec<&str> = told.lines().filter(|line| line.starts_with(['~', '+', '-'])).collect();
    assert_eq!(lines, ["~ /srv/index.html  content"], "{told}");
}

#[test]
fn a_base_with_a_docker_manifest_gives_an_oci_image() {
    let registry = OciRegistry::open();
    let direct = project();
    at(&registry, &direct);
    let (from, base) =
        (format!("oci:{}", direct.base().display()), format!("{}/bases/busybox:1", registry.host));
    let to = format!("docker://{base}");
    skopeo(&["copy", "--quiet", "--format", "v2s2", "--dest-tls-verify=false", &from, &to]);
    direct.replace("layout = \"../busybox\"", &format!("image = \"{base}\""));
    assert_eq!(types(&raw(&base, &[]))[1], Kind::Docker.gzip_layer());
    let in_gzip = raw(&pushed(&direct, &[]), &[]);
    let docker = Kind::Docker.gzip_layer();
    assert_eq!(types(&in_gzip), [Kind::Docker.manifest(), docker, docker, docker]);
    let in_zstd = raw(&pushed(&direct, &["-e", "zstd"]), &[]);
    assert_eq!(types(&in_zstd), [OCI, gzip(), zstd(), gzip()]);
    assert_eq!(in_zstd["config"]["mediaType"], Kind::Oci.config());
    assert_eq!(in_zstd["layers"][0]["digest"], in_gzip["layers"][0]["digest"], "the base's blob is the same");
    conformance::conforms(conformance::Schema::Manifest, &in_zstd);
}

#[test]
fn secrets_of_an_image_in_zstd_are_rotated() {
    let registry = OciRegistry::open();
    let direct = project();
    at(&registry, &direct);
    let before = pushed(&direct, &["-e", "zstd"]);
    direct.write("secrets/settings.py", "SECRET = \"another\"\n");
    let image = format!("web={before}");
    let rotate = ["rotate", "--until", "push", "--image", &image, "--output", "json"];
    let rotated = direct.program().run(&rotate).ok().result()["rotate"]["images"][0].clone();
    let after = rotated["to"].as_str().unwrap();
    let (old, new) = (raw(&before, &[]), raw(after, &[]));
    assert_eq!(types(&new), types(&old));
    assert_eq!(new["layers"][1], old["layers"][1]);
    assert_ne!(new["layers"][2], old["layers"][2]);
    // It is the image that a release with the new secret gives.
    assert_eq!(pushed(&direct, &["-e", "zstd"]), after);
    is_read_by_others(after, "srv/private/settings.py", "SECRET = \"another\"\n");
}

#[test]
fn a_base_in_zstd_is_read_and_its_blob_stays_as_it_is() {
    let direct = project();
    let in_gzip = direct.push();
    std::fs::remove_dir_all(direct.base()).unwrap();
    busybox_layout_in(Compression::Zstd, &direct.base());
    // The same tar: what is in it is known by its diff_id, unless nothing is.
    std::fs::remove_dir_all(direct.path().join(".imgforge/layers")).unwrap();
    let in_zstd = direct.push();
    assert_ne!(in_zstd.digests[0], in_gzip.digests[0]);
    assert_eq!(in_zstd.digests[1..], in_gzip.digests[1..]);
    assert_eq!(in_zstd.layers, in_gzip.layers);

    // And in a registry, from where it is read without being kept.
    let registry = OciRegistry::open();
    at(&registry, &direct);
    let (from, base) =
        (format!("oci:{}", direct.base().display()), format!("{}/bases/busybox:1", registry.host));
    skopeo(&["copy", "--quiet", "--dest-tls-verify=false", &from, &format!("docker://{base}")]);
    direct.replace("layout = \"../busybox\"", &format!("image = \"{base}\""));
    std::fs::remove_dir_all(direct.path().join(".imgforge/layers")).unwrap();
    let manifest = raw(&pushed(&direct, &[]), &[]);
    assert_eq!(types(&manifest), [OCI, zstd(), gzip(), gzip()]);
    let digests: Vec<&str> = manifest["layers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|layer| layer["digest"].as_str().unwrap())
        .collect();
    assert_eq!(digests, in_zstd.digests);
}

#[test]
fn the_same_files_elsewhere_give_the_same_layers_in_zstd_and_none_of_them_holds_a_secret() {
    let digests = [(); 2].map(|()| {
        let direct = project();
        direct.replace("[bases.busybox]", "[build]\ncompression = \"zstd\"\n[bases.busybox]");
        let pushed: Pushed = direct.push();
        for (_, blob) in files(&direct.path().join(".imgforge/layers")) {
            assert!(!holds(&blob, "canary"));
        }
        pushed.digests[..2].to_vec()
    });
    assert_eq!(digests[0], digests[1]);
}
