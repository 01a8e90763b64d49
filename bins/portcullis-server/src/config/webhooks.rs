//! The tables `[webhook.NAME]` of the configuration file.

use std::path::{Path, PathBuf};
use std::time::Duration;

use portcullis_core::Status;
use portcullis_notify::{Network, SigningSecret, WebhookConfig};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::secrets;
use super::sources::{Origin, Place, nearest};

/// The name of the table of tables.
pub(super) const WEBHOOK: &str = "webhook";
/// More endpoints than that are not posted to: each has its own look at the store.
const MOST: usize = 32;
/// Members of a table `[webhook.NAME]`.
pub const KEYS: [&str; 9] = [
    "url",
    "secret",
    "secret_file",
    "enabled",
    "statuses",
    "programs",
    "allowed_networks",
    "ca_file",
    "timeout_seconds",
];

/// What the tables said.
#[derive(Default)]
pub(super) struct Found {
    pub(super) endpoints: Vec<(WebhookConfig, Origin)>,
    pub(super) problems: Vec<String>,
    pub(super) warnings: Vec<String>,
    /// Whether a secret stands in the file itself.
    pub(super) holds_secret: bool,
}

/// Reads the tables. `text` is the file's, for places; `credentials` is where systemd puts secrets.
pub(super) fn read(path: &Path, text: &str, value: &DeValue<'_>, credentials: Option<&Path>) -> Found {
    let mut found = Found::default();
    let DeValue::Table(tables) = value else {
        found.problems.push(format!("`{WEBHOOK}` is not tables `[{WEBHOOK}.NAME]` (`{}`)", path.display()));
        return found;
    };
    for (name, table) in tables {
        let origin = Origin::File(path.to_owned(), Place::of(text, name.span().start));
        let name: &str = name.get_ref();
        let DeValue::Table(table) = table.get_ref() else {
            found.problems.push(format!("`{WEBHOOK}.{}` is not a table ({origin})", name.escape_debug()));
            continue;
        };
        let reader = Reader { path, text, name, credentials, found: &mut found };
        if let Some(endpoint) = reader.endpoint(table, &origin) {
            found.endpoints.push((endpoint, origin));
        }
    }
    if found.endpoints.len() > MOST {
        found.problems.push(format!("there are more than {MOST} webhooks (`{}`)", path.display()));
    }
    found
}

/// Reads one table.
struct Reader<'a> {
    path: &'a Path,
    text: &'a str,
    name: &'a str,
    credentials: Option<&'a Path>,
    found: &'a mut Found,
}

