use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{ProgramName, Script, ViewPath};

/// Leave to run one command line, given by a verdict and by nothing else. It is the least privilege: what
/// it does not name, the kernel refuses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permit(Plan);

impl Permit {
    /// Makes a permit. Only an implementation of [`crate::Policy`] calls this, when it has judged the very
    /// words in the plan; a test of the workspace keeps that true for our own crates.
    #[must_use]
    pub fn grant(plan: Plan) -> Self {
        Self(plan)
    }

    /// Returns what may be run, and how.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        &self.0
    }

    /// Gives the plan up to who carries it out.
    #[must_use]
    pub fn into_plan(self) -> Plan {
        self.0
    }
}

/// What a permit holds: the judged words and everything that bounds them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The command line as judged.
    pub script: Script,
    /// Where the line starts, inside the view.
    pub working_directory: ViewPath,
    /// The directory that may be written when a command's rights say so; private to the execution.
    pub workspace: ViewPath,
    /// Variables for every command, beside the service's own fixed ones.
    pub environment: Vec<(String, String)>,
    /// What the first command reads; without it, nothing.
    pub stdin: Option<Vec<u8>>,
    /// Bounds of the whole execution.
    pub limits: Limits,
    /// Directories that no command may see, absolute in the view.
    pub protected: Vec<ViewPath>,
}

impl Plan {
    /// Returns every program that some command of the line may execute: those named and those that
    /// wrappers may start.
    #[must_use]
    pub fn programs(&self) -> BTreeSet<ProgramName> {
        self.script
            .commands()
            .flat_map(|command| std::iter::once(&command.program).chain(&command.rights.execute))
            .cloned()
            .collect()
    }

    /// Whether some command or redirection of the line may write or delete.
    #[must_use]
    pub fn writes(&self) -> bool {
        self.script.commands().any(|command| {
            !command.rights.write.is_empty()
                || !command.rights.delete.is_empty()
                || command.redirections.iter().any(|redirection| {
                    use crate::RedirectionTarget::{Append, Truncate};
                    matches!(redirection.target, Append(_) | Truncate(_))
                })
        })
    }
}

/// What one command may do beside computing. Each path grants itself and everything beneath it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rights {
    /// Files and directories it may read and list.
    pub read: Vec<ViewPath>,
    /// Files it may write, create and truncate, directories it may make entries in.
    pub write: Vec<ViewPath>,
    /// Files and directories beneath these it may remove or rename.
    pub delete: Vec<ViewPath>,
    /// Programs it may start beside itself.
    pub execute: Vec<ProgramName>,
    /// What it may reach over the network.
    pub network: Network,
}

/// What may be reached over the network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Network {
    /// Nothing, loopback included.
    #[default]
    None,
    /// These hosts and ports over TCP.
    Hosts(Vec<(String, u16)>),
}

/// Bounds of one execution, over all its processes together where the host can count them together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Time from start to end by the clock; `MAX_EXECUTION_TIME`.
    pub wall_time: Duration,
    /// CPU time of all processes.
    pub cpu_time: Duration,
    /// Memory in bytes, files of the workspace and `/tmp` included.
    pub memory_bytes: u64,
    /// Processes and threads at once.
    pub processes: u32,
    /// Open files of one process.
    pub open_files: u32,
    /// Bytes of one file.
    pub file_size_bytes: u64,
    /// Bytes of the workspace, and of `/tmp`, each.
    pub disk_bytes: u64,
    /// Bytes of output, both streams together; past it the execution ends.
    pub output_bytes: u64,
    /// Time between the friendly signal and the deadly one when an execution is stopped.
    pub grace_period: Duration,
}

impl Default for Limits {
    /// 60 s of time and of CPU, 512 MiB of memory, 64 processes, 256 open files, 64 MiB a file, 256 MiB of
    /// disk, 8 MiB of output, 2 s of grace.
    fn default() -> Self {
        const MIB: u64 = 1 << 20;
        Self {
            wall_time: Duration::from_secs(60),
            cpu_time: Duration::from_secs(60),
            memory_bytes: 512 * MIB,
            processes: 64,
            open_files: 256,
            file_size_bytes: 64 * MIB,
            disk_bytes: 256 * MIB,
            output_bytes: 8 * MIB,
            grace_period: Duration::from_secs(2),
        }
    }
}
