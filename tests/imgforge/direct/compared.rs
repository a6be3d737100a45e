//! The page built by the daemon and built directly: the same files, but for those that docs/direct.md tells of.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::support::direct::{Entry, Pushed};
use crate::support::page::Page;

/// The files of an image: each layer over those below.
fn files(pushed: &Pushed) -> BTreeMap<String, Entry> {
    let mut files: BTreeMap<String, Entry> = BTreeMap::new();
    for layer in &pushed.layers {
        for (path, entry) in layer {
            let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
            if let Some(removed) = name.strip_prefix(".wh.") {
                let removed = format!("{folder}/{removed}");
                files.retain(|path, _| *path != removed && !path.starts_with(&format!("{removed}/")));
                continue;
            }
            // The bit that says what kind of file it is stands in the mode, too, where Docker wrote it.
            let entry = Entry { mode: entry.mode & 0o7777, mtime: 0, ..entry.clone() };
            // An environment and a folder have the packages and scripts in other places.
            let path = path.replace("opt/venv/lib/python3.11/site-packages", "opt/site");
            files.insert(path.replace("opt/venv/bin", "opt/site/bin"), entry);
        }
    }
    files
}

fn push(page: &Page) -> Pushed {
    let result = page.program().run(&["push", "--image", "web", "--output", "json"]).ok().result();
    Pushed::of(page.folder(), &result)
}

#[tokio::test]
async fn both_engines_give_the_same_files_and_settings_but_for_those_that_the_docs_name() {
    let (docker, direct) = (Page::new().await, Page::direct().await);
    // One salt and one secret, so that the layer on top is the same, too.
    direct.write("secrets/server_settings.py.shop", &docker.read("secrets/server_settings.py.shop"));
    let by_docker = push(&docker);
    std::fs::copy(
        docker.folder().join("secrets/imgforge.salt"),
        direct.folder().join("secrets/imgforge.salt"),
    )
    .unwrap();
    let directly = push(&direct);
    let (one, two) = (files(&by_docker), files(&directly));

    let environment = |path: &str| {
        path.starts_with("opt/venv")
            || ["python", "python3", "python3.11", "Activate.ps1"]
                .iter()
                .any(|name| path == format!("opt/site/bin/{name}"))
            || path.starts_with("opt/site/bin/activate")
    };
    let only_docker = |path: &str| {
        environment(path)
            || path.contains("/__pycache__")
            || path == "dev"
            || path == "home/docker/code/dockerfiles/web.gunicorn.Dockerfile"
            || ["etc/gshadow-", "etc/shadow-", "etc/subgid-", "etc/subuid-"].contains(&path)
            || ["home/docker/.bash_logout", "home/docker/.bashrc", "home/docker/.profile"].contains(&path)
    };
    let only_direct = |path: &str| path.ends_with(".dist-info/REQUESTED");
    let may_differ = |path: &str| {
        ["etc/gshadow", "etc/shadow", "etc/passwd-", "etc/group-", "etc/subgid", "etc/subuid"].contains(&path)
            || path.ends_with(".dist-info/INSTALLER")
            || path.ends_with(".dist-info/RECORD")
            || path == "home/docker/code/static/staticfiles.json"
    };
    let mut wrong = Vec::new();
    for (path, entry) in &one {
        match two.get(path) {
            None if only_docker(path) => {}
            None => wrong.push(format!("{path} is not in the direct image")),
            Some(other) if other == entry || may_differ(path) => {}
            Some(other) if path.starts_with("opt/site/bin/") => {
                let behind_first_line =
                    |entry: &Entry| entry.content.splitn(2, |byte| *byte == b'\n').nth(1).map(<[u8]>::to_vec);
                // uv writes its own words around the same call.
                assert!(behind_first_line(entry).is_some() && behind_first_line(other).is_some(), "{path}");
                assert_eq!(entry.mode, other.mode, "{path}");
            }
            Some(other) if path.starts_with("var/") && entry.kind == other.kind => {}
            Some(_) => wrong.push(format!("{path} differs")),
        }
    }
    let new = two.keys().filter(|path| !one.contains_key(*path) && !only_direct(path));
    wrong.extend(new.map(|path| format!("{path} is only in the direct image")));
    assert!(wrong.is_empty(), "{wrong:#?}");
    let manifest = |files: &BTreeMap<String, Entry>| {
        let manifest: Value =
            serde_json::from_slice(&files["home/docker/code/static/staticfiles.json"].content).unwrap();
        serde_json::from_value::<BTreeMap<String, String>>(manifest["paths"].clone()).unwrap()
    };
    assert_eq!(manifest(&one), manifest(&two));

    let settings = |pushed: &Pushed| {
        let mut settings = pushed.config["config"].clone();
        for only_of_docker in ["ArgsEscaped", "OnBuild", "Env"] {
            settings.as_object_mut().unwrap().remove(only_of_docker);
        }
        settings
    };
    assert_eq!(settings(&by_docker), settings(&directly));
    let variables = |pushed: &Pushed| {
        let listed = pushed.config["config"]["Env"].as_array().unwrap().clone();
        let mut listed: Vec<String> =
            listed.iter().map(|text| text.as_str().unwrap().replace("/opt/venv", "/opt/site")).collect();
        listed.sort();
        listed.retain(|variable| variable != "PYTHONPATH=/opt/site");
        listed
    };
    assert_eq!(variables(&by_docker), variables(&directly));
    assert_eq!(by_docker.digests.last(), directly.digests.last(), "the secret layer");
}
