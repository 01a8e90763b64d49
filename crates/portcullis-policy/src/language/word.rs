//! Makes words of raw ones: refuses what a shell would expand, and finds the patterns.

use portcullis_core::{ClassItem, Denial, Piece, Word};

use super::lexer::{RawWord, Unit};
use crate::code::{SYNTAX_BRACE, SYNTAX_GLOB, SYNTAX_HISTORY, SYNTAX_TILDE, denial};

/// Makes a word of the line, patterns kept.
pub(super) fn word(raw: &RawWord) -> Result<Word, Box<Denial>> {
    refuse_expansions(raw)?;
    Ok(Word { pieces: pieces(raw)?, span: raw.span })
}

/// Refuses the forms that dash, bash or both would expand.
pub(super) fn refuse_expansions(raw: &RawWord) -> Result<(), Box<Denial>> {
    let tilde = first_is(&raw.units, '~') || assigned_value(&raw.units).is_some_and(has_tilde_prefix);
    if tilde {
        return Err(refuse(
            raw,
            SYNTAX_TILDE,
            "a tilde that a shell would expand is not allowed",
            "write the directory itself, or quote the word to mean the character",
        ));
    }
    if has_brace_expansion(&raw.units) {
        return Err(refuse(
            raw,
            SYNTAX_BRACE,
            "braces that a shell would expand are not allowed",
            "write each word by itself, or quote the word to mean the characters",
        ));
    }
    if is_history(&raw.units) {
        return Err(refuse(
            raw,
            SYNTAX_HISTORY,
            "a reference to the history is not allowed: there is none",
            "write the words themselves, or quote the word to mean the characters",
        ));
    }
    Ok(())
}

fn refuse(raw: &RawWord, code: portcullis_core::DenialCode, message: &str, suggestion: &str) -> Box<Denial> {
    let mut denial = denial(code, raw.span, raw.text(), message);
    denial.suggestion = Some(suggestion.to_owned());
    Box::new(denial)
}

fn is(unit: Option<&Unit>, c: char) -> bool {
    unit.is_some_and(|unit| !unit.quoted && unit.c == c)
}

fn first_is(units: &[Unit], c: char) -> bool {
    is(units.first(), c)
}

/// Returns the length of the name when a word is an assignment: an unquoted name and an unquoted `=`.
pub(super) fn assigned_name(units: &[Unit]) -> Option<usize> {
    let length = units.iter().position(|unit| unit.quoted || unit.c == '=')?;
    let name = units.get(..length)?;
    let plain = name
        .iter()
        .enumerate()
        .all(|(at, unit)| unit.c == '_' || unit.c.is_ascii_alphabetic() || at > 0 && unit.c.is_ascii_digit());
    (plain && length > 0 && is(units.get(length), '=')).then_some(length)
}

fn assigned_value(units: &[Unit]) -> Option<&[Unit]> {
    assigned_name(units).and_then(|length| units.get(length + 1..))
}

/// Whether a value has a tilde at its beginning or behind a colon. Bash expands these in any word that
/// looks like an assignment, also behind the program's name.
fn has_tilde_prefix(value: &[Unit]) -> bool {
    first_is(value, '~') || value.windows(2).any(|pair| is(pair.first(), ':') && is(pair.get(1), '~'))
}

/// Whether bash would expand braces: a matched pair with a comma, or with two dots, between them.
fn has_brace_expansion(units: &[Unit]) -> bool {
    // For each brace that is open, whether its pair would expand.
    let mut open: Vec<bool> = Vec::new();
    for (at, unit) in units.iter().enumerate().filter(|(_, unit)| !unit.quoted) {
        match unit.c {
            '{' => open.push(false),
            '}' if open.pop() == Some(true) => return true,
            ',' | '.' if unit.c == ',' || is(units.get(at + 1), '.') => {
                if let Some(expands) = open.last_mut() {
                    *expands = true;
                }
            }
            _ => {}
        }
    }
    false
}

/// Whether the word is a reference to the history that nobody could mean otherwise. A shell without a terminal
/// leaves it alone; who writes it expects an expansion.
fn is_history(units: &[Unit]) -> bool {
    let plain = units.iter().all(|unit| !unit.quoted);
    let text = |at: usize| units.get(at).map(|unit| unit.c);
    plain
        && text(0) == Some('!')
        && match text(1) {
            Some('!' | '$' | '^' | '?' | '#') => true,
            Some('-') => text(2).is_some_and(|c| c.is_ascii_digit()),
            Some(c) => c.is_ascii_digit(),
            None => false,
        }
}

