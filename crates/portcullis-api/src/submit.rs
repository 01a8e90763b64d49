use std::collections::BTreeMap;
use std::time::Duration;

use portcullis_core::{ExecutionId, Provenance, Status, Submission};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::json::{kind, member, read_object};
use crate::{InvalidMember, ReadError};

/// What a caller sends to `POST /api/commands`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SubmitRequest {
    /// The command line.
    pub command: String,
    /// The id that the execution is to have; without it, the service makes one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub execution_id: Option<ExecutionId>,
    /// A limit on its time in seconds, below the service's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<f64>,
    /// What the first command reads; without it, nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdin: Option<String>,
    /// Variables for the commands; only names that the rulebook allows.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Where the line starts: absolute, or relative to the workspace; never outside it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub working_directory: Option<String>,
}

/// The longest command line, in bytes.
const COMMAND_LIMIT_BYTES: usize = 64 * 1024;
/// The longest path of a working directory, in bytes: `PATH_MAX` of Linux, with its final NUL.
const PATH_LIMIT_BYTES: usize = 4095;
/// The longest time that can be asked for: a year of seconds.
const TIMEOUT_LIMIT_SECONDS: f64 = 31_536_000.0;
const MEMBERS: [&str; 6] = ["command", "executionId", "timeout", "stdin", "env", "workingDirectory"];

impl SubmitRequest {
    /// Returns a request to run this command line and nothing else.
    pub fn of(command: impl Into<String>) -> Self {
        Self { command: command.into(), ..Self::default() }
    }

    /// Reads a body, strictly: every member that is wrong or not known is named by its JSON Pointer.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn read(body: &[u8]) -> Result<Self, ReadError> {
        let mut members = Members::read(body)?;
        let request = Self::take(&mut members);
        let known = MEMBERS.join("`, `");
        let unknown = members.object.keys().map(|name| {
            InvalidMember::new(member("", name), format!("is not a member; known are `{known}`"))
        });
        members.wrong.extend(unknown);
        members.finish().map(|_none_left| request)
    }

    /// Takes the members of a submission out of an object.
    pub(crate) fn take(members: &mut Members) -> Self {
        Self {
            command: members.required("command", command),
            execution_id: members.optional("executionId", execution_id),
            timeout: members.optional("timeout", timeout),
            stdin: members.optional("stdin", string),
            env: members.optional("env", env).unwrap_or_default(),
            working_directory: members.optional("workingDirectory", working_directory),
        }
    }

    /// Splits the request into the id that was chosen, if any, and what is to run.
    #[must_use]
    pub fn into_submission(self) -> (Option<ExecutionId>, Submission) {
        let submission = Submission {
            command: self.command,
            timeout: self.timeout.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()),
            stdin: self.stdin,
            env: self.env,
            working_directory: self.working_directory,
            provenance: Provenance::default(),
        };
        (self.execution_id, submission)
    }
}

/// The answer to a submission that was accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SubmitResponse {
    /// The execution's id.
    pub execution_id: ExecutionId,
    /// `scheduled` for a new execution; where it is by now for one that was submitted before.
    pub status: Status,
}

/// Takes members out of an object one by one, and gathers what is wrong with them.
pub(crate) struct Members {
    object: Map<String, Value>,
    wrong: Vec<InvalidMember>,
}

impl Members {
    pub(crate) fn read(body: &[u8]) -> Result<Self, ReadError> {
        Ok(Self { object: read_object(body)?, wrong: Vec::new() })
    }

    /// Returns what was not taken, when nothing was wrong.
    pub(crate) fn finish(self) -> Result<Map<String, Value>, ReadError> {
        if self.wrong.is_empty() { Ok(self.object) } else { Err(ReadError::Invalid(self.wrong)) }
    }

    /// Takes a member that may be left out, or be `null`, which is the same.
    pub(crate) fn optional<T>(
        &mut self,
        name: &str,
        read: impl FnOnce(Value) -> Result<T, InvalidMember>,
    ) -> Option<T> {
        let value = self.object.remove(name).filter(|value| !value.is_null())?;
        match read(value) {
            Ok(value) => Some(value),
            Err(InvalidMember { pointer, detail }) => {
                self.wrong.push(InvalidMember::new(member("", name) + &pointer, detail));
                None
            }
        }
    }

    /// Takes a member that must be there. What it returns when it is not is never used.
    fn required<T: Default>(
        &mut self,
        name: &str,
        read: impl FnOnce(Value) -> Result<T, InvalidMember>,
    ) -> T {
        if self.object.get(name).is_none_or(Value::is_null) {
            self.wrong.push(InvalidMember::new(member("", name), "is missing; it is required"));
        }
        self.optional(name, read).unwrap_or_default()
    }
}

/// Says what is wrong with a member itself, not with something inside it.
pub(crate) fn here<T>(detail: impl Into<String>) -> Result<T, InvalidMember> {
    Err(InvalidMember::new("", detail))
}

fn string(value: Value) -> Result<String, InvalidMember> {
    match value {
        Value::String(text) => Ok(text),
        other => here(format!("is {}; a string is accepted", kind(&other))),
    }
}

fn string_without_nul(value: Value) -> Result<String, InvalidMember> {
    let text = string(value)?;
    match text.find('\0') {
        Some(at) => here(format!("holds a NUL character at byte {at}")),
        None => Ok(text),
    }
}

fn command(value: Value) -> Result<String, InvalidMember> {
    let text = string_without_nul(value)?;
    match text.len() {
        _ if text.trim().is_empty() => here("is empty; a command line is required"),
        0..=COMMAND_LIMIT_BYTES => Ok(text),
        bytes => here(format!("has {bytes} bytes; at most {COMMAND_LIMIT_BYTES} are accepted")),
    }
}

