//! A file on its way to its name.
//!
//! Invariant: under its name a file is whole. A run that is killed leaves only files under other names, and the next one
//! that writes to the same folder takes them away.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Duration;

use tempfile::NamedTempFile;

use crate::error::Result;

/// How they are called until then.
const PREFIX: &str = ".partial-";
/// Between its making and its lock a file is nobody's: it is left alone for that long.
const YOUNG: Duration = Duration::from_secs(60);

/// A file that is being written. Removed when dropped, unless it got its name.
#[derive(Debug)]
pub struct Partial(NamedTempFile);

impl Partial {
    /// A new one in `folder`, where its name will be, too.
    ///
    /// # Errors
    /// Those of making it.
    pub fn new(folder: &Path) -> Result<Self> {
        static SWEPT: LazyLock<Mutex<HashSet<PathBuf>>> = LazyLock::new(Mutex::default);
        if SWEPT.lock().unwrap_or_else(PoisonError::into_inner).insert(folder.to_owned()) {
            sweep(folder, YOUNG);
        }
        let file = tempfile::Builder::new().prefix(PREFIX).tempfile_in(folder)?;
        // Says that it is being written. A file system without locks only means that it may be swept after a minute.
        let _ = file.as_file().try_lock();
        Ok(Partial(file))
    }

    /// To write to.
    pub fn file(&mut self) -> &mut File {
        self.0.as_file_mut()
    }

    /// Gives it its name; what had it before is replaced.
    ///
    /// # Errors
    /// Those of renaming.
    pub fn persist(self, path: &Path) -> Result<()> {
        self.0.persist(path).map_err(|error| error.error)?;
        Ok(())
    }
}

/// Removes what killed runs have left: files that nobody holds. What cannot be removed does no harm.
fn sweep(folder: &Path, young: Duration) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        if !entry.file_name().to_string_lossy().starts_with(PREFIX) {
            continue;
        }
        if is_left(&entry.path(), young).unwrap_or(false) {
            tracing::debug!(path = %entry.path().display(), "removing what a killed run left");
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

fn is_left(path: &Path, young: Duration) -> io::Result<bool> {
    let file = File::open(path)?;
    let age = file.metadata()?.modified()?.elapsed().unwrap_or_default();
    Ok(age >= young && file.try_lock().is_ok())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(folder).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    #[test]
    fn under_its_name_a_file_is_whole_and_a_dropped_one_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let mut partial = Partial::new(folder.path()).unwrap();
        partial.file().write_all(b"all of it").unwrap();
        assert!(names(folder.path())[0].starts_with(PREFIX));
        partial.persist(&folder.path().join("blob")).unwrap();
        drop(Partial::new(folder.path()).unwrap());
        assert_eq!(names(folder.path()), ["blob"]);
        assert_eq!(std::fs::read(folder.path().join("blob")).unwrap(), b"all of it");
    }

    #[test]
    fn what_a_killed_run_left_is_swept_and_what_is_being_written_is_not() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(".partial-left"), b"half").unwrap();
        std::fs::write(folder.path().join("blob"), b"whole").unwrap();
        let written = Partial::new(folder.path()).unwrap();
        let held = written.0.path().file_name().unwrap().to_string_lossy().into_owned();
        assert_eq!(names(folder.path()).len(), 3, "it is young");
        sweep(folder.path(), Duration::ZERO);
        assert_eq!(names(folder.path()), [held, "blob".to_owned()]);
    }
}
