//! What callers of the earlier service send and read, and what its agents' client does.

use portcullis_core::{ExecutionId, Reason, Status};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::json::kind;
use crate::submit::{Members, here};
use crate::{ExecutionView, InvalidMember, ReadError, SubmitRequest, Timestamp};

/// What a caller sends to `POST /api/commands/execute`, and to routes that judge or run for callers of another service:
/// a submission, and beside it members that bound nothing here, since bounds come from the rules and never from a
/// request. Members that are not known are passed over.
#[derive(Debug, Clone, PartialEq)]
pub struct ExecuteRequest {
    /// The submission.
    pub submit: SubmitRequest,
    /// Names of the members that asked for something and have no effect.
    pub ignored: Vec<String>,
}

impl ExecuteRequest {
    /// Reads a body; members that are known must be what they should be.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn read(body: &[u8]) -> Result<Self, ReadError> {
        let mut members = Members::read(body)?;
        let submit = SubmitRequest::take(&mut members);
        let asked = [
            ("network_access", members.optional("network_access", boolean)),
            ("allowed_paths", members.optional("allowed_paths", paths)),
            ("memory_limit", members.optional("memory_limit", megabytes)),
        ];
        let ignored = asked.into_iter().filter(|(_, asked)| *asked == Some(true));
        let ignored = ignored.map(|(name, _)| name.to_owned()).collect();
        members.finish().map(|_unknown| Self { submit, ignored })
    }
}

/// Whether the network is asked for.
fn boolean(value: Value) -> Result<bool, InvalidMember> {
    value.as_bool().map_or_else(|| here(format!("is {}; `true` or `false` is accepted", kind(&value))), Ok)
}

/// Whether there are any paths.
fn paths(value: Value) -> Result<bool, InvalidMember> {
    let Value::Array(paths) = value else {
        return here(format!("is {}; an array of strings is accepted", kind(&value)));
    };
    match paths.iter().enumerate().find(|(_, path)| !path.is_string()) {
        Some((at, path)) => {
            let detail = format!("is {}; a string is accepted", kind(path));
            Err(InvalidMember::new(format!("/{at}"), detail))
        }
        None => Ok(!paths.is_empty()),
    }
}

/// Whether there is a limit.
fn megabytes(value: Value) -> Result<bool, InvalidMember> {
    let accepted = "whole megabytes from 0, which is none, are accepted";
    // JSON knows no whole numbers of its own: `512.0` is one.
    match (value.as_f64(), &value) {
        (Some(megabytes), _) if megabytes >= 0.0 && megabytes.fract() == 0.0 => Ok(megabytes > 0.0),
        (_, Value::Number(number)) => here(format!("is {number}; {accepted}")),
        (_, other) => here(format!("is {}; {accepted}", kind(other))),
    }
}

/// The answer of `POST /api/commands/execute`: what the callers which exist read, and what tells them more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecuteResponse {
    /// 0 when it ended well; see [`ExecutionView::shell_code`].
    pub exit_code: u8,
    /// Standard output as text.
    pub stdout: String,
    /// Standard error as text.
    pub stderr: String,
    /// Time from its first process to its last one's end, in milliseconds; 0 when none ever started.
    pub duration_ms: u64,
    /// The execution's id, under which its record is kept.
    pub execution_id: ExecutionId,
    /// How it ended.
    pub status: Status,
    /// Why.
    pub reason: Option<Reason>,
    /// One sentence when something failed.
    pub message: Option<String>,
    /// Whether its output was cut at its limit.
    pub truncated: bool,
    /// How many bytes of its output the texts leave out.
    pub output_omitted_bytes: u64,
    /// Names of the members of the request that had no effect.
    pub ignored: Vec<String>,
}

impl ExecuteResponse {
    /// Writes the record of an execution that has ended, with its output.
    #[must_use]
    pub fn of(record: ExecutionView, ignored: Vec<String>) -> Self {
        Self {
            exit_code: record.shell_code(),
            duration_ms: record.usage.as_ref().map_or(0, |usage| usage.wall_time_ms),
            stdout: record.stdout.unwrap_or_default(),
            stderr: record.stderr.unwrap_or_default(),
            execution_id: record.execution_id,
            status: record.status,
            reason: record.reason,
            message: record.message,
            truncated: record.truncated,
            output_omitted_bytes: record.output_omitted_bytes,
            ignored,
        }
    }
}

/// The states of an execution as the earlier service and its callers spell them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum EarlierStatus {
    /// `scheduled`
    Queued,
    /// `running`
    Running,
    /// `completed`
    Completed,
    /// Every other end: `failed`, `timeout`, `lost`.
    Failed,
    /// `cancelled`; those who wait for it know one l.
    Canceled,
}

