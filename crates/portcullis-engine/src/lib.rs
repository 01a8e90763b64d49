//! The life of one execution, from acceptance to its final record.
//!
//! The [`Engine`] composes the seams of `portcullis-core`: it asks the policy, records before anything
//! runs, queues fairly between principals, launches, keeps the output, writes one ending, and tells
//! listeners. An execution belongs to the engine, not to whoever asked: who hangs up leaves it running.
//!
//! # Terms
//! An execution is *live* between its acceptance and its ending; the engine holds live executions in
//! memory and all others only in the store. A *place* is room in the queue, taken before the record is
//! made. The *tip* of an execution is its last stored chunk of output.
//!
//! # Invariants
//! - *Record before process*: nothing runs before the store has its claim, and a claim is made once.
//! - *One end*: every accepted execution gets one ending, and that is what everybody is told. While the
//!   store does not take it, the execution has not ended for anybody.
//! - *Stored before shown*: a watcher and a listener see only what a reader of the store would find.
//! - Everything in memory is bounded: the queue by [`Config`], output on its way by two portions of
//!   [`Config::flush_bytes`] for each running execution and 256 KiB for its watchers, updates by number.
//!
//! # What this crate leaves to others
//! It knows no HTTP, no SQL and no Linux.
//!
//! # Example
//! Parts that take a few lines each: a policy that permits everything, and a launcher that prints a greeting.
//! ```
//! use std::sync::Arc;
//!
//! use portcullis_core::*;
//! use portcullis_engine::{Config, Engine, Parts, Submitted, WatchEvent};
//! use portcullis_store::MemoryStore;
//!
//! # struct Everything;
//! # impl Policy for Everything {
//! #     fn judge(&self, _: &Principal, _: &Submission) -> Verdict {
//! #         let workspace = ViewPath::root();
//! #         Verdict::Permit(Box::new(Permit::grant(Plan {
//! #             script: Script { steps: vec![] },
//! #             working_directory: workspace.clone(),
//! #             workspace,
//! #             environment: vec![],
//! #             stdin: None,
//! #             limits: Limits::default(),
//! #             protected: vec![],
//! #         })), Grant::default())
//! #     }
//! #     fn allowed(&self, _: &Principal) -> Vec<AllowedProgram> { vec![] }
//! # }
//! # struct Silence;
//! # #[async_trait::async_trait]
//! # impl Notifier for Silence {
//! #     fn announce(&self, _: Update) {}
//! #     async fn conclude(&self, _: Update) -> Result<(), NotifyError> { Ok(()) }
//! # }
//! struct Greeter;
//!
//! #[async_trait::async_trait]
//! impl Launcher for Greeter {
//!     async fn launch(
//!         &self,
//!         _permit: Permit,
//!         observer: Arc<dyn ExecutionObserver>,
//!     ) -> Result<Outcome, LaunchError> {
//!         let confinement =
//!             Confinement { level: Level::Full, landlock_abi: None, cgroup: None, weaker: vec![] };
//!         if observer.starting(&confinement).await == Flow::Stop {
//!             return Err(LaunchError::Forbidden);
//!         }
//!         observer.output(OutputStream::Stdout, b"hello\n".to_vec()).await;
//!         Ok(Outcome { ended: Ended::Exited(0), usage: Usage::default(), truncated: false })
//!     }
//!
//!     fn capacity(&self) -> usize {
//!         1
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let parts = Parts {
//!     policy: Arc::new(Everything),
//!     launcher: Arc::new(Greeter),
//!     store: Arc::new(MemoryStore::new()),
//!     notifier: Arc::new(Silence),
//! };
//! let engine = Engine::start(parts, Config::default()).await?;
//! let ann = Principal { id: "1".into(), name: "ann".into(), ..Principal::local() };
//! let Submitted::New(execution) = engine.submit(&ann, None, Submission::of("echo hello")).await? else {
//!     unreachable!("its id was made for it")
//! };
//! let mut watch = engine.watch(&ann, &execution.id, 0).await?;
//! while let Some(event) = watch.next().await? {
//!     match event {
//!         WatchEvent::Status(record) => println!("{}", record.status.as_str()),
//!         WatchEvent::Output(chunk) => assert_eq!(chunk.bytes, b"hello\n"),
//!         WatchEvent::Ended(record) => assert_eq!(record.status, Status::Completed),
//!     }
//! }
//! # Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]

mod vocabulary;

mod shared;
mod start;

mod admission;
mod admit;
mod fingerprint;
mod queue;

mod ending;
mod finish;
mod live;
mod newest;
mod recorder;
mod run;

mod excerpt;
mod tell;

mod access;
mod pages;
mod watch;

mod drain;

mod backoff;
mod panics;
mod stats;

use std::sync::Arc;
use std::time::Duration;

use portcullis_core::{
    AllowedProgram, Execution, ExecutionId, ListPage, ListQuery, Located, OutputChunk, Place, Principal,
    StoreError, Submission, Verdict,
};

pub use panics::Panicked;
pub use stats::Stats;
pub use vocabulary::{
    AccessError, Cancelled, Config, Load, Parts, SubmitError, Submitted, Waited, WatchEvent,
};
pub use watch::Watch;

/// Runs executions. Cheap to share; the work goes on in tasks of the runtime it was started in.
pub struct Engine {
    shared: Arc<shared::Shared>,
}

impl Engine {
    /// Ends what an earlier life of the service left open, takes up undelivered updates, and begins to work.
    ///
    /// # Errors
    /// When the store cannot be read or written.
    pub async fn start(parts: Parts, config: Config) -> Result<Arc<Self>, StoreError> {
        Ok(Arc::new(Self { shared: start::start(parts, config).await? }))
    }

    /// Judges, records and queues a submission. On return the record is safe.
    ///
    /// A submission that is known already is answered with its execution, also when the queue is full or
    /// the engine drains.
    ///
    /// # Errors
    /// See [`SubmitError`]; whatever it is, nothing runs.
    ///
    /// # Cancel safety
    /// Dropping the future may leave the submission accepted: it is recorded and run as any other.
    pub async fn submit(
        self: &Arc<Self>,
        principal: &Principal,
        id: Option<ExecutionId>,
        submission: Submission,
    ) -> Result<Submitted, SubmitError> {
        admit::submit(&self.shared, principal, id, submission).await
    }

    /// Judges a submission and does nothing else.
    ///
    /// # Errors
    /// When the policy broke and decided nothing.
    pub fn judge(&self, principal: &Principal, submission: &Submission) -> Result<Verdict, Panicked> {
        admit::judge(&self.shared, principal, submission)
    }

    /// Lists what a principal may run.
    #[must_use]
    pub fn allowed(&self, principal: &Principal) -> Vec<AllowedProgram> {
        self.shared.parts.policy.allowed(principal)
    }

    /// Reads the record of an execution of this principal.
    ///
    /// # Errors
    /// See [`AccessError`].
    pub async fn read(&self, principal: &Principal, id: &ExecutionId) -> Result<Execution, AccessError> {
        access::read(&self.shared, principal, id).await
    }

    /// Returns when an execution of this principal has ended.
    ///
    /// # Errors
    /// See [`AccessError`].
    ///
    /// # Cancel safety
    /// Dropping the future ends the waiting and nothing else.
    pub async fn wait(&self, principal: &Principal, id: &ExecutionId) -> Result<Waited, AccessError> {
        access::wait(&self.shared, principal, id).await
    }

    /// Reads stored output of an execution of this principal after a position; see
    /// [`ExecutionStore::output`](portcullis_core::ExecutionStore::output).
    ///
    /// # Errors
    /// See [`AccessError`].
    pub async fn output(
        &self,
        principal: &Principal,
        id: &ExecutionId,
        after_seq: u64,
        max_bytes: usize,
    ) -> Result<Vec<OutputChunk>, AccessError> {
        access::output(&self.shared, principal, id, after_seq, max_bytes).await
    }

    /// Finds a place in the stored output of an execution of this principal; see
    /// [`ExecutionStore::locate`](portcullis_core::ExecutionStore::locate).
    ///
    /// # Errors
    /// See [`AccessError`].
    pub async fn locate(
        &self,
        principal: &Principal,
        id: &ExecutionId,
        place: Place,
    ) -> Result<Located, AccessError> {
        access::locate(&self.shared, principal, id, place).await
    }

    /// Lists executions of this principal, whatever owner the query names.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn list(&self, principal: &Principal, query: ListQuery) -> Result<ListPage, StoreError> {
        access::list(&self.shared, principal, query).await
    }

    /// Cancels an execution of this principal and returns when it has ended. One that waits is ended
    /// without ever starting.
    ///
    /// # Errors
    /// See [`AccessError`].
    ///
    /// # Cancel safety
    /// Dropping the future does not take the cancellation back.
    pub async fn cancel(&self, principal: &Principal, id: &ExecutionId) -> Result<Cancelled, AccessError> {
        access::cancel(&self.shared, principal, id).await
    }

    /// Follows an execution of this principal from behind a sequence number (0: from its beginning).
    ///
    /// # Errors
    /// See [`AccessError`].
    pub async fn watch(
        self: &Arc<Self>,
        principal: &Principal,
        id: &ExecutionId,
        after_seq: u64,
    ) -> Result<Watch, AccessError> {
        watch::begin(&self.shared, principal, id, after_seq).await
    }

    /// Returns the load at this moment.
    #[must_use]
    pub fn load(&self) -> Load {
        self.shared.load()
    }

    /// Returns what happened since the start.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.shared.counters.snapshot()
    }

    /// Refuses new work, waits until `patience` is over for what is queued and running, then ends the rest
    /// with reason `shutdown` (`interrupted` for what never started), and returns when every record has its
    /// ending. Terminal updates get five more seconds; what is not told then is told after the next start.
    ///
    /// It returns in bounded time even when the store is away: then it leaves records open, which the next
    /// start ends. A second call with less patience hastens the first.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the engine refusing new work; calling it again goes on.
    pub async fn drain(&self, patience: Duration) {
        drain::drain(&self.shared, patience).await;
    }
}

#[cfg(test)]
mod tests;
