//! What holds for every line.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use portcullis_core::{Denial, Limits, Policy as _, Principal, Span, Submission, Verdict, Word};
use portcullis_policy::{Rulebook, RulebookPolicy, explain};
use proptest::prelude::*;
use proptest::sample::select;

/// Every reference rulebook, read once.
static POLICIES: LazyLock<Vec<(&'static str, RulebookPolicy)>> = LazyLock::new(|| {
    let references = Rulebook::references().filter_map(|name| Some((name, Rulebook::reference(name)?)));
    references.map(|(name, rulebook)| (name, RulebookPolicy::new(rulebook, Limits::default()))).collect()
});

/// A soak takes another number of cases from the environment.
fn config() -> ProptestConfig {
    let cases =
        std::env::var("PORTCULLIS_POLICY_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(400);
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

fn judge(policy: &RulebookPolicy, line: &str) -> Verdict {
    let principal = Principal { name: "carol".into(), ..Principal::local() };
    policy.judge(&principal, &Submission::of(line))
}

/// Returns the denial's code, or the words that would be executed.
fn outcome(verdict: &Verdict) -> Result<Vec<Vec<String>>, String> {
    match verdict {
        Verdict::Deny(denial) => Err(denial.code.to_string()),
        Verdict::Permit(permit, _) => {
            let commands = permit.plan().script.commands();
            Ok(commands.map(|one| one.arguments.iter().map(Word::to_unmatched).collect()).collect())
        }
    }
}

fn all(denial: &Denial) -> impl Iterator<Item = &Denial> {
    std::iter::once(denial).chain(&denial.further)
}

/// Text that looks like command lines.
fn lines() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        4 => select(vec!["ls", "cat", "grep", "find", "echo", "sort", "sed", "awk", "git", "rm", "tar", "xargs", "env", "cd", "sh"]).prop_map(str::to_owned),
        3 => select(vec![" ", " ", "\t", "\n", ";", "|", "&&", "||", "&", ">", ">>", "<", "2>", "2>&1", "&>", "<<", "(", ")", "{", "}"]).prop_map(str::to_owned),
        3 => select(vec!["/etc/passwd", "..", "/", ".git", "a", "*", "/e*", "~", "$x", "$(id)", "`id`", "-exec", "-o", "-i", "--output=x", "-c", "{}", "\\;", "+", "status", "s/a/b/e", "A=b"]).prop_map(str::to_owned),
        2 => select(vec!["'", "\"", "\\", "#", "!", "[", "]", "?", "é", "\u{a0}", "\r", "\0"]).prop_map(str::to_owned),
        1 => any::<String>(),
    ];
    proptest::collection::vec(part, 0..14).prop_map(|parts| parts.concat())
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn every_line_has_a_verdict_whose_spans_can_be_shown(line in lines()) {
        for (name, policy) in POLICIES.iter() {
            let verdict = judge(policy, &line);
            prop_assert_eq!(&verdict, &judge(policy, &line), "{} judges {:?} differently twice", name, line);
            let Verdict::Deny(denial) = &verdict else { continue };
            for one in all(denial) {
                let Span { start, end } = one.span;
                prop_assert!(line.get(start..end).is_some(), "{:?}: {:?}", line, one);
                prop_assert!(!one.message.is_empty() && !one.message.ends_with('.'), "{:?}", one);
                if one.kind == portcullis_core::DenialKind::Forbidden {
                    prop_assert!(one.message.contains("not allowed"), "{:?}", one);
                }
            }
            let drawn = explain::draw(&line, denial);
            prop_assert!(!drawn.chars().any(|c| c.is_control() && c != '\n'), "{:?}", drawn);
        }
    }

    #[test]
    fn quoting_a_word_differently_never_changes_a_verdict(
        program in select(vec!["ls", "cat", "grep", "find", "rm", "git", "echo", "sort"]),
        words in proptest::collection::vec(
            select(vec!["-r", "-o", "x", "/etc/passwd", "../etc", "notes.txt", "-delete", "-exec", "status", "--output=y", ".git/x", "-la", "a b", "", "$x", "*", "~", "{a,b}", "#", ";", "'", "\"", "\\"]),
            0..5,
        ),
    ) {
        let single = |word: &str| format!("'{}'", word.replace('\'', "'\\''"));
        let double = |word: &str| {
            let escaped = word.replace('\\', "\\\\").replace('"', "\\\"").replace('$', "\\$").replace('`', "\\`");
            format!("\"{escaped}\"")
        };
        let escaped = |word: &str| match word {
            "" => "''".to_owned(),
            _ => word.chars().map(|c| format!("\\{c}")).collect(),
        };
        let mixed = |word: &str| match word.char_indices().nth(1) {
            Some((at, _)) => format!("{}{}", single(&word[..at]), double(&word[at..])),
            None => double(word),
        };
        let line = |quote: &dyn Fn(&str) -> String| {
            std::iter::once(program).chain(words.iter().copied()).map(quote).collect::<Vec<_>>().join(" ")
        };
        let lines = [line(&single), line(&double), line(&escaped), line(&mixed)];
        for (name, policy) in POLICIES.iter() {
            let outcomes: Vec<_> = lines.iter().map(|line| outcome(&judge(policy, line))).collect();
            prop_assert!(outcomes.windows(2).all(|pair| pair[0] == pair[1]), "{}: {:?} {:?}", name, lines, outcomes);
        }
    }

    #[test]
    fn one_refused_command_refuses_the_line(before in 0_usize..40, after in 0_usize..40, joint in select(vec!["; ", " && ", " || ", " | ", "\n"])) {
        let commands = |count: usize| vec!["echo a"; count];
        let all = [commands(before), vec!["sudo reboot"], commands(after)].concat().join(joint);
        for (name, policy) in POLICIES.iter() {
            prop_assert!(outcome(&judge(policy, &all)).is_err(), "{}: {}", name, all);
        }
    }

    #[test]
    fn adding_a_rule_never_removes_a_denial_elsewhere(line in lines()) {
        let narrow = "version = 1\n[[rule]]\nname = \"a\"\nprograms = [\"ls\", \"cat\", \"grep\", \"find\", \"echo\"]\n";
        let wide = format!("{narrow}[[rule]]\nname = \"b\"\nprograms = [\"pwd\"]\n");
        let narrow = RulebookPolicy::new(Rulebook::parse(narrow).unwrap(), Limits::default());
        let wide = RulebookPolicy::new(Rulebook::parse(&wide).unwrap(), Limits::default());
        if !line.contains("pwd") {
            prop_assert_eq!(outcome(&judge(&narrow, &line)), outcome(&judge(&wide, &line)));
        }
    }
}

