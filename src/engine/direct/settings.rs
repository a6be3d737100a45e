//! The config of an image: the base's, with what imgforge.toml says over it. No I/O here.
//!
//! Invariant (contract 8): no time of now; maps are in the order of their keys, the base's own fields in theirs.

use std::time::Duration;

use serde_json::{Value, json};

use crate::config::direct::{HealthConfig, SettingsConfig};
use crate::image::Object;

/// When an image was made whose base does not say when it was.
const EPOCH: &str = "1970-01-01T00:00:00Z";

/// What packages add to the environment.
pub(super) struct Packages {
    /// The folder that they are in, absolute.
    pub(super) path: String,
}

/// The config for an image on `base`. Its rootfs is the base's: layers are appended later.
pub(super) fn config(base: &Object, settings: &SettingsConfig, packages: Option<&Packages>) -> Object {
    let mut config = base.clone();
    // What another builder wrote of its own work.
    for left in
        ["container", "container_config", "docker_version", "id", "parent", "moby.buildkit.buildinfo.v1"]
    {
        config.remove(left);
    }
    let created = config.get("created").and_then(Value::as_str).unwrap_or(EPOCH).to_owned();
    config.insert("created".into(), created.into());
    let mut run = match config.remove("config") {
        Some(Value::Object(run)) => run,
        _ => Object::new(),
    };
    // Triggers are for `docker build` (Dockerfile reference, ONBUILD); Image names the image it was made from.
    run.remove("OnBuild");
    run.remove("Image");
    environment(&mut run, settings, packages);
    if let Some(user) = &settings.user {
        run.insert("User".into(), user.clone().into());
    }
    if let Some(workdir) = &settings.workdir {
        run.insert("WorkingDir".into(), workdir.get_ref().to_string().into());
    }
    if let Some(entrypoint) = &settings.entrypoint {
        run.insert("Entrypoint".into(), json!(entrypoint));
        run.remove("Cmd");
    }
    if let Some(cmd) = &settings.cmd {
        run.insert("Cmd".into(), json!(cmd));
    }
    let mut ports: Vec<&String> = settings.expose.iter().map(|port| &port.0).collect();
    ports.sort();
    add_keys(&mut run, "ExposedPorts", ports);
    let mut volumes: Vec<String> = settings.volumes.iter().map(|path| path.get_ref().to_string()).collect();
    volumes.sort();
    add_keys(&mut run, "Volumes", &volumes);
    if let Some(health) = &settings.healthcheck {
        run.insert("Healthcheck".into(), healthcheck(health));
    }
    if let Some(signal) = &settings.stop_signal {
        run.insert("StopSignal".into(), signal.clone().into());
    }
    if !settings.labels.is_empty() {
        let labels = run.entry("Labels").or_insert(Value::Null);
        if !labels.is_object() {
            *labels = Value::Object(Object::new());
        }
        for (name, value) in &settings.labels {
            labels[name] = value.clone().into();
        }
    }
    config.insert("config".into(), Value::Object(run));
    config
}

fn environment(run: &mut Object, settings: &SettingsConfig, packages: Option<&Packages>) {
    let listed = run.get("Env").and_then(Value::as_array).cloned().unwrap_or_default();
    let mut variables: Vec<(String, String)> = Vec::new();
    let mut set = |name: &str, value: String| match variables.iter_mut().find(|(known, _)| known == name) {
        Some((_, old)) => *old = value,
        None => variables.push((name.to_owned(), value)),
    };
    let mut path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned();
    for variable in listed.iter().filter_map(Value::as_str) {
        let (name, value) = variable.split_once('=').unwrap_or((variable, ""));
        if name == "PATH" {
            value.clone_into(&mut path);
        }
        set(name, value.to_owned());
    }
    if let Some(packages) = packages {
        set("PATH", format!("{}/bin:{path}", packages.path));
        set("PYTHONPATH", packages.path.clone());
    }
    for (name, value) in &settings.env {
        set(name, value.clone());
    }
    if !variables.is_empty() {
        let variables: Vec<String> =
            variables.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
        run.insert("Env".into(), json!(variables));
    }
}

/// Go's sets: objects whose values are empty.
fn add_keys<'k>(run: &mut Object, name: &str, keys: impl IntoIterator<Item = &'k String>) {
    let mut keys = keys.into_iter().peekable();
    if keys.peek().is_none() {
        return;
    }
    let set = run.entry(name).or_insert(Value::Null);
    if !set.is_object() {
        *set = Value::Object(Object::new());
    }
    for key in keys {
        set[key] = json!({});
    }
}

/// Times are in nanoseconds (OCI has no health check; Docker's image specification v1.2).
fn healthcheck(health: &HealthConfig) -> Value {
    let mut test = vec!["CMD".to_owned()];
    test.extend(health.command.iter().cloned());
    let mut value = json!({ "Test": test });
    let times =
        [("Interval", health.interval), ("Timeout", health.timeout), ("StartPeriod", health.start_period)];
    for (name, time) in times {
        if let Some(time) = time {
            value[name] = nanos(time).into();
        }
    }
    if let Some(retries) = health.retries {
        value["Retries"] = retries.into();
    }
    value
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;

    fn settings() -> SettingsConfig {
        toml::from_str(
            r#"
            user = "1000:1000"
            workdir = "/home/docker/code"
            env = { WSGI = "shop.wsgi:application", LANG = "C.UTF-8" }
            cmd = ["gunicorn"]
            expose = ["8000", "53/udp"]
            stop_signal = "SIGTERM"
            labels = { b = "2", a = "1" }
            volumes = ["/home/docker/data"]
            healthcheck = { command = ["true"], interval = "10s", retries = 3 }
            "#,
        )
        .unwrap()
    }

    fn base() -> Object {
        let base = json!({
            "architecture": "amd64", "os": "linux", "x-foreign": 1,
            "config": {"Env": ["PATH=/bin", "LANG=C"], "Cmd": ["sh"], "OnBuild": ["RUN x"], "Labels": {"kept": "yes"}},
            "rootfs": {"type": "layers", "diff_ids": []},
        });
        base.as_object().unwrap().clone()
    }

    /// Contract 8: pinned, so that no change of this code moves a digest unseen.
    #[test]
    fn config_is_golden() {
        let packages = Packages { path: "/opt/site".into() };
        let config = config(&base(), &settings(), Some(&packages));
        let text = serde_json::to_string(&config).unwrap();
        let digest = Digest::of(text.as_bytes());
        assert_eq!(
            digest.to_string(),
            "sha256:4cbdf6950f4d31c736e8b9e3706f209e30ff7f3be859e0aaf2b21be95a050b5c",
            "{text}"
        );
    }

    #[test]
    fn an_entrypoint_takes_the_command_of_the_base_away() {
        let mut settings = SettingsConfig { entrypoint: Some(vec!["a".into()]), ..SettingsConfig::default() };
        assert!(config(&base(), &settings, None)["config"].get("Cmd").is_none());
        settings.cmd = Some(vec!["b".into()]);
        assert_eq!(config(&base(), &settings, None)["config"]["Cmd"], json!(["b"]));
        let plain = config(&base(), &SettingsConfig::default(), None);
        assert_eq!(plain["config"]["Cmd"], json!(["sh"]), "what is not said stays");
        assert_eq!(plain["config"]["Env"], json!(["PATH=/bin", "LANG=C"]));
    }
}
