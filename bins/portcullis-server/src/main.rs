//! The Portcullis command execution service.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::builder::NonEmptyStringValueParser;
use clap::{Arg, ArgMatches, CommandFactory, FromArgMatches, Parser, Subcommand};
use portcullis_sandbox::{
    LauncherProcess, Sandbox, StartError, current_uid, enter_if_launcher, start_launcher,
};
use portcullis_server::audit::{Audit, AuditError, Entry};
use portcullis_server::compose::{ComposeError, WhoAsks, authenticator, compose, make_data_dir, write_url};
use portcullis_server::config::{Config, Effective, Flags, Form, SETTINGS, Sources, flag};
use portcullis_server::http::serve;
use portcullis_server::life::{End, Signals, serve_until_told};
use portcullis_server::privilege::give_up;
use portcullis_server::rules::{hangups, reload_when_told};
use portcullis_server::supervisor::Supervisor;
use portcullis_server::telemetry::Meters;
use portcullis_server::{doctor, example, logging, report, upkeep};
use tokio::net::TcpListener;
use tokio::sync::watch;

/// `EX_CONFIG` of sysexits.h.
const BAD_CONFIGURATION: u8 = 78;

const AFTER_HELP: &str = "\
Needs no configuration. Settings come from a file, the environment and flags, each beating the one before;
`--help` shows all their flags, and `portcullis-server config explain` lists them. SIGTERM or SIGINT ends the service after what runs has ended, a
second one at once; SIGHUP reads the rulebook again.

Exits with 0 after a signal, 1 when it could not start or a part of it has died, 78 when the configuration is
wrong.";

/// Runs permitted command lines under kernel confinement, and answers over HTTP.
#[derive(Debug, Parser)]
#[command(name = "portcullis-server", version, after_help = AFTER_HELP)]
struct Arguments {
    /// Configuration file (TOML); also PORTCULLIS_CONFIG
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Looks at the configuration
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Copies the records into a new file, whole, also while the service runs
    Backup {
        /// The file to make; it must not be there
        file: PathBuf,
    },
    /// Looks at the endpoints that are posted how executions end
    #[command(subcommand)]
    Webhooks(WebhooksCommand),
    /// Tries what this host gives: every mechanism, a cell, the programs of the rules; says what is missing, what
    /// that means and how to mend it. Exits with 0 when everything is there, 3 when something is missing that the
    /// service can do without, 1 when nothing will run
    Doctor {
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Clone, Subcommand)]
enum WebhooksCommand {
    /// Prints the endpoints that are enabled in the configuration, and which of them are disabled by a 410
    List,
    /// Takes back that an endpoint is disabled; also while the service runs, which posts to it again within 5 s
    Enable {
        /// Its name in the configuration
        name: String,
    },
}

#[derive(Debug, Clone, Copy, Subcommand)]
enum ConfigCommand {
    /// Prints every setting with its value and where that came from, secrets hidden; exits with 78 when one is wrong
    Check {
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Prints what every setting means, its names and its default
    Explain,
    /// Prints a configuration file with every setting at its default, and what each means
    Example,
}

/// Adds a flag for each setting, and for a secret one that names its file.
fn command_line() -> clap::Command {
    let often = ["listen", "data_dir", "rulebook"];
    let mut command = Arguments::command();
    for setting in SETTINGS {
        for name in setting.flags() {
            let by_file = setting.names().any(|(known, form)| known == name && form == Form::File);
            let file = if by_file { "file that holds: " } else { "" };
            let variable = if by_file { setting.variable_of_file } else { setting.variable };
            // Names of flags live as long as the process does.
            let long: &'static str = flag(name).leak();
            let argument = Arg::new(name)
                .long(long.trim_start_matches('-'))
                .help(format!("{file}{}; also {variable}", setting.about))
                .help_heading("Settings")
                .value_name(if by_file { "FILE" } else { "VALUE" })
                .value_parser(NonEmptyStringValueParser::new())
                .hide_short_help(!often.contains(&name))
                .global(true);
            command = command.arg(argument);
        }
    }
    command
}

/// Returns what the flags of settings say.
fn settings_of(matches: &ArgMatches) -> BTreeMap<&'static str, String> {
    let names = SETTINGS.iter().flat_map(|setting| setting.flags());
    names.filter_map(|name| Some((name, matches.get_one::<String>(name)?.clone()))).collect()
}

