//! What the engine is made of and what it answers.

use std::sync::Arc;
use std::time::Duration;

use portcullis_core::{
    Confinement, Denial, Execution, ExecutionId, ExecutionStore, Launcher, Notifier, OutputChunk, Policy,
    StoreError,
};

use crate::panics::Panicked;

/// What the engine works with.
#[derive(Clone)]
pub struct Parts {
    /// Judges.
    pub policy: Arc<dyn Policy>,
    /// Runs.
    pub launcher: Arc<dyn Launcher>,
    /// Remembers.
    pub store: Arc<dyn ExecutionStore>,
    /// Tells.
    pub notifier: Arc<dyn Notifier>,
}

/// The engine's own settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Executions accepted and not started, over all principals; beyond it a submission is turned away.
    pub queue_limit: usize,
    /// The same for one principal.
    pub queue_limit_per_principal: usize,
    /// How long output is gathered before it is stored.
    pub flush_interval: Duration,
    /// How much output is gathered before it is stored; also the most that one chunk holds.
    pub flush_bytes: usize,
    /// The confinement of every execution, where it is known ahead: then one that need not wait is accepted and
    /// started in one record, with one sync of the store.
    pub confinement: Option<Confinement>,
}

impl Default for Config {
    /// 1,000 queued, 100 for one principal; output is stored every 50 ms or 64 KiB.
    fn default() -> Self {
        Self {
            queue_limit: 1_000,
            queue_limit_per_principal: 100,
            flush_interval: Duration::from_millis(50),
            flush_bytes: 64 * 1024,
            confinement: None,
        }
    }
}

/// Why a submission was not accepted: no record of an execution exists.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    /// The policy refused it; the refusal is recorded.
    #[error("{0}")]
    Denied(Box<Denial>),
    /// Another submission, or another principal's, has this id.
    #[error("the execution id `{0}` is taken by another submission")]
    IdTaken(ExecutionId),
    /// The caller has too many queued.
    #[error("too many executions of this user are waiting")]
    PrincipalBusy {
        /// When to try again.
        retry_after: Duration,
    },
    /// The service has too many queued.
    #[error("too many executions are waiting")]
    Busy {
        /// When to try again.
        retry_after: Duration,
    },
    /// The service is shutting down.
    #[error("the service is shutting down")]
    Draining,
    /// The policy broke and decided nothing; nothing is recorded.
    #[error("the submission could not be judged")]
    Unjudged(#[from] Panicked),
    /// The record, or that of a refusal, could not be made safe.
    #[error("the submission could not be recorded")]
    Store(#[from] StoreError),
}

/// Why an execution could not be read, watched or cancelled.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// There is none with this id, or it belongs to another principal: the two are not told apart.
    #[error("the execution `{0}` does not exist, or belongs to another user")]
    NotFound(ExecutionId),
    /// There was one of this principal, which retention has removed.
    #[error("the execution `{0}` was removed when its retention was over")]
    Expired(ExecutionId),
    /// The record could not be read.
    #[error("the record could not be read")]
    Store(#[from] StoreError),
}

/// An accepted submission.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Submitted {
    /// The execution is new.
    New(Box<Execution>),
    /// The same submission had been accepted before.
    Same(Box<Execution>),
}

/// What a cancellation found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cancelled {
    /// The execution is cancelled, now or by an earlier call.
    Cancelled(Box<Execution>),
    /// It had ended in another way.
    AlreadyEnded(Box<Execution>),
}

/// An execution that has ended, as who waited for its end is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waited {
    /// The final record.
    pub execution: Box<Execution>,
    /// All of its output, where it is in memory still; otherwise it is read from the store.
    pub output: Option<Vec<Arc<OutputChunk>>>,
}

/// What a watcher sees next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WatchEvent {
    /// The record as it is at the beginning of the watch, and again whenever its status changes to `running`.
    Status(Box<Execution>),
    /// Output, each chunk once and in order.
    Output(OutputChunk),
    /// The final record; nothing follows.
    Ended(Box<Execution>),
}

/// The engine's load, for health and metrics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Load {
    /// Accepted and not started.
    pub queued: usize,
    /// Running.
    pub running: usize,
    /// Whether new work is refused.
    pub draining: bool,
}
