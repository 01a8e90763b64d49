//! Turns what was said into a configuration, and finds everything that is wrong on the way.

use std::fmt::Display;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use portcullis_api::{TOKEN_FILE, state_directories};
use portcullis_core::{Keep, Limits};
use portcullis_identity::AuthConfig;
use portcullis_policy::Rulebook;
use portcullis_sandbox::Account;

use super::otel::{self, OtlpConfig};
use super::settings::SETTINGS;
use super::sources::{Gathered, Origin};
use super::values::{
    ACCOUNT, Parsed, account, address, allowlist, auth_service, earlier_rules, level, log_filter, log_format,
    mounts, names, networks, on_failure, path, processors, program_path, public_url, retention_bytes,
    rulebook_file, seconds, socket_service, store, text, user_name, whole, yes_or_no,
};
use super::{Config, ConfigError, Effective, ServiceUser};
use crate::http::{Anonymous, Hosts, HttpConfig};

/// What is shown of a secret that is set.
pub(super) const HIDDEN: &str = "(hidden)";
/// Below, the host has users of its own.
const LEAST_UID: u32 = 1_000;

/// Turns what was gathered into a configuration, or says everything that is wrong.
pub(super) fn resolve(gathered: Gathered) -> Result<Effective, ConfigError> {
    let mut reader = Reader { gathered, effective: Vec::new() };
    let config = reader.config();
    let Reader { mut gathered, effective } = reader;
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
    let webhooks = std::mem::take(&mut gathered.webhooks);
    Ok(Effective { config, values, warnings: std::mem::take(&mut gathered.warnings), webhooks })
}

