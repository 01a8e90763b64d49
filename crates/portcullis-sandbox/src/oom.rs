//! Whom the kernel kills first when memory runs out.
//!
//! Cells, and what runs in them, ask to be killed before anything else of the host: they can be made anew, and a server
//! that is killed loses more. Within a control group it makes no difference, since all have the same.
//!
//! When the memory of a cell's group runs out, version 2 kills all of the group (`memory.oom.group`), version 1 the
//! process that holds the most; the cell then ends the rest. Where the cell goes along with its execution, the launcher
//! tells the server what the group had counted. See proc_pid_oom_score_adj(5), decision 0033.

use std::io;

/// The largest addition there is, in thousandths of the memory; a command cannot take it off again: nothing in its
/// `/proc` is writable.
const FIRST_TO_GO: &[u8] = b"1000";

/// Has this process, and what comes from it, killed first.
///
/// # Errors
/// When the host does not let a process write its own.
pub(crate) fn go_first() -> io::Result<()> {
    if crate::layers::is_gone("oom_score_adj") {
        return Ok(());
    }
    std::fs::write("/proc/self/oom_score_adj", FIRST_TO_GO)
}
