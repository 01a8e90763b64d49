//! The host that the tests run on: its processes, and a directory of ours.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// Layers of the confinement that this run is to do without, one in each line; empty for a launcher that is only
/// started carelessly. Set by the cases of `defences`, which start this executable again.
pub(crate) const GONE: &str = "PORTCULLIS_GONE";

/// A directory of this process that every user of the host can enter: the probe, names of it to start
/// launchers by, and what cells keep on disk.
pub(crate) fn workshop() -> &'static Path {
    const PREFIX: &str = "portcullis-confinement-";
    static WORKSHOP: OnceLock<PathBuf> = OnceLock::new();
    WORKSHOP.get_or_init(|| {
        let place = std::env::temp_dir();
        for entry in std::fs::read_dir(&place).unwrap().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let dead = name
                .strip_prefix(PREFIX)
                .is_some_and(|pid| pid.parse::<u32>().is_ok() && !Path::new("/proc").join(pid).exists());
            if dead {
                let _ = std::fs::remove_dir_all(entry.path());
            }
        }
        let own = place.join(format!("{PREFIX}{}", std::process::id()));
        let bin = own.join("bin");
        std::fs::create_dir_all(&bin).unwrap();
        std::fs::create_dir(own.join("state")).unwrap();
        let probe = Path::new(env!("CARGO_BIN_EXE_confinement-probe"));
        let copy = bin.join("confinement-probe");
        // Not a link: the inode is to be ours alone.
        std::fs::copy(probe, &copy).unwrap();
        for (directory, mode) in [(own.clone(), 0o755), (bin, 0o755), (own.join("state"), 0o777)] {
            std::fs::set_permissions(directory, std::fs::Permissions::from_mode(mode)).unwrap();
        }
        own
    })
}

/// A process of this host.
#[derive(Debug, Clone)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    pub(crate) parent: u32,
    pub(crate) state: String,
    pub(crate) command_line: String,
}

/// Lists the processes of this host; those in cells are among them.
pub(crate) fn processes() -> Vec<Process> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let process = |entry: std::fs::DirEntry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
        let (_, rest) = stat.rsplit_once(')')?;
        let mut fields = rest.split_whitespace();
        let (state, parent) = (fields.next()?.to_owned(), fields.next()?.parse().ok()?);
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let command_line = String::from_utf8_lossy(&line).replace('\0', " ");
        Some(Process { pid, parent, state, command_line })
    };
    entries.filter_map(process).collect()
}

/// Every descendant of a process.
pub(crate) fn descendants(ancestor: u32) -> Vec<Process> {
    let all = processes();
    let mut family = vec![ancestor];
    let mut found: Vec<Process> = Vec::new();
    loop {
        let more: Vec<Process> = all
            .iter()
            .filter(|process| family.contains(&process.parent) && !family.contains(&process.pid))
            .cloned()
            .collect();
        if more.is_empty() {
            return found;
        }
        family.extend(more.iter().map(|process| process.pid));
        found.extend(more);
    }
}

/// Whether a probe of ours has `text` in its command line. Those of another run of these tests on this host do
/// not count.
pub(crate) fn runs(text: &str) -> bool {
    let inode = |path: PathBuf| std::fs::metadata(path).map(|found| (found.dev(), found.ino()));
    let probe = inode(workshop().join("bin/confinement-probe")).unwrap();
    let ours = |pid: u32| inode(PathBuf::from(format!("/proc/{pid}/exe"))).is_ok_and(|found| found == probe);
    processes().iter().any(|process| process.command_line.contains(text) && ours(process.pid))
}

/// How long something is waited for that comes at once, or never: the latter is what is known of it where a layer is
/// gone.
pub(crate) fn patience(seconds: u64) -> Duration {
    let weakened = std::env::var_os(GONE).is_some_and(|gone| !gone.is_empty());
    Duration::from_secs(if weakened { seconds.min(8) } else { seconds })
}

/// Awaits a condition; a bound far beyond what is promised keeps a failure from hanging.
#[track_caller]
pub(crate) fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let started = Instant::now();
    let most = patience(20);
    while !condition() {
        assert!(started.elapsed() < most, "{what} did not come true");
        std::thread::yield_now();
    }
}
