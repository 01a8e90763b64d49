//! Makes seccomp filters: which system calls a command may make at all.
//!
//! A filter is an allow-list. What its table does not know fails with `ENOSYS`, as on an older kernel, so that
//! libc takes its older way; what is known and dangerous fails with `EPERM`; another machine's calls (i386 by
//! `int 0x80`) end the process; x32's fail with `ENOSYS`. Nothing here makes a system call: a filter is data,
//! the same for the same [`Class`], and takes effect when `sys` gives it to the kernel as the last step.
//!
//! # What is refused
//! `list.md` beside this file says it, group by group with its reason, and `golden.txt` number by number; tests keep
//! both true. In short: namespaces; mounts
//! by any call; set-id and sticky bits and device nodes by every call that takes a mode; execution from memory;
//! terminal injection; owners and leases of descriptors; watching others' files; sockets but local ones;
//! tracing; keys; `bpf`, `perf`, `userfaultfd`, `io_uring` and old asynchronous I/O; file handles; modules, kexec,
//! swap and the rest of the host; clocks; placement of memory; retired calls.
//!
//! # The launcher's own filter
//! It is the first of each chain: what it forks inherits it, commands included. So it can refuse only what no command
//! may do either, which is nearly all of the above; `execve` stays, since commands are executed by it. What making a
//! cell takes (namespaces, mounts, identities) is open in it and closed by the next filter of the chain.
//!
//! # What is allowed though it may look dangerous
//! - One more filter, by prctl(2) or seccomp(2): programs that confine themselves would fail without, and the
//!   strictest answer of all filters counts. A filter with a listener is refused. Likewise Landlock.
//! - `setuid` and its kin: without a capability they change nothing, and programs that give up privilege they do
//!   not have treat a refusal as fatal.
//! - `flock` where a permit writes. On a file that executions share (`/usr`) it can delay another that locks the
//!   same file; no program of a distribution does. Where a permit does not write, it is refused. Record locks
//!   (`F_SETLK`) cannot: what conflicts with one needs a descriptor open for writing.
//! - `splice`, `vmsplice`, `madvise` and whatever else is only a way to use memory and pipes of one's own.
//!
//! # What a filter cannot see
//! Memory: a call whose arguments are behind a pointer is allowed or refused as a whole (`clone3`, `openat2`:
//! `ENOSYS`). And files: rights on those are Landlock's and the view's.

mod allowed;
mod assemble;
mod groups;
mod rules;
mod table;

use assemble::{Architecture, assemble, assemble_part};
use libc::sock_filter;

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
compile_error!("portcullis-sandbox has system-call tables for x86_64 and aarch64 only");

const KILL_PROCESS: u32 = libc::SECCOMP_RET_KILL_PROCESS;

/// For whom a filter is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Class {
    /// A command in namespaces of its own whose permit writes.
    Command,
    /// A command in namespaces of its own whose permit does not write: modes, owners, times and attributes stay
    /// as they are, too.
    CommandReadOnly,
    /// A command where namespaces are refused, whose permit writes: no sockets but connected pairs, no System V
    /// or POSIX objects, no limits of other processes.
    LandlockLevel(Signals),
    /// Both: no namespaces, and a permit that does not write.
    LandlockLevelReadOnly(Signals),
}

/// Whether something else keeps signals within an execution that has no pid namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Signals {
    /// Landlock does (ABI 6).
    Scoped,
    /// Nothing does: the filter refuses every call that sends one.
    Unscoped,
}

impl Class {
    /// Every class there is.
    pub(crate) const ALL: [Self; 6] = [
        Self::Command,
        Self::CommandReadOnly,
        Self::LandlockLevel(Signals::Scoped),
        Self::LandlockLevelReadOnly(Signals::Scoped),
        Self::LandlockLevel(Signals::Unscoped),
        Self::LandlockLevelReadOnly(Signals::Unscoped),
    ];

    fn is_read_only(self) -> bool {
        matches!(self, Self::CommandReadOnly | Self::LandlockLevelReadOnly(_))
    }

    fn is_landlock_level(self) -> bool {
        matches!(self, Self::LandlockLevel(_) | Self::LandlockLevelReadOnly(_))
    }

    fn is_unscoped(self) -> bool {
        matches!(
            self,
            Self::LandlockLevel(Signals::Unscoped) | Self::LandlockLevelReadOnly(Signals::Unscoped)
        )
    }
}

/// Returns the filter of a class for this machine.
pub(crate) fn program(class: Class) -> Vec<sock_filter> {
    assemble(Architecture::NATIVE, class, gone_group())
}

/// Returns the filter of the launcher, which all that it forks inherits.
pub(crate) fn launcher() -> Vec<sock_filter> {
    assemble_part(Architecture::NATIVE, Part::Launcher, gone_group())
}

/// A part of the filter of a command that has namespaces of its own. Installed one after another, the parts
/// refuse exactly what the filter of its class refuses: the large one is installed once, in the cell, and
/// inherited; the small ones cost a fraction of it for each execution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Part {
    /// All of [`Class::Command`] but what the launcher and the cells that it forks must do. It comes before all
    /// others, at every level.
    Launcher,
    /// All of [`Class::Command`] but what the cell itself must do.
    Cell,
    /// The rest of [`Class::Command`].
    Closing,
    /// The rest of [`Class::CommandReadOnly`].
    ClosingReadOnly,
}

/// The filters, assembled once.
#[derive(Debug)]
pub(crate) struct Programs {
    parts: [(Part, Vec<sock_filter>); 3],
    classes: Vec<(Class, Vec<sock_filter>)>,
}

impl Programs {
    /// Assembles them all.
    pub(crate) fn assemble() -> Self {
        let part = |part| (part, assemble_part(Architecture::NATIVE, part, gone_group()));
        Self {
            parts: [Part::Cell, Part::Closing, Part::ClosingReadOnly].map(part),
            classes: Class::ALL.into_iter().map(|class| (class, program(class))).collect(),
        }
    }

    /// Returns a part.
    pub(crate) fn part(&self, part: Part) -> &[sock_filter] {
        self.parts.iter().find(|(known, _)| *known == part).map_or(&[], |(_, program)| program)
    }

    /// Returns the filter of a class.
    pub(crate) fn of(&self, class: Class) -> &[sock_filter] {
        self.classes.iter().find(|(known, _)| *known == class).map_or(&[], |(_, program)| program)
    }
}

/// Returns the group of rules that a test has taken away, to see that it is missed when it is gone.
#[cfg(feature = "fault-injection")]
fn gone_group() -> Option<&'static str> {
    let mut names = groups::GROUPS.iter().map(|group| group.name);
    names.find(|name| crate::layers::is_gone(&format!("seccomp: {name}")))
}

#[cfg(not(feature = "fault-injection"))]
const fn gone_group() -> Option<&'static str> {
    None
}

#[cfg(test)]
mod tests;
