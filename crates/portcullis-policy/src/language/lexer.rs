//! Cuts a line into words and operators, as POSIX 2.3 (Token Recognition) says.

use portcullis_core::{Denial, DenialCode, Span};

use super::characters;
use crate::code::{
    SYNTAX_ANSI_C, SYNTAX_ARITHMETIC, SYNTAX_ESCAPE, SYNTAX_LOCALE, SYNTAX_PARAMETER, SYNTAX_QUOTE,
    SYNTAX_SUBSTITUTION, denial,
};

/// One character of a word, and whether a quote or backslash took its special meaning away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unit {
    pub(super) c: char,
    pub(super) quoted: bool,
}

/// A word before anything is made of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RawWord {
    pub(super) units: Vec<Unit>,
    /// Whether some part of it was quoted, be it an empty one.
    pub(super) quoted: bool,
    pub(super) span: Span,
}

impl RawWord {
    /// Returns the text of a word of which nothing is quoted.
    pub(super) fn plain(&self) -> Option<String> {
        (!self.quoted).then(|| self.units.iter().map(|unit| unit.c).collect())
    }

    /// Returns the text after quote removal.
    pub(super) fn text(&self) -> String {
        self.units.iter().map(|unit| unit.c).collect()
    }
}

/// What a line consists of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Token {
    Word(RawWord),
    /// An operator: the longest that fits.
    Operator(&'static str, Span),
    Newline(Span),
    End(Span),
}

/// Every operator of bash, which are more than those of dash, longest first: a longer one that only bash
/// knows is recognised to be refused.
const OPERATORS: [&str; 26] = [
    ";;&", "<<<", "<<-", "&>>", "&&", "||", ";;", ";&", "|&", "<<", ">>", "<&", ">&", "<>", ">|", "&>", "<(",
    ">(", "((", ";", "|", "&", "<", ">", "(", ")",
];

/// Whether a character ends a word.
fn ends_word(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '|' | '&' | ';' | '<' | '>' | '(' | ')')
}

