//! The kernel's door: one function, one system call. Nothing here decides anything.
//!
//! Functions take and give safe types; each names its manual page.
#![expect(unsafe_code, reason = "system calls; this module is the only place for them in the workspace")]

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;
use std::time::Duration;

use crate::layers::{self, is_gone};

mod mount;
mod processors;
mod security;
mod shared;
mod socket;
mod spawn;
mod waiting;

pub(crate) use mount::*;
pub(crate) use processors::*;
pub(crate) use security::*;
pub(crate) use shared::*;
pub(crate) use socket::*;
pub(crate) use spawn::*;
pub(crate) use waiting::*;

/// A process id.
pub(crate) type Pid = libc::pid_t;

/// Turns the kernel's -1 into the errno.
fn check(rc: libc::c_long) -> io::Result<libc::c_long> {
    if rc == -1 { Err(io::Error::last_os_error()) } else { Ok(rc) }
}

fn check_int(rc: libc::c_int) -> io::Result<libc::c_int> {
    if rc == -1 { Err(io::Error::last_os_error()) } else { Ok(rc) }
}

/// Wraps a descriptor that the kernel has just made for us.
fn own(fd: libc::c_long) -> OwnedFd {
    let fd = RawFd::try_from(fd).unwrap_or(-1);
    // SAFETY: `fd` was returned by the kernel in this very call and nobody else knows it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

// ---------------------------------------------------------------------------------------------- processes

/// Which side of a fork this is.
pub(crate) enum Forked {
    /// The new process.
    Child,
    /// The old one.
    Parent(Pid),
}

/// Forks. The caller's process has one thread, so the child may go on in ordinary code. See fork(2).
pub(crate) fn fork() -> io::Result<Forked> {
    // SAFETY: no arguments; launcher, cell and init have a single thread, so no lock is left held in the child.
    let pid = check_int(unsafe { libc::fork() })?;
    Ok(if pid == 0 { Forked::Child } else { Forked::Parent(pid) })
}

/// Forks into new namespaces and gives the parent a pidfd. See clone(2).
pub(crate) fn clone_into(namespaces: libc::c_int) -> io::Result<(Forked, Option<OwnedFd>)> {
    let namespaces = layers::all_but_gone(namespaces, namespaces_of(namespaces));
    let mut pidfd: libc::c_int = -1;
    let flags = libc::c_long::from(namespaces | libc::CLONE_PIDFD | libc::SIGCHLD);
    // SAFETY: without CLONE_VM and with a null stack this is a fork; the one pointer is to a live `c_int` that
    // the kernel writes in the parent. Callers have a single thread.
    let pid =
        check(unsafe { libc::syscall(libc::SYS_clone, flags, 0_usize, &raw mut pidfd, 0_usize, 0_usize) })?;
    if pid == 0 {
        return Ok((Forked::Child, None));
    }
    Ok((Forked::Parent(Pid::try_from(pid).unwrap_or(-1)), Some(own(libc::c_long::from(pidfd)))))
}

/// The namespaces of a cell, or those of an execution in it.
fn namespaces_of(asked: libc::c_int) -> &'static [(libc::c_int, &'static str)] {
    if asked & libc::CLONE_NEWUSER == 0 {
        return &[(libc::CLONE_NEWPID, "pid namespace"), (libc::CLONE_NEWIPC, "IPC namespace")];
    }
    &[
        (libc::CLONE_NEWUSER, "user namespace"),
        (libc::CLONE_NEWNS, "mount namespace"),
        (libc::CLONE_NEWPID, "pid namespace of the cell"),
        (libc::CLONE_NEWNET, "network namespace"),
        (libc::CLONE_NEWUTS, "UTS namespace"),
    ]
}

/// Ends the process at once, without running anything else of it. See _exit(2).
pub(crate) fn exit_now(status: i32) -> ! {
    // SAFETY: takes a number; does not return.
    unsafe { libc::_exit(status) }
}

/// How a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WaitStatus {
    /// With this exit code.
    Exited(i32),
    /// By this signal.
    Signaled(i32),
}

