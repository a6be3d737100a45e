//! Python packages from wheels, on a base of Debian's python3. They come from the package index.

use std::collections::BTreeMap;
use std::path::Path;

use crate::support::direct::{Direct, Pushed};
use crate::support::{debian, program::Program};

/// A project on Debian's python3.
pub async fn project(tables: &str) -> Direct {
    debian::base(&["python3", "python3-venv", "ca-certificates"]).await;
    let direct = Direct::new(tables);
    direct.replace(
        "layout = \"../busybox\"",
        "debian = { suite = \"bookworm\", packages = [\"python3\", \"python3-venv\", \"ca-certificates\"] }\n\
         [build.secrets]\nca_bundle = \"/etc/ssl/certs/ca-certificates.crt\"",
    );
    std::fs::create_dir(direct.path().join(".imgforge")).unwrap();
    std::os::unix::fs::symlink(debian::bases(), direct.path().join(".imgforge/bases")).unwrap();
    direct
}

/// The layer of the packages, which is the first on the base.
fn names(pushed: &Pushed) -> Vec<&str> {
    pushed.layers[1].keys().map(String::as_str).collect()
}

#[tokio::test]
async fn packages_carry_nothing_of_this_machine() {
    let direct = project(
        "[images.web.python]\nrequirements = \"requirements.txt\"\npackages = [\"gunicorn==27.0.1\"]\n",
    )
    .await;
    direct.write("requirements.txt", "-r more.txt\n");
    direct.write("more.txt", "whitenoise==6.12.0  # static files\n");
    let pushed = direct.push();
    let layer = &pushed.layers[1];
    let script = String::from_utf8(layer["opt/site/bin/gunicorn"].content.clone()).unwrap();
    assert!(script.starts_with("#!/usr/bin/python3\n"), "{script}");
    assert_eq!(layer["opt/site/bin/gunicorn"].mode, 0o755);
    let folder = direct.path().display().to_string();
    for (path, entry) in layer {
        let holds = |needle: &str| entry.content.windows(needle.len()).any(|at| at == needle.as_bytes());
        assert!(!holds(&folder) && !holds("/bin/python\n"), "{path}");
        assert!(!path.contains("__pycache__") && !path.ends_with(".lock"), "{path}");
        assert_eq!(entry.owner, (0, 0), "{path}");
        assert!(entry.mtime == 0 || path == "opt", "{path}");
    }
    let record =
        String::from_utf8(layer["opt/site/gunicorn-27.0.1.dist-info/RECORD"].content.clone()).unwrap();
    assert!(record.lines().is_sorted());
    assert!(layer.contains_key("opt/site/whitenoise/__init__.py"));

    // The same from nothing, elsewhere: the same bytes.
    let other = project(
        "[images.web.python]\nrequirements = \"requirements.txt\"\npackages = [\"gunicorn==27.0.1\"]\n",
    )
    .await;
    other.write("requirements.txt", "-r more.txt\n");
    other.write("more.txt", "whitenoise==6.12.0  # static files\n");
    assert_eq!(other.push().digest, pushed.digest);

    // Unchanged, it needs no uv; what another file names is an input, too.
    let without_uv = direct.program().with("PATH", "/nowhere");
    without_uv.run(&["push"]).ok();
    direct.write("more.txt", "whitenoise==6.11.0\n");
    without_uv.run(&["push"]).failed(6, "uv, which is not on PATH");
}

#[tokio::test]
async fn a_package_without_a_wheel_is_named() {
    let direct = project("[images.web.python]\npackages = [\"uwsgi==2.0.30\"]\n").await;
    let ended =
        direct.program().run(&["push"]).failed(1, "uwsgi has no wheel for the base's Python and platform");
    assert!(ended.stderr.contains("engine = \"docker\""), "{}", ended.stderr);
}

#[tokio::test]
async fn a_folder_of_this_machine_is_not_installed() {
    let direct = project("[images.web.python]\nrequirements = \"requirements.txt\"\n").await;
    direct.write("pyproject.toml", "[project]\nname = \"site\"\nversion = \"0\"\n");
    direct.write("requirements.txt", "-e .\n");
    direct.program().run(&["push"]).failed(2, "requirements.txt of image \"web\" installs . from a folder");
    direct.write("requirements.txt", "whitenoise==6.12.0\n.\n");
    direct.program().run(&["push"]).failed(1, "site has no wheel");
    direct.replace("requirements.txt", "pylock.toml");
    direct.write(
        "pylock.toml",
        "lock-version = \"1.0\"\ncreated-by = \"t\"\n[[packages]]\nname = \"mine\"\ndirectory = { path = \".\", editable = true }\n",
    );
    direct.program().run(&["push"]).failed(2, "pylock.toml of image \"web\" installs mine from a folder");
}

