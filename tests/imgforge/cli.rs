//! What the program prints and which code it gives, where no daemon and no network are needed.

use std::io::Write;
use std::path::Path;

use crate::support::program::Program;

const CONFIG: &str = r#"project = "shop"
[secrets]
store = "dir:secrets"
files = { server_settings = "server_settings.py", ecs_config = "ecs.config" }
[images.web]
dockerfile = "Dockerfile"
bake = [{ secret = "server_settings", path = "/s.py" }]
"#;

struct Project(tempfile::TempDir);

impl Project {
    fn new(config: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("imgforge.toml"), config).unwrap();
        std::fs::write(dir.path().join("Dockerfile"), "FROM scratch\n").unwrap();
        Project(dir)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn program(&self) -> Program {
        Program::new(self.path())
    }

    fn secret(&self, name: &str, text: &str) {
        std::fs::create_dir_all(self.path().join("secrets")).unwrap();
        std::fs::write(self.path().join("secrets").join(name), text).unwrap();
    }
}

#[test]
fn help_names_every_command_and_each_has_an_example() {
    let project = Project::new(CONFIG);
    let help = project.program().run(&["--help"]).ok();
    let commands = [
        "release",
        "plan",
        "build",
        "push",
        "deploy",
        "run",
        "inspect",
        "secrets",
        "doctor",
        "up",
        "down",
        "completions",
    ];
    for command in commands {
        assert!(help.stdout.contains(&format!("\n  {command} ")), "{command} is not in\n{}", help.stdout);
        if command != "secrets" {
            let own = project.program().run(&[command, "--help"]).ok();
            assert!(own.stdout.contains("Example"), "{command} has no example");
        }
    }
    for command in ["list", "get", "put", "versions", "ecs-config"] {
        let own = project.program().run(&["secrets", command, "--help"]).ok();
        assert!(own.stdout.contains("Example"), "secrets {command} has no example");
    }
}

#[test]
fn usage_errors_give_code_2() {
    let project = Project::new(CONFIG);
    project.program().run(&["relase"]).failed(2, "release");
    project.program().run(&["run", "web"]).failed(2, "COMMAND");
}

#[test]
fn a_folder_without_configuration_says_where_it_looked() {
    let dir = tempfile::tempdir().unwrap();
    let ended = Program::new(dir.path()).run(&["plan"]).failed(2, "there is no imgforge.toml in");
    assert!(ended.stderr.contains("-C DIR"), "{}", ended.stderr);
    assert_eq!(ended.stdout, "");
}

#[test]
fn a_configuration_error_is_drawn_at_its_line() {
    let project = Project::new("project = \"shop\"\n[images.web]\ndockerfil = \"Dockerfile\"\n");
    let ended = project.program().run(&["plan"]).failed(2, "unknown key \"dockerfil\"");
    assert!(ended.stderr.contains("imgforge.toml:3:1"), "{}", ended.stderr);
    assert!(ended.stderr.contains("did you mean \"dockerfile\"?"), "{}", ended.stderr);
}

#[test]
fn an_error_in_json_is_one_line_with_kind_code_and_place() {
    let project = Project::new("project = \"shop\"\nnonsense = 1\n");
    let ended = project.program().run(&["plan", "--output", "json"]);
    assert_eq!((ended.code, ended.stderr.as_str()), (2, ""));
    let error = ended.json().pop().unwrap();
    assert_eq!(error["event"], "error");
    assert_eq!((error["kind"].as_str(), error["exit_code"].as_u64()), (Some("config"), Some(2)));
    assert_eq!(error["place"], serde_json::json!({"file": "imgforge.toml", "line": 2, "column": 1}));
    assert_eq!(error["schema"], 1);
}

#[test]
fn the_configuration_is_found_from_a_folder_below() {
    let project = Project::new(CONFIG);
    let below = project.path().join("a/b");
    std::fs::create_dir_all(&below).unwrap();
    project.secret("x.txt", "x");
    Program::new(&below).run(&["secrets", "list"]).ok();
    Program::new("/").run(&["-C", below.to_str().unwrap(), "secrets", "list"]).ok();
}

#[test]
fn secrets_are_put_listed_and_read_back() {
    let project = Project::new(CONFIG);
    let settings = "SECRET_KEY = 'canary-7f3a'\n";
    std::fs::write(project.path().join("new.py"), settings).unwrap();
    let put = project.program().run(&["secrets", "put", "server_settings", "new.py"]).ok();
    assert!(put.stdout.starts_with("server_settings.py is in dir:secrets"), "{}", put.stdout);
    let list = project.program().run(&["secrets", "list"]).ok();
    assert!(list.stdout.contains("server_settings.py") && list.stdout.contains("27 B"), "{}", list.stdout);
    assert!(!list.stdout.contains("canary"), "{}", list.stdout);
    let get = project.program().run(&["secrets", "get", "server_settings"]).ok();
    assert_eq!(get.stdout, settings);
}

