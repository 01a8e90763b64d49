//! Expands the patterns of a judged word against the files that the cell can see.
//!
//! As POSIX says (2.14): a pattern matches names component by component, a leading `.` only literally, `/`
//! never; matches are sorted by their bytes; a pattern without a match stays as it is. Beyond POSIX, a match
//! that begins with `-` gets `./` before it, so that no file name becomes an option.

use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use portcullis_core::{Piece, Word};

/// The most words that one pattern may become.
pub(crate) const MAX_MATCHES: usize = 100_000;

/// A pattern that matches more names than can be handled.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooMany;

/// Opens a directory to list it; `None` where that is not allowed or not possible.
pub(crate) type Open<'a> = &'a dyn Fn(&Path) -> Option<OwnedFd>;

/// Returns the words that a word becomes, as bytes; relative patterns are matched from the working directory.
pub(crate) fn expand(word: &Word, open: Open<'_>) -> Result<Vec<Vec<u8>>, TooMany> {
    if let Some(text) = word.as_literal() {
        return Ok(vec![text.as_bytes().to_vec()]);
    }
    let components = components(&word.pieces);
    let mut found: Vec<Vec<u8>> = vec![Vec::new()];
    for (index, component) in components.iter().enumerate() {
        let last = index + 1 == components.len();
        let mut next = Vec::new();
        for prefix in found {
            step(&prefix, component, last, open, &mut next)?;
        }
        found = next;
    }
    if found.is_empty() {
        return Ok(vec![word.to_unmatched().into_bytes()]);
    }
    found.sort();
    for name in &mut found {
        if name.first() == Some(&b'-') {
            name.splice(0..0, *b"./");
        }
    }
    Ok(found)
}

/// One component of a pattern: the pieces of a name, and the slashes that follow it.
struct Component {
    pieces: Vec<Piece>,
    slashes: String,
}

fn components(pieces: &[Piece]) -> Vec<Component> {
    let mut list = vec![Component { pieces: Vec::new(), slashes: String::new() }];
    for piece in pieces {
        let Piece::Text(text) = piece else {
            push(&mut list, piece.clone());
            continue;
        };
        let mut rest = text.as_str();
        while !rest.is_empty() {
            let name = rest.find('/').unwrap_or(rest.len());
            if name > 0 {
                push(&mut list, Piece::Text(rest.chars().take_while(|&c| c != '/').collect()));
            }
            rest = rest.get(name..).unwrap_or_default();
            let slashes = rest.len() - rest.trim_start_matches('/').len();
            if let Some(component) = list.last_mut() {
                component.slashes.push_str(rest.get(..slashes).unwrap_or_default());
            }
            rest = rest.get(slashes..).unwrap_or_default();
        }
    }
    list
}

fn push(list: &mut Vec<Component>, piece: Piece) {
    match list.last_mut() {
        Some(component) if component.slashes.is_empty() => component.pieces.push(piece),
        _ => list.push(Component { pieces: vec![piece], slashes: String::new() }),
    }
}

/// Extends one matched prefix by one component.
fn step(
    prefix: &[u8],
    component: &Component,
    last: bool,
    open: Open<'_>,
    next: &mut Vec<Vec<u8>>,
) -> Result<(), TooMany> {
    let mut add = |name: &[u8], must_be: bool| {
        let mut path = [prefix, name].concat();
        if must_be && std::fs::symlink_metadata(Path::new(std::ffi::OsStr::from_bytes(&path))).is_err() {
            return Ok(());
        }
        path.extend_from_slice(component.slashes.as_bytes());
        let directory = !component.slashes.is_empty() || !last;
        if directory && !name.is_empty() && !Path::new(std::ffi::OsStr::from_bytes(&path)).is_dir() {
            return Ok(());
        }
        next.push(path);
        if next.len() > MAX_MATCHES { Err(TooMany) } else { Ok(()) }
    };
    let literal = match component.pieces.as_slice() {
        [] => Some(String::new()),
        pieces if pieces.iter().all(|piece| matches!(piece, Piece::Text(_))) => {
            Some(pieces.iter().map(Piece::to_string).collect())
        }
        _ => None,
    };
    if let Some(name) = literal {
        return add(name.as_bytes(), !name.is_empty());
    }
    let directory = if prefix.is_empty() { b".".as_slice() } else { prefix };
    let Some(opened) = open(Path::new(std::ffi::OsStr::from_bytes(directory))) else { return Ok(()) };
    // Listed by the descriptor: the name may lead elsewhere by now.
    let Ok(entries) = std::fs::read_dir(format!("/proc/self/fd/{}", opened.as_raw_fd())) else {
        return Ok(());
    };
    for entry in entries.flatten() {
        let name = entry.file_name().into_vec();
        if matches(&component.pieces, &name) {
            add(&name, false)?;
        }
    }
    Ok(())
}

/// A pattern, flat: one character or one wildcard each.
enum Token<'a> {
    Char(char),
    AnyString,
    AnyChar,
    Class { negated: bool, items: &'a [portcullis_core::ClassItem] },
}

