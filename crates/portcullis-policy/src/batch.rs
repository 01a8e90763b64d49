//! Judges many lines at once, as JSON lines: what `portcullis policy check --batch` reads and writes.

use std::collections::BTreeSet;

use portcullis_core::{Added, Denial, FoundEffect, Policy as _, Principal, Submission, Verdict};
use serde::{Deserialize, Serialize};

use crate::RulebookPolicy;

/// One line to judge. Members that are not named here are passed over: a list of lines may carry its own, such as
/// the verdict that is expected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    /// Names the question in its answer; any JSON value.
    #[serde(default)]
    pub id: serde_json::Value,
    /// Who asks; `local` when not given.
    #[serde(default)]
    pub user: Option<String>,
    /// The roles of who asks.
    #[serde(default)]
    pub roles: BTreeSet<String>,
    /// The command line.
    pub command: String,
}

/// What the rulebook says of a line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The question's id.
    pub id: serde_json::Value,
    /// `allow` or `deny`.
    pub verdict: Decision,
    /// The denial's code.
    pub code: Option<String>,
    /// The first byte the denial is about, and the byte behind the last.
    pub span: Option<[usize; 2]>,
    /// One sentence for a person.
    pub message: Option<String>,
    /// The rule that denied, or the rules that allowed, joined by `, `.
    pub rule: Option<String>,
    /// What to do instead.
    pub suggestion: Option<String>,
    /// What the permit adds to commands, such as what keeps a repository from naming programs; missing when nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub added: Vec<Added>,
    /// What the refused commands would do; missing when nothing is known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub effects: Vec<Effect>,
    /// Everything else that is wrong with the line; missing when nothing is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub further: Vec<Further>,
}

/// One thing that a refused command would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Effect {
    /// `read`, `examine`, `write`, `delete`, `execute`, `network` or `privilege`.
    pub kind: String,
    /// To what: a path, a host, a program, or in words what cannot be named.
    pub subject: String,
    /// How the words say so: `operand`, ``option `-o` ``.
    pub via: String,
    /// The first byte that says so, and the byte behind the last.
    pub span: [usize; 2],
}

/// Another reason to deny a line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Further {
    /// The denial's code.
    pub code: String,
    /// The first byte it is about, and the byte behind the last.
    pub span: [usize; 2],
    /// One sentence for a person.
    pub message: String,
    /// The rule that denied.
    pub rule: Option<String>,
    /// What to do instead.
    pub suggestion: Option<String>,
}

/// Whether a line may run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Decision {
    /// It may.
    Allow,
    /// It may not.
    Deny,
}

/// Why a line of a batch is no question. It is denied.
const MALFORMED: &str = "request/malformed";

/// Answers one line of JSON with one line of JSON, without the newline. What is no question is denied with the code
/// `request/malformed`, so that every line has its answer.
#[must_use]
pub fn answer_json(policy: &RulebookPolicy, line: &[u8]) -> String {
    let answer = match serde_json::from_slice::<Question>(line) {
        Ok(question) => answer(policy, question),
        Err(error) => Answer {
            id: serde_json::from_slice::<serde_json::Value>(line)
                .ok()
                .and_then(|value| value.get("id").cloned())
                .unwrap_or_default(),
            verdict: Decision::Deny,
            code: Some(MALFORMED.into()),
            span: None,
            message: Some(format!("the line is not allowed: it is no question: {error}")),
            rule: None,
            suggestion: Some(r#"write {"id": …, "user": "…", "command": "…"}"#.into()),
            added: Vec::new(),
            effects: Vec::new(),
            further: Vec::new(),
        },
    };
    // Strings, numbers and a value that was read from JSON always can be written.
    serde_json::to_string(&answer).unwrap_or_else(|_| r#"{"id":null,"verdict":"deny"}"#.into())
}

/// Answers one question.
#[must_use]
pub fn answer(policy: &RulebookPolicy, question: Question) -> Answer {
    let name = question.user.unwrap_or_else(|| "local".into());
    let principal = Principal { id: name.clone(), name, roles: question.roles, permissions: BTreeSet::new() };
    let verdict = policy.judge(&principal, &Submission::of(question.command));
    Answer::of(question.id, &verdict)
}

impl Answer {
    /// Writes a verdict as an answer.
    #[must_use]
    pub fn of(id: serde_json::Value, verdict: &Verdict) -> Self {
        match verdict {
            Verdict::Permit(_, grant) => Self {
                id,
                verdict: Decision::Allow,
                code: None,
                span: None,
                message: None,
                rule: Some(grant.rules.join(", ")),
                suggestion: None,
                added: grant.added.clone(),
                effects: Vec::new(),
                further: Vec::new(),
            },
            Verdict::Deny(denial) => Self {
                id,
                verdict: Decision::Deny,
                code: Some(denial.code.to_string()),
                span: Some([denial.span.start, denial.span.end]),
                message: Some(denial.message.clone()),
                rule: denial.rule.as_ref().map(|rule| rule.name.clone()),
                suggestion: denial.suggestion.clone(),
                added: Vec::new(),
                effects: denial.effects.iter().map(Effect::of).collect(),
                further: denial.further.iter().map(Further::of).collect(),
            },
        }
    }
}

impl Effect {
    fn of(found: &FoundEffect) -> Self {
        Self {
            kind: found.kind.to_string(),
            subject: found.subject.clone(),
            via: found.via.clone(),
            span: [found.span.start, found.span.end],
        }
    }
}

impl Further {
    fn of(denial: &Denial) -> Self {
        Self {
            code: denial.code.to_string(),
            span: [denial.span.start, denial.span.end],
            message: denial.message.clone(),
            rule: denial.rule.as_ref().map(|rule| rule.name.clone()),
            suggestion: denial.suggestion.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use portcullis_core::Limits;

    use super::*;
    use crate::Rulebook;

    #[test]
    fn every_line_has_one_answer() {
        let policy = RulebookPolicy::new(Rulebook::from_allowlist(["ls"]).unwrap(), Limits::default());
        for (line, wanted) in [
            (
                r#"{"id": 7, "user": "bob", "command": "ls"}"#,
                r#"{"id":7,"verdict":"allow","code":null,"span":null,"message":null,"rule":"ALLOWED_COMMANDS","suggestion":null}"#,
            ),
            (
                r#"{"id": null, "command": "ls", "expected": {"verdict": "allow"}}"#,
                r#"{"id":null,"verdict":"allow","code":null,"span":null,"message":null,"rule":"ALLOWED_COMMANDS","suggestion":null}"#,
            ),
            (
                r#"{"id": "x", "command": "ls; rm x"}"#,
                r#"{"id":"x","verdict":"deny","code":"program/not-allowed","span":[4,6],"message":"`rm` is not allowed: no rule allows it","rule":null,"suggestion":"allowed are `ls`"}"#,
            ),
        ] {
            assert_eq!(answer_json(&policy, line.as_bytes()), wanted);
        }
        for line in ["", "{", r#"{"id": 1}"#, r#"{"command": 1}"#, "\u{0}"] {
            let answer: Answer = serde_json::from_str(&answer_json(&policy, line.as_bytes())).unwrap();
            assert_eq!(
                (answer.verdict, answer.code.as_deref()),
                (Decision::Deny, Some("request/malformed")),
                "{line}"
            );
        }
        assert!(answer_json(&policy, b"\xff").contains("deny"));
    }
}
