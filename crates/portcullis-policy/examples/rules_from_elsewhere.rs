//! A policy of one's own: rules come from somewhere else than a file, here from a table, and one more question is asked
//! before the rulebook is.

use std::fmt::Write as _;

use portcullis_core::{
    AllowedProgram, Denial, DenialCode, DenialKind, Limits, Policy, Principal, Span, Submission, Verdict,
};
use portcullis_policy::{Rulebook, RulebookError, RulebookPolicy};

/// Judges by rules from a table, and not at all while the service is in maintenance.
struct TablePolicy {
    rules: RulebookPolicy,
    in_maintenance: bool,
}

impl TablePolicy {
    /// Makes a rulebook of rows `(team, programs)`.
    fn from_rows(rows: &[(&str, &[&str])]) -> Result<Self, RulebookError> {
        let mut text = String::from("version = 1\n");
        for (team, programs) in rows {
            let _ = writeln!(text, "[[rule]]\nname = {team:?}\nroles = [{team:?}]\nprograms = {programs:?}");
        }
        let rules = RulebookPolicy::new(Rulebook::parse(&text)?, Limits::default());
        Ok(Self { rules, in_maintenance: false })
    }
}

impl Policy for TablePolicy {
    fn judge(&self, principal: &Principal, submission: &Submission) -> Verdict {
        if self.in_maintenance {
            return Verdict::Deny(Box::new(Denial {
                code: DenialCode::new("service/maintenance"),
                kind: DenialKind::Forbidden,
                span: Span::new(0, submission.command.len()),
                subject: principal.name.clone(),
                rule: None,
                message: "running commands is not allowed during maintenance".into(),
                suggestion: None,
                effects: Vec::new(),
                further: Vec::new(),
            }));
        }
        self.rules.judge(principal, submission)
    }

    fn allowed(&self, principal: &Principal) -> Vec<AllowedProgram> {
        self.rules.allowed(principal)
    }
}

fn main() -> Result<(), RulebookError> {
    let mut policy = TablePolicy::from_rows(&[("web", &["ls", "cat"]), ("data", &["sort", "uniq", "wc"])])?;
    let ann = Principal { name: "ann".into(), roles: ["data".into()].into(), ..Principal::local() };
    for line in ["sort notes.txt | uniq -c", "ls"] {
        let answer = matches!(policy.judge(&ann, &Submission::of(line)), Verdict::Permit(..));
        println!("{line}: {}", if answer { "allowed" } else { "denied" });
    }
    policy.in_maintenance = true;
    assert!(matches!(policy.judge(&ann, &Submission::of("sort x")), Verdict::Deny(_)));
    Ok(())
}