/// Whether a name matches the pieces of one component. Takes time in the product of both lengths.
pub(crate) fn matches(pieces: &[Piece], name: &[u8]) -> bool {
    // A name that is not UTF-8 is matched with each bad byte as one character that no literal equals.
    let name: Vec<char> = String::from_utf8_lossy(name).chars().collect();
    let mut tokens = Vec::new();
    for piece in pieces {
        match piece {
            Piece::Text(text) => tokens.extend(text.chars().map(Token::Char)),
            Piece::AnyString => tokens.push(Token::AnyString),
            Piece::AnyChar => tokens.push(Token::AnyChar),
            Piece::Class { negated, items, .. } => tokens.push(Token::Class { negated: *negated, items }),
        }
    }
    if name.first() == Some(&'.') && !matches!(tokens.first(), Some(Token::Char('.'))) {
        return false;
    }
    // Positions of the pattern that can be reached after each character.
    let mut reached = vec![false; tokens.len() + 1];
    if let Some(first) = reached.first_mut() {
        *first = true;
    }
    spread(&tokens, &mut reached);
    for &c in &name {
        let mut next = vec![false; tokens.len() + 1];
        for (at, token) in tokens.iter().enumerate() {
            if !reached.get(at).copied().unwrap_or(false) {
                continue;
            }
            let (fits, target) = match token {
                Token::Char(wanted) => (*wanted == c && c != char::REPLACEMENT_CHARACTER, at + 1),
                Token::AnyChar => (true, at + 1),
                Token::AnyString => (true, at),
                Token::Class { negated, items } => {
                    (items.iter().any(|item| item.holds(c)) != *negated, at + 1)
                }
            };
            if let Some(slot) = next.get_mut(target).filter(|_| fits) {
                *slot = true;
            }
        }
        spread(&tokens, &mut next);
        reached = next;
    }
    reached.last().copied().unwrap_or(false)
}

/// A `*` may match nothing: what reaches it reaches what is behind it.
fn spread(tokens: &[Token<'_>], reached: &mut [bool]) {
    for (at, token) in tokens.iter().enumerate() {
        if matches!(token, Token::AnyString)
            && reached.get(at).copied().unwrap_or(false)
            && let Some(slot) = reached.get_mut(at + 1)
        {
            *slot = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use portcullis_core::{ClassItem, Span};

    fn text(t: &str) -> Piece {
        Piece::Text(t.into())
    }

    #[test]
    fn patterns_match_as_posix_says() {
        let star = Piece::AnyString;
        let class = |negated| Piece::Class {
            negated,
            items: vec![ClassItem::Range('a', 'c')],
            source: "[a-c]".into(),
        };
        for (pattern, name, fits) in [
            (vec![star.clone()], "abc", true),
            (vec![star.clone()], ".hidden", false),
            (vec![text("."), star.clone()], ".hidden", true),
            (vec![Piece::AnyChar], ".", false),
            (vec![Piece::AnyChar, text(".rs")], "a.rs", true),
            (vec![Piece::AnyChar, text(".rs")], "ab.rs", false),
            (vec![star.clone(), text("b"), star.clone(), text("b")], "abab", true),
            (vec![star.clone(), text("b"), star.clone(), text("b")], "aba", false),
            (vec![class(false), star.clone()], "bx", true),
            (vec![class(true), star.clone()], "bx", false),
            (vec![class(true)], ".", false),
        ] {
            assert_eq!(matches(&pattern, name.as_bytes()), fits, "{pattern:?} against {name}");
        }
    }

    #[test]
    fn a_pattern_of_many_stars_takes_no_exponential_time() {
        let pattern: Vec<Piece> =
            (0..200).flat_map(|_| [Piece::AnyString, text("a")]).chain([text("b")]).collect();
        assert!(!matches(&pattern, &[b'a'; 255]));
    }

    #[test]
    fn words_become_sorted_paths_and_never_options() {
        let directory = tempfile::tempdir().unwrap();
        for name in ["b.txt", "a.txt", "-n.txt", ".c.txt"] {
            std::fs::write(directory.path().join(name), "").unwrap();
        }
        std::fs::create_dir(directory.path().join("sub")).unwrap();
        std::fs::write(directory.path().join("sub/x.txt"), "").unwrap();
        let root = directory.path().to_str().unwrap().to_owned();
        let word = |pieces| Word { pieces, span: Span::new(0, 0) };
        let names = |pieces| -> Vec<String> {
            let open = |path: &Path| std::fs::File::open(path).ok().map(OwnedFd::from);
            let found = expand(&word(pieces), &open).unwrap();
            found.into_iter().map(|b| String::from_utf8(b).unwrap().replace(&root, "")).collect()
        };
        assert_eq!(
            names(vec![text(&format!("{root}/")), Piece::AnyString, text(".txt")]),
            ["/-n.txt", "/a.txt", "/b.txt"]
        );
        assert_eq!(names(vec![text(&format!("{root}/")), Piece::AnyString, text("/")]), ["/sub/"]);
        assert_eq!(names(vec![text(&root), text("/"), Piece::AnyString, text("/x.txt")]), ["/sub/x.txt"]);
        assert_eq!(names(vec![text("none/"), Piece::AnyString]), ["none/*"], "an unmatched pattern stays");
    }
}
