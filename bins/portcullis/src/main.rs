//! The Portcullis command-line client.
//!
//! [`args`] says what can be asked for, [`target`] finds the service, [`service`] asks it over [`http`], [`run`],
//! [`show`] and [`verify`] present the answers, [`rulebook`] judges without a service. Results go to standard
//! output, words of our own to standard error.
#![forbid(unsafe_code)]

mod args;
mod denial;
mod ending;
mod failure;
mod follow;
mod http;
mod line;
mod printer;
mod progress;
mod quote;
mod reading;
mod rulebook;
mod run;
mod service;
mod show;
mod sse;
mod target;
mod terminal;
mod verify;

use std::io;
use std::process::ExitCode;

use clap::Parser;

use crate::args::{Cli, Command, Policy};
use crate::failure::Failure;
use crate::service::Service;
use crate::target::{Target, Wishes};
use crate::terminal::Colour;

fn main() -> ExitCode {
    let cli = Cli::parse();
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

async fn dispatch(cli: Cli, errors: Colour) -> Result<ExitCode, Failure> {
    let json = cli.common.json;
    let colour = Colour::decide(cli.common.no_color, &io::stdout());
    if let Command::Policy(policy) = cli.command {
        return match policy {
            Policy::Check(args) => rulebook::check(args, json),
            Policy::Test(args) => rulebook::test(&args, json),
            Policy::Lint(args) => rulebook::lint(&args, json),
            Policy::Diff(args) => rulebook::diff(args, json),
            Policy::Explain(args) => rulebook::explain(&args, json),
            Policy::Schema => rulebook::schema(),
        };
    }
    let wishes = Wishes::from_environment(cli.common.url, cli.common.token_file);
    let service = Service::at(Target::find(&wishes)?);
    match cli.command {
        Command::Run(args) => run::run(&service, args, json, errors).await,
        Command::Watch(args) => run::watch(&service, &args.id, json, errors).await,
        Command::Status(args) => reading::status(&service, &args.id, json, colour).await,
        Command::Cancel(args) => reading::cancel(&service, &args.id, json, colour).await,
        Command::List(args) => reading::list(&service, &args, json, colour).await,
        Command::Output(args) => reading::output(&service, &args, json).await,
        Command::Check(args) => reading::check(&service, args, json).await,
        Command::Allowed => reading::allowed(&service, json).await,
        Command::Verify(_) => verify::verify(&service, json, colour).await,
        Command::Policy(_) => Ok(ExitCode::SUCCESS),
    }
}