impl From<Status> for EarlierStatus {
    fn from(status: Status) -> Self {
        match status {
            Status::Scheduled => Self::Queued,
            Status::Running => Self::Running,
            Status::Completed => Self::Completed,
            Status::Cancelled => Self::Canceled,
            Status::Failed | Status::Timeout | Status::Lost => Self::Failed,
        }
    }
}

/// The answer of `POST /api/execute`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EarlierSubmitted {
    /// The execution's id, which the service made.
    pub execution_id: ExecutionId,
    /// `queued`
    pub status: EarlierStatus,
    /// One sentence for a person.
    pub message: String,
}

impl EarlierSubmitted {
    /// Answers a submission that was accepted.
    #[must_use]
    pub fn of(execution_id: ExecutionId) -> Self {
        Self { execution_id, status: EarlierStatus::Queued, message: "the command has been accepted".into() }
    }
}

/// The answer of `GET /api/execution/:id` and `POST /api/execution/:id/cancel`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EarlierView {
    /// The execution's id.
    pub execution_id: ExecutionId,
    /// Where it is in its life.
    pub status: EarlierStatus,
    /// The command line as written.
    pub command: String,
    /// 0 to 100; 100 exactly when it has ended.
    pub progress: u8,
    /// Standard output without the last newline; `null` before the start.
    pub output: Option<String>,
    /// What went wrong: standard error, or what the service knows; `null` when nothing did, or not yet.
    pub error: Option<String>,
    /// The exit code, when the line ended by itself.
    pub exit_code: Option<i32>,
    /// When it began.
    pub start_time: Option<Timestamp>,
    /// When it ended.
    pub end_time: Option<Timestamp>,
}

impl From<ExecutionView> for EarlierView {
    fn from(record: ExecutionView) -> Self {
        let error = error(&record);
        Self {
            execution_id: record.execution_id,
            status: record.status.into(),
            command: record.command,
            progress: record.progress,
            output: record.stdout.map(|text| text.strip_suffix('\n').map(str::to_owned).unwrap_or(text)),
            error,
            exit_code: record.exit_code,
            start_time: record.start_time,
            end_time: record.end_time,
        }
    }
}

/// Says what went wrong, in the earlier service's words where it had some.
fn error(record: &ExecutionView) -> Option<String> {
    match record.status {
        Status::Scheduled | Status::Running | Status::Completed => None,
        Status::Timeout => Some("Execution timed out".into()),
        Status::Cancelled => Some("Execution cancelled by user".into()),
        Status::Failed | Status::Lost => {
            let written = record.stderr.as_deref().map(str::trim_end).filter(|text| !text.is_empty());
            let known =
                record.message.clone().or_else(|| Some(format!("it ended: {}", record.reason?.as_str())));
            written.map(str::to_owned).or(known)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(members: &str, wanted: &str) {
        let body = format!(r#"{{"command":"ls"{members}}}"#);
        let shown = match ExecuteRequest::read(body.as_bytes()) {
            Ok(request) => request.ignored.join(" "),
            Err(error) => error.to_string(),
        };
        assert_eq!(shown, wanted, "{members}");
    }

    #[test]
    fn what_bounds_nothing_is_named_when_it_asks_for_something() {
        check("", "");
        check(r#","network_access":false,"allowed_paths":[],"memory_limit":0,"session":"x""#, "");
        check(r#","network_access":null,"allowed_paths":null,"memory_limit":null"#, "");
        check(r#","memory_limit":512.0"#, "memory_limit");
        check(
            r#","network_access":true,"allowed_paths":["/"],"memory_limit":512"#,
            "network_access allowed_paths memory_limit",
        );
    }

    #[test]
    fn what_is_known_and_wrong_is_named_with_what_is_accepted() {
        check(r#","network_access":"no""#, "`/network_access` is a string; `true` or `false` is accepted");
        check(r#","allowed_paths":"/srv""#, "`/allowed_paths` is a string; an array of strings is accepted");
        check(r#","allowed_paths":["/srv",7]"#, "`/allowed_paths/1` is a number; a string is accepted");
        check(
            r#","memory_limit":-1"#,
            "`/memory_limit` is -1; whole megabytes from 0, which is none, are accepted",
        );
        check(
            r#","memory_limit":1.5"#,
            "`/memory_limit` is 1.5; whole megabytes from 0, which is none, are accepted",
        );
        check(
            r#","memory_limit":"512M""#,
            "`/memory_limit` is a string; whole megabytes from 0, which is none, are accepted",
        );
    }
}
