//! Keeps the cache within its bound: what was not used for longest goes first.
//!
//! Invariant: what another run may be reading stays. Each use marks a blob with the time, and one that was used in the last
//! hour is not taken away, whatever the bound says. A blob that is gone is made again: nothing else refers to it for good.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use super::{COMPILED, LayerCache, MANIFESTS, sweep};

/// Manifests are small, and made anew by two requests: those that were kept this long ago go, used or not.
const OLD: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// What was used more recently stays.
const IN_USE: Duration = Duration::from_secs(60 * 60);

impl LayerCache {
    /// Marks a blob as used now. Where that cannot be written, the cache only knows less of what is used.
    pub(super) fn mark(blob: &std::path::Path) {
        let marked = std::fs::File::options().append(true).open(blob);
        let _ = marked.and_then(|file| file.set_modified(SystemTime::now()));
    }

    /// Takes blobs away until at most `limit` bytes are left; how many bytes went. What cannot be removed stays.
    pub fn prune(&self, limit: u64) -> u64 {
        self.forget_manifests(OLD);
        self.prune_unused(limit, IN_USE)
    }

    fn forget_manifests(&self, old: Duration) {
        sweep(&self.folder.join(MANIFESTS), old);
    }

    fn prune_unused(&self, limit: u64, in_use: Duration) -> u64 {
        let now = SystemTime::now();
        let folders = [self.blobs(), self.folder.join(COMPILED)].map(std::fs::read_dir);
        let mut blobs: Vec<(SystemTime, u64, PathBuf)> = folders
            .into_iter()
            .flatten()
            .flatten()
            .flatten()
            // Unfinished ones have another name, and are swept by who writes here.
            .filter(|entry| !entry.file_name().to_string_lossy().starts_with('.'))
            .filter_map(|entry| {
                let metadata = entry.metadata().ok()?;
                Some((metadata.modified().ok()?, metadata.len(), entry.path()))
            })
            .collect();
        blobs.sort();
        let mut left: u64 = blobs.iter().map(|(_, size, _)| size).sum();
        let before = left;
        for (used, size, path) in blobs {
            let is_in_use = now.duration_since(used).is_ok_and(|age| age < in_use) || used > now;
            if left <= limit || is_in_use {
                break;
            }
            if std::fs::remove_file(&path).is_ok() {
                tracing::debug!(path = %path.display(), size, "removed from the cache");
                left -= size;
            }
        }
        before - left
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Layer;

    fn blob_of(cache: &LayerCache, layer: &Layer) -> PathBuf {
        cache.path("blobs", &layer.descriptor.digest.hex())
    }

    #[test]
    fn what_was_used_least_recently_goes_and_what_is_in_use_stays() {
        let dir = tempfile::tempdir().unwrap();
        let cache = LayerCache::new(dir.path().join("layers"));
        let layers: Vec<Layer> =
            [b"one", b"two", b"six"].map(|tar| cache.put(&tar[..]).unwrap()).into_iter().collect();
        let size = layers[0].descriptor.size;
        assert_eq!(cache.prune(0), 0, "all of it was made just now");
        let long_ago = SystemTime::now() - Duration::from_secs(86_400);
        for layer in &layers {
            let file = std::fs::File::options().append(true).open(blob_of(&cache, layer)).unwrap();
            file.set_modified(long_ago).unwrap();
        }
        // Asked for, hence used.
        assert!(cache.layer(layers[0].diff_id).is_some());
        assert_eq!(cache.prune(size), 2 * size);
        assert!(cache.layer(layers[0].diff_id).is_some());
        assert!(cache.layer(layers[1].diff_id).is_none(), "it is gone, and known to be");
        assert_eq!(cache.put(&b"two"[..]).unwrap().descriptor, layers[1].descriptor, "and made again");
    }

    #[test]
    fn a_cache_within_its_bound_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let cache = LayerCache::new(dir.path().join("layers"));
        assert_eq!(cache.prune(0), 0, "there is none yet");
        let layer = cache.put(&b"one"[..]).unwrap();
        assert_eq!(cache.prune_unused(layer.descriptor.size, Duration::ZERO), 0);
        assert_eq!(cache.prune_unused(layer.descriptor.size - 1, Duration::ZERO), layer.descriptor.size);
    }

    #[test]
    fn manifests_that_are_old_are_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let cache = LayerCache::new(dir.path().to_owned());
        cache.put_document("manifests", "new", &"kept").unwrap();
        cache.prune(0);
        assert_eq!(cache.document::<String>("manifests", "new").as_deref(), Some("kept"));
        cache.forget_manifests(Duration::ZERO);
        assert_eq!(cache.document::<String>("manifests", "new"), None);
    }
}
