//! Counters since the start, for metrics.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use portcullis_core::{Denial, Execution, Reason, Status};

/// What happened since the engine started. Numbers only grow.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stats {
    /// New executions.
    pub accepted: u64,
    /// Submissions that were answered with an execution that was there already.
    pub repeated: u64,
    /// Refusals of the policy, by the code of the first denial.
    pub denied: HashMap<String, u64>,
    /// Submissions whose id was taken.
    pub ids_taken: u64,
    /// Submissions turned away because the queue was full.
    pub turned_away_busy: u64,
    /// Submissions turned away because their principal had too many waiting.
    pub turned_away_principal_busy: u64,
    /// Submissions turned away because the service was shutting down.
    pub turned_away_draining: u64,
    /// Executions that started.
    pub started: u64,
    /// Time from acceptance to start, summed over those that started.
    pub waited: Duration,
    /// Executions that ended, by status and reason; those that the start found open count as well.
    pub ended: HashMap<(Status, Reason), u64>,
    /// Time from start to end, summed over those that ran in this life of the service.
    pub ran: Duration,
    /// Bytes of output stored.
    pub output_bytes: u64,
    /// Calls of the store that failed, repeated ones included.
    pub store_failures: u64,
    /// Terminal updates that the listener took.
    pub updates_delivered: u64,
    /// Terminal updates that were given up.
    pub updates_given_up: u64,
    /// Panics that were caught.
    pub panics: u64,
}

/// The counters, shared by every task of the engine.
#[derive(Default)]
pub(crate) struct Counters(Mutex<Stats>);

impl Counters {
    /// Changes the counters; never held across an await.
    pub(crate) fn note(&self, change: impl FnOnce(&mut Stats)) {
        change(&mut self.lock());
    }

    pub(crate) fn denied(&self, denial: &Denial) {
        self.note(|stats| *stats.denied.entry(denial.code.as_str().to_owned()).or_default() += 1);
    }

    pub(crate) fn ended(&self, execution: &Execution) {
        if let Some(ending) = &execution.ending {
            self.note(|stats| *stats.ended.entry((ending.status, ending.reason)).or_default() += 1);
        }
    }

    pub(crate) fn snapshot(&self) -> Stats {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Stats> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
