//! What an instance does when it starts: its user data, run with stand-ins for what is only there on AWS.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::PARAMETERS;
use crate::support::moto::Moto;
use crate::support::production::BUCKET;
use crate::support::stack::Stack;

/// How it ended.
struct Booted {
    code: i32,
    /// /etc/ecs/ecs.config, when there is one.
    config: Option<String>,
    /// What was called: `aws`, `cfn-signal`, `shutdown`.
    called: String,
    console: String,
}

/// The text of the user data, with the names that CloudFormation puts into it. `login` is the ARN of a Docker login, or empty.
fn user_data(login: &str) -> String {
    let moto = Moto::start();
    let stack = Stack::create(&moto.url, "shop", &PARAMETERS);
    let data = &stack.state["template"]["Resources"]["LaunchTemplate"]["Properties"]["LaunchTemplateData"];
    let sub: &Value = &data["UserData"]["Fn::Base64"]["Fn::Sub"];
    let names = [
        ("AWS::StackName", "shop"),
        ("AWS::Region", "eu-west-1"),
        ("Cluster", "shop"),
        ("SecretsBucket", BUCKET),
        ("DockerLoginArn", login),
    ];
    let mut text = sub[0].as_str().unwrap().to_owned();
    for (name, value) in names {
        text = text.replace(&format!("${{{name}}}"), value);
    }
    assert!(!text.contains("${"), "CloudFormation would look for what this names: {text}");
    text
}

/// Runs it. `aws` is the body of a shell script that plays the AWS CLI.
fn boot(login: &str, aws: &str) -> Booted {
    let root = tempfile::tempdir().unwrap();
    let at = |name: &str| root.path().join(name).to_str().unwrap().to_owned();
    let script = user_data(login);
    let script = script.replace("/etc/ecs", &at("ecs")).replace("/opt/aws/bin", &at("bin"));
    let script = script.replace("/dev/console", &at("console"));
    fs::write(at("user-data"), script).unwrap();
    fs::create_dir(at("bin")).unwrap();
    let stand_in = |name: &str, body: &str| {
        let path = at(&format!("bin/{name}"));
        fs::write(&path, format!("#!/bin/bash\necho \"{name} $*\" >>{}\n{body}\n", at("called"))).unwrap();
        let done = Command::new("chmod").args(["+x", &path]).status().unwrap();
        assert!(done.success());
    };
    for name in ["dnf", "cfn-signal", "shutdown", "sleep"] {
        stand_in(name, "");
    }
    stand_in("aws", aws);
    let path = format!("{}:/usr/bin:/bin", at("bin"));
    let done = Command::new("bash").arg(at("user-data")).env_clear().env("PATH", path).output().unwrap();
    let read = |name: &str| fs::read_to_string(Path::new(&at(name))).ok();
    Booted {
        code: done.status.code().unwrap(),
        config: read("ecs/ecs.config"),
        called: read("called").unwrap_or_default(),
        console: read("console").unwrap_or_default(),
    }
}

fn cluster(config: &str) -> Option<&str> {
    config.lines().rev().find_map(|line| line.strip_prefix("ECS_CLUSTER="))
}

#[test]
fn an_instance_takes_ecs_config_from_the_bucket_and_joins_this_cluster() {
    // Without a newline at its end, and for another cluster.
    let aws = r#"case "$2" in
list-objects-v2) echo 1 ;;
get-object) printf 'ECS_ENGINE_AUTH_TYPE=docker\nECS_CLUSTER=another' >"${@: -1}" ;;
esac"#;
    let booted = boot("", aws);
    assert_eq!(booted.code, 0, "{}", booted.console);
    let config = booted.config.unwrap();
    assert!(config.starts_with("ECS_ENGINE_AUTH_TYPE=docker\n"), "{config}");
    assert_eq!(cluster(&config), Some("shop"));
    assert!(
        booted.called.contains(&format!("get-object --bucket {BUCKET} --key ecs.config")),
        "{}",
        booted.called
    );
    assert!(booted.called.contains("cfn-signal --success true"), "{}", booted.called);
    assert!(!booted.called.contains("shutdown"));
}

#[test]
fn without_ecs_config_it_writes_the_docker_login_or_only_the_cluster() {
    let none = r#"case "$2" in
list-objects-v2) echo 0 ;;
get-secret-value) echo '{"https://index.docker.io/v1/":{"auth":"dTpw","email":""}}' ;;
get-object) exit 1 ;;
esac"#;
    let config = boot("arn:aws:secretsmanager:eu-west-1:123456789012:secret:login", none).config.unwrap();
    let wanted = "ECS_ENGINE_AUTH_TYPE=dockercfg\n\
                  ECS_ENGINE_AUTH_DATA={\"https://index.docker.io/v1/\":{\"auth\":\"dTpw\",\"email\":\"\"}}\n";
    assert!(config.starts_with(wanted), "{config}");
    assert_eq!(cluster(&config), Some("shop"));
    let booted = boot("", none);
    assert_eq!((booted.code, booted.config.as_deref().map(str::trim)), (0, Some("ECS_CLUSTER=shop")));
    assert!(!booted.called.contains("get-secret-value"));
}

#[test]
fn what_fails_for_a_while_is_tried_again_and_what_goes_on_failing_is_told_and_turns_the_instance_off() {
    let at_the_third = r#"n=$(grep -c list-objects "$(dirname "$0")/../called")
case "$2" in
list-objects-v2) [ "$n" -ge 3 ] || exit 255; echo 0 ;;
esac"#;
    let booted = boot("", at_the_third);
    assert_eq!(booted.code, 0, "{}", booted.console);
    assert_eq!(booted.called.matches("list-objects-v2").count(), 3);
    assert_eq!(cluster(&booted.config.unwrap()), Some("shop"));

    let booted = boot("", "echo 'AccessDenied' >&2; exit 254");
    assert_ne!(booted.code, 0);
    assert_eq!(booted.called.matches("list-objects-v2").count(), 8);
    assert!(booted.called.contains("cfn-signal --success false"), "{}", booted.called);
    assert!(booted.called.contains("shutdown -h now"), "{}", booted.called);
    assert!(
        booted.console.contains("AccessDenied") && booted.console.contains("FAILED"),
        "{}",
        booted.console
    );
    assert_eq!(booted.config, None, "the agent does not start with half of its settings");

    // It is there and cannot be read: that is not "there is none".
    let unreadable = r#"case "$2" in list-objects-v2) echo 1 ;; *) exit 254 ;; esac"#;
    let booted = boot("", unreadable);
    assert_ne!(booted.code, 0);
    assert!(booted.called.contains("shutdown -h now"));
}
