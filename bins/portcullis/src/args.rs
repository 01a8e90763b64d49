//! The command line of the command-line client, by clig.dev.

mod own;
mod policy;

use std::path::PathBuf;

use clap::builder::styling::{AnsiColor, Styles};
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;
use portcullis_core::{ExecutionId, Status};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

pub(crate) use own::{Config, Man, Token};
pub(crate) use policy::{Policy, PolicyCheck, PolicyDiff, PolicyExplain, PolicyLint, PolicyTest};

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().bold())
    .usage(AnsiColor::Green.on_default().bold())
    .literal(AnsiColor::Cyan.on_default())
    .error(AnsiColor::Red.on_default().bold());

/// Runs command lines through a Portcullis service, and looks after them.
#[derive(Debug, Parser)]
#[command(name = "portcullis", version, styles = STYLES, max_term_width = 100, arg_required_else_help = true)]
#[command(after_help = "Examples:
  portcullis run 'ls -la | grep txt'         run a line; its output and exit code become ours
  portcullis run -- grep -n \"$word\" notes  run words: each arrives as it is, whatever is in it
  portcullis check 'rm -rf /'                would it be allowed, and why not
  portcullis list --status running           what runs at the moment
  portcullis verify                          does the service keep its main promises

Exit codes:
  that of the command for `run` and `watch`, 128+n when signal n ended it, 130 when it was cancelled,
  124 at its time limit; 125 when Portcullis failed or refused; 1 when the answer of `check`, `verify` or
  `policy` is no, or `cancel` came after the end; 2 for a wrong use of this program.

Environment:
  PORTCULLIS_URL, PORTCULLIS_TOKEN_FILE, PORTCULLIS_TOKEN, PORTCULLIS_DATA_DIR, PORTCULLIS_CONFIG (the service's
  file, for its data directory), NO_COLOR; settings `url` and
  `token_file` in ~/.config/portcullis/cli.toml. A service on this machine is found without any of them.")]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command takes.
#[derive(Debug, Args)]
pub(crate) struct Common {
    /// Where the service is [default: the one on this machine, http://127.0.0.1:5000]
    #[arg(long, global = true, value_name = "URL", help_heading = "Common options")]
    pub(crate) url: Option<String>,
    /// The file with the token to show the service [default: the one of the service on this machine]
    #[arg(long, global = true, value_name = "FILE", help_heading = "Common options")]
    pub(crate) token_file: Option<PathBuf>,
    /// Print results as JSON
    #[arg(long, global = true, help_heading = "Common options")]
    pub(crate) json: bool,
    /// Print no colour, on a terminal either
    #[arg(long, global = true, help_heading = "Common options")]
    pub(crate) no_color: bool,
}

/// What can be done.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    #[command(flatten)]
    OfService(OfService),
    /// Work on rulebooks, without a service
    #[command(subcommand, arg_required_else_help = true)]
    #[command(after_help = "Examples:
  portcullis policy test team.toml
  portcullis policy check --rulebook team.toml --user bob 'rm -r build'")]
    Policy(Policy),
    /// Look at this program's own configuration
    #[command(subcommand, arg_required_else_help = true)]
    #[command(after_help = "Examples:
  portcullis config check
  portcullis --json config check")]
    Config(Config),
    /// Say where the token is that would be shown to the service; print it; make a new one
    #[command(after_help = "Examples:
  portcullis token
  portcullis token print
  portcullis token rotate")]
    Token {
        #[command(subcommand)]
        action: Option<Token>,
    },
    /// Print the completions of a shell
    #[command(after_help = "Examples:
  portcullis completions bash > ~/.local/share/bash-completion/completions/portcullis
  portcullis completions zsh > ~/.zfunc/_portcullis
  portcullis completions fish > ~/.config/fish/completions/portcullis.fish")]
    Completions {
        /// Whose
        #[arg(value_name = "SHELL", value_parser = own::shells())]
        shell: Shell,
    },
    Man(Man),
}

/// What is asked of a service.
#[derive(Debug, Subcommand)]
pub(crate) enum OfService {
    Run(Run),
    /// Show the record of an execution
    #[command(after_help = "Examples:
  portcullis status test-123
  portcullis status --json test-123")]
    Status(OfExecution),
    /// Follow an execution: its output from the beginning, then what comes
    ///
    /// Exits as `run` does. Ctrl-C leaves the execution running. A lost connection is made again, also over a
    /// restart of the service.
    #[command(after_help = "Examples:
  portcullis watch test-123")]
    Watch(OfExecution),
    /// Cancel an execution, and wait until nothing of it is left
    ///
    /// Exits with 1 when it had ended already.
    #[command(after_help = "Examples:
  portcullis cancel test-123")]
    Cancel(OfExecution),
    List(List),
    Output(Output),
    Check(Check),
    /// List what you may run
    #[command(after_help = "Examples:
  portcullis allowed
  portcullis allowed --json")]
    Allowed,
    Verify(Verify),
}

