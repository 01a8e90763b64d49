//! Answers JSON lines on standard input with JSON lines on standard output, by a reference rulebook or a file.
//!
//! `echo '{"id":1,"command":"ls | wc"}' | cargo run -p portcullis-policy --example batch -- readonly`

use std::io::{self, BufRead as _, Write as _};
use std::process::ExitCode;

use portcullis_core::Limits;
use portcullis_policy::{Rulebook, RulebookPolicy, batch};

fn main() -> io::Result<ExitCode> {
    let name = std::env::args().nth(1).unwrap_or_else(|| "default".into());
    let text = match Rulebook::reference_text(&name) {
        Some(text) => text.to_owned(),
        None => std::fs::read_to_string(&name)?,
    };
    // Shown untested, so that a rulebook in the making can be tried.
    let rulebook = match Rulebook::parse_untested(&text) {
        Ok(rulebook) => rulebook,
        Err(error) => {
            eprintln!("{error}");
            return Ok(ExitCode::FAILURE);
        }
    };
    let policy = RulebookPolicy::new(rulebook, Limits::default());
    let mut out = io::stdout().lock();
    for line in io::stdin().lock().split(b'\n') {
        writeln!(out, "{}", batch::answer_json(&policy, &line?))?;
    }
    Ok(ExitCode::SUCCESS)
}
