//! Neighbours that behave badly, and cells after them (lines 19 to 26, 58 and 59 of the threats).

use std::time::Duration;

use portcullis_core::{CgroupVersion, Connector, Ended, Level, Limit};
use portcullis_sandbox::Config;

use crate::harness::{Bench, Line, bench, check_end_on, check_on, config, has, skip, writing};
use crate::host::{descendants, wait_until};

/// Line 58.
#[test]
fn a_neighbour_at_half_its_limits_is_unharmed() {
    if !has(Level::Full) {
        return;
    }
    let bench = Bench::new(&config());
    let greedy = |case: &str| {
        Line::probe(case).limit(|l| {
            l.processes = 40;
            l.memory_bytes = 64 << 20;
            l.wall_time = Duration::from_secs(20);
        })
    };
    for (case, sign) in
        [("bomb", ""), ("hydra 8", "growing heads"), ("threads", ""), ("spin", "spinning"), ("zombies", "")]
    {
        let held = bench.hold(greedy(case), sign);
        let quiet = Line::probe("half 20").limit(|l| {
            l.processes = 40;
            l.memory_bytes = 32 << 20;
        });
        check_on(&bench, quiet, &["unharmed"]);
        drop(held.stop());
    }
}

/// Line 59.
#[test]
fn a_cell_is_fit_for_the_next_whatever_its_execution_did() {
    if !has(Level::Namespaces) {
        return;
    }
    let bench = Bench::new(&portcullis_sandbox::Config { cells: 1, ..config() });
    let short = |line: Line| {
        line.limit(|l| {
            l.wall_time = Duration::from_millis(400);
            l.grace_period = Duration::from_millis(50);
            l.processes = 30;
            l.memory_bytes = 48 << 20;
            l.output_bytes = 10_000;
        })
    };
    for line in [
        Line::probe("signal 11"),
        Line::probe("exit 1"),
        Line::calls("kill -1 9 , kill -1 19 , kill 1 19 , kill 1 9"),
        Line::probe("sleep 9").pipe("confinement-probe call kill -1 9"),
        Line::probe("stop-myself"),
        Line::probe("bomb"),
        Line::probe("hydra 4"),
        Line::probe("allocate 200"),
        Line::probe("flood 100000"),
        Line::probe("vfork"),
        Line::probe("reaper"),
        Line::probe("hide 999"),
        writing(Line::probe("tangle /workspace 500")),
        Line::probe("fork call kill -1 19"),
    ] {
        let ran = bench.run(short(line)).unwrap();
        let next = bench.run(Line::probe("print fit")).unwrap();
        assert_eq!((next.stdout.as_str(), next.outcome.ended), ("fit\n", Ended::Exited(0)), "after {ran:?}");
    }
}

/// Line 20.
#[test]
fn killing_everybody_ends_ones_own_execution_at_most() {
    if !has(Level::Namespaces) {
        return;
    }
    let bench = Bench::new(&config());
    let held =
        bench.hold(Line::probe("print here").then(Connector::Always, "confinement-probe sleep 5151"), "here");
    wait_until("the start of the other", || bench.runs("sleep 5151"));
    // Its own child ends; the other execution, and the cells, go on.
    check_on(&bench, Line::probe("kill-everybody"), &["kill = 0", "the child ended by 9"]);
    assert!(bench.runs("sleep 5151"));
    drop(held.stop());
}

/// Line 20.
#[test]
fn a_signal_reaches_nobody_outside_by_any_call() {
    if !has(Level::Namespaces) {
        return;
    }
    let bench = Bench::new(&config());
    // The numbers that our own process and the launcher have outside mean nobody inside.
    for pid in [std::process::id(), bench.launcher] {
        let calls = format!(
            "call kill {pid} 0 , kill -{pid} 9 , tgkill {pid} {pid} 9 , tkill {pid} 9 , pidfd_open {pid} 0 , \
             rt_sigqueueinfo {pid} 9 w:9/0xffffffff/0/0/0/0/0/0/0/0/0/0/0/0/0/0 , openat -100 s:/proc/{pid}/exe 0 , openat -100 s:/proc/{pid}/fd 0 , \
             sched_setaffinity {pid} 8 w:1 , prlimit64 {pid} 7 0 b:16"
        );
        let absent = ["kill", "kill", "tgkill", "tkill", "pidfd_open", "rt_sigqueueinfo"]
            .map(|call| format!("{call} ! ESRCH"));
        let mut expected: Vec<&str> = absent.iter().map(String::as_str).collect();
        expected.extend([
            "openat ! ENOENT",
            "openat ! ENOENT",
            "sched_setaffinity ! ESRCH",
            "prlimit64 ! ESRCH",
        ]);
        crate::harness::check_everywhere_on(&bench, &calls, writing, &expected);
    }
}

