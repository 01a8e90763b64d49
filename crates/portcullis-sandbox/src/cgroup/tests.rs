use std::fs;
use std::io::{self, Write as _};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use portcullis_core::Limits;

use super::group::Directories;
use super::places::Places;
use super::root::{Absent, Ourselves};
use super::*;

const MIB: u64 = 1 << 20;

fn limits(memory_bytes: u64, processes: u32) -> Limits {
    Limits { memory_bytes, processes, ..Limits::default() }
}

// ------------------------------------------------------------------------------ version 2, on made-up files

/// Fills a made-up group of version 2 with the files that the kernel would.
fn fill(directory: &Path) -> io::Result<()> {
    for (name, text) in [
        ("cgroup.procs", ""),
        ("cgroup.subtree_control", ""),
        ("cgroup.kill", ""),
        ("cpu.stat", "usage_usec 1500000\nuser_usec 1000000\nsystem_usec 500000\n"),
        ("memory.max", "max\n"),
        ("memory.swap.max", "max\n"),
        ("memory.oom.group", "0\n"),
        ("memory.current", "4096\n"),
        ("memory.events", "low 0\nhigh 0\nmax 7\noom 3\noom_kill 2\noom_group_kill 1\n"),
        ("pids.max", "max\n"),
        ("pids.current", "1\n"),
        ("pids.events", "max 5\n"),
    ] {
        fs::write(directory.join(name), text)?;
    }
    Ok(())
}

struct Unified {
    directory: tempfile::TempDir,
}

impl Unified {
    fn new(controllers: &str, processes: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        fill(directory.path()).unwrap();
        fs::write(directory.path().join("cgroup.controllers"), controllers).unwrap();
        fs::write(directory.path().join("cgroup.procs"), processes).unwrap();
        Self { directory }
    }

    fn make(&self) -> Result<Root, Absent> {
        let places = Places { unified: Some(self.directory.path().to_owned()), ..Places::default() };
        Root::make_at(&places, &Ourselves { pid: 77, processes: vec![77, 70] }, &fill)
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.directory.path().join(path)).unwrap()
    }
}

#[test]
fn controllers_are_handed_down_twice() {
    let host = Unified::new("cpuset cpu io memory pids\n", "70\n77\n");
    let root = host.make().unwrap();
    assert_eq!(root.version(), Version::V2);
    // A made-up file keeps what was behind a later, shorter write: `cpu` comes by itself, since it may be refused.
    assert_eq!(host.read("cgroup.subtree_control"), "+cpuory +pids");
    assert_eq!(host.read("portcullis-77/cgroup.subtree_control"), "+cpuory +pids");
    assert!(root.shares_processors());
}

#[test]
fn without_a_share_of_the_processors_the_rest_is_handed_down() {
    let host = Unified::new("cpuset io memory pids\n", "70\n77\n");
    let root = host.make().unwrap();
    assert_eq!(host.read("cgroup.subtree_control"), "+memory +pids");
    assert!(!root.shares_processors());
}

#[test]
fn a_host_without_the_controllers_is_refused_for_both_reasons() {
    let host = Unified::new("cpu io\n", "");
    let Absent(problem) = host.make().unwrap_err();
    assert!(problem.contains("offers no `memory`") && problem.contains("Delegate=yes"), "{problem}");
    assert!(problem.ends_with("version 1 lacks one of `memory`, `pids` and `cpuacct`"), "{problem}");
    let Absent(problem) =
        Root::make_at(&Places::default(), &Ourselves { pid: 7, processes: vec![7] }, &fill).unwrap_err();
    assert!(problem.starts_with("version 2 is not mounted; version 1 lacks"), "{problem}");
}

#[test]
fn what_an_earlier_life_has_left_is_removed_and_told() {
    let host = Unified::new("memory pids", "");
    let old = host.directory.path().join("portcullis-4194305");
    fs::create_dir_all(old.join("cell-1")).unwrap();
    let root = host.make().unwrap();
    assert_eq!((&root.leftovers().removed, old.exists()), (&vec![old.clone()], false));
}

fn group_v2(made: impl Fn(&Path)) -> (tempfile::TempDir, PathBuf, Group) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cell");
    fs::create_dir(&path).unwrap();
    fill(&path).unwrap();
    made(&path);
    let group = Group::open(Version::V2, Directories::unified(path.clone())).unwrap();
    (directory, path, group)
}

