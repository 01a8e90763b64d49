//! Taking more than its share (lines 43 to 51 of the threats), and what the record says of it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use portcullis_core::{CgroupVersion, Ended, Level, Limit};

use crate::harness::{Bench, Line, bench, check, check_end, check_on, config, has};
use crate::host::{Process, descendants};

#[test]
fn memory_over_the_limit_ends_the_execution() {
    if !has(Level::Full) {
        return;
    }
    let line =
        |mebibytes: u32| Line::probe(&format!("allocate {mebibytes}")).limit(|l| l.memory_bytes = 64 << 20);
    check_end(line(16), Ended::Exited(0));
    let ran = bench().run(line(256)).unwrap();
    assert_eq!(ran.outcome.ended, Ended::Limited(Limit::Memory), "{ran:?}");
    if let Some(peak) = ran.outcome.usage.peak_memory_bytes {
        assert!(peak <= 65 << 20, "{peak}");
    }
}

#[test]
fn files_of_the_workspace_count_as_memory_too() {
    if !has(Level::Full) {
        return;
    }
    let line = Line::probe("write-until-full /workspace/big").write("/workspace").limit(|l| {
        l.memory_bytes = 64 << 20;
        l.disk_bytes = 256 << 20;
        l.file_size_bytes = 256 << 20;
    });
    check_end(line, Ended::Limited(Limit::Memory));
}

#[test]
fn the_workspace_is_bounded_in_bytes_and_names() {
    let line =
        |words: &str| Line::probe(words).write("/workspace").write("/tmp").limit(|l| l.disk_bytes = 8 << 20);
    for path in ["/workspace/big", "/tmp/big"] {
        check(line(&format!("write-until-full {path}")), &["full after 8 MiB ! ENOSPC"]);
    }
    check(line("names-until-full /workspace"), &["full after 327…"]);
}

#[test]
fn a_file_is_bounded() {
    let line = Line::probe("write-until-full /workspace/big")
        .write("/workspace")
        .limit(|l| l.file_size_bytes = 2 << 20);
    check_end(line, Ended::Limited(Limit::FileSize));
}

#[test]
fn processes_and_threads_are_bounded() {
    if !has(Level::Full) {
        return;
    }
    for case in ["bomb", "threads"] {
        let ran = bench().run(Line::probe(case).limit(|l| l.processes = 10)).unwrap();
        assert_eq!(ran.outcome.ended, Ended::Limited(Limit::Processes), "{ran:?}");
        assert_eq!(ran.stdout.trim(), "refused after 9: EAGAIN", "{ran:?}");
    }
    check(Line::probe("print after"), &["after"]);
}

/// Line 44.
#[test]
fn more_processes_than_allowed_are_refused() {
    if !has(Level::Full) {
        return;
    }
    let line = |count: u32| Line::probe(&format!("forks {count}")).limit(|l| l.processes = 10);
    check(line(9), &["made 9"]);
    check(line(150), &["refused after 9: EAGAIN"]);
}

/// Line 43.
#[test]
fn memory_of_one_process_is_bounded_whatever_counts_it() {
    if !has(Level::Namespaces) {
        return;
    }
    let line =
        |mebibytes: u32| Line::probe(&format!("allocate {mebibytes}")).limit(|l| l.memory_bytes = 64 << 20);
    check(line(16), &["holding 16"]);
    check(line(256), &[]);
}

/// Lines 43 and 44.
#[test]
fn the_control_group_of_a_cell_holds_the_limits_of_its_line() {
    if !has(Level::Full) {
        return;
    }
    let bench = Bench::new(&portcullis_sandbox::Config { cells: 1, ..config() });
    let line = Line::probe("print x").limit(|l| {
        l.memory_bytes = 64 << 20;
        l.processes = 10;
    });
    check_on(&bench, line, &["x"]);
    let version = bench.sandbox.confinement().cgroup.unwrap();
    let file = |controller: &str, name: &str| {
        let path = group_of_a_cell(bench.launcher, controller).join(name);
        std::fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
    };
    let memory = (64 << 20).to_string();
    let expected: &[(&str, &str, &str)] = match version {
        CgroupVersion::V1 => &[
            ("memory", "memory.limit_in_bytes", &memory),
            ("memory", "memory.memsw.limit_in_bytes", &memory),
            ("memory", "memory.swappiness", "0"),
            ("pids", "pids.max", "12"),
        ],
        CgroupVersion::V2 => {
            &[("", "memory.max", &memory), ("", "memory.swap.max", "0"), ("", "pids.max", "12")]
        }
    };
    for (controller, name, value) in expected {
        // What counts swap is left out where the kernel has none.
        let optional = name.contains("swap") || name.contains("memsw");
        match file(controller, name) {
            None if optional => eprintln!("this kernel has no {name}"),
            found => assert_eq!(found.as_deref(), Some(*value), "{name}"),
        }
    }
}

/// Returns the group that the one cell of a launcher is in.
fn group_of_a_cell(launcher: u32, controller: &str) -> PathBuf {
    let is_cell = |process: &&Process| process.parent == launcher;
    let cell = descendants(launcher).iter().find(is_cell).unwrap().pid;
    let groups = std::fs::read_to_string(format!("/proc/{cell}/cgroup")).unwrap();
    let group = groups.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        (parts.next()? == controller).then(|| parts.next().unwrap().to_owned())
    });
    let top = Path::new("/sys/fs/cgroup").join(controller);
    top.join(group.unwrap().trim_start_matches('/'))
}

#[test]
fn cpu_time_is_bounded_over_all_processes() {
    if !has(Level::Full) {
        return;
    }
    let line =
        Line::probe("spin").pipe("confinement-probe spin").limit(|l| l.cpu_time = Duration::from_millis(600));
    let ran = bench().run(line).unwrap();
    assert_eq!(ran.outcome.ended, Ended::Limited(Limit::CpuTime), "{ran:?}");
    assert!(ran.outcome.usage.cpu_time >= Duration::from_millis(600), "{ran:?}");
}

#[test]
fn time_is_bounded_for_who_sleeps_spins_or_does_not_listen() {
    for case in ["sleep 60", "stubborn 60", "spin"] {
        let line = Line::probe(case).limit(|l| {
            l.wall_time = Duration::from_millis(300);
            l.grace_period = Duration::from_millis(200);
        });
        check_end(line, Ended::Limited(Limit::WallTime));
    }
}

#[test]
fn output_is_bounded_and_what_fits_is_kept() {
    if !has(Level::Namespaces) {
        return;
    }
    let ran = bench().run(Line::probe("flood 10000000").limit(|l| l.output_bytes = 100_000)).unwrap();
    assert_eq!(ran.outcome.ended, Ended::Limited(Limit::Output), "{:?}", ran.outcome);
    assert!(ran.outcome.truncated);
    assert_eq!(ran.stdout.len(), 100_000);
    let ran = bench().run(Line::probe("flood 100000").limit(|l| l.output_bytes = 100_000)).unwrap();
    assert_eq!(
        (ran.outcome.ended, ran.outcome.truncated),
        (Ended::Exited(0), false),
        "exactly the limit is within it"
    );
}

#[test]
fn open_files_are_bounded() {
    let opens = "openat -100 s:/dev/null 0 , openat -100 s:/dev/null 0 , openat -100 s:/dev/null 0";
    check(Line::calls(opens).limit(|l| l.open_files = 5), &["openat = 3", "openat = 4", "openat ! EMFILE"]);
}
