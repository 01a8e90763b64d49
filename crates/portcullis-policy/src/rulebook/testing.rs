//! Runs the tests that a rulebook carries.

use std::collections::BTreeSet;
use std::fmt;

use portcullis_core::{Limits, Policy as _, Principal, Submission, Verdict};

use super::Rulebook;
use crate::RulebookPolicy;
use crate::effects::rows::{self, Rows};

/// A line and what the rulebook must say of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TestCase {
    /// Its line in the file.
    pub(crate) place: usize,
    /// The command line.
    pub(crate) line: String,
    /// The code it is denied with; `None` when it is allowed.
    pub(crate) code: Option<String>,
    /// Who asks; somebody whom the rulebook does not list when not given.
    pub(crate) user: Option<String>,
    /// The roles of who asks.
    pub(crate) roles: BTreeSet<String>,
    /// The rule it stands in; an allowed line is allowed by this rule.
    pub(crate) rule: Option<String>,
}

/// What came of a rulebook's own tests.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TestReport {
    /// How many lines were judged.
    pub run: usize,
    /// The lines that were judged otherwise than their test says.
    pub failures: Vec<TestFailure>,
    /// What the tests reached.
    pub coverage: Coverage,
}

/// A line that was judged otherwise than its test says.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TestFailure {
    /// The test's line in the rulebook's file.
    pub line: usize,
    /// The command line.
    pub command: String,
    /// What the test says, in a clause.
    pub expected: String,
    /// What the rulebook says, in a clause.
    pub found: String,
}

impl fmt::Display for TestFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "test failed: `{}` should be {}, and is {}",
            self.command.escape_debug(),
            self.expected,
            self.found
        )
    }
}

/// What a rulebook's tests reached.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Coverage {
    /// Rules by which no test is allowed, and that deny none.
    pub untested_rules: Vec<String>,
    /// Programs that some rule allows and no allowed test names.
    pub untested_programs: Vec<String>,
    /// For each table of a program that some rule names: its options, and those that no test gives.
    pub rows: Vec<Rows>,
}

impl Rulebook {
    /// Judges a line for a user without roles and answers `allow`, or the denial's code: for tests of rules.
    #[must_use]
    pub fn answer(&self, user: &str, line: &str) -> String {
        let principal = Principal { id: user.into(), name: user.into(), ..Principal::local() };
        let policy = RulebookPolicy::new(self.clone(), Limits::default());
        match policy.judge(&principal, &Submission::of(line)) {
            Verdict::Permit(..) => "allow".into(),
            Verdict::Deny(denial) => denial.code.to_string(),
        }
    }

    /// Runs the tests that the rulebook carries, each on its own.
    #[must_use]
    pub fn run_tests(&self) -> TestReport {
        let programs = self.named_programs().map(ToString::to_string).collect();
        let (mut report, rows) = rows::unused_by(|| self.run_each_test(), &programs);
        report.coverage.rows = rows;
        report
    }

    fn run_each_test(&self) -> TestReport {
        let policy = RulebookPolicy::new(self.clone(), Limits::default());
        let (mut rules, mut programs) = (BTreeSet::new(), BTreeSet::new());
        let mut failures = Vec::new();
        for case in &self.book.tests {
            let name = case.user.clone().unwrap_or_else(|| "somebody".into());
            let principal =
                Principal { id: name.clone(), name, roles: case.roles.clone(), permissions: BTreeSet::new() };
            let verdict = policy.judge(&principal, &Submission::of(case.line.as_str()));
            let fits = match (&verdict, &case.code) {
                (Verdict::Permit(_, grant), None) => {
                    case.rule.as_ref().is_none_or(|rule| grant.rules.contains(rule))
                }
                (Verdict::Deny(denial), Some(code)) => {
                    denial.code.as_str() == code
                        || denial.further.iter().any(|further| further.code.as_str() == code)
                }
                _ => false,
            };
            match &verdict {
                Verdict::Permit(_, grant) => {
                    rules.extend(grant.rules.iter().cloned());
                    programs.extend(grant.programs.iter().map(ToString::to_string));
                }
                Verdict::Deny(denial) => {
                    let all = std::iter::once(&**denial).chain(&denial.further);
                    rules.extend(all.filter_map(|denial| Some(denial.rule.as_ref()?.name.clone())));
                }
            }
            if !fits {
                failures.push(TestFailure {
                    line: case.place,
                    command: case.line.clone(),
                    expected: match (&case.code, &case.rule) {
                        (Some(code), _) => format!("denied with `{code}`"),
                        (None, Some(rule)) => format!("allowed by the rule `{rule}`"),
                        (None, None) => "allowed".into(),
                    },
                    found: describe(&verdict),
                });
            }
        }
        let coverage = Coverage {
            untested_rules: self
                .book
                .rules
                .iter()
                .map(|rule| &rule.name)
                .filter(|name| !rules.contains(*name))
                .cloned()
                .collect(),
            untested_programs: self
                .named_programs()
                .map(ToString::to_string)
                .filter(|program| program != "cd" && !programs.contains(program))
                .collect(),
            rows: Vec::new(),
        };
        TestReport { run: self.book.tests.len(), failures, coverage }
    }
}

fn describe(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Permit(_, grant) => format!("allowed by {}", grant.rules.join(", ")),
        Verdict::Deny(denial) => format!("denied with `{}`: {}", denial.code, denial.message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_tables_that_no_test_reaches_are_named() {
        let text = "version = 1\n[operations]\nexecute = \"allow\"\n[[rule]]\nname = \"sorting\"\nprograms = [\"sort\", \"xargs\"]\n\
                    [[rule.test]]\nallow = \"sort -u --reverse\"\n\
                    [[rule.test]]\nallow = \"xargs sort --key=2\"\n\
                    [[rule.test]]\nallow = \"sort --unknown-option\"\n";
        let rulebook = Rulebook::parse_untested(text).unwrap();
        let report = rulebook.run_tests();
        assert_eq!(report.failures.len(), 1, "{report:?}");
        let of = |table: &str| report.coverage.rows.iter().find(|rows| rows.table == table).unwrap();
        let sort = of("sort");
        for used in ["--unique", "--reverse", "--key"] {
            assert!(!sort.unused.contains(&used), "{used} is given, also through a wrapper: {sort:?}");
        }
        assert!(sort.unused.contains(&"--compress-program") && sort.unused.len() == sort.all - 3, "{sort:?}");
        assert_eq!(of("xargs").unused.len(), of("xargs").all);
        assert!(report.coverage.rows.iter().all(|rows| ["sort", "xargs"].contains(&&*rows.table)));
    }
}
