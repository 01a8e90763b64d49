use std::time::Duration;

use portcullis_core::{
    CgroupVersion, Confinement, Execution, ExecutionId, Level, Limits, OutputStream, Reason, Status, Usage,
};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::{OutputText, Timestamp};

/// The record of an execution, as the API shows it. All members are always present; what is not known, or
/// not known yet, is `null`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExecutionView {
    /// Its id.
    pub execution_id: ExecutionId,
    /// Where it is in its life.
    pub status: Status,
    /// The command line as written.
    pub command: String,
    /// Both streams in order of arrival, without the last newline; `null` before it starts, in lists and in events.
    pub output: Option<String>,
    /// The exit code, when the line ended by itself.
    pub exit_code: Option<i32>,
    /// When it began: the service's clock, just before its first process; `null` when none ever started.
    pub start_time: Option<Timestamp>,
    /// When it ended: the service's clock, after its last process.
    pub end_time: Option<Timestamp>,
    /// Why it ended.
    pub reason: Option<Reason>,
    /// Standard output as text; `null` where `output` is.
    pub stdout: Option<String>,
    /// Standard error as text; `null` where `output` is.
    pub stderr: Option<String>,
    /// The signal that ended its last command, when one did.
    pub signal: Option<i32>,
    /// 0 to 100: the part of its time that has passed; 100 exactly when it has ended.
    pub progress: u8,
    /// Whether the command's output was cut at its limit.
    pub truncated: bool,
    /// Bytes of output that are stored, both streams.
    pub output_bytes: u64,
    /// How many of them, the last ones, this view leaves out of its texts; `GET …/output` has them all.
    pub output_omitted_bytes: u64,
    /// What it used, once it has ended.
    pub usage: Option<UsageView>,
    /// What was in force around it, once it has started.
    pub confinement: Option<ConfinementView>,
    /// The limits in force.
    pub limits: LimitsView,
    /// Name of the user it belongs to.
    pub user: String,
    /// When it was accepted.
    pub accepted_at: Timestamp,
    /// One sentence for a person: what failed, when something did.
    pub message: Option<String>,
    /// Names of the rules that allowed it.
    pub rules: Vec<String>,
    /// Names of its programs.
    pub programs: Vec<String>,
}

impl ExecutionView {
    /// Writes a record without its output, as events carry it.
    #[must_use]
    pub fn without_output(execution: &Execution, now: OffsetDateTime) -> Self {
        let ending = execution.ending.as_ref();
        Self {
            execution_id: execution.id.clone(),
            status: execution.status,
            command: execution.command.clone(),
            output: None,
            exit_code: ending.and_then(|ending| ending.exit_code),
            start_time: execution.began_at().map(Timestamp),
            end_time: ending.map(|ending| Timestamp(ending.ended_at)),
            reason: ending.map(|ending| ending.reason),
            stdout: None,
            stderr: None,
            signal: ending.and_then(|ending| ending.signal),
            progress: progress(execution, now),
            truncated: ending.is_some_and(|ending| ending.truncated),
            output_bytes: execution.output_bytes,
            output_omitted_bytes: 0,
            usage: ending.and_then(|ending| ending.usage.as_ref()).map(UsageView::from),
            confinement: execution.confinement.as_ref().map(ConfinementView::from),
            limits: LimitsView::from(&execution.limits),
            user: execution.owner_name.clone(),
            accepted_at: Timestamp(execution.accepted_at),
            message: ending.and_then(|ending| ending.message.clone()),
            rules: execution.rules.clone(),
            programs: execution.programs.clone(),
        }
    }

    /// Adds output to a record that has started, and says how many bytes of it are left out.
    #[must_use]
    pub fn with_output(mut self, text: &OutputText, omitted_bytes: u64) -> Self {
        if self.start_time.is_some() || self.output_bytes > 0 || self.status.is_terminal() {
            self.output = Some(text.output().to_owned());
            self.stdout = Some(text.stream(OutputStream::Stdout).to_owned());
            self.stderr = Some(text.stream(OutputStream::Stderr).to_owned());
            self.output_omitted_bytes = omitted_bytes;
        }
        self
    }
}

/// The exit code that stands for an end at the time limit: that of timeout(1).
const SHELL_TIMEOUT: u8 = 124;
/// The exit code that stands for what never ran, or ended nobody knows how.
const SHELL_FAILED: u8 = 125;

