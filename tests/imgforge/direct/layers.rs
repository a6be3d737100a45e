//! What is in the layers of copies, users and directories, and that it depends on nothing but what was asked for.

use std::os::unix::fs::{PermissionsExt, symlink};

use crate::support::direct::Direct;

const SITE: &str = r#"
bake = [{ secret = "settings", path = "/srv/site/settings.py", owner = "1000:1000" }]
[[images.web.users]]
name = "docker"
uid = 1000
[[images.web.directories]]
path = "/srv/data"
owner = "1000:1000"
[[images.web.copy]]
from = "site"
to = "/srv/site"
[images.web.config]
user = "docker"
workdir = "/srv/site"
env = { MODE = "direct" }
cmd = ["httpd", "-f", "-p", "8000"]
expose = ["8000"]
"#;

fn site() -> Direct {
    let direct = Direct::new(SITE);
    direct.write("site/index.html", "public\n");
    direct.write("site/deep/er/page.html", "deep\n");
    direct.write("site/run.sh", "#!/bin/sh\n");
    direct.write("site/left-out.log", "noise\n");
    direct.write("site/local_settings.py", "a developer's own\n");
    direct.write(".dockerignore", "**/*.log\n");
    symlink("/etc/passwd", direct.path().join("site/leads-out")).unwrap();
    std::fs::set_permissions(direct.path().join("site/run.sh"), PermissionsExt::from_mode(0o755)).unwrap();
    direct
}

#[test]
fn an_image_is_pushed_where_no_daemon_is() {
    let direct = site();
    let pushed = direct.push();
    assert!(pushed.built);
    assert_eq!(pushed.layers.len(), 4, "the base, users and directories, the copy, the secret");
    let names = |layer: usize| pushed.layers[layer].keys().map(String::as_str).collect::<Vec<_>>();
    assert_eq!(names(1), ["etc", "etc/group", "etc/passwd", "home", "home/docker", "srv", "srv/data"]);
    assert_eq!(
        names(2),
        [
            "srv",
            "srv/site",
            "srv/site/deep",
            "srv/site/deep/er",
            "srv/site/deep/er/page.html",
            "srv/site/index.html",
            "srv/site/leads-out",
            "srv/site/run.sh",
        ]
    );
    assert_eq!(names(3), ["srv", "srv/site", "srv/site/settings.py"]);
    let copied = &pushed.layers[2];
    assert_eq!(copied["srv/site/leads-out"].content, b"/etc/passwd", "a link is a text");
    assert_eq!(copied["srv/site/run.sh"].mode, 0o755);
    assert_eq!(copied["srv/site/index.html"].mode, 0o644);
    assert!(copied.values().all(|entry| entry.mtime == 0 && entry.owner == (0, 0)));
    let users = &pushed.layers[1];
    assert_eq!((users["home/docker"].owner, users["srv/data"].owner), ((1000, 1000), (1000, 1000)));
    let passwd = String::from_utf8(users["etc/passwd"].content.clone()).unwrap();
    assert!(passwd.ends_with("docker:x:1000:1000::/home/docker:/usr/sbin/nologin\n"), "{passwd}");
    let config = &pushed.config["config"];
    assert_eq!(config["User"], "docker");
    assert_eq!(config["Env"], serde_json::json!(["PATH=/bin", "MODE=direct"]));
    assert_eq!(config["ExposedPorts"], serde_json::json!({"8000/tcp": {}}));
    assert_eq!(pushed.config["created"], "2026-01-01T00:00:00Z", "the base's own");
    assert_eq!(pushed.config["history"].as_array().unwrap().len(), 4);
}

#[test]
fn the_same_files_elsewhere_give_the_same_layers() {
    let (one, two) = (site(), Direct::new(SITE));
    // In another order, with other times and under another umask.
    for file in ["run.sh", "local_settings.py", "left-out.log", "deep/er/page.html", "index.html"] {
        let text = std::fs::read_to_string(one.path().join("site").join(file)).unwrap();
        two.write(&format!("site/{file}"), &text);
        let path = two.path().join("site").join(file);
        let mode = if file == "run.sh" { 0o700 } else { 0o600 };
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
        let file = std::fs::File::options().write(true).open(path).unwrap();
        file.set_modified(std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1234)).unwrap();
    }
    symlink("/etc/passwd", two.path().join("site/leads-out")).unwrap();
    two.write(".dockerignore", "**/*.log\n");
    std::fs::copy(one.path().join("secrets/settings.py"), two.path().join("secrets/settings.py")).unwrap();
    let first = one.push();
    std::fs::copy(one.path().join("secrets/imgforge.salt"), two.path().join("secrets/imgforge.salt"))
        .unwrap();
    let program = two.program().with("TZ", "Pacific/Auckland").with("LC_ALL", "tr_TR.UTF-8");
    let imgforge = program.command(&["push", "--output", "json"]);
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", "umask 077; exec \"$@\"", "sh"]).arg(imgforge.get_program()).args(imgforge.get_args());
    shell.current_dir(two.path()).env_clear();
    shell.envs(imgforge.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let output = shell.output().unwrap();
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(told.contains(&first.digest), "{told}");
}

