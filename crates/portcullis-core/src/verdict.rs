use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Limits, Permit, ProgramName, Span};

/// The policy's answer to one command line.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "a denial must be recorded and returned, a permit carried out"]
pub enum Verdict {
    /// It may run, within the permit.
    Permit(Box<Permit>, Grant),
    /// It may not.
    Deny(Box<Denial>),
}

/// Why a line was permitted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// Names of the rules that allowed it, in the order of the commands, each once.
    pub rules: Vec<String>,
    /// The programs it names, in order, each once.
    pub programs: Vec<ProgramName>,
    /// What the permit adds to commands so that they do no more than their words say, each once.
    #[serde(default)]
    pub added: Vec<Added>,
}

/// What a permit adds to a command: arguments and variables that keep, say, a repository's configuration from naming
/// programs for `git` to run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Added {
    /// The program of the command.
    pub program: ProgramName,
    /// The arguments, in the order in which the program is given them.
    pub arguments: Vec<String>,
    /// The variables that are set, each with its value.
    pub environment: Vec<(String, String)>,
}

/// Why a line was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Denial {
    /// What was wrong, for programs: two levels, stable, such as `path/protected`.
    pub code: DenialCode,
    /// Whether the line could not be understood, or was understood and is not allowed.
    pub kind: DenialKind,
    /// The bytes of the line that the denial is about.
    pub span: Span,
    /// What the denial is about: a program, a path, an option, an operator.
    pub subject: String,
    /// The rule that denied it, where one did.
    pub rule: Option<RuleRef>,
    /// One sentence for a person, without a final stop.
    pub message: String,
    /// What to do instead, where there is something.
    pub suggestion: Option<String>,
    /// What the refused commands of the line would do, in order, as far as their words were understood. The first
    /// denial has them for the whole line, those in `further` have none.
    #[serde(default)]
    pub effects: Vec<FoundEffect>,
    /// Everything else that is wrong with the line.
    pub further: Vec<Denial>,
}

/// One thing that a refused command would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoundEffect {
    /// `read`, `examine`, `write`, `delete`, `execute`, `network` or `privilege`.
    pub kind: Cow<'static, str>,
    /// To what: a path, a host, a program, or in words what cannot be named.
    pub subject: String,
    /// How the words say so: `operand`, ``option `-o` ``.
    pub via: String,
    /// The bytes of the line that say so.
    pub span: Span,
}

impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// A denial's code: `family/detail`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DenialCode(Cow<'static, str>);

impl DenialCode {
    /// Names a code.
    #[must_use]
    pub const fn new(code: &'static str) -> Self {
        Self(Cow::Borrowed(code))
    }

    /// Returns the code as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<String> for DenialCode {
    /// Takes a code from elsewhere: one that another version's answer names.
    fn from(code: String) -> Self {
        Self(Cow::Owned(code))
    }
}

impl fmt::Display for DenialCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether a line could be understood at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum DenialKind {
    /// It is not in the language: the request is wrong (400).
    Malformed,
    /// It is understood and not allowed (403).
    Forbidden,
}

/// A rule and its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleRef {
    /// The rule's name.
    pub name: String,
    /// Its line in the rulebook's file, from 1; `None` for a built-in rule.
    pub line: Option<usize>,
}

/// A program that a principal may run, for a list of what is allowed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AllowedProgram {
    /// The program.
    pub program: ProgramName,
    /// The rule that allows it.
    pub rule: String,
    /// Sub-commands, when only some are allowed.
    pub subcommands: Vec<String>,
    /// The bounds of an execution of it: those of the service, narrowed by the rule.
    pub limits: Limits,
}
