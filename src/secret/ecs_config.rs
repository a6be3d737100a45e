//! `ecs.config`, the ECS agent's settings, and the registry logins in it.
//!
//! Format and names: Amazon ECS developer guide, "Amazon ECS container agent configuration" and "Using non-AWS container
//! images in Amazon ECS" (`ECS_ENGINE_AUTH_TYPE`, `ECS_ENGINE_AUTH_DATA`). Errors tell the line and never what is in it.

use std::collections::BTreeMap;
use std::fmt::Write;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use super::Secret;
use crate::error::{Error, Result};

const AUTH_TYPE: &str = "ECS_ENGINE_AUTH_TYPE";
const AUTH_DATA: &str = "ECS_ENGINE_AUTH_DATA";
/// What Docker calls Docker Hub's registry in files of logins.
const DOCKER_HUB_KEY: &str = "https://index.docker.io/v1/";

/// A login to one registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistryLogin {
    /// The user.
    pub username: String,
    /// The password or token.
    pub password: Secret,
    /// The address that Docker once asked for. Registries do not look at it.
    pub email: Option<String>,
}

/// A valid ecs.config.
#[derive(Debug, Clone, Default)]
pub struct EcsConfig {
    /// As keyed in the file, in its order.
    logins: Vec<(String, RegistryLogin)>,
}

impl EcsConfig {
    /// The logins by registry host; Docker Hub's is `docker.io`.
    pub fn logins(&self) -> BTreeMap<String, RegistryLogin> {
        self.logins.iter().map(|(key, login)| (host(key), login.clone())).collect()
    }
}

/// Reads and checks an ecs.config. `name` says which file it is.
///
/// # Errors
/// A line that is no `KEY=VALUE`, an unknown type, a login that is not complete.
pub fn parse(source: &Secret, name: &str) -> Result<EcsConfig> {
    let text = text(source, name)?;
    let mut auth_type = None;
    let mut auth_data = None;
    for (number, line) in numbered(&text) {
        match assignment(line).map_err(|why| malformed(name, number, why))? {
            // The agent gets its environment from this file: of two lines with one key the later counts.
            Some((AUTH_TYPE, value)) => auth_type = Some((number, value)),
            Some((AUTH_DATA, value)) => auth_data = Some((number, value)),
            _ => {}
        }
    }
    let ((type_line, auth_type), (data_line, data)) = match (auth_type, auth_data) {
        (None | Some((_, "")), None | Some((_, ""))) => return Ok(EcsConfig::default()),
        (Some(auth_type), Some(data)) => (auth_type, data),
        (Some((line, _)), None) => {
            return Err(malformed(name, line, format!("{AUTH_TYPE} without {AUTH_DATA}")));
        }
        (None, Some((line, _))) => {
            return Err(malformed(name, line, format!("{AUTH_DATA} without {AUTH_TYPE}")));
        }
    };
    let read: fn(&Map<String, Value>) -> Result<RegistryLogin, &'static str> = match auth_type {
        "docker" => docker,
        "dockercfg" => dockercfg,
        _ => {
            let why = format!("{AUTH_TYPE} is neither docker nor dockercfg");
            return Err(malformed(name, type_line, why));
        }
    };
    let logins = entries(data)
        .and_then(|entries| {
            let logins = entries.into_iter().enumerate().map(|(index, (key, entry))| {
                let entry = entry.as_object().ok_or("it is not an object");
                let login =
                    entry.and_then(read).map_err(|why| format!("login {} in {AUTH_DATA}: {why}", index + 1));
                Ok((key, login?))
            });
            logins.collect::<Result<Vec<_>, String>>()
        })
        .map_err(|why| malformed(name, data_line, why))?;
    Ok(EcsConfig { logins })
}

