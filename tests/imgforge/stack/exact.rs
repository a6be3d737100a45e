//! The policy for whoever runs imgforge, against what imgforge asks for in whole runs.

use std::collections::BTreeSet;

use super::PARAMETERS;
use super::account::Account;
use crate::support::ecs_simulator::{Breaker, Fate, Script};
use crate::support::policy::{Call, Policy};
use crate::support::stack::Stack;

/// Actions that IAM cannot bind to a resource. Those of the second line are bound to the cluster by a condition.
const ON_EVERYTHING: [&str; 5] = [
    "ecr:GetAuthorizationToken",
    "ecs:DeregisterTaskDefinition",
    "ecs:DescribeTaskDefinition",
    "ecs:ListServices",
    "ecs:ListTasks",
];

/// Every command that asks AWS for something.
fn good_ways(account: &Account) {
    account.put_settings(&account.tiny.canary);
    account.run(&["doctor"]).ok();
    account.run(&["plan"]).ok();
    let first = account.run(&["release"]).ok().result()["release"].clone();
    account.run_so_many(1);
    account.run(&["release"]).ok();
    account.run(&["deploy"]).ok();
    account.run(&["inspect", "web"]).ok();
    account.run(&["run", "web", "--", "true"]).ok();
    account.run(&["secrets", "list"]).ok();
    account.run(&["secrets", "versions", "server_settings"]).ok();
    let images = first["images"].as_array().unwrap();
    let version = images.iter().find_map(|image| image["secrets"]["server_settings"].as_str()).unwrap();
    account.run(&["secrets", "get", "server_settings", "--version", version]).ok();
    let login = account.program().with("DOCKER_USER", "someone").with("DOCKER_PASS", "a-token");
    login.run(&["-e", "production", "secrets", "ecs-config"]).ok();

    // A new secret, and the way back to the old one.
    account.put_settings("another-secret");
    account.run(&["rotate"]).ok();
    account.run(&["rotate", "--secret", &format!("server_settings={version}")]).ok();
    let reference = |at: usize| images[at]["reference"].as_str().unwrap();
    account.run(&["diff", reference(0), reference(1)]).ok();
}

/// Containers that end at once.
fn failing_tasks(account: &Account) {
    account.put_settings(&account.tiny.canary);
    account.run(&["release"]).ok();
    account.run_so_many(1);
    account.put_settings("a-secret-that-breaks-it");
    account.ecs.world().service.fate = Fate::Failing;
    account.run(&["rotate"]).failed(3, "rolled-back");
    // Without a rollback by ECS imgforge makes one.
    account.ecs.world().service.breaker = Breaker::Stops;
    account.run(&["rotate"]).failed(3, "rolled-back");
    // Somebody's deployment that failed and stays: where to go back to is asked for.
    account.ecs.world().service.deployments[0].rollout = "FAILED";
    account.run(&["plan"]).ok();
}

/// What is noticed before the switch: a migration that fails, whose revisions are taken back, and a misspelt service.
fn refused(account: &Account) {
    account.put_settings(&account.tiny.canary);
    account.ecs.world().tasks.script = Script::Exits(5, &["cannot migrate"]);
    account.run(&["release"]).failed(1, "ended with code 5");
    let misspelt = account.program().with("LAST_SERVICE", "baet");
    misspelt.run(&["-e", "production", "plan"]).failed(6, "service \"baet\" does not exist");
}

/// Accounts in which all of that was done. They are apart, since most of it is waiting.
fn used() -> Vec<Account> {
    let ways: [fn(&Account); 3] = [good_ways, failing_tasks, refused];
    std::thread::scope(|scope| {
        let all = ways.map(|way| {
            scope.spawn(move || {
                let account = Account::new();
                way(&account);
                account
            })
        });
        all.into_iter()
            .map(|one| one.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    })
}

fn told(calls: impl IntoIterator<Item = Call>) -> String {
    calls
        .into_iter()
        .map(|call| format!("\n  {} on {} {:?}", call.action, call.resource, call.context))
        .collect()
}

#[test]
fn imgforge_may_do_what_it_does_and_nothing_that_it_never_does() {
    let mut called = BTreeSet::new();
    let mut allowed = BTreeSet::new();
    for account in used() {
        let calls = account.calls();
        let policy = Policy::parse(account.stack.policy("ImgforgePolicy"));
        let denied = told(calls.iter().filter(|call| !policy.allows(call)).cloned());
        assert!(denied.is_empty(), "imgforge is not allowed to do what it does:{denied}");
        called.extend(calls.iter().map(|call| call.action.clone()));
        allowed = policy.actions();

        // Nothing is allowed on everything that could be allowed on less.
        assert_eq!(policy.unrestricted(), ON_EVERYTHING.map(String::from).into());

        // Another site's imgforge, in the same account, may do nothing of this: but for the actions that know no resource.
        let mut parameters = PARAMETERS;
        parameters[0].1 = "blog";
        parameters[1].1 = "blog-secrets";
        let other = Stack::create(&account.moto.url, "blog", &parameters);
        let other = Policy::parse(other.policy("ImgforgePolicy"));
        let open = |call: &Call| other.allows(call) && !ON_EVERYTHING[..3].contains(&call.action.as_str());
        let open = told(calls.into_iter().filter(open));
        assert!(open.is_empty(), "open to another site:{open}");
    }
    let never: Vec<&String> = allowed.difference(&called).collect();
    assert!(never.is_empty(), "allowed, and never called: {never:?}");
    assert!(allowed.iter().all(|action| !action.contains('*')), "{allowed:?}");
}
