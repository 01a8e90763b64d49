//! The traits between the rooms, each a contract.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use time::OffsetDateTime;

use crate::{
    AllowedProgram, Closing, Confinement, Ending, Execution, ExecutionId, NewExecution, Outcome, OutputChunk,
    OutputStream, Permit, Principal, ProgramName, Provenance, Refusal, Secret, Status, StopReason,
    Submission, TraceContext, Verdict,
};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

// ---------------------------------------------------------------------------------------------- identity

/// What a request brought to show who sent it.
#[derive(Debug, Clone, Default)]
pub struct Credentials {
    /// The token of an `Authorization: Bearer` header.
    pub bearer: Option<Secret>,
    /// Where the request came from.
    pub provenance: Provenance,
}

/// Finds out who asks.
#[async_trait]
pub trait Authenticator: Send + Sync {
    /// Returns who holds these credentials. An answer may be as old as the implementation's stated cache
    /// time. Never lets anybody in when it cannot tell.
    ///
    /// # Errors
    /// One variant for each answer that the API gives.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing but the answer.
    async fn authenticate(&self, credentials: &Credentials) -> Result<Principal, AuthenticateError>;
}

/// Why nobody was let in.
#[derive(Debug, thiserror::Error)]
pub enum AuthenticateError {
    /// The request brought no token.
    #[error("no token was sent: `Authorization: Bearer TOKEN` is required")]
    Missing,
    /// The token is malformed, unknown, expired or logged out.
    #[error("the token is not valid")]
    Invalid,
    /// The principal is known and may not use the service at all.
    #[error("the user lacks the permission `{permission}`")]
    Forbidden {
        /// The permission that is asked for.
        permission: String,
        /// Who lacks it, where that was said.
        principal: Option<Arc<Principal>>,
    },
    /// Nobody could say: the Auth Service is down, slow, limiting or answering nonsense.
    #[error("the Auth Service could not say who this is")]
    Unavailable {
        /// When to try again, if known.
        retry_after: Option<Duration>,
        /// What went wrong.
        source: BoxError,
    },
}

// ------------------------------------------------------------------------------------------------ policy

/// Judges command lines: value in, value out, the same for the same input, without any I/O.
pub trait Policy: Send + Sync {
    /// Judges one submission for one principal. What it cannot parse or bound, it denies.
    fn judge(&self, principal: &Principal, submission: &Submission) -> Verdict;

    /// Names the programs that a line calls, allowed or not, as far as it can be read: for the log of a refusal.
    fn programs(&self, submission: &Submission) -> Vec<ProgramName> {
        let _ = submission;
        Vec::new()
    }

    /// Lists what the principal may run, by name.
    fn allowed(&self, principal: &Principal) -> Vec<AllowedProgram>;
}

// ----------------------------------------------------------------------------------------------- launcher

/// Starts permitted command lines under confinement, and sees them to their end.
#[async_trait]
pub trait Launcher: Send + Sync {
    /// Runs the permit's line and returns once every process of it is gone: by itself, by a limit, or
    /// after its grace period when the observer asked to stop. Waits for a free cell when all are taken.
    ///
    /// # Errors
    /// When no instruction of the line ever ran. A line that started and failed is an [`Outcome`]. The
    /// exception is [`LaunchError::Died`].
    ///
    /// # Cancel safety
    /// Dropping the future kills the execution.
    async fn launch(
        &self,
        permit: Permit,
        observer: Arc<dyn ExecutionObserver>,
    ) -> Result<Outcome, LaunchError>;

    /// Returns how many executions may run at once.
    fn capacity(&self) -> usize;

    /// Returns how its cells are, and have been.
    fn cells(&self) -> Cells {
        Cells::default()
    }

    /// Says why nothing can be launched any more, if that is so.
    fn problem(&self) -> Option<String> {
        None
    }
}

/// The cells of a launcher, for metrics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cells {
    /// How many are ready for an execution.
    pub free: usize,
    /// How many there are.
    pub alive: usize,
    /// How many have been made.
    pub made: u64,
    /// How many have ended.
    pub gone: u64,
    /// How many executions found none free.
    pub late: u64,
}

/// Watches one execution for who launched it.
#[async_trait]
pub trait ExecutionObserver: Send + Sync {
    /// Is told once, before the first instruction of the line runs, and may forbid it: then nothing runs
    /// and the launch ends with [`LaunchError::Forbidden`]. While this waits, the launcher may make ready what the
    /// line needs. It does not return before this has.
    async fn starting(&self, confinement: &Confinement) -> Flow;

