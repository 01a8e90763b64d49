//! Lines that developers and agents type, and tricks, with what `policies.md` says of them, written down from its words
//! before they were judged: 3,678 lines, 2,201 of them allowed.
//!
//! When they were first judged, 3,687 lines were answered, and 9 answers were mended: `jq --args` was refused a
//! path that is text to it, `node` five of its options, and `git --namespace` was let through. The other
//! differences were mistakes of the lines.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use portcullis_policy::Rulebook;

/// Reads the table of classes in `docs/policy.md`: codes, or beginnings of codes, and their class.
fn classes() -> BTreeMap<String, String> {
    let text = include_str!("../../../docs/policy.md");
    let (_, table) = text.split_once("| class | codes |").expect("docs/policy.md lists the classes");
    let mut classes = BTreeMap::new();
    for row in table.lines().skip(2).take_while(|line| line.starts_with('|')) {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let [_, class, codes, _] = cells.as_slice() else { panic!("a row has two cells: {row}") };
        for code in codes.split(", ") {
            classes.insert(code.trim_matches('`').trim_end_matches('…').to_owned(), (*class).to_owned());
        }
    }
    classes
}

/// Checks every row: a heading `@ allow` or `@ deny CLASS,…` holds for the rows beneath it, and so does `@user NAME`.
#[track_caller]
fn check(name: &str, corpus: &str) {
    let rulebook = Rulebook::reference(name).expect("a reference rulebook");
    let classes = classes();
    let (mut user, mut wanted) = ("local", "");
    let mut wrong = String::new();
    for row in corpus.lines().filter(|row| !row.starts_with("# What policies.md") && !row.is_empty()) {
        if let Some(name) = row.strip_prefix("@user ") {
            user = name;
            continue;
        }
        if let Some(heading) = row.strip_prefix("@ ") {
            wanted = heading;
            continue;
        }
        if row.starts_with("# reasons that are true") {
            continue;
        }
        let found = rulebook.answer(user, &row.replace("\\N", "\n"));
        let class =
            classes.iter().find(|(known, _)| found.starts_with(known.as_str())).map(|(_, class)| class);
        let right = match wanted.strip_prefix("deny ") {
            None => found == "allow",
            Some(true_classes) => class.is_some_and(|class| true_classes.split(',').any(|one| one == class)),
        };
        if !right {
            let _ = writeln!(wrong, "{user}: {row}\n  wanted: {wanted}\n  found:  {found}");
        }
    }
    assert!(wrong.is_empty(), "{name}:\n{wrong}");
}

#[test]
fn lines_under_default_are_answered_as_its_words_say() {
    check("default", include_str!("corpus/independent/default.txt"));
}

#[test]
fn lines_under_readonly_are_answered_as_its_words_say() {
    check("readonly", include_str!("corpus/independent/readonly.txt"));
}

#[test]
fn lines_under_dev_are_answered_as_its_words_say() {
    check("dev", include_str!("corpus/independent/dev.txt"));
}

#[test]
fn lines_under_fetch_are_answered_as_its_words_say() {
    check("fetch", include_str!("corpus/independent/fetch.txt"));
}

#[test]
fn lines_under_team_are_answered_as_its_words_say() {
    check("team", include_str!("corpus/independent/team.txt"));
}
