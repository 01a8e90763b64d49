//! The words that the policy judges are the words that programs are given: lines go through the real parser, the
//! real judge and a real cell, to a program that prints its arguments.

use std::sync::Arc;

use portcullis_core::{
    Launcher as _, Level, Limits, OutputStream, Policy as _, Principal, Submission, Verdict, Word,
};
use portcullis_policy::{Rulebook, RulebookPolicy};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;

use crate::harness::{Watcher, bench, has};

const RULES: &str = r#"
version = 1

[operations]
write = "workspace"

[[rule]]
name = "printing and making"
programs = ["printf", "touch", "mkdir"]

[[rule]]
name = "the probe"
programs = ["confinement-probe"]
understood = "not"
"#;

/// So many commands are judged and run as one line.
const COMMANDS_OF_A_LINE: usize = 24;

fn policy() -> RulebookPolicy {
    RulebookPolicy::new(Rulebook::parse(RULES).unwrap(), Limits::default())
}

/// Judges a line and runs what was permitted; returns what it printed, and the words that were judged.
fn carry_out(policy: &RulebookPolicy, line: &str) -> (Vec<u8>, Vec<Vec<Word>>) {
    let permit = match policy.judge(&Principal::local(), &Submission::of(line)) {
        Verdict::Permit(permit, _) => *permit,
        Verdict::Deny(denial) => panic!("{line:?} is denied: {denial:?}"),
    };
    let judged = permit.plan().script.commands().map(|command| command.arguments.clone()).collect();
    let watcher = Arc::new(Watcher::default());
    let bench = bench();
    let outcome = bench.runtime.block_on(bench.sandbox.launch(permit, watcher.clone())).unwrap();
    let stderr = watcher.bytes(OutputStream::Stderr);
    assert!(stderr.is_empty(), "{line:?}: {} {outcome:?}", String::from_utf8_lossy(&stderr));
    (watcher.bytes(OutputStream::Stdout), judged)
}

/// Has `printf` print each argument with a NUL behind it, for each text of arguments; asserts that they are the
/// words wanted, and those that were judged.
fn check(before: &str, cases: &[(String, Vec<String>)]) {
    let policy = policy();
    for cases in cases.chunks(COMMANDS_OF_A_LINE) {
        // A control character that no line can hold ends what each command printed.
        let commands = cases.iter().map(|(text, _)| format!("printf '%s\\0' {text}\nprintf '\\001\\0'"));
        let line = format!("{before}{}", commands.collect::<Vec<_>>().join("\n"));
        let (printed, judged) = carry_out(&policy, &line);
        let printed = String::from_utf8(printed).unwrap();
        let mut printed = printed.split_terminator("\u{1}\0");
        let mut judged = judged
            .iter()
            .filter(|words| words.first().is_some_and(|format| format.as_literal() == Some("%s\\0")));
        for (text, wanted) in cases {
            let executed: Vec<&str> = printed.next().unwrap_or_default().split_terminator('\0').collect();
            assert_eq!(executed, *wanted, "executed of {text:?}");
            let words = judged.next().unwrap().get(1..).unwrap_or_default();
            if !words.iter().any(Word::is_glob) {
                let judged: Vec<_> = words.iter().map(Word::to_unmatched).collect();
                assert_eq!(judged, executed, "judged of {text:?}");
            }
        }
    }
}

fn owned(cases: &[(&str, &[&str])]) -> Vec<(String, Vec<String>)> {
    let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
    cases.iter().map(|(text, wanted)| ((*text).to_owned(), words(wanted))).collect()
}

#[test]
fn the_corners_of_quoting_arrive_as_they_were_judged() {
    if !has(Level::Namespaces) {
        return;
    }
    let cases: &[(&str, &[&str])] = &[
        ("a b  c\td", &["a", "b", "c", "d"]),
        ("'a b' \"c d\" e\\ f", &["a b", "c d", "e f"]),
        ("'' \"\" ''\"\"", &["", "", ""]),
        ("a'b'\"c\"\\d", &["abcd"]),
        ("'a\"b' \"a'b\" a\\'b a\\\"b", &["a\"b", "a'b", "a'b", "a\"b"]),
        ("'it'\\''s'", &["it's"]),
        ("'\\' \"\\\\\" \\\\", &["\\", "\\", "\\"]),
        ("\"a\\qb\" \"a\\nb\" 'a\\nb'", &["a\\qb", "a\\nb", "a\\nb"]),
        ("'a\nb' \"c\nd\"", &["a\nb", "c\nd"]),
        ("a\\\nb \"c\\\nd\" 'e\\\nf'", &["ab", "cd", "e\\\nf"]),
        ("'$HOME' \"\\$HOME\" \\$HOME", &["$HOME", "$HOME", "$HOME"]),
        ("'`id`' \"\\`id\\`\" \\`id\\`", &["`id`", "`id`", "`id`"]),
        ("'$(id)' \"\\$(id)\"", &["$(id)", "$(id)"]),
        ("$ \"$\" a$ '$'", &["$", "$", "a$", "$"]),
        ("a#b '#' \\#c", &["a#b", "#", "#c"]),
        ("a # b", &["a"]),
        ("'a;b' a\\;b \"a&b\" a\\|b '>' \\<", &["a;b", "a;b", "a&b", "a|b", ">", "<"]),
        ("'~' \\~ a~ '~/x'", &["~", "~", "a~", "~/x"]),
        ("'{a,b}' \\{a,b} {} {a}", &["{a,b}", "{a,b}", "{}", "{a}"]),
        ("'*' \"?\" \\[a] '[a-z]*'", &["*", "?", "[a]", "[a-z]*"]),
        ("'!' a! != hi!", &["!", "a!", "!=", "hi!"]),
        ("A=b 'A=b' --a=b", &["A=b", "A=b", "--a=b"]),
        ("if then fi { } while", &["if", "then", "fi", "{", "}", "while"]),
        ("-n -- -e --help", &["-n", "--", "-e", "--help"]),
        ("é 'ü ' \"日本\" \\ß", &["é", "ü ", "日本", "ß"]),
        ("'\u{a0}' \"\u{200b}\"", &["\u{a0}", "\u{200b}"]),
        ("%s '%d' \\\\0 '\\0'", &["%s", "%d", "\\0", "\\0"]),
    ];
    check("", &owned(cases));
    // The same through another program, which prints what it finds in its own memory.
    let (printed, _) = carry_out(&policy(), "confinement-probe print 'two words' \"\\$x\" '' a\\*b");
    assert_eq!(String::from_utf8(printed).unwrap(), "two words\n$x\n\na*b\n");
}

