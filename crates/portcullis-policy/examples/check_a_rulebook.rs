//! Reads a rulebook, runs its tests, and says what is most likely not meant in it.
//!
//! `cargo run -p portcullis-policy --example check_a_rulebook -- rules.toml`

use std::process::ExitCode;

use portcullis_policy::Rulebook;

fn main() -> ExitCode {
    let Some(file) = std::env::args().nth(1) else {
        eprintln!("usage: check_a_rulebook FILE");
        return ExitCode::from(2);
    };
    let text = match std::fs::read_to_string(&file) {
        Ok(text) => text,
        Err(error) => {
            eprintln!("{file}: {error}");
            return ExitCode::FAILURE;
        }
    };
    match Rulebook::parse(&text) {
        Ok(rulebook) => {
            for finding in rulebook.lint() {
                println!("{file}:{finding}");
            }
            println!("{} tests passed", rulebook.run_tests().run);
            ExitCode::SUCCESS
        }
        Err(error) => {
            for problem in error.problems() {
                eprintln!("{file}:{}:{}: {}", problem.line, problem.column, problem.message);
            }
            ExitCode::FAILURE
        }
    }
}
