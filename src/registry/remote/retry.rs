//! What is tried again, how often, and after how long.

use std::time::Duration;

use http::header::RETRY_AFTER;
use http::{HeaderMap, StatusCode};

/// How often one piece of work lets others go first.
const IN_LINE: u32 = 30;

/// How often something is tried and how long it is waited in between.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetryPolicy {
    /// How often in all, the first time included.
    pub attempts: u32,
    /// The wait after the first failure, before jitter; it doubles with each further one.
    pub first_wait: Duration,
    /// No wait is longer. A server that asks for more is not waited for.
    pub longest_wait: Duration,
    /// How long nothing may come, or go, on a connection before it counts as lost.
    pub patience: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        RetryPolicy {
            attempts: 5,
            first_wait: Duration::from_millis(300),
            longest_wait: Duration::from_secs(60),
            // A registry that keeps blobs in object storage answers the last PUT of a large layer only when it was copied there.
            patience: Duration::from_secs(180),
        }
    }
}

impl RetryPolicy {
    /// How long to wait after so many failures; `None` when it is not worth another try. `asked` is what the server's
    /// `Retry-After` says.
    pub fn wait(&self, failures: u32, asked: Option<Duration>) -> Option<Duration> {
        if failures >= self.attempts {
            return None;
        }
        let doubled = self.first_wait.saturating_mul(1 << failures.saturating_sub(1).min(16));
        let own = jittered(doubled.min(self.longest_wait));
        match asked {
            Some(asked) if asked > self.longest_wait => None,
            // Jitter only adds here: nobody comes back too early.
            Some(asked) => Some(asked + jittered(self.first_wait)),
            None => Some(own),
        }
    }
}

/// Counts the failures of one piece of work and waits between its tries.
pub(in crate::registry) struct Tries<'p> {
    policy: &'p RetryPolicy,
    failures: u32,
    in_line: u32,
}

impl<'p> Tries<'p> {
    /// None yet.
    pub fn new(policy: &'p RetryPolicy) -> Self {
        Tries { policy, failures: 0, in_line: 0 }
    }

    /// Counts one failure and waits. False when it is not worth another try.
    pub async fn again(&mut self, asked: Option<Duration>) -> bool {
        self.failures += 1;
        let Some(wait) = self.policy.wait(self.failures, asked) else { return false };
        tracing::debug!(failures = self.failures, ?wait, "trying again");
        tokio::time::sleep(wait).await;
        true
    }

    /// Forgets the failures: the host limits requests and serves others, so that this one's turn comes. Not without end: those
    /// that are served may be other kinds of requests.
    pub fn stands_in_line(&mut self) {
        if self.in_line < IN_LINE {
            (self.failures, self.in_line) = (0, self.in_line + 1);
        }
    }

    /// Forgets the failures: something got through since.
    pub fn progressed(&mut self) {
        self.failures = 0;
    }
}

/// Whether the same request may get through later: everything but a request that cannot be made, and a certificate
/// that will not become a better one.
pub(in crate::registry) fn may_get_through(error: &reqwest::Error) -> bool {
    !error.is_builder() && !is_about_certificate(error)
}

/// Whether the other side's certificate was not taken. The TLS library's type is several layers down; its words are not.
pub(in crate::registry) fn is_about_certificate(error: &reqwest::Error) -> bool {
    error.is_connect() && words(error).contains("certificate")
}

/// The error and its causes in one line.
fn words(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

/// Between half and the whole of it, so that clients which failed together do not come back together.
fn jittered(wait: Duration) -> Duration {
    let random = getrandom::u32().unwrap_or(u32::MAX);
    wait.mul_f64(0.5 + 0.5 * f64::from(random) / f64::from(u32::MAX))
}

/// Whether the same request may succeed later.
pub(in crate::registry) fn is_passing(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 429 | 500 | 502 | 503 | 504)
}

/// `Retry-After` in seconds. Its other form, a date, would need the server's clock: the own back-off is used then.
pub(in crate::registry) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_bound_and_then_end() {
        let policy = RetryPolicy {
            attempts: 6,
            first_wait: Duration::from_millis(100),
            longest_wait: Duration::from_millis(450),
            ..RetryPolicy::default()
        };
        for (failures, most) in [(1, 100), (2, 200), (3, 400), (4, 450), (5, 450)] {
            let wait = policy.wait(failures, None).unwrap();
            let most = Duration::from_millis(most);
            assert!(wait >= most / 2 && wait <= most, "{failures}: {wait:?}");
        }
        assert_eq!(policy.wait(6, None), None);
    }

    #[test]
    fn a_server_is_given_the_time_that_it_asks_for_within_reason() {
        let policy = RetryPolicy::default();
        assert!(policy.wait(1, Some(Duration::from_secs(7))).unwrap() >= Duration::from_secs(7));
        assert_eq!(policy.wait(1, Some(Duration::from_secs(600))), None);
    }
}
