use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Provenance;

/// What a caller asks to run: the command line and the optional members beside it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Submission {
    /// The command line, as written.
    pub command: String,
    /// A wall-clock limit below the configured one.
    pub timeout: Option<Duration>,
    /// What the first command reads; without it, nothing.
    pub stdin: Option<String>,
    /// Variables for the commands; only names that the rulebook allows.
    pub env: BTreeMap<String, String>,
    /// Where the line starts: absolute, or relative to the workspace; never outside it.
    pub working_directory: Option<String>,
    /// Where it came from; no part of what is asked for.
    #[serde(default)]
    pub provenance: Provenance,
}

impl Submission {
    /// Returns a submission of this command line and nothing else.
    pub fn of(command: impl Into<String>) -> Self {
        Self { command: command.into(), ..Self::default() }
    }
}
