//! The one table of settings, and what each accepts.

use std::fmt::Display;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use portcullis_api::{TOKEN_FILE, state_directories};
use portcullis_core::{Level, Limits, ViewPath};
use portcullis_identity::{AuthConfig, AuthServiceAuthenticator};
use portcullis_notify::{SocketConfig, SocketServiceNotifier};
use portcullis_policy::Rulebook;
use portcullis_sandbox::Mount;
use tracing_subscriber::EnvFilter;

use super::sources::{Gathered, Origin};
use super::{Config, ConfigError, Effective, StoreKind};
use crate::http::{Hosts, HttpConfig};
use crate::logging::LogFormat;

/// A setting.
#[derive(Debug)]
pub struct Setting {
    /// Its name in the file.
    pub name: &'static str,
    /// Its name in the environment.
    pub variable: &'static str,
    /// What it is when nobody sets it; empty when that depends on the host or on another setting.
    pub default: &'static str,
    /// What it means and accepts.
    pub about: &'static str,
}

impl Setting {
    /// Returns the name under which an origin knows it.
    pub(super) fn name_at(&self, origin: &Origin) -> &'static str {
        match origin {
            Origin::Default | Origin::File(..) => self.name,
            Origin::Environment(variable) => variable,
            Origin::Flag(flag) => flag,
        }
    }
}

macro_rules! settings {
    ($($name:literal $variable:literal $default:literal $about:literal)+) => {
        /// Every setting there is, in the order of the documentation.
        pub const SETTINGS: &[Setting] =
            &[$(Setting { name: $name, variable: $variable, default: $default, about: $about },)+];
    };
}

settings! {
    "allowed_commands" "ALLOWED_COMMANDS" "ls,echo,cat,grep,find,pwd"
        "programs that may run, separated by commas: a complete rulebook"
    "max_execution_time" "MAX_EXECUTION_TIME" "60"
        "wall-clock limit of an execution, in whole seconds"
    "auth_service_url" "AUTH_SERVICE_URL" ""
        "base of the Auth Service; without it, the local token counts"
    "socket_service_url" "SOCKET_SERVICE_URL" ""
        "base of the Socket Service; without it, nobody is told"
    "listen" "PORTCULLIS_LISTEN" "127.0.0.1:5000"
        "address and port to listen at; port 0 takes a free one"
    "port" "PORT" ""
        "the port alone; `listen` of the same source goes before it"
    "data_dir" "PORTCULLIS_DATA_DIR" ""
        "directory of the records, the token and the cells"
    "store" "PORTCULLIS_STORE" "sqlite"
        "where executions are recorded: `sqlite` or `memory`"
    "rulebook" "PORTCULLIS_RULEBOOK" ""
        "file of the rules; instead of `allowed_commands`"
    "token_file" "PORTCULLIS_TOKEN_FILE" ""
        "file of the local token; `token` in the data directory when not set"
    "required_permission" "PORTCULLIS_REQUIRED_PERMISSION" "run agents"
        "permission at the Auth Service without which nobody is let in; `none` asks for none"
    "local_token_beyond_loopback" "PORTCULLIS_LOCAL_TOKEN_BEYOND_LOOPBACK" "no"
        "whether to listen beyond loopback without an Auth Service: `yes` or `no`"
    "allowed_hosts" "PORTCULLIS_ALLOWED_HOSTS" ""
        "names that requests may ask for beside those of loopback, separated by commas"
    "confinement" "PORTCULLIS_CONFINEMENT" "best"
        "the level below which nothing runs: `full`, `namespaces`, `landlock`; `best`: the host's best, at least `landlock`"
    "cells" "PORTCULLIS_CELLS" ""
        "how many executions may run at once; as many as processors, at least 2, when not set"
    "mounts" "PORTCULLIS_MOUNTS" ""
        "directories that executions see, separated by commas: `/host/dir`, `/host/dir:/where` or `/host/dir:/where:rw`"
    "program_path" "PORTCULLIS_PROGRAM_PATH" "/usr/local/bin:/usr/bin:/bin"
        "directories in which programs are looked up, separated by colons"
    "user_name" "PORTCULLIS_USER_NAME" "user"
        "name of the user that executions see themselves as"
    "first_uid" "PORTCULLIS_FIRST_UID" "2000000000"
        "first of the host's uids that cells run under when the service runs as root"
    "cpu_time_limit_seconds" "PORTCULLIS_CPU_TIME_LIMIT_SECONDS" ""
        "CPU time of an execution's processes together; as `max_execution_time` when not set"
    "memory_limit_bytes" "PORTCULLIS_MEMORY_LIMIT_BYTES" "536870912"
        "memory of an execution, its files in memory included"
    "process_limit" "PORTCULLIS_PROCESS_LIMIT" "64"
        "processes and threads of an execution at once"
    "open_file_limit" "PORTCULLIS_OPEN_FILE_LIMIT" "256"
        "open files of one process"
    "file_size_limit_bytes" "PORTCULLIS_FILE_SIZE_LIMIT_BYTES" "67108864"
        "size of one file"
    "disk_limit_bytes" "PORTCULLIS_DISK_LIMIT_BYTES" "268435456"
        "size of the workspace, and of `/tmp`, each"
    "output_limit_bytes" "PORTCULLIS_OUTPUT_LIMIT_BYTES" "8388608"
        "output of an execution, both streams together"
    "grace_period_seconds" "PORTCULLIS_GRACE_PERIOD_SECONDS" "2"
        "time between the friendly signal and the deadly one, also in fractions"
    "queue_limit" "PORTCULLIS_QUEUE_LIMIT" "1000"
        "executions that may wait"
    "queue_limit_per_user" "PORTCULLIS_QUEUE_LIMIT_PER_USER" "100"
        "executions of one user that may wait"
    "drain_seconds" "PORTCULLIS_DRAIN_SECONDS" "20"
        "time for waiting and running executions to end when the service is told to end"
    "body_limit_bytes" "PORTCULLIS_BODY_LIMIT_BYTES" "262144"
        "size of a request's body"
    "body_time_seconds" "PORTCULLIS_BODY_TIME_SECONDS" "15"
        "time for a request's body to arrive"
    "head_time_seconds" "PORTCULLIS_HEAD_TIME_SECONDS" "30"
        "time for a request's head to arrive, and for a connection to be idle"
    "connection_limit" "PORTCULLIS_CONNECTION_LIMIT" "512"
        "connections at once; one too many costs the one that has been idle longest"
    "auth_cache_seconds" "PORTCULLIS_AUTH_CACHE_SECONDS" "30"
        "how long a yes of the Auth Service is remembered"
    "log" "PORTCULLIS_LOG" "info"
        "what is logged: a level, or directives such as `info,portcullis_engine=debug`"
    "log_format" "PORTCULLIS_LOG_FORMAT" "auto"
        "`human`, `json`, or `auto`: human on a terminal, else one JSON object a line"
}