#[test]
fn a_secret_written_to_a_file_is_private_and_overwrites_nothing() {
    use std::os::unix::fs::PermissionsExt;
    let project = Project::new(CONFIG);
    project.secret("server_settings.py", "A = 1\n");
    let get = ["secrets", "get", "server_settings", "--to", "out.py"];
    project.program().run(&get).ok();
    let mode = std::fs::metadata(project.path().join("out.py")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    project.program().run(&get).failed(1, "cannot write out.py");
}

#[test]
fn settings_that_are_not_python_are_refused_without_showing_them() {
    let project = Project::new(CONFIG);
    std::fs::write(project.path().join("bad.py"), "A = 1\nSECRET_KEY = 'canary-7f3a\n").unwrap();
    let put = project.program().run(&["secrets", "put", "server_settings", "bad.py"]);
    assert_eq!(put.code, 6, "{}", put.stderr);
    assert!(put.stderr.contains("line 2"), "{}", put.stderr);
    assert!(!put.stderr.contains("canary"), "{}", put.stderr);
    assert!(!project.path().join("secrets/server_settings.py").exists(), "nothing was written");
}

#[test]
fn a_secret_can_come_from_standard_input_and_a_dry_run_writes_nothing() {
    let project = Project::new(CONFIG);
    let put = |dry_run: &[&str]| {
        let arguments = [&["secrets", "put", "server_settings", "-"], dry_run].concat();
        let mut command = project.program().command(&arguments);
        let mut child = command.stdin(std::process::Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(b"A = 1\n").unwrap();
        assert!(child.wait().unwrap().success());
    };
    let written = project.path().join("secrets/server_settings.py");
    put(&["--dry-run"]);
    assert!(!written.exists());
    put(&[]);
    assert_eq!(std::fs::read_to_string(written).unwrap(), "A = 1\n");
}

#[test]
fn ecs_config_is_written_from_a_docker_login_and_keeps_other_lines() {
    let project = Project::new(CONFIG);
    project.secret("ecs.config", "ECS_CLUSTER=shop\n");
    let program = project
        .program()
        .with("DOCKER_USER", "someone")
        .with("DOCKER_PASS", "canary-7f3a")
        .with("DOCKER_EMAIL", "someone@example.com");
    let ended = program.run(&["secrets", "ecs-config"]).ok();
    assert!(ended.stdout.contains("has the login of someone at docker.io"), "{}", ended.stdout);
    assert!(!ended.stdout.contains("canary") && !ended.stderr.contains("canary"));
    let written = std::fs::read_to_string(project.path().join("secrets/ecs.config")).unwrap();
    let lines: Vec<&str> = written.lines().collect();
    assert_eq!(lines[..2], ["ECS_CLUSTER=shop", "ECS_ENGINE_AUTH_TYPE=docker"]);
    assert!(lines[2].contains("\"https://index.docker.io/v1/\"") && lines[2].contains("canary-7f3a"));
}

#[test]
fn ecs_config_without_a_login_says_how_to_get_one() {
    let project = Project::new(CONFIG);
    let program = project.program().with("HOME", project.path().to_str().unwrap());
    let ended = program.run(&["secrets", "ecs-config"]).failed(6, "there is no login for docker.io");
    assert!(ended.stderr.contains("docker login"), "{}", ended.stderr);
}

#[test]
fn a_missing_secret_is_named_before_anything_is_built() {
    let project = Project::new(CONFIG);
    project.secret("server_setings.py", "A = 1\n");
    let ended = project.program().with("DOCKER_HOST", "unix:///nowhere.sock").run(&["push"]);
    assert!(ended.stderr.contains("server_settings.py"), "{}", ended.stderr);
    assert!(ended.stderr.contains("imgforge secrets put"), "{}", ended.stderr);
    assert_ne!(ended.code, 0);
    assert!(!project.path().join(".imgforge/images").exists(), "nothing was left behind");
}

#[test]
fn no_daemon_is_refused_with_where_it_was_looked_for() {
    let project = Project::new("project = \"shop\"\n[images.web]\ndockerfile = \"Dockerfile\"\n");
    let program = project.program().with("DOCKER_HOST", "unix:///nowhere.sock");
    let ended = program.run(&["build"]).failed(6, "unix:///nowhere.sock");
    assert!(ended.stderr.contains("help:"), "{}", ended.stderr);
    assert!(!project.path().join(".imgforge").exists(), "nothing was left behind");
}

#[test]
fn deploying_by_tag_is_refused() {
    let project = Project::new(CONFIG);
    project.program().run(&["deploy", "--image", "web=shop/web:latest"]).failed(2, "a tag can move");
}

#[test]
fn completions_are_written_for_every_shell() {
    let project = Project::new(CONFIG);
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = project.program().run(&["completions", shell]).ok().stdout;
        assert!(script.contains("ecs-config"), "{shell}");
    }
}
