//! What operators ask of a rulebook beside verdicts: what changed, what a program may do, and the format itself.

use std::fmt::Write as _;

use portcullis_core::{Limits, Policy as _, Principal, Submission, Verdict};

use super::{Allowance, Bound, NetworkBound, Operations, Rule, Rulebook, WriteBound, is_understood};
use crate::RulebookPolicy;

/// A line of which two rulebooks say different things.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Change {
    /// The command line.
    pub line: String,
    /// What the first says: `allow`, or the denial's code.
    pub before: String,
    /// What the second says.
    pub after: String,
}

impl Rulebook {
    /// Returns the lines that another rulebook answers otherwise than this one, for one user.
    #[must_use]
    pub fn changes<'l>(
        &self,
        after: &Self,
        principal: &Principal,
        lines: impl IntoIterator<Item = &'l str>,
    ) -> Vec<Change> {
        let policies = [self, after].map(|rulebook| RulebookPolicy::new(rulebook.clone(), Limits::default()));
        let answer =
            |policy: &RulebookPolicy, line: &str| match policy.judge(principal, &Submission::of(line)) {
                Verdict::Permit(..) => "allow".to_owned(),
                Verdict::Deny(denial) => denial.code.to_string(),
            };
        let [old, new] = &policies;
        let both = lines.into_iter().map(|line| Change {
            line: line.to_owned(),
            before: answer(old, line),
            after: answer(new, line),
        });
        both.filter(|change| change.before != change.after).collect()
    }

    /// Says in words what the rulebook allows a program, and to whom.
    #[must_use]
    pub fn explain(&self, program: &str) -> String {
        let book = &*self.book;
        let mut out = String::new();
        let named = |rule: &&Rule| rule.programs.iter().any(|name| name.as_str() == program);
        for rule in book.rules.iter().filter(named) {
            let place = rule.line.map(|line| format!(", line {line}")).unwrap_or_default();
            let does = if rule.allows { "allows" } else { "denies" };
            let _ = writeln!(out, "the rule `{}`{place} {does} `{program}`", rule.name);
            describe(rule, book.operations.within(rule.operations), &mut out);
        }
        for (kind, people) in [("user", &book.users), ("role", &book.roles)] {
            for (name, personal) in people {
                let holds = |set: &std::collections::BTreeSet<portcullis_core::ProgramName>| {
                    set.iter().any(|one| one.as_str() == program)
                };
                if holds(&personal.deny) || personal.only.as_ref().is_some_and(|only| !holds(only)) {
                    let _ = writeln!(out, "the {kind} `{name}` may not run it");
                } else if holds(&personal.allow) {
                    let _ = writeln!(out, "the {kind} `{name}` may run it too");
                }
            }
        }
        if out.is_empty() {
            let _ = writeln!(out, "no rule allows `{program}`");
        }
        if !is_understood(program) {
            let _ = writeln!(out, "what its options mean is not known: only the confinement would bound it");
        }
        out
    }

    /// Returns the JSON Schema (2020-12) of rulebooks, version 1.
    #[must_use]
    pub fn schema() -> &'static str {
        include_str!("../../rulebooks/schema.json")
    }
}

fn describe(rule: &Rule, operations: Operations, out: &mut String) {
    let mut say = |what: &str, words: Vec<String>| {
        if !words.is_empty() {
            let _ = writeln!(out, "  {what} {}", words.join(", "));
        }
    };
    let strings = |set: &std::collections::BTreeSet<String>| {
        set.iter().map(|one| format!("`{one}`")).collect::<Vec<_>>()
    };
    say("to users", strings(&rule.users));
    say("to roles", strings(&rule.roles));
    say("sub-commands", strings(&rule.subcommands));
    say("only the options", strings(&rule.options_allowed));
    say(if rule.allows { "not the options" } else { "denies the options" }, strings(&rule.options_denied));
    say("in", rule.paths.iter().map(|path| format!("`{path}`")).collect());
    say(
        "hosts",
        rule.hosts.iter().map(|host| format!("`{}://{}:{}`", host.scheme, host.name, host.port)).collect(),
    );
    say("may set", strings(&rule.environment));
    if rule.allows {
        say("operations", operations_in_words(operations));
    }
}

fn operations_in_words(operations: Operations) -> Vec<String> {
    let bound = |bound: Bound| match bound {
        Bound::Deny => "deny",
        Bound::Workspace => "workspace",
        Bound::Allow => "allow",
    };
    let write = match operations.write {
        WriteBound::Deny => "deny",
        WriteBound::Redirections => "redirections",
        WriteBound::Workspace => "workspace",
        WriteBound::Allow => "allow",
    };
    let network = match operations.network {
        NetworkBound::Deny => "deny",
        NetworkBound::Hosts => "hosts",
        NetworkBound::Allow => "allow",
    };
    let privilege = if operations.privilege == Allowance::Deny { "deny" } else { "allow" };
    let words = [
        ("delete", bound(operations.delete)),
        ("write", write),
        ("execute", bound(operations.execute)),
        ("network", network),
        ("privilege", privilege),
    ];
    words.map(|(operation, word)| format!("{operation} = {word}")).to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_name_the_lines_that_are_answered_otherwise() {
        let (old, new) = (Rulebook::reference("default").unwrap(), Rulebook::reference("readonly").unwrap());
        let changes = old.changes(&new, &Principal::local(), ["ls", "head x", "echo x > y", "rm x"]);
        let rows: Vec<_> =
            changes.iter().map(|one| (one.line.as_str(), one.before.as_str(), one.after.as_str())).collect();
        assert_eq!(
            rows,
            [("head x", "program/not-allowed", "allow"), ("echo x > y", "allow", "operation/write")]
        );
    }

    #[test]
    fn a_program_is_explained_by_its_rules_and_people() {
        let team = Rulebook::reference("team").unwrap();
        let text = team.explain("find");
        assert!(
            text.contains("the rule `looking`") && text.contains("the user `bob` may not run it"),
            "{text}"
        );
        assert_eq!(
            team.explain("frobnicate"),
            "the user `svc-report` may not run it\nwhat its options mean is not known: only the confinement would bound it\n"
        );
        let git = team.explain("git");
        assert!(git.contains("to users `carol`") && git.contains("`status`"), "{git}");
    }
}
