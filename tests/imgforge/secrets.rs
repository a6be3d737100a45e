//! Secret stores, and reading secret files from them.

use imgforge::secret::Secret;

mod dir;
mod failures;
mod pinned;
mod s3;
mod stores;

fn secret(text: &str) -> Secret {
    Secret::new(text.into())
}
