use std::sync::atomic::{AtomicU64, Ordering};

/// What the notifier has done since its start, and what it holds now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SocketStats {
    /// Posts tried.
    pub posts: u64,
    /// Posts that the peer took.
    pub delivered: u64,
    /// Posts that failed, and may be tried again.
    pub failed: u64,
    /// Updates that the peer refused for good.
    pub refused: u64,
    /// Progress updates that a newer update of their execution replaced before they were sent.
    pub replaced: u64,
    /// Start and progress updates dropped because the peer could not be told in time.
    pub dropped_in_outage: u64,
    /// Start and progress updates dropped because too many executions had updates pending.
    pub dropped_as_too_many: u64,
    /// Updates dropped because they came after their execution's terminal update.
    pub dropped_as_late: u64,
    /// Executions with updates pending or under way.
    pub pending: usize,
    /// Terminal updates among them that are not delivered yet.
    pub concluding: usize,
    /// Whether there is an outage: the latest post failed.
    pub outage: bool,
}

#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) posts: AtomicU64,
    pub(crate) delivered: AtomicU64,
    pub(crate) failed: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) replaced: AtomicU64,
    pub(crate) dropped_in_outage: AtomicU64,
    pub(crate) dropped_as_too_many: AtomicU64,
    pub(crate) dropped_as_late: AtomicU64,
}

impl Counters {
    /// Returns the numbers that are counted here; the others are zero.
    pub(crate) fn read(&self) -> SocketStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        SocketStats {
            posts: read(&self.posts),
            delivered: read(&self.delivered),
            failed: read(&self.failed),
            refused: read(&self.refused),
            replaced: read(&self.replaced),
            dropped_in_outage: read(&self.dropped_in_outage),
            dropped_as_too_many: read(&self.dropped_as_too_many),
            dropped_as_late: read(&self.dropped_as_late),
            ..SocketStats::default()
        }
    }
}

pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
