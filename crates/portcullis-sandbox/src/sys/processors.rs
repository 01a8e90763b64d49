//! On which processors a process may run.

use std::io;

use super::{Pid, check_int};

/// A set of processors.
#[derive(Clone, Copy)]
pub(crate) struct Processors(libc::cpu_set_t);

impl std::fmt::Debug for Processors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} processors", self.count())
    }
}

impl Processors {
    /// Returns those that this thread may run on. See sched_getaffinity(2).
    ///
    /// # Errors
    /// On a host with more of them than the C library's set holds.
    pub(crate) fn allowed() -> io::Result<Self> {
        let mut set = none();
        // SAFETY: the kernel writes at most as many bytes as are passed, into a live set.
        check_int(unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut set) })?;
        Ok(Self(set))
    }

    /// Returns the one that this thread runs on now. See sched_getcpu(3).
    pub(crate) fn current() -> io::Result<Self> {
        // SAFETY: takes nothing.
        let number = check_int(unsafe { libc::sched_getcpu() })?;
        let mut set = none();
        // SAFETY: sets one bit of a live set; numbers beyond it are passed over.
        unsafe { libc::CPU_SET(usize::try_from(number).unwrap_or(usize::MAX), &mut set) };
        Ok(Self(set))
    }

    /// Returns how many they are.
    pub(crate) fn count(&self) -> i32 {
        // SAFETY: counts the bits of a live set.
        unsafe { libc::CPU_COUNT(&self.0) }
    }

    /// Has this thread run on these alone. See sched_setaffinity(2).
    pub(crate) fn keep_to(&self) -> io::Result<()> {
        self.keep(0)
    }

    /// Has a process run on these alone.
    pub(crate) fn keep(&self, process: Pid) -> io::Result<()> {
        // SAFETY: the kernel reads a live set of the size that is passed.
        check_int(unsafe {
            libc::sched_setaffinity(process, size_of::<libc::cpu_set_t>(), &raw const self.0)
        })?;
        Ok(())
    }
}

fn none() -> libc::cpu_set_t {
    // SAFETY: an all-zero set is the valid, empty one.
    unsafe { std::mem::zeroed() }
}