pub(super) struct Lexer<'a> {
    text: &'a str,
    at: usize,
    /// What a word before was read into, to read the next one into.
    spare: Vec<Unit>,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, at: 0, spare: Vec::with_capacity(32) }
    }

    /// Takes back a word that is no longer needed.
    pub(super) fn take_back(&mut self, raw: RawWord) {
        self.spare = raw.units;
    }

    /// Returns the next token. Behind the last one it is `End`, for ever.
    pub(super) fn next(&mut self) -> Result<Token, Box<Denial>> {
        loop {
            match self.peek() {
                Some(' ' | '\t') => self.at += 1,
                Some('#') => self.at += self.rest().find('\n').unwrap_or(self.rest().len()),
                _ => break,
            }
        }
        let start = self.at;
        match self.peek() {
            None => Ok(Token::End(Span::new(start, start))),
            Some('\n') => {
                self.at += 1;
                Ok(Token::Newline(Span::new(start, self.at)))
            }
            Some(c) if ends_word(c) => Ok(self.operator(start)),
            Some(_) => self.word(start).map(Token::Word),
        }
    }

    /// Returns the next character that counts outside quotes, without taking it.
    pub(super) fn peek(&mut self) -> Option<char> {
        while self.rest().starts_with("\\\n") {
            self.at += 2;
        }
        self.rest().chars().next()
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn operator(&mut self, start: usize) -> Token {
        // A backslash-newline inside an operator vanishes like anywhere else outside quotes, so characters
        // are taken one by one, for as long as some operator begins with them all.
        let mut found = "";
        let mut taken = String::new();
        let mut end = self.at;
        while let Some(c) = self.peek() {
            taken.push(c);
            let Some(operator) = OPERATORS.iter().find(|operator| **operator == taken) else {
                break;
            };
            self.at += c.len_utf8();
            (found, end) = (operator, self.at);
        }
        self.at = end;
        Token::Operator(found, Span::new(start, end))
    }

    fn word(&mut self, start: usize) -> Result<RawWord, Box<Denial>> {
        let mut units = std::mem::take(&mut self.spare);
        units.clear();
        let mut quoted = false;
        let mut end = start;
        while let Some(c) = self.peek() {
            let at = self.at;
            match c {
                c if ends_word(c) => break,
                '\'' => {
                    quoted = true;
                    self.at += 1;
                    self.single_quoted(at, &mut units)?;
                }
                '"' => {
                    quoted = true;
                    self.at += 1;
                    self.double_quoted(at, &mut units)?;
                }
                '\\' => {
                    quoted = true;
                    self.at += 1;
                    let Some(escaped) = self.rest().chars().next() else {
                        return Err(escape_at_end(at));
                    };
                    characters::check_unquoted(escaped, self.at)?;
                    self.at += escaped.len_utf8();
                    units.push(Unit { c: escaped, quoted: true });
                }
                '`' => return Err(self.backquotes(at)),
                '$' => {
                    self.at += 1;
                    self.dollar(at, false)?;
                    units.push(Unit { c: '$', quoted: false });
                }
                c => {
                    characters::check_unquoted(c, at)?;
                    self.at += c.len_utf8();
                    units.push(Unit { c, quoted: false });
                }
            }
            end = self.at;
        }
        Ok(RawWord { units, quoted, span: Span::new(start, end) })
    }

    fn single_quoted(&mut self, opened: usize, units: &mut Vec<Unit>) -> Result<(), Box<Denial>> {
        let Some(length) = self.rest().find('\'') else {
            return Err(quote_not_closed(opened, self.text.len(), '\''));
        };
        let inside = self.rest().get(..length).unwrap_or_default();
        units.extend(inside.chars().map(|c| Unit { c, quoted: true }));
        self.at += length + 1;
        Ok(())
    }

    fn double_quoted(&mut self, opened: usize, units: &mut Vec<Unit>) -> Result<(), Box<Denial>> {
        loop {
            let Some(c) = self.peek() else {
                return Err(quote_not_closed(opened, self.text.len(), '"'));
            };
            let at = self.at;
            self.at += c.len_utf8();
            let c = match c {
                '"' => return Ok(()),
                '`' => return Err(self.backquotes(at)),
                '$' => {
                    self.dollar(at, true)?;
                    '$'
                }
                '\\' => match self.rest().chars().next() {
                    Some(escaped @ ('$' | '`' | '"' | '\\')) => {
                        self.at += 1;
                        escaped
                    }
                    _ => '\\',
                },
                c => c,
            };
            units.push(Unit { c, quoted: true });
        }
    }

    /// Refuses a dollar that a shell would expand; one that it would leave alone stays. The dollar itself has
    /// been taken.
    fn dollar(&mut self, at: usize, in_double_quotes: bool) -> Result<(), Box<Denial>> {
        let Some(next) = self.peek() else { return Ok(()) };
        let quote = "write the text itself, or put it in single quotes to mean the characters";
        let refuse = |code: DenialCode, end: usize, what: &str, suggestion: &str| {
            let subject = self.text.get(at..end).unwrap_or("$").to_owned();
            let mut denial = denial(
                code,
                Span::new(at, end),
                subject.clone(),
                format!("{what} `{subject}` is not allowed: no shell expands the line"),
            );
            denial.suggestion = Some(suggestion.to_owned());
            Err(Box::new(denial))
        };
        let behind = self.at + next.len_utf8();
        match next {
            '(' if self.rest().starts_with("((") => refuse(
                SYNTAX_ARITHMETIC,
                closing(self.text, at, '(', ')'),
                "arithmetic",
                "write the number that it comes to",
            ),
            '(' => refuse(
                SYNTAX_SUBSTITUTION,
                closing(self.text, at, '(', ')'),
                "command substitution",
                "run the inner command first, and write what it prints",
            ),
            '[' => refuse(
                SYNTAX_ARITHMETIC,
                behind,
                "arithmetic",
                "write the number, or put it in single quotes",
            ),
            '{' => {
                refuse(SYNTAX_PARAMETER, closing(self.text, at, '{', '}'), "expansion of a variable", quote)
            }
            '@' | '*' | '#' | '?' | '-' | '$' | '!' | '0'..='9' => {
                refuse(SYNTAX_PARAMETER, behind, "expansion of a parameter", quote)
            }
            c if c == '_' || c.is_ascii_alphabetic() => {
                let name = |c: char| c == '_' || c.is_ascii_alphanumeric();
                let end = self.at + self.rest().find(|c| !name(c)).unwrap_or(self.rest().len());
                refuse(SYNTAX_PARAMETER, end, "expansion of the variable", quote)
            }
            '\'' if !in_double_quotes => refuse(
                SYNTAX_ANSI_C,
                behind,
                "the quote",
                "use plain quotes; `printf` writes escapes such as `\\t`",
            ),
            '"' if !in_double_quotes => refuse(SYNTAX_LOCALE, behind, "the quote", "leave the `$` out"),
            _ => Ok(()),
        }
    }

    fn backquotes(&self, at: usize) -> Box<Denial> {
        let end =
            self.text.get(at + 1..).and_then(|rest| rest.find('`')).map_or(at + 1, |length| at + length + 2);
        let subject = self.text.get(at..end).unwrap_or("`").to_owned();
        let mut denial = denial(
            SYNTAX_SUBSTITUTION,
            Span::new(at, end),
            subject,
            "command substitution in backquotes is not allowed: no shell expands the line",
        );
        denial.suggestion = Some(
            "run the inner command first, and write what it prints; single quotes keep the character".into(),
        );
        Box::new(denial)
    }
}

/// Returns the offset behind the bracket that closes the first one after `at`, for a span to show: counted
/// without regard to quotes, so a guide for the eye and nothing more.
fn closing(text: &str, at: usize, open: char, close: char) -> usize {
    let mut depth = 0_usize;
    for (offset, c) in text.get(at..).unwrap_or_default().char_indices() {
        if c == open {
            depth += 1;
        } else if c == close {
            depth = depth.saturating_sub(1);
            if depth == 0 {
                return at + offset + c.len_utf8();
            }
        }
    }
    text.len()
}

fn quote_not_closed(opened: usize, end: usize, quote: char) -> Box<Denial> {
    let mut denial =
        denial(SYNTAX_QUOTE, Span::new(opened, end), quote, format!("the quote `{quote}` is not closed"));
    denial.suggestion = Some(match quote {
        '\'' => "close it; inside single quotes write `'\\''` for the character itself".into(),
        _ => "close it; inside double quotes write `\\\"` for the character itself".into(),
    });
    Box::new(denial)
}

fn escape_at_end(at: usize) -> Box<Denial> {
    let mut denial =
        denial(SYNTAX_ESCAPE, Span::new(at, at + 1), "\\", "the backslash at the end escapes nothing");
    denial.suggestion = Some("write `'\\'` for the character itself".into());
    Box::new(denial)
}
