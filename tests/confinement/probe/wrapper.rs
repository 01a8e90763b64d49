//! What the launcher finds at its start, on hosts that give less.
//!
//! A launcher has no environment and no arguments: what is wanted stands in the name that it was executed by, a
//! link to the probe. `probe-without-namespaces-as-nobody` is a launcher in a default container, of an ordinary
//! user; `probe-deaf` one that was started with signals ignored; `probe-placed` one in the control group whose
//! `cgroup.procs` the file `place` beside it names; `probe-failing` one whose steps fail when the
//! file `faults` beside it says so; `confinement-probe-weakened` one that does without the layers of the confinement
//! that the file `gone` beside it names, and finds at its start what some of them are there to take away.

use std::ffi::{CStr, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::calls::raw;

/// Applies what the name of the executable asks for.
pub(crate) fn apply() {
    // SAFETY: the auxiliary vector holds a pointer to the name for as long as the process lives, or null.
    let name = unsafe { libc::getauxval(libc::AT_EXECFN) } as *const libc::c_char;
    if name.is_null() {
        return;
    }
    // SAFETY: not null, so it is the NUL-ended name from the line above.
    let name = unsafe { CStr::from_ptr(name) };
    let path = Path::new(OsStr::from_bytes(name.to_bytes()));
    let asks = |what: &str| path.file_name().is_some_and(|name| name.to_string_lossy().contains(what));
    if asks("deaf") {
        for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGUSR1, libc::SIGPIPE] {
            // SAFETY: ignoring a signal asks for nothing.
            unsafe { libc::signal(signal, libc::SIG_IGN) };
        }
    }
    if asks("placed") {
        let place = std::fs::read(path.with_file_name("place")).expect("the test made it");
        std::fs::write(Path::new(OsStr::from_bytes(&place)), "0").expect("root may move into a group");
    }
    if asks("as-nobody") {
        const NOBODY: usize = 65_534;
        for (call, arguments) in [
            (libc::SYS_setgroups, [0, 0, 0]),
            (libc::SYS_setresgid, [NOBODY; 3]),
            (libc::SYS_setresuid, [NOBODY; 3]),
        ] {
            raw(call, &arguments).expect("root gives its identity up");
        }
        // As it is of whoever an ordinary user starts: a change of identity has ended it. See PR_SET_DUMPABLE(2const).
        raw(libc::SYS_prctl, &[libc::PR_SET_DUMPABLE as usize, 1]).expect("it is a process of its own");
    }
    if asks("without-namespaces") {
        refuse_namespaces();
    }
    #[cfg(feature = "fault-injection")]
    if asks("failing") {
        faults::follow(&path.with_file_name("faults"));
    }
    #[cfg(feature = "fault-injection")]
    if asks("weakened") {
        weaken(&path.with_file_name("gone"));
    }
}

/// Does without the layers that a file names, one in each line.
#[cfg(feature = "fault-injection")]
fn weaken(gone: &Path) {
    static GONE: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    let _ = GONE.set(std::fs::read_to_string(gone).expect("the test made it"));
    portcullis_sandbox::take_layers_away(|layer| {
        GONE.get().is_some_and(|gone| gone.lines().any(|line| line == layer))
    });
    start_carelessly();
}

/// What a careless parent hands on: a mask for new files that keeps nothing, ignored and blocked signals, a
/// group, a descriptor, and limits as high as they go.
#[cfg(feature = "fault-injection")]
fn start_carelessly() {
    let _ = raw(libc::SYS_umask, &[0]);
    // SAFETY: ignoring a signal asks for nothing.
    unsafe { libc::signal(libc::SIGUSR1, libc::SIG_IGN) };
    let blocked = 1_u64 << (libc::SIGUSR2 - 1);
    let _ = raw(libc::SYS_rt_sigprocmask, &[libc::SIG_BLOCK as usize, (&raw const blocked) as usize, 0, 8]);
    // Only root has the right to these two.
    let group = 4_242_u32;
    let _ = raw(libc::SYS_setgroups, &[1, (&raw const group) as usize]);
    for (resource, value) in [
        (libc::RLIMIT_CORE, u64::MAX),
        (libc::RLIMIT_MEMLOCK, u64::MAX),
        (libc::RLIMIT_NICE, 40),
        (libc::RLIMIT_RTPRIO, 99),
        (libc::RLIMIT_MSGQUEUE, u64::MAX),
    ] {
        let limit = [value; 2];
        let _ = raw(libc::SYS_setrlimit, &[resource as usize, (&raw const limit) as usize]);
    }
    let _ = raw(libc::SYS_dup2, &[2, 77]);
}

