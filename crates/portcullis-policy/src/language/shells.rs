//! Whatever the language accepts, dash and bash split the same way.

use std::path::Path;
use std::process::{Command, Stdio};

use portcullis_core::Connector;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};

use super::{Line, parse};

/// Runs a line in a shell whose only command, `p`, writes its arguments to descriptor 9, and returns what
/// each `p` was given, sorted. Each waits for the end of its input, so that those of a pipeline write one
/// after another.
#[expect(clippy::disallowed_methods, reason = "the test asks a real shell what it makes of a line")]
fn split_by(shell: &str, line: &str, directory: &Path) -> Vec<Vec<u8>> {
    let seen = directory.join("seen");
    std::fs::write(&seen, "").unwrap();
    let prelude = "exec 9>>seen; PATH=/nowhere; set -f\n\
                   p() { while IFS= read -r l; do :; done; a=$(printf '%s\\001' \"$@\"; printf .); printf '%s\\002' \"$a\" >&9; }\n";
    std::fs::write(directory.join("line.sh"), format!("{prelude}{line}\n")).unwrap();
    Command::new(shell)
        .arg("line.sh")
        .env_clear()
        .current_dir(directory)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .unwrap();
    let mut calls: Vec<Vec<u8>> =
        std::fs::read(&seen).unwrap().split(|&byte| byte == 2).map(<[u8]>::to_vec).collect();
    calls.pop();
    calls.sort();
    calls
}

/// Returns what each `p` of a line would be given when every command succeeds; `None` when the line has
/// another command, or something that dash does not have.
fn split_by_us(text: &str, line: &Line) -> Option<Vec<Vec<u8>>> {
    let mut calls = Vec::new();
    for step in &line.steps {
        for command in &step.commands {
            let words: Vec<_> = command.words.iter().map(portcullis_core::Word::to_unmatched).collect();
            let (program, arguments) = words.split_first()?;
            let odd = command.assignments.iter().any(|one| one.name == "IFS")
                || command.redirections.iter().any(|one| {
                    use portcullis_core::RedirectionTarget::{Append, Read, Truncate};
                    matches!(&one.target, Read(path) | Append(path) | Truncate(path) if path.contains('/'))
                        || matches!(&one.target, Read(_))
                });
            if program != "p" || odd || text.contains("&>") {
                return None;
            }
            if step.connector != Connector::IfFailed {
                let mut call: Vec<u8> =
                    arguments.iter().flat_map(|word| [word.as_bytes(), &[1]].concat()).collect();
                if arguments.is_empty() {
                    call.push(1);
                }
                call.push(b'.');
                calls.push(call);
            }
        }
    }
    calls.sort();
    Some(calls)
}

fn shells() -> Vec<&'static str> {
    let found: Vec<_> =
        ["/bin/dash", "/bin/bash"].into_iter().filter(|path| Path::new(path).exists()).collect();
    if found.len() < 2 {
        eprintln!("SKIPPED: not both of dash and bash are here: {found:?}");
        assert!(std::env::var_os("PORTCULLIS_REQUIRE_ALL").is_none(), "dash and bash are required");
    }
    found
}

fn compare(text: &str, directory: &Path) -> Result<bool, TestCaseError> {
    let Ok(line) = parse(text) else { return Ok(false) };
    let Some(ours) = split_by_us(text, &line) else { return Ok(false) };
    for shell in shells() {
        let theirs = split_by(shell, text, directory);
        prop_assert_eq!(
            ours.iter().map(|call| String::from_utf8_lossy(call)).collect::<Vec<_>>(),
            theirs.iter().map(|call| String::from_utf8_lossy(call)).collect::<Vec<_>>(),
            "{} splits {:?} otherwise",
            shell,
            text
        );
    }
    Ok(true)
}

#[test]
fn the_corners_of_quoting_split_as_in_dash_and_bash() {
    let directory = tempfile::tempdir().unwrap();
    for line in [
        "p a 'b c' \"d\\\"e\" f\\ g",
        "p '' \"\" x''",
        "p \"a\\qb\" \"\\$x\" '\\'",
        "p a\\\nb \"c\\\nd\" 'e\\\nf'",
        "p a;p b&&p c||p d\np e",
        "p a | p b |\np c",
        "p $ \"$\" a$ $. '$x'",
        "p a#b #c\np \\#d",
        "p >o 2>&1 a 2>>e b",
        "p 2>o",
        "p a2>o",
        "p \\2>o",
        "p 2\\\n>o",
        "p {} {a} {a, HEAD@{1}..HEAD@{2} },{",
        "p ! !a != hi!",
        "p [a-z] * ? [!x",
        "p \\\n#c",
        "p a\\\n#c",
        "p é '\u{a0}'",
        "p A=b 'A'=b a=~x: a:~",
        "A=b p c",
        "p if then fi { }",
        "p x >| o",
        "p a &\\\n& p b",
        "p -- -n -e \\\\n",
    ] {
        assert!(compare(line, directory.path()).unwrap() || line.contains("=~"), "{line:?} is not compared");
    }
}

#[test]
fn random_lines_that_are_accepted_split_as_in_dash_and_bash() {
    let directory = tempfile::tempdir().unwrap();
    let part = prop_oneof![
        6 => "[ab1 ]{1,3}",
        2 => Just("p ".to_owned()),
        3 => r#"['"\\]"#,
        2 => r"(; p |\| p |&& p |\|\| p |\np |\\\n)",
        1 => r"(>o |2>&1 |2>o |>>o |1>&2)",
        2 => r"[{},.~=!#$*?\[\]:^-]",
        1 => "'[^'\r\0\x01-\x08]{0,4}'".prop_filter("controls", |text| !text.chars().any(|c| c.is_control() && c != '\n')),
    ];
    let lines = proptest::collection::vec(part, 1..12).prop_map(|parts| format!("p {}", parts.concat()));
    // A soak takes another number from the environment.
    let cases =
        std::env::var("PORTCULLIS_SHELL_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(800);
    let compared = std::cell::Cell::new(0_u32);
    TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() })
        .run(&lines, |line| {
            compared.set(compared.get() + u32::from(compare(&line, directory.path())?));
            Ok(())
        })
        .unwrap();
    eprintln!("{} of {cases} random lines were accepted and compared", compared.get());
    assert!(compared.get() > cases / 10, "the lines are too seldom accepted to show anything");
}
