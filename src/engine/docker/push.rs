//! Lets the daemon send an image to a registry by itself.

use std::collections::HashMap;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use crate::engine::daemon::{Daemon, registry};
use crate::engine::{Built, Login};
use crate::error::Result;
use crate::image::reference::{Repository, Tag};
use crate::progress::{Reporter, Task};

/// Sends `built` to `repository:tag`. The name that this takes on the daemon is removed afterwards.
///
/// # Errors
/// What the daemon or the registry says: a login that is refused, a tag that cannot be moved, a registry that is not there.
pub(super) async fn push(
    daemon: &Daemon,
    built: &Built,
    repository: &Repository,
    tag: &Tag,
    login: Option<&Login>,
    progress: &Reporter,
) -> Result<()> {
    let (name, doing) = (repository.to_string(), format!("push {} to {repository}", built.image));
    daemon.tag(&built.id.to_string(), &name, tag.as_str()).await?;
    let task = progress.task(&built.image, "send without secrets");
    let escaped = utf8_percent_encode(tag.as_str(), NON_ALPHANUMERIC);
    let request = registry::request(&format!("/images/{name}/push?tag={escaped}"), login, &repository.host);
    let mut layers = Layers { subject: &built.image, progress, running: HashMap::new() };
    let sent = daemon.transfer(&doing, &repository.host, request, |line| layers.told(line)).await;
    // A name that stays does no harm to what was sent.
    if let Err(error) = daemon.untag(&format!("{name}:{tag}")).await {
        tracing::debug!("{name}:{tag} stays on the daemon: {error:?}");
    }
    sent?;
    task.done(tag.to_string());
    Ok(())
}

/// The bars of the layers that are on their way.
struct Layers<'a> {
    subject: &'a str,
    progress: &'a Reporter,
    running: HashMap<String, (Task, u64)>,
}

impl Layers<'_> {
    fn told(&mut self, line: registry::Line) {
        let (Some(id), Some(status)) = (line.id, line.status) else { return };
        let what = || format!("push layer {id}");
        let detail = line.progress_detail.unwrap_or_default();
        match (status.as_str(), detail.current, detail.total) {
            ("Pushing", Some(current), total) => {
                let (task, before) = self.running.entry(id.clone()).or_insert_with(|| {
                    (self.progress.transfer(self.subject, what(), total.unwrap_or(current)), 0)
                });
                task.advance(current.saturating_sub(*before));
                *before = current.max(*before);
            }
            ("Pushed", ..) => match self.running.remove(&id) {
                Some((task, _)) => task.done(""),
                None => self.progress.task(self.subject, what()).done(""),
            },
            ("Layer already exists", ..) => self.progress.task(self.subject, what()).reused(""),
            (mounted, ..) if mounted.starts_with("Mounted from") => {
                self.progress.task(self.subject, what()).reused(mounted);
            }
            _ => {}
        }
    }
}
