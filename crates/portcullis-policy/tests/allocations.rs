//! A judgement allocates as often under 10,000 rules as under 100: no rule costs an allocation.

use std::fmt::Write as _;
use std::hint::black_box;

use portcullis_core::{Limits, Policy as _, Principal, Submission, Verdict};
use portcullis_policy::{Rulebook, RulebookPolicy};

/// Writes a rulebook that allows some programs, and beside that so many rules.
fn policy(others: usize, other: impl Fn(usize) -> String) -> RulebookPolicy {
    let mut text = String::from("version = 1\n");
    for at in 0..others {
        let _ = write!(text, "[[rule]]\nname = \"{at}\"\n{}\n", other(at));
    }
    // The rule that allows comes last, so that each of the others is in its way.
    text += "[[rule]]\nname = \"all\"\nprograms = [\"ls\", \"cat\", \"grep\", \"sort\", \"head\", \"git\"]\n";
    let rulebook = Rulebook::parse(&text).unwrap_or_else(|error| panic!("{error}"));
    RulebookPolicy::new(rulebook, Limits::default())
}

fn allocations(policy: &RulebookPolicy, line: &str, permitted: bool) -> u64 {
    let (principal, submission) = (Principal::local(), Submission::of(line));
    // The tables are read once, by whoever judges first.
    let warm = policy.judge(&principal, &submission);
    assert_eq!(matches!(warm, Verdict::Permit(..)), permitted, "{line}: {warm:?}");
    let counted = allocation_counter::measure(|| {
        let _ = black_box(policy.judge(&principal, &submission));
    });
    counted.count_total
}

#[track_caller]
fn check(line: &str, permitted: bool, other: impl Fn(usize) -> String) {
    let few = allocations(&policy(100, &other), line, permitted);
    let many = allocations(&policy(10_000, &other), line, permitted);
    assert!(few > 0, "nothing was counted");
    assert_eq!(few, many, "allocations of {line:?} under 100 and under 10,000 rules");
    println!("{line:?}: {few} allocations, under 100 rules and under 10,000");
}

const USUAL: &str = "grep -rn 'fn main' --include='*.rs' src | sort -u | head -n 20 > found.txt 2>&1";

#[test]
fn rules_about_other_programs_cost_no_allocation() {
    check(USUAL, true, |_| "programs = [\"wc\", \"tail\"]".into());
}

#[test]
fn rules_about_other_people_cost_no_allocation() {
    check(USUAL, true, |at| format!("programs = [\"grep\", \"sort\", \"head\"]\nusers = [\"u{at}\"]"));
}

#[test]
fn rules_about_other_options_of_the_same_program_cost_no_allocation() {
    check("ls -la", true, |_| "programs = [\"ls\"]\noptions = { allow = [\"-1\"] }".into());
}

#[test]
fn rules_about_other_sub_commands_of_the_same_program_cost_no_allocation() {
    check("git log --oneline", true, |_| "programs = [\"git\"]\nsubcommands = [\"status\"]".into());
}

#[test]
fn rules_about_other_programs_cost_a_denial_no_allocation() {
    check("ls; cat /etc/passwd; sort -o a b", false, |_| "programs = [\"wc\", \"tail\"]".into());
}