/// Reaps one child. `None` when `block` is false and none has ended. See wait4(2).
pub(crate) fn wait(pid: Pid, block: bool) -> io::Result<Option<(Pid, WaitStatus, Duration)>> {
    let mut status = 0;
    // SAFETY: an all-zero rusage is a valid value of that plain struct.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    let options = if block { 0 } else { libc::WNOHANG };
    let reaped = loop {
        // SAFETY: both pointers are to live locals of the types that the kernel writes.
        let rc = unsafe { libc::wait4(pid, &raw mut status, options, &raw mut usage) };
        match check_int(rc) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => break other?,
        }
    };
    if reaped == 0 {
        return Ok(None);
    }
    let ended = if libc::WIFSIGNALED(status) {
        WaitStatus::Signaled(libc::WTERMSIG(status))
    } else {
        WaitStatus::Exited(libc::WEXITSTATUS(status))
    };
    let time = |t: libc::timeval| {
        Duration::from_secs(u64::try_from(t.tv_sec).unwrap_or(0))
            + Duration::from_micros(u64::try_from(t.tv_usec).unwrap_or(0))
    };
    Ok(Some((reaped, ended, time(usage.ru_utime) + time(usage.ru_stime))))
}

/// Sends a signal to the process of a pidfd. See pidfd_send_signal(2).
pub(crate) fn pidfd_signal(pidfd: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    // SAFETY: takes a descriptor held open by the caller, a number, and a null siginfo, which means "as kill".
    check(unsafe {
        libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, ptr::null::<u8>(), 0)
    })?;
    Ok(())
}

/// Sends a signal to a process that is our own unreaped child, or to all (`-1`). See kill(2).
pub(crate) fn kill(pid: Pid, signal: i32) -> io::Result<()> {
    // SAFETY: takes two numbers.
    check_int(unsafe { libc::kill(pid, signal) })?;
    Ok(())
}

/// Makes a new session and process group. See setsid(2).
pub(crate) fn setsid() -> io::Result<()> {
    if is_gone("session") {
        return Ok(());
    }
    // SAFETY: takes nothing.
    check_int(unsafe { libc::setsid() })?;
    Ok(())
}

/// Sets the mask for new files. See umask(2).
pub(crate) fn umask(mask: libc::mode_t) {
    if is_gone("umask") {
        return;
    }
    // SAFETY: takes a number and cannot fail.
    unsafe { libc::umask(mask) };
}

/// Sets the soft and hard limit of a resource. See setrlimit(2).
pub(crate) fn set_rlimit(resource: Resource, soft: u64, hard: u64) -> io::Result<()> {
    if is_gone(resource.layer()) {
        return Ok(());
    }
    let limit = libc::rlimit { rlim_cur: soft, rlim_max: hard };
    // SAFETY: the pointer is to a live local that the kernel only reads.
    check_int(unsafe { libc::setrlimit(resource as libc::__rlimit_resource_t, &raw const limit) })?;
    Ok(())
}

/// Reads the hard limit of a resource. See getrlimit(2).
pub(crate) fn hard_rlimit(resource: Resource) -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the pointer is to a live local of the type that the kernel writes.
    check_int(unsafe { libc::getrlimit(resource as libc::__rlimit_resource_t, &raw mut limit) })?;
    Ok(limit.rlim_max)
}

/// A resource of setrlimit(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Resource {
    Core = libc::RLIMIT_CORE,
    Cpu = libc::RLIMIT_CPU,
    Data = libc::RLIMIT_DATA,
    FileSize = libc::RLIMIT_FSIZE,
    Locks = libc::RLIMIT_LOCKS,
    MemLock = libc::RLIMIT_MEMLOCK,
    MsgQueue = libc::RLIMIT_MSGQUEUE,
    Nice = libc::RLIMIT_NICE,
    OpenFiles = libc::RLIMIT_NOFILE,
    Processes = libc::RLIMIT_NPROC,
    RealTimePriority = libc::RLIMIT_RTPRIO,
    SigPending = libc::RLIMIT_SIGPENDING,
}

impl Resource {
    /// Returns the name of the limit.
    const fn layer(self) -> &'static str {
        match self {
            Self::Core => "RLIMIT_CORE",
            Self::Cpu => "RLIMIT_CPU",
            Self::Data => "RLIMIT_DATA",
            Self::FileSize => "RLIMIT_FSIZE",
            Self::Locks => "RLIMIT_LOCKS",
            Self::MemLock => "RLIMIT_MEMLOCK",
            Self::MsgQueue => "RLIMIT_MSGQUEUE",
            Self::Nice => "RLIMIT_NICE",
            Self::OpenFiles => "RLIMIT_NOFILE",
            Self::Processes => "RLIMIT_NPROC",
            Self::RealTimePriority => "RLIMIT_RTPRIO",
            Self::SigPending => "RLIMIT_SIGPENDING",
        }
    }

    /// Names the step that sets it.
    pub(crate) fn step(self) -> &'static str {
        match self {
            Self::Core => "rlimit Core",
            Self::Cpu => "rlimit Cpu",
            Self::Data => "rlimit Data",
            Self::FileSize => "rlimit FileSize",
            Self::Locks => "rlimit Locks",
            Self::MemLock => "rlimit MemLock",
            Self::MsgQueue => "rlimit MsgQueue",
            Self::Nice => "rlimit Nice",
            Self::OpenFiles => "rlimit OpenFiles",
            Self::Processes => "rlimit Processes",
            Self::RealTimePriority => "rlimit RealTimePriority",
            Self::SigPending => "rlimit SigPending",
        }
    }
}