fn execution_id(value: Value) -> Result<ExecutionId, InvalidMember> {
    ExecutionId::parse(&string(value)?).or_else(|error| here(format!("is an {error}")))
}

fn timeout(value: Value) -> Result<f64, InvalidMember> {
    let accepted = format!("accepted are seconds above 0 and up to {TIMEOUT_LIMIT_SECONDS}");
    match value.as_f64() {
        // A millisecond is the least that the record can show.
        Some(seconds) if (0.001..=TIMEOUT_LIMIT_SECONDS).contains(&seconds) => Ok(seconds),
        Some(seconds) => here(format!("is {seconds}; {accepted}")),
        None => here(format!("is {}; {accepted}", kind(&value))),
    }
}

fn env(value: Value) -> Result<BTreeMap<String, String>, InvalidMember> {
    let Value::Object(object) = value else {
        return here(format!("is {}; an object of strings is accepted", kind(&value)));
    };
    object
        .into_iter()
        .map(|(name, value)| {
            let pointer = member("", &name);
            // POSIX.1-2024, XBD 8.1: a name holds neither `=` nor NUL. Which names may be set is the policy's to say.
            if name.is_empty() || name.contains(['=', '\0']) {
                return Err(InvalidMember::new(pointer, "is not the name of a variable"));
            }
            match string_without_nul(value) {
                Ok(text) => Ok((name, text)),
                Err(wrong) => Err(InvalidMember { pointer, ..wrong }),
            }
        })
        .collect()
}

fn working_directory(value: Value) -> Result<String, InvalidMember> {
    let text = string_without_nul(value)?;
    match text.len() {
        0 => here("is empty; a path is accepted"),
        1..=PATH_LIMIT_BYTES => Ok(text),
        bytes => here(format!("has {bytes} bytes; at most {PATH_LIMIT_BYTES} are accepted")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> Result<SubmitRequest, ReadError> {
        SubmitRequest::read(body.as_bytes())
    }

    #[test]
    fn a_request_reads_as_it_was_written() {
        let request = SubmitRequest {
            command: "cat > note".into(),
            execution_id: Some(ExecutionId::parse("test-123").unwrap()),
            timeout: Some(2.5),
            stdin: Some("a\0b".into()),
            env: BTreeMap::from([("LANG".into(), "C".into())]),
            working_directory: Some("sub".into()),
        };
        let body = serde_json::to_string(&request).unwrap();
        assert_eq!(read(&body), Ok(request.clone()));
        let (id, submission) = request.into_submission();
        assert_eq!(id.unwrap().as_str(), "test-123");
        assert_eq!(submission.timeout, Some(Duration::from_millis(2500)));
    }

    #[test]
    fn null_counts_as_left_out() {
        let body = r#"{"command":"ls","executionId":null,"timeout":null,"stdin":null,"env":null}"#;
        assert_eq!(read(body), Ok(SubmitRequest::of("ls")));
    }

    #[track_caller]
    fn check(body: &str, wanted: &str) {
        assert_eq!(read(body).unwrap_err().to_string(), wanted, "{body}");
    }

    #[test]
    fn what_is_wrong_is_named_with_what_is_accepted() {
        check("{}", "`/command` is missing; it is required");
        check(r#"{"command":null}"#, "`/command` is missing; it is required");
        check(r#"{"command":7}"#, "`/command` is a number; a string is accepted");
        check(r#"{"command":" \n"}"#, "`/command` is empty; a command line is required");
        check(r#"{"command":"ls\u0000"}"#, "`/command` holds a NUL character at byte 2");
        check(r#"{"command":"ls","stdin":[]}"#, "`/stdin` is an array; a string is accepted");
        check(
            r#"{"command":"ls","timeout":0}"#,
            "`/timeout` is 0; accepted are seconds above 0 and up to 31536000",
        );
        check(
            r#"{"command":"ls","timeout":"10"}"#,
            "`/timeout` is a string; accepted are seconds above 0 and up to 31536000",
        );
        check(r#"{"command":"ls","env":["A=1"]}"#, "`/env` is an array; an object of strings is accepted");
        check(r#"{"command":"ls","env":{"A":1}}"#, "`/env/A` is a number; a string is accepted");
        check(r#"{"command":"ls","env":{"A=B":"1"}}"#, "`/env/A=B` is not the name of a variable");
        check(
            r#"{"command":"ls","workingDirectory":""}"#,
            "`/workingDirectory` is empty; a path is accepted",
        );
        check(
            r#"{"command":"ls","comand":"x"}"#,
            "`/comand` is not a member; known are `command`, `executionId`, `timeout`, `stdin`, `env`, `workingDirectory`",
        );
    }

    #[test]
    fn everything_that_is_wrong_is_named_at_once() {
        let error = read(r#"{"command":1,"executionId":"../x","timeout":-1,"shell":true}"#).unwrap_err();
        let ReadError::Invalid(wrong) = error else { panic!("{error}") };
        let pointers: Vec<_> = wrong.iter().map(|member| member.pointer.as_str()).collect();
        assert_eq!(pointers, ["/command", "/executionId", "/timeout", "/shell"]);
    }

    #[test]
    fn commands_have_a_limit() {
        let longest = "x".repeat(COMMAND_LIMIT_BYTES);
        assert!(read(&format!(r#"{{"command":"{longest}"}}"#)).is_ok());
        check(
            &format!(r#"{{"command":"{longest}x"}}"#),
            "`/command` has 65537 bytes; at most 65536 are accepted",
        );
    }
}
