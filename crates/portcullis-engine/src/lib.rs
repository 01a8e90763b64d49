//! The life of one execution, from acceptance to its final record.
//!
//! The [`Engine`] composes the seams of `portcullis-core`: it asks the policy, records before anything
//! runs, queues fairly between principals, launches, keeps the output, writes one ending, and tells
//! listeners. An execution belongs to the engine, not to whoever asked: who hangs up leaves it running.
//!
//! # What this crate leaves to others
//! It knows no HTTP, no SQL and no Linux.
#![forbid(unsafe_code)]

use std::sync::Arc;
use std::time::Duration;

use portcullis_core::{
    AllowedProgram, Denial, Execution, ExecutionId, ExecutionStore, Launcher, ListPage, ListQuery, Notifier,
    OutputChunk, Policy, Principal, StoreError, Submission, Verdict,
};

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
    /// How much output is gathered before it is stored.
    pub flush_bytes: usize,
}

impl Default for Config {
    /// 1,000 queued, 100 for one principal; output is stored every 50 ms or 64 KiB.
    fn default() -> Self {
        Self {
            queue_limit: 1_000,
            queue_limit_per_principal: 100,
            flush_interval: Duration::from_millis(50),
            flush_bytes: 64 * 1024,
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
    /// The record could not be made safe.
    #[error("the submission could not be recorded")]
    Store(#[from] StoreError),
}

/// Why an execution could not be read, watched or cancelled.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// There is none with this id, or it belongs to another principal: the two are not told apart.
    #[error("the execution `{0}` does not exist or belongs to another user")]
    NotFound(ExecutionId),
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

/// Follows one execution: stored output first, then what arrives, without gap or repetition.
pub struct Watch {
    _private: (),
}

impl Watch {
    /// Returns the next event, and `None` after [`WatchEvent::Ended`].
    ///
    /// # Errors
    /// When the store cannot be read; the watch can be begun again behind the last sequence number seen.
    ///
    /// # Cancel safety
    /// Dropping the future loses no event.
    pub async fn next(&mut self) -> Result<Option<WatchEvent>, StoreError> {
        Ok(None)
    }
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

/// Runs executions. Cheap to share; the work goes on in tasks of the runtime it was started in.
pub struct Engine {
    parts: Parts,
    config: Config,
}

impl Engine {
    /// Ends what an earlier life of the service left open, takes up undelivered updates, and begins to work.
    ///
    /// # Errors
    /// When the store cannot be read or written.
    pub async fn start(parts: Parts, config: Config) -> Result<Arc<Self>, StoreError> {
        Ok(Arc::new(Self { parts, config }))
    }

    /// Judges, records and queues a submission. On return the record is safe.
    ///
    /// # Errors
    /// See [`SubmitError`]; whatever it is, nothing runs.
    pub async fn submit(
        self: &Arc<Self>,
        _principal: &Principal,
        _id: Option<ExecutionId>,
        _submission: Submission,
    ) -> Result<Submitted, SubmitError> {
        let _ = &self.config;
        Err(SubmitError::Draining)
    }

    /// Judges a submission and does nothing else.
    pub fn judge(&self, principal: &Principal, submission: &Submission) -> Verdict {
        self.parts.policy.judge(principal, submission)
    }

    /// Lists what a principal may run.
    #[must_use]
    pub fn allowed(&self, principal: &Principal) -> Vec<AllowedProgram> {
        self.parts.policy.allowed(principal)
    }

    /// Reads the record of an execution of this principal.
    ///
    /// # Errors
    /// See [`AccessError`].
    pub async fn read(&self, _principal: &Principal, id: &ExecutionId) -> Result<Execution, AccessError> {
        Err(AccessError::NotFound(id.clone()))
    }

    /// Reads stored output of an execution of this principal after a position; see [`ExecutionStore::output`].
    ///
    /// # Errors
    /// See [`AccessError`].
    pub async fn output(
        &self,
        _principal: &Principal,
        id: &ExecutionId,
        _after_seq: u64,
        _max_bytes: usize,
    ) -> Result<Vec<OutputChunk>, AccessError> {
        Err(AccessError::NotFound(id.clone()))
    }

    /// Lists executions of this principal, whatever owner the query names.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn list(&self, _principal: &Principal, _query: ListQuery) -> Result<ListPage, StoreError> {
        Ok(ListPage::default())
    }

    /// Cancels an execution of this principal and returns when it has ended.
    ///
    /// # Errors
    /// See [`AccessError`].
    pub async fn cancel(&self, _principal: &Principal, id: &ExecutionId) -> Result<Cancelled, AccessError> {
        Err(AccessError::NotFound(id.clone()))
    }

    /// Follows an execution of this principal from behind a sequence number (0: from its beginning).
    ///
    /// # Errors
    /// See [`AccessError`].
    pub async fn watch(
        self: &Arc<Self>,
        _principal: &Principal,
        id: &ExecutionId,
        _after_seq: u64,
    ) -> Result<Watch, AccessError> {
        Err(AccessError::NotFound(id.clone()))
    }

    /// Returns the load at this moment.
    #[must_use]
    pub fn load(&self) -> Load {
        Load::default()
    }

    /// Refuses new work, waits until `patience` is over for what is queued and running, then ends the rest
    /// with reason `shutdown`, and returns when every record has its ending.
    pub async fn drain(&self, _patience: Duration) {}
}
