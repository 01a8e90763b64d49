//! `test` and `[`: expressions about files, text and numbers.

use portcullis_core::Word;

use super::roles::ITSELF;
use super::{EffectKind, Effects, Unknown};

/// Operators before a path.
const UNARY: &[&str] = &[
    "-a", "-b", "-c", "-d", "-e", "-f", "-g", "-G", "-h", "-k", "-L", "-N", "-O", "-p", "-r", "-s", "-S",
    "-u", "-w", "-x",
];

/// Operators between two paths.
const BINARY: &[&str] = &["-ef", "-nt", "-ot"];

/// Reads an expression. Whatever may be a path counts as one: a word may be an operator in one reading and an
/// operand in another, and looking at one path more does no harm.
pub(super) fn read(program: &str, arguments: &[Word], effects: &mut Effects) -> Result<(), Unknown> {
    if program == "[" && arguments.last().and_then(Word::as_literal) != Some("]") {
        return Err(Unknown::Usage { problem: "`[` wants `]` as its last word".into(), argument: None });
    }
    let operator = |index: usize, known: &[&str]| {
        let text = arguments.get(index).and_then(Word::as_literal);
        text.filter(|text| known.contains(text))
    };
    for (index, word) in arguments.iter().enumerate() {
        let before = index.checked_sub(1);
        let after_unary = before.and_then(|before| operator(before, UNARY));
        let after_binary = before.and_then(|before| operator(before, BINARY));
        let Some(operator) = after_unary.or(after_binary).or_else(|| operator(index + 1, BINARY)) else {
            continue;
        };
        effects.path(EffectKind::Examine, word.clone(), ITSELF, Some(index), &format!("`{operator}`"));
    }
    Ok(())
}