/// Reads settings one by one, and goes on after a wrong one, so that all problems are found.
struct Reader {
    gathered: Gathered,
    effective: Vec<(&'static str, String, Origin)>,
}

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
        // A secret's blanks are its own.
        let text = if setting.secret { &*text } else { text.trim() };
        match parse(text) {
            Ok(value) => {
                self.note(name, if setting.secret { HIDDEN } else { text });
                Some(value)
            }
            Err(accepted) => {
                let called = setting.name_at(&origin);
                let said = if setting.secret { HIDDEN.into() } else { format!("`{}`", presentable(text)) };
                self.problem(format!("`{called}` is {said} ({origin}): {accepted}"));
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

    /// Keeps what a setting came to by another one, which says more in its place.
    fn note_as(&mut self, name: &'static str, by: &str, text: impl Display) {
        self.effective.retain(|(noted, ..)| *noted != name);
        let origin = self.set(by).map_or(Origin::Default, |(_, origin)| origin.clone());
        self.effective.push((name, text.to_string(), origin));
    }

    /// How strong the origin of a setting is.
    fn rank(&self, name: &str) -> u8 {
        self.set(name).map_or(0, |(_, origin)| origin.rank())
    }

    /// Reads what the earlier service had and this one has no use for, and says so.
    fn useless(&mut self) {
        if let Some(Some(_)) = self.optional("jwt_secret", text) {
            self.gathered.warnings.push(
                "`JWT_SECRET` is accepted and used for nothing: tokens are checked at the Auth Service \
                 (`AUTH_SERVICE_URL`), which alone knows who has logged out; leave it out, and one secret less lies here"
                    .into(),
            );
        }
    }

    /// Reads every setting, and gives up only when all are read.
    fn config(&mut self) -> Option<Config> {
        let rulebook = self.rulebook();
        let data_dir = self.data_dir();
        let root = self.gathered.surroundings.root;
        let limits = self.limits();
        let auth_service = self.auth_service();
        self.useless();
        let token_file = self.optional("token_file", path);
        let socket_service = self.optional("socket_service_url", socket_service);
        let public_url = self.optional("public_url", public_url);
        let listen = self.listen(auth_service.is_some());
        let metrics_listen = self.optional("metrics_listen", address);
        let audit_log = self.optional("audit_log", path);
        let audit_failure = self.get("audit_failure", on_failure);
        let otlp = self.otlp();
        let hosts = self.optional("allowed_hosts", names);
        let http = self.http(listen, hosts);
        let sandbox = self.sandbox();
        let worker_threads = match self.set("worker_threads") {
            Some(_) => self.get("worker_threads", whole(1..=1_024)),
            None => {
                let half = std::thread::available_parallelism().map_or(1, |n| n.get().div_ceil(2));
                self.note("worker_threads", half);
                Some(half)
            }
        };
        let queue_limit = self.get("queue_limit", whole(1..=1_000_000));
        let queue_limit_per_principal = self.get("queue_limit_per_user", whole(1..=1_000_000));
        let retention_days = self.get("retention_days", whole(0..=36_500_u64));
        let retention_executions = self.get("retention_executions", whole(0..=1_000_000_000_000_u64));
        let retention_bytes = self.get("retention_bytes", retention_bytes);
        let drain_time = self.get("drain_seconds", seconds(0.0..=86_400.0));
        let log_filter = self.get("log", log_filter);
        let log_format = self.get("log_format", log_format);
        let store = self.get("store", store);
        let user = self.user(root, sandbox.as_ref());
        let (data_dir, limits) = (data_dir?, limits?);
        let token_file = token_file?.unwrap_or_else(|| data_dir.join(TOKEN_FILE));
        self.note_derived("token_file", token_file.display());
        Some(Config {
            listen: listen?,
            metrics_listen: metrics_listen?,
            audit_log: audit_log?,
            audit_failure: audit_failure?,
            otlp: otlp?,
            user: user?,
            store: store?,
            rulebook: rulebook?,
            rulebook_file: self.set("rulebook").map(|(file, _)| PathBuf::from(file)),
            worker_threads: worker_threads?,
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
            webhooks: self.gathered.webhooks.iter().map(|(endpoint, _)| endpoint.clone()).collect(),
            public_url: public_url?,
            http: http?,
            retention: Some(retention_days?).filter(|&days| days > 0).map(days),
            keep: Keep {
                executions: Some(retention_executions?).filter(|&executions| executions > 0),
                bytes: Some(retention_bytes?).filter(|&bytes| bytes > 0),
            },
            drain_time: drain_time?,
            log_filter: log_filter?,
            log_format: log_format?,
            limits,
            data_dir,
        })
    }

    /// Reads where spans go. What cannot take effect, because it is disabled or this build exports none, is shown as it
    /// stands and not judged: these variables are often set for a whole host.
    fn otlp(&mut self) -> Option<Option<OtlpConfig>> {
        const ENDPOINTS: [&str; 2] = ["otel_exporter_otlp_traces_endpoint", "otel_exporter_otlp_endpoint"];
        let disabled = self.get("otel_sdk_disabled", text)?.to_ascii_lowercase();
        if !["true", "yes", "false", "no"].contains(&&*disabled) {
            // As the specification has it.
            self.gathered.warnings.push(format!(
                "`OTEL_SDK_DISABLED` is `{}`, which counts as `false`: `true` or `false` is accepted",
                presentable(&disabled)
            ));
        }
        let disabled = disabled == "true" || disabled == "yes";
        if disabled || !otel::EXPORTS {
            let others = ["otel_exporter_otlp_headers", "otel_service_name", "otel_resource_attributes"];
            for name in ENDPOINTS.into_iter().chain(others) {
                self.optional(name, text);
            }
            let set = ENDPOINTS.iter().find_map(|name| Some((name, &self.set(name)?.1)));
            let unheard = set.filter(|_| !disabled).map(|(name, origin)| {
                format!(
                    "`{name}` is set ({origin}), and this build sends no spans: it was built without the feature `otel`"
                )
            });
            self.gathered.warnings.extend(unheard);
            return Some(None);
        }
        let [traces, base] = ENDPOINTS;
        let traces = self.optional(traces, otel::traces_endpoint);
        let base = self.optional(base, otel::endpoint);
        let headers = self.optional("otel_exporter_otlp_headers", otel::headers);
        let name = self.optional("otel_service_name", text);
        let attributes = self.optional("otel_resource_attributes", otel::pairs);
        let (target, headers, name) = (traces?.or(base?), headers?.unwrap_or_default(), name?);
        let resource = otel::resource(attributes?.unwrap_or_default(), name);
        Some(target.map(|target| OtlpConfig { target, headers, resource }))
    }

    fn rulebook(&mut self) -> Option<Rulebook> {
        const FORMS: [&str; 3] = ["rulebook", "allowed_commands", "allowed_commands_path"];
        let set = FORMS.iter().filter_map(|name| Some((name, &self.set(name)?.1)));
        let set: Vec<_> = set.map(|(name, origin)| format!("`{name}` ({origin})")).collect();
        if set.len() > 1 {
            self.problem(format!("both {} are set: either says everything, set one", set.join(" and ")));
            return None;
        }
        let rulebook = self.optional("rulebook", rulebook_file)?;
        let earlier = self.optional("allowed_commands_path", earlier_rules)?;
        match rulebook.or(earlier) {
            Some(rulebook) => Some(rulebook),
            None => self.get("allowed_commands", allowlist),
        }
    }

    fn data_dir(&mut self) -> Option<PathBuf> {
        let earlier = self.optional("execution_dir", path);
        if self.rank("execution_dir") > self.rank("data_dir") {
            let directory = earlier??;
            self.note_as("data_dir", "execution_dir", directory.display());
            return Some(directory);
        }
        if self.set("data_dir").is_some() {
            return self.get("data_dir", path);
        }
        let directory = state_directories(&self.gathered.surroundings).into_iter().next()?;
        self.note("data_dir", directory.display());
        Some(directory)
    }

    /// Finds out whom root becomes: nobody whom an execution may be.
    fn user(
        &mut self,
        root: bool,
        sandbox: Option<&portcullis_sandbox::Config>,
    ) -> Option<Option<ServiceUser>> {
        let asked_for = self.optional("user", account)?;
        let sandbox = sandbox?;
        if !root {
            self.note_derived("user", "whoever starts it, who is not root");
            return Some(None);
        }
        let first = sandbox.first_uid;
        let cells = first..first.saturating_add(u32::try_from(sandbox.cells).unwrap_or(u32::MAX));
        let free = match first.checked_sub(1) {
            Some(before) if before >= LEAST_UID => before,
            _ => cells.end,
        };
        let user = ServiceUser {
            asked_for: asked_for.is_some(),
            account: asked_for.or_else(|| account(ACCOUNT).ok()).unwrap_or(Account {
                name: None,
                uid: free,
                gid: free,
            }),
        };
        let Account { uid, gid, .. } = user.account;
        if cells.contains(&uid) || cells.contains(&gid) {
            self.problem(format!(
                "`user` is {}, and executions run under {} to {} (`first_uid`, `cells`): the service needs a user that \
                 no execution is",
                user.account,
                cells.start,
                cells.end - 1
            ));
            return None;
        }
        self.note_derived("user", &user.account);
        Some(Some(user))
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
        let (mut listen, beyond) = (listen?, beyond?);
        if let Some(Some(port)) = port
            && self.rank("port") > self.rank("listen")
        {
            listen.set_port(port);
            self.note_as("listen", "port", listen);
        }
        let asks_nobody = auth_service_is_right && self.set("auth_service_url").is_none();
        if asks_nobody && !listen.ip().is_loopback() && !beyond {
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
        let anonymous = self.anonymous(listen, hosts.as_ref());
        Some(HttpConfig {
            anonymous: anonymous?,
            body_limit_bytes: body_limit_bytes?,
            body_time: body_time?,
            head_time: head_time?,
            connection_limit: connection_limit?,
            ..HttpConfig::new(Hosts::new(listen?, hosts?.unwrap_or_default()))
        })
    }

    /// Reads who acts for requests without a token. A page that a foreign name leads to this service (DNS rebinding) needs
    /// no token then, so the names must be known.
    fn anonymous(
        &mut self,
        listen: Option<SocketAddr>,
        hosts: Option<&Option<Vec<String>>>,
    ) -> Option<Option<Anonymous>> {
        let name = self.optional("anonymous_user", user_name);
        let roles = self.optional("anonymous_roles", names);
        let from = self.get("anonymous_from", networks);
        let Some(name) = name? else {
            if self.set("anonymous_roles").is_some() {
                self.problem("`anonymous_roles` is set, and has no effect without `anonymous_user`");
            }
            return Some(None);
        };
        if !listen?.ip().is_loopback() && hosts?.is_none() {
            self.problem(
                "`anonymous_user` is set, and `listen` is beyond loopback: set `PORTCULLIS_ALLOWED_HOSTS` to the names \
                 that callers use, else a web page that leads its own name here could run commands",
            );
            return None;
        }
        Some(Some(Anonymous::new(name, roles?.unwrap_or_default(), from?)))
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
        let cpu_thousandths = self.optional("cpus_per_execution", processors);
        Some(portcullis_sandbox::Config {
            floor: floor?,
            cells: cells?,
            mounts: mounts?.unwrap_or_default(),
            path: path?,
            user_name: user_name?,
            first_uid: first_uid?,
            cpu_thousandths: cpu_thousandths?,
            ..defaults
        })
    }
}

/// Writes a value for a message: as it is, but for what may be the password of a URL.
fn presentable(text: &str) -> String {
    let hidden = text.split_once("://").and_then(|(scheme, rest)| {
        let (authority, _) = rest.split_once(['/', '?', '#']).unwrap_or((rest, ""));
        let (user, _) = authority.rsplit_once('@')?;
        Some(format!("{scheme}://…{}", rest.get(user.len()..)?))
    });
    hidden.as_deref().unwrap_or(text).escape_debug().to_string()
}

fn days(days: u64) -> Duration {
    Duration::from_secs(days.saturating_mul(86_400))
}

#[cfg(test)]
mod tests {
    use portcullis_core::Level;

    use super::super::Sources;
    use super::*;
    use crate::http::Network;

    fn load(environment: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let environment = environment.iter().map(|(name, value)| (name.into(), value.into())).collect();
        Config::load(Sources { environment, ..Sources::default() }).map(|effective| effective.config)
    }

    #[test]
    fn the_defaults_are_those_of_each_room() {
        let config = load(&[]).unwrap();
        assert_eq!(config.limits, Limits::default());
        assert_eq!(config.engine, portcullis_engine::Config::default());
        assert_eq!(config.http, HttpConfig::new(Hosts::new(config.listen, Vec::new())));
        let sandbox = portcullis_sandbox::Config {
            state_directory: config.data_dir.join("cells"),
            ..portcullis_sandbox::Config::default()
        };
        assert_eq!(config.sandbox, sandbox);
        assert_eq!(config.token_file, config.data_dir.join("token"));
    }

    #[test]
    fn the_password_of_a_refused_url_is_not_repeated() {
        for (text, wanted) in [
            ("http://u:p@host:1/api?x=@", "http://…@host:1/api?x=@"),
            ("http://a@b:p@host", "http://…@host"),
            ("http://host/@", "http://host/@"),
            ("u:p@host", "u:p@host"),
        ] {
            assert_eq!(presentable(text), wanted);
        }
        let said = load(&[("AUTH_SERVICE_URL", "http://me:pass@auth")]).unwrap_err().to_string();
        assert!(said.contains("http://…@auth") && !said.contains("me:pass"), "{said}");
    }

    #[test]
    fn the_cpu_limit_follows_the_time_limit_until_it_is_set() {
        let limits = load(&[("MAX_EXECUTION_TIME", "300")]).unwrap().limits;
        assert_eq!((limits.wall_time, limits.cpu_time), (Duration::from_secs(300), Duration::from_secs(300)));
        let set = [("MAX_EXECUTION_TIME", "300"), ("PORTCULLIS_CPU_TIME_LIMIT_SECONDS", "10")];
        assert_eq!(load(&set).unwrap().limits.cpu_time, Duration::from_secs(10));
    }

    #[test]
    fn records_are_kept_for_thirty_days_for_some_others_or_for_ever() {
        let retention = |environment: &[(&str, &str)]| load(environment).unwrap().retention;
        assert_eq!(retention(&[]), Some(days(30)));
        assert_eq!(retention(&[("PORTCULLIS_RETENTION_DAYS", "1")]), Some(Duration::from_secs(86_400)));
        assert_eq!(retention(&[("PORTCULLIS_RETENTION_DAYS", "0")]), None);
        assert!(load(&[("PORTCULLIS_RETENTION_DAYS", "1.5")]).is_err());
    }

    #[test]
    fn the_sandbox_holds_permits_to_the_same_limits_as_the_policy() {
        let config =
            load(&[("PORTCULLIS_MEMORY_LIMIT_BYTES", "1048576"), ("PORTCULLIS_CONFINEMENT", "full")])
                .unwrap();
        assert_eq!(config.sandbox.ceilings, config.limits);
        assert_eq!((config.limits.memory_bytes, config.sandbox.floor), (1 << 20, Some(Level::Full)));
    }

    #[test]
    fn the_port_alone_is_set_unless_the_whole_address_is_in_the_same_place() {
        let listen = |environment: &[(&str, &str)]| load(environment).unwrap().listen.to_string();
        assert_eq!(listen(&[("PORT", "8080")]), "127.0.0.1:8080");
        assert_eq!(listen(&[("PORT", "8080"), ("PORTCULLIS_LISTEN", "[::1]:1")]), "[::1]:1");
    }

    #[test]
    fn nobody_acts_without_a_token_unless_somebody_is_named() {
        assert_eq!(load(&[]).unwrap().http.anonymous, None);
        let name = ("PORTCULLIS_ANONYMOUS_USER", "agents");
        let near = ["127.0.0.0/8", "::1"].map(|text| Network::parse(text).unwrap());
        let wanted = Anonymous::new("agents".into(), Vec::new(), near.to_vec());
        assert_eq!(load(&[name]).unwrap().http.anonymous, Some(wanted));
        let problem = |environment: &[(&str, &str)]| load(environment).unwrap_err().to_string();
        let beyond =
            [("PORTCULLIS_LISTEN", "0.0.0.0:5000"), ("PORTCULLIS_LOCAL_TOKEN_BEYOND_LOOPBACK", "yes")];
        let found = problem(&[name, beyond[0], beyond[1]]);
        assert!(found.contains("PORTCULLIS_ALLOWED_HOSTS"), "{found}");
        let hosts = ("PORTCULLIS_ALLOWED_HOSTS", "command-service");
        assert!(load(&[name, beyond[0], beyond[1], hosts]).is_ok());
        let found = problem(&[("PORTCULLIS_ANONYMOUS_ROLES", "a,b")]);
        assert!(found.contains("no effect without `anonymous_user`"), "{found}");
        assert!(load(&[name, ("PORTCULLIS_ANONYMOUS_FROM", "everywhere")]).is_err());
    }

    #[test]
    fn no_permission_is_asked_for_only_when_that_is_said() {
        let url = ("AUTH_SERVICE_URL", "http://auth-service:8000/api");
        let permission =
            |environment: &[(&str, &str)]| load(environment).unwrap().auth_service.unwrap().permission;
        assert_eq!(permission(&[url]).as_deref(), Some("run agents"));
        assert_eq!(permission(&[url, ("PORTCULLIS_REQUIRED_PERMISSION", "none")]), None);
    }
}
