//! How many requests are on their way to one host at once: fewer when it says that they are too many.
//!
//! Additive increase, multiplicative decrease, as TCP shares a line (RFC 5681, section 3.1). The limit begins where no small
//! piece of work meets it, so that a registry which limits nobody costs nothing. When a host answers 429, or 503 with a
//! time (RFC 9110, section 10.2.3), the limit halves and the whole host waits, not just the request that heard it.
//!
//! A place is held until the head of an answer is there, and never while a token is fetched or a body is read: whoever has
//! one waits for nobody, so that no two can wait for each other.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use reqwest::Response;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;
use url::{Position, Url};

use super::retry::{RetryPolicy, Tries, retry_after};
use crate::progress::Reporter;

/// More at once than this gains nothing, since each has a connection of its own.
const MOST: usize = 32;

/// The gate of each host. A clone shares them.
#[derive(Clone, Default)]
pub(super) struct Gates {
    hosts: Arc<Mutex<HashMap<String, Arc<Gate>>>>,
    listener: Arc<Listener>,
}

/// Who is told that a host wants less.
type Listener = Mutex<Option<Reporter>>;

impl Gates {
    /// The gate before a URL's host.
    pub fn of(&self, url: &Url) -> Arc<Gate> {
        let host = &url[Position::BeforeHost..Position::AfterPort];
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        match hosts.get(host) {
            Some(gate) => Arc::clone(gate),
            None => {
                let gate = Arc::new(Gate::new(host, Arc::clone(&self.listener)));
                hosts.insert(host.to_owned(), Arc::clone(&gate));
                gate
            }
        }
    }

    /// From now on `progress` is told when a host wants less.
    pub fn tell(&self, progress: &Reporter) {
        *self.listener.lock().unwrap_or_else(PoisonError::into_inner) = Some(progress.clone());
    }
}

/// Lets requests to one host through, first come, first served.
pub(super) struct Gate {
    host: String,
    window: Mutex<Window>,
    /// As many as the limit, less what [`Window::owed`] has yet to take away.
    places: Semaphore,
    listener: Arc<Listener>,
}

/// One request's place. Dropped, it is the next one's.
struct Place<'g> {
    gate: &'g Gate,
    permit: Option<SemaphorePermit<'g>>,
    cut: u64,
    /// How many requests the host had served when this one came.
    served: u64,
}

impl Gate {
    fn new(host: &str, listener: Arc<Listener>) -> Self {
        let window = Mutex::new(Window::new());
        Gate { host: host.to_owned(), window, places: Semaphore::new(MOST), listener }
    }

    fn window(&self) -> MutexGuard<'_, Window> {
        self.window.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many requests it has answered without refusing them for their number.
    fn served(&self) -> u64 {
        self.window().served
    }

    /// Sends a request when its turn has come: what `send` gives, `None` when it was silent for too long. The place is given
    /// back before anything else is waited for.
    pub async fn pass(
        &self,
        tries: &mut Tries<'_>,
        policy: &RetryPolicy,
        send: impl AsyncFnOnce() -> Option<reqwest::Result<Response>>,
    ) -> Option<reqwest::Result<Response>> {
        let place = self.enter().await;
        let sent = send().await;
        if let Some(Ok(response)) = &sent
            && place.answered(response, policy)
        {
            tries.stands_in_line();
        }
        sent
    }

    /// Waits for a place, and for the end of the time that the host has asked for.
    async fn enter(&self) -> Place<'_> {
        let served = self.served();
        let permit = self.places.acquire().await.expect("a gate is never closed");
        loop {
            let (opens, cut) = {
                let window = self.window();
                (window.opens, window.cuts)
            };
            match opens.filter(|opens| *opens > Instant::now()) {
                Some(opens) => tokio::time::sleep_until(opens).await,
                None => return Place { gate: self, permit: Some(permit), cut, served },
            }
        }
    }

    /// Told once for each host: it happens again and again where a registry counts requests by the minute.
    fn slowed(&self, limit: usize, wait: Duration) {
        tracing::info!(host = self.host, limit, ?wait, "the host limits how often it may be asked");
        if let Some(progress) = self.listener.lock().unwrap_or_else(PoisonError::into_inner).as_ref() {
            let waits = match wait.as_secs() {
                0 => String::new(),
                seconds => format!("; it asks to wait for {seconds} s"),
            };
            progress.note(format!(
                "{} limits how often it may be asked{waits}: at most {limit} requests at once from now, more when \
                 it takes them",
                self.host
            ));
        }
    }
}

impl Place<'_> {
    /// Gives the place back with what was answered. True when the host refused it for the number of requests and has served
    /// others meanwhile: its turn comes.
    fn answered(self, response: &Response, policy: &RetryPolicy) -> bool {
        let gate = self.gate;
        let mut window = gate.window();
        if is_limit(response) {
            let others_were_served = window.served > self.served;
            let wait = retry_after(response.headers()).unwrap_or(policy.first_wait);
            // Whoever asks for more is not waited for: the request fails, and with it the work.
            let wait = if wait > policy.longest_wait { Duration::ZERO } else { wait };
            if window.refused(self.cut, Instant::now(), wait) {
                let taken = gate.places.forget_permits(window.owed);
                window.owed -= taken;
                let (limit, is_first) = (window.limit, window.cuts == 1);
                drop(window);
                if is_first {
                    gate.slowed(limit, wait);
                }
            }
            return others_were_served;
        }
        if !response.status().is_server_error() && window.took_it() {
            match window.owed {
                0 => gate.places.add_permits(1),
                _ => window.owed -= 1,
            }
        }
        false
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut window = self.gate.window();
        if window.owed > 0
            && let Some(permit) = self.permit.take()
        {
            window.owed -= 1;
            permit.forget();
        }
    }
}

