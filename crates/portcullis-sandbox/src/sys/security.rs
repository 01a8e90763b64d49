//! Capabilities, seccomp, Landlock and prctl.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::ptr;

use super::{check, check_int, own};
use crate::layers::is_gone;

/// Gives up the gaining of privileges by `exec`. See PR_SET_NO_NEW_PRIVS(2const).
pub(crate) fn set_no_new_privileges() -> io::Result<()> {
    if is_gone("no_new_privs") {
        return Ok(());
    }
    prctl(libc::PR_SET_NO_NEW_PRIVS, 1)
}

/// Whether other processes of the same uid may trace this one and use its `/proc` entries. Inherited by a
/// fork, reset by exec. See PR_SET_DUMPABLE(2const).
pub(crate) fn set_dumpable(dumpable: bool) -> io::Result<()> {
    if is_gone("dumpable") {
        return Ok(());
    }
    prctl(libc::PR_SET_DUMPABLE, libc::c_ulong::from(dumpable))
}

/// Asks for a signal when the parent ends. Cleared by a change of credentials. See PR_SET_PDEATHSIG(2const).
pub(crate) fn set_parent_death_signal(signal: i32) -> io::Result<()> {
    if is_gone("parent-death signal") {
        return Ok(());
    }
    prctl(libc::PR_SET_PDEATHSIG, libc::c_ulong::from(signal.cast_unsigned()))
}

/// Becomes the parent of descendants whose parents end. See PR_SET_CHILD_SUBREAPER(2const).
pub(crate) fn set_subreaper() -> io::Result<()> {
    if is_gone("subreaper") {
        return Ok(());
    }
    prctl(libc::PR_SET_CHILD_SUBREAPER, 1)
}

/// Names this thread for `ps`. See PR_SET_NAME(2const).
pub(crate) fn set_name(name: &std::ffi::CStr) -> io::Result<()> {
    // SAFETY: the name is NUL-ended and outlives the call.
    check_int(unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr(), 0, 0, 0) })?;
    Ok(())
}

/// Takes a capability out of the bounding set. `false` when the kernel has no such capability. See
/// PR_CAPBSET_DROP(2const).
pub(crate) fn drop_bounding_capability(capability: u32) -> io::Result<bool> {
    if is_gone("bounding set") {
        return Ok(false);
    }
    match prctl(libc::PR_CAPBSET_DROP, capability.into()) {
        Ok(()) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(false),
        Err(error) => Err(error),
    }
}

fn prctl(operation: libc::c_int, argument: libc::c_ulong) -> io::Result<()> {
    let none: libc::c_ulong = 0;
    // SAFETY: the operations used here take one number; the unused arguments are zero, as they must be.
    check_int(unsafe { libc::prctl(operation, argument, none, none, none) })?;
    Ok(())
}

/// The version of the two structs below. See capget(2).
const VERSION_3: u32 = 0x2008_0522;

#[repr(C)]
struct CapabilityHeader {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct CapabilityData {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// Keeps exactly these capabilities (bit N: capability N), permitted and effective, none inheritable.
/// See capset(2).
pub(crate) fn keep_capabilities(set: u64) -> io::Result<()> {
    match (is_gone("capabilities"), is_gone("what execve takes away")) {
        (false, _) => set_capabilities(set, 0),
        (true, false) => Ok(()),
        (true, true) => keep_over_exec(permitted_capabilities()?),
    }
}

fn set_capabilities(set: u64, inheritable: u64) -> io::Result<()> {
    let header = CapabilityHeader { version: VERSION_3, pid: 0 };
    let word = |shift: u32| {
        let half = |bits: u64| u32::try_from(bits >> shift & 0xffff_ffff).unwrap_or(0);
        CapabilityData { effective: half(set), permitted: half(set), inheritable: half(inheritable) }
    };
    let data = [word(0), word(32)];
    // SAFETY: version 3 takes a header and an array of two; both are live and `repr(C)`.
    check(unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) })?;
    Ok(())
}

/// Has capabilities stay over an `execve`, which takes them from who is not root otherwise. See capabilities(7),
/// "Ambient".
fn keep_over_exec(set: u64) -> io::Result<()> {
    set_capabilities(set, set)?;
    for capability in (0..64).filter(|capability| set & 1 << capability != 0) {
        let none: libc::c_ulong = 0;
        let raise = libc::c_ulong::from(libc::PR_CAP_AMBIENT_RAISE.cast_unsigned());
        // SAFETY: the operation takes two numbers; the unused arguments are zero, as they must be.
        check_int(unsafe { libc::prctl(libc::PR_CAP_AMBIENT, raise, capability, none, none) })?;
    }
    Ok(())
}