/// Turns what was gathered into a configuration, or says everything that is wrong.
pub(super) fn resolve(gathered: Gathered) -> Result<Effective, ConfigError> {
    let mut reader = Reader { gathered, effective: Vec::new() };
    let config = reader.config();
    let Reader { gathered, effective } = reader;
    let Some(config) = config.filter(|_| gathered.problems.is_empty()) else {
        return Err(ConfigError { problems: gathered.problems });
    };
    let values = SETTINGS
        .iter()
        .filter_map(|setting| {
            let (_, text, origin) = effective.iter().find(|(name, ..)| *name == setting.name)?;
            Some((setting, text.clone(), origin.clone()))
        })
        .collect();
    Ok(Effective { config, values })
}

/// Reads settings one by one, and goes on after a wrong one, so that all problems are found.
struct Reader {
    gathered: Gathered,
    effective: Vec<(&'static str, String, Origin)>,
}

type Parsed<T> = Result<T, String>;

impl Reader {
    fn problem(&mut self, problem: impl Into<String>) {
        self.gathered.problems.push(problem.into());
    }

    fn set(&self, name: &str) -> Option<&(String, Origin)> {
        self.gathered.values.get(name)
    }

    /// Keeps what a setting came to, for who asks.
    fn note(&mut self, name: &'static str, text: impl Display) {
        let origin = self.set(name).map_or(Origin::Default, |(_, origin)| origin.clone());
        self.effective.push((name, text.to_string(), origin));
    }

    /// Reads a setting that has a default, or names what is wrong with it.
    fn get<T>(&mut self, name: &'static str, parse: impl Fn(&str) -> Parsed<T>) -> Option<T> {
        let setting = SETTINGS.iter().find(|setting| setting.name == name)?;
        let (text, origin) = self.set(name).cloned().unwrap_or((setting.default.to_owned(), Origin::Default));
        let text = text.trim();
        match parse(text) {
            Ok(value) => {
                self.note(name, text);
                Some(value)
            }
            Err(accepted) => {
                let called = setting.name_at(&origin);
                self.problem(format!("`{called}` is `{}` ({origin}): {accepted}", text.escape_debug()));
                None
            }
        }
    }