/// Line 23. The launcher is the same file as the probe.
#[test]
fn the_services_executable_stays_as_it_is() {
    use std::os::unix::fs::MetadataExt;
    if !has(Level::Namespaces) {
        return;
    }
    let bench = Bench::new(&config());
    let file = crate::host::workshop().join("bin/confinement-probe");
    let state = || {
        let found = std::fs::metadata(&file).unwrap();
        let times = (found.mtime(), found.mtime_nsec(), found.ctime(), found.ctime_nsec());
        (std::fs::read(&file).unwrap(), found.mode(), found.nlink(), found.uid(), times)
    };
    let before = state();
    let own = "/probe/confinement-probe";
    let calls = format!(
        "call openat -100 s:/proc/self/exe 1 , openat -100 s:/proc/self/exe 0x201 , openat -100 s:{own} 2 , truncate s:{own} 0 , \
         unlinkat -100 s:{own} 0 , renameat2 -100 s:{own} -100 s:/tmp/p 0 , linkat -100 s:{own} -100 s:/tmp/p 0 , \
         openat -100 s:/proc/{}/exe 1 , openat -100 s:/proc/1/exe 1 , openat -100 s:/proc/self/exe 0 , ftruncate $9 0 , \
         mmap 0 4096 3 1 $9 0",
        bench.launcher
    );
    let refused = [
        "openat ! EACCES",
        "openat ! EROFS",
        "openat ! EACCES",
        "truncate ! EACCES",
        "unlinkat ! EROFS",
        "renameat2 ! …",
        "linkat ! EXDEV",
        "openat ! ENOENT",
        "openat ! ENOENT",
        "openat = 3",
        "ftruncate ! EINVAL",
        "mmap ! EACCES",
    ];
    crate::harness::check_everywhere_on(&bench, &calls, writing, &refused);
    assert!(state() == before, "its bytes, mode, links, owner and times");
}

/// Line 27. A set of processors holds whoever starts the service, and so every command.
#[test]
fn a_command_leaves_no_set_of_processors() {
    if !has(Level::Namespaces) || !crate::harness::as_root("a set of processors") {
        return;
    }
    struct Set(std::path::PathBuf);
    impl Drop for Set {
        fn drop(&mut self) {
            wait_until("the end of the set", || std::fs::remove_dir(&self.0).is_ok());
        }
    }
    let top = std::path::Path::new("/sys/fs/cgroup/cpuset");
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let set = Set(top.join(format!("of-the-tests-{}", std::process::id())));
    if processors < 2 || std::fs::create_dir(&set.0).is_err() {
        std::mem::forget(set);
        return crate::harness::skip("no set of processors can be made here");
    }
    std::fs::write(set.0.join("cpuset.mems"), "0").unwrap();
    std::fs::write(set.0.join("cpuset.cpus"), "0").unwrap();
    let place = crate::host::workshop().join("place");
    std::fs::write(&place, set.0.join("cgroup.procs").as_os_str().as_encoded_bytes()).unwrap();
    let bench = Bench::started_as("probe-placed", &config()).unwrap();
    let calls = "call sched_setaffinity 0 8 w:2 , sched_setaffinity 0 8 w:3 , sched_setaffinity 0 8 w:1";
    // What is outside is left out, where something is left.
    let held = ["sched_setaffinity ! EINVAL", "sched_setaffinity = 0", "sched_setaffinity = 0"];
    crate::harness::check_everywhere_on(&bench, calls, writing, &held);
    check_on(&bench, Line::of("grep -E ^Cpus_allowed_list: /proc/self/status"), &["Cpus_allowed_list:\t0"]);
    // The control: outside of the set there is another.
    check_on(&Bench::new(&config()), Line::calls("sched_setaffinity 0 8 w:2"), &["sched_setaffinity = 0"]);
    drop(bench);
}

