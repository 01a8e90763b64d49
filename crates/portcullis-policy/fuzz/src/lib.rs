//! What holds for every line and every rulebook, be it a fuzzer's.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use portcullis_core::{
    Command, Denial, DenialKind, Limits, Permit, Policy as _, Principal, RedirectionTarget, Submission,
    Verdict, Word,
};
use portcullis_policy::{MAX_COMMANDS, Rulebook, RulebookPolicy, code, explain};

/// Every reference rulebook, read once.
static POLICIES: LazyLock<Vec<(&'static str, RulebookPolicy)>> = LazyLock::new(|| {
    let references = Rulebook::references().filter_map(|name| Some((name, Rulebook::reference(name)?)));
    references.map(|(name, rulebook)| (name, RulebookPolicy::new(rulebook, Limits::default()))).collect()
});

/// Those that `team.toml` lists, each with other permissions, and one whom nobody lists.
const USERS: [&str; 6] = ["alice", "bob", "carol", "svc-report", "dave", "mallory"];

/// What one verdict may take, and what each byte of the line may add: some hundred times the usual.
const LONGEST: Duration = Duration::from_millis(500);
const LONGEST_OF_A_BYTE: Duration = Duration::from_micros(50);

/// Lines that every rulebook is asked about.
const LINES: [&str; 4] =
    ["ls -la", "cat notes.txt | grep x > found", "find . -exec rm {} +", "git log; sh -c 'ls'"];

/// Any line, any user, every reference rulebook: there is a verdict, the same one twice, and it holds what
/// verdicts promise. The first byte chooses who asks; the rest is the line.
///
/// # Panics
/// When it is not so.
pub fn line(bytes: &[u8]) {
    let Some((&who, bytes)) = bytes.split_first() else { return };
    let Ok(line) = std::str::from_utf8(bytes) else { return };
    let name = USERS.get(usize::from(who) % USERS.len()).copied().unwrap_or("alice");
    let principal = Principal { name: name.into(), ..Principal::local() };
    let submission = Submission::of(line);
    for (rulebook, policy) in POLICIES.iter() {
        let begun = Instant::now();
        let verdict = policy.judge(&principal, &submission);
        let taken = begun.elapsed();
        let most = LONGEST + LONGEST_OF_A_BYTE * u32::try_from(line.len()).unwrap_or(u32::MAX);
        assert!(taken < most, "{rulebook} took {taken:?} for a line of {} bytes", line.len());
        assert_eq!(verdict, policy.judge(&principal, &submission), "{rulebook} judges differently twice");
        match &verdict {
            Verdict::Permit(permit, _) => check_permit(line, permit),
            Verdict::Deny(denial) => check_denial(line, denial),
        }
    }
}

/// What is executed are words of the line, which no program reads otherwise than they were judged.
fn check_permit(line: &str, permit: &Permit) {
    let plan = permit.plan();
    assert!(plan.script.commands().count() <= MAX_COMMANDS);
    for step in &plan.script.steps {
        assert!(!step.pipeline.commands.is_empty());
        for command in &step.pipeline.commands {
            match command {
                Command::Simple(simple) => {
                    assert!(line.get(simple.span.start..simple.span.end).is_some(), "{:?}", simple.span);
                    assert!(!simple.program.as_str().contains('/'));
                    for word in &simple.arguments {
                        check_word(line, word);
                    }
                    for redirection in &simple.redirections {
                        assert!(redirection.descriptor <= 2);
                        match &redirection.target {
                            RedirectionTarget::Read(path)
                            | RedirectionTarget::Truncate(path)
                            | RedirectionTarget::Append(path) => check_text(path),
                            RedirectionTarget::Duplicate(_) => {}
                        }
                    }
                    for (name, value) in &simple.assignments {
                        assert!(!name.is_empty() && !name.contains(['=', '\0']));
                        check_text(value);
                    }
                }
                Command::ChangeDirectory(change) => {
                    assert_eq!(step.pipeline.commands.len(), 1, "`cd` stands alone");
                    check_text(&change.directory);
                }
            }
        }
    }
}

fn check_word(line: &str, word: &Word) {
    assert!(line.get(word.span.start..word.span.end).is_some(), "{:?}", word.span);
    check_text(&word.to_unmatched());
}

fn check_text(text: &str) {
    assert!(!text.chars().any(|c| c.is_control() && !matches!(c, '\t' | '\n')), "{text:?}");
}

/// What is refused is refused with a known code, at a place that can be shown, in words that can be read.
fn check_denial(line: &str, denial: &Denial) {
    for one in std::iter::once(denial).chain(&denial.further) {
        assert!(code::TABLE.iter().any(|(code, _)| *code == one.code), "{}", one.code);
        assert!(line.get(one.span.start..one.span.end).is_some(), "{one:?}");
        assert!(!one.message.is_empty() && !one.message.ends_with('.'), "{one:?}");
        assert!(one.kind != DenialKind::Forbidden || one.message.contains("not allowed"), "{one:?}");
    }
    let drawn = explain::draw(line, denial);
    assert!(!drawn.chars().any(|c| c.is_control() && c != '\n'), "{drawn:?}");
}

/// Any text is a rulebook that answers, or one that is refused with the place of everything wrong with it.
///
/// # Panics
/// When it is not so.
pub fn rulebook(text: &str) {
    let rulebook = match Rulebook::parse_untested(text) {
        Ok(rulebook) => rulebook,
        Err(error) => {
            let lines = text.split('\n').count();
            assert!(!error.problems().is_empty());
            for problem in error.problems() {
                assert!((1..=lines).contains(&problem.line), "{problem:?} of {lines} lines");
                assert!(problem.column >= 1 && !problem.message.is_empty(), "{problem:?}");
            }
            return;
        }
    };
    // What its own tests say decides whether it may be used, and is said of each.
    let report = rulebook.run_tests();
    assert_eq!(report.failures.is_empty(), Rulebook::parse(text).is_ok());
    let _ = rulebook.lint();
    let _ = rulebook.programs();
    let policy = RulebookPolicy::new(rulebook, Limits::default());
    for line in LINES {
        let submission = Submission::of(line);
        let verdict = policy.judge(&Principal::local(), &submission);
        assert_eq!(verdict, policy.judge(&Principal::local(), &submission));
    }
    let _ = policy.allowed(&Principal::local());
}
