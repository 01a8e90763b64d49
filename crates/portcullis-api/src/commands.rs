use portcullis_core::{AllowedProgram, Denial, Grant};
use serde::{Deserialize, Serialize};

use crate::DenialView;

/// What the caller may run: the answer of `GET /api/commands/allowed`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AllowedCommands {
    /// Names of the programs, each once. (The spelling is that of callers which exist.)
    pub allowed_commands: Vec<String>,
    /// The programs with the rules that allow them.
    #[serde(default)]
    pub programs: Vec<AllowedProgramView>,
}

/// A program that the caller may run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AllowedProgramView {
    /// The program's name.
    pub program: String,
    /// The rule that allows it.
    pub rule: String,
    /// The sub-commands that are allowed, when not all are.
    pub subcommands: Vec<String>,
}

impl AllowedCommands {
    /// Writes a list of what is allowed.
    #[must_use]
    pub fn of(programs: Vec<AllowedProgram>) -> Self {
        let programs: Vec<_> = programs
            .into_iter()
            .map(|allowed| AllowedProgramView {
                program: allowed.program.into(),
                rule: allowed.rule,
                subcommands: allowed.subcommands,
            })
            .collect();
        let mut allowed_commands: Vec<String> = Vec::new();
        for program in &programs {
            if !allowed_commands.contains(&program.program) {
                allowed_commands.push(program.program.clone());
            }
        }
        Self { allowed_commands, programs }
    }
}

/// Whether a command line would be permitted: the answer of `POST /api/commands/validate`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Judgement {
    /// Whether it is permitted.
    pub valid: bool,
    /// The same, as other callers spell it.
    #[serde(default)]
    pub is_valid: bool,
    /// One sentence for a person.
    pub message: String,
    /// Why not, when it is not permitted.
    #[serde(default)]
    pub reason: Option<String>,
    /// The denial in full, when it is not permitted.
    #[serde(default)]
    pub denial: Option<DenialView>,
    /// The programs it names, when it is permitted.
    #[serde(default)]
    pub programs: Vec<String>,
    /// The rules that allow it, when it is permitted.
    #[serde(default)]
    pub rules: Vec<String>,
}

impl Judgement {
    /// Writes a permission.
    #[must_use]
    pub fn permitted(grant: Grant) -> Self {
        Self {
            valid: true,
            is_valid: true,
            message: "the command line is allowed".into(),
            reason: None,
            denial: None,
            programs: grant.programs.into_iter().map(String::from).collect(),
            rules: grant.rules,
        }
    }

    /// Writes a denial.
    #[must_use]
    pub fn denied(denial: &Denial) -> Self {
        Self {
            valid: false,
            is_valid: false,
            message: format!("command not allowed: {denial}"),
            reason: Some(denial.message.clone()),
            denial: Some(denial.into()),
            programs: Vec::new(),
            rules: Vec::new(),
        }
    }
}