    /// Reads a setting that may be left out; the outer `None` stands for a wrong one.
    fn optional<T>(&mut self, name: &'static str, parse: impl Fn(&str) -> Parsed<T>) -> Option<Option<T>> {
        if self.set(name).is_some() {
            return self.get(name, parse).map(Some);
        }
        self.note(name, "");
        Some(None)
    }

    /// Keeps what a setting came to that depends on others.
    fn note_derived(&mut self, name: &'static str, text: impl Display) {
        self.effective.retain(|(noted, ..)| *noted != name);
        self.note(name, text);
    }

    /// Reads every setting, and gives up only when all are read.
    fn config(&mut self) -> Option<Config> {
        let rulebook = self.rulebook();
        let data_dir = self.data_dir();
        let limits = self.limits();
        let auth_service = self.auth_service();
        let token_file = self.optional("token_file", path);
        let socket_service = self.optional("socket_service_url", socket_service);
        let listen = self.listen(auth_service.is_some());
        let hosts = self.optional("allowed_hosts", names);
        let http = self.http(listen, hosts);
        let sandbox = self.sandbox();
        let queue_limit = self.get("queue_limit", whole(1..=1_000_000));
        let queue_limit_per_principal = self.get("queue_limit_per_user", whole(1..=1_000_000));
        let drain_time = self.get("drain_seconds", seconds(0.0..=86_400.0));
        let log_filter = self.get("log", log_filter);
        let log_format = self.get("log_format", log_format);
        let store = self.get("store", store);
        let (data_dir, limits) = (data_dir?, limits?);
        let token_file = token_file?.unwrap_or_else(|| data_dir.join(TOKEN_FILE));
        self.note_derived("token_file", token_file.display());
        Some(Config {
            listen: listen?,
            store: store?,
            rulebook: rulebook?,
            sandbox: portcullis_sandbox::Config {
                ceilings: limits.clone(),
                state_directory: data_dir.join("cells"),
                ..sandbox?
            },
            engine: portcullis_engine::Config {
                queue_limit: queue_limit?,
                queue_limit_per_principal: queue_limit_per_principal?,
                ..portcullis_engine::Config::default()
            },
            auth_service: auth_service?,
            token_file,
            socket_service: socket_service?,
            http: http?,
            drain_time: drain_time?,
            log_filter: log_filter?,
            log_format: log_format?,
            limits,
            data_dir,
        })
    }

    fn rulebook(&mut self) -> Option<Rulebook> {
        if let (Some((_, book)), Some((_, list))) = (self.set("rulebook"), self.set("allowed_commands")) {
            let problem = format!(
                "both `rulebook` ({book}) and `allowed_commands` ({list}) are set: either says everything, set one"
            );
            self.problem(problem);
            return None;
        }
        match self.optional("rulebook", rulebook_file)? {
            Some(rulebook) => Some(rulebook),
            None => self.get("allowed_commands", allowlist),
        }
    }

    fn data_dir(&mut self) -> Option<PathBuf> {
        if self.set("data_dir").is_some() {
            return self.get("data_dir", path);
        }
        let directory = state_directories(&self.gathered.surroundings).into_iter().next()?;
        self.note("data_dir", directory.display());
        Some(directory)
    }

    fn limits(&mut self) -> Option<Limits> {
        const EXABYTE: u64 = 1 << 60;
        let bytes = || whole(1..=EXABYTE);
        let wall_time = self.get("max_execution_time", whole(1..=31_536_000)).map(Duration::from_secs);
        let cpu_time = self.optional("cpu_time_limit_seconds", whole(1..=31_536_000));
        let memory_bytes = self.get("memory_limit_bytes", whole(1 << 20..=EXABYTE));
        let processes = self.get("process_limit", whole(1..=4_000_000));
        let open_files = self.get("open_file_limit", whole(3..=1_000_000));
        let file_size_bytes = self.get("file_size_limit_bytes", bytes());
        let disk_bytes = self.get("disk_limit_bytes", bytes());
        let output_bytes = self.get("output_limit_bytes", bytes());
        let grace_period = self.get("grace_period_seconds", seconds(0.0..=3_600.0));
        let (wall_time, cpu_time) = (wall_time?, cpu_time?.map(Duration::from_secs));
        let cpu_time = cpu_time.unwrap_or(wall_time);
        self.note_derived("cpu_time_limit_seconds", cpu_time.as_secs());
        Some(Limits {
            wall_time,
            cpu_time,
            memory_bytes: memory_bytes?,
            processes: processes?,
            open_files: open_files?,
            file_size_bytes: file_size_bytes?,
            disk_bytes: disk_bytes?,
            output_bytes: output_bytes?,
            grace_period: grace_period?,
        })
    }

