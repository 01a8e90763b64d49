//! What sources may hold, and where.

use std::collections::BTreeSet;

use crate::none;
use crate::rust::{Split, blocks_around, has_word, ships_and_tests, split, test_files};
use crate::tree::{files_below, read, rust_files};

/// Where unsafe code may stand: the kernel's door, and the program that attacks it, which ships with nobody.
const UNSAFE: [&str; 2] = ["crates/portcullis-sandbox/src/sys", "tests/confinement/probe/"];
/// Where permits are granted: by the policy. Core defines the word.
const GRANTS: [&str; 2] = ["crates/portcullis-policy/src/", "crates/portcullis-core/src/permit.rs"];
/// What makes a sleep the pause of a poll, or one of several things that are waited for.
const WAITS: [&str; 4] = ["for", "while", "loop", "select"];

fn place(path: &str, text: &str, at: usize) -> String {
    format!("{path}:{}", text[..at].matches('\n').count() + 1)
}

#[test]
fn unsafe_code_is_at_the_kernels_door_and_nowhere_else() {
    let mut complaints = Vec::new();
    let mut seen = BTreeSet::new();
    for (path, text) in rust_files() {
        let lines = split(&text).code;
        for (number, _) in lines.lines().enumerate().filter(|(_, line)| has_word(line, "unsafe")) {
            match UNSAFE.iter().find(|allowed| path.starts_with(**allowed)) {
                Some(allowed) => _ = seen.insert(*allowed),
                None => complaints.push(format!("{path}:{} is unsafe", number + 1)),
            }
        }
    }
    none(complaints);
    assert!(seen.contains(UNSAFE[0]), "the door is not where it was: look for it");
}

#[test]
fn only_the_policy_grants_permits() {
    let files = rust_files();
    let tests = test_files(&files);
    let mut complaints = Vec::new();
    for (path, text) in &files {
        if tests.contains(path) || GRANTS.iter().any(|allowed| path.starts_with(allowed)) {
            continue;
        }
        let code = split(text).code;
        let (ships, _) = ships_and_tests(&code);
        for (at, _) in ships.match_indices("Permit::grant") {
            complaints.push(format!("{} grants a permit", place(path, &code, at)));
        }
    }
    none(complaints);
}

/// Says what of a file is unfinished, or pretends to be tested.
fn unfinished(path: &str, Split { code, comments }: &Split) -> Vec<String> {
    let mut complaints = Vec::new();
    for mark in ["#[ignore", "todo!(", "unimplemented!(", "dbg!("] {
        complaints.extend(
            code.match_indices(mark).map(|(at, _)| format!("{} holds {mark}", place(path, code, at))),
        );
    }
    for mark in ["TODO", "FIXME", "XXX", "HACK"] {
        for (number, _) in comments.lines().enumerate().filter(|(_, line)| has_word(line, mark)) {
            complaints.push(format!("{path}:{} holds {mark}", number + 1));
        }
    }
    complaints
}

#[test]
fn nothing_is_unfinished_and_no_test_is_ignored() {
    none(rust_files().iter().flat_map(|(path, text)| unfinished(path, &split(text))).collect());
}

#[test]
fn what_is_unfinished_is_seen() {
    let source =
        "#[ignore]\nfn a() { todo!() } // FIXME\n// a todo list, \"XXX\"\nlet x = \"todo!() FIXME\";";
    assert_eq!(
        unfinished("a.rs", &split(source)),
        ["a.rs:1 holds #[ignore", "a.rs:2 holds todo!(", "a.rs:2 holds FIXME", "a.rs:3 holds XXX"]
    );
}

/// Finds sleeps that a test relies on. A clock that stands still is no sleep, nor is the pause of a poll; and nothing can
/// rely on a pause whose length is drawn by chance, after which something is killed.
fn sleeps(path: &str, code: &str, tests: &str) -> Vec<String> {
    let paused = code.contains("start_paused") || code.contains("time::pause(");
    let offset = code.len() - tests.len();
    let mut complaints = Vec::new();
    for (at, _) in tests.match_indices("sleep(") {
        let at = at + offset;
        let real = code[..at].ends_with("thread::");
        let called =
            !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_') && !code[..at].ends_with("fn ");
        let waits =
            blocks_around(code, at).iter().any(|opener| WAITS.iter().any(|wait| has_word(opener, wait)));
        let drawn = code[at..].starts_with("sleep(self.chance.up_to(");
        if called && !waits && !drawn && (real || !paused) {
            complaints.push(format!("{} sleeps in a test", place(path, code, at)));
        }
    }
    complaints
}

