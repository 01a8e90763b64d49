//! Characters that no line may hold, and those that it may hold in quotes alone.

use portcullis_core::{Denial, Span};

use crate::code::{SYNTAX_CHARACTER, SYNTAX_INVISIBLE, denial};

/// Refuses characters that have no honest place in a command line, quoted or not: they end the line early
/// for a program, or make it look other than it is.
pub(super) fn check(text: &str) -> Result<(), Box<Denial>> {
    let Some((at, c)) = text.char_indices().find(|&(_, c)| is_forbidden(c)) else {
        return Ok(());
    };
    let name = name(c);
    let mut denial = denial(
        SYNTAX_CHARACTER,
        Span::new(at, at + c.len_utf8()),
        name.clone(),
        format!("{name} is not allowed in a command line"),
    );
    denial.suggestion = Some(match c {
        '\r' => "end lines with a newline alone".into(),
        _ => "leave the character out, or let the program make it: `printf '\\033'`".into(),
    });
    Err(Box::new(denial))
}

/// Refuses a character outside quotes that looks like a blank, or like nothing, and is part of a word.
pub(super) fn check_unquoted(c: char, at: usize) -> Result<(), Box<Denial>> {
    if c.is_ascii() || !is_invisible(c) {
        return Ok(());
    }
    let name = name(c);
    let mut denial = denial(
        SYNTAX_INVISIBLE,
        Span::new(at, at + c.len_utf8()),
        name.clone(),
        format!("{name} is not allowed outside quotes: it cannot be seen"),
    );
    denial.suggestion = Some("write a plain space, or quote the word".into());
    Err(Box::new(denial))
}

fn is_forbidden(c: char) -> bool {
    let control = c.is_control() && !matches!(c, '\t' | '\n');
    // The tables stand for words that are not on the line by two private characters.
    control
        || matches!(c, '\u{100000}'..='\u{10ffff}')
        || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn is_invisible(c: char) -> bool {
    c.is_whitespace()
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2060}'..='\u{2065}' | '\u{206a}'..='\u{206f}'
            | '\u{2800}' | '\u{3164}' | '\u{feff}' | '\u{ffa0}' | '\u{e0000}'..='\u{e007f}')
}

fn name(c: char) -> String {
    match c {
        '\0' => "the NUL character".into(),
        '\r' => "the carriage return".into(),
        '\u{1b}' => "the escape character".into(),
        '\u{a0}' => "the no-break space".into(),
        '\u{200b}' => "the zero width space".into(),
        '\u{feff}' => "the byte order mark".into(),
        _ => format!("the character U+{:04X}", u32::from(c)),
    }
}