impl Reader<'_> {
    /// Returns the endpoint, when it is right and enabled.
    fn endpoint(mut self, table: &DeTable<'_>, origin: &Origin) -> Option<WebhookConfig> {
        let before = self.found.problems.len();
        let mut endpoint = WebhookConfig::new(self.name, "", Vec::new());
        let mut enabled = true;
        for (key, value) in table {
            let place = Place::of(self.text, key.span().start);
            let name: &str = key.get_ref();
            let read = match name {
                "url" => text_of(value).map(|url| endpoint.url = url),
                "secret" => {
                    self.found.holds_secret = true;
                    self.secrets(value, &mut endpoint.secrets)
                }
                "secret_file" => self.secret_files(value, &mut endpoint.secrets),
                "enabled" => match value.get_ref() {
                    DeValue::Boolean(yes) => {
                        enabled = *yes;
                        Ok(())
                    }
                    _ => Err("true or false is accepted".into()),
                },
                "statuses" => each(value, status).map(|statuses| endpoint.statuses = statuses),
                "programs" => {
                    each(value, |name| Ok(name.to_owned())).map(|programs| endpoint.programs = programs)
                }
                "allowed_networks" => each(value, |text| text.parse::<Network>().map_err(Into::into))
                    .map(|networks| endpoint.allowed_networks = networks),
                "ca_file" => {
                    text_of(value).and_then(|text| absolute(&text)).map(|path| endpoint.ca_file = Some(path))
                }
                "timeout_seconds" => seconds(value).map(|time| endpoint.timeout = time),
                unknown => {
                    let known = nearest(unknown, KEYS.into_iter());
                    Err(format!("there is no such member; the nearest one is `{known}`"))
                }
            };
            if let Err(problem) = read {
                let name = name.escape_debug();
                self.found.problems.push(format!(
                    "`{WEBHOOK}.{}.{name}` (`{}` {place}): {problem}",
                    self.name.escape_debug(),
                    self.path.display()
                ));
            }
        }
        if self.found.problems.len() > before {
            return None;
        }
        match endpoint.check() {
            // One that is switched off may be as yet incomplete.
            _ if !enabled => None,
            Ok(_) => Some(endpoint),
            Err(problem) => {
                self.found.problems.push(format!("{problem} ({origin})"));
                None
            }
        }
    }

    fn secrets(&mut self, value: &Spanned<DeValue<'_>>, into: &mut Vec<SigningSecret>) -> Result<(), String> {
        into.extend(each(value, |text| SigningSecret::parse(text).map_err(Into::into))?);
        Ok(())
    }

    /// Reads files of secrets, one on each line.
    fn secret_files(
        &mut self,
        value: &Spanned<DeValue<'_>>,
        into: &mut Vec<SigningSecret>,
    ) -> Result<(), String> {
        for file in each(value, |text| self.secret_path(text))? {
            let shown = file.display();
            let text =
                secrets::read(&file).map_err(|problem| format!("the secret file `{shown}` {problem}"))?;
            for line in text.lines().filter(|line| !line.trim().is_empty()) {
                let secret = SigningSecret::parse(line);
                into.push(secret.map_err(|problem| format!("the secret file `{shown}`: {problem}"))?);
            }
            if let Some(warning) = secrets::readable_by_others(&file) {
                self.found
                    .warnings
                    .push(format!("the secret file `{shown}` of `{WEBHOOK}.{}`: {warning}", self.name));
            }
        }
        Ok(())
    }

    /// A name alone is that of a credential.
    fn secret_path(&self, text: &str) -> Result<PathBuf, String> {
        match self.credentials {
            Some(directory) if !text.is_empty() && !text.contains('/') => Ok(directory.join(text)),
            _ => absolute(text)
                .map_err(|accepted| format!("{accepted}, or, beneath systemd, the name of a credential")),
        }
    }
}

fn text_of(value: &Spanned<DeValue<'_>>) -> Result<String, String> {
    match value.get_ref() {
        DeValue::String(text) if !text.trim().is_empty() => Ok(text.to_string()),
        _ => Err("a text is accepted, not an empty one".into()),
    }
}

/// Reads one text, or a list of them that is not empty.
fn each<T>(value: &Spanned<DeValue<'_>>, read: impl Fn(&str) -> Result<T, String>) -> Result<Vec<T>, String> {
    match value.get_ref() {
        DeValue::Array(values) if !values.is_empty() => {
            values.iter().map(|value| text_of(value).and_then(|text| read(&text))).collect()
        }
        DeValue::String(_) => Ok(vec![read(&text_of(value)?)?]),
        _ => Err("a text, or a list of texts, is accepted".into()),
    }
}

fn status(text: &str) -> Result<Status, String> {
    Status::parse(text)
        .filter(|status| status.is_terminal())
        .ok_or_else(|| "`completed`, `failed`, `cancelled`, `timeout` and `lost` are accepted".into())
}

fn absolute(text: &str) -> Result<PathBuf, String> {
    Some(PathBuf::from(text))
        .filter(|path| path.is_absolute())
        .ok_or_else(|| "an absolute path is accepted".into())
}

fn seconds(value: &Spanned<DeValue<'_>>) -> Result<Duration, String> {
    let number = match value.get_ref() {
        DeValue::Integer(integer) => integer.as_str().parse::<f64>().ok(),
        DeValue::Float(float) => float.as_str().parse::<f64>().ok(),
        _ => None,
    };
    number
        .filter(|seconds| (0.1..=60.0).contains(seconds))
        .map(Duration::from_secs_f64)
        .ok_or_else(|| "seconds from 0.1 to 60 are accepted".into())
}
