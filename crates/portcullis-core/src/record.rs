use serde::{Deserialize, Serialize};
use time::{OffsetDateTime, UtcOffset};

use crate::{Confinement, Delivery, Denial, ExecutionId, Limits, Provenance, TraceContext, Usage};

/// An execution as the store keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Execution {
    /// Its id, unique in the service.
    pub id: ExecutionId,
    /// The id of the principal it belongs to.
    pub owner: String,
    /// That principal's name when it was accepted.
    pub owner_name: String,
    /// The command line as written.
    pub command: String,
    /// Digest of the whole submission: the same id with the same fingerprint is the same execution.
    pub fingerprint: Fingerprint,
    /// Names of its programs, in order.
    pub programs: Vec<String>,
    /// Names of the rules that allowed it.
    pub rules: Vec<String>,
    /// The limits in force.
    pub limits: Limits,
    /// When it was accepted.
    pub accepted_at: OffsetDateTime,
    /// Where it came from.
    pub provenance: Provenance,
    /// When its start was recorded, just before its first process; see [`Execution::began_at`].
    pub started_at: Option<OffsetDateTime>,
    /// What was in force around it, from its start on.
    pub confinement: Option<Confinement>,
    /// Where it is in its life.
    pub status: Status,
    /// Sequence number of the last stored chunk of output; 0 when there is none.
    pub last_seq: u64,
    /// Bytes of stored output, both streams.
    pub output_bytes: u64,
    /// How it ended, once it has.
    pub ending: Option<Ending>,
}

impl Execution {
    /// Returns the span of this execution in the trace that it was submitted in.
    #[must_use]
    pub fn trace(&self) -> Option<TraceContext> {
        self.provenance.trace.as_ref().map(|submitted| submitted.child_named(self.id.as_str()))
    }

    /// Returns when it began to run. An execution that was claimed, and of which then no process started, never
    /// did: it used nothing, and was not lost either.
    #[must_use]
    pub fn began_at(&self) -> Option<OffsetDateTime> {
        let never = |ending: &Ending| ending.usage.is_none() && ending.reason != Reason::ServiceDied;
        self.started_at.filter(|_| !self.ending.as_ref().is_some_and(never))
    }
}

/// What is known of an execution when it is accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewExecution {
    /// Its id.
    pub id: ExecutionId,
    /// The principal's id.
    pub owner: String,
    /// The principal's name.
    pub owner_name: String,
    /// The command line as written.
    pub command: String,
    /// Digest of the whole submission.
    pub fingerprint: Fingerprint,
    /// Names of its programs, in order.
    pub programs: Vec<String>,
    /// Names of the rules that allowed it.
    pub rules: Vec<String>,
    /// The limits in force.
    pub limits: Limits,
    /// When it was accepted.
    pub accepted_at: OffsetDateTime,
    /// Where it came from.
    pub provenance: Provenance,
    /// How it starts, when it is not to wait: then its record says `running` from the first moment.
    pub start: Option<Start>,
}

impl NewExecution {
    /// Returns the record that it has when it is accepted.
    #[must_use]
    pub fn into_execution(self) -> Execution {
        let (started_at, confinement) = self.start.map(|start| (start.at, start.confinement)).unzip();
        Execution {
            id: self.id,
            owner: self.owner,
            owner_name: self.owner_name,
            command: self.command,
            fingerprint: self.fingerprint,
            programs: self.programs,
            rules: self.rules,
            limits: self.limits,
            accepted_at: self.accepted_at.to_offset(UtcOffset::UTC),
            provenance: self.provenance,
            status: if started_at.is_some() { Status::Running } else { Status::Scheduled },
            started_at: started_at.map(|at| at.to_offset(UtcOffset::UTC)),
            confinement,
            last_seq: 0,
            output_bytes: 0,
            ending: None,
        }
    }
}

/// What is recorded of a start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start {
    /// When it was decided; before any process starts.
    pub at: OffsetDateTime,
    /// What is in force around it.
    pub confinement: Confinement,
}

/// How an execution is closed: all of it is written, or nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closing {
    /// How it ended.
    pub ending: Ending,
    /// The last of its output, which follows what is stored.
    pub output: Vec<OutputChunk>,
    /// What became of its terminal update already; `None` while somebody is to be told.
    pub delivery: Option<Delivery>,
}

impl From<Ending> for Closing {
    /// Closes with this ending, no further output, and an update that is to be told.
    fn from(ending: Ending) -> Self {
        Self { ending, output: Vec::new(), delivery: None }
    }
}