/// An ecs.config with this login to the registry at `host` in it. Other lines of `existing`, and its other logins, stay.
///
/// # Errors
/// `existing` is not valid: what it means is not guessed at. `name` says which file it is.
pub fn write(
    host_name: &str,
    login: &RegistryLogin,
    existing: Option<&Secret>,
    name: &str,
) -> Result<Secret> {
    let none = Secret::new(Vec::new());
    let existing = existing.unwrap_or(&none);
    let mut logins = parse(existing, name)?.logins;
    let wanted = host(host_name);
    match logins.iter_mut().find(|(key, _)| host(key) == wanted) {
        Some((_, old)) => *old = login.clone(),
        None if wanted == "docker.io" => logins.push((DOCKER_HUB_KEY.into(), login.clone())),
        None => logins.push((wanted, login.clone())),
    }
    let mut data = Map::new();
    for (key, login) in &logins {
        data.insert(key.clone(), docker_entry(login)?);
    }
    let data = Zeroizing::new(Value::Object(data).to_string());
    let old = text(existing, name)?;
    let mut new = Zeroizing::new(String::with_capacity(old.len() + data.len() + 100));
    let mut write_line = |line: std::fmt::Arguments<'_>| {
        new.write_fmt(line).and_then(|()| new.write_char('\n')).expect("a string can be written to");
    };
    let mut placed = false;
    for (_, line) in numbered(&old) {
        match assignment(line) {
            Ok(Some((AUTH_TYPE | AUTH_DATA, _))) if placed => {}
            Ok(Some((AUTH_TYPE | AUTH_DATA, _))) => {
                write_line(format_args!("{AUTH_TYPE}=docker\n{AUTH_DATA}={}", *data));
                placed = true;
            }
            _ => write_line(format_args!("{line}")),
        }
    }
    if !placed {
        write_line(format_args!("{AUTH_TYPE}=docker\n{AUTH_DATA}={}", *data));
    }
    Ok(Secret::new(new.as_bytes().to_vec()))
}

fn docker_entry(login: &RegistryLogin) -> Result<Value> {
    let password = std::str::from_utf8(login.password.expose())
        .map_err(|_| Error::config("the password is not UTF-8, which ecs.config cannot hold"))?;
    let mut entry = json!({"username": login.username, "password": password});
    if let Some(email) = &login.email {
        entry["email"] = json!(email);
    }
    docker(entry.as_object().expect("it is an object just above"))
        .map_err(|why| Error::config(format!("this login cannot be written: {why}")))?;
    Ok(entry)
}

fn text<'s>(source: &'s Secret, name: &str) -> Result<std::borrow::Cow<'s, str>> {
    match std::str::from_utf8(source.expose()) {
        Ok(text) => Ok(text.into()),
        Err(error) => {
            let before = &source.expose()[..error.valid_up_to()];
            let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
            Err(malformed(name, line, "it is not UTF-8"))
        }
    }
}

fn numbered(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().map(|(index, line)| (index + 1, line))
}

fn malformed(name: &str, line: usize, why: impl std::fmt::Display) -> Error {
    Error::refused(format!("{name} is not a valid ecs.config: line {line}: {why}")).help(
        "imgforge secrets ecs-config writes a login into it; every other line is KEY=VALUE or a # comment",
    )
}

/// The key and value of a line; `None` for a blank line or a comment.
fn assignment(line: &str) -> Result<Option<(&str, &str)>, &'static str> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    let (key, value) = line.split_once('=').ok_or("it is not KEY=VALUE")?;
    if key.starts_with("export ") {
        return Err("the agent does not know \"export\"");
    }
    let name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    if key.is_empty() || key.starts_with(|first: char| first.is_ascii_digit()) || !key.bytes().all(name) {
        return Err("what stands before the = is not a variable's name");
    }
    Ok(Some((key, value.trim())))
}

/// The logins by registry, as JSON.
fn entries(data: &str) -> Result<Map<String, Value>, String> {
    let parsed: Value = serde_json::from_str(data).map_err(|error| {
        // serde_json's own words can quote what it read. Where it is must do.
        let quoted = data.starts_with(['\'', '"']);
        let hint = if quoted { ": no quotes around it" } else { "" };
        format!("{AUTH_DATA} is not JSON from its character {} on{hint}", error.column().max(1))
    })?;
    match parsed {
        Value::Object(entries) if entries.is_empty() => Err(format!("{AUTH_DATA} has no login in it")),
        Value::Object(entries) if entries.contains_key("auths") => {
            Err(format!("{AUTH_DATA} wants what is inside of \"auths\", without that level"))
        }
        Value::Object(entries) => Ok(entries),
        _ => Err(format!("{AUTH_DATA} is not a JSON object of registries")),
    }
}

