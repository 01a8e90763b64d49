//! Where settings are made: a file, the environment, flags.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use portcullis_api::Surroundings;
use portcullis_notify::WebhookConfig;
use toml::de::{DeTable, DeValue};

use super::secrets;
use super::settings::{Form, SETTINGS, Setting, flag, named, of_variable};
use super::webhooks;

/// Where a value came from; a later one beats an earlier one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// Nobody set it.
    Default,
    /// The configuration file, at a line and a column.
    File(PathBuf, Place),
    /// A credential of systemd, in this file.
    Credential(PathBuf),
    /// A variable of the environment.
    Environment(&'static str),
    /// A flag of the command line, by the setting's name.
    Flag(&'static str),
}

/// Where in a file; both count from 1, columns in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The line.
    pub line: usize,
    /// The column.
    pub column: usize,
}

impl Place {
    /// Returns the place of a byte of a text.
    pub(super) fn of(text: &str, offset: usize) -> Self {
        let before = text.get(..offset).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let line = 1 + before.bytes().filter(|byte| *byte == b'\n').count();
        Self { line, column: 1 + before.get(line_start..).unwrap_or_default().chars().count() }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}", self.line, self.column)
    }
}

impl Origin {
    /// Which kind of origin beats which.
    pub(super) fn rank(&self) -> u8 {
        match self {
            Self::Default => 0,
            Self::File(..) => 1,
            Self::Credential(_) => 2,
            Self::Environment(_) => 3,
            Self::Flag(_) => 4,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path, place) => write!(f, "{} {place}", path.display()),
            Self::Credential(path) => write!(f, "credential {}", path.display()),
            Self::Environment(variable) => write!(f, "environment {variable}"),
            Self::Flag(name) => write!(f, "flag {}", flag(name)),
        }
    }
}

/// What the process was started with. There is no `Debug`: the environment may hold secrets.
#[derive(Clone, Default)]
pub struct Sources {
    /// The flags.
    pub flags: Flags,
    /// The environment.
    pub environment: BTreeMap<OsString, OsString>,
    /// Whether the process runs as root.
    pub root: bool,
}

/// The flags that set something.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Flags {
    /// `--config FILE`
    pub config: Option<PathBuf>,
    /// What the flags of settings say, by [`Setting::flags`].
    pub settings: BTreeMap<&'static str, String>,
}

/// What was said, where, and what was wrong with how it was said. There is no `Debug`: it may hold secrets.
#[derive(Default)]
pub(super) struct Gathered {
    pub(super) values: BTreeMap<&'static str, (String, Origin)>,
    pub(super) problems: Vec<String>,
    /// What is not wrong, but should be heard of.
    pub(super) warnings: Vec<String>,
    /// The endpoints of `[webhook.NAME]`.
    pub(super) webhooks: Vec<(WebhookConfig, Origin)>,
    pub(super) surroundings: Surroundings,
}

/// Names the service's configuration file.
const CONFIG_VARIABLE: &str = "PORTCULLIS_CONFIG";
/// Where systemd puts the credentials of a service. See systemd.exec(5), "Credentials".
const CREDENTIALS_VARIABLE: &str = "CREDENTIALS_DIRECTORY";
/// Variables of the project's other programs: the client's, and what its tests are told.
const OTHERS: [&str; 4] =
    ["PORTCULLIS_URL", "PORTCULLIS_TOKEN", "PORTCULLIS_REQUIRE_ALL", "PORTCULLIS_REQUIRE_KERNEL"];

impl Sources {
    pub(super) fn gather(self) -> Gathered {
        let variable = |name: &str| self.environment.get(&OsString::from(name)).cloned();
        let mut gathered = Gathered {
            surroundings: Surroundings {
                data_dir: None,
                state_directory: variable("STATE_DIRECTORY"),
                xdg_state_home: variable("XDG_STATE_HOME"),
                home: variable("HOME"),
                root: self.root,
            },
            ..Gathered::default()
        };
        let file = self.flags.config.clone().or_else(|| variable(CONFIG_VARIABLE).map(PathBuf::from));
        let credentials = variable(CREDENTIALS_VARIABLE).filter(|directory| !directory.is_empty());
        let credentials = credentials.map(PathBuf::from);
        if let Some(path) = file {
            gathered.take_file(&path, credentials.as_deref());
        }
        if let Some(directory) = credentials {
            gathered.take_credentials(&directory);
        }
        gathered.take_environment(&self.environment);
        gathered.take_flags(self.flags);
        gathered
    }
}

