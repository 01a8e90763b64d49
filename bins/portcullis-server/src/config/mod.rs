//! What the service is told, from defaults, a file, the environment and flags, each beating the one before.
//!
//! A setting has one name: `memory_limit_bytes` in the file is `PORTCULLIS_MEMORY_LIMIT_BYTES` in the environment.
//! Four have the names of the mission there, and `port` is `PORT`. `settings` is the one table of them;
//! `sources` gathers what was said, and where, with `secrets` from files of their own; `values` says what each may be;
//! `resolve` puts them together.
//! Everything that is wrong is reported at once.

mod otel;
mod resolve;
mod secrets;
mod settings;
mod sources;
mod values;
mod webhooks;

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use portcullis_core::{Keep, Limits};
use portcullis_identity::AuthConfig;
use portcullis_notify::{SocketConfig, WebhookConfig};
use portcullis_policy::Rulebook;
use portcullis_sandbox::Account;

pub use otel::OtlpConfig;
pub use settings::{Form, SETTINGS, Setting, flag};
pub use sources::{Flags, Origin, Place, Sources};
pub use webhooks::KEYS as WEBHOOK_MEMBERS;

use crate::audit::OnFailure;
use crate::http::HttpConfig;
use crate::logging::LogFormat;

/// Everything the service is told.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where it listens.
    pub listen: SocketAddr,
    /// Where it gives metrics to whoever asks, beside where it listens.
    pub metrics_listen: Option<SocketAddr>,
    /// Where it writes its audit log; without it, nowhere.
    pub audit_log: Option<PathBuf>,
    /// What happens while that cannot be written.
    pub audit_failure: OnFailure,
    /// Where it sends spans; without it, nowhere.
    pub otlp: Option<OtlpConfig>,
    /// Where it keeps its state.
    pub data_dir: PathBuf,
    /// Whom root becomes when it starts the service; `None` when somebody else starts it.
    pub user: Option<ServiceUser>,
    /// Where executions are recorded.
    pub store: StoreKind,
    /// The rules.
    pub rulebook: Rulebook,
    /// The file that they were read from, if it was one.
    pub rulebook_file: Option<PathBuf>,
    /// What no execution goes beyond.
    pub limits: Limits,
    /// How many threads answer requests and see to executions.
    pub worker_threads: usize,
    /// How executions are confined.
    pub sandbox: portcullis_sandbox::Config,
    /// How executions are queued and their output gathered.
    pub engine: portcullis_engine::Config,
    /// The Auth Service; without one, the local token counts.
    pub auth_service: Option<AuthConfig>,
    /// Where the local token is kept.
    pub token_file: PathBuf,
    /// The Socket Service; without one, nobody is told.
    pub socket_service: Option<SocketConfig>,
    /// Endpoints that are posted how executions ended.
    pub webhooks: Vec<WebhookConfig>,
    /// The service's own URL as others reach it, for links; without one, links are paths.
    pub public_url: Option<String>,
    /// What the HTTP side holds its peers to.
    pub http: HttpConfig,
    /// How long records are kept after their end; without it, for ever.
    pub retention: Option<Duration>,
    /// How many of them, and how many bytes of them, are kept.
    pub keep: Keep,
    /// How long queued and running executions may go on when the service is to end.
    pub drain_time: Duration,
    /// Which events are logged: directives of `tracing-subscriber`.
    pub log_filter: String,
    /// How they are written.
    pub log_format: LogFormat,
}

/// Whom root becomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceUser {
    /// The user.
    pub account: Account,
    /// Whether somebody asked for it: then nothing else will do.
    pub asked_for: bool,
}

/// Where executions are recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreKind {
    /// In a database in the data directory.
    Sqlite,
    /// In memory: gone when the service ends.
    Memory,
}

/// A configuration with the history of each of its values.
#[derive(Debug, Clone)]
pub struct Effective {
    /// The configuration.
    pub config: Config,
    /// Each setting's value as text, in the table's order, and where it came from.
    pub values: Vec<(&'static Setting, String, Origin)>,
    /// What is not wrong, but should be heard of.
    pub warnings: Vec<String>,
    /// The endpoints of `[webhook.NAME]` that are enabled, and where each is in the file.
    pub webhooks: Vec<(WebhookConfig, Origin)>,
}

/// What is wrong with a configuration: all of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// Each names the setting, where it was set, and what is accepted.
    pub problems: Vec<String>,
}

impl std::error::Error for ConfigError {}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let several = if self.problems.len() == 1 { "" } else { "s" };
        write!(f, "the configuration has {} problem{several}:", self.problems.len())?;
        for problem in &self.problems {
            write!(f, "\n  - {}", problem.replace('\n', "\n    "))?;
        }
        Ok(())
    }
}

impl Config {
    /// Reads the configuration. Reads the configuration file, the files that it names (the rulebook, secrets)
    /// and, as root, `/etc/passwd`, and nothing else.
    ///
    /// # Errors
    /// When anything is wrong with it: every problem is listed.
    pub fn load(sources: Sources) -> Result<Effective, ConfigError> {
        resolve::resolve(sources.gather())
    }
}
