//! What an operator does to the database beside a service that may be running.

use std::fmt::Write as _;
use std::path::Path;

use portcullis_store::{Beside, OpenError};

use crate::compose::DATABASE_FILE;
use crate::config::{Config, Effective};
use crate::report::chain;

/// Why nothing was done, for a person.
pub type Problem = String;

fn open(config: &Config) -> Result<Beside, Problem> {
    Beside::open(&config.data_dir.join(DATABASE_FILE)).map_err(|error: OpenError| chain(&error))
}

/// Copies the records into a file while the service may be running; returns what is to be said of it.
///
/// # Errors
/// When the file is there already, or cannot be made.
pub fn back_up(config: &Config, to: &Path) -> Result<String, Problem> {
    let bytes = open(config)?.back_up(to).map_err(|error| chain(&error))?;
    Ok(format!("{} bytes in `{}`\n", bytes, to.display()))
}

/// Writes the endpoints that are enabled in the configuration, one a line: name, state, URL without its query.
///
/// # Errors
/// When the database cannot be read.
pub fn list_webhooks(effective: &Effective) -> Result<String, Problem> {
    let disabled = open(&effective.config)?.disabled_endpoints().map_err(|error| chain(&error))?;
    let width = effective.webhooks.iter().map(|(endpoint, _)| endpoint.name.len()).max().unwrap_or(0);
    let mut list = String::new();
    for (endpoint, _) in &effective.webhooks {
        let gone = disabled.iter().find(|one| one.name == endpoint.name && one.url == endpoint.url);
        let state = gone.map_or_else(
            || "enabled".to_owned(),
            |one| format!("disabled by a 410 since {}", portcullis_api::Timestamp(one.since)),
        );
        let url = endpoint.check().map(|place| place.shown).unwrap_or_default();
        // Writing to a string does not fail.
        let _ = writeln!(list, "{:width$}  {url}  {state}", endpoint.name);
    }
    Ok(list)
}

/// Takes back that an endpoint is disabled; returns what is to be said of it.
///
/// # Errors
/// When there is no such endpoint, or the database cannot be written.
pub fn enable_webhook(effective: &Effective, name: &str) -> Result<String, Problem> {
    if !effective.webhooks.iter().any(|(endpoint, _)| endpoint.name == name) {
        return Err(format!("no webhook `{}` is enabled in the configuration", name.escape_debug()));
    }
    let was_disabled = open(&effective.config)?.enable_endpoint(name).map_err(|error| chain(&error))?;
    Ok(match was_disabled {
        true => format!("`{name}` is enabled; a service that runs posts to it again within 5 s\n"),
        false => format!("`{name}` was not disabled\n"),
    })
}