/// `{"username": …, "password": …, "email": …}`
fn docker(entry: &Map<String, Value>) -> Result<RegistryLogin, &'static str> {
    let field = |name: &str| entry.get(name).and_then(Value::as_str).filter(|value| !value.is_empty());
    let username = field("username").ok_or("\"username\" is missing or empty")?;
    let password = field("password").ok_or("\"password\" is missing or empty")?;
    Ok(RegistryLogin {
        username: username.to_owned(),
        password: Secret::new(password.into()),
        email: field("email").map(str::to_owned),
    })
}

/// `{"auth": base64 of user:password, "email": …}`, an entry of Docker's old `.dockercfg`.
fn dockercfg(entry: &Map<String, Value>) -> Result<RegistryLogin, &'static str> {
    let auth = entry.get("auth").and_then(Value::as_str).filter(|auth| !auth.is_empty());
    let auth = auth.ok_or("\"auth\" is missing or empty")?;
    let decoded = BASE64_STANDARD.decode(auth.trim()).map(Zeroizing::new);
    let decoded = decoded.map_err(|_| "\"auth\" is not base64")?;
    let colon =
        decoded.iter().position(|byte| *byte == b':').ok_or("\"auth\" is not user:password in base64")?;
    let (username, password) = (&decoded[..colon], &decoded[colon + 1..]);
    let username = std::str::from_utf8(username).map_err(|_| "the user in \"auth\" is not UTF-8")?;
    if username.is_empty() || password.is_empty() {
        return Err("\"auth\" is not user:password in base64");
    }
    let email = entry.get("email").and_then(Value::as_str).filter(|email| !email.is_empty());
    Ok(RegistryLogin {
        username: username.to_owned(),
        password: Secret::new(password.to_vec()),
        email: email.map(str::to_owned),
    })
}