    fn auth_service(&mut self) -> Option<Option<AuthConfig>> {
        let permission = self.get("required_permission", text);
        let accepted_for = self.get("auth_cache_seconds", seconds(0.001..=3_600.0));
        let auth_service = self.optional("auth_service_url", auth_service)?;
        let (permission, accepted_for) = (permission?, accepted_for?);
        Some(auth_service.map(|config| AuthConfig {
            permission: Some(permission).filter(|name| name != "none"),
            accepted_for,
            ..config
        }))
    }

    /// Reads where to listen, and holds the answer against who would be let in there.
    fn listen(&mut self, auth_service_is_right: bool) -> Option<SocketAddr> {
        let port = self.optional("port", whole(0..=u16::MAX));
        let listen = self.get("listen", address);
        let beyond = self.get("local_token_beyond_loopback", yes_or_no);
        let (mut listen, port) = (listen?, port?);
        let rank = |name: &str| self.set(name).map_or(0, |(_, origin)| origin.rank());
        if let Some(port) = port.filter(|_| rank("port") > rank("listen")) {
            listen.set_port(port);
            self.effective.retain(|(name, ..)| *name != "listen");
            let origin = self.set("port").map_or(Origin::Default, |(_, origin)| origin.clone());
            self.effective.push(("listen", listen.to_string(), origin));
        }
        let asks_nobody = auth_service_is_right && self.set("auth_service_url").is_none();
        if asks_nobody && !listen.ip().is_loopback() && !beyond? {
            self.problem(format!(
                "`listen` is `{listen}`, beyond loopback, and there is no Auth Service: whoever holds the one local \
                 token may run commands, and it crosses the network in the clear; set `AUTH_SERVICE_URL`, or say that \
                 you want this with `PORTCULLIS_LOCAL_TOKEN_BEYOND_LOOPBACK=yes`"
            ));
            return None;
        }
        Some(listen)
    }

    fn http(&mut self, listen: Option<SocketAddr>, hosts: Option<Option<Vec<String>>>) -> Option<HttpConfig> {
        let body_limit_bytes = self.get("body_limit_bytes", whole(1_024..=64 << 20));
        let body_time = self.get("body_time_seconds", seconds(0.1..=3_600.0));
        let head_time = self.get("head_time_seconds", seconds(0.1..=3_600.0));
        let connection_limit = self.get("connection_limit", whole(1..=100_000));
        Some(HttpConfig {
            body_limit_bytes: body_limit_bytes?,
            body_time: body_time?,
            head_time: head_time?,
            connection_limit: connection_limit?,
            ..HttpConfig::new(Hosts::new(listen?, hosts?.unwrap_or_default()))
        })
    }

    /// Reads what the sandbox is told, but for what other settings decide as well.
    fn sandbox(&mut self) -> Option<portcullis_sandbox::Config> {
        let defaults = portcullis_sandbox::Config::default();
        let floor = self.get("confinement", level);
        let cells = match self.set("cells") {
            Some(_) => self.get("cells", whole(1..=4_096)),
            None => {
                self.note("cells", defaults.cells);
                Some(defaults.cells)
            }
        };
        let mounts = self.optional("mounts", mounts);
        let path = self.get("program_path", program_path);
        let user_name = self.get("user_name", user_name);
        let first_uid = self.get("first_uid", whole(1..=4_000_000_000));
        Some(portcullis_sandbox::Config {
            floor: floor?,
            cells: cells?,
            mounts: mounts?.unwrap_or_default(),
            path: path?,
            user_name: user_name?,
            first_uid: first_uid?,
            ..defaults
        })
    }
}

/// Accepts whole numbers in a range, which must fit their type.
fn whole<T>(accepted: RangeInclusive<T>) -> impl Fn(&str) -> Parsed<T>
where
    T: TryFrom<u64> + Copy + Display + PartialOrd,
{
    move |text| {
        let number = text.parse::<u64>().ok().and_then(|number| T::try_from(number).ok());
        number.filter(|number| accepted.contains(number)).ok_or_else(|| {
            format!("whole numbers from {} to {} are accepted", accepted.start(), accepted.end())
        })
    }
}

fn seconds(accepted: RangeInclusive<f64>) -> impl Fn(&str) -> Parsed<Duration> {
    move |text| {
        let seconds = text.parse::<f64>().ok().filter(|seconds| accepted.contains(seconds));
        seconds
            .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
            .ok_or_else(|| format!("seconds from {} to {} are accepted", accepted.start(), accepted.end()))
    }
}

fn text(text: &str) -> Parsed<String> {
    Ok(text.to_owned())
}

fn path(text: &str) -> Parsed<PathBuf> {
    let path = PathBuf::from(text);
    if path.is_absolute() { Ok(path) } else { Err("an absolute path is accepted".into()) }
}

fn yes_or_no(text: &str) -> Parsed<bool> {
    match text {
        "yes" => Ok(true),
        "no" => Ok(false),
        _ => Err("`yes` or `no` is accepted".into()),
    }
}

/// Reads names separated by commas.
fn names(text: &str) -> Parsed<Vec<String>> {
    let names: Vec<_> = text.split(',').map(|name| name.trim().to_owned()).collect();
    if names.iter().any(String::is_empty) {
        return Err("names separated by commas are accepted, none of them empty".into());
    }
    Ok(names)
}

fn allowlist(text: &str) -> Parsed<Rulebook> {
    Rulebook::from_allowlist(names(text)?).map_err(|error| error.to_string())
}

fn rulebook_file(text: &str) -> Parsed<Rulebook> {
    let content =
        std::fs::read_to_string(path(text)?).map_err(|error| format!("it could not be read: {error}"))?;
    Rulebook::parse(&content).map_err(|error| error.to_string())
}

fn address(text: &str) -> Parsed<SocketAddr> {
    let loopback = text.strip_prefix("localhost:").and_then(|port| port.parse().ok());
    let address = match loopback {
        Some(port) => Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)),
        None => text.parse().ok(),
    };
    address
        .ok_or_else(|| "an address and a port are accepted, such as `127.0.0.1:5000` or `[::]:5000`".into())
}

