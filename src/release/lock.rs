//! One release at a time for each project folder and environment.

use std::fs::{File, TryLockError};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::config::Config;
use crate::error::{Error, Kind, Result};

/// What keeps the folder out of version control: with it a tree would look changed after its first release.
const IGNORE: &str = ".gitignore";

/// Held from before a run looks until it ends, so that what it saw is what it changes. The system lets go of it when the
/// process ends, also when it is killed.
#[derive(Debug)]
pub struct Lock {
    _held: File,
    path: PathBuf,
}

impl Lock {
    /// Takes the lock.
    ///
    /// # Errors
    /// [`Kind::Locked`] when another run holds it.
    pub fn take(config: &Config) -> Result<Lock> {
        let dir = config.work_dir();
        let path = dir.join(format!("release-{}.lock", config.environment));
        loop {
            fs_err::create_dir_all(&dir)?;
            let ignore = dir.join(IGNORE);
            if !ignore.exists() {
                fs_err::write(&ignore, "*\n")?;
            }
            let file = fs_err::File::create(&path)?.into_file();
            match file.try_lock() {
                // A run that ended in between may have taken the file away: then this lock keeps nobody out.
                Ok(()) if is_at(&file, &path) => return Ok(Lock { _held: file, path }),
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    let project = config.project.get_ref();
                    let what = format!("another imgforge is at work on {project} ({})", config.environment);
                    return Err(Error::new(Kind::Locked, what)
                        .help("wait until it has ended, then run the same command again"));
                }
                Err(TryLockError::Error(error)) => {
                    return Err(Error::failed(format!("cannot lock {}", path.display())).because(error));
                }
            }
        }
    }
}

fn is_at(file: &File, path: &Path) -> bool {
    let id = |metadata: std::fs::Metadata| (metadata.dev(), metadata.ino());
    match (file.metadata(), std::fs::metadata(path)) {
        (Ok(held), Ok(there)) => id(held) == id(there),
        _ => false,
    }
}

impl Drop for Lock {
    /// A run that was refused leaves nothing behind: the folder goes when there is nothing else in it.
    fn drop(&mut self) {
        let Some(dir) = self.path.parent() else { return };
        let ours = |name: &std::ffi::OsStr| name == IGNORE || Some(name) == self.path.file_name();
        let Ok(entries) = std::fs::read_dir(dir) else { return };
        if entries.flatten().all(|entry| ours(&entry.file_name())) {
            // Whatever cannot be removed does no harm.
            let _ = std::fs::remove_file(&self.path);
            let _ = std::fs::remove_file(dir.join(IGNORE));
            let _ = std::fs::remove_dir(dir);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(root: &Path) -> Config {
        Config::parse(root.to_owned(), "project = \"shop\"\n", None, &|_| None).unwrap()
    }

    #[test]
    fn a_second_run_is_locked_out_and_a_later_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let config = config(folder.path());
        let first = Lock::take(&config).unwrap();
        assert_eq!(Lock::take(&config).unwrap_err().kind(), Kind::Locked);
        drop(first);
        Lock::take(&config).unwrap();
    }

    #[test]
    fn the_folder_goes_when_nothing_was_put_into_it_and_stays_otherwise() {
        let folder = tempfile::tempdir().unwrap();
        let config = config(folder.path());
        drop(Lock::take(&config).unwrap());
        assert!(!config.work_dir().exists());
        let lock = Lock::take(&config).unwrap();
        std::fs::create_dir(config.work_dir().join("layers")).unwrap();
        drop(lock);
        assert!(config.work_dir().join("layers").exists());
    }

    #[test]
    fn a_lock_on_a_file_that_was_taken_away_is_taken_again() {
        let folder = tempfile::tempdir().unwrap();
        let config = config(folder.path());
        let lock = Lock::take(&config).unwrap();
        std::fs::remove_file(&lock.path).unwrap();
        assert!(!is_at(&lock._held, &lock.path));
        Lock::take(&config).unwrap();
    }
}