/// Returns the permitted capabilities of this thread (bit N: capability N). See capget(2).
pub(crate) fn permitted_capabilities() -> io::Result<u64> {
    let header = CapabilityHeader { version: VERSION_3, pid: 0 };
    let mut data = [CapabilityData { effective: 0, permitted: 0, inheritable: 0 }; 2];
    // SAFETY: version 3 takes a header and fills an array of two; both are live and `repr(C)`.
    check(unsafe { libc::syscall(libc::SYS_capget, &raw const header, data.as_mut_ptr()) })?;
    let [low, high] = data;
    Ok(u64::from(low.permitted) | u64::from(high.permitted) << 32)
}

/// Installs a seccomp filter on this thread. See seccomp(2).
pub(crate) fn install_filter(program: &[libc::sock_filter]) -> io::Result<()> {
    if is_gone("seccomp") {
        return Ok(());
    }
    const SECCOMP_SET_MODE_FILTER: libc::c_uint = 1;
    let length = libc::c_ushort::try_from(program.len())
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "the filter is too long"))?;
    let filter = libc::sock_fprog { len: length, filter: program.as_ptr().cast_mut() };
    // SAFETY: the kernel copies `len` instructions from the live slice and writes nothing.
    check(unsafe { libc::syscall(libc::SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &raw const filter) })?;
    Ok(())
}

/// What a Landlock ruleset handles, as the kernel takes it.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct RulesetAttributes {
    pub(crate) handled_access_fs: u64,
    pub(crate) handled_access_net: u64,
    pub(crate) scoped: u64,
}

/// Returns Landlock's ABI version. See landlock_create_ruleset(2).
pub(crate) fn landlock_abi() -> io::Result<u32> {
    const LANDLOCK_CREATE_RULESET_VERSION: u32 = 1;
    // SAFETY: with this flag the attributes must be null with size zero.
    let abi = check(unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            ptr::null::<RulesetAttributes>(),
            0_usize,
            LANDLOCK_CREATE_RULESET_VERSION,
        )
    })?;
    let most = if is_gone("Landlock ABI 6") { 5 } else { u32::MAX };
    Ok(u32::try_from(abi).unwrap_or(0).min(most))
}

/// Makes a Landlock ruleset; `bytes` is how much of the attributes the kernel's ABI knows. See
/// landlock_create_ruleset(2).
pub(crate) fn create_ruleset(attributes: &RulesetAttributes, bytes: usize) -> io::Result<OwnedFd> {
    let bytes = bytes.min(size_of::<RulesetAttributes>());
    let mut attributes = *attributes;
    if is_gone("Landlock scopes") {
        attributes.scoped = 0;
    }
    if is_gone("Landlock TCP") {
        attributes.handled_access_net = 0;
    }
    // SAFETY: the struct is live and `repr(C)`, and `bytes` is at most its size.
    check(unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, &raw const attributes, bytes, 0_u32) })
        .map(own)
}

#[repr(C, packed)]
struct PathBeneath {
    allowed_access: u64,
    parent_fd: i32,
}

/// Adds to a ruleset what is allowed beneath a directory, or on a file. See landlock_add_rule(2).
pub(crate) fn add_path_rule(ruleset: BorrowedFd<'_>, beneath: BorrowedFd<'_>, access: u64) -> io::Result<()> {
    const LANDLOCK_RULE_PATH_BENEATH: u32 = 1;
    let rule = PathBeneath { allowed_access: access, parent_fd: beneath.as_raw_fd() };
    // SAFETY: the struct is live and laid out as the kernel wants it; its descriptor is held open by the caller.
    check(unsafe {
        libc::syscall(
            libc::SYS_landlock_add_rule,
            ruleset.as_raw_fd(),
            LANDLOCK_RULE_PATH_BENEATH,
            &raw const rule,
            0_u32,
        )
    })?;
    Ok(())
}

/// Enforces a ruleset on this thread. See landlock_restrict_self(2).
pub(crate) fn restrict_self(ruleset: BorrowedFd<'_>) -> io::Result<()> {
    if is_gone("Landlock") {
        return Ok(());
    }
    // SAFETY: takes a descriptor held open by the caller, and flags.
    check(unsafe { libc::syscall(libc::SYS_landlock_restrict_self, ruleset.as_raw_fd(), 0_u32) })?;
    Ok(())
}
