//! Groups of earlier lives of the service.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use crate::launcher;

/// What every group of ours begins with; the launcher's process id follows.
pub(super) const PREFIX: &str = "portcullis-";

/// How often, and how far apart, the removal of a group is tried that still has a dying process.
const REMOVALS: u32 = 100;
const REMOVAL_PAUSE: Duration = Duration::from_millis(2);

/// How long a start waits, in each hierarchy, for what was killed together with its launcher and is not quite gone.
const DYING: Duration = Duration::from_millis(500);

/// What was found of earlier lives.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Leftovers {
    /// Were empty, and are gone.
    pub(crate) removed: Vec<PathBuf>,
    /// Have processes in them, or would not go.
    pub(crate) kept: Vec<PathBuf>,
}

/// Removes every group beneath `place` whose launcher has ended and in which no process is left. One whose
/// launcher lives belongs to another service on this host.
pub(super) fn remove(place: &Path, own_pid: u32, found: &mut Leftovers) {
    remove_but(place, |pid| pid != own_pid && is_launcher(pid), found);
}

/// Whether a launcher of this number lives. Not just any process: numbers are used again, and one that was killed
/// together with its server keeps its own until somebody has reaped it. See proc_pid_stat(5).
fn is_launcher(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let parts = stat.split_once('(').and_then(|(_, rest)| rest.rsplit_once(')'));
    parts.is_some_and(|(name, rest)| {
        launcher::COMM.to_bytes() == name.as_bytes() && !rest.trim_start().starts_with(['Z', 'X'])
    })
}

fn remove_but(place: &Path, lives: impl Fn(u32) -> bool, found: &mut Leftovers) {
    let deadline = Instant::now() + DYING;
    for entry in fs::read_dir(place).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.parse::<u32>().ok()) else {
            continue;
        };
        let path = entry.path();
        if lives(pid) {
            continue;
        }
        match remove_tree(&path, deadline) {
            Ok(()) => found.removed.push(path),
            Err(_) => found.kept.push(path),
        }
    }
}

/// Removes a group and the groups beneath it. One with a process is busy: until the deadline its end is waited for,
/// since a service that was killed is often started again before the last of its processes is gone.
fn remove_tree(path: &Path, deadline: Instant) -> io::Result<()> {
    for entry in fs::read_dir(path)?.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_tree(&entry.path(), deadline)?;
        }
    }
    loop {
        match fs::remove_dir(path) {
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) && Instant::now() < deadline => {
                thread::sleep(REMOVAL_PAUSE);
            }
            other => return other,
        }
    }
}

/// Removes one group, and waits a moment for processes that have ended and are not quite gone.
pub(super) fn remove_group(path: &Path) -> io::Result<()> {
    let mut tries = 0;
    loop {
        match fs::remove_dir(path) {
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) && tries < REMOVALS => {
                tries += 1;
                thread::sleep(REMOVAL_PAUSE);
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => return other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_of_dead_launchers_go_and_others_stay() {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name);
        // Beyond the largest process id there can be.
        for name in [
            "portcullis-4194305/cell-1",
            "portcullis-4194306",
            "portcullis-1",
            "other-4194307",
            "portcullis-x",
        ] {
            fs::create_dir_all(at(name)).unwrap();
        }
        // A plain file stands in for what keeps a group from going.
        fs::write(at("portcullis-4194306/busy"), "").unwrap();
        let mut found = Leftovers::default();
        remove_but(place.path(), |pid| pid == 1, &mut found);
        assert_eq!(found.removed, [at("portcullis-4194305")]);
        assert_eq!(found.kept, [at("portcullis-4194306")]);
        for name in ["portcullis-1", "other-4194307", "portcullis-x"] {
            assert!(at(name).exists(), "{name}");
        }
    }

    #[test]
    fn a_process_that_is_no_launcher_keeps_no_group() {
        let place = tempfile::tempdir().unwrap();
        fs::create_dir_all(place.path().join("portcullis-1/cell-0")).unwrap();
        let mut found = Leftovers::default();
        remove(place.path(), std::process::id(), &mut found);
        assert_eq!(found.removed.len(), 1);
    }

    #[test]
    fn a_group_of_our_own_number_is_of_an_earlier_life() {
        let place = tempfile::tempdir().unwrap();
        let own = std::process::id();
        fs::create_dir_all(place.path().join(format!("portcullis-{own}/cell-0"))).unwrap();
        let mut found = Leftovers::default();
        remove(place.path(), own, &mut found);
        assert_eq!(found.removed.len(), 1);
    }
}
