//! Random bytes of the system.

use crate::error::{Error, Result};

/// Fills `bytes`.
///
/// # Errors
/// The system gives none.
pub fn fill(bytes: &mut [u8]) -> Result<()> {
    getrandom::fill(bytes)
        .map_err(|error| Error::failed("the system gives no random bytes").because(error.to_string()))
}
