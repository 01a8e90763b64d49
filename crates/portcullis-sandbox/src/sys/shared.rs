//! Memory that a process shares with what it forks.

use std::io;
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};

/// A number that a process and its forks see alike.
#[derive(Debug)]
pub(crate) struct SharedNumber {
    place: *mut AtomicU64,
}

// SAFETY: the place is an atomic, which any thread may read and write, for as long as the mapping lives.
unsafe impl Send for SharedNumber {}
// SAFETY: as above.
unsafe impl Sync for SharedNumber {}

impl SharedNumber {
    /// Maps a place for it; it is 0. See mmap(2).
    pub(crate) fn new() -> io::Result<Self> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
        // SAFETY: a new mapping where the kernel likes; nothing that exists is touched.
        let place = unsafe { libc::mmap(ptr::null_mut(), size_of::<AtomicU64>(), protection, flags, -1, 0) };
        if place == libc::MAP_FAILED {
            Err(io::Error::last_os_error())
        } else {
            Ok(Self { place: place.cast() })
        }
    }

    fn place(&self) -> &AtomicU64 {
        // SAFETY: the mapping is live, page-aligned, large enough, and all bits zero are a valid atomic.
        unsafe { &*self.place }
    }

    pub(crate) fn get(&self) -> u64 {
        self.place().load(Ordering::Relaxed)
    }

    pub(crate) fn set(&self, number: u64) {
        self.place().store(number, Ordering::Relaxed);
    }
}

impl Drop for SharedNumber {
    fn drop(&mut self) {
        // SAFETY: the mapping was made by `new`, and nobody borrows from it any more.
        unsafe { libc::munmap(self.place.cast(), size_of::<AtomicU64>()) };
    }
}
