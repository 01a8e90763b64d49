//! All the processes of an execution, and how to reach them.

use std::collections::BTreeMap;

use crate::sys::{self, Pid};

/// The most rounds in which descendants are looked for and signalled.
const MOST_ROUNDS: usize = 1_000;

/// Signals every process of our pid namespace but ourselves. Called by its pid 1.
pub(crate) fn signal_namespace(signal: i32) {
    // ESRCH says that there is nobody else.
    let _ = sys::kill(-1, signal);
}

/// Signals every descendant of ours, once. Where there is no pid namespace we are their subreaper, so that
/// nobody leaves our family; a pid stays a descendant's until we reap it, so no number is reused meanwhile.
pub(crate) fn signal_descendants(signal: i32) {
    for process in family(own_pid(), &[]).iter().filter(|process| process.alive) {
        let _ = sys::kill(process.pid, signal);
    }
}

/// Kills and reaps every descendant of ours, until none is left. Returns whether that was reached.
pub(crate) fn end_descendants() -> bool {
    end_family(&[])
}

/// Kills and reaps every child of ours, with its descendants, that is none of these: what a dead cell has left.
pub(crate) fn end_strays(living: &[Pid]) {
    end_family(living);
}

/// Nobody is reaped while somebody lives. A process that does nothing but fork its successor and end is always
/// gone when its number is looked up, and would outrun us for ever; as long as they are not reaped the dead count
/// against the limit of processes, where that race ends.
fn end_family(spared: &[Pid]) -> bool {
    for _ in 0..MOST_ROUNDS {
        let family = family(own_pid(), spared);
        if family.is_empty() {
            return true;
        }
        let mut alive = family.iter().filter(|process| process.alive).peekable();
        if alive.peek().is_some() {
            for process in alive {
                let _ = sys::kill(process.pid, libc::SIGKILL);
            }
        } else {
            for process in &family {
                let _ = sys::wait(process.pid, false);
            }
        }
    }
    false
}

/// Returns how many processes and threads of a uid there are.
pub(crate) fn tasks_of(uid: u32) -> u64 {
    let count = |status: String| -> Option<u64> {
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
        let of_uid = field("Uid:")?.split_whitespace().next()?.parse::<u32>().ok()? == uid;
        if of_uid { field("Threads:")?.trim().parse().ok() } else { None }
    };
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| std::fs::read_to_string(entry.path().join("status")).ok())
        .filter_map(count)
        .sum()
}

fn own_pid() -> Pid {
    Pid::try_from(std::process::id()).unwrap_or(-1)
}

/// A descendant; one that is not alive has ended and is not reaped.
struct Process {
    pid: Pid,
    alive: bool,
}

/// Lists the descendants of a process, but for the spared ones and theirs, as `/proc` shows them now.
fn family(ancestor: Pid, spared: &[Pid]) -> Vec<Process> {
    let mut all: BTreeMap<Pid, (Pid, bool)> = BTreeMap::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<Pid>().ok()) else {
            continue;
        };
        let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else { continue };
        // `pid (name) state ppid …`: the name may hold anything, also brackets. See proc_pid_stat(5).
        let Some((_, rest)) = stat.rsplit_once(')') else { continue };
        let mut fields = rest.split_whitespace();
        let state = fields.next();
        if let Some(parent) = fields.next().and_then(|field| field.parse::<Pid>().ok()) {
            all.insert(pid, (parent, !matches!(state, Some("Z" | "X"))));
        }
    }
    let is_descendant = |pid: Pid| {
        let mut at = pid;
        for _ in 0..all.len() {
            match all.get(&at) {
                Some(_) if spared.contains(&at) => return false,
                Some(&(parent, _)) if parent == ancestor => return true,
                Some(&(parent, _)) => at = parent,
                None => return false,
            }
        }
        false
    };
    let descendants = all.iter().filter(|&(&pid, _)| is_descendant(pid));
    descendants.map(|(&pid, &(_, alive))| Process { pid, alive }).collect()
}
