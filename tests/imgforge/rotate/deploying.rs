//! What `imgforge deploy` finds after a rotation.

use serde_json::Value;

use super::NOWHERE;
use crate::support::production::Production;
use crate::support::program::{Ended, Program};

/// Two images more: one that holds a secret file of its own, and one that holds none.
const MORE_IMAGES: &str = r#"once = []
[env.production.secrets.files]
other = "other.txt"
[images.nginx]
base = "busybox"
dockerfile = "web.Dockerfile"
bake = [{ secret = "other", path = "/www/private/other.txt", owner = "1000:1000" }]
[images.worker]
base = "busybox"
dockerfile = "web.Dockerfile"
"#;

fn without_daemon(production: &Production) -> Program {
    production.program().with("DOCKER_HOST", NOWHERE)
}

fn rotate(production: &Production, arguments: &[&str]) -> Value {
    let always = ["rotate", "-e", "production", "--output", "json"];
    without_daemon(production).run(&[&always[..], arguments].concat()).ok().result()["rotate"].clone()
}

fn deploy(production: &Production, arguments: &[&str]) -> Ended {
    without_daemon(production).run(&[&["deploy", "-e", "production"], arguments].concat())
}

/// Where a rotated image is, by digest.
fn to(rotated: &Value) -> &str {
    rotated["images"][0]["to"].as_str().unwrap()
}

#[test]
fn deploy_finds_what_was_rotated_from_this_commit() {
    let production = Production::with("once = []");
    let first = production.release();
    production.put_secret("second");
    let second = rotate(&production, &[]);
    assert_eq!(deploy(&production, &["--dry-run"]).ok().stdout, format!("web={}\n", to(&second)));
    deploy(&production, &[]).ok();
    assert_eq!(production.ecs.revision(), "shop:43", "it runs already");

    // Once more, while something that the images do not have is being changed; deployed in a step of its own.
    production.tiny.write("www/index.html", "changed\n");
    production.put_secret("third");
    let image = format!("web={}", to(&second));
    let third = rotate(&production, &["--until", "push", "--image", &image]);
    production.tiny.write("www/index.html", "public\n");
    deploy(&production, &[]).ok();
    assert_eq!(production.ecs.revision(), "shop:44");
    let registered = production.ecs.requests("RegisterTaskDefinition").pop().unwrap();
    assert_eq!(registered["containerDefinitions"][0]["image"], to(&third));

    // It is the release that these secrets give, under its tag.
    let release = production.run(&["push"]).ok().result()["release"].clone();
    assert_eq!(third["images"][0]["tag"], release["release"]);
    assert_eq!(release["images"][0]["reference"], to(&third));

    // Back to the first secret is back to the first release.
    let version = first["images"][0]["secrets"]["server_settings"].as_str().unwrap();
    let back = rotate(&production, &["--secret", &format!("server_settings={version}")]);
    assert_eq!(to(&back), first["images"][0]["reference"]);
    assert_eq!(back["images"][0]["tag"], first["release"]);
}

#[test]
fn deploy_finds_all_images_when_the_secret_of_one_was_rotated() {
    let production = Production::with(MORE_IMAGES);
    production.put("other", "the first\n");
    let release = production.release();
    production.put_secret("second");
    let rotated = rotate(&production, &[]);
    let reference = |image: &str| {
        let images = release["images"].as_array().unwrap().iter();
        let mut found = images.filter(|at| at["image"] == image).map(|at| at["reference"].as_str().unwrap());
        found.next().unwrap().to_owned()
    };
    let [nginx, web] = &rotated["images"].as_array().unwrap()[..] else { panic!("{rotated}") };
    assert_eq!((&nginx["unchanged"], &web["unchanged"]), (&true.into(), &false.into()));
    let found = deploy(&production, &["--dry-run"]).ok().stdout;
    let (nginx, web, worker) = (reference("nginx"), web["to"].as_str().unwrap(), reference("worker"));
    assert_eq!(found, format!("nginx={nginx}\nweb={web}\nworker={worker}\n"));
    let revision = production.ecs.revision();
    deploy(&production, &[]).ok();
    assert_eq!(production.ecs.revision(), revision);
}