impl Gathered {
    fn take_file(&mut self, path: &Path, credentials: Option<&Path>) {
        let shown = path.display();
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) => {
                return self
                    .problems
                    .push(format!("could not read the configuration file `{shown}`: {error}"));
            }
        };
        let table = match DeTable::parse(&text) {
            Ok(table) => table.into_inner(),
            Err(error) => {
                let place = Place::of(&text, error.span().map_or(0, |span| span.start));
                return self.problems.push(format!("`{shown}` {place} is not TOML: {}", error.message()));
            }
        };
        let mut secret = None;
        for (key, value) in table {
            let place = Place::of(&text, key.span().start);
            let name: &str = key.get_ref();
            if name == webhooks::WEBHOOK {
                let found = webhooks::read(path, &text, value.get_ref(), credentials);
                self.webhooks = found.endpoints;
                self.problems.extend(found.problems);
                self.warnings.extend(found.warnings);
                secret = secret.or(found.holds_secret.then_some("webhook.….secret"));
                continue;
            }
            let Some((setting, name, form)) = named(name) else {
                let known = nearest(name, SETTINGS.iter().flat_map(Setting::names).map(|(name, _)| name));
                self.problems.push(format!(
                    "`{}` is no setting (`{shown}` {place}); the nearest one is `{known}`",
                    name.escape_debug()
                ));
                continue;
            };
            if setting.secret && form == Form::Value {
                secret = Some(name);
            }
            match text_of(value.get_ref()) {
                Some(text) => self.say(setting, name, form, text, Origin::File(path.to_owned(), place)),
                None => self.problems.push(format!(
                    "`{name}` is neither text, number, boolean nor a list of texts (`{shown}` {place})"
                )),
            }
        }
        if let Some(name) = secret
            && let Some(warning) = secrets::readable_by_others(path)
        {
            self.warnings.push(format!("`{shown}` holds the secret `{name}`, and {warning}"));
        }
    }

    /// Takes the credentials that are named as secrets are; the others are not ours.
    fn take_credentials(&mut self, directory: &Path) {
        for setting in SETTINGS.iter().filter(|setting| setting.secret) {
            let path = directory.join(setting.name);
            // There or not: what cannot be examined is said when it is read.
            if path.symlink_metadata().is_ok() {
                let origin = Origin::Credential(path.clone());
                self.take_secret(setting, setting.name, &path, origin);
            }
        }
        let token = directory.join(portcullis_api::TOKEN_FILE);
        if token.symlink_metadata().is_ok() {
            let text = token.display().to_string();
            self.values.insert("token_file", (text, Origin::Credential(token)));
        }
    }

    fn take_environment(&mut self, environment: &BTreeMap<OsString, OsString>) {
        for (variable, value) in environment {
            let Some(variable) = variable.to_str() else { continue };
            // "An empty value is interpreted as an unset variable": OpenTelemetry's rule for its own.
            if variable.starts_with("OTEL_") && value.is_empty() {
                continue;
            }
            let Some((setting, name, form)) = of_variable(variable) else {
                let ours = variable.starts_with("PORTCULLIS_") && !OTHERS.contains(&variable);
                if ours && variable != CONFIG_VARIABLE && !is_service_link(variable) {
                    let known = SETTINGS.iter().flat_map(Setting::variables).map(|(name, _)| name);
                    let known = nearest(variable, known.chain([CONFIG_VARIABLE]));
                    self.problems.push(format!(
                        "`{}` is no setting (environment); the nearest one is `{known}`",
                        variable.escape_debug()
                    ));
                }
                continue;
            };
            match value.to_str() {
                Some(text) => self.say(setting, name, form, text.to_owned(), Origin::Environment(name)),
                None => self.problems.push(format!("`{variable}` is not UTF-8 (environment)")),
            }
        }
    }

    fn take_flags(&mut self, flags: Flags) {
        for (name, text) in flags.settings {
            if let Some((setting, name, form)) = named(name) {
                self.say(setting, &flag(name), form, text, Origin::Flag(name));
            }
        }
    }

    /// Takes what somebody said under a name; an empty text is refused, since it may be meant as "nothing" or as "not
    /// set".
    fn say(&mut self, setting: &'static Setting, name: &str, form: Form, text: String, origin: Origin) {
        if text.trim().is_empty() {
            self.problems.push(format!("`{name}` is empty ({origin}); give it a value, or leave it out"));
        } else if form == Form::File {
            self.take_secret(setting, name, Path::new(text.trim()), origin);
        } else {
            self.set(setting, name, text, origin);
        }
    }

    /// Takes a secret that lies in a file.
    fn take_secret(&mut self, setting: &'static Setting, name: &str, path: &Path, origin: Origin) {
        let shown = path.display();
        match secrets::read(path) {
            Ok(text) => {
                if let Some(warning) = secrets::readable_by_others(path) {
                    self.warnings.push(format!("the secret file `{shown}` of `{name}`: {warning}"));
                }
                self.set(setting, name, text, origin);
            }
            Err(problem) => {
                self.problems.push(format!("the secret file `{shown}` of `{name}` ({origin}) {problem}"));
                // Who meant to give it did: nothing weaker stands in for it.
                self.values.remove(setting.name);
            }
        }
    }

    fn set(&mut self, setting: &'static Setting, name: &str, text: String, origin: Origin) {
        if let Some((_, before)) = self.values.get(setting.name)
            && before.rank() == origin.rank()
        {
            return self.problems.push(format!(
                "`{name}` ({origin}) says what `{}` says already ({before}): its value or its file, set one",
                setting.name
            ));
        }
        self.values.insert(setting.name, (text, origin));
    }
}

