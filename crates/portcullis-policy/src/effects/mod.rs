//! What one simple command would do, read off its words.
//!
//! [`effects`] takes a program's name and its argument words and answers with everything those words
//! make the program read, write, delete, start or reach. It opens no file: it knows what the program's
//! manual says about each option and operand, from the tables in `table/`, and for programs with a grammar of
//! their own (`find`, `tar`, `sed`, …) from a parser each. Whatever it cannot understand is an
//! [`Unknown`], which the judge refuses: this module never guesses in the caller's favour.
//!
//! # Terms
//! An *option* is a word that begins with `-` where the program looks for options; its *value* is part of
//! the same word (attached) or the next one. Every other word is an *operand*. A *wrapper* (`env`,
//! `xargs`, `find -exec`) runs an [`Inner`] command, which the judge judges like a command of the line.
//!
//! # Patterns
//! The cell writes `./` before a match that begins with `-`, so a word whose pattern matches is an
//! operand, one or more of them, and a word whose pattern matches nothing stays as it is. Where several words would
//! mean something else than one, every meaning counts.

mod archives;
mod awk;
mod build;
mod details;
mod fetch;
mod files;
mod find;
mod git;
mod options;
mod roles;
pub(crate) mod rows;
mod sed;
mod table;
mod test;
mod unseen;
mod words;
mod wrappers;
mod zip;

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::fmt;

use portcullis_core::Word;

/// What one simple command would do, by its words.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Effects {
    /// Everything it does beside computing and using its standard streams.
    pub(crate) list: Vec<Effect>,
    /// The commands it runs, each judged like a command of the line.
    pub(crate) inner: Vec<Inner>,
    /// The sub-command, of programs that have such: `status` of `git status`.
    pub(crate) subcommand: Option<String>,
    /// The options given: canonical name (the long one where there is one) and the argument's index.
    pub(crate) options: Vec<(Cow<'static, str>, usize)>,
    /// Arguments the permit must add so that the program does no more than this: each goes before the
    /// argument with that index (as written; the number of arguments: behind them all), in this order.
    pub(crate) insertions: Vec<(usize, Cow<'static, str>)>,
    /// Variables the permit must set for the same reason.
    pub(crate) environment: Vec<(Cow<'static, str>, Cow<'static, str>)>,
    /// The directory that the program goes to before it does anything (`git -C DIR`): it must be in the workspace.
    pub(crate) directory: Option<Word>,
    /// Programs it starts by itself to do its work (`gzip` for `tar -z`): they need no allowance of their own, and
    /// the permit must let them start.
    pub(crate) helpers: Vec<String>,
}

/// One thing a command does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Effect {
    /// What it does.
    pub(crate) kind: EffectKind,
    /// To what.
    pub(crate) subject: Subject,
    /// Which argument says so; `None` when the program does it by itself.
    pub(crate) argument: Option<usize>,
    /// How that argument says so, for messages: `operand`, ``option `-o` ``.
    pub(crate) via: Cow<'static, str>,
}

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum EffectKind {
    /// The content of a file is read.
    Read,
    /// A directory is listed, or what the file system says about a file is read.
    Examine,
    /// A file is created or changed.
    Write,
    /// A file is removed or renamed, or work is thrown away.
    Delete,
    /// A program is started, or code that the words name or hold is run.
    Execute,
    /// A host is reached.
    Network,
    /// Privilege is changed: set-id bits, ownership, the clock, another user.
    Privilege,
}

impl EffectKind {
    /// Returns the kind's name, as tables and denials write it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Examine => "examine",
            Self::Write => "write",
            Self::Delete => "delete",
            Self::Execute => "execute",
            Self::Network => "network",
            Self::Privilege => "privilege",
        }
    }
}

