//! The Portcullis command-line client.
//!
//! [`args`] says what can be asked for, [`target`] finds the service, [`service`] asks it over [`http`], [`run`],
//! [`show`] and [`verify`] present the answers, [`rulebook`] judges without a service, [`settings`] says what was found
//! where, [`generate`] writes completions and manual pages. Results go to standard output, words of our own to standard
//! error.
#![forbid(unsafe_code)]

mod args;
mod denial;
mod ending;
mod failure;
mod follow;
mod generate;
mod http;
mod line;
mod printer;
mod progress;
mod quote;
mod reading;
mod rotate;
mod rulebook;
mod run;
mod service;
mod settings;
mod show;
mod sse;
mod target;
mod terminal;
mod verify;

use std::io;
use std::process::ExitCode;

use clap::{ColorChoice, CommandFactory, FromArgMatches};

use crate::args::{Cli, Command, Config, OfService, Policy, Token};
use crate::failure::Failure;
use crate::service::Service;
use crate::target::{Target, Wishes};
use crate::terminal::Colour;

fn main() -> ExitCode {
    let cli = parse();
    let errors = Colour::decide(cli.common.no_color, &io::stderr());
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return Failure::new(format!("cannot start: {error}")).report(errors),
    };
    let ended = runtime.block_on(dispatch(cli, errors));
    // A read of standard input or a request under way must not hold us.
    runtime.shutdown_background();
    ended.unwrap_or_else(|failure| failure.report(errors))
}

/// Reads the command line. What `--no-color` asks for counts for help and for what is wrong with the line, too.
fn parse() -> Cli {
    let plain =
        std::env::args_os().take_while(|argument| argument != "--").any(|argument| argument == "--no-color");
    let choice = if plain { ColorChoice::Never } else { ColorChoice::Auto };
    let matches = Cli::command().color(choice).get_matches();
    Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
}

async fn dispatch(cli: Cli, errors: Colour) -> Result<ExitCode, Failure> {
    let json = cli.common.json;
    let colour = Colour::decide(cli.common.no_color, &io::stdout());
    let wishes = Wishes::from_environment(cli.common.url, cli.common.token_file);
    let command = match cli.command {
        Command::Policy(policy) => {
            return match policy {
                Policy::Check(args) => rulebook::check(args, json),
                Policy::Test(args) => rulebook::test(&args, json),
                Policy::Lint(args) => rulebook::lint(&args, json),
                Policy::Diff(args) => rulebook::diff(args, json),
                Policy::Explain(args) => rulebook::explain(&args, json),
                Policy::Schema => rulebook::schema(),
            };
        }
        Command::Config(Config::Check) => return settings::check(&wishes, json),
        Command::Token { action: None } => return settings::token_place(&wishes, json),
        Command::Token { action: Some(Token::Print) } => return settings::token_print(&wishes, json),
        Command::Token { action: Some(Token::Rotate) } => return settings::token_rotate(&wishes, json),
        Command::Completions { shell } => return generate::completions(shell),
        Command::Man(args) => return generate::man(&args),
        Command::OfService(command) => command,
    };
    let service = Service::at(Target::find(&wishes)?);
    match command {
        OfService::Run(args) => run::run(&service, args, json, errors).await,
        OfService::Watch(args) => run::watch(&service, &args.id, json, errors).await,
        OfService::Status(args) => reading::status(&service, &args.id, json, colour).await,
        OfService::Cancel(args) => reading::cancel(&service, &args.id, json, colour).await,
        OfService::List(args) => reading::list(&service, &args, json, colour).await,
        OfService::Output(args) => reading::output(&service, &args, json).await,
        OfService::Check(args) => reading::check(&service, args, json).await,
        OfService::Allowed => reading::allowed(&service, json).await,
        OfService::Verify(_) => verify::verify(&service, json, colour).await,
    }
}
