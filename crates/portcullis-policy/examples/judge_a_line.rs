//! Judges the lines given as arguments by the `readonly` rulebook, and draws what is wrong with them.
//!
//! `cargo run -p portcullis-policy --example judge_a_line -- 'ls | wc -l' 'sort -o x y'`

use portcullis_core::{Limits, Policy as _, Principal, Submission, Verdict};
use portcullis_policy::{Rulebook, RulebookPolicy, explain};

fn main() {
    let Some(rulebook) = Rulebook::reference("readonly") else { return };
    let policy = RulebookPolicy::new(rulebook, Limits::default());
    for line in std::env::args().skip(1) {
        match policy.judge(&Principal::local(), &Submission::of(line.as_str())) {
            Verdict::Permit(permit, grant) => {
                println!("allowed by {}: {line}", grant.rules.join(", "));
                for command in permit.plan().script.commands() {
                    println!("  {} may {:?}", command.program, command.rights);
                }
            }
            Verdict::Deny(denial) => print!("{}", explain::draw(&line, &denial)),
        }
    }
}
