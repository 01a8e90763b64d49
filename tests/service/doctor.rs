//! The real executable looks at its host: as it is, as an ordinary user, and where namespaces are refused.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::Value;

use crate::process::skip;

/// The service's executable where every user can reach it, in an empty directory.
struct Reachable {
    directory: tempfile::TempDir,
}

impl Reachable {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let reachable = Self { directory };
        // By another process: a descriptor of ours that writes it would be in what other tests start meanwhile, and
        // what is open for writing cannot be executed.
        let copied = reachable.executable();
        let words = ["cp", env!("CARGO_BIN_EXE_portcullis-server"), copied.to_str().unwrap()];
        assert!(reachable.run(&words, &[]).status.success());
        reachable
    }

    fn executable(&self) -> PathBuf {
        self.directory.path().join("portcullis-server")
    }

    /// Runs words, the last ones of which are to name the executable, with these settings.
    #[expect(clippy::disallowed_methods, reason = "this is the service itself, not something it runs")]
    fn run(&self, words: &[&str], settings: &[(&str, &str)]) -> Output {
        let (program, arguments) = words.split_first().unwrap();
        Command::new(program)
            .args(arguments)
            .current_dir("/")
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("PORTCULLIS_DATA_DIR", self.directory.path().join("data"))
            .env("PORTCULLIS_LISTEN", "127.0.0.1:0")
            .envs(settings.iter().copied())
            .output()
            .unwrap()
    }
}

/// Reads a report of `doctor --json`; `None`, said aloud, when it was not the doctor that answered.
fn read(output: &Output) -> Option<Value> {
    let report = serde_json::from_slice(&output.stdout).ok();
    if report.is_none() {
        skip(&format!("this host lets nobody try: {}", String::from_utf8_lossy(&output.stderr)));
    }
    report
}

/// Whether a mechanism is there.
#[track_caller]
fn present(report: &Value, name: &str) -> Option<bool> {
    let mechanisms = report["mechanisms"].as_array().unwrap();
    let found = mechanisms.iter().find(|mechanism| mechanism["name"] == name);
    found.unwrap_or_else(|| panic!("`{name}` in {report}"))["present"].as_bool()
}

#[test]
fn the_report_agrees_with_itself_and_with_the_exit_code() {
    let reachable = Reachable::new();
    let executable = reachable.executable();
    let settings = [("ALLOWED_COMMANDS", "ls,no-such-program")];
    let output = reachable.run(&[executable.to_str().unwrap(), "doctor", "--json"], &settings);
    let report = read(&output).unwrap();
    let wanted = match report["standing"].as_str().unwrap() {
        "whole" => 0,
        "lacking" => 3,
        _ => 1,
    };
    assert_eq!(output.status.code(), Some(wanted), "{report}");
    assert_ne!(wanted, 0, "a program of the rules is missing");
    let programs = report["programs"].as_array().unwrap();
    assert_eq!(programs.len(), 2, "{report}");
    assert!(programs[0]["file"].is_string() && programs[0]["problem"].is_null(), "{report}");
    assert!(programs[1]["problem"].as_str().unwrap().contains("is in none of"), "{report}");
    for mechanism in report["mechanisms"].as_array().unwrap() {
        assert_eq!(mechanism["mends"].as_array().unwrap().len(), 5, "{mechanism}");
    }
    // A look leaves nothing behind.
    assert!(!reachable.directory.path().join("data").exists());
    let table = reachable.run(&[executable.to_str().unwrap(), "doctor"], &settings);
    assert_eq!(table.status.code(), Some(wanted));
    let table = String::from_utf8(table.stdout).unwrap();
    assert!(table.contains("no-such-program  NO"), "{table}");
}

#[test]
fn an_ordinary_user_learns_what_only_root_gets() {
    let reachable = Reachable::new();
    let executable = reachable.executable();
    let ordinary = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"];
    let words = [&ordinary[..], &[executable.to_str().unwrap(), "doctor", "--json"]].concat();
    let Some(report) = read(&reachable.run(&words, &[])) else { return };
    assert_eq!(report["uid"], 65534);
    assert_eq!(present(&report, "a uid for each cell"), Some(false));
    assert_eq!(present(&report, "seccomp filter"), Some(true));
    if report["standing"] == "refused" {
        return skip(&format!("this host confines nothing for ordinary users: {report}"));
    }
    assert_eq!(report["trial"]["ran"], "true", "{report}");
}

/// A user namespace in which no other can be made.
const RESTRICTED: &str = "echo 0 > /proc/sys/user/max_user_namespaces && exec \"$@\"";

#[test]
fn where_namespaces_are_refused_the_report_says_so_and_what_it_costs() {
    let reachable = Reachable::new();
    let executable = reachable.executable();
    let restricted = ["unshare", "-Ur", "sh", "-c", RESTRICTED, "sh", executable.to_str().unwrap()];
    let words = [&restricted[..], &["doctor", "--json"]].concat();
    let output = reachable.run(&words, &[]);
    let Some(report) = read(&output) else { return };
    assert_eq!(present(&report, "user namespace"), Some(false), "{report}");
    assert_eq!(present(&report, "mount namespace"), None, "{report}");
    if present(&report, "Landlock (ABI 1: files, execution)") == Some(true) {
        assert_eq!((&report["standing"], &report["trial"]["level"]), (&"lacking".into(), &"landlock".into()));
        assert_eq!(report["trial"]["ran"], "true", "{report}");
        assert_eq!(output.status.code(), Some(3));
    } else {
        assert_eq!(report["standing"], "refused", "{report}");
    }
    // With a floor above that, the same host is refused, by the doctor as by a start.
    let floor = [("PORTCULLIS_CONFINEMENT", "namespaces")];
    let output = reachable.run(&words, &floor);
    let report = read(&output).unwrap();
    assert_eq!((&report["standing"], output.status.code()), (&"refused".into(), Some(1)), "{report}");
    let required =
        report["mechanisms"].as_array().unwrap().iter().find(|row| row["name"] == "user namespace");
    assert_eq!(required.unwrap()["required"], true);

    let started = reachable.run(&restricted, &floor);
    let log = String::from_utf8(started.stderr).unwrap();
    assert_eq!(started.status.code(), Some(1), "{log}");
    for wanted in [
        "step `namespaces of the cell` failed",
        "confinement level `namespaces` is required",
        "missing: user namespace (for namespaces, full)",
        "`portcullis-server doctor` says how to mend it",
    ] {
        assert!(log.contains(wanted), "{wanted:?} in {log}");
    }
}
