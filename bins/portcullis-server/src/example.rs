//! The annotated example of a configuration file: `deploy/portcullis.toml` is what this writes.

use std::fmt::Write;

use crate::config::{SETTINGS, Setting, flag};

/// How wide comments become.
const WIDTH: usize = 118;

const HEAD: &str = "\
# Settings of portcullis-server, each with what it means and its default; `portcullis-server config example` wrote this.
# As it stands, this file changes nothing: what is set is set to its default, what has none is commented out.
# Name it with `--config FILE` or PORTCULLIS_CONFIG. Each setting can also be made by the variable and the flag beside
# its name; a flag beats the environment, which beats this file. `portcullis-server config check` prints what is in
# force and where it came from. A setting has the unit that its name or its meaning says.
";

/// Writes the example.
#[must_use]
pub fn example() -> String {
    let mut text = HEAD.to_owned();
    for setting in SETTINGS {
        // Writing to a string does not fail.
        let _ = writeln!(text, "\n{}", comment(setting));
        let _ = match setting.default {
            "" => writeln!(text, "#{} = {}", name(setting), value(setting, sample(setting.name))),
            default => writeln!(text, "{} = {}", name(setting), value(setting, default)),
        };
    }
    text + WEBHOOK
}

/// The tables behind the settings: they come last, since what follows a table's head belongs to it.
const WEBHOOK: &str = r#"
# Endpoints that are posted how executions end, as many as you like, each a table under a name of its own; these have no
# variables and no flags. docs/webhooks.md says what they are sent and how they check it.
#[webhook.ci]
#url = "https://hooks.example/portcullis"
# File with the secret: `whsec_` and 24 to 64 bytes in base64. Two, one on each line or a list of files, while it changes.
#secret_file = "/run/secrets/ci_webhook"
#enabled = true
# Only these endings, and only lines with one of these programs; all when left out.
#statuses = ["failed", "timeout", "lost"]
#programs = ["make"]
# Addresses that it may have although they are not public; `http://` is posted to these alone.
#allowed_networks = ["10.0.0.0/8"]
# Certificates (PEM) of who may vouch for it, in place of those that this host trusts.
#ca_file = "/etc/portcullis/ca.pem"
#timeout_seconds = 15
"#;

/// A secret is named by its file: a file like this one is copied about.
fn name(setting: &'static Setting) -> &'static str {
    if setting.secret { setting.name_of_file } else { setting.name }
}

fn comment(setting: &'static Setting) -> String {
    let flags: Vec<_> = setting.flags().map(flag).collect();
    let variable = if setting.secret { setting.variable_of_file } else { setting.variable };
    let text = format!("{}. {variable}, {}", setting.about, flags.join(", "));
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.len() + 1 + word.len() <= WIDTH => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(format!("# {word}")),
        }
    }
    lines.join("\n")
}

/// Writes a value as TOML has it.
fn value(setting: &Setting, text: &str) -> String {
    let quoted = |text: &str| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
    match text {
        "yes" => "true".into(),
        "no" => "false".into(),
        _ if setting.name == "allowed_commands" || setting.name == "mounts" => {
            format!("[{}]", text.split(',').map(quoted).collect::<Vec<_>>().join(", "))
        }
        _ if text.parse::<f64>().is_ok_and(f64::is_finite) => text.into(),
        _ => quoted(text),
    }
}

/// Returns what a setting without a default may look like.
fn sample(name: &str) -> &'static str {
    match name {
        "auth_service_url" => "http://auth-service:8000/api",
        "socket_service_url" => "http://socket-service:3002",
        "public_url" => "https://portcullis.example",
        "port" => "5001",
        "data_dir" | "execution_dir" => "/var/lib/portcullis",
        "rulebook" => "/etc/portcullis/rules.toml",
        "allowed_commands_path" => "/etc/portcullis/allowed.json",
        "token_file" => "/etc/portcullis/token",
        "jwt_secret" => "/run/secrets/jwt_secret",
        "anonymous_user" => "agents",
        "anonymous_roles" => "runner",
        "metrics_listen" => "127.0.0.1:9464",
        "audit_log" => "/var/log/portcullis/audit.jsonl",
        "otel_exporter_otlp_endpoint" => "http://127.0.0.1:4318",
        "otel_exporter_otlp_traces_endpoint" => "http://127.0.0.1:4318/v1/traces",
        "otel_exporter_otlp_headers" => "/run/secrets/otlp_headers",
        "otel_service_name" => "portcullis",
        "otel_resource_attributes" => "deployment.environment.name=production",
        "allowed_hosts" => "portcullis.example",
        "cells" => "8",
        "worker_threads" => "2",
        "mounts" => "/srv/project:/workspace:rw,/srv/data",
        "user" => "portcullis",
        "cpu_time_limit_seconds" => "30",
        "cpus_per_execution" => "0.5",
        _ => "…",
    }
}