/// The other image that holds secrets holds none of those that changed.
#[test]
fn deploy_finds_all_images_when_one_was_rotated_by_name() {
    let production = Production::with(MORE_IMAGES);
    production.put("other", "the first\n");
    production.release();
    production.put_secret("second");
    let rotated = rotate(&production, &["--image", "web"]);
    let found = deploy(&production, &["--dry-run"]).ok().stdout;
    let lines: Vec<&str> = found.lines().collect();
    assert!(
        matches!(lines[..], [nginx, web, worker] if nginx.starts_with("nginx=")
        && web == format!("web={}", to(&rotated)) && worker.starts_with("worker=")),
        "{found}"
    );

    production.put("other", "the second\n");
    rotate(&production, &["--image", "nginx"]);
    deploy(&production, &["--dry-run"]).ok();

    // With one that has to be rotated as well there is no release of these secrets.
    production.put("other", "the third\n");
    production.put_secret("third");
    rotate(&production, &["--image", "web"]);
    deploy(&production, &["--dry-run"]).failed(6, "which is this commit with these secrets");
}

#[test]
fn deploy_of_a_commit_that_was_not_released_names_what_runs_instead_of_deploying_it() {
    let production = Production::with("once = []");
    production.release();
    production.tiny.write("www/index.html", "changed\n");
    production.tiny.commit();
    production.put_secret("second");
    let rotated = rotate(&production, &[]);
    assert!(rotated["images"][0]["tag"].as_str().unwrap().starts_with("rotated-"), "{rotated}");
    let refused = deploy(&production, &[]).failed(6, "which is this commit with these secrets");
    let help = format!("--image web={}", to(&rotated));
    for words in ["push it first with `imgforge push`", &help] {
        assert!(refused.stderr.contains(words), "{words} is not in\n{}", refused.stderr);
    }
    deploy(&production, &["--image", &format!("web={}", to(&rotated))]).ok();
    assert_eq!(production.ecs.revision(), "shop:43", "it runs already");

    // Nor is there a tag for what is in no commit.
    production.tiny.write("www/index.html", "changed again\n");
    let refused = deploy(&production, &[]).failed(6, "the sources are in no commit");
    assert!(refused.stderr.contains(&help), "{}", refused.stderr);
}

#[test]
fn a_tag_that_names_another_image_stays_and_does_not_hold_up_the_rotation() {
    let production = Production::with("once = []");
    production.release();
    production.put_secret("second");
    // Somebody built this commit with these secrets on another machine, and got another image.
    let plan = production.run(&["plan"]).ok().result()["plan"].clone();
    let repository = format!("{}/{}-web", production.registry.host, production.tiny.project);
    let theirs = format!("{repository}:{}", plan["release"].as_str().unwrap());
    let digest = production.copy_layout("bases/busybox", &theirs);
    let rotated = rotate(&production, &[]);
    assert!(rotated["images"][0]["tag"].as_str().unwrap().starts_with("rotated-"), "{rotated}");
    assert_eq!(production.ecs.revision(), "shop:43");
    assert_eq!(production.skopeo(&[], &theirs)["Digest"], digest.as_str());
}

#[test]
fn an_image_whose_label_tells_an_earlier_version_of_the_same_file_leaves_the_tag_to_a_release() {
    let production = Production::with("once = []");
    let first = production.release();
    production.put_secret("second");
    production.put_secret(&production.canary);
    let rotated = rotate(&production, &[]);
    assert_eq!((&rotated["images"][0]["unchanged"], rotated["images"][0].get("tag")), (&true.into(), None));
    deploy(&production, &[]).failed(6, "push it first with `imgforge push`");
    let release = production.run(&["push"]).ok().result()["release"].clone();
    assert_ne!(release["images"][0]["reference"], first["images"][0]["reference"]);
    let reference = release["images"][0]["reference"].as_str().unwrap();
    assert_eq!(deploy(&production, &["--dry-run"]).ok().stdout, format!("web={reference}\n"));
}
