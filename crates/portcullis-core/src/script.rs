//! A parsed command line: the words that were judged are these very words, and these are executed.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A range of bytes in the command line as written: `start` is its first byte, `end` is behind its last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Span {
    /// Offset of the first byte.
    pub start: usize,
    /// Offset behind the last byte.
    pub end: usize,
}

impl Span {
    /// Returns the span from `start` up to, but without, `end`.
    #[must_use]
    pub fn new(start: usize, end: usize) -> Self {
        Self { start, end }
    }

    /// Returns the smallest span that holds both.
    #[must_use]
    pub fn to(self, other: Self) -> Self {
        Self { start: self.start.min(other.start), end: self.end.max(other.end) }
    }
}

/// A whole command line: at least one step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Script {
    /// The pipelines in order. As in the shell, `&&` and `||` have equal precedence and bind to the left.
    pub steps: Vec<Step>,
}

impl Script {
    /// Visits every simple command, in order.
    pub fn commands(&self) -> impl Iterator<Item = &SimpleCommand> {
        self.steps.iter().flat_map(|step| &step.pipeline.commands).filter_map(|command| match command {
            Command::Simple(simple) => Some(&**simple),
            Command::ChangeDirectory(_) => None,
        })
    }
}

/// One pipeline, and on what it depends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Whether it runs, by the exit status of what ran before it.
    pub connector: Connector,
    /// What it runs.
    pub pipeline: Pipeline,
}

/// When a step runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Connector {
    /// Always: the first step, or one after `;` or a newline.
    Always,
    /// After `&&`: when the status so far is 0.
    IfSucceeded,
    /// After `||`: when the status so far is not 0.
    IfFailed,
}

/// Commands whose output is the next one's input. Its status is the last command's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pipeline {
    /// The commands, at least one.
    pub commands: Vec<Command>,
}

/// One stage of a pipeline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// A program with its words.
    Simple(Box<SimpleCommand>),
    /// `cd`, which lasts for the rest of the line. It is always alone in its pipeline.
    ChangeDirectory(ChangeDirectory),
}

/// A program, its arguments and redirections, and the rights that its permit gives it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SimpleCommand {
    /// The program: a bare name, found in the service's own path.
    pub program: ProgramName,
    /// The arguments after the program's name (`argv[1]` onwards).
    pub arguments: Vec<Word>,
    /// Variables set for this command alone, in order: those written before it and those the policy adds.
    pub assignments: Vec<(String, String)>,
    /// Redirections, applied from left to right after the pipe is connected.
    pub redirections: Vec<Redirection>,
    /// What the command may do; the kernel holds it to this.
    pub rights: crate::Rights,
    /// Where it stands in the line.
    pub span: Span,
}

/// `cd DIRECTORY`: the target as judged, absolute or relative to the directory in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeDirectory {
    /// The directory as written, without quotes.
    pub directory: String,
    /// Where it stands in the line.
    pub span: Span,
}

/// The bare name of a program: no slash, not empty.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ProgramName(String);

impl ProgramName {
    /// Reads a program's name; `None` when it is empty, `.` or `..`, longer than 255 bytes, or holds a
    /// slash or a control character.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let plain = !text.is_empty() && text.len() <= 255 && text != "." && text != "..";
        (plain && !text.chars().any(|c| c == '/' || c.is_control())).then(|| Self(text.to_owned()))
    }

    /// Returns the name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ProgramName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for ProgramName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text)
            .ok_or_else(|| format!("`{}` is not the bare name of a program", text.escape_debug()))
    }
}

impl From<ProgramName> for String {
    fn from(name: ProgramName) -> Self {
        name.0
    }
}

/// One word after quote removal: text, and where glob characters stood outside quotes, patterns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Word {
    /// The parts in order. Neighbouring texts are joined; an empty word (`''`) has no part.
    pub pieces: Vec<Piece>,
    /// Where it stands in the line.
    pub span: Span,
}