#[test]
fn limits_of_version_2_are_written_and_swap_is_none() {
    let (_directory, path, mut group) = group_v2(|_| ());
    group.set_limits(&limits(64 * MIB, 10)).unwrap();
    // A file of the kernel keeps no tail of an older text, as these do.
    for (file, wanted) in [
        ("memory.max", "67108864"),
        ("pids.max", "12x\n"),
        ("memory.swap.max", "0ax\n"),
        ("memory.oom.group", "1\n"),
    ] {
        assert_eq!(fs::read_to_string(path.join(file)).unwrap(), wanted, "{file}");
    }
}

#[test]
fn counters_count_from_the_last_reset() {
    let (_directory, path, mut group) = group_v2(|_| ());
    group.reset().unwrap();
    assert_eq!(
        group.sample().unwrap(),
        Counters { peak_memory_bytes: Some(4096), processes_now: 1, ..Counters::default() }
    );
    fs::write(path.join("cpu.stat"), "usage_usec 1750000\n").unwrap();
    fs::write(path.join("memory.events"), "oom 4\noom_kill 4\n").unwrap();
    fs::write(path.join("pids.events"), "max 6\n").unwrap();
    fs::write(path.join("memory.current"), "8192\n").unwrap();
    assert_eq!(
        group.sample().unwrap(),
        Counters {
            cpu: Duration::from_millis(250),
            peak_memory_bytes: Some(8192),
            oom_kills: 2,
            pids_refused: 1,
            processes_now: 1,
        }
    );
    fs::write(path.join("memory.current"), "100\n").unwrap();
    assert_eq!(group.sample().unwrap().peak_memory_bytes, Some(8192), "the most that was seen stays");
}

#[test]
fn a_limit_below_what_is_in_use_is_refused_and_kills_nobody() {
    let (_directory, path, mut group) = group_v2(|path| fs::write(path.join("memory.reclaim"), "").unwrap());
    let error = group.set_limits(&limits(1000, 10)).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ENOMEM));
    assert_eq!(fs::read_to_string(path.join("memory.reclaim")).unwrap(), "3096");
    assert_eq!(fs::read_to_string(path.join("memory.max")).unwrap(), "max\n");
}

#[test]
fn nonsense_in_a_counter_is_an_error_and_no_panic() {
    for (file, text) in
        [("cpu.stat", ""), ("cpu.stat", "usage_usec x"), ("memory.current", "max"), ("pids.events", "min 1")]
    {
        let (_directory, path, group) = group_v2(|_| ());
        fs::write(path.join(file), text).unwrap();
        assert_eq!(group.sample().unwrap_err().raw_os_error(), Some(libc::EBADMSG), "{file} {text:?}");
    }
}

#[test]
fn a_shared_hold_moves_and_removes_nothing() {
    let (_directory, path, group) = group_v2(|_| ());
    let shared = group.share().unwrap();
    assert_eq!(shared.attach(1).unwrap_err().raw_os_error(), Some(libc::EPERM));
    assert_eq!(
        shared.kill_all(|_| panic!("nobody is signalled")).unwrap_err().raw_os_error(),
        Some(libc::EPERM)
    );
    drop(shared);
    assert!(path.exists());
    group.attach(4711).unwrap();
    assert_eq!(fs::read_to_string(path.join("cgroup.procs")).unwrap(), "4711");
    assert!(group.sample().unwrap().processes_now <= 1);
    fs::write(path.join("pids.current"), "2\n").unwrap();
    assert!(group.sample().unwrap().processes_now > 1);
}

#[test]
fn names_of_groups_are_one_component() {
    let host = Unified::new("memory pids", "");
    let mut root = host.make().unwrap();
    for name in ["", "..", "a/b", ".hidden"] {
        let error = root.group(name, &Limits::default()).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EINVAL), "{name:?}");
    }
    // The kernel would have filled the directory; here opening its files fails, and nothing is left.
    assert!(root.group("cell-1", &Limits::default()).is_err());
    assert!(!host.directory.path().join("portcullis-77/cell-1").exists());
}

// ------------------------------------------------------------------------------ whatever this host has