fn main() -> ExitCode {
    enter_if_launcher();
    let matches = command_line().get_matches();
    let Arguments { config, command } =
        Arguments::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let description = match command {
        Some(Command::Config(ConfigCommand::Explain)) => Some(report::explanations()),
        Some(Command::Config(ConfigCommand::Example)) => Some(example::example()),
        _ => None,
    };
    if let Some(text) = description {
        print!("{text}");
        return ExitCode::SUCCESS;
    }
    let environment: BTreeMap<_, _> = std::env::vars_os().collect();
    let supervisor = Supervisor::find(&environment);
    let flags = Flags { config, settings: settings_of(&matches) };
    let effective = match Config::load(Sources { flags, environment, root: current_uid() == 0 }) {
        Ok(effective) => effective,
        Err(error) => {
            if let Some(Command::Config(ConfigCommand::Check { json: true })) = command {
                print!("{}", report::problems_as_json(&error));
            } else {
                eprintln!("portcullis-server: {error}");
            }
            return ExitCode::from(BAD_CONFIGURATION);
        }
    };
    match command {
        Some(Command::Config(ConfigCommand::Check { json: true })) => {
            print!("{}", report::settings_as_json(&effective));
            ExitCode::SUCCESS
        }
        Some(Command::Config(_)) => {
            print!("{}", report::settings(&effective));
            for warning in &effective.warnings {
                eprintln!("portcullis-server: warning: {warning}");
            }
            ExitCode::SUCCESS
        }
        Some(Command::Doctor { json }) => {
            let config = effective.config;
            let findings = portcullis_sandbox::examine(&config.sandbox, config.rulebook.programs());
            let user = config.user.as_ref().map(|user| &user.account);
            let report = if json { doctor::json(&findings, user) } else { doctor::table(&findings, user) };
            print!("{report}");
            ExitCode::from(doctor::exit_code(&findings))
        }
        Some(Command::Backup { file }) => said(upkeep::back_up(&effective.config, &file)),
        Some(Command::Webhooks(WebhooksCommand::List)) => said(upkeep::list_webhooks(&effective)),
        Some(Command::Webhooks(WebhooksCommand::Enable { name })) => {
            said(upkeep::enable_webhook(&effective, &name))
        }
        None => match run(effective, supervisor) {
            Ok(End::Told) => ExitCode::SUCCESS,
            Ok(End::Broken) => ExitCode::FAILURE,
            Err(error) => {
                tracing::error!(reason = report::chain(&*error), "could not start");
                ExitCode::FAILURE
            }
        },
    }
}

/// Prints what came of something, or why nothing did.
fn said(result: Result<String, upkeep::Problem>) -> ExitCode {
    match result {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(problem) => {
            eprintln!("portcullis-server: {problem}");
            ExitCode::FAILURE
        }
    }
}