/// Steps that fail because a file says so.
#[cfg(feature = "fault-injection")]
mod faults {
    use std::os::fd::AsRawFd;
    use std::path::Path;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU8, Ordering};

    use crate::calls::raw;

    /// The file: first the names of the steps that fail, each in a line, then, from here, the names of those that were taken,
    /// each with a NUL behind it.
    const TAKEN: usize = 256;
    const LENGTH: usize = 65_536;

    static FILE: OnceLock<&'static [AtomicU8]> = OnceLock::new();

    /// Maps the file, shared with the test and with every process that is forked from this one.
    pub(super) fn follow(path: &Path) {
        let file = std::fs::File::options().read(true).write(true).open(path).expect("the test made it");
        let protection = (libc::PROT_READ | libc::PROT_WRITE) as usize;
        let arguments = [0, LENGTH, protection, libc::MAP_SHARED as usize, file.as_raw_fd() as usize, 0];
        let mapped = raw(libc::SYS_mmap, &arguments).expect("the file is as long");
        // SAFETY: the mapping is that long, stays for ever, and is only ever touched by atomic accesses here.
        let bytes = unsafe { std::slice::from_raw_parts(mapped as *const AtomicU8, LENGTH) };
        let _ = FILE.set(bytes);
        portcullis_sandbox::fail_steps(asked);
    }

    fn asked(step: &str) -> Option<i32> {
        let (armed, taken) = FILE.get()?.split_at_checked(TAKEN)?;
        record(step, taken);
        let mut names = armed.split(|byte| [0, b'\n'].contains(&byte.load(Ordering::Relaxed)));
        let is_it = |name: &[AtomicU8]| name.iter().map(|byte| byte.load(Ordering::Relaxed)).eq(step.bytes());
        names.any(is_it).then_some(libc::EIO)
    }

    /// Adds a name unless it is there. Two processes that do so at once may spoil one entry, and the next that
    /// takes the step adds it again.
    fn record(step: &str, taken: &[AtomicU8]) {
        let mut at = 0;
        while at < taken.len() && taken[at].load(Ordering::Relaxed) != 0 {
            let entry = &taken[at..];
            let length = entry.iter().take_while(|byte| byte.load(Ordering::Relaxed) != 0).count();
            let known = entry[..length].iter().map(|byte| byte.load(Ordering::Relaxed));
            if known.eq(step.bytes()) {
                return;
            }
            at += length + 1;
        }
        for (place, byte) in taken[at..].iter().zip(step.bytes()) {
            place.store(byte, Ordering::Relaxed);
        }
    }
}

/// Refuses what the seccomp profile of a default container refuses.
fn refuse_namespaces() {
    const REFUSE: u32 = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
    const ABSENT: u32 = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;
    /// Every `CLONE_NEW…` flag of clone(2).
    const NAMESPACES: u32 = 0x7e02_0000;
    let statement = |code: u32, k: u32| libc::sock_filter { code: code as u16, jt: 0, jf: 0, k };
    let jump = |code: u32, k: u32, jt: u8, jf: u8| libc::sock_filter { code: code as u16, jt, jf, k };
    let load = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    let equals = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    let any_bit = libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K;
    let answer = libc::BPF_RET | libc::BPF_K;
    let mut program = vec![statement(load, 0)];
    for call in [
        libc::SYS_unshare,
        libc::SYS_setns,
        libc::SYS_mount,
        libc::SYS_umount2,
        libc::SYS_pivot_root,
        libc::SYS_open_tree,
        libc::SYS_move_mount,
        libc::SYS_fsopen,
        libc::SYS_fsconfig,
        libc::SYS_fsmount,
        libc::SYS_mount_setattr,
    ] {
        program.extend([jump(equals, call as u32, 0, 1), statement(answer, REFUSE)]);
    }
    program.extend([
        jump(equals, libc::SYS_clone3 as u32, 0, 1),
        statement(answer, ABSENT),
        jump(equals, libc::SYS_clone as u32, 0, 3),
        // The lower half of the first argument.
        statement(load, 16),
        jump(any_bit, NAMESPACES, 0, 1),
        statement(answer, REFUSE),
        statement(answer, libc::SECCOMP_RET_ALLOW),
    ]);
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    const NO_NEW_PRIVILEGES: usize = libc::PR_SET_NO_NEW_PRIVS as usize;
    raw(libc::SYS_prctl, &[NO_NEW_PRIVILEGES, 1]).expect("no_new_privs is always taken");
    let arguments = [libc::SECCOMP_SET_MODE_FILTER as usize, 0, (&raw const filter) as usize];
    raw(libc::SYS_seccomp, &arguments).expect("a filter is taken");
}