/// Whether an answer says that there are too many requests.
fn is_limit(response: &Response) -> bool {
    match response.status().as_u16() {
        429 => true,
        // Without a time it is a server in trouble, which concerns the one request only.
        503 => retry_after(response.headers()).is_some(),
        _ => false,
    }
}

/// The arithmetic.
#[derive(Debug)]
struct Window {
    /// How many may be on their way at once.
    limit: usize,
    /// Places that are still out and are not to come back.
    owed: usize,
    /// Answers since the limit changed.
    since: usize,
    /// Answers in all.
    served: u64,
    /// How often the limit was cut.
    cuts: u64,
    /// Nothing is sent before.
    opens: Option<Instant>,
}

impl Window {
    fn new() -> Self {
        Window { limit: MOST, owed: 0, since: 0, served: 0, cuts: 0, opens: None }
    }

    /// One was answered. True when there is one place more: as many answers as there are places are worth one.
    fn took_it(&mut self) -> bool {
        self.served += 1;
        if self.limit == MOST {
            return false;
        }
        self.since += 1;
        if self.since < self.limit {
            return false;
        }
        (self.limit, self.since) = (self.limit + 1, 0);
        true
    }

    /// One that was sent after `cut` cuts was refused. True when that has cut the limit: those that were on their way
    /// together are all refused for the same reason, and cut it once.
    fn refused(&mut self, cut: u64, now: Instant, wait: Duration) -> bool {
        self.opens = self.opens.max(Some(now + wait));
        if cut != self.cuts {
            return false;
        }
        let limit = (self.limit / 2).max(1);
        self.owed += self.limit - limit;
        (self.limit, self.since, self.cuts) = (limit, 0, self.cuts + 1);
        true
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn gate() -> Gate {
        Gate::new("registry.example.com", Arc::default())
    }

    fn answer(status: u16, after: Option<&str>) -> Response {
        let mut response = http::Response::builder().status(status);
        if let Some(after) = after {
            response = response.header("retry-after", after);
        }
        response.body("").unwrap().into()
    }

    #[test]
    fn the_limit_halves_once_for_all_that_were_on_their_way() {
        let (mut window, now) = (Window::new(), Instant::now());
        for (cut, want) in [(0, 16), (0, 16), (0, 16), (1, 8), (2, 4), (3, 2), (4, 1), (5, 1)] {
            window.refused(cut, now, Duration::ZERO);
            assert_eq!(window.limit, want);
        }
        assert_eq!(window.owed, MOST - 1);
    }

    #[test]
    fn the_limit_grows_by_one_for_each_round_of_answers_up_to_its_bound() {
        let mut window = Window::new();
        assert!(!window.took_it() && window.limit == MOST, "it does not grow beyond");
        while window.limit > 1 {
            window.refused(window.cuts, Instant::now(), Duration::ZERO);
        }
        for limit in 1..MOST {
            assert_eq!(window.limit, limit);
            assert_eq!((0..limit).filter(|_| window.took_it()).count(), 1);
        }
        assert!(!window.took_it() && window.limit == MOST);
    }

    #[test]
    fn the_longest_time_that_was_asked_for_counts() {
        let (mut window, now) = (Window::new(), Instant::now());
        let seconds = Duration::from_secs;
        for (at, wait, opens) in [(0, 7, 7), (1, 3, 7), (2, 6, 8)] {
            window.refused(0, now + seconds(at), seconds(wait));
            assert_eq!(window.opens, Some(now + seconds(opens)));
        }
    }

    #[tokio::test]
    async fn a_refusal_closes_the_gate_for_everyone_and_then_half_of_them_get_through() {
        let (gate, policy) = (gate(), RetryPolicy::default());
        let policy = RetryPolicy { first_wait: Duration::from_millis(50), ..policy };
        let mut places: Vec<_> = (0..MOST).map(|_| gate.enter().now_or_never().unwrap()).collect();
        assert!(gate.enter().now_or_never().is_none(), "it is full");
        let refused = Instant::now();
        places.pop().unwrap().answered(&answer(429, None), &policy);
        drop(places);
        assert!(gate.enter().now_or_never().is_none(), "it is closed");
        let _first = gate.enter().await;
        assert!(refused.elapsed() >= policy.first_wait);
        let _others: Vec<_> = (1..MOST / 2).map(|_| gate.enter().now_or_never().unwrap()).collect();
        assert!(gate.enter().now_or_never().is_none(), "it is full at half");
    }

    #[tokio::test]
    async fn places_come_back_one_by_one() {
        let (gate, policy) = (gate(), RetryPolicy::default());
        for _ in 0..9 {
            gate.enter().await.answered(&answer(503, Some("0")), &policy);
        }
        let full = async || {
            let mut places = Vec::new();
            while let Some(place) = gate.enter().now_or_never() {
                places.push(place);
            }
            places.len()
        };
        assert_eq!(full().await, 1);
        for answers in [1, 2, 3] {
            for _ in 0..answers {
                gate.enter().await.answered(&answer(200, None), &policy);
            }
            assert_eq!(full().await, answers + 1);
        }
    }

    #[tokio::test]
    async fn trouble_is_no_limit_and_too_long_a_time_is_not_waited_for() {
        let (gate, policy) = (gate(), RetryPolicy::default());
        gate.enter().await.answered(&answer(503, None), &policy);
        gate.enter().await.answered(&answer(500, Some("9")), &policy);
        let (cuts, opens) = {
            let window = gate.window();
            (window.cuts, window.opens)
        };
        assert_eq!((cuts, opens), (0, None));
        assert_eq!(gate.served(), 0, "nor is it an answer that counts");
        gate.enter().await.answered(&answer(429, Some("3600")), &policy);
        assert!(gate.enter().now_or_never().is_some());
    }
}
