use std::path::PathBuf;

use portcullis_core::{Level, Limits, ViewPath};
use serde::{Deserialize, Serialize};

/// What the launcher is told once, at its start, and holds every permit to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// How many executions may run at once.
    pub cells: usize,
    /// The level below which nothing runs; `None`: the best that the host gives.
    pub floor: Option<Level>,
    /// Where programs are looked up, in order, on the host.
    pub path: Vec<PathBuf>,
    /// Directories of the host that every view holds, beside `/usr`.
    pub mounts: Vec<Mount>,
    /// The name of the user inside the view; home is `/home/NAME`.
    pub user_name: String,
    /// No permit goes beyond these.
    pub ceilings: Limits,
    /// The most of the processors that an execution uses at once, in thousandths of one; `None`: no bound of its own.
    pub cpu_thousandths: Option<u32>,
    /// A private directory of the service for what cells need on disk.
    pub state_directory: PathBuf,
    /// When the service runs as root: the first of the host uids (and gids) that cells get, one each.
    pub first_uid: u32,
}

impl Default for Config {
    /// Four cells for each processor, at least 8 and at most 64, since many executions wait more than they compute; the
    /// best level; `/usr/local/bin:/usr/bin:/bin`; no mounts.
    fn default() -> Self {
        Self {
            cells: std::thread::available_parallelism().map_or(8, |n| (4 * n.get()).clamp(8, 64)),
            floor: None,
            path: ["/usr/local/bin", "/usr/bin", "/bin"].map(PathBuf::from).to_vec(),
            mounts: Vec::new(),
            user_name: "user".into(),
            ceilings: Limits::default(),
            cpu_thousandths: None,
            state_directory: PathBuf::from("/var/lib/portcullis"),
            first_uid: 2_000_000_000,
        }
    }
}

/// A directory of the host in the view.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// The directory on the host.
    pub source: PathBuf,
    /// Where it appears.
    pub target: ViewPath,
    /// Whether permits may let commands write there.
    pub writable: bool,
}
