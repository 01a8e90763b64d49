//! The real executable: what it says of its configuration, and how it fails to start.

use std::process::{Command, Output};

/// Starts the service with nothing of this process's environment, and waits for its end.
#[expect(clippy::disallowed_methods, reason = "this is the service itself, not something it runs")]
pub(crate) fn start(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_portcullis-server"))
        .args(arguments)
        .env_clear()
        .envs(environment.iter().copied())
        .output()
        .unwrap()
}

/// Asserts that the service refuses its configuration for exactly these reasons.
#[track_caller]
fn check(environment: &[(&str, &str)], wanted: &[&str]) {
    let output = start(&["config", "check"], environment);
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(78), "{text}");
    assert_eq!(text.matches("\n  - ").count(), wanted.len(), "{text}");
    for problem in wanted {
        assert!(text.contains(problem), "{problem:?} in {text}");
    }
}

#[test]
fn without_any_configuration_the_defaults_are_those_of_the_mission() {
    let output = start(&["config", "check"], &[("HOME", "/home/x")]);
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let value = |name: &str| {
        let line = text.lines().find(|line| line.split(' ').next() == Some(name));
        let line = line.unwrap_or_else(|| panic!("`{name}` in {text}"));
        line.split_once(" = ").unwrap().1.to_owned()
    };
    assert_eq!(value("allowed_commands"), "ls,echo,cat,grep,find,pwd  [default]");
    assert_eq!(value("max_execution_time"), "60  [default]");
    assert_eq!(value("listen"), "127.0.0.1:5000  [default]");
    assert_eq!(value("auth_service_url"), "(not set)  [default]");
    assert!(value("data_dir").ends_with("portcullis  [default]"), "{text}");
}

#[test]
fn every_setting_is_explained() {
    let output = start(&["config", "explain"], &[("MAX_EXECUTION_TIME", "wrong")]);
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    for setting in portcullis_server::config::SETTINGS {
        assert!(text.contains(setting.variable) && text.contains(setting.about), "{}", setting.name);
        // One name leads to the other, but for the mission's.
        let derived = format!("PORTCULLIS_{}", setting.name.to_uppercase());
        assert!(derived.ends_with(setting.variable), "{}", setting.name);
    }
}

#[test]
fn every_value_is_shown_with_its_origin_and_the_strongest_wins() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("portcullis.toml");
    std::fs::write(
        &file,
        "listen = \"127.0.0.1:1\"\nmax_execution_time = 5\nallowed_commands = [\"ls\", \"cat\"]\n",
    )
    .unwrap();
    let file = file.to_str().unwrap();
    let environment = [
        ("PORTCULLIS_CONFIG", file),
        ("MAX_EXECUTION_TIME", "7"),
        ("PORT", "2"),
        ("AUTH_SERVICE_URL", "http://auth-service:8000/api"),
        ("PORTCULLIS_URL", "http://the-clients"),
    ];
    let output = start(&["config", "check", "--data-dir", "/srv/portcullis"], &environment);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for (name, wanted) in [
        ("allowed_commands", format!("= ls,cat  [{file} line 3, column 1]")),
        ("max_execution_time", "= 7  [environment MAX_EXECUTION_TIME]".into()),
        ("port ", "= 2  [environment PORT]".into()),
        ("data_dir", "= /srv/portcullis  [flag --data-dir]".into()),
        ("auth_service_url", "= http://auth-service:8000/api  [environment AUTH_SERVICE_URL]".into()),
    ] {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap();
        assert!(line.ends_with(&wanted), "{line}");
    }
}

#[test]
fn everything_that_is_wrong_is_named_at_once_with_its_place() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("portcullis.toml");
    std::fs::write(&file, "cells = 0\n\nlimit = 5\nmounts = { a = 1 }\n").unwrap();
    let file = file.to_str().unwrap();
    let (in_first, in_third) = (
        format!("`cells` is `0` ({file} line 1, column 1)"),
        format!("`limit` is no setting (`{file}` line 3, column 1)"),
    );
    check(
        &[
            ("PORTCULLIS_CONFIG", file),
            ("MAX_EXECUTION_TIME", "abc"),
            ("PORTCULLIS_LISTENS", "x"),
            ("PORTCULLIS_LISTEN", "localhost"),
            ("PORTCULLIS_ALLOWED_COMMANDS", "ls"),
            ("ALLOWED_COMMANDS", "ls,/bin/sh"),
            ("SOCKET_SERVICE_URL", "socket-service"),
        ],
        &[
            &in_first,
            &in_third,
            "`mounts` is neither text",
            "`MAX_EXECUTION_TIME` is `abc` (environment MAX_EXECUTION_TIME): whole numbers from 1",
            "`PORTCULLIS_LISTENS` is no setting (environment); the nearest one is `PORTCULLIS_LISTEN`",
            "`PORTCULLIS_LISTEN` is `localhost`",
            "`PORTCULLIS_ALLOWED_COMMANDS` is no setting (environment); the nearest one is `ALLOWED_COMMANDS`",
            "`ALLOWED_COMMANDS` is `ls,/bin/sh`",
            "`SOCKET_SERVICE_URL` is `socket-service`",
        ],
    );
}

#[test]
fn a_configuration_that_means_two_things_is_refused() {
    check(&[("ALLOWED_COMMANDS", "")], &["`ALLOWED_COMMANDS` is empty"]);
    check(
        &[("ALLOWED_COMMANDS", "ls"), ("PORTCULLIS_RULEBOOK", "/rules.toml")],
        &[
            "both `rulebook` (environment PORTCULLIS_RULEBOOK) and `allowed_commands` (environment ALLOWED_COMMANDS) are set",
        ],
    );
    check(&[("PORTCULLIS_RULEBOOK", "/no/such/rules.toml")], &["it could not be read"]);
    check(&[("PORTCULLIS_CONFIG", "/no/such/file")], &["could not read the configuration file"]);
}

#[test]
fn the_local_token_is_not_taken_beyond_loopback_unless_that_is_asked_for_by_name() {
    for listen in ["0.0.0.0:5000", "[::]:5000", "192.0.2.1:5000"] {
        check(&[("PORTCULLIS_LISTEN", listen)], &["PORTCULLIS_LOCAL_TOKEN_BEYOND_LOOPBACK=yes"]);
    }
    // What is wrong elsewhere hides it no more than a flag does.
    check(
        &[("PORTCULLIS_LISTEN", "0.0.0.0:5000"), ("PORT", "x"), ("PORTCULLIS_CELLS", "x")],
        &["`PORT` is `x`", "`PORTCULLIS_CELLS` is `x`", "PORTCULLIS_LOCAL_TOKEN_BEYOND_LOOPBACK=yes"],
    );
    for (name, value) in [
        ("PORTCULLIS_LOCAL_TOKEN_BEYOND_LOOPBACK", "yes"),
        ("AUTH_SERVICE_URL", "http://auth-service:8000/api"),
    ] {
        let output = start(&["config", "check"], &[("PORTCULLIS_LISTEN", "0.0.0.0:5000"), (name, value)]);
        assert!(output.status.success(), "{output:?}");
    }
}