impl ExecutionView {
    /// Returns one number for how it ended, as a shell does: the command's own exit code; 128 + n for signal n; 124 at
    /// the time limit; 130 when it was cancelled; 125 when it never ran, has not ended, or nobody knows how it ended.
    #[must_use]
    pub fn shell_code(&self) -> u8 {
        use Reason::{
            CpuLimit, FileSizeLimit, Interrupted, MemoryLimit, OutputLimit, ProcessLimit, ServiceDied,
            Shutdown, StartFailed,
        };
        let code = match (self.status, self.reason) {
            (Status::Timeout, _) => return SHELL_TIMEOUT,
            (Status::Cancelled, _) => 130,
            (Status::Lost, _) | (_, Some(StartFailed | Interrupted | Shutdown | ServiceDied)) => {
                return SHELL_FAILED;
            }
            (_, reason) => match (self.exit_code, self.signal, reason) {
                (Some(code), _, _) => code,
                (None, Some(signal), _) => 128 + signal,
                // SIGXCPU, SIGXFSZ and SIGKILL, which is what these limits end by.
                (None, None, Some(CpuLimit)) => 128 + 24,
                (None, None, Some(FileSizeLimit)) => 128 + 25,
                (None, None, Some(MemoryLimit | OutputLimit | ProcessLimit)) => 128 + 9,
                (None, None, _) => return SHELL_FAILED,
            },
        };
        u8::try_from(code).unwrap_or(SHELL_FAILED)
    }
}

/// A page of a caller's executions: the answer of `GET /api/commands`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecutionList {
    /// The records without their output, newest first.
    pub executions: Vec<ExecutionView>,
    /// What to send as `cursor` for the page behind this one; `null` when there is none.
    #[serde(default)]
    pub next: Option<String>,
}

/// Returns 0 before the start, then the percentage of the time limit that has passed, from 1 to 99, and 100
/// at the end.
fn progress(execution: &Execution, now: OffsetDateTime) -> u8 {
    match (execution.status, execution.started_at) {
        (status, _) if status.is_terminal() => 100,
        (Status::Running, Some(started)) => {
            let passed = Duration::try_from(now - started).unwrap_or_default().as_millis();
            let whole = execution.limits.wall_time.as_millis().max(1);
            u8::try_from((passed.saturating_mul(100) / whole).clamp(1, 99)).unwrap_or(99)
        }
        (Status::Running, None) => 1,
        _ => 0,
    }
}

/// What an execution used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UsageView {
    /// CPU time of all its processes, in milliseconds.
    pub cpu_time_ms: u64,
    /// The most memory it held at once; `null` where the host does not count it.
    pub peak_memory_bytes: Option<u64>,
    /// Time from its first process to its last one's end, as the cell measured it, in milliseconds.
    pub wall_time_ms: u64,
}

impl From<&Usage> for UsageView {
    fn from(usage: &Usage) -> Self {
        Self {
            cpu_time_ms: milliseconds(usage.cpu_time),
            peak_memory_bytes: usage.peak_memory_bytes,
            wall_time_ms: milliseconds(usage.wall_time),
        }
    }
}

/// What was in force around an execution.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConfinementView {
    /// The level as a whole.
    pub level: Level,
    /// Landlock's ABI, where the kernel has it.
    pub landlock_abi: Option<u32>,
    /// Which cgroups limit the tree, where they do.
    pub cgroup: Option<CgroupVersion>,
    /// What the level does not hold on this host, in words.
    pub weaker: Vec<String>,
}

impl From<&Confinement> for ConfinementView {
    fn from(confinement: &Confinement) -> Self {
        Self {
            level: confinement.level,
            landlock_abi: confinement.landlock_abi,
            cgroup: confinement.cgroup,
            weaker: confinement.weaker.clone(),
        }
    }
}

/// The limits of an execution.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LimitsView {
    /// Time from start to end, in milliseconds.
    pub wall_time_ms: u64,
    /// CPU time of all processes, in milliseconds.
    pub cpu_time_ms: u64,
    /// Memory.
    pub memory_bytes: u64,
    /// Processes and threads at once.
    pub processes: u32,
    /// Open files of one process.
    pub open_files: u32,
    /// Size of one file.
    pub file_size_bytes: u64,
    /// Size of the workspace, and of `/tmp`, each.
    pub disk_bytes: u64,
    /// Output, both streams together.
    pub output_bytes: u64,
    /// Time between the friendly signal and the deadly one, in milliseconds.
    pub grace_period_ms: u64,
}

