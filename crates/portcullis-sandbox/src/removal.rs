//! Removes what commands have left in a directory, however they have made it.
//!
//! Stack, memory and descriptors are bounded whatever the depth: a directory's subdirectories are moved up to
//! the top before it is removed, so that nothing is ever more than two levels down. No link is followed, and
//! names are bytes.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::sys;

/// How many names are looked at before their directory is read anew.
const BATCH: usize = 1_024;

/// Removes a directory with everything in it.
pub(crate) fn remove(directory: &Path) -> io::Result<()> {
    empty(directory)?;
    std::fs::remove_dir(directory)
}

/// Removes everything in a directory.
pub(crate) fn empty(directory: &Path) -> io::Result<()> {
    let name = CString::new(directory.as_os_str().to_owned().into_vec())?;
    let top = sys::open_at(None, &name, libc::O_RDONLY | libc::O_DIRECTORY | libc::O_NOFOLLOW, 0)?;
    let mut number = 0_u64;
    loop {
        let entries = batch(&top)?;
        if entries.is_empty() {
            return Ok(());
        }
        for Entry { name, is_directory } in entries {
            if is_directory {
                let inner = open_for_removal(top.as_fd(), &name)?;
                empty_one(&top, &inner, &mut number)?;
            }
            sys::unlink_at(top.as_fd(), &name, is_directory)?;
        }
    }
}

/// Empties a directory beneath the top: removes its files and moves its directories up.
fn empty_one(top: &OwnedFd, inner: &OwnedFd, number: &mut u64) -> io::Result<()> {
    loop {
        let entries = batch(inner)?;
        if entries.is_empty() {
            return Ok(());
        }
        for Entry { name, is_directory } in entries {
            if !is_directory {
                sys::unlink_at(inner.as_fd(), &name, false)?;
                continue;
            }
            // One that may not be written cannot be moved: its `..` would change.
            drop(open_for_removal(inner.as_fd(), &name)?);
            loop {
                *number += 1;
                let up = CString::new(format!("{number}"))?;
                match sys::rename_at(inner.as_fd(), &name, top.as_fd(), &up) {
                    // The command has used that name itself.
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                    moved => break moved?,
                }
            }
        }
    }
}

/// Opens a directory so that it can be read and changed, whatever its mode is.
fn open_for_removal(parent: BorrowedFd<'_>, name: &CString) -> io::Result<OwnedFd> {
    let kind = libc::O_DIRECTORY | libc::O_NOFOLLOW;
    let found = sys::open_at(Some(parent), name, libc::O_PATH | kind, 0)?;
    // By the descriptor, so that it is the mode of this directory and of nothing else.
    let by_descriptor = format!("/proc/self/fd/{}", found.as_raw_fd());
    let mode = std::fs::metadata(&by_descriptor)?.permissions().mode();
    if mode & 0o700 != 0o700 {
        std::fs::set_permissions(&by_descriptor, PermissionsExt::from_mode(0o700))?;
    }
    sys::open_at(Some(parent), name, libc::O_RDONLY | kind, 0)
}

struct Entry {
    name: CString,
    is_directory: bool,
}

/// Lists the first entries of an open directory.
fn batch(directory: &OwnedFd) -> io::Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for entry in std::fs::read_dir(format!("/proc/self/fd/{}", directory.as_raw_fd()))?.take(BATCH) {
        let entry = entry?;
        let is_directory = entry.file_type()?.is_dir();
        entries.push(Entry { name: CString::new(entry.file_name().into_vec())?, is_directory });
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStrExt;

    #[test]
    fn a_tree_deeper_than_any_stack_or_path_is_removed() {
        let top = tempfile::tempdir().unwrap();
        let mut at = sys::open_at(
            None,
            &CString::new(top.path().as_os_str().as_bytes()).unwrap(),
            libc::O_PATH | libc::O_DIRECTORY,
            0,
        )
        .unwrap();
        for _ in 0..3_000 {
            std::fs::create_dir(format!("/proc/self/fd/{}/d", at.as_raw_fd())).unwrap();
            at = sys::open_at(Some(at.as_fd()), c"d", libc::O_PATH | libc::O_DIRECTORY, 0).unwrap();
        }
        drop(at);
        empty(top.path()).unwrap();
        assert_eq!(std::fs::read_dir(top.path()).unwrap().count(), 0);
    }

    #[test]
    fn names_and_modes_do_not_matter_and_links_are_not_followed() {
        let place = tempfile::tempdir().unwrap();
        let (top, outside) = (place.path().join("top"), place.path().join("outside"));
        std::fs::create_dir_all(top.join("a/b/c")).unwrap();
        std::fs::create_dir(&outside).unwrap();
        std::fs::write(outside.join("kept"), "kept").unwrap();
        std::os::unix::fs::symlink(&outside, top.join("a/link")).unwrap();
        std::os::unix::fs::symlink(&outside, top.join("link")).unwrap();
        // Names that a moved directory would get are taken.
        for number in 1..5 {
            std::fs::write(top.join(number.to_string()), "").unwrap();
        }
        let odd = top.join(std::ffi::OsStr::from_bytes(b"\xff\n\t name"));
        std::fs::create_dir(&odd).unwrap();
        std::fs::write(odd.join("x"), "").unwrap();
        for closed in [top.join("a/b"), top.join("a"), odd] {
            std::fs::set_permissions(closed, PermissionsExt::from_mode(0o000)).unwrap();
        }
        remove(&top).unwrap();
        assert!(!top.exists());
        assert_eq!(std::fs::read_to_string(outside.join("kept")).unwrap(), "kept");
    }
}