/// Starts the launcher while there is one thread, and then everything else.
fn run(
    effective: Effective,
    supervisor: io::Result<Supervisor>,
) -> Result<End, Box<dyn Error + Send + Sync>> {
    let Effective { config, warnings, .. } = effective;
    logging::start(&config.log_filter, config.log_format);
    let supervisor = supervisor.map_err(|error| ComposeError::room("use `NOTIFY_SOCKET`")(error.into()))?;
    make_data_dir(&config.data_dir)?;
    let launcher = start_launcher(&config.sandbox)?;
    let listener = listen(config.listen)?;
    let scrapers = config.metrics_listen.map(listen).transpose()?;
    // As root, whose the token stays. Where root may not write the directory of its own user (without
    // CAP_DAC_OVERRIDE, in a container), that user makes it.
    let audit = audit(&config)?;
    let meters = Meters::new();
    let as_root = authenticator(&config, &meters);
    give_up(&config)?;
    let who_asks = as_root.or_else(|error| authenticator(&config, &meters).map_err(|_| error))?;
    // One thread has nobody to hand work to, or to wake for it.
    let mut runtime = match config.worker_threads {
        ..=1 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    let runtime = runtime.worker_threads(config.worker_threads).enable_all().build()?;
    runtime.block_on(live(
        config,
        warnings,
        launcher,
        listener,
        scrapers,
        (who_asks, meters, audit),
        supervisor,
    ))
}

/// Opens the audit log where one is wanted, while that may still be where only root may write.
fn audit(config: &Config) -> Result<Option<Arc<Audit>>, AuditError> {
    let Some(path) = &config.audit_log else { return Ok(None) };
    let account = config.user.as_ref().map(|user| &user.account);
    let audit = Audit::open(path, config.audit_failure, account)?;
    audit.note(&Entry::of("start", env!("CARGO_PKG_VERSION").to_owned()))?;
    Ok(Some(audit))
}

/// Binds the port while that may still be one that only root binds. Who connects waits until everything else is there.
fn listen(address: SocketAddr) -> Result<std::net::TcpListener, ComposeError> {
    let bound = std::net::TcpListener::bind(address).and_then(|listener| {
        listener.set_nonblocking(true)?;
        Ok(listener)
    });
    bound.map_err(|error| ComposeError::room("listen")(format!("`{address}`: {error}").into()))
}

async fn live(
    config: Config,
    warnings: Vec<String>,
    launcher: LauncherProcess,
    listener: std::net::TcpListener,
    scrapers: Option<std::net::TcpListener>,
    (who_asks, meters, audit): (WhoAsks, Arc<Meters>, Option<Arc<Audit>>),
    supervisor: Supervisor,
) -> Result<End, Box<dyn Error + Send + Sync>> {
    let mut signals = Signals::listen()?;
    let hangups = hangups()?;
    let supervisor = Arc::new(supervisor);
    let listener = TcpListener::from_std(listener)?;
    let sandbox = match Sandbox::connect(launcher).await {
        Ok(sandbox) => Arc::new(sandbox),
        Err(error) => return Err(explained(error, config).await),
    };
    let composed =
        compose(&config, who_asks, sandbox.clone(), sandbox.confinement(), meters, audit.clone()).await?;
    let url = write_url(&config.data_dir, listener.local_addr()?)?;
    report::started(&config, &warnings, &url, sandbox.confinement());
    // To the last moment: that the service is ending is one of the metrics.
    let (_until, closing) = watch::channel(false);
    if let Some(scrapers) = scrapers {
        let listener = TcpListener::from_std(scrapers)?;
        let address = listener.local_addr()?;
        tracing::info!(url = format!("http://{address}/metrics"), "metrics are given to whoever asks here");
        tokio::spawn(serve(listener, composed.service.for_scrapers(address), closing));
    }
    let rules = Arc::clone(&composed.rules);
    tokio::spawn(reload_when_told(
        hangups,
        rules,
        config.sandbox.clone(),
        Arc::clone(&supervisor),
        audit.clone(),
    ));
    supervisor.ready(&format!("confinement {}, at {url}", sandbox.confinement().level.as_str()));
    let end =
        serve_until_told(composed, listener, config.drain_time, &mut signals, sandbox.ended(), supervisor)
            .await;
    if let Some(audit) = audit {
        let _ = audit.note(&Entry::of("stop", None));
    }
    tracing::info!("ended");
    Ok(end)
}

/// Adds to a launcher's last word what is missing on this host.
async fn explained(error: StartError, config: Config) -> Box<dyn Error + Send + Sync> {
    if config.user.is_some_and(|user| user.account.uid == current_uid()) {
        // What can be tried from here says nothing about what root, who starts the launcher, may do.
        return format!(
            "{error}; `portcullis-server doctor`, as root, says what is missing and how to mend it"
        )
        .into();
    }
    let examine = move || portcullis_sandbox::examine(&config.sandbox, []);
    let Ok(findings) = tokio::task::spawn_blocking(examine).await else { return error.into() };
    let refusal = doctor::refusal(&findings);
    format!("{error}; {refusal}; `portcullis-server doctor` says how to mend it").into()
}