/// The host of a key in a file of logins: without scheme and path, all of Docker Hub's names as one.
fn host(key: &str) -> String {
    let rest = key.split_once("://").map_or(key, |(_, rest)| rest);
    match rest.split('/').next().unwrap_or(rest) {
        "index.docker.io" | "registry-1.docker.io" | "registry.hub.docker.com" => "docker.io".into(),
        host => host.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<BTreeMap<String, RegistryLogin>> {
        parse(&Secret::new(text.into()), "ecs_config").map(|config| config.logins())
    }

    fn login(username: &str, password: &str, email: Option<&str>) -> RegistryLogin {
        RegistryLogin {
            username: username.into(),
            password: Secret::new(password.into()),
            email: email.map(str::to_owned),
        }
    }

    const DOCKER: &str = "ECS_CLUSTER=shop\n# a comment\n\nECS_ENGINE_AUTH_TYPE=docker\nECS_ENGINE_AUTH_DATA={\"https://\
        index.docker.io/v1/\":{\"username\":\"my_name\",\"password\":\"my=pass\",\"email\":\"email@example.com\"}}\n";

    #[test]
    fn reads_both_published_forms() {
        let want = BTreeMap::from([(
            "docker.io".to_owned(),
            login("my_name", "my=pass", Some("email@example.com")),
        )]);
        assert_eq!(parsed(DOCKER).unwrap(), want);
        let auth = BASE64_STANDARD.encode("my_name:my=pass");
        let dockercfg = format!(
            "ECS_ENGINE_AUTH_TYPE=dockercfg\r\nECS_ENGINE_AUTH_DATA={{\"https://index.docker.io/v1/\":\
             {{\"auth\":\"{auth}\",\"email\":\"email@example.com\"}}}}\r\n"
        );
        assert_eq!(parsed(&dockercfg).unwrap(), want);
        assert!(parsed("ECS_CLUSTER=shop\n").unwrap().is_empty());
        assert!(parsed("ECS_ENGINE_AUTH_TYPE=\nECS_ENGINE_AUTH_DATA=\n").unwrap().is_empty());
    }

    #[test]
    fn bad_files_are_told_by_line_without_their_contents() {
        let data = |data: &str| format!("A=1\nECS_ENGINE_AUTH_TYPE=docker\nECS_ENGINE_AUTH_DATA={data}");
        let cases = [
            ("A=1\nhunter2".into(), "line 2: it is not KEY=VALUE"),
            ("export A=hunter2".into(), "line 1: the agent does not know"),
            ("A hunter2=1".into(), "line 1: what stands before the ="),
            ("ECS_ENGINE_AUTH_TYPE=docker".into(), "line 1: ECS_ENGINE_AUTH_TYPE without"),
            ("\nECS_ENGINE_AUTH_DATA={\"a\":\"hunter2\"}".into(), "line 2: ECS_ENGINE_AUTH_DATA without"),
            (data("{}").replace("=docker", "=hunter2"), "line 2: ECS_ENGINE_AUTH_TYPE is neither"),
            (data("{\"a\":hunter2}"), "line 3: ECS_ENGINE_AUTH_DATA is not JSON from its character"),
            (data("'{\"a\":\"hunter2\"}'"), "no quotes around it"),
            (data("\"hunter2\""), "line 3: ECS_ENGINE_AUTH_DATA is not a JSON object"),
            (data("{}"), "line 3: ECS_ENGINE_AUTH_DATA has no login"),
            (data("{\"auths\":{\"hunter2\":{}}}"), "inside of \"auths\""),
            (data("{\"a\":\"hunter2\"}"), "line 3: login 1 in ECS_ENGINE_AUTH_DATA: it is not an object"),
            (
                data("{\"a\":{\"username\":\"hunter2\"}}"),
                "login 1 in ECS_ENGINE_AUTH_DATA: \"password\" is missing",
            ),
            (
                data("{\"a\":{\"auth\":\"hunter2\"}}").replace("=docker", "=dockercfg"),
                "\"auth\" is not base64",
            ),
            (
                data("{\"a\":{\"auth\":\"aHVudGVyMg==\"}}").replace("=docker", "=dockercfg"),
                "is not user:password",
            ),
        ];
        for (text, want) in cases {
            let error = parsed(&text).unwrap_err();
            assert!(error.what().contains(want), "{text}: {error}");
            assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
        }
    }

    #[test]
    fn writes_a_new_file_that_it_reads_back() {
        let wanted = login("me", "p\"ss\nword", Some("me@example.com"));
        let file = write("docker.io", &wanted, None, "ecs_config").unwrap();
        let text = std::str::from_utf8(file.expose()).unwrap();
        assert!(text.contains("{\"https://index.docker.io/v1/\":{\"username\":\"me\""), "{text}");
        assert_eq!(parsed(text).unwrap(), BTreeMap::from([("docker.io".into(), wanted)]));
    }

    #[test]
    fn an_update_keeps_other_lines_and_other_logins() {
        let both = DOCKER
            .replace("}}", "},\"registry.example.com\":{\"username\":\"o\",\"password\":\"p\"}}")
            + "ECS_LOGLEVEL=debug\n";
        let file = write("index.docker.io", &login("me", "new", None), Some(&Secret::new(both.into())), "e");
        let file = file.unwrap();
        let text = std::str::from_utf8(file.expose()).unwrap();
        assert!(text.starts_with("ECS_CLUSTER=shop\n# a comment\n\nECS_ENGINE_AUTH_TYPE=docker\n"), "{text}");
        assert!(text.ends_with("\nECS_LOGLEVEL=debug\n"), "{text}");
        let logins = parsed(text).unwrap();
        assert_eq!(logins["docker.io"], login("me", "new", None));
        assert_eq!(logins["registry.example.com"], login("o", "p", None));
    }

    #[test]
    fn an_update_turns_dockercfg_into_docker() {
        let auth = BASE64_STANDARD.encode("o:p");
        let old = format!(
            "ECS_ENGINE_AUTH_DATA={{\"r.example.com\":{{\"auth\":\"{auth}\"}}}}\nX=1\nECS_ENGINE_AUTH_TYPE=dockercfg\n"
        );
        let file =
            write("docker.io", &login("me", "new", None), Some(&Secret::new(old.into())), "e").unwrap();
        let text = std::str::from_utf8(file.expose()).unwrap();
        assert_eq!(text.matches(AUTH_TYPE).count(), 1, "{text}");
        assert!(text.ends_with("\nX=1\n"), "{text}");
        assert_eq!(parsed(text).unwrap()["r.example.com"], login("o", "p", None));
    }

    #[test]
    fn a_broken_file_is_not_overwritten() {
        let broken = Secret::new(b"ECS_ENGINE_AUTH_TYPE\n".to_vec());
        assert!(write("docker.io", &login("a", "b", None), Some(&broken), "e").is_err());
    }
}
