//! Whether the listener can be told at the moment, as far as the latest posts know.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::backoff::{Backoff, MAX_RETRY_AFTER, part_of};

/// Shared by all lanes: one failure spares the others theirs.
pub(crate) struct Outage {
    current: Mutex<Option<Current>>,
    ended: Notify,
    backoff: Backoff,
}

struct Current {
    since: Instant,
    failures: u32,
    /// The end of the pause.
    until: Instant,
    /// How long the pause is.
    pause: Duration,
    dropped: u64,
}

impl Outage {
    pub(crate) fn new(backoff: Backoff) -> Self {
        Self { current: Mutex::new(None), ended: Notify::new(), backoff }
    }

    /// Notes that a post failed. The first failure begins an outage and is the one that is logged; each one
    /// after the end of a pause begins a longer pause.
    pub(crate) fn post_failed(&self, problem: &str, retry_after: Option<Duration>) {
        let now = Instant::now();
        let asked_for = retry_after.unwrap_or_default().min(MAX_RETRY_AFTER);
        let mut current = self.lock();
        match current.as_mut() {
            Some(outage) if outage.until > now => {
                // A post that began before the pause; its failure is no news, what the peer asks for is.
                outage.until = outage.until.max(now + asked_for);
            }
            Some(outage) => {
                outage.failures = outage.failures.saturating_add(1);
                outage.pause = self.backoff.after(outage.failures).max(asked_for);
                outage.until = now + outage.pause;
            }
            None => {
                tracing::warn!(
                    problem,
                    "the Socket Service cannot be told: progress is dropped, final updates wait"
                );
                let pause = self.backoff.after(1).max(asked_for);
                *current = Some(Current { since: now, failures: 1, until: now + pause, pause, dropped: 0 });
            }
        }
    }

    /// Notes that a post reached the listener: who waits may go on.
    pub(crate) fn post_succeeded(&self) {
        if let Some(outage) = self.lock().take() {
            tracing::info!(
                outage_seconds = outage.since.elapsed().as_secs(),
                updates_dropped = outage.dropped,
                "the Socket Service can be told again"
            );
            self.ended.notify_waiters();
        }
    }

    /// Notes that an update was dropped for the outage, if there is one.
    pub(crate) fn dropped_update(&self) {
        if let Some(outage) = self.lock().as_mut() {
            outage.dropped += 1;
        }
    }

    /// Whether nothing is to be tried now.
    pub(crate) fn pauses(&self) -> bool {
        self.lock().as_ref().is_some_and(|outage| outage.until > Instant::now())
    }

    /// Whether the latest post failed.
    pub(crate) fn is_on(&self) -> bool {
        self.lock().is_some()
    }

    /// Returns when there is no pause: at once, at the end of the pause (each waiter at a moment of its own,
    /// so that the first to find out spares the others), or with the end of the outage.
    pub(crate) async fn pass(&self) {
        loop {
            let ended = self.ended.notified();
            let Some(until) = self.waiting_time() else { return };
            tokio::select! {
                () = tokio::time::sleep_until(until) => {}
                () = ended => return,
            }
        }
    }

    /// Returns after a time, or as soon as there is no outage; then with `true`.
    pub(crate) async fn sleep_or_end(&self, time: Duration) -> bool {
        let ended = self.ended.notified();
        if !self.is_on() {
            return true;
        }
        tokio::select! {
            () = tokio::time::sleep(time) => false,
            () = ended => true,
        }
    }

    fn waiting_time(&self) -> Option<Instant> {
        let current = self.lock();
        let outage = current.as_ref().filter(|outage| outage.until > Instant::now())?;
        Some(outage.until + part_of(outage.pause / 2))
    }

    fn lock(&self) -> MutexGuard<'_, Option<Current>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn outage() -> Outage {
        Outage::new(Backoff { first: Duration::from_millis(250), longest: Duration::from_secs(30) })
    }

    #[tokio::test(start_paused = true)]
    async fn pauses_grow_with_each_failure_after_a_pause() {
        let outage = outage();
        for millis in [250, 500, 1_000] {
            outage.post_failed("down", None);
            outage.post_failed("down", None); // of the same moment: counts once
            tokio::time::advance(Duration::from_millis(millis - 1)).await;
            assert!(outage.pauses());
            tokio::time::advance(Duration::from_millis(1)).await;
            assert!(!outage.pauses() && outage.is_on());
        }
        outage.post_succeeded();
        assert!(!outage.is_on());
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_is_as_long_as_the_peer_asks_for_up_to_an_hour() {
        let outage = outage();
        outage.post_failed("limit", Some(Duration::from_secs(86_400)));
        tokio::time::advance(Duration::from_secs(3_599)).await;
        assert!(outage.pauses());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(!outage.pauses());
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_goes_on_with_the_end_of_the_outage() {
        let outage = Arc::new(outage());
        outage.post_failed("limit", Some(Duration::from_secs(3_000)));
        let waiter = tokio::spawn({
            let outage = outage.clone();
            async move { outage.pass().await }
        });
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert!(!waiter.is_finished());
        let begun = Instant::now();
        outage.post_succeeded();
        waiter.await.unwrap();
        assert_eq!(begun.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn without_an_outage_nobody_waits() {
        let begun = Instant::now();
        outage().pass().await;
        assert_eq!(begun.elapsed(), Duration::ZERO);
    }
}
