//! The one table of settings.

use super::sources::Origin;

/// A setting. One that is a secret has a second name in each place, under which the file that holds it is named.
#[derive(Debug)]
pub struct Setting {
    /// Its name in the file, the name of its flag (with `-` for `_`), and of its credential if it is a secret.
    pub name: &'static str,
    /// Its name in the environment.
    pub variable: &'static str,
    /// What it is when nobody sets it; empty when that depends on the host or on another setting.
    pub default: &'static str,
    /// What it means and accepts.
    pub about: &'static str,
    /// Whether nobody is to see its value.
    pub secret: bool,
    /// `name` and `_file`: names the file that holds a secret.
    pub name_of_file: &'static str,
    /// `variable` and `_FILE`: names the file that holds a secret.
    pub variable_of_file: &'static str,
}

/// Whether a name stands for a setting's value or for the file that holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// The value itself.
    Value,
    /// The path of a file with the value: of a secret alone.
    File,
}

impl Setting {
    /// Returns the name under which an origin knows it.
    pub(super) fn name_at(&self, origin: &Origin) -> String {
        match origin {
            Origin::Default | Origin::File(..) | Origin::Credential(_) => self.name.to_owned(),
            Origin::Environment(variable) => (*variable).to_owned(),
            Origin::Flag(name) => flag(name),
        }
    }

    /// Returns the names of the configuration file, and of flags, that it answers to.
    pub fn names(&'static self) -> impl Iterator<Item = (&'static str, Form)> {
        let file = self.secret.then_some((self.name_of_file, Form::File));
        [(self.name, Form::Value)].into_iter().chain(file)
    }

    /// Returns the variables that it answers to.
    pub fn variables(&'static self) -> impl Iterator<Item = (&'static str, Form)> {
        let file = self.secret.then_some((self.variable_of_file, Form::File));
        [(self.variable, Form::Value)].into_iter().chain(file)
    }

