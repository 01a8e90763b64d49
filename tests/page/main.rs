//! The page in a real Chromium, against the real executable. The tests are programs for Node beside this file; each is run here under a name of its own.
#![expect(clippy::unwrap_used, reason = "a test fails by it")]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;

/// A browser takes a processor or two: one at a time, so that none waits for another.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/page")
}

#[expect(
    clippy::disallowed_methods,
    reason = "a test's own programs are no executions: nobody's command is run"
)]
fn program(name: &str) -> Command {
    Command::new(name)
}

/// Says what is missing for these tests, and how to mend it.
fn missing() -> Option<&'static str> {
    let quiet =
        |name: &str| program(name).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if quiet("node").is_err() {
        Some("`node` is not installed")
    } else if !directory().join("node_modules/playwright-core").exists() {
        Some("packages are missing: run `npm ci` in `tests/page`")
    } else if std::env::var_os("CHROMIUM").is_none() && !Path::new("/usr/bin/chromium").exists() {
        Some("Chromium is not installed: install `chromium`, or set `CHROMIUM` to its path")
    } else {
        None
    }
}

/// Runs the tests of one file, which start the service for themselves. What it lacks is said aloud; with
/// `PORTCULLIS_REQUIRE_ALL=1` that is a failure.
#[track_caller]
fn run(file: &str) {
    let skip = |why: &str| {
        eprintln!("SKIPPED: {why}");
        assert!(
            std::env::var_os("PORTCULLIS_REQUIRE_ALL").is_none(),
            "skipped although all is required: {why}"
        );
    };
    if let Some(why) = missing() {
        return skip(why);
    }
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let output = program("node")
        .args(["--test", "--test-reporter=spec", file])
        .current_dir(directory())
        .env("PORTCULLIS_SERVER", env!("CARGO_BIN_EXE_portcullis-server"))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let told =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if !output.status.success() && told.contains("the service ended") && told.contains("sandbox") {
        return skip("this host cannot confine");
    }
    println!("{told}");
    assert!(output.status.success(), "{file} failed");
}

#[test]
fn one_signs_in_runs_and_cancels_and_a_refused_token_costs_nothing() {
    run("running.test.mjs");
}

#[test]
fn carets_stand_under_what_is_refused() {
    run("refusing.test.mjs");
}

#[test]
fn nothing_is_missed_or_told_twice_whatever_is_cut() {
    run("reconnecting.test.mjs");
}

#[test]
fn what_strangers_write_is_never_markup() {
    run("hostile.test.mjs");
}

#[test]
fn five_megabytes_of_output_do_not_freeze_it() {
    run("large.test.mjs");
}

#[test]
fn a_terminals_language_is_read() {
    run("terminal.test.mjs");
}

#[test]
fn what_ran_is_listed_filtered_and_drawn() {
    run("history.test.mjs");
}

#[test]
fn it_is_for_keyboards_phones_dark_rooms_and_those_who_listen() {
    run("looking.test.mjs");
}
