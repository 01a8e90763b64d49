//! What documents say of the tree is so.

use std::collections::BTreeMap;

use crate::none;
use crate::rust::split;
use crate::tree::{files_below, read, rust_files};

const THREATS: &str = "docs/threat-model.md";
const DECISIONS: &str = "docs/decisions";
const SECTIONS: [&str; 4] = ["Context", "Choice", "Cost", "Turned down"];

/// Returns the texts in single backticks that name something by `::`, with their lines.
fn names(document: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    for (number, line) in document.lines().enumerate() {
        let quoted = line.split('`').skip(1).step_by(2);
        found.extend(quoted.filter(|text| names_a_test(text)).map(|text| (number + 1, text)));
    }
    found
}

/// Whether a text has the form of a test's name: `tests/…::name`, or `crate::path::name` of one of our crates.
fn names_a_test(text: &str) -> bool {
    let Some((head, name)) = text.rsplit_once("::") else { return false };
    let plain = |text: &str| text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    let ours =
        head.starts_with("tests/") || head.split("::").next().is_some_and(|first| folder_of(first).is_some());
    // Tests are sentences; `policy::code` is a module.
    ours && plain(name) && name.matches('_').count() >= 2
}

/// Returns the folder of a crate that a name begins with: `portcullis_policy`, or `policy` for short.
fn folder_of(first: &str) -> Option<&'static str> {
    Some(match first.trim_start_matches("portcullis_") {
        "core" => "crates/portcullis-core/",
        "policy" => "crates/portcullis-policy/",
        "sandbox" => "crates/portcullis-sandbox/",
        "store" => "crates/portcullis-store/",
        "notify" => "crates/portcullis-notify/",
        "identity" => "crates/portcullis-identity/",
        "engine" => "crates/portcullis-engine/",
        "api" => "crates/portcullis-api/",
        "server" => "bins/portcullis-server/",
        "cli" | "portcullis" => "bins/portcullis/",
        _ => return None,
    })
}

/// Whether there is such a test. `functions` holds each function's name with the files it stands in.
fn exists(text: &str, functions: &BTreeMap<String, Vec<String>>) -> bool {
    let (head, name) = text.rsplit_once("::").unwrap_or(("", text));
    // `tests/service/events.rs::name`, `tests/service::events::name` and `tests/service::name` are all told.
    let first = head.split("::").next().unwrap_or_default();
    let folder = folder_of(first).unwrap_or(first);
    functions.get(name).is_some_and(|files| files.iter().any(|file| file.starts_with(folder)))
}

/// Collects the functions of all sources: tests, and what macros make of a name count as well.
fn functions() -> BTreeMap<String, Vec<String>> {
    let mut functions: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (path, text) in rust_files() {
        let code = split(&text).code;
        for (at, _) in code.match_indices("fn ") {
            let name: String =
                code[at + 3..].chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            functions.entry(name).or_default().push(path.clone());
        }
    }
    functions
}

fn skip_or_fail(what: &str) {
    assert!(std::env::var_os("PORTCULLIS_REQUIRE_ALL").is_none(), "{what}");
    eprintln!("SKIPPED: {what}");
}

#[test]
fn the_threat_model_names_tests_that_are_there() {
    let document = read(THREATS);
    if document.is_empty() {
        return skip_or_fail(
            "docs/threat-model.md is not written yet, so none of its tests can be looked for",
        );
    }
    let named = names(&document);
    assert!(!named.is_empty(), "{THREATS} names no test as `tests/…::name` or `crate::path::name`");
    let functions = functions();
    let missing = named.iter().filter(|(_, text)| !exists(text, &functions));
    none(
        missing.map(|(line, text)| format!("{THREATS}:{line} names `{text}`, which is not there")).collect(),
    );
}

#[test]
fn a_name_is_recognised_and_looked_for_where_it_says() {
    let document = "| attack | `tests/confinement/files.rs::a_write_is_refused` and `policy::judge::a_b_c` |\n\
                    `Permit::grant`, `policy::code`, `a_b_c`, `tests/crash::orphans_are_gone`";
    let found: Vec<_> = names(document);
    assert_eq!(
        found,
        [
            (1, "tests/confinement/files.rs::a_write_is_refused"),
            (1, "policy::judge::a_b_c"),
            (2, "tests/crash::orphans_are_gone")
        ]
    );
    let functions =
        BTreeMap::from([("a_b_c".to_owned(), vec!["crates/portcullis-policy/src/judge.rs".to_owned()])]);
    assert!(exists("policy::judge::a_b_c", &functions));
    assert!(!exists("store::a_b_c", &functions) && !exists("policy::a_b_d", &functions));
}

/// Says what a decision lacks.
fn lacking(path: &str, text: &str) -> Vec<String> {
    let headings: Vec<&str> =
        text.lines().filter_map(|line| line.strip_prefix("## ")).map(str::trim).collect();
    let mut lacking: Vec<String> = SECTIONS
        .iter()
        .filter(|section| !headings.contains(section))
        .map(|section| format!("{path} has no section `## {section}`"))
        .collect();
    if !text.starts_with("# ") {
        lacking.push(format!("{path} does not begin with its title"));
    }
    let name = path.rsplit('/').next().unwrap_or_default();
    let numbered = name.get(..5).is_some_and(|number| {
        number.ends_with('-') && number[..4].chars().all(|digit| digit.is_ascii_digit())
    });
    if !numbered {
        lacking.push(format!("{path} is not named NNNN-title.md"));
    }
    lacking
}

#[test]
fn every_decision_has_its_four_sections_and_a_number_of_its_own() {
    let decisions: Vec<String> =
        files_below(DECISIONS).into_iter().filter(|path| path.ends_with(".md")).collect();
    if decisions.is_empty() {
        return skip_or_fail("docs/decisions is empty, so no decision can be looked at");
    }
    let mut complaints: Vec<String> = decisions.iter().flat_map(|path| lacking(path, &read(path))).collect();
    let mut numbers: BTreeMap<&str, Vec<&String>> = BTreeMap::new();
    for path in &decisions {
        let number = path.rsplit('/').next().and_then(|name| name.get(..4)).unwrap_or_default();
        numbers.entry(number).or_default().push(path);
    }
    complaints.extend(
        numbers
            .values()
            .filter(|paths| paths.len() > 1)
            .map(|paths| format!("{paths:?} have the same number")),
    );
    none(complaints);
}

#[test]
fn what_a_decision_lacks_is_seen() {
    let whole = "# No shell\n\n## Context\n\n## Choice\n\n## Cost\n\n## Turned down\n";
    assert!(lacking("docs/decisions/0001-no-shell.md", whole).is_empty());
    assert_eq!(
        lacking("docs/decisions/no-shell.md", "## Context\n## Choice\n## Cost\n"),
        [
            "docs/decisions/no-shell.md has no section `## Turned down`",
            "docs/decisions/no-shell.md does not begin with its title",
            "docs/decisions/no-shell.md is not named NNNN-title.md"
        ]
    );
}
