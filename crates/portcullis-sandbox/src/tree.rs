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
    for pid in descendants(own_pid()) {
        let _ = sys::kill(pid, signal);
    }
}

/// Kills every descendant of ours and reaps those that become our children, until none is left. Returns
/// whether that was reached.
pub(crate) fn end_descendants() -> bool {
    for _ in 0..MOST_ROUNDS {
        let list = descendants(own_pid());
        for &pid in &list {
            let _ = sys::kill(pid, libc::SIGKILL);
        }
        while let Ok(Some(_)) = sys::wait(-1, false) {}
        if list.is_empty() {
            return true;
        }
    }
    false
}

/// Kills and reaps every child of ours, with its descendants, that is none of these: what a dead cell has left.
pub(crate) fn end_strays(living: &[Pid]) {
    for _ in 0..MOST_ROUNDS {
        let kept: Vec<Pid> =
            living.iter().flat_map(|&pid| descendants(pid).into_iter().chain([pid])).collect();
        let strays: Vec<Pid> = descendants(own_pid()).into_iter().filter(|pid| !kept.contains(pid)).collect();
        for &pid in &strays {
            let _ = sys::kill(pid, libc::SIGKILL);
            let _ = sys::wait(pid, false);
        }
        if strays.is_empty() {
            return;
        }
    }
}

fn own_pid() -> Pid {
    Pid::try_from(std::process::id()).unwrap_or(-1)
}

/// Lists the living descendants of a process, as `/proc` shows them now.
fn descendants(ancestor: Pid) -> Vec<Pid> {
    let mut parents: BTreeMap<Pid, Pid> = BTreeMap::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<Pid>().ok()) else {
            continue;
        };
        let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else { continue };
        // `pid (name) state ppid …`: the name may hold anything, also brackets. See proc_pid_stat(5).
        let Some((_, rest)) = stat.rsplit_once(')') else { continue };
        let mut fields = rest.split_whitespace();
        let state = fields.next();
        let parent = fields.next().and_then(|field| field.parse::<Pid>().ok());
        if let (Some(parent), false) = (parent, state == Some("Z")) {
            parents.insert(pid, parent);
        }
    }
    let is_descendant = |pid: &Pid| {
        let mut at = *pid;
        for _ in 0..parents.len() {
            match parents.get(&at) {
                Some(&parent) if parent == ancestor => return true,
                Some(&parent) => at = parent,
                None => return false,
            }
        }
        false
    };
    parents.keys().copied().filter(is_descendant).collect()
}