#[tokio::test]
async fn modules_are_compiled_when_asked_for_and_the_same_each_time() {
    let tables = "[images.web.python]\npackages = [\"whitenoise==6.12.0\"]\ncompile = true\n";
    let (one, two) = (project(tables).await, project(tables).await);
    let pushed = one.push();
    assert!(names(&pushed).contains(&"opt/site/whitenoise/__pycache__/base.cpython-311.pyc"));
    // Bit 0 of the flags: by content; bit 1, which is off: to be checked (PEP 552).
    let compiled = &pushed.layers[1]["opt/site/whitenoise/__pycache__/base.cpython-311.pyc"].content;
    assert_eq!(compiled[4..8], [1, 0, 0, 0]);
    assert_eq!(two.push().digest, pushed.digest);
}

/// A site whose own modules are compiled.
async fn site() -> Direct {
    let direct = project(
        "bake = [{ secret = \"settings\", path = \"/srv/shop/settings.py\" }]\n\
         [[images.web.copy]]\nfrom = \"site\"\nto = \"/srv\"\nowner = \"7:7\"\ncompile = true\n\
         [[images.web.copy]]\nfrom = \"more\"\nto = \"/srv\"\n",
    )
    .await;
    direct.write("site/manage.py", "print('hello')\n");
    direct.write(
        "site/shop/views.py",
        "KINDS = {'a', 'b', 'c'}\n\ndef kind(name):\n    return name in {'x', 'y', 'z'}\n",
    );
    direct.write("site/shop/settings.py", "SECRET = 'of another machine'\n");
    direct.write("site/shop/template.py", "class {{ name }}:\n");
    direct.write("site/shop/__pycache__/views.cpython-39.pyc", "of another machine");
    direct.write("more/shop/urls.py", "URLS = []\n");
    direct
}

#[tokio::test]
async fn modules_of_the_site_are_compiled_when_asked_for_and_each_only_when_it_is_new() {
    let direct = site().await;
    let ended = direct.program().run(&["push", "--output", "json"]).ok();
    let warnings = ended.stdout.matches("/srv/shop/template.py is no valid Python 3.11").count();
    assert_eq!(warnings, 1, "{}", ended.stdout);
    let pushed = Pushed::of(&direct.path(), &ended.result());
    let compiled: Vec<&str> = pushed
        .layers
        .iter()
        .flat_map(BTreeMap::keys)
        .map(String::as_str)
        .filter(|path| path.ends_with(".pyc"))
        .filter(|path| path.starts_with("srv"))
        .collect();
    let views = "srv/shop/__pycache__/views.cpython-311.pyc";
    assert_eq!(compiled, ["srv/__pycache__/manage.cpython-311.pyc", views]);
    let views = &pushed.layers[1][views];
    // By content, and not to be checked (PEP 552).
    assert_eq!((&views.content[4..8], views.owner, views.mode), (&[1, 0, 0, 0][..], (7, 7), 0o644));
    let holds = |needle: &[u8]| views.content.windows(needle.len()).any(|at| at == needle);
    assert!(holds(b"/srv/shop/views.py") && !holds(direct.path().as_os_str().as_encoded_bytes()));
    assert_eq!(pushed.layers[1]["srv/shop/__pycache__"].owner, (7, 7));

    // Nothing new: nothing is compiled. One new module: it alone is, and what it was before is still known.
    let without_uv = direct.program().with("PATH", "/nowhere");
    without_uv.run(&["push"]).ok();
    direct.write("site/manage.py", "print('another')\n");
    without_uv.run(&["push"]).failed(6, "uv, which is not on PATH");
    let changed = direct.push();
    assert_eq!(&changed.layers[1]["srv/shop/__pycache__/views.cpython-311.pyc"], views);
    direct.write("site/manage.py", "print('hello')\n");
    direct.write("site/shop/page.html", "new\n");
    without_uv.run(&["push"]).ok();
    std::fs::remove_file(direct.path().join("site/shop/page.html")).unwrap();

    // Elsewhere, compiled one after the other in another order: the same bytes.
    let other = site().await;
    for file in ["settings.py", "imgforge.salt"] {
        std::fs::copy(direct.path().join("secrets").join(file), other.path().join("secrets").join(file))
            .unwrap();
    }
    other.write("site/shop/views.py", "KINDS = {'x', 'y', 'z'}\n");
    other.push();
    direct.write("more/shop/views.py", "KINDS = {'later'}\n");
    let text = std::fs::read_to_string(direct.path().join("site/shop/views.py")).unwrap();
    other.write("site/shop/views.py", &text);
    assert_eq!(other.push().digest, pushed.digest);

    // A module that a later copy puts over it is compiled, too: what was compiled is not checked when it is imported.
    let replaced = direct.push();
    assert!(replaced.layers[2].contains_key("srv/shop/__pycache__/views.cpython-311.pyc"));
}

