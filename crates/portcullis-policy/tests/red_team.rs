//! Thousands of lines with true verdicts under the reference rulebooks, written from the policies and the programs'
//! manuals by somebody who had not read the judge. They are asked as `portcullis policy check --batch` asks.
//!
//! A row of `tests/corpus/NAME.jsonl` is `{"id","user","command","verdict","classes","why"}`; the verdict is `allow`,
//! `deny` or, where the policy leaves it open, `either`; the classes are those of `docs/policy.md` that are true of the
//! denial. Rows whose id begins with `h-` or `x-` were written last, and nothing was made to fit them before they were first judged.

mod classes;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use portcullis_core::Limits;
use portcullis_policy::batch::{self, Decision, Question};
use portcullis_policy::{Rulebook, RulebookPolicy};
use serde::Deserialize;

use classes::{class_of, classes};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    id: String,
    user: String,
    command: String,
    verdict: Truth,
    classes: Vec<String>,
    why: String,
}

#[derive(Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Truth {
    Allow,
    Deny,
    Either,
}

/// Judges every row; no line is wrongly allowed, under 2 % are wrongly denied, at least 95 % of denials have a true class.
#[track_caller]
fn check(name: &str, corpus: &str) {
    let rulebook = Rulebook::reference(name).expect("a reference rulebook");
    let policy = RulebookPolicy::new(rulebook, Limits::default());
    let classes = classes();
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    let mut report = String::new();
    for line in corpus.lines() {
        let row: Row = serde_json::from_str(line).expect("a row");
        let question = Question {
            id: row.id.clone().into(),
            user: Some(row.user.clone()),
            roles: Default::default(),
            command: row.command.clone(),
        };
        let answer = batch::answer(&policy, question);
        let code = answer.code.as_deref().unwrap_or_default();
        let true_class =
            class_of(&classes, code).is_some_and(|class| row.classes.iter().any(|one| one == class));
        let found = match (&row.verdict, answer.verdict) {
            (Truth::Either, _) => continue,
            (Truth::Allow, Decision::Allow) => "rightly allowed",
            (Truth::Allow, Decision::Deny) => "wrongly denied",
            (Truth::Deny, Decision::Allow) => "wrongly allowed",
            (Truth::Deny, Decision::Deny) if true_class => "rightly denied",
            (Truth::Deny, Decision::Deny) => "denied for another reason",
        };
        *counts.entry(found).or_default() += 1;
        if !found.starts_with("rightly") {
            let (id, user, why) = (&row.id, &row.user, &row.why);
            let _ = writeln!(report, "{id} {found} ({user}, {why}): {:?} {code}", row.command);
        }
    }
    let count = |found: &str| counts.get(found).copied().unwrap_or_default();
    eprintln!("{name}: {counts:?}\n{report}");
    assert_eq!(count("wrongly allowed"), 0, "{report}");
    let honest = count("rightly allowed") + count("wrongly denied");
    assert!(count("wrongly denied") * 50 < honest, "{report}");
    let denied = count("rightly denied") + count("denied for another reason");
    assert!(count("denied for another reason") * 20 <= denied, "{report}");
    assert!(honest >= 100 && denied >= 100, "{name} has {honest} honest rows and {denied} others");
}

#[test]
fn default_answers_as_the_red_team_says() {
    check("default", include_str!("corpus/default.jsonl"));
}

#[test]
fn readonly_answers_as_the_red_team_says() {
    check("readonly", include_str!("corpus/readonly.jsonl"));
}

#[test]
fn dev_answers_as_the_red_team_says() {
    check("dev", include_str!("corpus/dev.jsonl"));
}

#[test]
fn fetch_answers_as_the_red_team_says() {
    check("fetch", include_str!("corpus/fetch.jsonl"));
}

#[test]
fn team_answers_as_the_red_team_says() {
    check("team", include_str!("corpus/team.jsonl"));
}

#[test]
fn every_code_has_a_class() {
    let classes = classes();
    for (code, _) in portcullis_policy::code::TABLE {
        assert!(class_of(&classes, code.as_str()).is_some(), "{code} has no class");
    }
}
