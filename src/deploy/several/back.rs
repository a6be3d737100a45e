//! One service failed: those that were switched before it are taken back.

use super::state::Part;
use super::{Several, TakeBack};
use crate::deploy::Prepared;
use crate::error::{Error, Kind};
use crate::progress::Reporter;

impl<D: TakeBack> Several<D> {
    /// Takes back what was switched before service `failed` met `error`, and says what runs where.
    pub(super) async fn all_back(
        &self,
        parts: &[Part],
        failed: usize,
        error: Error,
        progress: &Reporter,
    ) -> Error {
        let name = &self.members[failed].name;
        let (before, after) = (&parts[..failed], &parts[failed + 1..]);
        if before.iter().any(|part| !part.unchanged) {
            progress.warning(format!("{name}: {error}: taking back what was switched before it"));
        }
        let mut told = Vec::new();
        let mut kinds = Vec::new();
        let mut helps: Vec<String> = Vec::new();
        // The last first: each is again beside what it ran beside.
        for (at, part) in before.iter().enumerate().rev().filter(|(_, part)| !part.unchanged) {
            let member = &self.members[at];
            let back = match part.seen.running() {
                Ok(running) => member.deployer.take_back(&part.prepared(), &running, progress).await,
                Err(error) => Err(error),
            };
            match back {
                Ok(()) => told.push(format!("{} is back on {}", member.name, part.seen.description)),
                Err(error) => {
                    told.push(error.to_string());
                    kinds.push(error.kind());
                    helps.extend(error.help_text().map(str::to_owned));
                }
            }
        }
        let never: Vec<(usize, Prepared)> = (after.iter().enumerate())
            .filter(|(_, part)| !part.unchanged)
            .map(|(at, part)| (failed + 1 + at, part.prepared()))
            .collect();
        told.extend(never.iter().map(|(at, _)| format!("{} was not switched", self.members[*at].name)));
        self.forget(never.iter().map(|(at, prepared)| (*at, prepared)), progress).await;

        let is_unknown = error.kind() == Kind::TimedOut || kinds.contains(&Kind::TimedOut);
        let was_switched = before.iter().any(|part| !part.unchanged);
        let kind = if is_unknown {
            Kind::TimedOut
        } else if kinds.is_empty() && error.kind() == Kind::RolledBack {
            Kind::RolledBack
        } else if kinds.is_empty() && was_switched && self.is_as_before(failed, &parts[failed]).await {
            // It never got so far as to be switched.
            told.push(format!("{name} was not switched"));
            Kind::RolledBack
        } else {
            Kind::Failed
        };
        if kind == Kind::RolledBack && error.kind() == Kind::RolledBack {
            helps.push("all services run as before: mend the cause, run this again".into());
        } else if let Some(help) = error.help_text() {
            helps.insert(0, help.to_owned());
        }
        let what = match error.kind() {
            Kind::TimedOut => format!("whether {name} runs the release is unknown"),
            _ => format!("{name} does not run the release"),
        };
        let what = match told.is_empty() {
            true => what,
            false => format!("{what}; {}", told.join("; ")),
        };
        let error = error.context(what).with_kind(kind);
        match helps.is_empty() {
            true => error,
            false => error.help(helps.join("; ")),
        }
    }

    async fn is_as_before(&self, at: usize, part: &Part) -> bool {
        let now = self.members[at].deployer.observe(&[], &[]).await;
        now.is_ok_and(|now| now.handle == part.seen.handle)
    }
}
