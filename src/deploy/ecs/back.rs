//! The way back: a second deployment, on purpose, to what ran before.

use super::EcsDeployer;
use super::follow::{End, Followed};
use crate::deploy::taskdef::short_name;
use crate::error::{Error, Kind, Result};
use crate::progress::{Reporter, Task as Work};

/// Why a service is not back, and what that is for the exit code.
struct Stays(Kind, String);

impl EcsDeployer {
    /// The way back from a deployment that `failed`, where ECS does not take it by itself.
    pub(super) async fn go_back(&self, failed: Error, good: &str, task: &Work, progress: &Reporter) -> Error {
        let name = short_name(good);
        progress.warning(format!("{failed}: going back to revision {name}"));
        match self.put_back(good, good, task, progress).await {
            Ok(()) => {
                Error::new(Kind::RolledBack, format!("{failed}; the service is back on revision {name}"))
                    .help("the service runs as before: mend the cause, run this again")
                    .because(failed)
            }
            Err(Stays(kind, why)) => {
                Error::new(kind, format!("{failed}, and {why} on the way back to revision {name}"))
                    .help(self.by_hand(good))
                    .because(failed)
            }
        }
    }

    /// The way back from a deployment that went well, of a release that went wrong elsewhere.
    pub(super) async fn back_from(&self, revision: &str, good: &str, progress: &Reporter) -> Result<()> {
        let (from, name) = (short_name(revision), short_name(good));
        let task = progress.task(self.name(), format!("back to revision {name}"));
        let stays = |kind: Kind, why: String| {
            let what = format!("service {} is not back on revision {name}: {why}", self.name());
            Error::new(kind, what).help(self.by_hand(good))
        };
        let service = self.find_service().await.map_err(|error| {
            stays(Kind::Failed, format!("it is at revision {from}, and cannot be looked at")).because(error)
        })?;
        match service.primary() {
            Some(primary) if primary.task_definition == revision => {}
            // What somebody else deployed since is theirs.
            primary => {
                let at = primary.map_or("none", |primary| short_name(&primary.task_definition));
                return Err(stays(Kind::Failed, format!("it went from {from} to {at} meanwhile")));
            }
        }
        match self.put_back(good, revision, &task, progress).await {
            Ok(()) => {
                task.done(format!("revision {name} runs"));
                Ok(())
            }
            Err(Stays(kind, why)) => Err(stays(kind, why)),
        }
    }

    /// Points the service at `good` and follows that. Where ECS takes this back in turn, it goes `from` there.
    async fn put_back(&self, good: &str, from: &str, task: &Work, progress: &Reporter) -> Result<(), Stays> {
        let (service, deployment) = match self.update_service(good).await {
            Ok(begun) => begun,
            Err(error) => {
                progress.warning(format!("cannot go back: {error}"));
                return Err(Stays(error.kind(), format!("UpdateService failed ({error})")));
            }
        };
        let mut followed = Followed::new(&service, deployment, from);
        match self.follow(&mut followed, task, progress).await {
            Ok(End::Good) => Ok(()),
            Ok(End::TimedOut) => Err(Stays(Kind::TimedOut, "time ran out".into())),
            Ok(end) => Err(Stays(Kind::Failed, format!("it failed again ({end:?})"))),
            Err(error) => Err(Stays(error.kind(), error.to_string())),
        }
    }
}