#[test]
fn every_command_of_a_permit_was_named_on_the_line() {
    for (_, policy) in POLICIES.iter() {
        for line in ["ls | grep x", "cat a && echo b", "find src -name x"] {
            let Verdict::Permit(permit, _) = judge(policy, line) else { continue };
            let programs: BTreeSet<_> = permit.plan().programs();
            assert!(programs.iter().all(|program| line.contains(program.as_str())), "{line}");
        }
    }
}

#[test]
fn the_longest_lines_of_any_shape_are_judged_on_a_small_stack() {
    // A thread of an async runtime has 2 MiB.
    let work = || {
        for (head, part, tail) in [
            ("", "env ", "ls"),
            ("", "timeout 1 ", "ls"),
            ("", "xargs ", "ls"),
            ("find . ", "\\( ", ""),
            ("find . ", "-execdir find . ", "\\;"),
            ("find . -exec ls ", "{} ", "\\;"),
            ("test ", "\\( ", "x"),
            ("awk '", "(", "' x"),
            ("awk '{print ", "a[", "1}' x"),
            ("awk '", "!", "' x"),
            ("sed '", "{", "' x"),
            ("jq '", "[", "' x"),
            ("rm ", "a ", ""),
            ("rm ", ".*/", ""),
            ("cat ", "/etc/x ", ""),
            ("ls ", ">a ", ""),
            ("git ", "-C a ", "status"),
            ("sh -c ", "'sh -c '", ""),
            ("cd a", " && cd a", ""),
        ] {
            let line = format!("{head}{}{tail}", part.repeat(40_000 / part.len()));
            for (_, policy) in POLICIES.iter() {
                let _ = judge(policy, &line);
            }
        }
    };
    let thread = std::thread::Builder::new().stack_size(2 << 20).spawn(work).unwrap();
    thread.join().unwrap();
}