/// Line 21.
#[test]
fn processes_of_one_execution_do_not_trace_each_other() {
    if !has(Level::Namespaces) {
        return;
    }
    let bench = Bench::new(&config());
    // 2 is the first command of the pipeline, 3 the one that asks.
    let asks = "confinement-probe call ptrace 16 2 0 0 , ptrace 0x4206 2 0 0 , process_vm_readv 2 b:16 1 b:16 1 0 , \
                process_vm_writev 2 b:16 1 b:16 1 0 , kcmp 2 3 0 0 0 , pidfd_open 2 0 , pidfd_getfd $5 0 0 , \
                process_madvise $5 0 0 0 0 , ptrace 0 0 0 0 , kill 2 9";
    let refused = [
        "ptrace ! EPERM",
        "ptrace ! EPERM",
        "process_vm_readv ! EPERM",
        "process_vm_writev ! EPERM",
        "kcmp ! EPERM",
        "pidfd_open = 3",
        "pidfd_getfd ! EPERM",
        "process_madvise ! EPERM",
        "ptrace ! EPERM",
        // Each command is in a Landlock scope of its own.
        "kill ! EPERM",
    ];
    check_on(&bench, Line::probe("sleep 1").pipe(asks), &refused);
}

/// Line 22.
#[test]
fn the_first_process_stays_whatever_is_sent_to_it() {
    if !has(Level::Namespaces) {
        return;
    }
    let bench = Bench::new(&config());
    let every: Vec<String> = (1..65).map(|signal| format!("kill 1 {signal}")).collect();
    let ran = bench.run(Line::calls(&format!("{} , getuid", every.join(" , ")))).unwrap();
    assert!(ran.stdout.ends_with("getuid = 1000\n"), "{ran:?}");
    assert_eq!(ran.outcome.ended, Ended::Exited(0), "SIGTERM from inside does not stop it: {ran:?}");
}

/// Line 26.
#[test]
fn nothing_outlives_its_execution_however_it_hides() {
    if !has(Level::Namespaces) {
        return;
    }
    let bench = Bench::new(&config());
    for (case, sign) in [
        ("hydra 6", "growing heads"),
        ("reaper", "reaping"),
        ("stop-myself", "stopping"),
        ("vfork", "hanging"),
        ("stubborn 6060", "deaf to TERM"),
    ] {
        let line = Line::probe(case).limit(|l| l.grace_period = Duration::from_millis(200));
        let held = bench.hold(line, sign);
        assert!(bench.runs(&format!("confinement-probe {case}")), "{case} was alive before");
        let ran = held.stop().unwrap();
        assert!(matches!(ran.outcome.ended, Ended::Stopped(_)), "{case}: {ran:?}");
        assert!(!bench.runs(&format!("confinement-probe {case}")), "{case} is dead after");
        assert!(ran.outcome.usage.wall_time < Duration::from_secs(5), "{case}: {ran:?}");
    }
}

/// Line 48.
#[test]
fn time_is_bounded_for_who_is_stopped_or_waits_where_no_signal_reaches() {
    if !has(Level::Namespaces) {
        return;
    }
    let bench = Bench::new(&config());
    for line in [
        Line::probe("stop-myself"),
        Line::probe("vfork"),
        Line::probe("hydra 4"),
        Line::probe("reaper"),
        // Blocked on a pipe that nobody writes to, and on one that nobody reads.
        Line::probe("sleep 60").pipe("cat"),
        Line::of("yes").pipe("confinement-probe sleep 60"),
    ] {
        let line = line.limit(|l| {
            l.wall_time = Duration::from_millis(200);
            l.grace_period = Duration::from_millis(100);
        });
        let ran = bench.run(line).unwrap();
        assert_eq!(ran.outcome.ended, Ended::Limited(Limit::WallTime), "{ran:?}");
        assert!(ran.outcome.usage.wall_time < Duration::from_millis(1_300), "{ran:?}");
    }
    wait_until("the end of all", || !bench.runs("confinement-probe hydra"));
}

/// Line 49.
#[test]
fn a_grandchild_that_holds_the_output_keeps_nothing_open() {
    if !has(Level::Namespaces) {
        return;
    }
    let bench = Bench::new(&config());
    let line = Line::probe("print before").then(Connector::Always, "confinement-probe hide 6161");
    let ran = bench.run(line).unwrap();
    assert_eq!(ran.stdout, "before\nhidden\n", "output so far is kept");
    assert!(ran.outcome.usage.wall_time < Duration::from_secs(5), "{ran:?}");
    assert!(!bench.runs("hide 6161"));
}

