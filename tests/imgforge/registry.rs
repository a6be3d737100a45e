//! Pushing to registries and reading from them: a real registry, with a proxy before it where something has to go wrong.

use std::process::Command;
use std::time::Duration;

use imgforge::engine::Login;
use imgforge::registry::auth::{Known, LoginChain};
use imgforge::registry::remote::retry::RetryPolicy;
use imgforge::registry::remote::{Remote, RemoteConfig};
use imgforge::secret::Secret;

mod ecr;
mod faults;
mod layout;
mod logins;
mod luck;
mod remote;
mod tls;
mod together;

/// Retries at once, so that no test waits.
fn quick() -> RetryPolicy {
    RetryPolicy {
        attempts: 4,
        first_wait: Duration::from_millis(1),
        longest_wait: Duration::from_secs(5),
        ..RetryPolicy::default()
    }
}

fn config(host: &str, logins: LoginChain) -> RemoteConfig {
    RemoteConfig {
        retry: quick(),
        ..RemoteConfig::new(format!("{host}/{{project}}/{{image}}"), "shop", logins)
    }
}

fn remote(host: &str, logins: LoginChain) -> Remote {
    Remote::new(config(host, logins)).unwrap()
}

fn login(user: &str, password: &str) -> Login {
    Login { username: user.into(), password: Secret::new(password.as_bytes().to_vec()) }
}

fn known(host: &str, user: &str, password: &str) -> LoginChain {
    LoginChain::none().then(Known::new("the test", [(host.to_owned(), login(user, password))].into()))
}

/// Runs a tool that has to like what it gets.
fn tool(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .unwrap_or_else(|error| panic!("{program} cannot be started ({error}); run scripts/setup"));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {stderr}");
    String::from_utf8(output.stdout).unwrap()
}
