//! Cutting and joining words without losing their patterns.

use portcullis_core::{Piece, Span, Word};

/// Returns the text that a word begins with, before its first pattern.
pub(super) fn leading_text(word: &Word) -> &str {
    match word.pieces.first() {
        Some(Piece::Text(text)) => text,
        _ => "",
    }
}

/// Returns the word without its first `length` bytes, which must be text; `None` when they are not.
pub(super) fn without_prefix(word: &Word, length: usize) -> Option<Word> {
    if length == 0 {
        return Some(word.clone());
    }
    let (first, others) = word.pieces.split_first()?;
    let Piece::Text(text) = first else { return None };
    let rest = text.get(length..)?;
    let mut pieces = Vec::new();
    if !rest.is_empty() {
        pieces.push(Piece::Text(rest.to_owned()));
    }
    pieces.extend_from_slice(others);
    Some(Word { pieces, span: word.span })
}

/// Puts text behind a word.
pub(super) fn with_suffix(word: &Word, suffix: &str) -> Word {
    joined(word, &Word::literal(suffix, word.span))
}

/// Puts `*` behind a word: every name that begins with it.
pub(super) fn with_any_suffix(word: &Word) -> Word {
    let mut pieces = word.pieces.clone();
    pieces.push(Piece::AnyString);
    Word { pieces, span: word.span }
}

/// Puts two words together. The span is the second's.
fn joined(first: &Word, second: &Word) -> Word {
    let mut pieces = first.pieces.clone();
    for piece in &second.pieces {
        match (pieces.last_mut(), piece) {
            (Some(Piece::Text(text)), Piece::Text(more)) => text.push_str(more),
            _ => pieces.push(piece.clone()),
        }
    }
    Word { pieces, span: second.span }
}

/// Returns a path as seen from a program that works in `directory`: a relative path counts from there.
pub(super) fn beneath(directory: &Word, path: &Word) -> Word {
    if leading_text(path).starts_with('/') {
        return path.clone();
    }
    joined(&with_suffix(directory, "/"), path)
}

/// Returns the last component of a path, `None` when it has none of its own (`/`, `.`, `..`, `a/..`).
pub(super) fn base_name(path: &Word) -> Option<Word> {
    let mut pieces = Vec::new();
    let mut trailing = true;
    for piece in path.pieces.iter().rev() {
        let Piece::Text(text) = piece else {
            trailing = false;
            pieces.push(piece.clone());
            continue;
        };
        let text = if trailing { text.trim_end_matches('/') } else { text };
        if let Some((_, name)) = text.rsplit_once('/') {
            if !name.is_empty() {
                pieces.push(Piece::Text(name.to_owned()));
            }
            break;
        }
        if !text.is_empty() {
            trailing = false;
            pieces.push(Piece::Text(text.to_owned()));
        }
    }
    pieces.reverse();
    let name = Word { pieces, span: path.span };
    (!matches!(name.as_literal(), Some("" | "." | ".."))).then_some(name)
}

/// Parts a list of paths at its colons.
pub(super) fn split_at_colons(word: &Word) -> Vec<Word> {
    let mut parts = vec![Word { pieces: Vec::new(), span: word.span }];
    for piece in &word.pieces {
        let Piece::Text(text) = piece else {
            parts.last_mut().into_iter().for_each(|part| part.pieces.push(piece.clone()));
            continue;
        };
        for (index, text) in text.split(':').enumerate() {
            if index > 0 {
                parts.push(Word { pieces: Vec::new(), span: word.span });
            }
            if !text.is_empty() {
                parts.last_mut().into_iter().for_each(|part| part.pieces.push(Piece::Text(text.to_owned())));
            }
        }
    }
    parts
}

/// Returns the directory that holds a path; `.` when the path is a bare name.
pub(super) fn directory_of(path: &Word) -> Word {
    let mut pieces = path.pieces.clone();
    if let Some(Piece::Text(text)) = pieces.last_mut() {
        text.truncate(text.trim_end_matches('/').len());
    }
    while let Some(piece) = pieces.pop() {
        let Piece::Text(text) = piece else { continue };
        if let Some(slash) = text.rfind('/') {
            let directory = text.get(..slash).unwrap_or_default();
            let root = directory.is_empty() && pieces.is_empty();
            let directory = if root { "/" } else { directory };
            if !directory.is_empty() {
                pieces.push(Piece::Text(directory.to_owned()));
            }
            return Word { pieces, span: path.span };
        }
    }
    Word::literal(".", path.span)
}

/// Makes a word for a path that no argument names.
pub(super) fn implied(text: &str) -> Word {
    Word::literal(text, Span::new(0, 0))
}

/// Whether some component of the path is `..`, as far as its text says.
pub(super) fn climbs(word: &Word) -> bool {
    word.to_unmatched().split('/').any(|part| part == "..")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn glob(text: &str) -> Word {
        let mut pieces = Vec::new();
        for (index, part) in text.split('*').enumerate() {
            if index > 0 {
                pieces.push(Piece::AnyString);
            }
            if !part.is_empty() {
                pieces.push(Piece::Text(part.to_owned()));
            }
        }
        Word { pieces, span: Span::new(0, 0) }
    }

    #[test]
    fn base_names_keep_patterns() {
        for (path, name) in [
            ("a/b.txt", Some("b.txt")),
            ("a/b/", Some("b")),
            ("*.txt", Some("*.txt")),
            ("a/*/x*y", Some("x*y")),
            ("a*/", Some("a*")),
            ("..", None),
            ("a/..", None),
            (".", None),
            ("/", None),
        ] {
            assert_eq!(base_name(&glob(path)).map(|word| word.to_unmatched()).as_deref(), name, "{path}");
        }
    }

    #[test]
    fn a_prefix_is_cut_from_text_alone() {
        assert_eq!(without_prefix(&glob("--x=*.rs"), 4), Some(glob("*.rs")));
        assert_eq!(without_prefix(&glob("*.rs"), 1), None);
    }
}
