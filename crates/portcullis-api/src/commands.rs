use std::collections::BTreeMap;

use portcullis_core::{Added, AllowedProgram, Denial, Grant};
use serde::{Deserialize, Serialize};

use crate::{DenialView, LimitsView};

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
    /// The bounds of an execution of it; an older service does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<LimitsView>,
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
                limits: Some(LimitsView::from(&allowed.limits)),
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
    /// What the permit adds to commands so that they do no more than their words say, such as what keeps a
    /// repository's configuration from naming programs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub added: Vec<AddedView>,
}

/// What a permit adds to a command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddedView {
    /// The program of the command.
    pub program: String,
    /// The arguments, in the order in which the program is given them.
    pub arguments: Vec<String>,
    /// The variables that are set.
    pub environment: BTreeMap<String, String>,
}

impl From<Added> for AddedView {
    fn from(added: Added) -> Self {
        Self {
            program: added.program.into(),
            arguments: added.arguments,
            environment: added.environment.into_iter().collect(),
        }
    }
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
            added: grant.added.into_iter().map(AddedView::from).collect(),
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
            added: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use portcullis_core::ProgramName;

    use super::*;

    #[test]
    fn what_a_permit_adds_is_told() {
        let added = Added {
            program: ProgramName::parse("git").unwrap(),
            arguments: vec!["-c".into(), "core.fsmonitor=false".into()],
            environment: vec![("GIT_PAGER".into(), "cat".into())],
        };
        let grant =
            Grant { rules: vec!["a".into()], programs: vec![added.program.clone()], added: vec![added] };
        assert_eq!(
            serde_json::to_value(Judgement::permitted(grant)).unwrap(),
            serde_json::json!({
                "valid": true, "is_valid": true, "message": "the command line is allowed", "reason": null,
                "denial": null, "programs": ["git"], "rules": ["a"],
                "added": [{
                    "program": "git", "arguments": ["-c", "core.fsmonitor=false"],
                    "environment": {"GIT_PAGER": "cat"},
                }],
            })
        );
        // Who reads no more than the members of old sees them alone when nothing is added.
        let plain = serde_json::to_value(Judgement::permitted(Grant::default())).unwrap();
        assert!(plain.get("added").is_none(), "{plain}");
    }
}
