//! What thousands of executions of every kind leave behind (line 79 of the threats): nothing.
//!
//! `PORTCULLIS_EXECUTIONS` says how many there are; some hundred in each run of the tests.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use portcullis_core::{Connector, Ended, LaunchError, Level, Limit, RedirectionTarget};
use portcullis_sandbox::Config;

use crate::harness::{Bench, Line, as_root, config, has, writing};
use crate::host::{descendants, wait_until, workshop};

/// How many executions there are where nobody says.
const FEW: usize = 400;
/// How many there are before the first look, so that whatever is made once is made.
const WARM_UP: usize = 400;
/// Set in the process that does the work, which is of its own: its descriptors and its memory are looked at too.
const ALONE: &str = "PORTCULLIS_ALONE";

const KIB: u64 = 1024;

#[test]
#[expect(clippy::disallowed_methods, reason = "this executable again, for this test alone")]
fn executions_of_every_kind_leave_nothing() {
    if !has(Level::Full) || !as_root("what launcher and cells hold") {
        return;
    }
    if std::env::var_os(ALONE).is_none() {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "leaks::executions_of_every_kind_leave_nothing", "--nocapture"])
            .env(ALONE, "1")
            .stdin(Stdio::null())
            .output()
            .unwrap();
        eprintln!("{}", String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        return;
    }
    let count = std::env::var("PORTCULLIS_EXECUTIONS").ok().and_then(|text| text.parse().ok()).unwrap_or(FEW);
    let state = workshop().join("state/leaks");
    std::fs::create_dir(&state).unwrap();
    let bench = Bench::new(&Config { cells: 2, state_directory: state.clone(), ..config() });
    execute(&bench, WARM_UP);
    let before = look(&bench, &state);
    let began = Instant::now();
    execute(&bench, count);
    let seconds = began.elapsed().as_secs_f64();
    let after = look(&bench, &state);
    eprintln!("{count} executions in {seconds:.1} s\n{:<44} {:>12} {:>12}", "", "before", "after");
    for (name, value) in &before.counts {
        eprintln!("{name:<44} {value:>12} {:>12}", after.counts.get(name).copied().unwrap_or_default());
    }
    for (name, (kib, _)) in &before.memory {
        eprintln!("{name:<44} {kib:>8} KiB {:>8} KiB", after.memory.get(name).unwrap().0);
    }
    assert_eq!(
        after.counts, before.counts,
        "processes, mounts, groups, namespaces, descriptors, directories"
    );
    for (name, (kib, more)) in &before.memory {
        let (now, _) = after.memory.get(name).unwrap();
        assert!(*now <= kib + more, "{name}: {kib} KiB before, {now} KiB after");
    }
}

/// Runs that many executions, two at a time.
fn execute(bench: &Bench, count: usize) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        return;
                    }
                    one(bench, number);
                }
            });
        }
    });
}

/// One execution: most end as they should, some take a limit, are killed or never start.
fn one(bench: &Bench, number: usize) {
    let short = |line: Line| {
        line.limit(|l| {
            l.wall_time = Duration::from_millis(40);
            l.grace_period = Duration::from_millis(10);
        })
    };
    let (line, expected) = match number % 200 {
        11 => (short(Line::probe("sleep 9")), Ended::Limited(Limit::WallTime)),
        31 => (short(Line::probe("stubborn 9").pipe("cat")), Ended::Limited(Limit::WallTime)),
        51 => {
            (Line::probe("flood 50000000").limit(|l| l.output_bytes = 10_000), Ended::Limited(Limit::Output))
        }
        71 => (Line::probe("bomb").limit(|l| l.processes = 10), Ended::Limited(Limit::Processes)),
        91 => {
            (Line::probe("allocate 200").limit(|l| l.memory_bytes = 48 << 20), Ended::Limited(Limit::Memory))
        }
        111 => {
            let line = writing(Line::probe("write-until-full /workspace/big"));
            (line.limit(|l| l.file_size_bytes = 1 << 20), Ended::Limited(Limit::FileSize))
        }
        131 => (Line::probe("hide 9"), Ended::Exited(0)),
        151 => (Line::probe("leave"), Ended::Exited(0)),
        171 => {
            let held = bench.hold(Line::probe("polite"), "waiting");
            let ran = held.stop().unwrap();
            assert!(matches!(ran.outcome.ended, Ended::Stopped(_)), "{ran:?}");
            return;
        }
        191 => {
            let refused = bench.run(Line::of("no-such-program"));
            assert!(matches!(refused, Err(LaunchError::Program { .. })), "{refused:?}");
            return;
        }
        _ => match number % 10 {
            0 => (writing(Line::of("touch /workspace/f /tmp/f")), Ended::Exited(0)),
            1 => (Line::of("echo some text").pipe("cat").pipe("wc -l"), Ended::Exited(0)),
            2 => (Line::probe("exit 3"), Ended::Exited(3)),
            3 => (Line::probe("signal 9"), Ended::Signaled(9)),
            4 => (writing(Line::probe("tangle /workspace 30")), Ended::Exited(0)),
            5 => {
                let line = Line::of("cat").redirect(0, RedirectionTarget::Read("/workspace/none".into()));
                (line, Ended::Exited(1))
            }
            6 => (writing(Line::of("mkdir d")).then(Connector::IfSucceeded, "ls -A"), Ended::Exited(0)),
            7 => (Line::of("false").then(Connector::IfFailed, "true"), Ended::Exited(0)),
            _ => (Line::of("true"), Ended::Exited(0)),
        },
    };
    let ran = bench.run(line).unwrap();
    assert_eq!(ran.outcome.ended, expected, "execution {number}: {:?}", ran.outcome);
}