#[test]
fn one_changed_file_makes_one_layer_anew() {
    let direct = site();
    let first = direct.push();
    let again = direct.push();
    assert_eq!((again.digest, again.built), (first.digest, false));
    // The same size, and written right after it was read.
    direct.write("site/index.html", "PUBLIC\n");
    let changed = direct.push();
    assert!(changed.built);
    assert_eq!(changed.layers[2]["srv/site/index.html"].content, b"PUBLIC\n");
    for (layer, same) in [(0, true), (1, true), (2, false), (3, true)] {
        assert_eq!(changed.digests[layer] == first.digests[layer], same, "layer {layer}");
    }
}

#[test]
fn parents_are_listed_as_the_base_has_them() {
    let direct = Direct::new("[[images.web.copy]]\nfrom = \"f\"\nto = \"/tmp/f\"\n");
    direct.write("f", "1");
    let pushed = direct.push();
    let base = &pushed.layers[0]["tmp"];
    assert_eq!(&pushed.layers[1]["tmp"], base);
}

#[test]
fn a_whole_tree_goes_over_the_base_and_its_links_stay() {
    let direct = Direct::new(
        "[[images.web.copy]]\nfrom = \"first\"\nto = \"/\"\n[[images.web.copy]]\nfrom = \"second\"\nto = \"/\"\n",
    );
    // What the first brings, the second writes through.
    direct.write("first/srv/real/kept", "1");
    symlink("srv/real", direct.path().join("first/link")).unwrap();
    direct.write("second/link/new", "2");
    direct.write("second/tmp/file", "3");
    let pushed = direct.push();
    let names = |layer: usize| pushed.layers[layer].keys().map(String::as_str).collect::<Vec<_>>();
    assert_eq!(names(1), ["link", "srv", "srv/real", "srv/real/kept"]);
    assert_eq!(names(2), ["srv", "srv/real", "srv/real/new", "tmp", "tmp/file"]);
}

/// Names that people do not think of, from a generator with a fixed seed.
fn odd_names() -> Vec<String> {
    let parts = [
        "a",
        "-rf",
        "with space",
        "tab\there",
        "line\nbreak",
        "ü",
        "日本",
        "quote'\"",
        "$(x)",
        "*",
        "a.b",
        ".hidden",
        "wh.x",
        "back\\slash",
        "colon:",
        "~",
        "#",
        "%41",
    ];
    let mut state = 7_u32;
    let mut next = |below: usize| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 16) as usize % below
    };
    let mut names: Vec<String> = (0..150)
        .map(|number| {
            let folders: Vec<&str> = (0..next(4)).map(|_| parts[next(parts.len())]).collect();
            let long = "n".repeat(next(120));
            format!("{}/f{number}{}{long}", folders.join("/d"), parts[next(parts.len())])
        })
        .map(|name| name.trim_start_matches('/').to_owned())
        .collect();
    names.push(format!("{}/deep", vec!["d".repeat(60); 12].join("/")));
    names
}

#[test]
fn whatever_files_are_called_another_tar_unpacks_them_as_they_were() {
    let direct = Direct::new("[[images.web.copy]]\nfrom = \"site\"\nto = \"/srv\"\n");
    let names = odd_names();
    for (number, name) in names.iter().enumerate() {
        let file = format!("site/{name}");
        // A name may be taken by a folder of another one.
        if direct.path().join(&file).exists() {
            continue;
        }
        if number % 10 == 3 {
            std::fs::create_dir_all(direct.path().join(&file).parent().unwrap()).unwrap();
            symlink(format!("../{name}"), direct.path().join(&file)).unwrap();
        } else {
            direct.write(&file, &name.repeat(number % 7));
        }
    }
    let pushed = direct.push();
    let blob = direct
        .path()
        .join(".imgforge/images/web/blobs/sha256")
        .join(pushed.digests[1].trim_start_matches("sha256:"));
    let unpacked = tempfile::tempdir().unwrap();
    let tar = std::process::Command::new("tar")
        .args(["--no-same-owner", "-xzf"])
        .arg(blob)
        .arg("-C")
        .arg(unpacked.path())
        .output()
        .unwrap();
    assert!(tar.status.success(), "{}", String::from_utf8_lossy(&tar.stderr));
    let compared = std::process::Command::new("diff")
        .args(["--recursive", "--no-dereference"])
        .arg(direct.path().join("site"))
        .arg(unpacked.path().join("srv"))
        .output()
        .unwrap();
    assert!(compared.status.success(), "{}", String::from_utf8_lossy(&compared.stdout));
    assert!(pushed.layers[1].len() > 150);
}