    /// Returns the names of its flags: a secret has none for its value, since everybody sees arguments (ps(1)).
    pub fn flags(&'static self) -> impl Iterator<Item = &'static str> {
        self.names().filter(|(_, form)| !self.secret || *form == Form::File).map(|(name, _)| name)
    }
}

/// Returns the setting with this name in the configuration file, and what the name stands for.
pub(super) fn named(name: &str) -> Option<(&'static Setting, &'static str, Form)> {
    let mut all =
        SETTINGS.iter().flat_map(|setting| setting.names().map(move |(name, form)| (setting, name, form)));
    all.find(|(_, known, _)| *known == name)
}

/// Returns the setting with this variable, and what the variable stands for.
pub(super) fn of_variable(variable: &str) -> Option<(&'static Setting, &'static str, Form)> {
    let mut all = SETTINGS
        .iter()
        .flat_map(|setting| setting.variables().map(move |(name, form)| (setting, name, form)));
    all.find(|(_, known, _)| *known == variable)
}

/// Writes the flag of a name: `--data-dir` for `data_dir`.
#[must_use]
pub fn flag(name: &str) -> String {
    format!("--{}", name.replace('_', "-"))
}

macro_rules! settings {
    ($($name:literal $variable:literal $default:literal $about:literal $($secret:ident)?)+) => {
        /// Every setting there is, in the order of the documentation.
        pub const SETTINGS: &[Setting] = &[$(Setting {
            name: $name,
            variable: $variable,
            default: $default,
            about: $about,
            secret: settings!(@ $($secret)?),
            name_of_file: concat!($name, "_file"),
            variable_of_file: concat!($variable, "_FILE"),
        },)+];
    };
    (@ secret) => { true };
    (@) => { false };
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
    "public_url" "PORTCULLIS_PUBLIC_URL" ""
        "the service's own URL as others reach it, for links in webhooks; without it, these are paths"
    "listen" "PORTCULLIS_LISTEN" "127.0.0.1:5000"
        "address and port to listen at; port 0 takes a free one"
    "port" "PORT" ""
        "the port alone; `listen` of the same source goes before it"
    "data_dir" "PORTCULLIS_DATA_DIR" ""
        "directory of the records, the token and the cells"
    "execution_dir" "EXECUTION_DIR" ""
        "the data directory under the name that the earlier service had for it; `data_dir` of the same source goes before it"
    "store" "PORTCULLIS_STORE" "sqlite"
        "where executions are recorded: `sqlite` or `memory`"
    "rulebook" "PORTCULLIS_RULEBOOK" ""
        "file of the rules; instead of `allowed_commands`"
    "allowed_commands_path" "ALLOWED_COMMANDS_PATH" ""
        "the earlier service's file of rules, `{\"commands\": […], \"paths\": […]}`; instead of `allowed_commands`"
    "token_file" "PORTCULLIS_TOKEN_FILE" ""
        "file of the local token; `token` in the data directory when not set"
    "required_permission" "PORTCULLIS_REQUIRED_PERMISSION" "run agents"
        "permission at the Auth Service without which nobody is let in; `none` asks for none"
    "jwt_secret" "JWT_SECRET" ""
        "accepted because the earlier service had it, and used for nothing: tokens are checked at the Auth Service" secret
    "local_token_beyond_loopback" "PORTCULLIS_LOCAL_TOKEN_BEYOND_LOOPBACK" "no"
        "whether to listen beyond loopback without an Auth Service: `yes` or `no`"
    "anonymous_user" "PORTCULLIS_ANONYMOUS_USER" ""
        "name of the user that requests without a token act as, for callers of the earlier service; without it, they are refused"
    "anonymous_roles" "PORTCULLIS_ANONYMOUS_ROLES" ""
        "roles of that user, separated by commas"
    "anonymous_from" "PORTCULLIS_ANONYMOUS_FROM" "127.0.0.0/8,::1"
        "networks that such requests may come from, separated by commas"
    "metrics_listen" "PORTCULLIS_METRICS_LISTEN" ""
        "address and port at which whoever asks gets the metrics; without it, `/metrics` at `listen` wants a token as all else does"
    "audit_log" "PORTCULLIS_AUDIT_LOG" ""
        "file to which one JSON object a line is added for everything that was asked, refused and done; without it, none is written"
    "audit_failure" "PORTCULLIS_AUDIT_FAILURE" "refuse"
        "what happens while the audit log cannot be written: `refuse` accepts nothing, `continue` goes on without"
    "otel_exporter_otlp_endpoint" "OTEL_EXPORTER_OTLP_ENDPOINT" ""
        "base of the OpenTelemetry collector to which spans are sent, at `v1/traces` beneath it; without it, none are. Needs a build with the feature `otel`, as all these do"
    "otel_exporter_otlp_traces_endpoint" "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT" ""
        "URL to which spans are sent, as it is; goes before the base"
    "otel_exporter_otlp_headers" "OTEL_EXPORTER_OTLP_HEADERS" ""
        "headers that are sent along, `name=value` separated by commas, percent-encoded" secret
    "otel_service_name" "OTEL_SERVICE_NAME" ""
        "name of the service in spans; `service.name` of the attributes, else `portcullis`, when not set"
    "otel_resource_attributes" "OTEL_RESOURCE_ATTRIBUTES" ""
        "what else describes the service in spans, `key=value` separated by commas, percent-encoded"
    "otel_sdk_disabled" "OTEL_SDK_DISABLED" "no"
        "whether no spans are sent, whatever else is set: `true` (or `yes`), in any case of letters"
    "allowed_hosts" "PORTCULLIS_ALLOWED_HOSTS" ""
        "names that requests may ask for beside those of loopback, separated by commas"
    "confinement" "PORTCULLIS_CONFINEMENT" "best"
        "the level below which nothing runs: `full`, `namespaces`, `landlock`; `best`: the host's best, at least `landlock`"
    "cells" "PORTCULLIS_CELLS" ""
        "how many executions may run at once; four times as many as processors, at least 8, at most 64, when not set"
    "worker_threads" "PORTCULLIS_WORKER_THREADS" ""
        "threads that answer requests and see to executions; half as many as processors, at least 1, when not set"
    "mounts" "PORTCULLIS_MOUNTS" ""
        "directories that executions see, separated by commas: `/host/dir`, `/host/dir:/where` or `/host/dir:/where:rw`"
    "program_path" "PORTCULLIS_PROGRAM_PATH" "/usr/local/bin:/usr/bin:/bin"
        "directories in which programs are looked up, separated by colons"
    "user_name" "PORTCULLIS_USER_NAME" "user"
        "name of the user that executions see themselves as"
    "first_uid" "PORTCULLIS_FIRST_UID" "2000000000"
        "first of the host's uids that cells run under when the service runs as root"
    "user" "PORTCULLIS_USER" ""
        "user that the service becomes when root starts it, all but its launcher: a name of `/etc/passwd` or a uid; `portcullis` if there is one, else the uid before `first_uid`"
    "cpu_time_limit_seconds" "PORTCULLIS_CPU_TIME_LIMIT_SECONDS" ""
        "CPU time of an execution's processes together; as `max_execution_time` when not set"
    "cpus_per_execution" "PORTCULLIS_CPUS_PER_EXECUTION" ""
        "processors that an execution uses at most at once, also in fractions; all, in equal shares, when not set"
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
    "retention_days" "PORTCULLIS_RETENTION_DAYS" "30"
        "how long records are kept after their end; `0` keeps them for ever"
    "retention_executions" "PORTCULLIS_RETENTION_EXECUTIONS" "0"
        "how many ended executions are kept, the newest; `0` keeps any number"
    "retention_bytes" "PORTCULLIS_RETENTION_BYTES" "0"
        "bytes that records and output take in the database before the oldest are removed; `0` lets them take any number"
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
