//! What a terminal is shown: other people's bytes without their power over it, and colour where it is wanted.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::IsTerminal;

/// The longest sequence that is taken for a colour, from its ESC on.
const COLOUR_LIMIT_BYTES: usize = 64;

/// Makes a stream of output harmless to a terminal (threat 54): control characters are written out, but for
/// newline, tab, CR before LF, and SGR sequences, which only colour. What is written out looks as in a Rust or C
/// string: `\x1b`, `\u{202e}`.
///
/// The bytes may be cut anywhere. Invisible characters that turn the direction of text are written out too.
#[derive(Debug, Default)]
pub(crate) struct Escaper {
    /// What cannot be judged before more arrives: a cut character, a CR, the beginning of a sequence.
    open: Vec<u8>,
    coloured: bool,
}

impl Escaper {
    /// Returns what to show for these bytes.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut input = std::mem::take(&mut self.open);
        input.extend_from_slice(bytes);
        let mut shown = String::with_capacity(input.len());
        let mut rest = input.as_slice();
        while let Some(taken) = self.take(rest, false, &mut shown) {
            rest = rest.get(taken..).unwrap_or_default();
        }
        self.open = rest.to_vec();
        shown.into_bytes()
    }

    /// Returns what remains to show at the end: what was left open, and the end of any colour.
    pub(crate) fn finish(&mut self) -> Vec<u8> {
        let input = std::mem::take(&mut self.open);
        let mut shown = String::new();
        let mut rest = input.as_slice();
        while let Some(taken) = self.take(rest, true, &mut shown) {
            rest = rest.get(taken..).unwrap_or_default();
        }
        if std::mem::take(&mut self.coloured) {
            shown.push_str("\x1b[0m");
        }
        shown.into_bytes()
    }

    /// Shows the first character or sequence of `rest` and returns its length; `None` when more is needed.
    fn take(&mut self, rest: &[u8], last: bool, shown: &mut String) -> Option<usize> {
        let first = *rest.first()?;
        match first {
            b'\n' | b'\t' | b' '..=b'~' => shown.push(char::from(first)),
            b'\r' => match rest.get(1) {
                None if !last => return None,
                Some(b'\n') => shown.push('\r'),
                _ => shown.push_str("\\r"),
            },
            0x1b => match colour(rest) {
                Sequence::Colour(sequence) => {
                    self.coloured = true;
                    shown.push_str(sequence);
                    return Some(sequence.len());
                }
                Sequence::Open if !last => return None,
                Sequence::Open | Sequence::Other => shown.push_str("\\x1b"),
            },
            0..=0x1f | 0x7f => push_byte(first, shown),
            _ => return take_character(rest, last, shown),
        }
        Some(1)
    }
}

enum Sequence<'a> {
    Colour(&'a str),
    Open,
    Other,
}

/// Reads `ESC [ digits ; : m`, the select graphic rendition of ECMA-48 §8.3.117.
fn colour(rest: &[u8]) -> Sequence<'_> {
    for (at, &byte) in rest.iter().enumerate().skip(1).take(COLOUR_LIMIT_BYTES) {
        match (at, byte) {
            (1, b'[') => {}
            (1, _) => return Sequence::Other,
            (_, b'0'..=b'9' | b';' | b':') => {}
            (_, b'm') => {
                let sequence = rest.get(..=at).and_then(|bytes| std::str::from_utf8(bytes).ok());
                return sequence.map_or(Sequence::Other, Sequence::Colour);
            }
            _ => return Sequence::Other,
        }
    }
    if rest.len() > COLOUR_LIMIT_BYTES { Sequence::Other } else { Sequence::Open }
}

/// Shows one character beyond ASCII, or one byte that is none.
fn take_character(rest: &[u8], last: bool, shown: &mut String) -> Option<usize> {
    let head = rest.get(..rest.len().min(4)).unwrap_or_default();
    let valid = match std::str::from_utf8(head) {
        Ok(text) => text,
        Err(error) => {
            if error.valid_up_to() == 0 && error.error_len().is_none() && !last {
                return None;
            }
            std::str::from_utf8(head.get(..error.valid_up_to()).unwrap_or_default()).unwrap_or_default()
        }
    };
    match valid.chars().next() {
        Some(c) if is_deceptive(c) => {
            write!(shown, "{}", c.escape_unicode()).ok();
            Some(c.len_utf8())
        }
        Some(c) => {
            shown.push(c);
            Some(c.len_utf8())
        }
        None => {
            push_byte(*rest.first()?, shown);
            Some(1)
        }
    }
}

/// Whether a character beyond ASCII controls the terminal (C1) or the direction of the text around it.
fn is_deceptive(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn push_byte(byte: u8, shown: &mut String) {
    // Writing to a string does not fail.
    write!(shown, "\\x{byte:02x}").ok();
}

/// Returns a text from elsewhere (a message, a name, a command line) as one line that controls nothing: also
/// newlines and colours are written out.
pub(crate) fn plain(text: &str) -> Cow<'_, str> {
    if !text.chars().any(|c| c.is_control() || is_deceptive(c)) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => shown.push_str("\\n"),
            '\t' => shown.push_str("\\t"),
            '\r' => shown.push_str("\\r"),
            c if c.is_ascii_control() => push_byte(u8::try_from(c).unwrap_or_default(), &mut shown),
            c if is_deceptive(c) => {
                write!(shown, "{}", c.escape_unicode()).ok();
            }
            c => shown.push(c),
        }
    }
    Cow::Owned(shown)
}