/// Run a command line and stream its output
///
/// With one argument, that is the command line as the service reads it: pipes, quotes and `&&` count. After `--`, each
/// argument is one word and arrives as it is: it is quoted so that nothing in it counts.
///
/// Exits with the command's own code, 128+n when signal n ended it, 124 at its time limit, 130 when it was cancelled, 125
/// when Portcullis failed or refused. Ctrl-C cancels the execution; twice leaves at once. A service without room is asked
/// again when it says so, for up to 30 s.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  portcullis run 'cat notes | grep -c todo'
  portcullis run --timeout 5 -- find /usr/share -name '*.txt'
  portcullis run --stdin 'grep -n error' < app.log")]
pub(crate) struct Run {
    /// The command line, as one argument
    #[arg(value_name = "COMMAND LINE", num_args = 0..)]
    pub(crate) line: Vec<String>,
    /// The words of one command
    #[arg(last = true, value_name = "WORDS")]
    pub(crate) words: Vec<String>,
    /// End it after so many seconds, if the service's own limit is not below
    #[arg(long, short = 't', value_name = "SECONDS", value_parser = seconds)]
    pub(crate) timeout: Option<f64>,
    /// Give the execution this id [default: a new UUID]
    #[arg(long, value_name = "ID")]
    pub(crate) id: Option<ExecutionId>,
    /// Let the command read our standard input, up to its end [default: it reads nothing]
    #[arg(long, short = 'i')]
    pub(crate) stdin: bool,
    /// Set a variable for the command; the rules say which may be set
    #[arg(long, short = 'e', value_name = "NAME=VALUE", value_parser = variable)]
    pub(crate) env: Vec<(String, String)>,
    /// Start in this directory of the workspace
    #[arg(long, short = 'w', value_name = "DIR")]
    pub(crate) workdir: Option<String>,
    /// Print the id once it is accepted, and leave it running
    #[arg(long, short = 'd', conflicts_with = "json")]
    pub(crate) detach: bool,
    /// Print nothing of our own but errors
    #[arg(long, short = 'q')]
    pub(crate) quiet: bool,
}

/// The execution that is meant.
#[derive(Debug, Args)]
pub(crate) struct OfExecution {
    /// Its id
    pub(crate) id: ExecutionId,
}

/// List your executions, newest first
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  portcullis list --status failed --since 2025-03-25T00:00:00Z
  portcullis list --program grep -n 100 --json")]
pub(crate) struct List {
    /// Only those with this status
    #[arg(long, value_name = "STATUS", value_parser = status())]
    pub(crate) status: Option<Status>,
    /// Only those that name this program
    #[arg(long, value_name = "PROGRAM")]
    pub(crate) program: Option<String>,
    /// Only those accepted at this time or later, such as 2025-03-25T16:17:12Z
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(crate) since: Option<String>,
    /// Only those accepted before this time
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(crate) before: Option<String>,
    /// At most so many
    #[arg(long, short = 'n', value_name = "COUNT", default_value_t = 20)]
    pub(crate) limit: usize,
    /// Go on behind this cursor of an earlier page
    #[arg(long, value_name = "CURSOR")]
    pub(crate) cursor: Option<String>,
}

/// Print the output of an execution
///
/// Byte for byte, unless our output is a terminal: there, control characters but colours are written out.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  portcullis output test-123 > result
  portcullis output --stream stderr test-123")]
pub(crate) struct Output {
    /// Its id
    pub(crate) id: ExecutionId,
    /// Only this stream [default: both, in order of arrival]
    #[arg(long, value_name = "STREAM", value_parser = ["stdout", "stderr"])]
    pub(crate) stream: Option<String>,
}

/// Ask whether a line would be allowed, and why not; runs nothing
///
/// Exits with 0 when it is allowed and 1 when it is not.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  portcullis check 'find /usr -name \"*.so\" -delete'
  portcullis check -- grep -r \"$pattern\" .")]
pub(crate) struct Check {
    /// The command line, as one argument
    #[arg(value_name = "COMMAND LINE", num_args = 0..)]
    pub(crate) line: Vec<String>,
    /// The words of one command
    #[arg(last = true, value_name = "WORDS")]
    pub(crate) words: Vec<String>,
}

/// Try the service's main promises: six checks, exit code 1 when one fails
///
/// Health, an allowed command, a refused one, a cancellation, a complex command line and a timeout, each against the
/// running service, as any caller would. It runs nothing that writes, and leaves four short executions and two refusals
/// in the records.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  portcullis verify
  portcullis verify --url http://127.0.0.1:7000 --json")]
