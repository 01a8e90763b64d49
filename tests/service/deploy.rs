//! What `deploy/` holds: that it names what there is, and that the service runs in what it makes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use portcullis_server::config::SETTINGS;
use serde_json::Value;

use crate::process::skip;

const EXECUTABLE: &str = env!("CARGO_BIN_EXE_portcullis-server");

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(name: &str) -> String {
    fs::read_to_string(root().join("deploy").join(name)).unwrap()
}

/// Runs a tool from the project's root; `None`, said aloud, when it is not installed.
#[expect(clippy::disallowed_methods, reason = "tools of a test are no executions: nobody's command is run")]
fn run(words: &[&str]) -> Option<Output> {
    let (program, arguments) = words.split_first().unwrap();
    let output = Command::new(program).args(arguments).current_dir(root()).output();
    if output.is_err() {
        skip(&format!("`{program}` is not installed"));
    }
    output.ok()
}

fn is_root() -> bool {
    run(&["id", "-u"]).is_some_and(|output| output.stdout == b"0\n")
}

/// Returns the names of a text that look like variables of ours.
fn variables(text: &str) -> impl Iterator<Item = &str> {
    let of_names = |c: char| !(c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_');
    text.split(of_names).filter(|name| name.starts_with("PORTCULLIS_") || name.ends_with("_SERVICE_URL"))
}

#[test]
fn every_variable_that_is_named_is_a_setting() {
    let mut count = 0;
    for name in ["portcullis.service", "Dockerfile", "compose.yaml", "compose.full.yaml", "README.md"] {
        let text = read(name);
        for variable in variables(&text).filter(|variable| *variable != "PORTCULLIS_CONFIG") {
            let known = SETTINGS.iter().any(|setting| setting.variable == variable);
            assert!(known, "{name} names `{variable}`, which is no setting");
            count += 1;
        }
    }
    assert!(count > 5);
}

#[test]
fn compose_has_the_missions_form() {
    let text = read("compose.yaml");
    for line in [
        "      - \"5000:5000\"",
        "      ALLOWED_COMMANDS: \"ls,echo,cat,grep,find,pwd\"",
        "      MAX_EXECUTION_TIME: \"60\"",
        "      AUTH_SERVICE_URL: \"http://ogent-auth-service:5000\"",
        "      SOCKET_SERVICE_URL: \"http://ogent-socket-service:3002\"",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}");
    }
    for text in [text, read("compose.full.yaml")] {
        for line in text.lines() {
            let indentation = line.len() - line.trim_start().len();
            assert!(indentation % 2 == 0 && !line.contains('\t'), "{line:?}");
        }
    }
}

#[test]
fn the_images_parts_are_there() {
    let ignored = fs::read_to_string(root().join(".dockerignore")).unwrap();
    let dockerfile = read("Dockerfile");
    assert!(dockerfile.contains("\nUSER 65532:65532\n"), "the image runs as nobody in particular");
    // Manifests name the tests, so an image is built with them.
    for kept in ["Cargo.toml", "Cargo.lock", "crates", "bins", "tests"] {
        assert!(root().join(kept).exists() && !ignored.lines().any(|line| line == kept), "{kept}");
    }
    let version = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let version = version.lines().find_map(|line| line.strip_prefix("rust-version = ")).unwrap();
    assert!(dockerfile.contains(&format!("FROM rust:{}-slim", version.trim_matches('"'))), "{version}");
}

#[test]
fn systemd_understands_the_unit_and_finds_it_hardened() {
    let directory = tempfile::tempdir().unwrap();
    let unit = directory.path().join("portcullis.service");
    let text = read("portcullis.service").replace("/usr/local/bin/portcullis-server", EXECUTABLE);
    fs::write(&unit, text).unwrap();
    let unit = unit.to_str().unwrap();
    let Some(verified) = run(&["systemd-analyze", "verify", "--man=no", unit]) else { return };
    let complaints = String::from_utf8_lossy(&verified.stderr);
    // It looks at the machine's own units as well, which are not ours to judge.
    let ours: Vec<_> = complaints.lines().filter(|line| line.contains("portcullis")).collect();
    assert!(ours.is_empty(), "{complaints}");
    // In tenths; what is left is what cells need.
    let Some(judged) = run(&["systemd-analyze", "security", "--offline=true", "--threshold=50", unit]) else {
        return;
    };
    let judgement = String::from_utf8_lossy(&judged.stdout);
    assert!(judged.status.success(), "{judgement}{}", String::from_utf8_lossy(&judged.stderr));
}

