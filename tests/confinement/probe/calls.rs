//! System calls by name, with arguments written as text.

use std::ffi::CString;
use std::io;

/// A value that a call points to, kept alive while it is made.
type Held = Box<dyn std::any::Any>;

/// Makes the calls, separated by `,`.
pub(crate) fn make(words: &[&str]) {
    let mut results: Vec<i64> = Vec::new();
    for call in words.split(|word| *word == ",") {
        let Some((name, arguments)) = call.split_first() else { continue };
        let Some(number) = number_of(name) else {
            crate::say(&format!("{name} ? unknown to the probe"));
            std::process::exit(98);
        };
        let mut held = Vec::new();
        let mut values = [0_usize; 6];
        for (slot, argument) in values.iter_mut().zip(arguments) {
            *slot = value_of(argument, &results, &mut held);
        }
        let [a, b, c, d, e, f] = values;
        // SAFETY: pointers among the arguments are to values in `held`; what a call does to this process is
        // what the test asks about.
        let result = unsafe { libc::syscall(number, a, b, c, d, e, f) };
        results.push(result);
        if result == -1 {
            crate::say(&format!("{name} ! {}", errno_name(io::Error::last_os_error())));
        } else {
            crate::say(&format!("{name} = {result}"));
        }
        drop(held);
    }
}

fn value_of(argument: &str, results: &[i64], held: &mut Vec<Held>) -> usize {
    if let Some(text) = argument.strip_prefix("s:") {
        let text = CString::new(text).unwrap_or_default();
        let pointer = text.as_ptr() as usize;
        held.push(Box::new(text));
        return pointer;
    }
    if let Some(count) = argument.strip_prefix("b:") {
        let mut bytes = vec![0_u8; count.parse().unwrap_or(8)];
        let pointer = bytes.as_mut_ptr() as usize;
        held.push(Box::new(bytes));
        return pointer;
    }
    if let Some(list) = argument.strip_prefix("w:") {
        let mut words: Vec<u64> = list.split('/').map(|word| number(word) as u64).collect();
        let pointer = words.as_mut_ptr() as usize;
        held.push(Box::new(words));
        return pointer;
    }
    if let Some(index) = argument.strip_prefix('$') {
        let index: usize = index.parse().unwrap_or(0);
        return results.get(index).copied().unwrap_or(-1) as usize;
    }
    number(argument) as usize
}

fn number(text: &str) -> i64 {
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).unwrap_or(0) as i64,
        None => text.parse().unwrap_or(0),
    }
}

/// Returns the symbolic name of an error.
pub(crate) fn errno_name(error: io::Error) -> String {
    let names = [
        (libc::EPERM, "EPERM"),
        (libc::ENOENT, "ENOENT"),
        (libc::ESRCH, "ESRCH"),
        (libc::EIO, "EIO"),
        (libc::ENXIO, "ENXIO"),
        (libc::E2BIG, "E2BIG"),
        (libc::ENOEXEC, "ENOEXEC"),
        (libc::EBADF, "EBADF"),
        (libc::ECHILD, "ECHILD"),
        (libc::EAGAIN, "EAGAIN"),
        (libc::ENOMEM, "ENOMEM"),
        (libc::EACCES, "EACCES"),
        (libc::EFAULT, "EFAULT"),
        (libc::EBUSY, "EBUSY"),
        (libc::EEXIST, "EEXIST"),
        (libc::EXDEV, "EXDEV"),
        (libc::ENODEV, "ENODEV"),
        (libc::ENOTDIR, "ENOTDIR"),
        (libc::EISDIR, "EISDIR"),
        (libc::EINVAL, "EINVAL"),
        (libc::ENFILE, "ENFILE"),
        (libc::EMFILE, "EMFILE"),
        (libc::ENOTTY, "ENOTTY"),
        (libc::ETXTBSY, "ETXTBSY"),
        (libc::EFBIG, "EFBIG"),
        (libc::ENOSPC, "ENOSPC"),
        (libc::EROFS, "EROFS"),
        (libc::ELOOP, "ELOOP"),
        (libc::ENOSYS, "ENOSYS"),
        (libc::EOPNOTSUPP, "EOPNOTSUPP"),
        (libc::EAFNOSUPPORT, "EAFNOSUPPORT"),
        (libc::ENETUNREACH, "ENETUNREACH"),
        (libc::ECONNREFUSED, "ECONNREFUSED"),
        (libc::ENOKEY, "ENOKEY"),
    ];
    let number = error.raw_os_error().unwrap_or(0);
    names
        .iter()
        .find(|(known, _)| *known == number)
        .map_or_else(|| number.to_string(), |(_, name)| (*name).into())
}

macro_rules! table {
    ($($name:ident)*) => {
        fn number_of(name: &str) -> Option<libc::c_long> {
            match name {
                $(stringify!($name) => Some(paste_number!($name)),)*
                "open_tree" => Some(libc::SYS_open_tree),
                other => other.parse().ok(),
            }
        }
    };
}