impl fmt::Display for Subject {
    /// Writes it for a person: the path, the host, the program, or why it has no name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What stands for words that are not on the line is nothing that a person can read.
        let seen = |text: &str| text.replace([unseen::ANYTHING, unseen::FOUND], "…");
        match self {
            Self::Path { word, reach: Reach::Tree, .. } => {
                write!(f, "{} and what is beneath", seen(&word.to_unmatched()))
            }
            Self::Path { word, .. } => f.write_str(&seen(&word.to_unmatched())),
            Self::Host { scheme, host, port } => write!(f, "{scheme}://{}:{port}", seen(host)),
            Self::Repository => f.write_str("the repository"),
            Self::Program(name) => f.write_str(&seen(name)),
            Self::Unbounded(why) => f.write_str(why),
        }
    }
}

/// What it is done to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Subject {
    /// A path, relative to the directory in force, perhaps with patterns. With [`EffectKind::Execute`]: the code in
    /// this file or directory is run (`node FILE`, `make` in `.`).
    Path {
        /// The path as the program will see it.
        word: Word,
        /// How much of what lies there.
        reach: Reach,
        /// Whether symbolic links found below are followed.
        follow_links: bool,
    },
    /// A host that is reached with nothing but a request to read.
    Host {
        /// `https`, `http`, `ftp`, … in lower case.
        scheme: String,
        /// The name or address in lower case, without port or user.
        host: String,
        /// The port, also when the scheme implies it.
        port: u16,
    },
    /// The repository that `git` works in: its own data and its working tree.
    Repository,
    /// A program that is started, by name or path, with arguments that nobody judged.
    Program(String),
    /// It cannot be bounded, for this reason. [`EffectKind::Read`] and [`EffectKind::Examine`] of this sort (names come
    /// from standard input or from a file) are what only the sandbox can hold; every other kind is
    /// refused wherever the kind is bounded at all.
    Unbounded(String),
}

/// How much of what lies at a path is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Reach {
    /// The file, or the entries of the directory, itself.
    Itself,
    /// It, or when it is a directory an entry made in it (`cp a DIR`). The entries whose names are
    /// known from the line are effects of their own.
    Entry,
    /// Everything beneath it too.
    Tree,
}

/// A command that a wrapper runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Inner {
    /// The program and its arguments; empty when `script` is given.
    pub(crate) words: Vec<Word>,
    /// Whether words that are not on the line follow (`xargs`).
    pub(crate) appended: bool,
    /// Text in the words that is replaced by what is not on the line (`{}` of `find` and `xargs -I`).
    pub(crate) placeholder: Option<Placeholder>,
    /// The index, in the wrapper's arguments, of the inner program's name or of the script.
    pub(crate) argument: usize,
    /// The one literal script of `sh -c`, to be judged as a line of its own.
    pub(crate) script: Option<String>,
    /// Variables that the wrapper sets for it (`env NAME=VALUE`).
    pub(crate) assignments: Vec<(String, String)>,
    /// The directory it runs in, when the wrapper changes that (`env -C DIR`).
    pub(crate) directory: Option<Word>,
}

/// Text of an inner command that stands for something not on the line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Placeholder {
    /// Any text at all (`xargs -I`).
    Text(String),
    /// A path that begins with one of the start points (`{}` of `find`), so never with `-`.
    Found(String),
}

/// Why the words were not understood. The judge refuses the line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Unknown {
    /// There is no table for this program.
    Program,
    /// The table has no such option.
    Option {
        /// The option as written.
        text: String,
        /// The argument it stands in.
        argument: usize,
        /// The known option that is nearest to it.
        nearest: Option<String>,
    },
    /// The program itself would refuse this, or it could mean more than one thing.
    Usage {
        /// What is wrong, in a clause.
        problem: String,
        /// The argument that is.
        argument: Option<usize>,
    },
    /// A script or program text (`sed`, `awk`) could not be shown harmless.
    Script {
        /// What is wrong, in a clause.
        problem: String,
        /// The argument that holds it.
        argument: usize,
    },
}

impl Unknown {
    /// Counts the argument from further left.
    fn moved(self, by: usize) -> Self {
        match self {
            Self::Program => Self::Program,
            Self::Option { text, argument, nearest } => {
                Self::Option { text, argument: argument + by, nearest }
            }
            Self::Usage { problem, argument } => {
                Self::Usage { problem, argument: argument.map(|at| at + by) }
            }
            Self::Script { problem, argument } => Self::Script { problem, argument: argument + by },
        }
    }
}