/// Line 50.
#[test]
fn limits_run_on_while_an_execution_is_stopped() {
    if !has(Level::Namespaces) {
        return;
    }
    let bench = Bench::new(&config());
    let line = Line::calls("clock_settime 0 w:0/0 , clock_settime 1 w:0/0")
        .then(Connector::Always, "confinement-probe stop-myself");
    let line = line.limit(|l| {
        l.wall_time = Duration::from_millis(300);
        l.grace_period = Duration::from_millis(50);
    });
    let ran = bench.run(line).unwrap();
    assert_eq!(ran.outcome.ended, Ended::Limited(Limit::WallTime), "{ran:?}");
    assert!(ran.stdout.starts_with("clock_settime ! EPERM\nclock_settime ! EPERM\nstopping\n"), "{ran:?}");
}

/// Line 61.
#[test]
fn an_outcome_cannot_be_pretended() {
    if !has(Level::Namespaces) {
        return;
    }
    let bench = Bench::new(&config());
    for (case, ended) in [
        ("exit 137", Ended::Exited(137)),
        ("exit 124", Ended::Exited(124)),
        ("exit 153", Ended::Exited(153)),
        ("signal 9", Ended::Signaled(9)),
        ("signal 15", Ended::Signaled(15)),
    ] {
        check_end_on(&bench, Line::probe(case), ended);
    }
}

/// Line 62.
#[test]
fn a_command_finds_no_channel_to_report_on() {
    if !has(Level::Namespaces) {
        return;
    }
    let bench = Bench::new(&config());
    // No descriptor but three; those of the first process cannot be opened; and its neighbour's status counts alone.
    check_on(&bench, Line::probe("fds"), &["0", "1", "2"]);
    check_on(
        &bench,
        Line::calls("openat -100 s:/proc/1/fd/3 1 , openat -100 s:/proc/1/fd 0"),
        &["openat ! ENOENT", "openat ! ENOENT"],
    );
    check_end_on(&bench, Line::probe("exit 3").pipe("confinement-probe exit 4"), Ended::Exited(4));
    check_end_on(&bench, Line::probe("signal 9").pipe("confinement-probe exit 0"), Ended::Exited(0));
}

/// Line 45.
#[test]
fn an_execution_uses_no_more_of_the_processors_than_its_share() {
    if !has(Level::Full) || bench().sandbox.confinement().cgroup != Some(CgroupVersion::V1) {
        return;
    }
    let bench = Bench::new(&Config { cells: 1, cpu_thousandths: Some(250), ..config() });
    if bench.sandbox.confinement().weaker.iter().any(|text| text.contains("processors")) {
        return skip("no writable `cpu` hierarchy here");
    }
    // Four that would use all there is, for two seconds.
    let mut line = Line::probe("spin");
    for _ in 0..3 {
        line = line.pipe("confinement-probe spin");
    }
    let ran = bench.run(line.limit(|l| l.wall_time = Duration::from_secs(2))).unwrap();
    assert_eq!(ran.outcome.ended, Ended::Limited(Limit::WallTime), "{ran:?}");
    let (used, wall) = (ran.outcome.usage.cpu_time, ran.outcome.usage.wall_time);
    // A period's worth more, for each processor.
    assert!(used <= wall / 4 + Duration::from_millis(300), "{used:?} in {wall:?}");
    assert!(used > Duration::from_millis(50), "it ran at all: {used:?}");
}

/// Line 45: the service competes with a group, however many processes that has.
#[test]
fn each_cell_is_in_a_group_of_its_own_among_those_that_share_the_processors() {
    if !has(Level::Full) || bench().sandbox.confinement().cgroup != Some(CgroupVersion::V1) {
        return;
    }
    let bench = Bench::new(&config());
    if bench.sandbox.confinement().weaker.iter().any(|text| text.contains("processors")) {
        return skip("no writable `cpu` hierarchy here");
    }
    let line = Line::probe("stubborn 4545").limit(|l| l.grace_period = Duration::ZERO);
    let held = bench.hold(line, "deaf to TERM");
    let command =
        descendants(bench.launcher).into_iter().find(|process| process.command_line.contains("4545"));
    let groups = std::fs::read_to_string(format!("/proc/{}/cgroup", command.unwrap().pid)).unwrap();
    let wanted = format!("/portcullis-{}/cell-", bench.launcher);
    let shares =
        |line: &&str| line.split(':').nth(1).is_some_and(|names| names.split(',').any(|name| name == "cpu"));
    assert!(groups.lines().find(shares).unwrap().contains(&wanted), "{groups}");
    held.stop().unwrap();
}
