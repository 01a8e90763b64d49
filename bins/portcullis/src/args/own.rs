//! What is about this program itself: its configuration, its token, its manual.

use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Subcommand};
use clap_complete::Shell;

/// What can be done with the configuration.
#[derive(Debug, Clone, Copy, Subcommand)]
pub(crate) enum Config {
    /// Show which service and which token would be used, and who said so; asks no service
    ///
    /// The service's own settings are shown by `portcullis-server config check`.
    #[command(after_help = "Examples:
  portcullis config check
  portcullis config check --url http://127.0.0.1:7000")]
    Check,
}

/// What can be done with a token beside finding it.
#[derive(Debug, Clone, Copy, Subcommand)]
pub(crate) enum Token {
    /// Print the token itself, for other programs
    #[command(after_help = "Examples:
  portcullis token print
  portcullis token print --token-file /etc/portcullis/token")]
    Print,
    /// Make a new local token in the place of the old one; the service must be restarted then
    #[command(after_help = "Examples:
  portcullis token rotate")]
    Rotate,
}

/// Print the manual page of this program, or write one for each of its commands
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  portcullis man | man -l -
  portcullis man --directory ~/.local/share/man/man1")]
pub(crate) struct Man {
    /// Write all pages into this directory, which is made if need be
    #[arg(long, value_name = "DIR")]
    pub(crate) directory: Option<PathBuf>,
}

/// The shells whose completions are tried by our tests.
pub(super) fn shells() -> impl TypedValueParser<Value = Shell> {
    PossibleValuesParser::new(["bash", "zsh", "fish"]).map(|name| match name.as_str() {
        "zsh" => Shell::Zsh,
        "fish" => Shell::Fish,
        _ => Shell::Bash,
    })
}