#[tokio::test]
async fn lock_files_are_told_by_their_names() {
    let direct = project("[images.web.python]\nrequirements = \"pylock.toml\"\n").await;
    let uv = |arguments: &[&str]| {
        let done =
            std::process::Command::new("uv").args(arguments).current_dir(direct.path()).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    };
    direct.write("wanted.txt", "whitenoise==6.12.0\n");
    uv(&["pip", "compile", "--quiet", "wanted.txt", "--format", "pylock.toml", "-o", "pylock.toml"]);
    direct.write(
        "pyproject.toml",
        "[project]\nname = \"site\"\nversion = \"0\"\nrequires-python = \">=3.11\"\ndependencies = [\"whitenoise==6.12.0\"]\n\
         [dependency-groups]\ndev = [\"sqlparse==0.5.3\"]\n",
    );
    uv(&["lock", "--quiet"]);
    let from_pylock = direct.push();
    direct.replace(
        "requirements = \"pylock.toml\"",
        "requirements = \"uv.lock\"\npackages = [\"gunicorn==27.0.1\"]",
    );
    let from_uv = direct.push();
    let has = |pushed: &Pushed, name: &str| names(pushed).contains(&name);
    for pushed in [&from_pylock, &from_uv] {
        assert!(has(pushed, "opt/site/whitenoise/base.py"));
        assert!(!has(pushed, "opt/site/sqlparse"), "what only developers need");
    }
    assert!(has(&from_uv, "opt/site/bin/gunicorn") && !has(&from_pylock, "opt/site/bin/gunicorn"));
}

#[tokio::test]
async fn static_files_are_made_from_what_an_image_may_hold() {
    let direct = project(
        "[[images.web.copy]]\nfrom = \"site\"\nto = \"/srv\"\n[images.web.static]\n\
         command = [\"sh\", \"collect\"]\nfrom = \"made\"\nto = \"/srv/static\"\nowner = \"7:8\"\n",
    )
    .await;
    direct.write("site/a.css", "a { }\n");
    direct.write("local_settings.py", "SECRET = \"of a developer\"\n");
    std::os::unix::fs::symlink("/etc/hostname", direct.path().join("leads-out")).unwrap();
    direct.write(
        "collect",
        "set -e\nmkdir -p made\ncp site/a.css made/\nls >made/seen\nenv | sort >made/variables\n",
    );
    let pushed = direct.push();
    let made = &pushed.layers[2];
    let text = |name: &str| String::from_utf8(made[name].content.clone()).unwrap();
    assert_eq!(made["srv/static/a.css"].owner, (7, 8));
    assert_eq!(text("srv/static/seen"), "collect\nimgforge.toml\nmade\nsite\n");
    assert!(
        text("srv/static/variables").contains("TZ=UTC")
            && !text("srv/static/variables").contains("DOCKER_HOST")
    );
    // Nothing to run when nothing changed, nor when only what it does not depend on did.
    let again = direct.program().with("PATH", "/nowhere").run(&["push", "--output", "json"]).ok().result();
    assert_eq!(again["release"]["images"][0]["digest"], pushed.digest);
    direct.replace("from = \"made\"", "inputs = [\"site\", \"collect\"]\nfrom = \"made\"");
    direct.push();
    direct.write("other.py", "1\n");
    direct.program().with("PATH", "/nowhere").run(&["push"]).ok();
    direct.write("site/a.css", "b { }\n");
    direct.program().with("PATH", "/nowhere").run(&["push"]).failed(1, "cannot start \"sh\"");
    direct.write("collect", "echo no such thing >&2\nexit 3\n");
    let failed = direct.program().run(&["push"]).failed(1, "sh collect of image web failed");
    assert!(failed.stderr.contains("no such thing"), "{}", failed.stderr);
}

/// Where what was installed is worked on: nothing stays there.
#[tokio::test]
async fn nothing_half_made_stays() {
    let direct = project("[images.web.python]\npackages = [\"uwsgi==2.0.30\"]\n").await;
    let program: Program = direct.program();
    program.run(&["push"]).failed(1, "uwsgi");
    let work: &Path = &direct.path().join(".imgforge/layers/work");
    assert_eq!(std::fs::read_dir(work).map(Iterator::count).unwrap_or(0), 0);
}
