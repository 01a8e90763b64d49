//! `policy`: work on rulebooks.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// What can be done with a rulebook.
#[derive(Debug, Subcommand)]
pub(crate) enum Policy {
    Check(PolicyCheck),
    Test(PolicyTest),
    Lint(PolicyLint),
    Diff(PolicyDiff),
    Explain(PolicyExplain),
    /// Print the JSON Schema of rulebooks
    #[command(after_help = "Examples:
  portcullis policy schema > rulebook.schema.json")]
    Schema,
}

/// Judge lines by a rulebook file, without a service
///
/// Exits with 0 when the line is allowed and 1 when it is not. With `--batch`, reads one JSON object a line on standard
/// input, {"id", "user", "roles", "command"}, and answers each with one, in order: {"id", "verdict", "code", "span", "message", "rule",
/// "suggestion"}.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  portcullis policy check --rulebook team.toml --user bob 'head -3 notes'
  portcullis policy check --rulebook team.toml --batch < lines.jsonl")]
pub(crate) struct PolicyCheck {
    /// The rulebook: a file, or one that ships with this program: default, readonly, dev, fetch or team
    /// [default: an allowlist of ls, echo, cat, grep, find, pwd]
    #[arg(long, value_name = "FILE")]
    pub(crate) rulebook: Option<PathBuf>,
    /// Who asks
    #[arg(long, value_name = "NAME", default_value = "local")]
    pub(crate) user: String,
    /// A role of who asks; may be given more than once
    #[arg(long, value_name = "NAME")]
    pub(crate) role: Vec<String>,
    /// Judge the JSON lines on standard input
    #[arg(long, conflicts_with_all = ["line", "words", "user", "role"])]
    pub(crate) batch: bool,
    /// The command line, as one argument
    #[arg(value_name = "COMMAND LINE", num_args = 0..)]
    pub(crate) line: Vec<String>,
    /// The words of one command
    #[arg(last = true, value_name = "WORDS")]
    pub(crate) words: Vec<String>,
}

/// Check a rulebook file and run the tests that it carries
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  portcullis policy test team.toml
  portcullis policy test --rows team.toml")]
pub(crate) struct PolicyTest {
    /// The rulebook
    pub(crate) file: PathBuf,
    /// Name the options of each program that no test gives
    #[arg(long)]
    pub(crate) rows: bool,
}

/// Look for what a rulebook allows and most likely does not mean
///
/// Exits with 1 when there is something to look at.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  portcullis policy lint team.toml")]
pub(crate) struct PolicyLint {
    /// The rulebook: a file, or the name of one that ships
    pub(crate) file: PathBuf,
}

/// Show which lines two rulebooks judge differently
///
/// Exits with 1 when there is one.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  portcullis policy diff old.toml new.toml --lines audit-lines.txt
  portcullis list --json | jq -r '.executions[].command' | portcullis policy diff old.toml new.toml")]
pub(crate) struct PolicyDiff {
    /// The rulebook before: a file, or the name of one that ships
    pub(crate) old: PathBuf,
    /// The rulebook after
    pub(crate) new: PathBuf,
    /// The file with the command lines, one a line [default: standard input]
    #[arg(long, value_name = "FILE")]
    pub(crate) lines: Option<PathBuf>,
    /// Who asks
    #[arg(long, value_name = "NAME", default_value = "local")]
    pub(crate) user: String,
    /// A role of who asks; may be given more than once
    #[arg(long, value_name = "NAME")]
    pub(crate) role: Vec<String>,
}

/// Say in words what a rulebook allows a program, and to whom
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  portcullis policy explain --rulebook team.toml git")]
pub(crate) struct PolicyExplain {
    /// The program
    pub(crate) program: String,
    /// The rulebook [default: as for `check`]
    #[arg(long, value_name = "FILE")]
    pub(crate) rulebook: Option<PathBuf>,
}