pub(crate) struct Verify {}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if seconds.is_finite() && seconds > 0.0 => Ok(seconds),
        _ => Err("seconds above 0 are accepted, such as `30` or `0.5`".into()),
    }
}

fn variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("`NAME=VALUE` is accepted".into()),
    }
}

fn time(text: &str) -> Result<String, String> {
    OffsetDateTime::parse(text, &Rfc3339)
        .map(|_| text.to_owned())
        .map_err(|_| "a time of RFC 3339 is accepted, such as `2025-03-25T16:17:12Z`".into())
}

/// The words of `status`; completions know them.
fn status() -> impl TypedValueParser<Value = Status> {
    let words = ["scheduled", "running", "completed", "failed", "cancelled", "timeout", "lost"];
    PossibleValuesParser::new(words)
        .try_map(|word| Status::parse(&word).ok_or("this version knows no such status"))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    /// Returns a command and all below it, `help` left out.
    fn all(command: &clap::Command, path: &str, found: &mut Vec<(String, clap::Command)>) {
        found.push((path.to_owned(), command.clone()));
        for below in command.get_subcommands().filter(|below| below.get_name() != "help") {
            all(below, &format!("{path} {}", below.get_name()), found);
        }
    }

    #[test]
    fn every_command_has_examples_that_are_right() {
        let mut commands = Vec::new();
        all(&Cli::command(), "portcullis", &mut commands);
        assert!(commands.len() > 20, "{}", commands.len());
        for (path, command) in commands {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let examples = help.lines().skip_while(|line| *line != "Examples:").skip(1);
            let examples: Vec<_> = examples.take_while(|line| !line.is_empty()).map(str::trim).collect();
            assert!(!examples.is_empty(), "`{path}` has no examples");
            for example in examples {
                // A remark stands behind three blanks.
                let line = example.split("   ").next().unwrap();
                let words = shell_words::split(line).unwrap_or_else(|error| panic!("{example}: {error}"));
                for part in words.split(|word| word == "|") {
                    let part: Vec<_> =
                        part.iter().take_while(|word| !["<", ">"].contains(&word.as_str())).collect();
                    if part[0] == "portcullis"
                        && let Err(error) = Cli::try_parse_from(&part)
                    {
                        panic!("{example}: {error}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_line_and_words_are_told_apart_by_the_two_dashes() {
        let parse = |arguments: &[&str]| match Cli::try_parse_from(arguments).unwrap().command {
            Command::OfService(OfService::Run(run)) => (run.line, run.words),
            other => panic!("{other:?}"),
        };
        assert_eq!(parse(&["portcullis", "run", "ls | cat"]), (vec!["ls | cat".into()], vec![]));
        assert_eq!(
            parse(&["portcullis", "run", "--timeout", "3", "--", "ls", "-t", "--json"]),
            (vec![], vec!["ls".into(), "-t".into(), "--json".into()])
        );
    }

    #[test]
    fn rulebooks_are_judged_by_and_tested() {
        let parse = |arguments: &[&str]| Cli::try_parse_from(arguments).unwrap().command;
        let check =
            parse(&["portcullis", "policy", "check", "--user", "bob", "--role", "a", "--role", "b", "ls"]);
        let Command::Policy(Policy::Check(check)) = check else { panic!("{check:?}") };
        assert_eq!((check.user.as_str(), check.role.len(), check.line.len()), ("bob", 2, 1));
        assert!(matches!(
            parse(&["portcullis", "policy", "test", "team.toml"]),
            Command::Policy(Policy::Test(_))
        ));
    }

    #[test]
    fn a_token_never_stands_in_argv() {
        assert!(Cli::try_parse_from(["portcullis", "--token", "x", "allowed"]).is_err());
    }

    #[test]
    fn wrong_values_are_refused_with_what_is_accepted() {
        for (arguments, accepted) in [
            (["run", "--timeout", "0", "ls"], "seconds above 0"),
            (["run", "--timeout", "soon", "ls"], "seconds above 0"),
            (["run", "--env", "X", "ls"], "NAME=VALUE"),
            (["run", "--id", "../x", "ls"], "A-Z a-z 0-9"),
            (["list", "--status", "done", "--json"], "timeout, lost"),
            (["list", "--since", "yesterday", "--json"], "2025-03-25T16:17:12Z"),
        ] {
            let error = Cli::try_parse_from(["portcullis"].iter().chain(&arguments)).unwrap_err();
            assert!(error.to_string().contains(accepted), "{error}");
        }
    }
}