fn auth_service(text: &str) -> Parsed<AuthConfig> {
    let config = AuthConfig::new(text);
    AuthServiceAuthenticator::new(config.clone()).map(|_| config).map_err(|error| error.to_string())
}

fn socket_service(text: &str) -> Parsed<SocketConfig> {
    let config = SocketConfig::new(text);
    SocketServiceNotifier::new(config.clone()).map(|_| config).map_err(|error| error.to_string())
}

fn store(text: &str) -> Parsed<StoreKind> {
    match text {
        "sqlite" => Ok(StoreKind::Sqlite),
        "memory" => Ok(StoreKind::Memory),
        _ => Err("`sqlite` or `memory` is accepted".into()),
    }
}

fn level(text: &str) -> Parsed<Option<Level>> {
    match text {
        "best" => Ok(None),
        _ => Level::parse(text)
            .map(Some)
            .ok_or_else(|| "`best`, `full`, `namespaces` or `landlock` is accepted".into()),
    }
}

fn mounts(text: &str) -> Parsed<Vec<Mount>> {
    let accepted = "directories separated by commas are accepted, each `/host/dir`, `/host/dir:/where` or \
                    `/host/dir:/where:rw`";
    let mount = |text: &str| {
        let mut parts = text.split(':');
        let source = parts.next()?;
        let target = ViewPath::parse(parts.next().unwrap_or(source))?;
        let writable = match parts.next() {
            None | Some("ro") => false,
            Some("rw") => true,
            Some(_) => return None,
        };
        let source = path(source).ok()?;
        parts.next().is_none().then_some(Mount { source, target, writable })
    };
    text.split(',').map(|text| mount(text.trim()).ok_or_else(|| accepted.to_owned())).collect()
}

fn program_path(text: &str) -> Parsed<Vec<PathBuf>> {
    text.split(':')
        .map(|directory| {
            path(directory).map_err(|_| "absolute directories separated by colons are accepted".into())
        })
        .collect()
}

/// Accepts what is a user's name everywhere (POSIX.1-2024, XBD 3.412 and 3.265), and safe in a path.
fn user_name(text: &str) -> Parsed<String> {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '-');
    if text.len() <= 32 && text.starts_with(|c: char| c.is_ascii_lowercase()) && text.chars().all(fits) {
        return Ok(text.to_owned());
    }
    Err("up to 32 characters of a-z 0-9 _ - that begin with a letter are accepted".into())
}

fn log_filter(text: &str) -> Parsed<String> {
    match EnvFilter::builder().parse(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => {
            Err(format!("{error}; accepted is for example `info` or `info,portcullis_engine=debug`"))
        }
    }
}

fn log_format(text: &str) -> Parsed<LogFormat> {
    match text {
        "auto" => Ok(LogFormat::Auto),
        "human" => Ok(LogFormat::Human),
        "json" => Ok(LogFormat::Json),
        _ => Err("`auto`, `human` or `json` is accepted".into()),
    }
}
