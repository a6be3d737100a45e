//! Follows containers until all are well or one is lost.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::containers::{Container, Containers, State};
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
    Well(Vec<Container>),
    /// One is lost.
    Lost(Box<Lost>),
    /// Time ran out; these are not well yet.
    TimedOut(Vec<Container>),
}

/// A container that will not become well.
#[derive(Debug)]
pub struct Lost {
    /// Which.
    pub container: Container,
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
    pub fn new(before: &[Container]) -> Self {
        let before =
            before.iter().map(|container| (container.id.clone(), container.restarts)).collect();
        Follower { before, seen: HashMap::new() }
    }

    /// Asks again and again.
    ///
    /// # Errors
    /// The daemon does not answer.
    pub async fn follow(
        mut self,
        containers: &Containers,
        project: &str,
        timeout: Duration,
        task: &Task,
    ) -> Result<End> {
        let start = Instant::now();
        loop {
            let now = containers.of_project(project).await?;
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

    fn look(&mut self, container: &Container) -> Look {
        let known = self.before.get(&container.id);
        let counts = matches!(container.state, State::Running | State::Unhealthy);
        let seen = self.seen.entry(container.id.clone()).or_default();
        *seen = if counts { *seen + 1 } else { 0 };
        if container.restarts > known.copied().unwrap_or_default() || container.state == State::Restarting {
            return Look::Lost("ends and is started again and again".into());
        }
        match &container.state {
            State::Healthy => Look::Well,
            State::Running if known.is_some() || *seen >= STEADY => Look::Well,
            State::Unhealthy if known.is_none() || *seen >= PATIENCE => {
                Look::Lost("is unhealthy".into())
            }
            State::Running | State::Starting | State::Unhealthy => Look::Wait,
            // A job of the compose file that has done its work.
            State::Exited(0) => Look::Well,
            State::Exited(code) => Look::Lost(format!("ended with code {code}")),
            State::Created(why) if why.is_empty() => Look::Wait,
            State::Created(why) => Look::Lost(format!("cannot be started: {why}")),
            State::Other(state) => Look::Lost(format!("is {state}")),
        }
    }
}

/// The services of some containers, each once.
pub fn names(containers: &[Container]) -> String {
    let mut names: Vec<_> = containers.iter().map(|container| container.service.as_str()).collect();
    names.dedup();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(id: &str, state: State, restarts: i64) -> Container {
        Container {
            id: id.into(),
            name: format!("shop_{id}_1"),
            service: id.into(),
            number: 1,
            image: String::new(),
            hash: String::new(),
            state,
            restarts,
            published: Vec::new(),
        }
    }

    fn looks(follower: &mut Follower, container: &Container, times: u32) -> Look {
        (1..times).for_each(|_| {
            follower.look(container);
        });
        follower.look(container)
    }

    #[test]
    fn a_new_container_is_judged_by_its_state() {
        let cases = [
            (State::Healthy, Look::Well),
            (State::Starting, Look::Wait),
            (State::Running, Look::Wait),
            (State::Exited(0), Look::Well),
            (State::Exited(3), Look::Lost("ended with code 3".into())),
            (State::Unhealthy, Look::Lost("is unhealthy".into())),
            (State::Restarting, Look::Lost("ends and is started again and again".into())),
            (State::Created(String::new()), Look::Wait),
            (State::Created("no such file".into()), Look::Lost("cannot be started: no such file".into())),
        ];
        for (state, want) in cases {
            let mut follower = Follower::new(&[]);
            assert_eq!(follower.look(&container("web", state.clone(), 0)), want, "{state:?}");
        }
    }

    #[test]
    fn without_a_health_check_it_must_keep_running() {
        let mut follower = Follower::new(&[]);
        let web = container("web", State::Running, 0);
        assert_eq!(looks(&mut follower, &web, STEADY - 1), Look::Wait);
        assert_eq!(follower.look(&web), Look::Well);
        let restarted = container("web", State::Running, 1);
        assert!(matches!(follower.look(&restarted), Look::Lost(_)));
    }

    #[test]
    fn an_old_container_may_be_unhealthy_while_the_new_one_starts() {
        let nginx = container("nginx", State::Unhealthy, 7);
        let mut follower = Follower::new(std::slice::from_ref(&nginx));
        assert_eq!(looks(&mut follower, &nginx, PATIENCE - 1), Look::Wait);
        assert_eq!(follower.look(&container("nginx", State::Healthy, 7)), Look::Well);
        assert_eq!(looks(&mut follower, &nginx, PATIENCE), Look::Lost("is unhealthy".into()));
    }
}