/// What there is at a quiet moment.
struct Seen {
    /// What must be the same again.
    counts: BTreeMap<String, usize>,
    /// KiB of memory, and how many more there may be: allocators keep a little, and each page table is a page.
    memory: BTreeMap<String, (u64, u64)>,
}

fn look(bench: &Bench, state: &Path) -> Seen {
    // Each cell runs the same line last, so that both are in the same view.
    let last = || writing(Line::probe("print here")).then(Connector::Always, "confinement-probe sleep 30");
    let both = [bench.hold(last(), "here"), bench.hold(last(), "here")];
    for held in both {
        drop(held.stop().unwrap());
    }
    let cells = || -> Vec<u32> {
        let family = descendants(bench.launcher).into_iter();
        family.filter(|process| process.parent == bench.launcher).map(|process| process.pid).collect()
    };
    // A cell has answered before it has taken mounts away and made two empty file systems for the next that writes.
    wait_until("two cells at rest, and nobody else", || {
        let ready = |cell: &u32| {
            let (held, mounts) =
                (descriptors(*cell), std::fs::read_to_string(format!("/proc/{cell}/mountinfo")));
            !held.iter().any(|held| held.starts_with("pipe:"))
                && held.iter().filter(|held| *held == "/").count() == 2
                && mounts.is_ok_and(|mounts| !mounts.contains(" /workspace "))
        };
        descendants(bench.launcher).len() == 2 && cells().len() == 2 && cells().iter().all(ready)
    });
    let cells = cells();
    let family: Vec<u32> = std::iter::once(bench.launcher).chain(cells.iter().copied()).collect();
    let own = std::process::id();
    let mut counts = BTreeMap::new();
    let mut count = |name: &str, value: usize| counts.insert(name.to_owned(), value);
    count("processes of the launcher", family.len());
    count("descriptors of the service", descriptors(own).len());
    count("descriptors of the launcher", descriptors(bench.launcher).len());
    // Views and rulesets that a cell keeps are bounded; a cell that was made anew since has made others.
    let kept = |cell: &u32| {
        let cached = ["mnt:[", "anon_inode:[landlock-ruleset]", "anon_inode:landlock-ruleset"];
        let held = descriptors(*cell);
        held.iter().filter(|held| cached.iter().any(|beginning| held.starts_with(beginning))).count()
    };
    assert!(cells.iter().map(kept).all(|kept| kept <= 33 + 64), "views and rulesets of the cells");
    let held = |cell: &u32| descriptors(*cell).len() - kept(cell);
    count("descriptors of the cells, but for those kept", cells.iter().map(held).sum());
    count("mounts of the cells", cells.iter().map(|cell| lines(*cell, "mountinfo")).sum());
    count("namespaces of the family", namespaces(&family).len());
    count("control groups", groups(Path::new("/sys/fs/cgroup"), bench.launcher, 0));
    count("entries of the state directory", entries(state));
    count("entries of the tests' directory", entries(workshop()));
    count("threads of the service", lines_of("/proc/self/status", "Threads:"));
    let mut memory = BTreeMap::new();
    memory.insert("resident memory of the service".into(), (resident(own), 16 * KIB));
    memory.insert("resident memory of the launcher".into(), (resident(bench.launcher), KIB));
    let of_cells = cells.iter().map(|cell| resident(*cell)).sum();
    memory.insert("resident memory of the cells".into(), (of_cells, 4 * KIB));
    Seen { counts, memory }
}

fn descriptors(pid: u32) -> Vec<String> {
    let entries = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let target = |entry: std::fs::DirEntry| std::fs::read_link(entry.path()).ok();
    entries.filter_map(target).map(|target| target.to_string_lossy().into_owned()).collect()
}

fn lines(pid: u32, file: &str) -> usize {
    std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap().lines().count()
}

fn lines_of(file: &str, field: &str) -> usize {
    let text = std::fs::read_to_string(file).unwrap();
    text.lines().find_map(|line| line.strip_prefix(field)).unwrap().trim().parse().unwrap()
}

/// Every namespace that these processes are in. What only a descriptor or a mount keeps is among those.
fn namespaces(pids: &[u32]) -> BTreeSet<String> {
    let of = |pid: &u32| std::fs::read_dir(format!("/proc/{pid}/ns")).into_iter().flatten().flatten();
    let links = pids.iter().flat_map(of).filter_map(|entry| std::fs::read_link(entry.path()).ok());
    links.map(|link| link.to_string_lossy().into_owned()).collect()
}

/// Counts the groups of a launcher in every hierarchy.
fn groups(directory: &Path, launcher: u32, depth: usize) -> usize {
    let name = format!("portcullis-{launcher}");
    let folders = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let folders = folders.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    folders
        .map(|entry| match entry.file_name() == *name {
            true => {
                1 + std::fs::read_dir(entry.path()).unwrap().flatten().filter(|e| e.path().is_dir()).count()
            }
            false if depth < 6 => groups(&entry.path(), launcher, depth + 1),
            false => 0,
        })
        .sum()
}

fn entries(directory: &Path) -> usize {
    let found = std::fs::read_dir(directory).unwrap().flatten();
    found.map(|entry| if entry.path().is_dir() { 1 + entries(&entry.path()) } else { 1 }).sum()
}

/// Resident memory in KiB.
fn resident(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}
