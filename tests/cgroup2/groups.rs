//! What version 2 counts, how it ends what goes too far, and what is left of it.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use portcullis_core::{CgroupVersion, Confinement, Ended, Level, Limit, Outcome};
use portcullis_sandbox::Config;

use crate::harness::{Bench, Line, Watcher, bench, check, config, has};

const MIB: u64 = 1 << 20;

fn alone() -> Bench {
    Bench::new(&Config { cells: 1, ..config() })
}

/// The groups of every launcher that is or was.
fn groups() -> Vec<PathBuf> {
    let entries = fs::read_dir("/sys/fs/cgroup").unwrap().flatten();
    let ours = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with("portcullis-"));
    ours.map(|entry| entry.path()).collect()
}

#[track_caller]
fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < Duration::from_secs(20), "{what} did not come true");
        std::thread::yield_now();
    }
}

#[test]
fn the_record_says_what_is_in_force_and_what_is_weaker() {
    if !has(Level::Full) {
        return;
    }
    let watcher = Arc::new(Watcher::default());
    bench().run_watched(Line::probe("print x"), Arc::clone(&watcher)).unwrap();
    let told = watcher.confinement.lock().unwrap().take().unwrap();
    let Confinement { level, landlock_abi, cgroup, weaker } = told;
    assert_eq!((level, landlock_abi, cgroup), (Level::Full, None, Some(CgroupVersion::V2)));
    assert!(weaker.iter().any(|text| text.starts_with("no Landlock on this kernel")), "{weaker:?}");
    assert!(!weaker.iter().any(|text| text.contains("cgroup")), "{weaker:?}");
}

#[test]
fn who_takes_too_much_memory_has_used_what_its_record_says() {
    if !has(Level::Full) {
        return;
    }
    // Held by a process, held by files that a process larger than the cell writes, and by one that is smaller:
    // the kernel counts what processes hold themselves when it chooses whom to kill.
    let taking = [
        Line::probe("allocate 256"),
        Line::probe("write-until-full /workspace/big").write("/workspace"),
        Line::of("dd if=/dev/zero of=/workspace/big bs=4k").write("/workspace"),
    ];
    for line in taking {
        let line = line.limit(|l| {
            l.memory_bytes = 64 * MIB;
            l.disk_bytes = 256 * MIB;
            l.file_size_bytes = 256 * MIB;
        });
        let ran = bench().run(line).unwrap();
        let Outcome { ended, usage, .. } = &ran.outcome;
        assert_eq!(*ended, Ended::Limited(Limit::Memory), "{usage:?}");
        let peak = usage.peak_memory_bytes.unwrap_or_default();
        assert!((60 * MIB..=65 * MIB).contains(&peak), "{usage:?}");
        let most = usage.wall_time * 2;
        assert!(usage.cpu_time > Duration::ZERO && usage.cpu_time <= most, "{usage:?}");
    }
}

#[test]
fn executions_go_first_and_cannot_help_it() {
    check(Line::of("cat /proc/self/oom_score_adj"), &["1000"]);
    check(Line::calls("openat -100 s:/proc/self/oom_score_adj 1").write("/workspace"), &["openat ! EROFS"]);
}

#[test]
fn when_one_command_of_a_line_takes_too_much_memory_all_of_it_ends() {
    if !has(Level::Full) {
        return;
    }
    let line = Line::probe("stubborn 4711").pipe("confinement-probe allocate 256");
    let ran = bench().run(line.limit(|l| l.memory_bytes = 64 * MIB)).unwrap();
    assert_eq!(ran.outcome.ended, Ended::Limited(Limit::Memory), "{ran:?}");
    assert!(ran.outcome.usage.wall_time < Duration::from_secs(20), "{ran:?}");
}

#[test]
fn a_neighbour_of_who_takes_too_much_memory_ends_unharmed() {
    if !has(Level::Full) {
        return;
    }
    let greedy = || Line::probe("allocate 256").limit(|l| l.memory_bytes = 64 * MIB);
    std::thread::scope(|scope| {
        let neighbour =
            scope.spawn(|| bench().run(Line::probe("sleep 1").limit(|l| l.memory_bytes = 32 * MIB)));
        let ran = bench().run(greedy()).unwrap();
        assert_eq!(ran.outcome.ended, Ended::Limited(Limit::Memory), "{ran:?}");
        let neighbour = neighbour.join().unwrap().unwrap();
        assert_eq!(neighbour.outcome.ended, Ended::Exited(0), "{neighbour:?}");
    });
}