/// Whether Kubernetes may have set a variable, as it does for every service beside a pod: for one that is named
/// `portcullis`, `PORTCULLIS_SERVICE_HOST`, `PORTCULLIS_PORT_5000_TCP_ADDR` and the like.
fn is_service_link(variable: &str) -> bool {
    let about_a_port = |(_, rest): (&str, &str)| {
        rest.split_once('_').is_some_and(|(port, rest)| {
            port.bytes().all(|byte| byte.is_ascii_digit())
                && (rest.starts_with("TCP") || rest.starts_with("UDP"))
        })
    };
    variable.ends_with("_SERVICE_HOST")
        || variable.contains("_SERVICE_PORT")
        || variable.ends_with("_PORT")
        || variable.split_once("_PORT_").is_some_and(about_a_port)
}

/// Writes a value of the file as a variable would have it; a list is separated by commas.
fn text_of(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(integer) => {
            i128::from_str_radix(integer.as_str(), integer.radix()).ok().map(|number| number.to_string())
        }
        DeValue::Float(float) => Some(float.as_str().to_owned()),
        DeValue::Boolean(yes) => Some(if *yes { "yes" } else { "no" }.to_owned()),
        DeValue::Array(array) => {
            let texts: Option<Vec<_>> = array.iter().map(|element| text_of(element.get_ref())).collect();
            texts.map(|texts| texts.join(","))
        }
        DeValue::Datetime(_) | DeValue::Table(_) => None,
    }
}

/// Returns the name that takes the fewest changes; a name that ends alike is nearer still.
pub(super) fn nearest<'n>(name: &str, known: impl Iterator<Item = &'n str>) -> &'n str {
    let wanted = name.to_ascii_lowercase();
    let bare = wanted.strip_prefix("portcullis_").unwrap_or(&wanted);
    known
        .min_by_key(|known| {
            let known = known.to_ascii_lowercase();
            let known_bare = known.strip_prefix("portcullis_").unwrap_or(&known);
            distance(bare, known_bare)
        })
        .unwrap_or_default()
}

/// Counts insertions, deletions and replacements (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, left) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut before = i + 1;
        for (right, cell) in b.iter().zip(row.iter_mut().skip(1)) {
            let replaced = diagonal + usize::from(left != *right);
            diagonal = *cell;
            before = replaced.min(before + 1).min(*cell + 1);
            *cell = before;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_those_of_levenshtein() {
        for (a, b, wanted) in
            [("", "", 0), ("a", "", 1), ("", "ab", 2), ("kitten", "sitting", 3), ("flaw", "lawn", 2)]
        {
            assert_eq!(distance(a, b), wanted, "{a} {b}");
        }
    }

    #[test]
    fn variables_that_kubernetes_sets_are_passed_over() {
        for (variable, wanted) in [
            ("PORTCULLIS_SERVICE_HOST", true),
            ("PORTCULLIS_SERVICE_PORT_HTTP", true),
            ("PORTCULLIS_PORT", true),
            ("PORTCULLIS_PORT_5000_TCP", true),
            ("PORTCULLIS_SERVER_PORT_5000_TCP_ADDR", true),
            ("PORTCULLIS_PORT_RANGE", false),
            ("PORTCULLIS_PORTS", false),
            ("PORTCULLIS_CELL", false),
        ] {
            assert_eq!(is_service_link(variable), wanted, "{variable}");
        }
    }

    #[test]
    fn the_nearest_name_is_suggested_whatever_its_prefix() {
        let known = ["ALLOWED_COMMANDS", "PORTCULLIS_LISTEN", "PORTCULLIS_CELLS"];
        for (name, wanted) in [
            ("PORTCULLIS_LISTENS", "PORTCULLIS_LISTEN"),
            ("PORTCULLIS_ALLOWED_COMMAND", "ALLOWED_COMMANDS"),
            ("PORTCULLIS_CELL", "PORTCULLIS_CELLS"),
        ] {
            assert_eq!(nearest(name, known.into_iter()), wanted, "{name}");
        }
    }
}
