//! One image in a registry.

use axum::http::Method;
use serde_json::{Value, json};

use super::{Pushed, digest, layers};
use crate::support::tiny::holds;

#[tokio::test(flavor = "multi_thread")]
async fn rotate_replaces_only_the_seam_in_seven_requests_and_pulls_no_layer() {
    let pushed = Pushed::new().await;
    let before = pushed.get("manifests", digest(&pushed.reference));
    pushed.put_secret("another-secret");
    pushed.forget();
    let rotated = pushed.rotate(&pushed.reference);
    let seen = pushed.proxy.seen();
    let told: Vec<String> = seen.iter().map(|seen| format!("{} {}", seen.method, seen.path)).collect();
    assert_eq!(seen.len(), 7, "{told:#?}");
    let read = |part: &str| pushed.proxy.count(Method::GET, part);
    assert_eq!((read("/manifests/"), read("/blobs/")), (1, 1), "manifest and config: {told:#?}");

    let to = rotated["to"].as_str().unwrap();
    assert_eq!(rotated["from"], pushed.reference);
    let after = pushed.get("manifests", digest(to));
    let (old, new) = (layers(&before), layers(&after));
    assert_eq!(new.len(), old.len());
    assert_eq!(new[..new.len() - 1], old[..old.len() - 1], "layers below are the same");
    let blobs = pushed.registry.blobs();
    let blob = |digest: &str| &blobs.iter().find(|(name, _)| digest.ends_with(name.as_str())).unwrap().1;
    let reachable =
        new.iter().map(String::as_str).chain([after["config"]["digest"].as_str().unwrap(), digest(to)]);
    for reachable in reachable {
        assert!(!holds(blob(reachable), &pushed.tiny.canary), "the old secret is in {reachable}");
    }
    let seam = blob(new.last().unwrap());
    assert!(holds(seam, "another-secret"));
    let mut tar = tar::Archive::new(flate2::read::MultiGzDecoder::new(&seam[..]));
    // Above it stand its folders, as the image has them.
    let entry = tar.entries().unwrap().map(Result::unwrap).last().unwrap();
    let header = entry.header();
    assert_eq!((header.uid().unwrap(), header.gid().unwrap(), header.mode().unwrap()), (1000, 1000, 0o400));
    assert_eq!(entry.path().unwrap().to_str(), Some("www/private/server_settings.py"));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_which_release_an_image_is_takes_two_requests_more_and_reads_nothing() {
    let pushed = Pushed::new().await;
    pushed.tiny.commit();
    let push = || pushed.tiny.program().run(&["push", "-e", "remote", "--output", "json"]).ok().result();
    push();
    pushed.put_secret("another-secret");
    pushed.proxy.forget();
    let rotated = pushed.rotate(&pushed.reference);
    let seen = pushed.proxy.seen();
    assert_eq!((seen.len(), pushed.proxy.count(Method::HEAD, "/manifests/")), (5 + 2, 2), "{seen:#?}");
    assert_eq!(rotated["tag"], push()["release"]["release"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_this_machine_put_there_is_not_read_again() {
    let pushed = Pushed::new().await;
    let mut from = pushed.reference.clone();
    // As it was pushed, and as it was rotated.
    for secret in ["second", "third"] {
        pushed.put_secret(secret);
        pushed.proxy.forget();
        let rotated = pushed.rotate(&from);
        let seen = pushed.proxy.seen();
        assert!(seen.iter().all(|seen| seen.method != Method::GET), "{seen:#?}");
        assert_eq!(seen.len(), 5, "{seen:#?}");
        from = rotated["to"].as_str().unwrap().to_owned();
    }
    // A manifest that something has changed on disk is not taken.
    let kept = pushed.tiny.path().join(".imgforge/layers/manifests");
    for entry in std::fs::read_dir(&kept).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.replacen("schemaVersion", "schemaversion", 1)).unwrap();
    }
    pushed.put_secret("fourth");
    pushed.proxy.forget();
    pushed.rotate(&from);
    assert_eq!(pushed.proxy.count(Method::GET, "/manifests/"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotated_image_is_the_one_that_a_release_with_the_new_secret_gives() {
    let pushed = Pushed::new().await;
    pushed.put_secret("second");
    let second = pushed.rotate(&pushed.reference)["to"].as_str().unwrap().to_owned();
    pushed.put_secret("third");
    // By way of the second, and at once.
    let by_way = pushed.rotate(&second);
    let at_once = pushed.rotate(&pushed.reference);
    assert_eq!(by_way["to"], at_once["to"]);
    let release = pushed.tiny.program().run(&["push", "-e", "remote", "--output", "json"]).ok().result();
    assert_eq!(release["release"]["images"][0]["reference"], at_once["to"]);
    assert_eq!(release["release"]["images"][0]["uploaded"], 0);

    // Back to the first, as it was.
    pushed.put_secret(&pushed.tiny.canary);
    assert_eq!(pushed.rotate(at_once["to"].as_str().unwrap())["to"], pushed.reference);
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_that_did_not_change_send_nothing() {
    let pushed = Pushed::new().await;
    pushed.forget();
    let rotated = pushed.rotate(&pushed.reference);
    assert_eq!((&rotated["unchanged"], &rotated["uploaded"]), (&json!(true), &json!(0)));
    assert_eq!(rotated["to"], pushed.reference);
    let methods: Vec<_> = pushed.proxy.seen().into_iter().map(|seen| seen.method).collect();
    assert_eq!(methods, [Method::GET, Method::GET]);
    let said = pushed.run(&["--image", &format!("web={}", pushed.reference)]).ok();
    assert!(said.stdout.contains("nothing changed"), "{}", said.stdout);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_names_the_new_digest_and_changes_nothing() {
    let pushed = Pushed::new().await;
    let image = format!("web={}", pushed.reference);
    pushed.put_secret("another-secret");
    let plan = pushed.run(&["--image", &image, "--dry-run", "--output", "json"]).ok().result()["rotate_plan"]
        .clone();
    assert!(pushed.proxy.seen().iter().all(|seen| seen.method == Method::GET));
    let planned = plan["images"][0]["to"].as_str().unwrap().to_owned();
    let human = pushed.run(&["--image", &image, "--dry-run"]).ok().stdout;
    assert!(human.contains(&planned) && !human.contains("another-secret"), "{human}");
    assert!(pushed.rotate(&pushed.reference)["to"].as_str().unwrap().ends_with(&planned));
}

#[tokio::test(flavor = "multi_thread")]
async fn many_images_are_rotated_at_once_each_in_its_place() {
    let pushed = Pushed::new().await;
    // The same image in three repositories and under two tags.
    let mut images = Vec::new();
    for number in 0..3 {
        let to = format!("{}-{number}", pushed.repository());
        for tag in ["one", "two"] {
            let mut command = std::process::Command::new("skopeo");
            command.args(["copy", "--quiet", "--src-tls-verify=false", "--dest-tls-verify=false"]);
            command.arg(format!("docker://{}", pushed.reference)).arg(format!("docker://{to}:{tag}"));
            assert!(command.status().unwrap().success());
            images.push(format!("web={to}:{tag}"));
        }
    }
    pushed.put_secret("another-secret");
    pushed.proxy.forget();
    let mut arguments = vec!["--output", "json"];
    for image in &images {
        arguments.extend(["--image", image]);
    }
    let result = pushed.run(&arguments).ok().result();
    let rotated = result["rotate"]["images"].as_array().unwrap();
    assert_eq!(rotated.len(), 6);
    // Layer and config once for each repository, though two images of it have them.
    assert_eq!(pushed.proxy.count(Method::POST, "/blobs/uploads/"), 3 * 2);
    for (rotated, image) in rotated.iter().zip(&images) {
        let (repository, tag) = image.strip_prefix("web=").unwrap().rsplit_once(':').unwrap();
        assert!(rotated["to"].as_str().unwrap().starts_with(&format!("{repository}@")));
        let new = rotated["tag"].as_str().unwrap();
        assert!(new.starts_with(&format!("{tag}-")) && new.len() == tag.len() + 9, "{new}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_rotated_is_refused_and_nothing_is_sent() {
    let pushed = Pushed::new().await;
    let repository = pushed.repository().to_owned();
    let base = format!("{repository}:base");
    let mut command = std::process::Command::new("skopeo");
    command.args(["copy", "--quiet", "--dest-tls-verify=false"]);
    command.arg(format!("oci:{}", pushed.tiny.path().join("bases/busybox").display()));
    assert!(command.arg(format!("docker://{base}")).status().unwrap().success());
    // A manifest with one layer more than its config knows of.
    let mut manifest = pushed.get("manifests", digest(&pushed.reference));
    let media_type = manifest["mediaType"].as_str().unwrap().to_owned();
    let again = manifest["layers"][0].clone();
    manifest["layers"].as_array_mut().unwrap().push(again);
    pushed.put(&media_type, "disagree", &manifest);
    pushed.proxy.forget();
    pushed.put_secret("another-secret");

    let refused = |image: &str, code: i32, words: &str| {
        let ended = pushed.run(&["--image", image]).failed(code, words);
        assert!(ended.stderr.contains("help:"), "{}", ended.stderr);
    };
    refused(&format!("web={base}"), 6, "it has no secret layer");
    refused(&format!("web={repository}:nothing"), 6, "there is no image");
    refused(&format!("webb={base}"), 2, "did you mean \"web\"?");
    refused("web", 6, "which image \"web\" is to be rotated?");
    pushed.run(&["--image", &format!("web={repository}:disagree")]).failed(6, "lists");
    let pinned = ["--image", &format!("web={}", pushed.reference), "--secret"];
    pushed.run(&[&pinned[..], &["other=1"]].concat()).failed(2, "no image holds a secret file \"other\"");
    pushed.run(&[&pinned[..], &["server_settings"]].concat()).failed(2, "names no version");
    pushed
        .run(&[&pinned[..], &["server_settings=000000000000"]].concat())
        .failed(6, "keeps no earlier versions");
    assert!(pushed.proxy.seen().iter().all(|seen| seen.method == Method::GET || seen.method == Method::HEAD));
}

#[tokio::test(flavor = "multi_thread")]
async fn diff_tells_which_file_is_another_and_not_what_is_in_it() {
    let pushed = Pushed::new().await;
    pushed.put_secret("another-secret");
    let rotated = pushed.rotate(&pushed.reference)["to"].as_str().unwrap().to_owned();
    let diff =
        |more: &[&str]| pushed.program().run(&[&["diff", &pushed.reference, &rotated], more].concat()).ok();
    let human = diff(&[]).stdout;
    assert!(human.contains("~ /www/private/server_settings.py  content"), "{human}");
    assert!(human.contains("secret  server_settings: "), "{human}");
    let result = diff(&["--output", "json"]).result()["diff"].clone();
    assert_eq!(result["files"].as_array().unwrap().len(), 1, "{result}");
    assert_eq!(result["shared_layers"], result["first_layers"].as_u64().unwrap() - 1);
    assert!(!result.to_string().contains("another-secret"));

    // Against its base: what the build and the bake have added.
    let layout = pushed.tiny.path().join("bases/busybox");
    let index: Value = serde_json::from_slice(&std::fs::read(layout.join("index.json")).unwrap()).unwrap();
    let base = format!("oci:{}@{}", layout.display(), index["manifests"][0]["digest"].as_str().unwrap());
    let human = pushed.program().run(&["diff", &base, &rotated]).ok().stdout;
    for line in ["+ /www/index.html", "+ /www/built", "+ /www/private/server_settings.py"] {
        assert!(human.contains(line), "{line} is not in\n{human}");
    }
    assert!(!human.contains("/bin/busybox"), "{human}");
    let same = pushed.program().run(&["diff", &rotated, &rotated]).ok().stdout;
    assert!(same.contains("no file differs"), "{same}");
}