#[test]
fn peak_memory_is_that_of_the_execution() {
    if !has(Level::Full) {
        return;
    }
    let bench = alone();
    let peak = |mebibytes: u64| {
        let ran = bench.run(Line::probe(&format!("allocate {mebibytes}"))).unwrap();
        assert_eq!(ran.outcome.ended, Ended::Exited(0), "{ran:?}");
        ran.outcome.usage.peak_memory_bytes.unwrap()
    };
    let small = peak(8);
    assert!((8 * MIB..=24 * MIB).contains(&small), "{small}");
    let large = peak(96);
    assert!((96 * MIB..=112 * MIB).contains(&large), "{large}");
    // A kernel before 6.12 cannot reset its mark; the large one must not be told of the small one.
    let again = peak(8);
    assert!(again < 64 * MIB, "{again}");
}

#[test]
fn cpu_time_is_counted_over_all_processes_ended_ones_included() {
    if !has(Level::Full) {
        return;
    }
    let limit = Duration::from_millis(600);
    let line = Line::probe("spin").pipe("confinement-probe spin").limit(|l| l.cpu_time = limit);
    let ran = bench().run(line).unwrap();
    assert_eq!(ran.outcome.ended, Ended::Limited(Limit::CpuTime), "{ran:?}");
    let cpu = ran.outcome.usage.cpu_time;
    assert!(cpu >= limit && cpu <= limit + Duration::from_secs(2), "{cpu:?}");
}

#[test]
fn processes_are_refused_at_the_limit_and_a_cell_is_good_for_the_next() {
    if !has(Level::Full) {
        return;
    }
    let bench = alone();
    for _ in 0..3 {
        let ran = bench.run(Line::probe("bomb").limit(|l| l.processes = 10)).unwrap();
        assert_eq!(ran.outcome.ended, Ended::Limited(Limit::Processes), "{ran:?}");
        let ran = bench.run(Line::probe("print next")).unwrap();
        assert_eq!((ran.outcome.ended, ran.stdout.as_str()), (Ended::Exited(0), "next\n"), "{ran:?}");
    }
}

#[test]
fn groups_go_with_the_launcher() {
    if !has(Level::Full) {
        return;
    }
    let before = groups();
    let bench = alone();
    bench.run(Line::probe("print x")).unwrap();
    let new: Vec<PathBuf> = groups().into_iter().filter(|group| !before.contains(group)).collect();
    assert_eq!(new.len(), 1, "{new:?}");
    let cell = new[0].join("cell-0");
    assert!(cell.is_dir());
    let reads = |file: &str| fs::read_to_string(cell.join(file)).unwrap().trim().to_owned();
    assert_eq!(reads("memory.swap.max"), "0");
    drop(bench);
    wait_until("the end of the launcher's group", || !new[0].exists());
}

#[test]
fn an_execution_uses_no_more_of_the_processors_than_its_share() {
    if !has(Level::Full) {
        return;
    }
    let before = groups();
    let bench = Bench::new(&Config { cells: 1, cpu_thousandths: Some(250), ..config() });
    let line =
        Line::probe("spin").pipe("confinement-probe spin").limit(|l| l.wall_time = Duration::from_secs(2));
    let ran = bench.run(line).unwrap();
    assert_eq!(ran.outcome.ended, Ended::Limited(Limit::WallTime), "{ran:?}");
    let (used, wall) = (ran.outcome.usage.cpu_time, ran.outcome.usage.wall_time);
    assert!(used <= wall / 4 + Duration::from_millis(300), "{used:?} in {wall:?}");
    let new: Vec<PathBuf> = groups().into_iter().filter(|group| !before.contains(group)).collect();
    let reads = |file: &str| fs::read_to_string(new[0].join("cell-0").join(file)).unwrap().trim().to_owned();
    assert_eq!((reads("cpu.max"), reads("cpu.weight")), ("25000 100000".into(), "100".into()));
}
