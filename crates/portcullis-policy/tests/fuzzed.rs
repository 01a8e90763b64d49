//! What the fuzzers of `fuzz/` have reached is reached again: every input of their corpora is survived, and holds
//! what holds for every line and every rulebook.

use std::path::Path;

// The fuzzers are a workspace of their own, which nothing here depends on; what they check is this file.
#[expect(unreachable_pub, reason = "it is a library of its own")]
#[path = "../fuzz/src/lib.rs"]
mod checks;

/// Visits the inputs of a target, and says how many there were.
fn each(target: &str, mut check: impl FnMut(&[u8])) -> usize {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut inputs: Vec<_> =
        std::fs::read_dir(&corpus).expect("a corpus").map(|entry| entry.expect("an entry").path()).collect();
    inputs.sort();
    for input in &inputs {
        eprintln!("{}", input.display());
        check(&std::fs::read(input).expect("an input"));
    }
    inputs.len()
}

#[test]
fn lines_that_a_fuzzer_found_are_survived() {
    assert!(each("line", checks::line) > 500);
}

#[test]
fn rulebooks_that_a_fuzzer_found_are_survived() {
    let survived = each("rulebook", |input| {
        if let Ok(text) = std::str::from_utf8(input) {
            checks::rulebook(text);
        }
    });
    assert!(survived > 500);
}
