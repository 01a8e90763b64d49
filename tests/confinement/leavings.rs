//! What one execution leaves for the next in its cell, and what it shows to another at the same time (lines 56 and
//! 57 of the threats): nothing.

use portcullis_core::{Connector, Ended, Level};

use crate::harness::{Bench, Line, check_on, config, has, writing};
use crate::host::wait_until;

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
    wait_until("its last command", || bench.runs("sleep 4343"));
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

/// What a process is born with, but for what is another's for each.
fn state_of_a_process(bench: &Bench) -> Vec<String> {
    let ran = bench
        .run(Line::of(
            "cat /proc/self/limits /proc/self/status /proc/self/oom_score_adj /proc/self/coredump_filter",
        ))
        .unwrap();
    let varies = ["Pid:", "Tgid:", "PPid:", "NS", "Vm", "Rss", "HugetlbPages", "CoreDumping", "State"];
    let varies =
        |line: &str| varies.iter().any(|field| line.starts_with(field)) || line.contains("ctxt_switches");
    let lines: Vec<String> = ran.stdout.lines().filter(|line| !varies(line)).map(str::to_owned).collect();
    for field in ["Max open files", "SigQ", "SigIgn", "Cpus_allowed:", "Umask"] {
        assert!(lines.iter().any(|line| line.starts_with(field)), "{field}: {ran:?}");
    }
    lines
}

/// Line 57.
#[test]
fn limits_signals_and_places_are_those_of_the_first_for_every_execution() {
    if !has(Level::Namespaces) {
        return;
    }
    let bench = one_cell();
    let first = state_of_a_process(&bench);
    // Limits, blocked and ignored signals, a queued one, an alarm, processors, priorities, the slack of timers, a
    // subreaper, a filter more, a group of processes of its own.
    let mess = "confinement-probe call prlimit64 0 7 w:20/20 0 , prlimit64 0 2 w:1048576/1048576 0 , \
                rt_sigprocmask 0 w:0xfffffffe00000000 0 8 , rt_sigaction 10 w:1/0/0/0 0 8 , alarm 1000 , \
                sched_setaffinity 0 8 w:1 , setpriority 0 0 19 , ioprio_set 1 0 0x6007 , prctl 29 1000000000 0 0 0 , \
                prctl 36 1 0 0 0 , setpgid 0 0 , umask 63 , getpid";
    let line = writing(Line::of("true")).then(Connector::Always, mess);
    let line = line.then(Connector::Always, "confinement-probe queue-signals");
    let line = line.then(Connector::Always, "confinement-probe hide 99");
    for _ in 0..3 {
        let ran = bench.run(line.clone()).unwrap();
        assert!(!ran.stdout.contains('!') && ran.stdout.contains("hidden"), "{ran:?}");
        assert_eq!(state_of_a_process(&bench), first);
    }
}

/// Lines 57 and 58. Processes are counted for a uid until they are reaped.
#[test]
fn a_uid_that_was_busy_is_not_for_the_next() {
    if !has(Level::Namespaces) {
        return;
    }
    let mut benches = vec![one_cell()];
    if crate::harness::as_root("what an ordinary user's service does") {
        let config = portcullis_sandbox::Config { cells: 1, ..config() };
        benches.extend(Bench::started_as("probe-as-nobody", &config));
    }
    for bench in benches {
        for _ in 0..10 {
            let few = |line: Line| line.limit(|l| l.processes = 10);
            let ran = bench.run(few(Line::probe("bomb"))).unwrap();
            assert!(ran.stdout.contains("refused after"), "{ran:?}");
            check_on(&bench, few(Line::probe("forks 9")), &["made 9"]);
        }
    }
}

/// Line 57. What is shared with the host has no place to leave anything at.
#[test]
fn there_is_no_shared_memory_and_no_directory_that_two_executions_share() {
    if !has(Level::Namespaces) {
        return;
    }
    let bench = one_cell();
    let everywhere =
        ["/dev/shm/x", "/dev/mqueue/x", "/run/x", "/var/tmp/x", "/home/user/x", "/etc/x", "/x", "/proc/x"];
    for place in everywhere {
        let ran = bench.run(writing(Line::calls(&format!("openat -100 s:{place} 0x41 420")))).unwrap();
        let refused = ["openat ! ENOENT\n", "openat ! EROFS\n", "openat ! EACCES\n"];
        assert!(refused.contains(&ran.stdout.as_str()), "{place}: {ran:?}");
    }
}

/// Line 57. A lock on a file that executions share ends with who held it.
#[test]
fn a_lock_on_a_shared_file_ends_with_its_execution() {
    if !has(Level::Namespaces) {
        return;
    }
    let bench = one_cell();
    // LOCK_EX, which a command that may write can take; LOCK_NB beside it, so that nobody waits.
    let lock = || writing(Line::calls("openat -100 s:/usr/bin/env 0 , flock $0 6"));
    for _ in 0..3 {
        check_on(
            &bench,
            lock().then(Connector::Always, "confinement-probe hide 99"),
            &["openat = 3", "flock = 0", "hidden"],
        );
    }
}
