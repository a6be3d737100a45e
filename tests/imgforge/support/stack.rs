//! A stack of templates/cloudformation/site.yaml on moto. `stack.py` beside this says what moto leaves out.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::moto::REGION;

/// The template.
pub const TEMPLATE: &str = "templates/cloudformation/site.yaml";

/// A program of the tests' Python environment, to be run in the project's folder.
pub fn tool(name: &str) -> Command {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut command = Command::new(root.join("target/tools/venv/bin").join(name));
    command.current_dir(root);
    command
}

/// A stack of this name, as it is after its creation or last change.
pub struct Stack {
    moto: String,
    name: String,
    /// What stack.py says of it.
    pub state: Value,
}

impl Stack {
    /// With these parameters; the others have their defaults.
    pub fn create(moto: &str, name: &str, parameters: &[(&str, &str)]) -> Self {
        let mut stack = Stack { moto: moto.into(), name: name.into(), state: Value::Null };
        let given: Vec<String> = parameters.iter().map(|(key, value)| format!("{key}={value}")).collect();
        stack.run("create", &given);
        stack
    }

    /// A change set with these parameters, made and executed. Those in `kept` have their previous values, and whatever is in
    /// neither list has its default, as on AWS.
    pub fn change(&mut self, parameters: &[(&str, &str)], kept: &[&str]) {
        let given = parameters.iter().map(|(key, value)| format!("{key}={value}"));
        let all: Vec<String> = given.chain(kept.iter().map(ToString::to_string)).collect();
        self.run("change", &all);
    }

    /// The physical id of a resource.
    pub fn resource(&self, logical: &str) -> &str {
        self.state["resources"][logical].as_str().unwrap_or_else(|| panic!("no {logical}: {:#}", self.state))
    }

    /// The policy of a managed policy or of a role, as IAM holds it.
    pub fn policy(&self, logical: &str) -> &Value {
        &self.state["policies"][logical]
    }

    fn run(&mut self, verb: &str, arguments: &[String]) {
        let mut command = tool("python3");
        command
            .args(["tests/imgforge/support/stack.py", &self.moto, REGION, verb, &self.name])
            .args(arguments);
        let done = command.output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        self.state = serde_json::from_slice(&done.stdout).unwrap();
        let status = self.state["status"].as_str().unwrap();
        assert!(status.ends_with("_COMPLETE") && !status.contains("ROLLBACK"), "{status}");
    }
}