impl Word {
    /// Returns a word that is this text alone.
    pub fn literal(text: impl Into<String>, span: Span) -> Self {
        let text = text.into();
        Self { pieces: if text.is_empty() { Vec::new() } else { vec![Piece::Text(text)] }, span }
    }

    /// Returns the text of a word without patterns, and `None` when it has one.
    #[must_use]
    pub fn as_literal(&self) -> Option<&str> {
        match self.pieces.as_slice() {
            [] => Some(""),
            [Piece::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// Whether the word holds a pattern, which the cell expands against the files it sees.
    #[must_use]
    pub fn is_glob(&self) -> bool {
        self.pieces.iter().any(|piece| !matches!(piece, Piece::Text(_)))
    }

    /// Returns the word as POSIX says an unmatched pattern stays: the pattern's own characters.
    #[must_use]
    pub fn to_unmatched(&self) -> String {
        self.pieces.iter().map(Piece::to_string).collect()
    }
}

/// A part of a [`Word`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Piece {
    /// These characters.
    Text(String),
    /// `*`: any characters but `/`, also none; not a leading `.`.
    AnyString,
    /// `?`: one character but `/`; not a leading `.`.
    AnyChar,
    /// `[…]`: one character of a class, but `/`; not a leading `.`.
    Class {
        /// `[!…]` or `[^…]`: any character but these.
        negated: bool,
        /// What the class holds.
        items: Vec<ClassItem>,
        /// The class as it was written, brackets included, with quotes removed.
        source: String,
    },
}

impl fmt::Display for Piece {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::AnyString => f.write_str("*"),
            Self::AnyChar => f.write_str("?"),
            Self::Class { source, .. } => f.write_str(source),
        }
    }
}

/// A member of a bracket expression.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ClassItem {
    /// From the first to the last character, both included, by code point.
    Range(char, char),
    /// `[:alpha:]`
    Alpha,
    /// `[:digit:]`
    Digit,
    /// `[:alnum:]`
    Alnum,
    /// `[:upper:]`
    Upper,
    /// `[:lower:]`
    Lower,
    /// `[:space:]`
    Space,
    /// `[:blank:]`
    Blank,
    /// `[:punct:]`
    Punct,
    /// `[:print:]`
    Print,
    /// `[:graph:]`
    Graph,
    /// `[:cntrl:]`
    Cntrl,
    /// `[:xdigit:]`
    Xdigit,
}

impl ClassItem {
    /// Whether the item holds `c`. Named classes are those of the POSIX locale: ASCII alone.
    #[must_use]
    pub fn holds(self, c: char) -> bool {
        match self {
            Self::Range(first, last) => (first..=last).contains(&c),
            Self::Alpha => c.is_ascii_alphabetic(),
            Self::Digit => c.is_ascii_digit(),
            Self::Alnum => c.is_ascii_alphanumeric(),
            Self::Upper => c.is_ascii_uppercase(),
            Self::Lower => c.is_ascii_lowercase(),
            Self::Space => c.is_ascii_whitespace() || c == '\u{b}',
            Self::Blank => matches!(c, ' ' | '\t'),
            Self::Punct => c.is_ascii_punctuation(),
            Self::Print => c.is_ascii_graphic() || c == ' ',
            Self::Graph => c.is_ascii_graphic(),
            Self::Cntrl => c.is_ascii_control(),
            Self::Xdigit => c.is_ascii_hexdigit(),
        }
    }
}

/// One redirection of one descriptor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Redirection {
    /// The descriptor that is redirected: 0, 1 or 2.
    pub descriptor: u8,
    /// Where to.
    pub target: RedirectionTarget,
    /// Where it stands in the line.
    pub span: Span,
}

/// Where a redirection leads. Paths are literal: a redirection never expands a glob.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum RedirectionTarget {
    /// `< PATH`: opened for reading.
    Read(String),
    /// `> PATH`: created or truncated.
    Truncate(String),
    /// `>> PATH`: created or appended to.
    Append(String),
    /// `2>&1`: the same as another descriptor is now.
    Duplicate(Duplicate),
}

