//! Hundreds of lines and what the reference rulebooks answer them, one file each in `tests/corpus`.

use std::fmt::Write as _;

use portcullis_policy::Rulebook;

/// Checks every row of a corpus: a heading in brackets is `allow` or a denial's code, and holds for the rows
/// beneath it. `\N` in a row is a newline.
#[track_caller]
fn check(name: &str, user: &str, corpus: &str) {
    let rulebook = Rulebook::reference(name).expect("a reference rulebook");
    let (mut wanted, mut rows, mut wrong) = ("", 0, String::new());
    for row in corpus.lines().filter(|row| !row.is_empty() && !row.starts_with("# ")) {
        let heading = row.strip_prefix('[').and_then(|row| row.strip_suffix(']'));
        if let Some(heading) = heading.filter(|heading| !heading.contains(' ')) {
            wanted = heading;
            continue;
        }
        rows += 1;
        let found = rulebook.answer(user, &row.replace("\\N", "\n"));
        if found != wanted {
            let _ = writeln!(wrong, "{row}\n  wanted: {wanted}\n  found:  {found}");
        }
    }
    assert!(wrong.is_empty(), "{name}, of {rows} rows:\n{wrong}");
}

#[test]
fn looking_is_allowed_and_nothing_else_under_readonly() {
    check("readonly", "local", include_str!("corpus/readonly.txt"));
}

#[test]
fn work_in_the_workspace_is_allowed_and_nothing_else_under_dev() {
    check("dev", "local", include_str!("corpus/dev.txt"));
}

#[test]
fn two_hosts_are_reached_and_nothing_else_under_fetch() {
    check("fetch", "local", include_str!("corpus/fetch.txt"));
}

#[test]
fn looking_around_is_allowed_by_default_and_nothing_else() {
    check("default", "local", include_str!("corpus/default.txt"));
}
