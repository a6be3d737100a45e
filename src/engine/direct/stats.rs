//! Remembers the digests of files, so that an unchanged tree is not read again.
//!
//! The same idea as Git's index, and as careful about time: a file is taken as unchanged only when its size, inode and
//! both of its times are the same, and when those times are older than the moment before the tree was listed, by the
//! clock of the file system itself. A file that was written in that moment could be written again within it, with the
//! same size, and nothing would tell (Git, Documentation/technical/racy-git.txt).

use std::collections::BTreeMap;
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::digest::{Digest, Hashing};
use crate::engine::cache::LayerCache;
use crate::engine::direct::tree::Source;
use crate::error::Result;

/// The cache's folder for these.
const KIND: &str = "stats";

/// What the file system says of a file: size, inode, and its times in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Stat(u64, u64, i64, i64);

impl Stat {
    fn of(metadata: &Metadata) -> Self {
        let nanos = |seconds: i64, nanos: i64| seconds.saturating_mul(1_000_000_000).saturating_add(nanos);
        Stat(
            metadata.size(),
            metadata.ino(),
            nanos(metadata.mtime(), metadata.mtime_nsec()),
            nanos(metadata.ctime(), metadata.ctime_nsec()),
        )
    }

    fn is_older_than(&self, moment: i64) -> bool {
        self.2 < moment && self.3 < moment
    }
}

/// What is kept for one context.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Kept {
    /// The moment before the tree was listed.
    moment: i64,
    files: BTreeMap<String, (Stat, Digest)>,
}

/// The digests of a context's files.
#[derive(Debug)]
pub(super) struct Stats {
    cache: LayerCache,
    name: String,
    before: Kept,
    now: Kept,
    /// How many files were read, and not only looked at.
    pub(super) read: usize,
}

impl Stats {
    /// Begins a look at the tree at `root`, before it is listed.
    ///
    /// # Errors
    /// The cache cannot be written to.
    pub(super) fn begin(cache: &LayerCache, root: &Path, image: &str) -> Result<Self> {
        // One for each image: what one of them does not copy, another may.
        let tree = [root.as_os_str().as_encoded_bytes(), b"\0", image.as_bytes()].concat();
        let name = Digest::of(&tree).hex();
        let before = cache.document(KIND, &name).unwrap_or_default();
        let clock = Stat::of(&cache.scratch()?.metadata()?);
        let now = Kept { moment: clock.2, files: BTreeMap::new() };
        Ok(Stats { cache: cache.clone(), name, before, now, read: 0 })
    }

    /// The file with its digest, read only when it may have changed. `name` is its path below the root.
    ///
    /// # Errors
    /// It cannot be read, or changes meanwhile.
    pub(super) fn source(&mut self, name: &str, path: &Path, metadata: &Metadata) -> Result<Source> {
        let stat = Stat::of(metadata);
        let known = self.before.files.get(name);
        let known = known.filter(|(was, _)| *was == stat && was.is_older_than(self.before.moment));
        let mut source = Source {
            path: path.to_owned(),
            size: metadata.len(),
            inode: metadata.ino(),
            digest: Digest::of(b""),
        };
        source.digest = match known {
            Some((_, digest)) => *digest,
            None => {
                self.read += 1;
                source.read_digest()?
            }
        };
        self.now.files.insert(name.to_owned(), (stat, source.digest));
        Ok(source)
    }

    /// Keeps what was seen.
    pub(super) fn keep(self) -> Result<()> {
        if self.read == 0 && self.now.files.len() == self.before.files.len() {
            return Ok(());
        }
        self.cache.put_document(KIND, &self.name, &self.now)
    }
}

impl Source {
    fn read_digest(&self) -> Result<Digest> {
        let mut file = Hashing::new(self.open()?);
        io::copy(&mut file, &mut io::sink()).map_err(|error| self.unreadable(error))?;
        let (_, digest, size) = file.finish();
        if size != self.size { Err(self.changed()) } else { Ok(digest) }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;

    struct Tree {
        _dir: tempfile::TempDir,
        cache: LayerCache,
        file: std::path::PathBuf,
    }

    fn tree() -> Tree {
        let dir = tempfile::tempdir().unwrap();
        let (cache, file) = (LayerCache::new(dir.path().join("layers")), dir.path().join("views.py"));
        Tree { _dir: dir, cache, file }
    }

    impl Tree {
        /// The file's digest, and whether it was read for that.
        fn look(&self) -> (Digest, bool) {
            let mut stats = Stats::begin(&self.cache, Path::new("/site"), "web").unwrap();
            let metadata = std::fs::symlink_metadata(&self.file).unwrap();
            let source = stats.source("views.py", &self.file, &metadata).unwrap();
            let read = stats.read > 0;
            stats.keep().unwrap();
            (source.digest, read)
        }

        /// Looks until the clock of the file system has gone on since the file was written.
        fn look_until_known(&self) {
            while self.look().1 {}
        }
    }

    #[test]
    fn a_file_that_was_not_touched_is_not_read_again() {
        let tree = tree();
        std::fs::write(&tree.file, "one").unwrap();
        assert_eq!(tree.look(), (Digest::of(b"one"), true));
        tree.look_until_known();
        assert_eq!(tree.look(), (Digest::of(b"one"), false));
    }

    #[test]
    fn a_file_that_was_written_again_at_once_is_read_again() {
        let tree = tree();
        for text in ["one", "two", "six", "ten"] {
            std::fs::write(&tree.file, text).unwrap();
            assert_eq!(tree.look().0, Digest::of(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn a_file_that_was_given_its_old_time_back_is_read_again() {
        let tree = tree();
        let old = SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
        let write = |text: &str| {
            std::fs::write(&tree.file, text).unwrap();
            std::fs::File::options().write(true).open(&tree.file).unwrap().set_modified(old).unwrap();
        };
        write("one");
        tree.look_until_known();
        write("two");
        assert_eq!(tree.look(), (Digest::of(b"two"), true));
    }

    #[test]
    fn another_file_in_its_place_is_read() {
        let tree = tree();
        std::fs::write(&tree.file, "one").unwrap();
        tree.look_until_known();
        let other = tree.file.with_extension("new");
        std::fs::write(&other, "two").unwrap();
        std::fs::rename(&other, &tree.file).unwrap();
        assert_eq!(tree.look().0, Digest::of(b"two"));
    }
}