macro_rules! paste_number {
    (access) => {
        libc::SYS_faccessat
    }; // with AT_FDCWD as its first argument
    (add_key) => {
        libc::SYS_add_key
    };
    (bpf) => {
        libc::SYS_bpf
    };
    (capset) => {
        libc::SYS_capset
    };
    (chdir) => {
        libc::SYS_chdir
    };
    (chroot) => {
        libc::SYS_chroot
    };
    (clock_settime) => {
        libc::SYS_clock_settime
    };
    (clone) => {
        libc::SYS_clone
    };
    (clone3) => {
        libc::SYS_clone3
    };
    (close) => {
        libc::SYS_close
    };
    (connect) => {
        libc::SYS_connect
    };
    (execveat) => {
        libc::SYS_execveat
    };
    (fanotify_init) => {
        libc::SYS_fanotify_init
    };
    (fchmod) => {
        libc::SYS_fchmod
    };
    (fchmodat) => {
        libc::SYS_fchmodat
    };
    (fchownat) => {
        libc::SYS_fchownat
    };
    (fcntl) => {
        libc::SYS_fcntl
    };
    (fsmount) => {
        libc::SYS_fsmount
    };
    (fsopen) => {
        libc::SYS_fsopen
    };
    (ftruncate) => {
        libc::SYS_ftruncate
    };
    (getpriority) => {
        libc::SYS_getpriority
    };
    (getuid) => {
        libc::SYS_getuid
    };
    (inotify_init1) => {
        libc::SYS_inotify_init1
    };
    (io_uring_setup) => {
        libc::SYS_io_uring_setup
    };
    (ioctl) => {
        libc::SYS_ioctl
    };
    (ioprio_set) => {
        libc::SYS_ioprio_set
    };
    (kcmp) => {
        libc::SYS_kcmp
    };
    (keyctl) => {
        libc::SYS_keyctl
    };
    (kill) => {
        libc::SYS_kill
    };
    (linkat) => {
        libc::SYS_linkat
    };
    (memfd_create) => {
        libc::SYS_memfd_create
    };
    (mkdirat) => {
        libc::SYS_mkdirat
    };
    (mknodat) => {
        libc::SYS_mknodat
    };
    (mmap) => {
        libc::SYS_mmap
    };
    (mount) => {
        libc::SYS_mount
    };
    (mount_setattr) => {
        libc::SYS_mount_setattr
    };
    (move_mount) => {
        libc::SYS_move_mount
    };
    (mprotect) => {
        libc::SYS_mprotect
    };
    (openat) => {
        libc::SYS_openat
    };
    (openat2) => {
        libc::SYS_openat2
    };
    (open_by_handle_at) => {
        libc::SYS_open_by_handle_at
    };
    (perf_event_open) => {
        libc::SYS_perf_event_open
    };
    (personality) => {
        libc::SYS_personality
    };
    (pidfd_getfd) => {
        libc::SYS_pidfd_getfd
    };
    (pidfd_open) => {
        libc::SYS_pidfd_open
    };
    (pivot_root) => {
        libc::SYS_pivot_root
    };
    (prctl) => {
        libc::SYS_prctl
    };
    (process_vm_readv) => {
        libc::SYS_process_vm_readv
    };
    (ptrace) => {
        libc::SYS_ptrace
    };
    (reboot) => {
        libc::SYS_reboot
    };
    (renameat2) => {
        libc::SYS_renameat2
    };
    (request_key) => {
        libc::SYS_request_key
    };
    (sched_setscheduler) => {
        libc::SYS_sched_setscheduler
    };
    (sethostname) => {
        libc::SYS_sethostname
    };
    (setns) => {
        libc::SYS_setns
    };
    (setpriority) => {
        libc::SYS_setpriority
    };
    (setresuid) => {
        libc::SYS_setresuid
    };
    (setgroups) => {
        libc::SYS_setgroups
    };
    (setxattr) => {
        libc::SYS_setxattr
    };
    (socket) => {
        libc::SYS_socket
    };
    (socketpair) => {
        libc::SYS_socketpair
    };
    (statx) => {
        libc::SYS_statx
    };
    (symlinkat) => {
        libc::SYS_symlinkat
    };
    (syslog) => {
        libc::SYS_syslog
    };
    (truncate) => {
        libc::SYS_truncate
    };
    (umount2) => {
        libc::SYS_umount2
    };
    (unlinkat) => {
        libc::SYS_unlinkat
    };
    (unshare) => {
        libc::SYS_unshare
    };
    (userfaultfd) => {
        libc::SYS_userfaultfd
    };
    (utimensat) => {
        libc::SYS_utimensat
    };
    (write) => {
        libc::SYS_write
    };
}

table! {
    access add_key bpf capset chdir chroot clock_settime clone clone3 close connect execveat fanotify_init fchmod
    fchmodat fchownat fcntl fsmount fsopen ftruncate getpriority getuid inotify_init1 io_uring_setup ioctl ioprio_set
    kcmp keyctl kill linkat memfd_create mkdirat mknodat mmap mount mount_setattr move_mount mprotect openat openat2
    open_by_handle_at perf_event_open personality pidfd_getfd pidfd_open pivot_root prctl process_vm_readv ptrace
    reboot renameat2 request_key sched_setscheduler sethostname setns setpriority setresuid setgroups setxattr socket
    socketpair statx symlinkat syslog truncate umount2 unlinkat unshare userfaultfd utimensat write
}
