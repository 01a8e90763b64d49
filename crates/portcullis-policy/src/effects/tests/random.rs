//! What holds of every word of every program.

use portcullis_core::{Piece, Span, Word};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use crate::effects::{Inner, Placeholder, Subject, effects, inner_effects, programs};

/// Pieces of which words that mean something are made.
const PARTS: &[&str] = &[
    "-",
    "--",
    "=",
    "/",
    "..",
    "a",
    "o",
    "i",
    "e",
    "f",
    "exec",
    "output",
    "etc",
    ";",
    "{}",
    "+",
    "s/a/b/",
    "w f",
    "{print}",
    "'",
    "\"",
    "\\",
    " ",
    "\n",
    "5",
    "-c",
    "-e",
    "-exec",
    "--output",
    "--in-place",
    "log",
    "status",
    "x",
    "C",
    "t",
    "z",
    "@",
    ":",
    "https://",
    "é",
    "\u{10FFFD}",
    "[",
    "]",
    "!",
    "|",
    ">",
    "T",
    "I",
    "[!a]",
];

fn word() -> impl Strategy<Value = Word> {
    let part = prop_oneof![
        8 => select(PARTS).prop_map(|text| Piece::Text(text.to_owned())),
        1 => Just(Piece::AnyString),
        1 => Just(Piece::AnyChar),
    ];
    vec(part, 0..4).prop_map(|parts| {
        let mut pieces: Vec<Piece> = Vec::new();
        for part in parts {
            match (pieces.last_mut(), part) {
                (Some(Piece::Text(text)), Piece::Text(more)) => text.push_str(&more),
                (_, part) => pieces.push(part),
            }
        }
        Word { pieces, span: Span::new(0, 0) }
    })
}

fn program() -> impl Strategy<Value = &'static str> {
    select(programs().collect::<Vec<_>>())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    /// Nothing that a caller writes makes this module panic, and arguments that effects name exist.
    #[test]
    fn any_words_are_answered(program in program(), words in vec(word(), 0..7)) {
        if let Ok(found) = effects(program, &words) {
            for effect in &found.list {
                prop_assert!(effect.argument.is_none_or(|at| at < words.len().max(1)), "{effect:?}");
            }
            for (at, _) in &found.insertions {
                prop_assert!(*at <= words.len());
            }
            for inner in &found.inner {
                let _ = inner_effects(inner);
            }
        }
    }

    /// Words that are not on the line never take an effect away: whatever a command does by the words on the line, it still
    /// may do when more are appended.
    #[test]
    fn appended_words_only_add(program in program(), words in vec(word(), 0..5)) {
        let Ok(alone) = effects(program, &words) else { return Ok(()) };
        let mut all = vec![Word::literal(program, Span::new(0, 0))];
        all.extend(words);
        let inner = Inner {
            words: all,
            appended: true,
            placeholder: Some(Placeholder::Text("<>".to_owned())),
            argument: 0,
            script: None,
            assignments: Vec::new(),
            directory: None,
        };
        let Ok(appended) = inner_effects(&inner) else { return Ok(()) };
        for effect in alone.list {
            let harmful = !matches!(effect.kind, crate::effects::EffectKind::Read | crate::effects::EffectKind::Examine);
            // The directory in force stands in for operands, so it goes when there are some.
            let implied = effect.argument.is_none() && !matches!(effect.subject, Subject::Unbounded(_));
            if harmful && !implied {
                let kept = appended.list.iter().any(|other| other.kind == effect.kind);
                prop_assert!(kept, "{program}: {effect:?} is lost in {:?}", appended.list);
            }
        }
    }
}
