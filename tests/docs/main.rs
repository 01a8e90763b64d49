//! What the documents say of settings, codes and rulebooks is what the program has, and the commands that they show do
//! what they say.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test ends where it cannot go on"
)]

mod blocks;
mod commands;
mod compare;

mod telemetry;

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::path::Path;

use portcullis_api::ProblemCode;
use portcullis_core::{Reason, Status};
use portcullis_policy::{Rulebook, code};
use portcullis_server::config::{SETTINGS, WEBHOOK_MEMBERS};

fn document(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(name);
    std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("could not read `{}`: {error}", path.display()))
}

/// Returns the cells of every row of the table below a line that begins with `head`.
fn table(document: &str, head: &str) -> Vec<Vec<String>> {
    let mut lines = document.lines().skip_while(|line| !line.starts_with(head));
    assert!(lines.next().is_some(), "there is no table that begins with `{head}`");
    // A bar inside a cell is written `\|`.
    let cells = |line: &str| {
        let line = line.replace("\\|", "\u{0}");
        let inner = line.trim_start_matches('|').trim_end_matches('|');
        inner.split('|').map(|cell| cell.trim().replace('\u{0}', "|")).collect()
    };
    lines.skip(1).take_while(|line| line.starts_with('|')).map(cells).collect()
}

/// Fails with what only one of two lists has, or with their order.
#[track_caller]
fn same<T: PartialEq + Debug>(table: &str, written: &[T], there: &[T]) {
    let lacking: Vec<_> = there.iter().filter(|one| !written.contains(one)).collect();
    let foreign: Vec<_> = written.iter().filter(|one| !there.contains(one)).collect();
    assert!(
        lacking.is_empty() && foreign.is_empty(),
        "the table of {table} lacks {lacking:?}, and has {foreign:?}, which the program has not"
    );
    assert_eq!(written, there, "the table of {table} has another order than the program");
}

/// Takes the backquotes off a cell that is one quoted text.
fn plain(cell: &str) -> &str {
    cell.trim_matches('`')
}

/// Returns the text of every fenced block of a language.
fn blocks(document: &str, language: &str) -> Vec<String> {
    let fence = format!("```{language}");
    let mut found = Vec::new();
    let mut lines = document.lines();
    while lines.by_ref().any(|line| line == fence) {
        let block: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
        found.push(block.join("\n"));
    }
    found
}

#[test]
fn the_operations_guide_lists_every_setting_with_its_names_and_default() {
    let rows = table(&document("docs/operations.md"), "| name in the file | variable |");
    let written: Vec<(&str, &str, &str)> =
        rows.iter().map(|row| (plain(&row[0]), plain(&row[1]), plain(&row[3]))).collect();
    let there: Vec<(&str, &str, &str)> = SETTINGS
        .iter()
        .map(|setting| {
            let default = if setting.default.is_empty() { "not set" } else { setting.default };
            (setting.name, setting.variable, default)
        })
        .collect();
    same("settings in docs/operations.md", &written, &there);
}

#[test]
fn the_guide_to_webhooks_lists_every_member_of_their_tables() {
    let rows = table(&document("docs/webhooks.md"), "| member | value |");
    let mut written: Vec<&str> = rows.iter().map(|row| plain(&row[0])).collect();
    let mut there = WEBHOOK_MEMBERS.to_vec();
    written.sort_unstable();
    there.sort_unstable();
    same("members in docs/webhooks.md", &written, &there);
}

#[test]
fn the_readme_names_settings_that_are_there_with_their_defaults() {
    for row in table(&document("README.md"), "| variable | unit | default |") {
        let variable = row[0].split('`').nth(1).unwrap();
        let setting = SETTINGS.iter().find(|setting| setting.variable == variable);
        let setting = setting.unwrap_or_else(|| panic!("`{variable}` is no setting"));
        if row[2].starts_with('`') {
            assert_eq!(plain(&row[2]), setting.default, "{variable}");
        }
    }
}

#[test]
fn the_api_document_lists_every_problem_code_with_its_status() {
    let rows = table(&document("docs/api.md"), "| code | status | meaning |");
    let written: Vec<_> = rows.iter().map(|row| (row[0].replace('`', ""), row[1].clone())).collect();
    let codes = ProblemCode::ALL.iter().map(|code| (code.as_str().to_owned(), code.status().to_string()));
    same("problem codes in docs/api.md", &written, &codes.collect::<Vec<_>>());
}

