use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// What was done for one endpoint since the start, and how it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WebhookStats {
    /// Its name in the configuration.
    pub endpoint: String,
    /// Messages sent, repeated ones included.
    pub attempts: u64,
    /// Messages that it took.
    pub delivered: u64,
    /// Attempts that failed.
    pub failed: u64,
    /// Messages that it will not get: it did not take them in their day.
    pub given_up: u64,
    /// Messages removed because too many waited, or because it was disabled.
    pub dropped: u64,
    /// Whether the latest attempt failed.
    pub failing: bool,
    /// Whether it is disabled: it has answered 410.
    pub disabled: bool,
    /// Messages that wait for it, as counted within the last minute.
    pub waiting: u64,
}

#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) attempts: AtomicU64,
    pub(crate) delivered: AtomicU64,
    pub(crate) failed: AtomicU64,
    pub(crate) given_up: AtomicU64,
    pub(crate) dropped: AtomicU64,
    pub(crate) waiting: AtomicU64,
    pub(crate) failing: AtomicBool,
    pub(crate) disabled: AtomicBool,
}

impl Counters {
    pub(crate) fn read(&self, endpoint: &str) -> WebhookStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        WebhookStats {
            endpoint: endpoint.to_owned(),
            attempts: read(&self.attempts),
            delivered: read(&self.delivered),
            failed: read(&self.failed),
            given_up: read(&self.given_up),
            dropped: read(&self.dropped),
            waiting: read(&self.waiting),
            failing: self.failing.load(Ordering::Relaxed),
            disabled: self.disabled.load(Ordering::Relaxed),
        }
    }
}
