//! Processes and control groups of this host, as `/proc` shows them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

pub(crate) type Pid = u32;

/// How long a process may outlive who it must not outlive.
pub(crate) const ORPHAN_TIME: Duration = Duration::from_secs(2);

/// Sends a signal; who has ended meanwhile needs none.
#[expect(clippy::disallowed_methods, reason = "the shell's own way to send a signal")]
pub(crate) fn signal(name: &str, pid: Pid) -> bool {
    let mut kill = Command::new("kill");
    kill.args(["-s", name, "--", &pid.to_string()]).stderr(Stdio::null()).status().unwrap().success()
}

/// Kills several processes by one call, one right after another; some may have ended.
#[expect(clippy::disallowed_methods, reason = "the shell's own way to send a signal")]
pub(crate) fn kill_together(pids: &[Pid]) {
    let pids = pids.iter().map(Pid::to_string);
    let _ =
        Command::new("kill").args(["-s", "KILL", "--"]).args(pids).stderr(Stdio::null()).status().unwrap();
}

fn all() -> impl Iterator<Item = Pid> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn read(pid: Pid, file: &str) -> String {
    let bytes = fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).replace('\0', " ")
}

/// A process as the kernel tells it from all others: a number may come to mean another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) pid: Pid,
    born: String,
}

impl Process {
    fn is_alive(&self) -> bool {
        living(self.pid).is_some_and(|found| found.born == self.born)
    }
}

struct Living {
    name: String,
    parent: Pid,
    born: String,
}

/// What is to be said of a process that has not ended. See proc_pid_stat(5).
fn living(pid: Pid) -> Option<Living> {
    let stat = read(pid, "stat");
    let (name, rest) = stat.split_once('(')?.1.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let ended = matches!(*fields.first()?, "Z" | "X");
    let (parent, born) = (fields.get(1)?.parse().ok()?, (*fields.get(19)?).to_owned());
    (!ended).then(|| Living { name: name.to_owned(), parent, born })
}

fn children(of: Pid, name: &str) -> Vec<Pid> {
    let is = |pid: &Pid| living(*pid).is_some_and(|found| found.parent == of && found.name == name);
    all().filter(is).collect()
}

/// The launcher of a server: its one child, under whatever name it has by now.
pub(crate) fn launcher_of(server: Pid) -> Option<Process> {
    all().find_map(|pid| {
        let found = living(pid).filter(|found| found.parent == server)?;
        Some(Process { pid, born: found.born })
    })
}

pub(crate) fn cells_of(launcher: &Process) -> Vec<Pid> {
    children(launcher.pid, "portcullis-cell")
}

/// The first processes of what runs in cells.
pub(crate) fn inits_of(launcher: &Process) -> Vec<Pid> {
    cells_of(launcher).into_iter().flat_map(|cell| children(cell, "portcullis-init")).collect()
}

/// Commands that run in cells.
pub(crate) fn commands_of(launcher: &Process) -> Vec<Pid> {
    let inits = inits_of(launcher);
    let is = |pid: &Pid| living(*pid).is_some_and(|found| inits.contains(&found.parent));
    all().filter(is).collect()
}

/// Processes with this text in their command lines.
pub(crate) fn with_text(text: &str) -> Vec<Pid> {
    all().filter(|&pid| living(pid).is_some() && read(pid, "cmdline").contains(text)).collect()
}

/// The name of the group that holds those of a launcher's cells.
fn group_name(launcher: &Process) -> String {
    format!("portcullis-{}", launcher.pid)
}

/// What lives of a service: the launcher, what is in its groups, and what bears the token.
fn of_service(launcher: &Process, token: &str) -> Vec<String> {
    let group = format!("/{}/", group_name(launcher));
    let is_of = |pid: &Pid| read(*pid, "cgroup").contains(&group) || read(*pid, "cmdline").contains(token);
    let others = all().filter(|&pid| pid != launcher.pid && living(pid).is_some()).filter(is_of);
    let itself = launcher.is_alive().then_some(launcher.pid);
    others.chain(itself).map(describe).collect()
}

/// Waits until nothing of a dead service lives, and returns how long that took.
#[track_caller]
pub(crate) fn expect_no_orphans(launcher: &Process, token: &str) -> Duration {
    let began = Instant::now();
    loop {
        let left = of_service(launcher, token);
        if left.is_empty() {
            return began.elapsed();
        }
        assert!(began.elapsed() < ORPHAN_TIME, "orphans after {ORPHAN_TIME:?}: {left:?}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// What is to be known of a process that should not be there.
fn describe(pid: Pid) -> String {
    let name = living(pid).map(|found| found.name).unwrap_or_default();
    let waits = ["wchan", "syscall"].map(|file| read(pid, file).trim().to_owned());
    format!("{pid} {name}: {}, {waits:?}", read(pid, "cmdline"))
}

/// The control groups of a launcher, in every hierarchy.
pub(crate) fn groups_of(launcher: &Process) -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let hierarchies = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let (place, kind) = (fields.next()?, fields.next()?);
        kind.starts_with("cgroup").then(|| PathBuf::from(place))
    });
    let mut found = Vec::new();
    for hierarchy in hierarchies {
        find(&hierarchy, &group_name(launcher), 8, &mut found);
    }
    found
}

fn find(directory: &Path, name: &str, depth: usize, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        if entry.file_name() == name {
            found.push(entry.path());
        } else if depth > 0 {
            find(&entry.path(), name, depth - 1, found);
        }
    }
}