impl From<&Limits> for LimitsView {
    fn from(limits: &Limits) -> Self {
        Self {
            wall_time_ms: milliseconds(limits.wall_time),
            cpu_time_ms: milliseconds(limits.cpu_time),
            memory_bytes: limits.memory_bytes,
            processes: limits.processes,
            open_files: limits.open_files,
            file_size_bytes: limits.file_size_bytes,
            disk_bytes: limits.disk_bytes,
            output_bytes: limits.output_bytes,
            grace_period_ms: milliseconds(limits.grace_period),
        }
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use portcullis_core::{Ending, Fingerprint, Provenance};
    use time::macros::datetime;

    use super::*;

    fn scheduled() -> Execution {
        Execution {
            id: ExecutionId::parse("test-123").unwrap(),
            owner: "1".into(),
            owner_name: "admin".into(),
            command: "echo 'Hello, World!'".into(),
            fingerprint: Fingerprint([0; 32]),
            programs: vec!["echo".into()],
            rules: vec!["base".into()],
            limits: Limits::default(),
            accepted_at: datetime!(2025-03-25 16:00:00 UTC),
            provenance: Provenance::default(),
            started_at: None,
            confinement: None,
            status: Status::Scheduled,
            last_seq: 0,
            output_bytes: 0,
            ending: None,
        }
    }

    #[test]
    fn members_are_present_from_the_beginning() {
        let view = ExecutionView::without_output(&scheduled(), datetime!(2025-03-25 16:00:01 UTC));
        let json = serde_json::to_value(view.with_output(&OutputText::default(), 0)).unwrap();
        for member in ["output", "exitCode", "startTime", "endTime", "reason", "stdout", "signal", "usage"] {
            assert_eq!(json.get(member), Some(&serde_json::Value::Null), "{member}");
        }
        assert_eq!(json["executionId"], "test-123");
        assert_eq!(json["status"], "scheduled");
        assert_eq!(json["progress"], 0);
        assert_eq!(json["acceptedAt"], "2025-03-25T16:00:00.000Z");
    }

    #[test]
    fn progress_is_the_part_of_the_time_limit_that_has_passed() {
        let mut execution = scheduled();
        execution.status = Status::Running;
        execution.started_at = Some(datetime!(2025-03-25 16:00:00 UTC));
        for (now, wanted) in [
            (datetime!(2025-03-25 15:59:00 UTC), 1),
            (datetime!(2025-03-25 16:00:00 UTC), 1),
            (datetime!(2025-03-25 16:00:30 UTC), 50),
            (datetime!(2025-03-25 16:30:00 UTC), 99),
        ] {
            assert_eq!(progress(&execution, now), wanted, "{now}");
        }
    }

    #[test]
    fn what_never_ran_has_no_start_time() {
        let mut execution = scheduled();
        execution.started_at = Some(datetime!(2025-03-25 16:00:00 UTC));
        for (status, reason, ran, wanted) in [
            (Status::Failed, Reason::StartFailed, false, false),
            (Status::Cancelled, Reason::Cancelled, false, false),
            (Status::Cancelled, Reason::Cancelled, true, true),
            (Status::Failed, Reason::Exit, true, true),
            (Status::Lost, Reason::ServiceDied, false, true),
        ] {
            execution.status = status;
            execution.ending = Some(Ending {
                status,
                reason,
                exit_code: None,
                signal: None,
                ended_at: datetime!(2025-03-25 16:00:01 UTC),
                usage: ran.then(Usage::default),
                truncated: false,
                message: None,
            });
            let view = ExecutionView::without_output(&execution, datetime!(2025-03-25 17:00:00 UTC));
            assert_eq!(view.start_time.is_some(), wanted, "{reason:?} {ran}");
        }
    }

    #[test]
    fn an_ended_record_survives_the_wire() {
        let mut execution = scheduled();
        execution.status = Status::Completed;
        execution.started_at = Some(datetime!(2025-03-25 16:00:00 UTC));
        execution.ending = Some(Ending {
            status: Status::Completed,
            reason: Reason::Exit,
            exit_code: Some(0),
            signal: None,
            ended_at: datetime!(2025-03-25 16:00:01 UTC),
            usage: Some(Usage::default()),
            truncated: false,
            message: None,
        });
        let view = ExecutionView::without_output(&execution, datetime!(2025-03-25 17:00:00 UTC))
            .with_output(&OutputText::default(), 0);
        assert_eq!((view.progress, view.output.as_deref(), view.exit_code), (100, Some(""), Some(0)));
        let back: ExecutionView = serde_json::from_str(&serde_json::to_string(&view).unwrap()).unwrap();
        assert_eq!(back, view);
    }
}