    /// Is given output as it arrives, in order. The launcher reads no more while this waits, so that a slow
    /// observer slows the command instead of filling memory.
    async fn output(&self, stream: OutputStream, bytes: Vec<u8>) -> Flow;

    /// Resolves when the execution is to be stopped; otherwise never.
    async fn stop_requested(&self) -> StopReason;
}

/// Whether to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// Go on.
    Continue,
    /// End the execution now.
    Stop,
}

/// Why a permitted line was not started, or its end not seen.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// A program of the permit is missing, not executable, or lacks its interpreter or a library.
    #[error("cannot run `{program}`: {problem}")]
    Program {
        /// The program's name.
        program: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The kernel refused one step of the confinement; nothing of the line ran.
    #[error("could not apply confinement step `{step}`")]
    Confinement {
        /// The step's name, as in `docs/architecture.md`.
        step: String,
        /// The errno that the kernel gave.
        source: io::Error,
    },
    /// The permit asks for what this host or build cannot hold.
    #[error("this host cannot hold the permit: {problem}")]
    Unenforceable {
        /// What cannot be held.
        problem: String,
    },
    /// No cell could be had.
    #[error("no cell is available: {problem}")]
    Unavailable {
        /// Why.
        problem: String,
    },
    /// The observer forbade the start.
    #[error("the start was called off")]
    Forbidden,
    /// The cell died while the line ran. All processes are gone; how far the line came is unknown.
    #[error("the cell died while the execution ran: {problem}")]
    Died {
        /// What is known of it.
        problem: String,
    },
}

impl LaunchError {
    /// Whether some instruction of the line may have run.
    #[must_use]
    pub fn may_have_run(&self) -> bool {
        matches!(self, Self::Died { .. })
    }
}

// -------------------------------------------------------------------------------------------------- store

/// Keeps executions, their output and refusals. What it has acknowledged survives a crash, for as long as
/// the implementation says (memory: the process; SQLite: the disk).
#[async_trait]
pub trait ExecutionStore: Send + Sync {
    /// Records a new execution as `scheduled`, or, when it says how it starts, as `running`: then it is accepted
    /// and claimed in one, for who asked alone (what was there already is not claimed). On return the record is
    /// safe.
    ///
    /// # Errors
    /// When it could not be made safe. Then no record exists.
    async fn accept(&self, new: NewExecution) -> Result<Acceptance, StoreError>;

    /// Turns `scheduled` into `running`, once. Safe on return, before any process starts.
    async fn claim(
        &self,
        id: &ExecutionId,
        at: OffsetDateTime,
        confinement: &Confinement,
    ) -> Result<Claim, StoreError>;

    /// Appends output. Sequence numbers follow the last stored one without a gap; a chunk that is already
    /// stored is passed over. Refused for an execution that has ended.
    async fn append(&self, id: &ExecutionId, chunks: Vec<OutputChunk>) -> Result<(), StoreError>;

    /// Writes the last output and the ending of an execution that has none, both or neither: one call wins, the
    /// others are told the ending that stands, and their output is passed over. An ended execution's terminal
    /// update counts as undelivered, unless the closing says what became of it.
    async fn close(&self, id: &ExecutionId, closing: Closing) -> Result<Finish, StoreError>;

    /// Writes an ending and nothing else; see [`ExecutionStore::close`].
    async fn finish(&self, id: &ExecutionId, ending: Ending) -> Result<Finish, StoreError> {
        self.close(id, ending.into()).await
    }

    /// Reads a record.
    async fn read(&self, id: &ExecutionId) -> Result<Option<Execution>, StoreError>;

    /// Reads stored output after a position, in order: as many whole chunks as fit in `max_bytes`, and at
    /// least one when there is any.
    async fn output(
        &self,
        id: &ExecutionId,
        after_seq: u64,
        max_bytes: usize,
    ) -> Result<Vec<OutputChunk>, StoreError>;