/// The descriptor that a duplication copies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Duplicate {
    /// 1.
    Stdout,
    /// 2.
    Stderr,
}

/// An absolute path inside the view of a command: normalised, no `.`, `..`, empty component or final slash
/// (but for `/` itself).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ViewPath(String);

impl ViewPath {
    /// Normalises a path by its text alone: `.` and empty components vanish, `..` takes the component
    /// before it away (and nothing at the root). A relative path counts from `base`.
    #[must_use]
    pub fn resolve(base: &Self, path: &str) -> Self {
        let mut parts: Vec<&str> = Vec::new();
        if !path.starts_with('/') {
            parts.extend(base.components());
        }
        for part in path.split('/') {
            match part {
                "" | "." => {}
                ".." => {
                    parts.pop();
                }
                name => parts.push(name),
            }
        }
        Self(format!("/{}", parts.join("/")))
    }

    /// Returns the root, `/`.
    #[must_use]
    pub fn root() -> Self {
        Self("/".into())
    }

    /// Normalises an absolute path; `None` when it is not absolute or holds a NUL.
    #[must_use]
    pub fn parse(path: &str) -> Option<Self> {
        (path.starts_with('/') && !path.contains('\0')).then(|| Self::resolve(&Self::root(), path))
    }

    /// Returns the path as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Visits the components; none for `/`.
    pub fn components(&self) -> impl Iterator<Item = &str> {
        self.0.split('/').filter(|part| !part.is_empty())
    }

    /// Returns the path of these components below the root, normalised as by [`ViewPath::resolve`].
    #[must_use]
    pub fn of_components<'c>(components: impl IntoIterator<Item = &'c str>) -> Self {
        let mut path = String::with_capacity(32);
        for part in components.into_iter().flat_map(|component| component.split('/')) {
            match part {
                "" | "." => {}
                ".." => path.truncate(path.rfind('/').unwrap_or_default()),
                name => {
                    path.push('/');
                    path.push_str(name);
                }
            }
        }
        if path.is_empty() {
            path.push('/');
        }
        Self(path)
    }

    /// Whether this is `ancestor` or lies beneath it, by whole components.
    #[must_use]
    pub fn is_beneath(&self, ancestor: &Self) -> bool {
        ancestor.0 == "/"
            || self.0.strip_prefix(&ancestor.0).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// Returns the directory that holds it; `None` for `/`.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        if self.0 == "/" {
            return None;
        }
        let (parent, _) = self.0.rsplit_once('/')?;
        Some(Self(if parent.is_empty() { "/".into() } else { parent.to_owned() }))
    }
}

impl fmt::Display for ViewPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for ViewPath {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text).ok_or_else(|| format!("`{}` is not an absolute path", text.escape_debug()))
    }
}

impl From<ViewPath> for String {
    fn from(path: ViewPath) -> Self {
        path.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_normalised_by_their_text_alone() {
        let base = ViewPath::parse("/workspace").unwrap();
        for (path, wanted) in [
            ("a/./b//c/", "/workspace/a/b/c"),
            ("..", "/"),
            ("../../../etc/passwd", "/etc/passwd"),
            ("/a/../b", "/b"),
            (".", "/workspace"),
            ("/", "/"),
        ] {
            assert_eq!(ViewPath::resolve(&base, path).as_str(), wanted, "{path}");
        }
    }

    #[test]
    fn beneath_means_whole_components() {
        let etc = ViewPath::parse("/etc").unwrap();
        for (path, beneath) in [("/etc", true), ("/etc/x", true), ("/etcetera", false), ("/", false)] {
            assert_eq!(ViewPath::parse(path).unwrap().is_beneath(&etc), beneath, "{path}");
        }
        assert!(etc.is_beneath(&ViewPath::root()));
    }

    #[test]
    fn program_names_hold_no_slash() {
        for (text, fits) in
            [("ls", true), ("g++", true), ("/bin/ls", false), ("", false), ("..", false), ("a\nb", false)]
        {
            assert_eq!(ProgramName::parse(text).is_some(), fits, "{text:?}");
        }
    }
}
