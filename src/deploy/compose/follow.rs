//! Follows containers until all are well or one is lost.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::engine::daemon::Daemon;
use crate::engine::daemon::containers::{ContainerState, Health};
use crate::error::Result;
use crate::progress::Task;

/// How often the daemon is asked.
const INTERVAL: Duration = Duration::from_millis(500);
/// How many times in a row a container without a health check must be seen running.
const STEADY: u32 = 4;
/// How many times in a row a container that was there before may be seen unhealthy: what it depends on is new.
const PATIENCE: u32 = 60;

/// How it ended.
#[derive(Debug)]
pub enum End {
    /// Every container is well.
    Well(Vec<ContainerState>),
    /// One is lost.
    Lost(Box<Lost>),
    /// Time ran out; these are not well yet.
    TimedOut(Vec<ContainerState>),
}

/// A container that will not become well.
#[derive(Debug)]
pub struct Lost {
    /// Which.
    pub container: ContainerState,
    /// What about it, in words that follow its service's name.
    pub why: String,
}

/// Follows one switch.
pub struct Follower {
    /// Restarts of the containers that were there before the switch, by id.
    before: HashMap<String, i64>,
    /// How often in a row each was seen running (without a health check) or unhealthy.
    seen: HashMap<String, u32>,
}

/// What one look says.
#[derive(Debug, PartialEq, Eq)]
enum Look {
    Well,
    Wait,
    Lost(String),
}

impl Follower {
    /// `before` are the containers before the switch.
    pub fn new(before: &[ContainerState]) -> Self {
        let before = before.iter().map(|container| (container.id.clone(), container.restarts)).collect();
        Follower { before, seen: HashMap::new() }
    }

    /// Asks again and again.
    ///
    /// # Errors
    /// The daemon does not answer.
    pub async fn follow(
        mut self,
        daemon: &Daemon,
        project: &str,
        timeout: Duration,
        task: &Task,
    ) -> Result<End> {
        let start = Instant::now();
        loop {
            let now = daemon.containers_of_project(project).await?;
            let mut waiting = Vec::new();
            for container in &now {
                match self.look(container) {
                    Look::Well => {}
                    Look::Wait => waiting.push(container.clone()),
                    Look::Lost(why) => {
                        return Ok(End::Lost(Box::new(Lost { container: container.clone(), why })));
                    }
                }
            }
            if waiting.is_empty() {
                return Ok(End::Well(now));
            }
            if start.elapsed() >= timeout {
                return Ok(End::TimedOut(waiting));
            }
            task.detail(format!("waiting for {}", names(&waiting)));
            tokio::time::sleep(INTERVAL).await;
        }
    }

    fn look(&mut self, container: &ContainerState) -> Look {
        let known = self.before.get(&container.id).copied();
        let state = container.state.as_str();
        let running = state == "running";
        let seen = self.seen.entry(container.id.clone()).or_default();
        *seen = match container.health {
            Health::None | Health::Unhealthy if running => *seen + 1,
            _ => 0,
        };
        if state == "restarting" || container.restarts > known.unwrap_or_default() {
            return Look::Lost("ends and is started again and again".into());
        }
        match (state, container.health) {
            ("running", Health::Healthy) => Look::Well,
            ("running", Health::None) if known.is_some() || *seen >= STEADY => Look::Well,
            ("running", Health::Unhealthy) if known.is_none() || *seen >= PATIENCE => {
                Look::Lost("is unhealthy".into())
            }
            ("running", _) => Look::Wait,
            // A job of the compose file that has done its work.
            ("exited", _) if container.exit_code == 0 => Look::Well,
            ("exited", _) => Look::Lost(format!("ended with code {}", container.exit_code)),
            ("created", _) if container.problem.is_empty() => Look::Wait,
            ("created", _) => Look::Lost(format!("cannot be started: {}", container.problem)),
            (other, _) => Look::Lost(format!("is {other}")),
        }
    }
}

/// The services of some containers, each once.
pub fn names(containers: &[ContainerState]) -> String {
    let mut names: Vec<_> = containers.iter().map(|container| container.service.as_str()).collect();
    names.dedup();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(state: &str, health: Health, exit_code: i64) -> ContainerState {
        ContainerState {
            id: "1".into(),
            name: "shop_web_1".into(),
            service: "web".into(),
            state: state.into(),
            health,
            exit_code,
            restarts: 0,
            image: None,
            problem: String::new(),
            config_hash: String::new(),
            published: Vec::new(),
        }
    }

    fn looks(follower: &mut Follower, container: &ContainerState, times: u32) -> Look {
        (1..times).for_each(|_| {
            follower.look(container);
        });
        follower.look(container)
    }

    #[test]
    fn a_new_container_is_judged_by_its_state() {
        let lost = |why: &str| Look::Lost(why.into());
        let cases = [
            (container("running", Health::Healthy, 0), Look::Well),
            (container("running", Health::Starting, 0), Look::Wait),
            (container("running", Health::None, 0), Look::Wait),
            (container("running", Health::Unhealthy, 0), lost("is unhealthy")),
            (container("exited", Health::None, 0), Look::Well),
            (container("exited", Health::None, 3), lost("ended with code 3")),
            (container("restarting", Health::None, 1), lost("ends and is started again and again")),
            (container("created", Health::None, 0), Look::Wait),
            (
                ContainerState { problem: "no such file".into(), ..container("created", Health::None, 127) },
                lost("cannot be started: no such file"),
            ),
            (container("paused", Health::None, 0), lost("is paused")),
        ];
        for (container, want) in cases {
            assert_eq!(Follower::new(&[]).look(&container), want, "{container:?}");
        }
    }

    #[test]
    fn without_a_health_check_it_must_keep_running() {
        let mut follower = Follower::new(&[]);
        let web = container("running", Health::None, 0);
        assert_eq!(looks(&mut follower, &web, STEADY - 1), Look::Wait);
        assert_eq!(follower.look(&web), Look::Well);
        let again = ContainerState { restarts: 1, ..web };
        assert!(matches!(follower.look(&again), Look::Lost(_)));
    }

    #[test]
    fn an_old_container_may_be_unhealthy_while_what_it_needs_is_new() {
        let nginx = ContainerState { restarts: 7, ..container("running", Health::Unhealthy, 0) };
        let mut follower = Follower::new(std::slice::from_ref(&nginx));
        assert_eq!(looks(&mut follower, &nginx, PATIENCE - 1), Look::Wait);
        let well = ContainerState { health: Health::Healthy, ..nginx.clone() };
        assert_eq!(follower.look(&well), Look::Well);
        assert_eq!(looks(&mut follower, &nginx, PATIENCE), Look::Lost("is unhealthy".into()));
    }
}
