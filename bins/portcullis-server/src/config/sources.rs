//! Where settings are made: a file, the environment, flags.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use portcullis_api::Surroundings;
use toml::de::{DeTable, DeValue};

use super::settings::{SETTINGS, Setting};

/// Where a value came from; a later one beats an earlier one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// Nobody set it.
    Default,
    /// The configuration file, at a line.
    File(PathBuf, usize),
    /// A variable of the environment.
    Environment(&'static str),
    /// A flag of the command line.
    Flag(&'static str),
}

impl Origin {
    /// Which kind of origin beats which.
    pub(super) fn rank(&self) -> u8 {
        match self {
            Self::Default => 0,
            Self::File(..) => 1,
            Self::Environment(_) => 2,
            Self::Flag(_) => 3,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path, line) => write!(f, "{} line {line}", path.display()),
            Self::Environment(variable) => write!(f, "environment {variable}"),
            Self::Flag(flag) => write!(f, "flag {flag}"),
        }
    }
}

/// What the process was started with.
#[derive(Debug, Clone, Default)]
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
    /// `--listen ADDRESS`
    pub listen: Option<String>,
    /// `--data-dir DIRECTORY`
    pub data_dir: Option<String>,
}

/// What was said, where, and what was wrong with how it was said.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    pub(super) values: BTreeMap<&'static str, (String, Origin)>,
    pub(super) problems: Vec<String>,
    pub(super) surroundings: Surroundings,
}

/// Names the service's configuration file.
const CONFIG_VARIABLE: &str = "PORTCULLIS_CONFIG";
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
        if let Some(path) = file {
            gathered.take_file(&path);
        }
        gathered.take_environment(&self.environment);
        gathered.take_flags(self.flags);
        gathered
    }
}

impl Gathered {
    fn take_file(&mut self, path: &Path) {
        let shown = path.display();
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) => {
                return self
                    .problems
                    .push(format!("could not read the configuration file `{shown}`: {error}"));
            }
        };
        let line_of = |offset: usize| 1 + text.bytes().take(offset).filter(|byte| *byte == b'\n').count();
        let table = match DeTable::parse(&text) {
            Ok(table) => table.into_inner(),
            Err(error) => {
                let line = line_of(error.span().map_or(0, |span| span.start));
                return self.problems.push(format!("`{shown}` line {line} is not TOML: {}", error.message()));
            }
        };
        for (key, value) in table {
            let line = line_of(key.span().start);
            let name: &str = key.get_ref();
            let Some(setting) = SETTINGS.iter().find(|setting| setting.name == name) else {
                let known = nearest(name, SETTINGS.iter().map(|setting| setting.name));
                self.problems.push(format!(
                    "`{}` is no setting (`{shown}` line {line}); the nearest one is `{known}`",
                    name.escape_debug()
                ));
                continue;
            };
            match text_of(value.get_ref()) {
                Some(text) => self.set(setting, text, Origin::File(path.to_owned(), line)),
                None => self.problems.push(format!(
                    "`{name}` is neither text, number, boolean nor a list of texts (`{shown}` line {line})"
                )),
            }
        }
    }

    fn take_environment(&mut self, environment: &BTreeMap<OsString, OsString>) {
        for (variable, value) in environment {
            let Some(variable) = variable.to_str() else { continue };
            let Some(setting) = SETTINGS.iter().find(|setting| setting.variable == variable) else {
                let ours = variable.starts_with("PORTCULLIS_") && !OTHERS.contains(&variable);
                if ours && variable != CONFIG_VARIABLE && !is_service_link(variable) {
                    let known = SETTINGS.iter().map(|setting| setting.variable).chain([CONFIG_VARIABLE]);
                    let known = nearest(variable, known);
                    self.problems.push(format!(
                        "`{}` is no setting (environment); the nearest one is `{known}`",
                        variable.escape_debug()
                    ));
                }
                continue;
            };
            let origin = Origin::Environment(setting.variable);
            match value.to_str() {
                Some(text) => self.set(setting, text.to_owned(), origin),
                None => self.problems.push(format!("`{variable}` is not UTF-8 (environment)")),
            }
        }
    }

    fn take_flags(&mut self, flags: Flags) {
        for (name, flag, value) in
            [("listen", "--listen", flags.listen), ("data_dir", "--data-dir", flags.data_dir)]
        {
            let setting = SETTINGS.iter().find(|setting| setting.name == name);
            if let (Some(setting), Some(text)) = (setting, value) {
                self.set(setting, text, Origin::Flag(flag));
            }
        }
    }

    /// Takes a value; one that is empty is refused, since it may be meant as "nothing" or as "not set".
    fn set(&mut self, setting: &'static Setting, text: String, origin: Origin) {
        if text.trim().is_empty() {
            let name = setting.name_at(&origin);
            self.problems.push(format!("`{name}` is empty ({origin}); give it a value, or leave it out"));
        } else {
            self.values.insert(setting.name, (text, origin));
        }
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
fn nearest<'n>(name: &str, known: impl Iterator<Item = &'n str>) -> &'n str {
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