/// The same for a text of several lines.
pub(crate) fn plain_lines(text: &str) -> String {
    text.lines().map(plain).collect::<Vec<_>>().join("\n")
}

/// Whether our own words are coloured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Colour {
    /// Yes.
    Always,
    /// No.
    Never,
}

/// Whether our terminal, if we have one, says that it knows no sequences.
pub(crate) fn is_dumb() -> bool {
    std::env::var_os("TERM").is_some_and(|term| term == "dumb")
}

impl Colour {
    /// Decides for one of our streams: a terminal, and nobody said no.
    pub(crate) fn decide(forbidden: bool, stream: &impl IsTerminal) -> Self {
        let refused =
            forbidden || is_dumb() || std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        if !refused && stream.is_terminal() { Self::Always } else { Self::Never }
    }

    /// Paints a text with an SGR parameter (`31` red, `32` green, `33` yellow, `1` bold, `2` dim).
    pub(crate) fn paint(self, parameter: &str, text: &str) -> String {
        match self {
            Self::Always => format!("\x1b[{parameter}m{text}\x1b[0m"),
            Self::Never => text.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn show<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> String {
        let mut escaper = Escaper::default();
        let mut shown = Vec::new();
        for chunk in chunks {
            shown.extend(escaper.push(chunk));
        }
        shown.extend(escaper.finish());
        String::from_utf8(shown).unwrap()
    }

    #[track_caller]
    fn check(bytes: &[u8], wanted: &str) {
        assert_eq!(show([bytes]), wanted);
    }

    #[test]
    fn text_tabs_newlines_and_colours_pass() {
        check("a\tb\r\nünïcödé 🦀\n".as_bytes(), "a\tb\r\nünïcödé 🦀\n");
        check(b"\x1b[1;38:5:9mred\x1b[0m", "\x1b[1;38:5:9mred\x1b[0m\x1b[0m");
    }

    #[test]
    fn sequences_that_do_more_than_colour_are_written_out() {
        check(b"\x1b[2J\x1b]0;title\x07", "\\x1b[2J\\x1b]0;title\\x07");
        check(b"\x1b[?25l\x1bc\x1b[6n", "\\x1b[?25l\\x1bc\\x1b[6n");
        check(b"safe\rfake\x08\x7f", "safe\\rfake\\x08\\x7f");
    }

    #[test]
    fn eight_bit_controls_are_written_out_in_either_encoding() {
        check(b"\x9b2J", "\\x9b2J");
        check("\u{9b}2J".as_bytes(), "\\u{9b}2J");
    }

    #[test]
    fn turned_text_is_written_out() {
        check("a\u{202e}b\u{2066}c".as_bytes(), "a\\u{202e}b\\u{2066}c");
    }

    #[test]
    fn what_is_open_at_the_end_is_written_out() {
        check(b"x\x1b[31", "x\\x1b[31");
        check(b"x\xf0\x9f", "x\\xf0\\x9f");
        check(b"x\r", "x\\r");
    }

    #[test]
    fn a_colour_sequence_has_a_limit() {
        let endless = [b"\x1b[".as_slice(), &[b'1'; 500]].concat();
        assert!(show([endless.as_slice()]).starts_with("\\x1b[111"));
    }

    #[test]
    fn plain_text_is_one_line_without_controls() {
        assert_eq!(plain("a\nb\x1b[31mc\u{85}\u{202e}"), "a\\nb\\x1b[31mc\\u{85}\\u{202e}");
        assert!(matches!(plain("as it is: é"), Cow::Borrowed(_)));
        assert_eq!(plain_lines("a\x07\nb"), "a\\x07\nb");
    }

    proptest! {
        #[test]
        fn a_terminal_gets_the_same_wherever_the_bytes_are_cut_and_only_harmless_controls(
            bytes in proptest::collection::vec(
                prop_oneof![Just(0x1b), Just(b'['), Just(b'm'), Just(b';'), Just(b'\r'), Just(b'\n'), any::<u8>()],
                0..80,
            ),
            cut in any::<proptest::sample::Index>(),
        ) {
            let whole = show([bytes.as_slice()]);
            let (head, tail) = bytes.split_at(cut.index(bytes.len() + 1));
            prop_assert_eq!(&show([head, tail]), &whole);
            let bare = whole.replace("\r\n", "\n");
            let mut chars = bare.chars();
            while let Some(c) = chars.next() {
                if c == '\x1b' {
                    prop_assert_eq!(chars.next(), Some('['));
                    prop_assert_eq!(chars.find(|c| !matches!(c, '0'..='9' | ';' | ':')), Some('m'));
                } else {
                    prop_assert!(matches!(c, '\n' | '\t') || !c.is_control(), "{:?}", c);
                }
            }
        }
    }
}
