//! One release at a time for each project folder and environment.

use std::fs::TryLockError;

use crate::config::Config;
use crate::error::{Error, Kind, Result};

/// Held while it lives; the system lets go of it when the process ends, also when it is killed.
pub struct Lock(#[allow(dead_code, reason = "held, not read")] std::fs::File);

impl Lock {
    /// Takes the lock.
    ///
    /// # Errors
    /// [`Kind::Locked`] when another run holds it.
    pub fn take(config: &Config) -> Result<Lock> {
        let dir = config.work_dir();
        fs_err::create_dir_all(&dir)?;
        // What is in it is nobody's source: with it a tree would look changed after its first release.
        let ignore = dir.join(".gitignore");
        if !ignore.exists() {
            fs_err::write(&ignore, "*\n")?;
        }
        let path = dir.join(format!("release-{}.lock", config.environment));
        let file = fs_err::File::create(&path)?.into_file();
        match file.try_lock() {
            Ok(()) => Ok(Lock(file)),
            Err(TryLockError::WouldBlock) => {
                let what = format!(
                    "another imgforge is at work on {} ({})",
                    config.project.get_ref(),
                    config.environment
                );
                Err(Error::new(Kind::Locked, what)
                    .help("wait until it has ended, then run the same command again"))
            }
            Err(TryLockError::Error(error)) => {
                Err(Error::failed(format!("cannot lock {}", path.display())).because(error))
            }
        }
    }
}
