//! Namespaces and mounts.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::ptr;

use super::{check, check_int, own};
use crate::layers::{self, is_gone};

/// Mount attributes of mount_setattr(2).
pub(crate) const ATTR_RDONLY: u64 = 0x1;
pub(crate) const ATTR_NOSUID: u64 = 0x2;
pub(crate) const ATTR_NODEV: u64 = 0x4;
pub(crate) const ATTR_NOEXEC: u64 = 0x8;
/// What each of them is called where it is missed.
const ATTRIBUTES: [(u64, &str); 4] = [
    (ATTR_RDONLY, "read-only mounts"),
    (ATTR_NOSUID, "nosuid"),
    (ATTR_NODEV, "nodev"),
    (ATTR_NOEXEC, "noexec"),
];

const OPEN_TREE_CLONE: libc::c_uint = 1;
const AT_RECURSIVE: libc::c_uint = 0x8000;
const FSCONFIG_SET_STRING: libc::c_uint = 1;
const FSCONFIG_CMD_CREATE: libc::c_uint = 6;
const MOVE_MOUNT_F_EMPTY_PATH: libc::c_uint = 0x4;

/// Leaves for new namespaces. See unshare(2).
pub(crate) fn unshare(namespaces: libc::c_int) -> io::Result<()> {
    let namespaces = layers::all_but_gone(namespaces, &[(libc::CLONE_NEWCGROUP, "cgroup namespace")]);
    // SAFETY: takes a number; the caller has one thread.
    check_int(unsafe { libc::unshare(namespaces) })?;
    Ok(())
}

/// Joins a namespace. See setns(2).
pub(crate) fn set_namespace(namespace: BorrowedFd<'_>, kind: libc::c_int) -> io::Result<()> {
    // SAFETY: takes a descriptor held open by the caller and a number.
    check_int(unsafe { libc::setns(namespace.as_raw_fd(), kind) })?;
    Ok(())
}

/// Sets the host name of this UTS namespace. See sethostname(2).
pub(crate) fn set_hostname(name: &str) -> io::Result<()> {
    if is_gone("UTS namespace") {
        return Ok(());
    }
    // SAFETY: pointer and length are those of a live string.
    check_int(unsafe { libc::sethostname(name.as_ptr().cast(), name.len()) })?;
    Ok(())
}

/// Makes every mount of this namespace private. See mount(2).
pub(crate) fn make_mounts_private() -> io::Result<()> {
    let flags = libc::MS_REC | libc::MS_PRIVATE;
    // SAFETY: source, type and data are not looked at with these flags; the target is a NUL-ended string.
    check_int(unsafe { libc::mount(ptr::null(), c"/".as_ptr(), ptr::null(), flags, ptr::null()) })?;
    Ok(())
}

/// How much of the tree a clone takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Depth {
    /// The one mount.
    One,
    /// And what is mounted beneath it.
    All,
}

/// Clones the mount at a path, detached from any namespace. See open_tree(2).
pub(crate) fn clone_tree(path: &CStr, depth: Depth) -> io::Result<OwnedFd> {
    let mut flags = OPEN_TREE_CLONE | libc::O_CLOEXEC.cast_unsigned();
    if depth == Depth::All {
        flags |= AT_RECURSIVE;
    }
    // SAFETY: the path is NUL-ended and outlives the call.
    check(unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, path.as_ptr(), flags) }).map(own)
}

#[repr(C)]
struct MountAttr {
    attr_set: u64,
    attr_clr: u64,
    propagation: u64,
    userns_fd: u64,
}

/// Sets and clears attributes of a mount, or of all beneath it too. See mount_setattr(2).
pub(crate) fn set_mount_attributes(
    mount: BorrowedFd<'_>,
    set: u64,
    clear: u64,
    depth: Depth,
) -> io::Result<()> {
    let set = layers::all_but_gone(set, &ATTRIBUTES);
    let attributes = MountAttr { attr_set: set, attr_clr: clear, propagation: 0, userns_fd: 0 };
    let mut flags = libc::AT_EMPTY_PATH.cast_unsigned();
    if depth == Depth::All {
        flags |= AT_RECURSIVE;
    }
    // SAFETY: the struct is live, `repr(C)`, and passed with its own size, as the call asks.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attributes,
            size_of::<MountAttr>(),
        )
    })?;
    Ok(())
}

/// Attaches a detached mount at a path. See move_mount(2).
pub(crate) fn attach_mount(mount: BorrowedFd<'_>, target: &CStr) -> io::Result<()> {
    // SAFETY: both paths are NUL-ended and outlive the call.
    check(unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_FDCWD,
            target.as_ptr(),
            MOVE_MOUNT_F_EMPTY_PATH,
        )
    })?;
    Ok(())
}

/// Begins a new file system of a type. See fsopen(2).
pub(crate) fn fs_open(kind: &CStr) -> io::Result<OwnedFd> {
    const FSOPEN_CLOEXEC: libc::c_uint = 1;
    // SAFETY: the name is NUL-ended and outlives the call.
    check(unsafe { libc::syscall(libc::SYS_fsopen, kind.as_ptr(), FSOPEN_CLOEXEC) }).map(own)
}

/// Sets an option of a file system that is being made. See fsconfig(2).
pub(crate) fn fs_set(context: BorrowedFd<'_>, key: &CStr, value: &CStr) -> io::Result<()> {
    if is_gone(key.to_str().unwrap_or_default()) {
        return Ok(());
    }
    // SAFETY: key and value are NUL-ended and outlive the call.
    check(unsafe {
        libc::syscall(
            libc::SYS_fsconfig,
            context.as_raw_fd(),
            FSCONFIG_SET_STRING,
            key.as_ptr(),
            value.as_ptr(),
            0,
        )
    })?;
    Ok(())
}

/// Makes the file system. See fsconfig(2).
pub(crate) fn fs_create(context: BorrowedFd<'_>) -> io::Result<()> {
    let nothing = ptr::null::<libc::c_char>();
    // SAFETY: this command takes neither key nor value.
    check(unsafe {
        libc::syscall(libc::SYS_fsconfig, context.as_raw_fd(), FSCONFIG_CMD_CREATE, nothing, nothing, 0)
    })?;
    Ok(())
}

/// Makes a detached mount of a file system that was made. See fsmount(2).
pub(crate) fn fs_mount(context: BorrowedFd<'_>, attributes: u64) -> io::Result<OwnedFd> {
    const FSMOUNT_CLOEXEC: libc::c_uint = 1;
    let attributes = layers::all_but_gone(attributes, &ATTRIBUTES);
    // SAFETY: takes a descriptor held open by the caller and numbers.
    check(unsafe { libc::syscall(libc::SYS_fsmount, context.as_raw_fd(), FSMOUNT_CLOEXEC, attributes) })
        .map(own)
}

/// Makes the working directory the root and stacks the old root on it. See pivot_root(2).
pub(crate) fn pivot_to_working_directory() -> io::Result<()> {
    // SAFETY: both paths are NUL-ended constants.
    check(unsafe { libc::syscall(libc::SYS_pivot_root, c".".as_ptr(), c".".as_ptr()) })?;
    Ok(())
}

/// Detaches the mount on top of a path, and all beneath it. See umount2(2).
pub(crate) fn detach(path: &CStr) -> io::Result<()> {
    // SAFETY: the path is NUL-ended and outlives the call.
    check_int(unsafe { libc::umount2(path.as_ptr(), libc::MNT_DETACH) })?;
    Ok(())
}