    /// Finds a place in the stored output up to a chunk, by counting the bytes of both streams, or of one alone. Takes
    /// memory for a bounded part of the output at most, wherever the place is.
    async fn locate(&self, id: &ExecutionId, place: Place) -> Result<Located, StoreError> {
        let mut finder = Finder::new(place);
        let mut seq = 0;
        while seq < place.last_seq {
            let chunks = self.output(id, seq, LOCATE_BYTES).await?;
            let Some(last) = chunks.last() else { break };
            seq = last.seq;
            for chunk in &chunks {
                finder.pass(chunk.seq, chunk.stream, chunk.bytes.len() as u64);
            }
        }
        Ok(finder.found())
    }

    /// Lists records, newest first.
    async fn list(&self, query: &ListQuery) -> Result<ListPage, StoreError>;

    /// Records a refusal.
    async fn refuse(&self, refusal: Refusal) -> Result<(), StoreError>;

    /// Reads the newest refusals, newest first.
    async fn refusals(&self, limit: usize) -> Result<Vec<Refusal>, StoreError>;

    /// Ends what an earlier life of the service left open: `running` becomes `lost`, `scheduled` becomes
    /// `failed` with reason `interrupted`. Called once, before anything is accepted.
    async fn recover(&self, at: OffsetDateTime) -> Result<Recovery, StoreError>;

    /// Reads ended executions whose terminal update is not delivered, oldest first.
    async fn undelivered(&self, limit: usize) -> Result<Vec<Execution>, StoreError>;

    /// Notes what became of an execution's terminal update.
    async fn delivered(&self, id: &ExecutionId, delivery: Delivery) -> Result<(), StoreError>;

    /// Removes executions that ended before a time, with their output; returns how many. Refusals recorded
    /// before it go too, uncounted, so that they cannot fill the medium for ever.
    async fn expire(&self, ended_before: OffsetDateTime) -> Result<u64, StoreError>;

    /// Removes the executions that ended first, as [`ExecutionStore::expire`] does, until what is kept is within
    /// bounds or nothing that has ended is left; returns how many. Writes that come meanwhile are made between its
    /// steps. Room that is free then may be given back.
    async fn trim(&self, keep: Keep) -> Result<u64, StoreError>;

    /// Whether an execution of this owner was removed by [`ExecutionStore::expire`] or [`ExecutionStore::trim`], as far
    /// as that is remembered: a bounded number of them are, the newest.
    async fn was_removed(&self, owner: &str, id: &ExecutionId) -> Result<bool, StoreError>;

    /// Tries whether the store can be relied on, at this moment. One that loses nothing but with the process has
    /// nothing to try.
    ///
    /// # Errors
    /// What a write would meet.
    async fn probe(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

/// How much output is looked at at once to find a place in it.
const LOCATE_BYTES: usize = 256 * 1024;

/// A place in stored output: so many bytes behind its beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Counts the bytes of this stream alone; `None` counts both, in order of arrival.
    pub stream: Option<OutputStream>,
    /// Where the output ends: later chunks do not count.
    pub last_seq: u64,
    /// Bytes in front of the place.
    pub offset: u64,
}

/// Where a place is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Located {
    /// Bytes of the whole output that counts.
    pub total_bytes: u64,
    /// The chunk to read behind.
    pub after_seq: u64,
    /// Bytes in front of the place, of those that count, behind that chunk.
    pub skip_bytes: u64,
}

/// Finds a place while one chunk after another goes by.
#[derive(Debug, Clone)]
pub struct Finder {
    place: Place,
    located: Located,
}

impl Finder {
    /// Begins in front of the first chunk.
    #[must_use]
    pub fn new(place: Place) -> Self {
        Self { place, located: Located { skip_bytes: place.offset, ..Located::default() } }
    }

    /// Counts the next chunk.
    pub fn pass(&mut self, seq: u64, stream: OutputStream, bytes: u64) {
        let Self { place, located } = self;
        if seq > place.last_seq {
            return;
        }
        let bytes = if place.stream.is_none_or(|wanted| wanted == stream) { bytes } else { 0 };
        located.total_bytes += bytes;
        if located.total_bytes <= place.offset {
            located.after_seq = seq;
            located.skip_bytes = place.offset - located.total_bytes;
        }
    }

    /// Returns where the place is. One behind the end is behind the last chunk.
    #[must_use]
    pub fn found(&self) -> Located {
        self.located
    }
}

/// How much is kept of what has ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Keep {
    /// At most as many executions; any number without it.
    pub executions: Option<u64>,
    /// At most as many bytes, as the implementation counts them: for a store on disk those that its records take there,
    /// room for more not counted.
    pub bytes: Option<u64>,
}

