//! Landlock rulesets: what one command may do to files, and nothing to the network. See landlock(7).

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::sys;

pub(crate) const EXECUTE: u64 = 1 << 0;
pub(crate) const WRITE_FILE: u64 = 1 << 1;
pub(crate) const READ_FILE: u64 = 1 << 2;
pub(crate) const READ_DIR: u64 = 1 << 3;
const REMOVE_DIR: u64 = 1 << 4;
const REMOVE_FILE: u64 = 1 << 5;
const MAKE_CHAR: u64 = 1 << 6;
const MAKE_DIR: u64 = 1 << 7;
const MAKE_REG: u64 = 1 << 8;
const MAKE_SOCK: u64 = 1 << 9;
const MAKE_FIFO: u64 = 1 << 10;
const MAKE_BLOCK: u64 = 1 << 11;
const MAKE_SYM: u64 = 1 << 12;
const REFER: u64 = 1 << 13;
const TRUNCATE: u64 = 1 << 14;
const IOCTL_DEV: u64 = 1 << 15;

/// Reading files and listing directories.
pub(crate) const READ: u64 = READ_FILE | READ_DIR;
/// Writing, creating and truncating; devices and sockets are never made.
pub(crate) const WRITE: u64 = WRITE_FILE | TRUNCATE | MAKE_DIR | MAKE_REG | MAKE_FIFO | MAKE_SYM;
/// Removing entries, and renaming them, also into another directory that may be written.
pub(crate) const DELETE: u64 = REMOVE_DIR | REMOVE_FILE | REFER;

/// What can be granted on a file rather than a directory.
const FILE_RIGHTS: u64 = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV;

/// What an ABI can handle: (rights on files, rights on TCP, scopes, bytes of the attributes).
fn handled(abi: u32) -> (u64, u64, u64, usize) {
    let first = EXECUTE | WRITE_FILE | READ | REMOVE_DIR | REMOVE_FILE;
    let makes = MAKE_CHAR | MAKE_DIR | MAKE_REG | MAKE_SOCK | MAKE_FIFO | MAKE_BLOCK | MAKE_SYM;
    let mut files = first | makes;
    if abi >= 2 {
        files |= REFER;
    }
    if abi >= 3 {
        files |= TRUNCATE;
    }
    if abi >= 5 {
        files |= IOCTL_DEV;
    }
    let tcp = if abi >= 4 { 0b11 } else { 0 };
    let scopes = if abi >= 6 { 0b11 } else { 0 };
    let bytes = match abi {
        0..=3 => 8,
        4..=5 => 16,
        _ => 24,
    };
    (files, tcp, scopes, bytes)
}

/// Opens a path to have rights allowed on it, and returns those of them that can be: not all can on a file. `None` when
/// there is nothing at the path.
pub(crate) fn open(path: &Path, access: u64) -> io::Result<Option<(OwnedFd, u64)>> {
    let name = CString::new(path.as_os_str().as_bytes())?;
    match sys::open_at(None, &name, libc::O_PATH, 0) {
        Ok(fd) => {
            let file = std::fs::File::from(fd);
            let access = if file.metadata()?.is_dir() { access } else { access & FILE_RIGHTS };
            Ok(Some((file.into(), access)))
        }
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR | libc::EACCES)) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// A ruleset that is being filled. It denies everything it handles but what is allowed.
#[derive(Debug)]
pub(crate) struct Ruleset {
    fd: OwnedFd,
    files: u64,
}

impl Ruleset {
    /// Begins a ruleset that handles all that the ABI knows, TCP and scopes included.
    pub(crate) fn new(abi: u32) -> io::Result<Self> {
        let (files, tcp, scoped, bytes) = handled(abi);
        let attributes = sys::RulesetAttributes { handled_access_fs: files, handled_access_net: tcp, scoped };
        Ok(Self { fd: sys::create_ruleset(&attributes, bytes)?, files })
    }

    /// Allows rights on a path and everything beneath it. A path that does not exist is passed over:
    /// there is nothing to allow.
    pub(crate) fn allow(&self, path: &Path, access: u64) -> io::Result<()> {
        match open(path, access)? {
            Some((opened, access)) => self.allow_opened(opened.as_fd(), access),
            None => Ok(()),
        }
    }

    /// Allows to read what `/proc` shows, when it has been mounted since: without the heap.
    pub(crate) fn allow_proc(&self) -> io::Result<()> {
        self.allow_opened(sys::open_at(None, c"/proc", libc::O_PATH, 0)?.as_fd(), READ)
    }

    /// Allows rights on what [`open`] has opened.
    pub(crate) fn allow_opened(&self, opened: BorrowedFd<'_>, access: u64) -> io::Result<()> {
        match access & self.files {
            0 => Ok(()),
            access => sys::add_path_rule(self.fd.as_fd(), opened, access),
        }
    }

    /// Returns the ruleset's number, for who closes all others.
    pub(crate) fn descriptor(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    /// Enforces the ruleset on this process, for good.
    pub(crate) fn enforce(&self) -> io::Result<()> {
        sys::restrict_self(self.fd.as_fd())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_abi_handles_what_the_one_before_it_does() {
        for abi in 1..10 {
            let (files, tcp, scopes, bytes) = handled(abi);
            let (more_files, more_tcp, more_scopes, more_bytes) = handled(abi + 1);
            assert_eq!(files & more_files, files);
            assert_eq!(tcp & more_tcp, tcp);
            assert_eq!(scopes & more_scopes, scopes);
            assert!(bytes <= more_bytes);
        }
    }

    #[test]
    fn writing_does_not_include_removing_or_devices() {
        assert_eq!(WRITE & DELETE, 0);
        assert_eq!(WRITE & (MAKE_CHAR | MAKE_BLOCK | MAKE_SOCK | EXECUTE), 0);
    }
}
