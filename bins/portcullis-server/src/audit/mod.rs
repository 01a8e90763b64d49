//! The audit log: a file to which one JSON object a line is added, and nothing is ever taken away by us.
//!
//! It says who asked for what from where, what the rules said, and how it ended; who was not let in; what was cancelled;
//! when rules were read again. The line of a permit or denial is in the file before the record is: so when the file
//! cannot be written, nothing new runs, unless the operator prefers that ([`OnFailure`]).
//!
//! # Terms
//! An *entry* is what is said; a *line* is how it stands in the file. A line that was cut off, by a full disk or a
//! death in the middle of the write, is never taken for a whole one: it does not end as a JSON object does, and the next
//! line begins behind a line end of its own.

mod file;
mod seams;

pub use file::{Audit, AuditError, OnFailure};
pub use seams::{AuditedAuthenticator, AuditedStore};

use portcullis_core::{Execution, NewExecution, Provenance, Refusal};
use serde::Serialize;

/// What one line says. What is not known of it is left away.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// `start`, `permit`, `deny`, `end`, `authentication`, `cancel`, `reload`, `stop`.
    pub event: &'static str,
    /// The execution's id; of a denial, the id that the caller had chosen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub execution_id: Option<String>,
    /// The name of who asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The id of who asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_id: Option<String>,
    /// The other end of the connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    /// The trace that the request belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<String>,
    /// The command line, as written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// The rules that allowed it, or the one that denied it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<String>,
    /// The code of the denial, or what became of an authentication or reload.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// How an execution ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<&'static str>,
    /// Why it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'static str>,
    /// Its exit code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// The signal that ended it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// The level of its confinement.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confinement: Option<&'static str>,
    /// How many entries like this were left away before it, because there were too many in one second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub left_out: Option<u64>,
}

impl Entry {
    /// Says that something happened to the service as a whole.
    #[must_use]
    pub fn of(event: &'static str, code: impl Into<Option<String>>) -> Self {
        Self { event, code: code.into(), ..Self::default() }
    }

    fn from(self, provenance: &Provenance) -> Self {
        let peer = provenance.peer.map(|peer| peer.to_string());
        Self { peer, trace_id: provenance.trace_id(), ..self }
    }

    fn permit(new: &NewExecution) -> Self {
        Self {
            event: "permit",
            execution_id: Some(new.id.to_string()),
            user: Some(new.owner_name.clone()),
            user_id: Some(new.owner.clone()),
            command: Some(new.command.clone()),
            rules: new.rules.clone(),
            ..Self::default()
        }
        .from(&new.provenance)
    }

    fn deny(refusal: &Refusal) -> Self {
        Self {
            event: "deny",
            execution_id: refusal.execution_id.as_ref().map(ToString::to_string),
            user: Some(refusal.principal_name.clone()),
            user_id: Some(refusal.principal.clone()),
            command: Some(refusal.command.clone()),
            rules: refusal.denial.rule.iter().map(|rule| rule.name.clone()).collect(),
            code: Some(refusal.denial.code.to_string()),
            ..Self::default()
        }
        .from(&refusal.provenance)
    }

    fn end(execution: &Execution) -> Self {
        let ending = execution.ending.as_ref();
        Self {
            event: "end",
            execution_id: Some(execution.id.to_string()),
            user: Some(execution.owner_name.clone()),
            user_id: Some(execution.owner.clone()),
            trace_id: execution.provenance.trace_id(),
            status: ending.map(|ending| ending.status.as_str()),
            reason: ending.map(|ending| ending.reason.as_str()),
            exit_code: ending.and_then(|ending| ending.exit_code),
            signal: ending.and_then(|ending| ending.signal),
            confinement: execution.confinement.as_ref().map(|confinement| confinement.level.as_str()),
            ..Self::default()
        }
    }

    /// Says that somebody asked for the end of an execution.
    #[must_use]
    pub fn cancel(id: &str, user: &portcullis_core::Principal, provenance: &Provenance) -> Self {
        Self {
            event: "cancel",
            execution_id: Some(id.to_owned()),
            user: Some(user.name.clone()),
            user_id: Some(user.id.clone()),
            ..Self::default()
        }
        .from(provenance)
    }
}
