//! Whom the kernel kills when the memory of a control group runs out.
//!
//! The kernel kills one process of the group, the one with the largest sum of the memory that it holds itself and its
//! `oom_score_adj`, a part of the limit in thousandths. Files in memory are held by nobody: beside a command that fills its
//! workspace, the cell may be the largest. So what a cell forks is born with an addition of 1000, the whole limit,
//! which a command cannot take off again: nothing in its `/proc` is writable. The cell stays, sees the kill among its
//! counters, ends the rest of the line within a tick, and answers with what was used.
//!
//! `memory.oom.group` would end the line at once, but the cell along with it, and with the cell the answer: it
//! spares only who has an `oom_score_adj` of -1000, which a service without privilege cannot give. What was seen
//! with it: every such record said `memory_limit` with no memory, no CPU time and no time used.
//!
//! See proc_pid_oom_score_adj(5).

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;

/// The largest addition there is.
const FIRST_TO_GO: &[u8] = b"1000";

/// A cell's hold on its own `oom_score_adj`, opened while it may still be written.
#[derive(Debug)]
pub(crate) struct Preference {
    file: File,
    /// What the cell itself was born with.
    own: String,
}

impl Preference {
    /// Opens that of this process.
    ///
    /// # Errors
    /// When the host does not let a process write its own.
    pub(crate) fn open() -> io::Result<Self> {
        let mut file = OpenOptions::new().read(true).write(true).open("/proc/self/oom_score_adj")?;
        let mut own = String::new();
        file.read_to_string(&mut own)?;
        Ok(Self { file, own: own.trim().to_owned() })
    }

    /// Has what is forked from here on born as the first to go. Until [`Self::spare_us`] the cell is, too.
    ///
    /// # Errors
    /// When the kernel refuses, which it does to nobody who asks for more.
    pub(crate) fn mark_children(&self) -> io::Result<()> {
        if crate::layers::is_gone("oom_score_adj") {
            return Ok(());
        }
        self.file.write_all_at(FIRST_TO_GO, 0)
    }

    /// Gives the cell back what it was born with.
    ///
    /// # Errors
    /// When the kernel refuses, which it does to nobody who asks for what it was born with.
    pub(crate) fn spare_us(&self) -> io::Result<()> {
        self.file.write_all_at(self.own.as_bytes(), 0)
    }
}
