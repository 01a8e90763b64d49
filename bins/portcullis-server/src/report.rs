//! What the service says of itself.

use std::error::Error;
use std::fmt::Write;

use portcullis_core::Confinement;
use portcullis_notify::WebhookConfig;
use portcullis_policy::Rulebook;
use portcullis_sandbox::look_up;
use serde_json::{Value, json};

use crate::config::{Config, ConfigError, Effective, Origin, SETTINGS, Setting, flag};

/// Writes every setting with its value and where that came from, one a line.
#[must_use]
pub fn settings(effective: &Effective) -> String {
    let width = effective.values.iter().map(|(setting, ..)| setting.name.len()).max().unwrap_or(0);
    let mut report = String::new();
    for (setting, value, origin) in &effective.values {
        let shown = if value.is_empty() { "(not set)" } else { value };
        // Writing to a string does not fail.
        let _ = writeln!(report, "{:width$} = {shown}  [{origin}]", setting.name);
    }
    for (endpoint, origin) in &effective.webhooks {
        let name = format!("webhook.{}", endpoint.name);
        let _ = writeln!(report, "{name:width$} = {}  [{origin}]", url(endpoint));
    }
    report
}

/// Writes the same as one JSON object. `value` is `null` where nothing is set, and where it is a secret.
#[must_use]
pub fn settings_as_json(effective: &Effective) -> String {
    let setting = |(setting, value, origin): &(&'static Setting, String, Origin)| {
        let value = (!value.is_empty() && !setting.secret).then_some(value);
        json!({
            "name": setting.name, "variable": setting.variable, "value": value, "secret": setting.secret,
            "origin": origin_as_json(origin),
        })
    };
    let settings: Vec<_> = effective.values.iter().map(setting).collect();
    let webhook = |(endpoint, origin): &(WebhookConfig, Origin)| json!({ "name": endpoint.name, "url": url(endpoint), "origin": origin_as_json(origin) });
    let webhooks: Vec<_> = effective.webhooks.iter().map(webhook).collect();
    let warnings = &effective.warnings;
    format!(
        "{}\n",
        json!({ "valid": true, "settings": settings, "webhooks": webhooks, "warnings": warnings })
    )
}

/// An endpoint's URL without its query, which may be a secret.
fn url(endpoint: &WebhookConfig) -> String {
    endpoint.check().map(|place| place.shown).unwrap_or_default()
}

fn origin_as_json(origin: &Origin) -> Value {
    match origin {
        Origin::Default => json!({ "kind": "default" }),
        Origin::File(path, place) => {
            json!({ "kind": "file", "path": path, "line": place.line, "column": place.column })
        }
        Origin::Credential(path) => json!({ "kind": "credential", "path": path }),
        Origin::Environment(variable) => json!({ "kind": "environment", "variable": variable }),
        Origin::Flag(name) => json!({ "kind": "flag", "flag": flag(name) }),
    }
}

/// Writes everything that is wrong with a configuration as one JSON object.
#[must_use]
pub fn problems_as_json(error: &ConfigError) -> String {
    format!("{}\n", json!({ "valid": false, "problems": error.problems }))
}

/// Writes what every setting means, its names and its default.
#[must_use]
pub fn explanations() -> String {
    let mut report = String::new();
    for setting in SETTINGS {
        let default = match setting.default {
            "" => String::new(),
            default => format!("; default `{default}`"),
        };
        let secret = match setting.secret {
            true => format!("; a secret: also {}, {}", setting.name_of_file, setting.variable_of_file),
            false => String::new(),
        };
        let Setting { name, variable, about, .. } = setting;
        let _ = writeln!(report, "{name}, {variable}{default}{secret}\n    {about}");
    }
    report
}

/// Writes an error with its causes.
#[must_use]
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let _ = write!(text, ": {error}");
        cause = error.source();
    }
    text
}

/// Says once, at the start, where the service is, how strong its confinement is, and what is weaker.
pub fn started(config: &Config, warnings: &[String], url: &str, confinement: &Confinement) {
    let token = match config.auth_service {
        None => config.token_file.display().to_string(),
        Some(_) => "at the Auth Service".into(),
    };
    tracing::info!(
        url,
        confinement = confinement.level.as_str(),
        cells = config.sandbox.cells,
        data_dir = %config.data_dir.display(),
        token,
        auth_service = config.auth_service.as_ref().map(|auth| auth.base_url.as_str()),
        socket_service = config.socket_service.as_ref().map(|socket| socket.base_url.as_str()),
        "portcullis-server listens"
    );
    for warning in warnings {
        tracing::warn!(warning, "the configuration is in force, but");
    }
    if let Some(anonymous) = &config.http.anonymous {
        let (user, from) = (anonymous.name(), anonymous.networks());
        tracing::warn!(user, from, "requests without a token act as a user");
    }
    for weakness in &confinement.weaker {
        tracing::warn!(weakness, "this host holds less than full confinement");
    }
    what_cannot_be_held(&config.sandbox, &config.rulebook);
}

/// Says what the rulebook allows and this host or version cannot do. Such lines are judged, accepted, and end as
/// `start_failed`.
pub fn what_cannot_be_held(config: &portcullis_sandbox::Config, rulebook: &Rulebook) {
    for program in look_up(config, rulebook.programs()) {
        if let Some(problem) = program.problem {
            tracing::warn!(program = program.name, problem, "an allowed program cannot run on this host");
        }
    }
    let rules = rulebook.rules_with_network();
    if !rules.is_empty() {
        let rules = rules.join(",");
        tracing::warn!(rules, "the rulebook grants the network, which this version cannot hold");
    }
}