fn pieces(raw: &RawWord) -> Result<Vec<Piece>, Box<Denial>> {
    // A bracket behind the last `]` is not closed: not looking for its end keeps this linear.
    let last_close = raw.units.iter().rposition(|unit| is(Some(unit), ']')).unwrap_or_default();
    let mut pieces = Vec::with_capacity(1);
    let mut text = String::with_capacity(raw.units.len());
    let mut at = 0;
    while let Some(unit) = raw.units.get(at) {
        let piece = match unit.c {
            '*' if !unit.quoted => Some((Piece::AnyString, at + 1)),
            '?' if !unit.quoted => Some((Piece::AnyChar, at + 1)),
            '[' if !unit.quoted && at < last_close => bracket(raw, at)?,
            _ => None,
        };
        if let Some((piece, behind)) = piece {
            if !text.is_empty() {
                pieces.push(Piece::Text(std::mem::take(&mut text)));
            }
            pieces.push(piece);
            at = behind;
        } else {
            text.push(unit.c);
            at += 1;
        }
    }
    if !text.is_empty() {
        pieces.push(Piece::Text(text));
    }
    Ok(pieces)
}

/// Reads the bracket expression that begins at `open` (POSIX 9.3.5), and where it ends. `None` when no `]`
/// closes it in this word: then the bracket stands for itself.
fn bracket(raw: &RawWord, open: usize) -> Result<Option<(Piece, usize)>, Box<Denial>> {
    let units = raw.units.as_slice();
    let differs = |what: &str| {
        Err(refuse(
            raw,
            SYNTAX_GLOB,
            &format!("{what} in a pattern is not allowed: shells differ about it"),
            "quote the word when it is no pattern for file names",
        ))
    };
    let negated = is(units.get(open + 1), '!') || is(units.get(open + 1), '^');
    let first = open + 1 + usize::from(negated);
    let mut items = Vec::new();
    let mut classes = false;
    let mut odd = None;
    let mut at = first;
    loop {
        let Some(unit) = units.get(at) else {
            return if classes { differs("a class in an unclosed bracket") } else { Ok(None) };
        };
        if is(Some(unit), ']') && at > first {
            break;
        }
        if unit.c == '/' {
            odd = odd.or(Some("a slash in brackets"));
        }
        if is(Some(unit), '[') && units.get(at + 1).is_some_and(|next| !next.quoted && ":.=".contains(next.c))
        {
            classes = true;
            if let Some((item, behind)) = class(units, at) {
                items.push(item);
                at = behind;
                continue;
            }
            odd = odd.or(Some("such a class"));
        }
        let last = units.get(at + 2).filter(|last| is(units.get(at + 1), '-') && !is(Some(last), ']'));
        if let Some(last) = last {
            if last.c == '/' || is(Some(last), '[') {
                odd = odd.or(Some("a range that ends so"));
            }
            items.push(ClassItem::Range(unit.c, last.c));
            at += 3;
        } else {
            items.push(ClassItem::Range(unit.c, unit.c));
            at += 1;
        }
    }
    if let Some(what) = odd {
        return differs(what);
    }
    let source = units.get(open..=at).unwrap_or_default().iter().map(|unit| unit.c).collect();
    Ok(Some((Piece::Class { negated, items, source }, at + 1)))
}

/// Reads `[:name:]`, and where it ends; `None` for other names, `[.x.]` and `[=x=]`.
fn class(units: &[Unit], open: usize) -> Option<(ClassItem, usize)> {
    const CLASSES: [(&str, ClassItem); 12] = [
        ("[:alpha:]", ClassItem::Alpha),
        ("[:digit:]", ClassItem::Digit),
        ("[:alnum:]", ClassItem::Alnum),
        ("[:upper:]", ClassItem::Upper),
        ("[:lower:]", ClassItem::Lower),
        ("[:space:]", ClassItem::Space),
        ("[:blank:]", ClassItem::Blank),
        ("[:punct:]", ClassItem::Punct),
        ("[:print:]", ClassItem::Print),
        ("[:graph:]", ClassItem::Graph),
        ("[:cntrl:]", ClassItem::Cntrl),
        ("[:xdigit:]", ClassItem::Xdigit),
    ];
    CLASSES.iter().find_map(|(text, item)| {
        let behind = open + text.len();
        let written = units.get(open..behind)?;
        let same = written.iter().zip(text.chars()).all(|(unit, c)| !unit.quoted && unit.c == c);
        same.then_some((*item, behind))
    })
}