impl Effects {
    /// Adds the effects of words that stand `by` arguments further right.
    fn append_moved(&mut self, mut other: Self, by: usize) {
        for effect in &mut other.list {
            effect.argument = effect.argument.map(|argument| argument + by);
        }
        self.list.append(&mut other.list);
        self.options.extend(other.options.into_iter().map(|(name, argument)| (name, argument + by)));
        self.insertions.extend(other.insertions.into_iter().map(|(argument, text)| (argument + by, text)));
        self.environment.append(&mut other.environment);
        self.helpers.append(&mut other.helpers);
    }
}

/// Says what a program would do with these arguments.
///
/// # Errors
/// When they are not understood; see [`Unknown`].
pub(crate) fn effects(program: &str, arguments: &[Word]) -> Result<Effects, Unknown> {
    let mut effects = Effects::default();
    match program {
        // Their words are text. What looks like an option and is none is text as well.
        "echo" | "printf" => {}
        "test" | "[" => test::read(program, arguments, &mut effects)?,
        "find" => find::read(arguments, &mut effects)?,
        "git" => git::read(arguments, &mut effects)?,
        "tar" => archives::tar(arguments, &mut effects)?,
        "zip" => zip::read(arguments, &mut effects)?,
        "dd" => archives::dd(arguments, &mut effects)?,
        "cargo" => build::cargo(arguments, &mut effects)?,
        "python" | "python3" => build::python(program, arguments, &mut effects)?,
        "bash" | "dash" | "sh" => wrappers::shell(program, arguments, &mut effects)?,
        "env" | "flock" | "i386" | "i686" | "ionice" | "linux32" | "linux64" | "nice" | "nohup"
        | "setarch" | "setsid" | "stdbuf" | "time" | "timeout" | "uname26" | "watch" | "x86_64" | "xargs" => {
            wrappers::read(program, arguments, &mut effects)?;
        }
        _ => {
            let table = table::find(program).filter(|_| !program.contains('/')).ok_or(Unknown::Program)?;
            for (kind, why) in &table.always {
                effects.unbounded(*kind, why, None, "whatever its words are");
            }
            if table.opaque {
                return Ok(effects);
            }
            let mut reading = options::read(table, arguments)?;
            details::mark(program, &mut reading);
            roles::apply(table, &reading, &mut effects)?;
            details::add(program, &reading, &mut effects)?;
        }
    }
    Ok(effects)
}

/// Says what the command of a wrapper would do, also when some of its words are not on the line: what they may make it
/// do beside reading is then an effect on a [`Subject::Unbounded`]. An inner with a script has no effects of
/// its own: judge the script. Insertions count from the inner command's own first argument, the word behind
/// [`Inner::argument`].
///
/// # Errors
/// When its words are not understood, or the program's name itself is not on the line.
pub(crate) fn inner_effects(inner: &Inner) -> Result<Effects, Unknown> {
    unseen::effects_of(inner)
}

/// Names every program that has a table or a parser, in order.
pub(crate) fn programs() -> impl Iterator<Item = &'static str> {
    const PARSED: [&str; 12] =
        ["[", "bash", "cargo", "dash", "dd", "echo", "find", "git", "printf", "sh", "test", "zip"];
    let mut names: Vec<_> = table::names().filter(|name| !name.contains('/')).chain(PARSED).collect();
    names.sort_unstable();
    names.into_iter()
}

/// Returns the name by which [`Effects::options`] knows an option that is written out in full (`-r` of `grep` is
/// `--recursive`); `None` when no table of the program, or of its sub-commands, has it.
pub(crate) fn canonical_option(program: &str, option: &str) -> Option<&'static str> {
    let of_subcommands = format!("{program}/");
    let tables = table::names().filter(|name| *name == program || name.starts_with(&of_subcommands));
    let mut options = tables.filter_map(table::find).flat_map(|table| &table.options);
    options.find(|known| known.names.contains(&option)).map(table::Opt::canonical)
}