/// The terminal part of a record; written once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    /// A terminal status.
    pub status: Status,
    /// Why.
    pub reason: Reason,
    /// The exit code, when the line ended by itself.
    pub exit_code: Option<i32>,
    /// The signal that ended the last command, when one did.
    pub signal: Option<i32>,
    /// When it ended; never before it started.
    pub ended_at: OffsetDateTime,
    /// What it used, when it ran.
    pub usage: Option<Usage>,
    /// Whether output was cut at its limit.
    pub truncated: bool,
    /// One sentence for a person: what failed, when something did.
    pub message: Option<String>,
}

/// Where an execution is in its life, as on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Accepted, waiting for a cell.
    Scheduled,
    /// Started.
    Running,
    /// Ended by itself with exit code 0.
    Completed,
    /// Ended by itself with something else, by a limit other than time, or never started.
    Failed,
    /// Ended because its principal asked.
    Cancelled,
    /// Ended at its time limit.
    Timeout,
    /// The service that ran it died; what it had done is unknown, and it is never run again.
    Lost,
}

impl Status {
    /// Whether nothing follows.
    #[must_use]
    pub fn is_terminal(self) -> bool {
        !matches!(self, Self::Scheduled | Self::Running)
    }

    /// Returns the word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Scheduled => "scheduled",
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Timeout => "timeout",
            Self::Lost => "lost",
        }
    }

    /// Reads a word on the wire.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        use Status::{Cancelled, Completed, Failed, Lost, Running, Scheduled, Timeout};
        [Scheduled, Running, Completed, Failed, Cancelled, Timeout, Lost]
            .into_iter()
            .find(|s| s.as_str() == text)
    }
}

/// Why an execution ended, as on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// By itself; the exit code says how.
    Exit,
    /// By a signal that was not ours.
    Signal,
    /// At its wall-clock limit.
    TimeLimit,
    /// At its CPU limit.
    CpuLimit,
    /// At its memory limit.
    MemoryLimit,
    /// It failed after it was refused a process.
    ProcessLimit,
    /// At its output limit.
    OutputLimit,
    /// At the limit of a file's size.
    FileSizeLimit,
    /// Its principal cancelled it.
    Cancelled,
    /// The service shut down while it ran.
    Shutdown,
    /// No process of it ever ran; the message says which step failed.
    StartFailed,
    /// The service ended while it was only scheduled.
    Interrupted,
    /// The service, or the cell, died while it ran.
    ServiceDied,
}

impl Reason {
    /// Every reason there is.
    pub const ALL: [Self; 13] = [
        Self::Exit,
        Self::Signal,
        Self::TimeLimit,
        Self::CpuLimit,
        Self::MemoryLimit,
        Self::ProcessLimit,
        Self::OutputLimit,
        Self::FileSizeLimit,
        Self::Cancelled,
        Self::Shutdown,
        Self::StartFailed,
        Self::Interrupted,
        Self::ServiceDied,
    ];

    /// Returns the word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Exit => "exit",
            Self::Signal => "signal",
            Self::TimeLimit => "time_limit",
            Self::CpuLimit => "cpu_limit",
            Self::MemoryLimit => "memory_limit",
            Self::ProcessLimit => "process_limit",
            Self::OutputLimit => "output_limit",
            Self::FileSizeLimit => "file_size_limit",
            Self::Cancelled => "cancelled",
            Self::Shutdown => "shutdown",
            Self::StartFailed => "start_failed",
            Self::Interrupted => "interrupted",
            Self::ServiceDied => "service_died",
        }
    }

    /// Reads a word on the wire.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == text)
    }
}

/// A piece of output, in the order in which the service received it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputChunk {
    /// 1, 2, 3, … within its execution, without a gap: the position to resume from.
    pub seq: u64,
    /// Which stream.
    pub stream: OutputStream,
    /// When it was received.
    pub at: OffsetDateTime,
    /// The bytes, never none.
    pub bytes: Vec<u8>,
}

/// A stream of output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OutputStream {
    /// Descriptor 1.
    Stdout,
    /// Descriptor 2.
    Stderr,
}

impl OutputStream {
    /// Returns the word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// SHA-256 over a submission in its canonical form.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Fingerprint(pub [u8; 32]);

/// The audit record of a refused submission: no process, no execution, no claim on its id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// When.
    pub at: OffsetDateTime,
    /// The principal's id.
    pub principal: String,
    /// The principal's name.
    pub principal_name: String,
    /// The id that the caller had chosen, if any.
    pub execution_id: Option<ExecutionId>,
    /// The command line as written.
    pub command: String,
    /// Why.
    pub denial: Denial,
    /// Where it came from.
    pub provenance: Provenance,
}