/// What became of an acceptance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Acceptance {
    /// The execution is new.
    New(Box<Execution>),
    /// The same principal had submitted the same under this id.
    Same(Box<Execution>),
    /// The id is taken by something else.
    Taken,
}

/// What became of a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// It is ours to run.
    Claimed(Box<Execution>),
    /// It is not `scheduled` any more.
    Refused(Box<Execution>),
}

/// What became of an ending.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finish {
    /// It was written.
    Written(Box<Execution>),
    /// There was one already; it stands.
    AlreadyEnded(Box<Execution>),
}

/// What became of a terminal update.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// The peer has it.
    Delivered,
    /// The peer refused it for good, or it could not be told in time.
    GivenUp,
}

/// Which records to list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListQuery {
    /// Only this principal's.
    pub owner: Option<String>,
    /// Only with this status.
    pub status: Option<Status>,
    /// Only accepted at or after this time.
    pub accepted_from: Option<OffsetDateTime>,
    /// Only accepted before this time.
    pub accepted_before: Option<OffsetDateTime>,
    /// Only lines that name this program.
    pub program: Option<String>,
    /// At most as many; 0 counts as 1.
    pub limit: usize,
    /// Continue behind this cursor of an earlier page.
    pub cursor: Option<String>,
}

/// A page of records.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListPage {
    /// The records, newest first.
    pub executions: Vec<Execution>,
    /// Where the next page begins, when there is one.
    pub next: Option<String>,
}

/// What a start found open.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Had been running.
    pub lost: Vec<ExecutionId>,
    /// Had been scheduled.
    pub interrupted: Vec<ExecutionId>,
}

/// Why the store could not do it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no such execution.
    #[error("no execution `{0}` is stored")]
    Unknown(ExecutionId),
    /// The request does not fit the record's state (output for an ended execution, a gap in its numbers, a
    /// cursor that is none of ours).
    #[error("the store refused {operation}: {problem}")]
    Refused {
        /// What was tried.
        operation: &'static str,
        /// Why not.
        problem: String,
    },
    /// The medium failed: nothing of the operation is there.
    #[error("the store could not {operation}")]
    Unavailable {
        /// What was tried.
        operation: &'static str,
        /// What went wrong.
        source: BoxError,
    },
}

// ------------------------------------------------------------------------------------------------- notify

/// What is told of an execution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Update {
    /// Which execution.
    pub id: ExecutionId,
    /// Where it is.
    pub status: Status,
    /// 0 to 100; 100 exactly when the status is terminal.
    pub progress: u8,
    /// Output to show: the newest lines while it runs, all of it at the end (as far as it fits).
    pub output: Option<String>,
    /// What went wrong, for a person.
    pub error: Option<String>,
    /// The span of the execution.
    pub trace: Option<TraceContext>,
}

/// Tells listeners what happened. A listener's trouble never delays an execution.
#[async_trait]
pub trait Notifier: Send + Sync {
    /// Takes a start or progress update and returns at once. Updates of one execution keep their order; a
    /// newer progress may replace an older one that has not been sent.
    fn announce(&self, update: Update);

    /// Delivers a terminal update after everything announced for the execution; nothing of it is sent
    /// afterwards. Retries until the listener has it.
    ///
    /// # Errors
    /// When the listener refused it for good.
    ///
    /// # Cancel safety
    /// Dropping the future gives the delivery up; it can be asked for again.
    async fn conclude(&self, update: Update) -> Result<(), NotifyError>;

    /// Whether anybody listens. Where nobody does, output need not be read, nor updates be made, for them.
    fn wants_updates(&self) -> bool {
        true
    }
}

/// Why a terminal update will never be delivered.
#[derive(Debug, thiserror::Error)]
#[error("the listener refused the update for good: {problem}")]
pub struct NotifyError {
    /// What it answered.
    pub problem: String,
}

// -------------------------------------------------------------------------------------------------- peers

/// Is told of each call to a peer service: for metrics. Returns at once, and never fails.
pub trait Calls: Send + Sync {
    /// Notes how a call ended, and how long it took.
    fn ended(&self, result: CallResult, took: Duration);
}

/// How a call to a peer service ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallResult {
    /// The peer did what it was asked to.
    Answered,
    /// The peer answered, and said no.
    Refused,
    /// The peer answered that it cannot now, or answered nonsense.
    Failed,
    /// There was no answer.
    Silent,
}