#[test]
fn no_test_sleeps_to_be_right() {
    let files = rust_files();
    let tests = test_files(&files);
    // A folder of tests shares its clock, with those in it: the attribute stands on the test, the sleep perhaps in
    // a double.
    let paused: BTreeSet<&str> = files
        .iter()
        .filter(|(path, text)| tests.contains(path) && text.contains("start_paused"))
        .filter_map(|(path, _)| Some(path.rsplit_once('/')?.0))
        .collect();
    let mut complaints = Vec::new();
    // A probe is a program that tests start: what it plays may sleep.
    for (path, text) in files.iter().filter(|(path, _)| !path.contains("/probe/")) {
        let code = split(text).code;
        let stands_still =
            paused.iter().any(|folder| path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/')));
        let of_tests = if tests.contains(path) { code.as_str() } else { ships_and_tests(&code).1 };
        let found = sleeps(path, &code, of_tests);
        complaints.extend(found.into_iter().filter(|_| !stands_still || code.contains("thread::sleep(")));
    }
    none(complaints);
}

#[test]
fn a_sleep_is_seen_and_a_bounded_poll_is_not() {
    let check = |code: &str| sleeps("a.rs", code, code).len();
    assert_eq!(check("fn a_test() { thread::sleep(x) }"), 1);
    assert_eq!(check("async fn a_test() { tokio::time::sleep(x).await }"), 1);
    assert_eq!(check("fn await_file() { loop { if a { return; } thread::sleep(x) } }"), 0);
    assert_eq!(check("fn a() { loop { b() } thread::sleep(x) }"), 1);
    assert_eq!(check("async fn a() { select! { b => c, () = sleep(x) => d } }"), 0);
    assert_eq!(check("#[tokio::test(start_paused = true)] async fn a() { sleep(x).await }"), 0);
    assert_eq!(check("#[tokio::test(start_paused = true)] async fn a() { thread::sleep(x) }"), 1);
    assert_eq!(check("fn a_kill() { thread::sleep(self.chance.up_to(x)); kill() }"), 0);
    assert_eq!(check("fn oversleep(x: u8) {} fn sleep(x: u8) {}"), 0);
}

/// Says where a file names this machine, or a place that packages were fetched from.
fn local(path: &str, text: &str) -> Vec<String> {
    // Written in two parts, so that this file does not name them.
    let marks = [concat!("/wo", "rk/"), concat!("/tmp/", "target"), concat!("/root/", ".cargo")];
    let mut complaints: Vec<String> = marks
        .iter()
        .flat_map(|mark| {
            text.match_indices(mark).map(move |(at, _)| format!("{} names {mark}", place(path, text, at)))
        })
        .collect();
    let lock = path.ends_with("Cargo.lock") || path.ends_with("package-lock.json");
    for (number, line) in text.lines().enumerate().filter(|_| lock) {
        let known = ["registry+https://github.com/rust-lang/crates.io-index", "https://registry.npmjs.org/"];
        let source = line.trim().trim_start_matches('"');
        let names_source = source.starts_with("source = ") || source.starts_with("resolved\": ");
        if names_source && !known.iter().any(|known| line.contains(known)) {
            complaints.push(format!("{path}:{} was fetched from somewhere else", number + 1));
        }
    }
    complaints
}

#[test]
fn no_file_names_a_machine_it_was_written_on() {
    none(files_below("").iter().flat_map(|path| local(path, &read(path))).collect());
}

#[test]
fn a_machines_names_are_seen() {
    assert_eq!(local("a.md", concat!("see\n/wo", "rk/main")), [concat!("a.md:2 names /wo", "rk/")]);
    assert!(local("a.md", "/workspace/x and source = \"x\"").is_empty());
    assert_eq!(local("Cargo.lock", "source = \"registry+https://mirror/\"").len(), 1);
    assert_eq!(local("x/package-lock.json", "  \"resolved\": \"https://mirror/a.tgz\",").len(), 1);
    assert_eq!(
        local("Cargo.lock", "source = \"registry+https://github.com/rust-lang/crates.io-index\"").len(),
        0
    );
}
