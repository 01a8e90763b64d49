//! The closed language of command lines: what a shell would run without expanding anything.
//!
//! A line is pipelines joined by `&&`, `||`, `;` and newlines; a pipeline is simple commands joined by
//! `|`; a simple command is assignments, words and redirections. Quoting is that of POSIX. Patterns (`*`,
//! `?`, `[…]`) outside quotes are kept for the cell to expand. Everything else a shell knows is refused by
//! its name, with the bytes where it stands and what to do instead.
//!
//! Whatever is accepted means the same to dash and to bash, run without a terminal and with their default
//! settings, but for two things that only bash knows and that are rewritten here: `&> FILE` is
//! `> FILE 2>&1`, and `&>> FILE` is `>> FILE 2>&1`. `>| FILE` is `> FILE`, which it is to every shell that
//! has not been told `noclobber`.

mod characters;
mod lexer;
mod parser;
mod word;

use portcullis_core::{Connector, Redirection, Span, Word};

pub(crate) use parser::parse;

/// The longest line that is read, in bytes.
pub const MAX_LINE_BYTES: usize = 64 * 1024;
/// The most simple commands of one line, those of unwrapped scripts included.
pub const MAX_COMMANDS: usize = 256;

/// A line as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    /// Its pipelines, at least one.
    pub(crate) steps: Vec<LineStep>,
}

/// A pipeline as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LineStep {
    /// When it runs.
    pub(crate) connector: Connector,
    /// Its commands, at least one.
    pub(crate) commands: Vec<LineCommand>,
}

/// A simple command as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LineCommand {
    /// Variables assigned before it.
    pub(crate) assignments: Vec<Assignment>,
    /// The program's name and its arguments, at least one word.
    pub(crate) words: Vec<Word>,
    /// Its redirections, in order.
    pub(crate) redirections: Vec<Redirection>,
    /// From its first byte to its last.
    pub(crate) span: Span,
}

/// `NAME=value` before a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Assignment {
    /// The variable.
    pub(crate) name: String,
    /// Its value, without quotes.
    pub(crate) value: String,
    /// Where it stands.
    pub(crate) span: Span,
}

#[cfg(test)]
mod parsers;
#[cfg(test)]
mod shells;
#[cfg(test)]
mod tests;
