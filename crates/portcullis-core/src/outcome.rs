use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How a started execution ended: every process of it is gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// By itself, by a limit, or by us.
    pub ended: Ended,
    /// What it used, by the kernel's own counters where the host has them.
    pub usage: Usage,
    /// Whether output was cut.
    pub truncated: bool,
}

/// What ended an execution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ended {
    /// The line ended with this exit code.
    Exited(i32),
    /// The last command was ended by this signal, and not by us.
    Signaled(i32),
    /// A limit ended it.
    Limited(Limit),
    /// We ended it, as asked.
    Stopped(StopReason),
}

/// A bound that ends an execution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Limit {
    /// `Limits::wall_time`.
    WallTime,
    /// `Limits::cpu_time`.
    CpuTime,
    /// `Limits::memory_bytes`.
    Memory,
    /// `Limits::processes`: the line failed after the kernel had refused it a process.
    Processes,
    /// `Limits::output_bytes`.
    Output,
    /// `Limits::file_size_bytes`.
    FileSize,
}

/// Why an execution is to be stopped from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum StopReason {
    /// Its principal cancelled it.
    Cancelled,
    /// The service is shutting down.
    Shutdown,
}

/// What an execution used.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// CPU time of all its processes.
    pub cpu_time: Duration,
    /// The most memory it held at once, in bytes; `None` where the host does not count it.
    pub peak_memory_bytes: Option<u64>,
    /// Time from start to end.
    pub wall_time: Duration,
}

/// What was in force around an execution.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confinement {
    /// The level as a whole.
    pub level: Level,
    /// Landlock's ABI, where the kernel has it.
    pub landlock_abi: Option<u32>,
    /// Which cgroups count and limit the tree, where they do.
    pub cgroup: Option<CgroupVersion>,
    /// What the level does not hold on this host, in words.
    pub weaker: Vec<String>,
}

/// How strong a confinement is; a later one is stronger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Landlock, seccomp, `no_new_privs` and rlimits: where namespaces are refused.
    Landlock,
    /// Everything but cgroup limits.
    Namespaces,
    /// Everything.
    Full,
}

impl Level {
    /// Returns the level's name, as configuration and records write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Landlock => "landlock",
            Self::Namespaces => "namespaces",
            Self::Full => "full",
        }
    }

    /// Reads a level's name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Landlock, Self::Namespaces, Self::Full].into_iter().find(|level| level.as_str() == text)
    }
}

/// Which kind of control groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CgroupVersion {
    /// Several hierarchies, cgroups(7) "version 1".
    V1,
    /// The unified hierarchy.
    V2,
}