/// Words, and a text that a shell splits into them, each character quoted as chance has it.
fn written() -> impl Strategy<Value = (String, Vec<String>)> {
    let character = prop_oneof![
        4 => proptest::char::range('!', '~'),
        2 => proptest::sample::select(vec!['\'', '"', '\\', '$', '`', '*', '?', '[', ' ', '\n', '\t', '#', '~']),
        1 => proptest::sample::select(vec!['é', '日', '𝄞', '\u{a0}', '\u{feff}']),
    ];
    let word = proptest::collection::vec((character, 0..4_u8), 0..10);
    proptest::collection::vec(word, 1..6).prop_map(|words| {
        let texts: Vec<String> = words.iter().map(|word| quoted(word)).collect();
        let words = words.iter().map(|word| word.iter().map(|(c, _)| *c).collect()).collect();
        (texts.join(" "), words)
    })
}

fn quoted(word: &[(char, u8)]) -> String {
    let mut text = if word.is_empty() { "''".to_owned() } else { String::new() };
    for &(c, how) in word {
        text += &match (c, how) {
            (c, 0) if c.is_ascii_alphanumeric() => c.to_string(),
            ('\'', 1) => "\\'".to_owned(),
            (c, 1) => format!("'{c}'"),
            // What cannot be seen is for quotes alone, and a newline behind a backslash vanishes.
            (c, 2) if c != '\n' && !matches!(c, '\u{a0}' | '\u{feff}') => format!("\\{c}"),
            ('"' | '\\' | '$' | '`', _) => format!("\"\\{c}\""),
            (c, _) => format!("\"{c}\""),
        };
    }
    text
}

#[test]
fn hundreds_of_ways_to_quote_words_arrive_as_they_were_meant_and_judged() {
    if !has(Level::Namespaces) {
        return;
    }
    let mut runner = TestRunner::deterministic();
    let strategy = written();
    let cases: Vec<_> = (0..600).map(|_| strategy.new_tree(&mut runner).unwrap().current()).collect();
    check("", &cases);
}

#[test]
fn patterns_are_expanded_as_they_were_judged_and_quoted_ones_are_text() {
    if !has(Level::Namespaces) {
        return;
    }
    let before =
        "mkdir sub .dot && touch a.txt b.txt 'c d.txt' ./-n.txt '*.txt' .hidden.txt sub/e.txt sub/f .dot/g\n";
    let cases: &[(&str, &[&str])] = &[
        ("*.txt", &["*.txt", "./-n.txt", "a.txt", "b.txt", "c d.txt"]),
        ("?.txt", &["*.txt", "a.txt", "b.txt"]),
        ("[ab].txt", &["a.txt", "b.txt"]),
        ("[!a].txt", &["*.txt", "b.txt"]),
        ("[[:alpha:]].txt", &["a.txt", "b.txt"]),
        ("[a-c]*", &["a.txt", "b.txt", "c d.txt"]),
        ("c\\ ?.txt", &["c d.txt"]),
        ("'c 'd.*", &["c d.txt"]),
        ("\"a\".t?t", &["a.txt"]),
        ("'*'.txt", &["*.txt"]),
        ("\\*.t*", &["*.txt"]),
        ("\"[ab]\".txt", &["[ab].txt"]),
        ("[\"a\"b].txt", &["a.txt", "b.txt"]),
        ("\\?.txt", &["?.txt"]),
        ("sub/*", &["sub/e.txt", "sub/f"]),
        ("*/e.txt", &["sub/e.txt"]),
        ("*/*", &["sub/e.txt", "sub/f"]),
        (".h*", &[".hidden.txt"]),
        (".dot/*", &[".dot/g"]),
        ("none*", &["none*"]),
        ("'none x'*", &["none x*"]),
        ("s[u]b/[!e]", &["sub/f"]),
        ("a.txt *.txt", &["a.txt", "*.txt", "./-n.txt", "a.txt", "b.txt", "c d.txt"]),
    ];
    check(before, &owned(cases));
}