// ------------------------------------------------------------------------------------------------ signals

/// Blocks these signals in addition to those already blocked. See sigprocmask(2).
pub(crate) fn block_signals(signals: &[i32]) -> io::Result<()> {
    let set = signal_set(signals);
    // SAFETY: the set is a live local; a null old set is allowed.
    check_int(unsafe { libc::sigprocmask(libc::SIG_BLOCK, &raw const set, ptr::null_mut()) })?;
    Ok(())
}

/// Unblocks every signal. See sigprocmask(2).
pub(crate) fn unblock_all_signals() -> io::Result<()> {
    if is_gone("signal mask") {
        return Ok(());
    }
    let set = signal_set(&[]);
    // SAFETY: the set is a live local; a null old set is allowed.
    check_int(unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const set, ptr::null_mut()) })?;
    Ok(())
}

/// Gives a signal its default disposition. See signal(2).
pub(crate) fn default_disposition(signal: i32) {
    if is_gone("signal dispositions") {
        return;
    }
    // SAFETY: SIG_DFL is a valid handler; an invalid or unchangeable signal number is only refused.
    unsafe { libc::signal(signal, libc::SIG_DFL) };
}

/// Has a signal ignored. A fork and an exec inherit that. See signal(2).
pub(crate) fn ignore_signal(signal: i32) {
    // SAFETY: SIG_IGN is a valid handler; an invalid or unchangeable signal number is only refused.
    unsafe { libc::signal(signal, libc::SIG_IGN) };
}

/// Gives every signal its default disposition, also those that the C library keeps for itself. See
/// rt_sigaction(2).
pub(crate) fn default_dispositions() {
    if is_gone("signal dispositions") {
        return;
    }
    // Handler, flags, restorer and mask of the kernel's own sigaction: all zero is SIG_DFL with nothing set.
    const DEFAULT: [u64; 4] = [0; 4];
    for signal in 1..=64 {
        // SAFETY: the action is live, as large as the kernel reads, and its mask has the size that is passed; an
        // unchangeable signal is only refused. A null old action is allowed.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                DEFAULT.as_ptr(),
                ptr::null_mut::<u64>(),
                size_of::<u64>(),
            )
        };
    }
}

/// Takes one pending signal of these, waiting for it up to `timeout` (for ever without). Returns its number
/// and the sender's pid as this pid namespace sees it: 0 for a sender outside. See sigtimedwait(2).
pub(crate) fn take_signal(signals: &[i32], timeout: Option<Duration>) -> io::Result<Option<(i32, Pid)>> {
    let set = signal_set(signals);
    // SAFETY: an all-zero siginfo is a valid value of that plain struct.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    let limit = timeout.map(timespec);
    let limit = limit.as_ref().map_or(ptr::null(), ptr::from_ref);
    // SAFETY: set, info and timeout are live locals; a null timeout means no limit.
    match check_int(unsafe { libc::sigtimedwait(&raw const set, &raw mut info, limit) }) {
        Ok(signal) => {
            // SAFETY: for the signals asked for here (SIGCHLD, SIGTERM) the kernel has filled in `si_pid`.
            let sender = unsafe { info.si_pid() };
            Ok(Some((signal, sender)))
        }
        Err(error) if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EINTR)) => Ok(None),
        Err(error) => Err(error),
    }
}

fn timespec(duration: Duration) -> libc::timespec {
    libc::timespec {
        tv_sec: libc::time_t::try_from(duration.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: duration.subsec_nanos().into(),
    }
}

fn signal_set(signals: &[i32]) -> libc::sigset_t {
    // SAFETY: an all-zero sigset is a valid value, and sigemptyset below makes it a defined one.
    let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a live local.
    unsafe { libc::sigemptyset(&raw mut set) };
    for &signal in signals {
        // SAFETY: the pointer is to a live local; an invalid number is only refused.
        unsafe { libc::sigaddset(&raw mut set, signal) };
    }
    set
}

// -------------------------------------------------------------------------------------------- descriptors

/// Makes a pipe, both ends close-on-exec: (read, write). See pipe2(2).
pub(crate) fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut ends = [-1_i32; 2];
    // SAFETY: the pointer is to two live ints that the kernel writes.
    check_int(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) })?;
    let [read, write] = ends;
    Ok((own(read.into()), own(write.into())))
}

