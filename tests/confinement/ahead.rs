//! A cell makes the first process of the next execution beforehand. Each has namespaces of its own all the same, and
//! nothing of one execution is in them when the next one comes.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use portcullis_core::{Ended, Level};
use portcullis_sandbox::Config;

use crate::harness::{Bench, Line, as_root, config, has, writing};
use crate::host::{descendants, wait_until};

fn one_cell() -> Bench {
    Bench::new(&Config { cells: 1, ..config() })
}

fn comm(pid: u32) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim().to_owned()
}

/// Makes a line.
type Make = fn() -> Line;

/// The first process that waits for the next execution.
fn waiting(bench: &Bench) -> Option<u32> {
    let inits = descendants(bench.launcher).into_iter().map(|process| process.pid);
    inits.into_iter().find(|&pid| comm(pid) == "portcullis-next" && field(pid, "State:").starts_with('S'))
}

fn next(bench: &Bench) -> u32 {
    wait_until("an init that waits", || waiting(bench).is_some());
    waiting(bench).unwrap()
}

fn alive(pid: u32) -> bool {
    !matches!(field(pid, "State:").chars().next(), None | Some('Z'))
}

fn field(pid: u32, name: &str) -> String {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let value = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    value.trim().to_owned()
}

fn namespace(pid: u32, kind: &str) -> PathBuf {
    std::fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap()
}

#[test]
fn the_init_that_waits_holds_nothing_and_may_do_nothing() {
    if !has(Level::Namespaces) || !as_root("the processes of a cell") {
        return;
    }
    let bench = one_cell();
    bench.run(Line::of("true")).unwrap();
    let init = next(&bench);
    let cell = descendants(bench.launcher).into_iter().find(|process| process.pid == init).unwrap().parent;
    for kind in ["pid_for_children", "ipc"] {
        assert_ne!(namespace(init, kind), namespace(cell, kind), "{kind}");
    }
    for kind in ["user", "net", "uts", "cgroup", "mnt"] {
        assert_eq!(namespace(init, kind), namespace(cell, kind), "{kind}");
    }
    assert_eq!(field(init, "CapEff:"), "0000000000000000");
    assert_eq!(field(init, "CapBnd:"), field(cell, "CapBnd:").replace(|digit| digit != '0', "0"));
    assert_eq!((field(init, "NoNewPrivs:"), field(init, "Seccomp:")), ("1".into(), "2".into()));
    let filters = |pid| field(pid, "Seccomp_filters:").parse::<u32>().unwrap();
    assert_eq!(filters(init), filters(cell) + 1, "the closing one is on");
    assert_eq!(field(init, "Threads:"), "1");
}

#[test]
fn the_next_execution_of_its_kind_is_in_it_and_every_one_in_namespaces_of_its_own() {
    if !has(Level::Namespaces) || !as_root("the processes of a cell") {
        return;
    }
    let bench = one_cell();
    let mut seen = Vec::new();
    for line in [|| Line::probe("print ready"), || writing(Line::probe("print ready"))] {
        assert_eq!(bench.run(line()).unwrap().stdout, "ready\n");
        for _ in 0..3 {
            let init = next(&bench);
            let hold = Line::probe("polite");
            let hold = if seen.len() < 6 { hold } else { writing(hold) };
            let held = bench.hold(hold, "waiting");
            assert_eq!(comm(init), "portcullis-init", "the one that waited");
            let command = descendants(init);
            assert!(command.iter().any(|process| process.command_line.contains("polite")), "{command:?}");
            let command = command[0].pid;
            assert_eq!(namespace(command, "pid"), namespace(init, "pid_for_children"));
            // Held open: the kernel gives the number of a namespace that is gone to another.
            let open = |kind: &str| std::fs::File::open(format!("/proc/{command}/ns/{kind}")).unwrap();
            seen.extend([open("pid"), open("ipc")]);
            held.stop().unwrap();
            wait_until("its end", || !alive(init));
        }
    }
    let numbers: BTreeSet<u64> = seen.iter().map(|file| file.metadata().unwrap().ino()).collect();
    assert_eq!(numbers.len(), seen.len(), "each had its own");
}

#[test]
fn another_kind_of_line_finds_nothing_of_the_one_that_was_expected() {
    if !has(Level::Namespaces) {
        return;
    }
    let bench = one_cell();
    let cell = || descendants(bench.launcher).iter().map(|process| process.pid).min();
    let first = cell();
    let mounts = "cat /proc/self/mounts";
    let expected = bench.run(Line::of(mounts)).unwrap().stdout;
    let others: [(&str, Make); 6] = [
        ("a reader of another program", || Line::of("true")),
        ("one that writes", || writing(Line::of("true"))),
        ("one with a /proc of its own", || Line::probe("print ready")),
        ("one that writes, with a /proc of its own", || writing(Line::probe("print ready"))),
        ("one that is not plain", || {
            Line::of("true").change_directory("/usr").then(portcullis_core::Connector::Always, "true")
        }),
        ("one that cannot run", || Line::of("no-such-program")),
    ];
    for (kind, line) in others {
        let _ = bench.run(line());
        assert_eq!(bench.run(Line::of(mounts)).unwrap().stdout, expected, "after {kind}");
    }
    assert_eq!(cell(), first, "the same cell");
}

#[test]
fn an_init_that_is_killed_while_it_waits_is_missed_by_nobody() {
    if !has(Level::Namespaces) {
        return;
    }
    let bench = one_cell();
    let kill = |pid: u32| {
        #[expect(clippy::disallowed_methods, reason = "a process of the test's own is killed")]
        let killed = std::process::Command::new("kill").args(["-KILL", &pid.to_string()]).status().unwrap();
        assert!(killed.success());
    };
    for words in ["print ready", "print again", "print at last"] {
        let ran = bench.run(Line::probe(words)).unwrap();
        assert_eq!(ran.outcome.ended, Ended::Exited(0));
        let init = next(&bench);
        kill(init);
        wait_until("its end", || !alive(init));
    }
    // And with its cell it ends.
    bench.run(Line::of("true")).unwrap();
    let init = next(&bench);
    kill(descendants(bench.launcher).into_iter().find(|process| process.pid == init).unwrap().parent);
    wait_until("its end", || !alive(init));
}
