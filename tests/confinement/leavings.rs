//! What one execution leaves for the next in its cell, and what it shows to another at the same time (lines 56 and
//! 57 of the threats): nothing.

use portcullis_core::{Connector, Ended, Level};

use crate::harness::{Bench, Line, check_on, config, has, writing};

/// What is looked for, when nothing is there.
const NOTHING: &str =
    "memory ! ENOENT, semaphore ! ENOENT, queue ! ENOENT, mq ! ENOENT, socket ! ECONNREFUSED, umask 22";
/// What is left. POSIX queues are not given to anybody.
const LEFT: &str = "memory, semaphore, queue, mq ! EMFILE, socket, umask";
/// A later command of the line finds the objects; the socket it may not reach, since each command is in a Landlock
/// scope of its own.
const FOUND: &str =
    "memory is there, semaphore is there, queue is there, mq ! ENOENT, socket ! EPERM, umask 22";

/// A bench whose one cell every execution gets.
fn one_cell() -> Bench {
    Bench::new(&portcullis_sandbox::Config { cells: 1, ..config() })
}

/// Line 57.
#[test]
fn objects_of_the_kernel_end_with_their_execution() {
    if !has(Level::Namespaces) {
        return;
    }
    let bench = one_cell();
    // The control: within one execution they are there.
    let line = Line::probe("leave").then(Connector::Always, "confinement-probe look");
    check_on(&bench, line, &[LEFT, FOUND]);
    for _ in 0..3 {
        check_on(&bench, Line::probe("leave"), &[LEFT]);
        check_on(&bench, Line::probe("look"), &[NOTHING]);
        assert!(!bench.runs("confinement-probe leave"), "the process that held them");
    }
}

/// Line 57.
#[test]
fn files_names_and_places_end_with_their_execution() {
    if !has(Level::Namespaces) {
        return;
    }
    let bench = one_cell();
    // That of whoever runs the tests.
    let place = bench.run(Line::of("nice")).unwrap().stdout;
    let mess = writing(Line::of("touch /workspace/left /tmp/left"))
        .then(Connector::Always, "mkdir /workspace/sub")
        .write("/workspace")
        .change_directory("/workspace/sub")
        .then(Connector::Always, "confinement-probe call umask 63 , prctl 15 s:evil , setpriority 0 0 19");
    check_on(&bench, mess, &["umask = 18", "prctl = 0", "setpriority = 0"]);
    check_on(&bench, writing(Line::of("ls -A /workspace /tmp")), &["/tmp:", "", "/workspace:"]);
    check_on(
        &bench,
        Line::of("pwd").then(Connector::Always, "uname -n").then(Connector::Always, "nice"),
        &["/workspace", "portcullis", place.trim()],
    );
    check_on(&bench, Line::of("grep -E ^Umask: /proc/self/status"), &["Umask:\t0022"]);
}

/// Line 57.
#[test]
fn an_environment_is_for_its_own_execution() {
    if !has(Level::Namespaces) {
        return;
    }
    let bench = one_cell();
    let mut line = Line::of("printenv SECRET");
    line.environment = vec![("SECRET".into(), "theirs".into())];
    check_on(&bench, line, &["theirs"]);
    check_on(&bench, Line::of("printenv SECRET"), &[]);
}

/// Line 56.
#[test]
fn two_executions_at_once_see_nothing_of_each_other() {
    if !has(Level::Namespaces) {
        return;
    }
    let bench = Bench::new(&config());
    let line = writing(Line::of("touch /workspace/mine /tmp/mine"))
        .then(Connector::Always, "confinement-probe leave")
        .then(Connector::Always, "confinement-probe print secret-argument")
        .then(Connector::Always, "confinement-probe sleep 4343");
    let held = bench.hold(line, "secret-argument");
    check_on(&bench, Line::probe("look"), &[NOTHING]);
    check_on(&bench, writing(Line::of("ls -A /workspace /tmp")), &["/tmp:", "", "/workspace:"]);
    check_on(&bench, Line::of("ls /proc"), &["…", "self", "thread-self"]);
    check_on(&bench, Line::calls("kill -1 9"), &["kill ! ESRCH"]);
    assert!(bench.runs("sleep 4343"), "it was there all the time");
    let ran = held.stop().unwrap();
    assert!(matches!(ran.outcome.ended, Ended::Stopped(_)), "{ran:?}");
}

/// Line 57.
#[test]
fn keys_are_neither_left_nor_found() {
    if !has(Level::Namespaces) {
        return;
    }
    let bench = one_cell();
    let keys =
        "add_key s:user s:left s:x 1 -4 , request_key s:user s:left 0 0 , keyctl 0 -4 0 , keyctl 11 -4 b:8 8";
    for _ in 0..2 {
        let refused = ["add_key ! EPERM", "request_key ! EPERM", "keyctl ! EPERM", "keyctl ! EPERM"];
        check_on(&bench, Line::calls(keys), &refused);
    }
}