/// Makes `target` the same as `fd`, kept over exec; both may be equal. See dup2(2).
pub(crate) fn duplicate_onto(fd: RawFd, target: RawFd) -> io::Result<()> {
    if fd == target {
        // SAFETY: takes numbers; clears close-on-exec, which dup2 of equal descriptors would not.
        check_int(unsafe { libc::fcntl(fd, libc::F_SETFD, 0) })?;
        return Ok(());
    }
    // SAFETY: takes numbers. What `target` was is closed; callers in the child own 0, 1 and 2.
    check_int(unsafe { libc::dup2(fd, target) })?;
    Ok(())
}

/// Duplicates a descriptor to a number of at least `least`, close-on-exec. See fcntl(2).
pub(crate) fn duplicate_above(fd: BorrowedFd<'_>, least: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: takes numbers; the descriptor is held open by the caller.
    let new = check_int(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, least) })?;
    Ok(own(new.into()))
}

/// Closes every descriptor from `first` up to and including `last`. See close_range(2).
pub(crate) fn close_range(first: u32, last: u32) -> io::Result<()> {
    if is_gone("close_range") {
        return Ok(());
    }
    // SAFETY: takes numbers. Callers are about to leave their old life: no `OwnedFd` of the range is used again.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) })?;
    Ok(())
}

/// Parts with the descriptors that this process shares with another: both keep all of them. See close_range(2).
pub(crate) fn unshare_descriptors() -> io::Result<()> {
    // SAFETY: takes numbers; no descriptor can have the one that is named.
    check(unsafe { libc::syscall(libc::SYS_close_range, u32::MAX, u32::MAX, libc::CLOSE_RANGE_UNSHARE) })?;
    Ok(())
}

/// Writes all of it, as far as it can be written. See write(2).
pub(crate) fn write_all(fd: RawFd, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        // SAFETY: pointer and length are those of a live slice; a descriptor that is not open is only refused.
        let written = unsafe { libc::write(fd, bytes.as_ptr().cast(), bytes.len()) };
        match usize::try_from(written) {
            Ok(written) if written > 0 => bytes = bytes.get(written..).unwrap_or_default(),
            _ if io::Error::last_os_error().kind() == io::ErrorKind::Interrupted => {}
            _ => return,
        }
    }
}

/// Waits for a byte; says whether one came before the end. See read(2).
pub(crate) fn read_byte(fd: RawFd) -> io::Result<bool> {
    let mut byte = 0_u8;
    loop {
        // SAFETY: the pointer is to one live byte, and the length is 1; a descriptor that is not open is only refused.
        let read = unsafe { libc::read(fd, (&raw mut byte).cast(), 1) };
        match read {
            0 => return Ok(false),
            1.. => return Ok(true),
            _ => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
        }
    }
}

/// Opens beneath a directory, or from the working directory without one; close-on-exec. See openat(2).
pub(crate) fn open_at(
    directory: Option<BorrowedFd<'_>>,
    path: &CStr,
    flags: libc::c_int,
    mode: libc::mode_t,
) -> io::Result<OwnedFd> {
    let directory = directory.map_or(libc::AT_FDCWD, |fd| fd.as_raw_fd());
    let flags = layers::all_but_gone(flags, &[(libc::O_NOFOLLOW, "O_NOFOLLOW")]);
    // SAFETY: the path is NUL-ended and outlives the call.
    let fd = check_int(unsafe { libc::openat(directory, path.as_ptr(), flags | libc::O_CLOEXEC, mode) })?;
    Ok(own(fd.into()))
}

/// Removes a name beneath a directory: of a file or, when said so, of an empty directory. See unlinkat(2).
pub(crate) fn unlink_at(directory: BorrowedFd<'_>, name: &CStr, is_directory: bool) -> io::Result<()> {
    let flags = if is_directory { libc::AT_REMOVEDIR } else { 0 };
    // SAFETY: the name is NUL-ended and outlives the call.
    check_int(unsafe { libc::unlinkat(directory.as_raw_fd(), name.as_ptr(), flags) })?;
    Ok(())
}

