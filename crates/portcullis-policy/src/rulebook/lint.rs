//! Finds what is allowed in a rulebook and most likely not meant.

use std::collections::BTreeSet;
use std::fmt;

use super::{Bound, NetworkBound, Operations, Rule, Rulebook, WriteBound, is_understood};

/// Something in a rulebook that is in order and most likely not meant.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Finding {
    /// The line in the file, where it is about one rule.
    pub line: Option<usize>,
    /// Which kind it is, for programs: `shadowed`, `widens`, `useless`, `runs-others`, `not-understood`, `untested`.
    pub kind: &'static str,
    /// One sentence for a person, without a final stop.
    pub message: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{line}: {} ({})", self.message, self.kind),
            None => write!(f, "{} ({})", self.message, self.kind),
        }
    }
}

/// Programs that run other programs, or code that they are given.
const RUNNERS: [&str; 32] = [
    "awk", "bash", "cargo", "dash", "env", "expect", "find", "gdb", "gawk", "git", "make", "man", "mawk",
    "nice", "node", "nohup", "npm", "perl", "php", "python3", "ruby", "sed", "setsid", "sh", "ssh", "stdbuf",
    "strace", "tar", "timeout", "vim", "watch", "xargs",
];
/// Programs that do nothing but delete.
const DELETERS: [&str; 4] = ["rm", "rmdir", "shred", "unlink"];
/// Programs that do nothing but write.
const WRITERS: [&str; 10] =
    ["chmod", "cp", "install", "ln", "mkdir", "mkfifo", "mv", "tee", "touch", "truncate"];
/// Programs that do nothing but reach hosts.
const REACHERS: [&str; 8] = ["curl", "wget", "ssh", "scp", "nc", "ping", "rsync", "telnet"];

impl Rulebook {
    /// Looks for what is most likely not meant, in the order of the file.
    #[must_use]
    pub fn lint(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        let book = &*self.book;
        for (at, rule) in book.rules.iter().enumerate() {
            let mut add = |kind, message| findings.push(Finding { line: rule.line, kind, message });
            if let Some(other) = book
                .rules
                .iter()
                .enumerate()
                .find(|&(other, by)| other != at && shadows(by, rule, other < at))
            {
                add(
                    "shadowed",
                    format!("the rule `{}` allows nothing that `{}` does not", rule.name, other.1.name),
                );
            }
            for operation in widened(rule, book.operations) {
                add(
                    "widens",
                    format!(
                        "the rule `{}` goes beyond what the file says of `{operation}`, which holds",
                        rule.name
                    ),
                );
            }
            let operations = book.operations.within(rule.operations);
            if !rule.hosts.is_empty() && operations.network == NetworkBound::Deny {
                add("useless", format!("the rule `{}` lists hosts, and the network is denied", rule.name));
            }
            if !rule.starts.is_empty() && operations.execute == Bound::Deny {
                add(
                    "useless",
                    format!("the rule `{}` lets programs start, and executing is denied", rule.name),
                );
            }
            if !rule.allows {
                continue;
            }
            for program in &rule.programs {
                let name = program.as_str();
                if let Some(operation) = useless(name, operations) {
                    add(
                        "useless",
                        format!(
                            "`{name}` is allowed by the rule `{}`, and all that it does is denied: {operation}",
                            rule.name
                        ),
                    );
                }
                if operations.execute != Bound::Deny && RUNNERS.contains(&name) && rule.understood {
                    add(
                        "runs-others",
                        format!(
                            "`{name}` can run other programs, each of which is judged, or code of the workspace, which is not"
                        ),
                    );
                }
                if !rule.understood && !is_understood(name) {
                    add(
                        "not-understood",
                        format!(
                            "what the options of `{name}` mean is not known: only the confinement bounds it"
                        ),
                    );
                }
            }
        }
        let coverage = self.run_tests().coverage;
        for name in coverage.untested_rules {
            let line = book.rules.iter().find(|rule| rule.name == name).and_then(|rule| rule.line);
            findings.push(Finding {
                line,
                kind: "untested",
                message: format!("no test is about the rule `{name}`"),
            });
        }
        for name in coverage.untested_programs {
            let message = format!("no test shows that `{name}` may be run");
            findings.push(Finding { line: None, kind: "untested", message });
        }
        findings
    }
}

