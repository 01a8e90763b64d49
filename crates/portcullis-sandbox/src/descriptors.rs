//! Closing everything but what is meant to stay open.

use std::io;
use std::os::fd::RawFd;

use crate::sys;

/// Closes every descriptor but the standard streams and these, which are given in ascending order.
pub(crate) fn close_all_but(kept: &[RawFd]) -> io::Result<()> {
    const FIRST: u32 = 3;
    let mut next = FIRST;
    for fd in kept.iter().filter_map(|&fd| u32::try_from(fd).ok()).filter(|&fd| fd >= FIRST) {
        if fd > next {
            sys::close_range(next, fd - 1)?;
        }
        next = next.max(fd + 1);
    }
    sys::close_range(next, u32::MAX)
}
