//! Control groups: limits and counters for all processes of an execution together. See cgroups(7).
//!
//! [`Root::make`] finds what the host offers and makes a group `portcullis-PID` of our own beneath the group that
//! we are in; [`Root::group`] makes one beneath that for each cell. The launcher does both. A cell keeps open
//! files ([`Group::share`]): it sets limits and reads counters through them after its view hides `/sys`, and can
//! move nobody anywhere.
//!
//! # Versions
//! Version 2 is the unified hierarchy; it needs `memory` and `pids` in our group, and a group whose controllers
//! are handed down may hold no process. So where only we are in it, we move into a leaf, `portcullis-PID/service`;
//! where strangers share it, we leave it alone and say so. Version 1 is one hierarchy per controller: `memory`,
//! `pids` and `cpuacct`, and `freezer` where it is there.
//!
//! # Traps
//! - Files are opened when a group is made, not when they are used: a group that is the root of a cgroup
//!   namespace refuses writes through files opened inside it, even to who may write.
//! - `memory.oom.group` ends the cell along with its execution; the launcher tells what was counted; see `oom`.
//! - Version 1 answers for `cgroup.procs` from a list up to a second old when an open file is read again; the
//!   number in `pids.current` is always true.
//! - A group disappears only when its last process is reaped, which may be a moment after its end was seen.

mod group;
mod leftovers;
mod offers;
mod places;
mod root;

pub(crate) use group::{Counters, Group};
pub(crate) use offers::offered;
pub(crate) use root::Root;

/// The kind of control groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    /// One hierarchy for each controller.
    V1,
    /// The unified hierarchy.
    V2,
}

#[cfg(test)]
mod tests;