/// Whether `by` allows all that `rule` does; of two rules that are alike, the later one counts as shadowed.
fn shadows(by: &Rule, rule: &Rule, earlier: bool) -> bool {
    let wider =
        |by: &BTreeSet<String>, own: &BTreeSet<String>| by.is_empty() || !own.is_empty() && own.is_subset(by);
    let about_more = by.is_general() || by.users == rule.users && by.roles == rule.roles;
    let covers = by.allows
        && rule.allows
        && about_more
        && rule.programs.is_subset(&by.programs)
        && wider(&by.subcommands, &rule.subcommands)
        && wider(&by.options_allowed, &rule.options_allowed)
        && by.options_denied.is_subset(&rule.options_denied)
        && (by.paths.is_empty() || by.paths == rule.paths)
        && rule.hosts.iter().all(|host| by.hosts.contains(host))
        && rule.operations.within(by.operations) == rule.operations
        && rule.environment.is_subset(&by.environment)
        && rule.starts.is_subset(&by.starts)
        && (by.understood == rule.understood)
        && by.limits == rule.limits;
    let alike = covers && by.programs == rule.programs && by.is_general() == rule.is_general();
    covers && (!alike || earlier)
}

/// Names the operations of which a rule says more than the file allows.
fn widened(rule: &Rule, file: Operations) -> Vec<&'static str> {
    let own = rule.operations;
    let beyond = [
        ("delete", own.delete > file.delete),
        ("write", own.write > file.write),
        ("execute", own.execute > file.execute),
        ("network", own.network > file.network),
        ("privilege", own.privilege > file.privilege),
    ];
    beyond
        .into_iter()
        .filter(|(name, yes)| *yes && rule.spoken.contains(name))
        .map(|(name, _)| name)
        .collect()
}

fn useless(program: &str, operations: Operations) -> Option<&'static str> {
    if DELETERS.contains(&program) && operations.delete == Bound::Deny {
        return Some("deleting");
    }
    if WRITERS.contains(&program) && operations.write < WriteBound::Workspace {
        return Some("writing but by redirection");
    }
    (REACHERS.contains(&program) && operations.network == NetworkBound::Deny).then_some("the network")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn kinds(text: &str) -> Vec<(Option<usize>, &'static str)> {
        let rulebook = Rulebook::parse_untested(text).unwrap();
        let findings = rulebook.lint();
        findings.iter().filter(|one| one.kind != "untested").map(|one| (one.line, one.kind)).collect()
    }

    #[test]
    fn what_is_most_likely_not_meant_is_found() {
        for (text, wanted) in [
            ("[[rule]]\nname = \"a\"\nprograms = [\"ls\"]", &[][..]),
            (
                "[[rule]]\nname = \"a\"\nprograms = [\"ls\", \"cat\"]\n[[rule]]\nname = \"b\"\nprograms = [\"cat\"]\nusers = [\"x\"]",
                &[(Some(6), "shadowed")],
            ),
            (
                "[[rule]]\nname = \"a\"\nprograms = [\"ls\"]\n[[rule]]\nname = \"b\"\nprograms = [\"ls\"]",
                &[(Some(6), "shadowed")],
            ),
            (
                "[[rule]]\nname = \"a\"\nprograms = [\"ls\"]\nsubcommands = [\"x\"]\n[[rule]]\nname = \"b\"\nprograms = [\"ls\"]\nsubcommands = [\"y\"]",
                &[],
            ),
            (
                "[[rule]]\nname = \"a\"\nprograms = [\"ls\"]\noperations = { delete = \"allow\" }",
                &[(Some(3), "widens")],
            ),
            ("[[rule]]\nname = \"a\"\nprograms = [\"ls\"]\nhosts = [\"https://x\"]", &[(Some(3), "useless")]),
            (
                "[[rule]]\nname = \"a\"\nprograms = [\"mytool\"]\nunderstood = \"not\"",
                &[(Some(3), "not-understood")],
            ),
        ] {
            assert_eq!(kinds(&format!("version = 1\n{text}\n")), wanted, "{text}");
        }
        let runner = "version = 1\noperations.execute = \"workspace\"\n[[rule]]\nname = \"a\"\nprograms = [\"find\"]\n";
        assert_eq!(kinds(runner), [(Some(4), "runs-others")]);
    }

    #[test]
    fn untested_rules_and_programs_are_named() {
        let rulebook = Rulebook::parse("version = 1\n[[rule]]\nname = \"a\"\nprograms = [\"ls\"]\n").unwrap();
        let found: Vec<_> = rulebook.lint().iter().map(ToString::to_string).collect();
        assert_eq!(
            found,
            ["3: no test is about the rule `a` (untested)", "no test shows that `ls` may be run (untested)"]
        );
    }

    #[test]
    fn no_reference_rulebook_has_an_untested_rule() {
        for name in Rulebook::references() {
            let rulebook = Rulebook::reference(name).unwrap();
            let coverage = rulebook.run_tests().coverage;
            assert!(coverage.untested_rules.is_empty(), "{name}: {:?}", coverage.untested_rules);
            assert!(coverage.untested_programs.is_empty(), "{name}: {:?}", coverage.untested_programs);
        }
    }
}