#[test]
fn the_api_document_explains_every_ending() {
    let rows = table(&document("docs/api.md"), "| status | reason | when |");
    let reasons: BTreeSet<String> =
        rows.iter().flat_map(|row| row[1].split(", ")).map(|reason| plain(reason).to_owned()).collect();
    assert_eq!(reasons, Reason::ALL.iter().map(|reason| reason.as_str().to_owned()).collect());
    for status in rows.iter().map(|row| plain(&row[0])).filter(|status| !status.is_empty()) {
        assert!(Status::parse(status).is_some_and(Status::is_terminal), "{status}");
    }
}

#[test]
fn the_policy_document_lists_every_denial_code() {
    let rows = table(&document("docs/policy.md"), "| code | means |");
    let written: Vec<&str> = rows.iter().map(|row| plain(&row[0])).collect();
    let there: Vec<&str> = code::TABLE.iter().map(|(code, _)| code.as_str()).collect();
    same("denial codes in docs/policy.md", &written, &there);
}

#[test]
fn every_rulebook_of_the_policy_document_passes_its_own_tests() {
    let rulebooks = blocks(&document("docs/policy.md"), "toml");
    assert!(!rulebooks.is_empty());
    for text in rulebooks {
        if let Err(error) = Rulebook::parse(&text) {
            panic!("{error}\nin\n{text}");
        }
    }
}

/// Returns the steps of the confinement that a source file names in its errors, its tests left out.
fn steps(source: &str) -> BTreeSet<String> {
    let code: String = source.split("#[cfg(test)]").next().unwrap_or_default().into();
    let mut found = BTreeSet::new();
    for opening in [".at(\"", "at(\"", "step: \"", "StepError::new(\""] {
        found.extend(code.split(opening).skip(1).filter_map(|rest| rest.split('"').next()).map(String::from));
    }
    found
}

#[test]
fn the_architecture_names_every_step_that_an_error_can_name() {
    // Texts in single backquotes; a fence would change which quotes open and which close.
    let text = document("docs/architecture.md");
    let prose: String = text.split("```").step_by(2).collect::<Vec<_>>().join(" ");
    let prose = prose.split_whitespace().collect::<Vec<_>>().join(" ");
    let named: BTreeSet<&str> = prose.split('`').skip(1).step_by(2).collect();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../crates/portcullis-sandbox/src");
    let mut missing = BTreeSet::new();
    for file in std::fs::read_dir(folder).unwrap().flatten().map(|entry| entry.path()) {
        if file.extension().is_some_and(|extension| extension == "rs") {
            let there = steps(&std::fs::read_to_string(&file).unwrap());
            missing.extend(there.into_iter().filter(|step| !named.contains(step.as_str())));
        }
    }
    assert!(missing.is_empty(), "docs/architecture.md does not name these steps: {missing:#?}");
}

/// Returns the names of all documents.
fn names_of_documents() -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut names: Vec<String> = vec!["README.md".into(), "CHANGELOG.md".into()];
    for folder in ["docs", "docs/decisions", "deploy"] {
        let entries = std::fs::read_dir(root.join(folder)).unwrap().flatten();
        let files = entries.map(|entry| format!("{folder}/{}", entry.file_name().to_string_lossy()));
        names.extend(files.filter(|name| name.ends_with(".md")));
    }
    names
}

#[test]
fn the_readme_leads_to_every_document() {
    let readme = document("README.md");
    let names = names_of_documents().into_iter().filter(|name| !name.starts_with("docs/decisions/"));
    let missing: Vec<_> =
        names.filter(|name| name != "README.md" && !readme.contains(&format!("({name})"))).collect();
    assert_eq!(missing, ["CHANGELOG.md"], "only the history of versions is not to be read on");
}

#[test]
fn links_between_documents_lead_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let names = names_of_documents();
    let mut dead = Vec::new();
    for name in &names {
        let text = document(name);
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            if file.contains("://") {
                continue;
            }
            let target =
                if file.is_empty() { root.join(name) } else { root.join(name).parent().unwrap().join(file) };
            let leads = match std::fs::read_to_string(&target) {
                Ok(text) => anchor.is_empty() || headings(&text).contains(anchor),
                Err(_) => anchor.is_empty() && target.is_dir(),
            };
            if !leads {
                dead.push(format!("{name}: {link}"));
            }
        }
    }
    assert!(dead.is_empty(), "{dead:#?}");
}

/// Returns the anchors of a document's headings, as they are made where documents are read.
fn headings(text: &str) -> BTreeSet<String> {
    let mut code = false;
    let mut found = BTreeSet::new();
    for line in text.lines() {
        if line.starts_with("```") {
            code = !code;
        }
        if code || !line.starts_with('#') {
            continue;
        }
        let title = line.trim_start_matches('#').trim().to_lowercase();
        let kept = title.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        found.insert(kept.map(|c| if c == ' ' { '-' } else { c }).collect());
    }
    found
}