/// Moves a name from one directory to another; refuses to replace anything. See renameat2(2).
pub(crate) fn rename_at(
    from: BorrowedFd<'_>,
    name: &CStr,
    to: BorrowedFd<'_>,
    new_name: &CStr,
) -> io::Result<()> {
    // SAFETY: both names are NUL-ended and outlive the call.
    check(unsafe {
        libc::syscall(
            libc::SYS_renameat2,
            from.as_raw_fd(),
            name.as_ptr(),
            to.as_raw_fd(),
            new_name.as_ptr(),
            libc::RENAME_NOREPLACE,
        )
    })?;
    Ok(())
}

/// Makes an opened directory the working directory. See fchdir(2).
pub(crate) fn change_directory(directory: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: takes a descriptor held open by the caller.
    check_int(unsafe { libc::fchdir(directory.as_raw_fd()) })?;
    Ok(())
}

/// Returns the magic number of the file system that holds an open file. See fstatfs(2).
pub(crate) fn file_system_type(fd: BorrowedFd<'_>) -> io::Result<i64> {
    // SAFETY: an all-zero statfs is a valid value of that plain struct.
    let mut stat: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a live local of the type that the kernel writes.
    check_int(unsafe { libc::fstatfs(fd.as_raw_fd(), &raw mut stat) })?;
    Ok(stat.f_type)
}

/// A descriptor to wait for reading on, and whether it is ready or hung up.
pub(crate) struct Polled<'fd> {
    pub(crate) fd: BorrowedFd<'fd>,
    pub(crate) ready: bool,
}

/// Waits until one can be read or is hung up, or the time is over (for ever without). See poll(2).
pub(crate) fn poll(entries: &mut [Polled<'_>], timeout: Option<Duration>) -> io::Result<()> {
    let mut list: Vec<libc::pollfd> = entries
        .iter()
        .map(|entry| libc::pollfd { fd: entry.fd.as_raw_fd(), events: libc::POLLIN, revents: 0 })
        .collect();
    let count = libc::nfds_t::try_from(list.len()).unwrap_or(0);
    let limit = timeout.map(timespec);
    let limit = limit.as_ref().map_or(ptr::null(), ptr::from_ref);
    // SAFETY: the array and the timeout are live locals; a null mask leaves the mask as it is.
    match check_int(unsafe { libc::ppoll(list.as_mut_ptr(), count, limit, ptr::null()) }) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
        Err(error) => return Err(error),
    }
    for (entry, polled) in entries.iter_mut().zip(&list) {
        entry.ready = polled.revents != 0;
    }
    Ok(())
}

// ---------------------------------------------------------------------------------------------- identities

/// Returns the effective uid. See geteuid(2).
pub(crate) fn effective_uid() -> u32 {
    // SAFETY: takes nothing and cannot fail.
    unsafe { libc::geteuid() }
}

/// Returns the effective gid. See getegid(2).
pub(crate) fn effective_gid() -> u32 {
    // SAFETY: takes nothing and cannot fail.
    unsafe { libc::getegid() }
}

/// Sets real, effective and saved uid of this (only) thread. See setresuid(2).
pub(crate) fn set_uid(uid: u32) -> io::Result<()> {
    // SAFETY: takes numbers.
    check(unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) })?;
    Ok(())
}

/// Sets real, effective and saved gid of this (only) thread. See setresgid(2).
pub(crate) fn set_gid(gid: u32) -> io::Result<()> {
    // SAFETY: takes numbers.
    check(unsafe { libc::syscall(libc::SYS_setresgid, gid, gid, gid) })?;
    Ok(())
}

/// Returns the real uid, by which processes are counted. See getuid(2).
pub(crate) fn real_uid() -> u32 {
    // SAFETY: takes nothing and cannot fail.
    unsafe { libc::getuid() }
}

/// Returns how many supplementary groups this process has. See getgroups(2).
pub(crate) fn supplementary_groups() -> io::Result<usize> {
    // SAFETY: a size of zero asks for the count alone and writes nothing.
    let count = check_int(unsafe { libc::getgroups(0, ptr::null_mut()) })?;
    Ok(usize::try_from(count).unwrap_or(0))
}

/// Gives up every supplementary group. See setgroups(2).
pub(crate) fn clear_groups() -> io::Result<()> {
    if is_gone("supplementary groups") {
        return Ok(());
    }
    // SAFETY: a length of zero reads nothing from the null pointer.
    check(unsafe { libc::syscall(libc::SYS_setgroups, 0_usize, ptr::null::<u32>()) })?;
    Ok(())
}