#[test]
fn the_seccomp_profile_names_calls_that_there_are_and_each_once() {
    let table = root().join("crates/portcullis-sandbox/src/seccomp/table.rs");
    let table = fs::read_to_string(table).unwrap();
    let profile: Value = serde_json::from_str(&read("seccomp.json")).unwrap();
    assert_eq!(profile["defaultAction"], "SCMP_ACT_ERRNO");
    let mut unconditional = Vec::new();
    for rule in profile["syscalls"].as_array().unwrap() {
        let comment = rule["comment"].as_str().unwrap();
        assert!(comment.starts_with("service: ") || comment.starts_with("cells: "), "{comment}");
        for name in rule["names"].as_array().unwrap() {
            let name = name.as_str().unwrap();
            assert!(table.contains(&format!("\"{name}\"")), "there is no call `{name}`");
            assert!(!unconditional.contains(&name), "`{name}` is named twice");
            if rule["args"].is_null() {
                unconditional.push(name);
            }
        }
    }
    for dangerous in
        ["ptrace", "bpf", "keyctl", "io_uring_setup", "userfaultfd", "kexec_load", "init_module", "reboot"]
    {
        assert!(!unconditional.contains(&dangerous), "{dangerous}");
    }
}

/// Asks the doctor, behind these words, for the level that a cell gets.
fn level(words: &[&str]) -> Option<String> {
    let words = [words, &[EXECUTABLE, "doctor", "--json"]].concat();
    let output = run(&words)?;
    let report: Option<Value> = serde_json::from_slice(&output.stdout).ok();
    let Some(report) = report else {
        skip(&format!("nothing can be tried here: {}", String::from_utf8_lossy(&output.stderr)));
        return None;
    };
    let ran = report["trial"]["ran"] == "true" || report["trial"]["level"].is_null();
    assert!(ran, "{report}");
    Some(report["trial"]["level"].as_str().unwrap_or("none").to_owned())
}

#[test]
fn the_seccomp_profile_lets_cells_be_made_and_without_its_rules_for_them_landlock_is_left() {
    let under = ["python3", "tests/service/under_seccomp.py", "deploy/seccomp.json"];
    let Some(free) = level(&["env"]) else { return };
    let Some(under_profile) = level(&under) else { return };
    assert_eq!(under_profile, free, "the profile costs nothing");
    if free == "landlock" || free == "none" {
        return skip("this host makes no namespaces, so no profile can take them away");
    }
    let default_like = [&under[..], &["--without", "cells:"]].concat();
    let Some(level) = level(&default_like) else { return };
    assert!(level == "landlock" || !Path::new("/sys/kernel/security/lsm").exists(), "{level}");
}

/// Tries what the image would run, in a root made of the same files.
fn try_in_root(arguments: &[&str], wanted: &str) {
    let directory = Path::new(EXECUTABLE).parent().unwrap();
    if !is_root() {
        return skip("a root of its own is for root to make");
    }
    if !directory.join("portcullis").exists() {
        return skip("portcullis is not built: `cargo build -p portcullis`");
    }
    let words = [&["sh", "deploy/try-in-chroot.sh"], arguments, &[directory.to_str().unwrap()]].concat();
    let Some(output) = run(&words) else { return };
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}");
    for wanted in ["echo said Hello, World!", "6 of 6 checks passed", "the service ended well", wanted] {
        assert!(said.contains(wanted), "{wanted:?} in {said}");
    }
}

#[test]
fn the_first_command_runs_in_the_images_root_at_level_landlock() {
    // The kernel makes no user namespace for who is in a chroot; see user_namespaces(7).
    try_in_root(&[], "A cell was made at level `landlock`");
}

#[test]
fn the_first_command_runs_in_the_images_root_at_the_hosts_best_level_for_its_user() {
    try_in_root(&["--pivot"], "A cell was made at level `");
}