/// Makes a root of our own, or says why it cannot and returns `None`.
fn host_root() -> Option<Root> {
    match Root::make(false, None) {
        Ok(root) => Some(root),
        Err(Absent(problem)) => {
            assert!(std::env::var_os("PORTCULLIS_REQUIRE_ALL").is_none(), "no cgroups: {problem}");
            eprintln!("SKIPPED: no cgroups: {problem}");
            None
        }
    }
}

/// A shell that waits for a line before it does anything, so that it can be put into its group first.
struct Waiting {
    child: Child,
}

impl Waiting {
    fn new(script: &str) -> Self {
        #[expect(clippy::disallowed_methods, reason = "a process to be counted and limited")]
        let mut command = std::process::Command::new("/bin/sh");
        let child = command
            .args(["-c", &format!("read go; {script}")])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self { child }
    }

    fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }

    fn go(&mut self) -> std::process::ExitStatus {
        self.child.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
        self.child.wait().unwrap()
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One test, since a process has one root: cases share it and use groups of their own.
#[test]
fn the_host_limits_and_counts_a_tree() {
    let Some(mut root) = host_root() else { return };
    let directories = root.directories();
    assert!(directories.iter().all(|directory| directory.exists()));

    // CPU time of children that have ended, and memory at its peak.
    let mut group = root.group("count", &limits(256 * MIB, 32)).unwrap();
    let mut child = Waiting::new(
        "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; (head -c 50000000 /dev/zero | tail -c 40000000 >/dev/null)",
    );
    group.attach(child.pid()).unwrap();
    assert_eq!(group.sample().unwrap().processes_now, 1);
    assert!(group.sample().unwrap().processes_now <= 1);
    let mut shared = group.share().unwrap();
    shared.set_limits(&limits(128 * MIB, 16)).unwrap();
    shared.set_limits(&limits(256 * MIB, 32)).unwrap();
    shared.reset().unwrap();
    assert!(child.go().success());
    let counters = shared.sample().unwrap();
    assert!(counters.cpu > Duration::from_millis(1), "{counters:?}");
    assert!(counters.peak_memory_bytes.unwrap() > 40_000_000, "{counters:?}");
    assert_eq!((counters.oom_kills, counters.pids_refused, counters.processes_now), (0, 0, 0));
    group.reset().unwrap();
    let counters = group.sample().unwrap();
    assert!(
        counters.cpu < Duration::from_millis(1) && counters.peak_memory_bytes.unwrap() < 40_000_000,
        "{counters:?}"
    );
    drop((shared, group));

    // Memory: the kernel kills, and says so.
    let group = root.group("memory", &limits(24 * MIB, 32)).unwrap();
    let mut child = Waiting::new("exec tail /dev/zero");
    group.attach(child.pid()).unwrap();
    assert_eq!(child.go().signal(), Some(libc::SIGKILL));
    let counters = group.sample().unwrap();
    assert!(counters.oom_kills >= 1, "{counters:?}");
    assert!(counters.peak_memory_bytes.unwrap() <= 24 * MIB, "{counters:?}");
    drop(group);

    // Processes: refused beyond the limit, and counted.
    let group = root.group("processes", &limits(256 * MIB, 2)).unwrap();
    let mut child = Waiting::new("for i in 1 2 3 4 5 6 7 8; do sleep 30 & done; wait");
    group.attach(child.pid()).unwrap();
    child.child.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    let begun = Instant::now();
    while group.sample().unwrap().pids_refused == 0 {
        assert!(begun.elapsed() < Duration::from_secs(20), "no process was refused: {:?}", group.sample());
        std::thread::sleep(Duration::from_millis(2));
    }
    assert!(group.sample().unwrap().processes_now <= 4);
    std::thread::scope(|scope| {
        // A process that has ended stays in the group until it is reaped.
        scope.spawn(|| child.child.wait().unwrap());
        group.kill_all(kill).unwrap();
    });
    drop(group);

    drop(root);
    for directory in directories {
        assert!(!directory.exists(), "`{}` is left", directory.display());
    }
}

fn kill(pid: i32) {
    #[expect(clippy::disallowed_methods, reason = "sends a signal to a process of this test")]
    let status = std::process::Command::new("/bin/sh").args(["-c", &format!("kill -9 {pid}")]).status();
    let _ = status;
}
