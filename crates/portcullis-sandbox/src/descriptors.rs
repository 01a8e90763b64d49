//! Closing everything but what is meant to stay open.

use std::io;
use std::os::fd::RawFd;

use crate::sys;

/// Closes every descriptor but the standard streams and these.
pub(crate) fn close_all_but(kept: &[RawFd]) -> io::Result<()> {
    let mut kept: Vec<u32> = kept.iter().filter_map(|&fd| u32::try_from(fd).ok()).chain(0..=2).collect();
    kept.sort_unstable();
    let mut next = 0;
    for fd in kept {
        if fd > next {
            sys::close_range(next, fd - 1)?;
        }
        next = next.max(fd + 1);
    }
    sys::close_range(next, u32::MAX)
}
