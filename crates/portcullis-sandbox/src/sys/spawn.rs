//! Processes that share our memory until they execute a program or end.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::OwnedFd;
use std::ptr;

use super::{Pid, WaitStatus, check_int, namespaces_of, own, pidfd_signal, wait};
use crate::layers;
use std::os::fd::AsFd;
use std::time::Duration;

/// How large the stack of such a process is.
const STACK_BYTES: usize = 256 * 1024;
/// Below it lies room that nobody may touch.
const GUARD_BYTES: usize = 64 * 1024;

/// The stack of one process that shares our memory.
#[derive(Debug)]
pub(crate) struct Stack {
    lowest: *mut libc::c_void,
}

impl Stack {
    /// Maps one. See mmap(2).
    pub(crate) fn new() -> io::Result<Self> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_STACK | libc::MAP_NORESERVE;
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping where the kernel likes; nothing that exists is touched.
        let lowest =
            unsafe { libc::mmap(ptr::null_mut(), GUARD_BYTES + STACK_BYTES, protection, flags, -1, 0) };
        if lowest == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let stack = Self { lowest };
        // SAFETY: the range is the beginning of the mapping that was just made, and no pointer into it exists.
        check_int(unsafe { libc::mprotect(lowest, GUARD_BYTES, libc::PROT_NONE) })?;
        #[cfg(feature = "fault-injection")]
        heap::watch(lowest as usize);
        Ok(stack)
    }

    /// Where a process begins to use it: stacks grow downwards.
    pub(super) fn top(&self) -> *mut libc::c_void {
        // SAFETY: one past the end of the mapping, which is page-aligned and so aligned for any stack.
        unsafe { self.lowest.byte_add(GUARD_BYTES + STACK_BYTES) }
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        #[cfg(feature = "fault-injection")]
        heap::forget(self.lowest as usize);
        // SAFETY: the mapping is ours alone, and who ran on it has ended or executed a program.
        unsafe { libc::munmap(self.lowest, GUARD_BYTES + STACK_BYTES) };
    }
}

/// Lets a test see who uses the heap that is not to.
#[cfg(feature = "fault-injection")]
pub(crate) mod heap {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    use super::{GUARD_BYTES, STACK_BYTES};

    /// The lowest addresses of this process's stacks.
    static STACKS: [AtomicUsize; 8] = [const { AtomicUsize::new(0) }; 8];
    static SHARED: AtomicBool = AtomicBool::new(false);

    pub(super) fn watch(lowest: usize) {
        let place = STACKS
            .iter()
            .find(|place| place.compare_exchange(0, lowest, Ordering::Relaxed, Ordering::Relaxed).is_ok());
        assert!(place.is_some(), "more stacks than can be watched");
    }

    pub(super) fn forget(lowest: usize) {
        for place in &STACKS {
            let _ = place.compare_exchange(lowest, 0, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    /// As long as it lives, another process runs in this memory.
    pub(in crate::sys) struct Shared;

    impl Shared {
        pub(in crate::sys) fn begin() -> Self {
            SHARED.store(true, Ordering::Relaxed);
            Self
        }
    }

    impl Drop for Shared {
        fn drop(&mut self) {
            SHARED.store(false, Ordering::Relaxed);
        }
    }

    /// Whether who asks runs in the memory of a cell that is at work itself. Such a process must not use the heap: the
    /// allocator of a test asks this, and does not come back when the answer is yes.
    pub(crate) fn is_not_ours() -> bool {
        let here = 0_u8;
        let here = &raw const here as usize;
        let within =
            |lowest: usize| lowest != 0 && (lowest..lowest + GUARD_BYTES + STACK_BYTES).contains(&here);
        SHARED.load(Ordering::Relaxed) && STACKS.iter().any(|place| within(place.load(Ordering::Relaxed)))
    }
}

/// What a new process runs: where it returns, the process ends with status 126.
pub(super) type Body<'a> = &'a mut dyn FnMut();

/// The status of a process that did not become a program.
pub(super) const NOT_EXECUTED: libc::c_int = 126;

extern "C" fn enter(body: *mut libc::c_void) -> libc::c_int {
    // SAFETY: `start` passes a live `Body`, which nobody else uses until this process has ended or executed a program.
    let body = unsafe { &mut *body.cast::<Body<'_>>() };
    body();
    NOT_EXECUTED
}

fn start(stack: &Stack, flags: libc::c_int, mut body: Body<'_>) -> io::Result<(Pid, libc::c_int)> {
    let mut pidfd: libc::c_int = -1;
    let body: *mut Body<'_> = &raw mut body;
    // SAFETY: the stack is mapped and used by nobody else; `enter` takes what is passed to it. The one pointer besides
    // is to a live int that the kernel writes when asked for a pidfd.
    let pid = check_int(unsafe {
        libc::clone(enter, stack.top(), flags | libc::CLONE_VM | libc::SIGCHLD, body.cast(), &raw mut pidfd)
    })?;
    Ok((pid, pidfd))
}

/// Starts a process that runs `body` in our memory, and waits until it has executed a program or ended. See clone(2),
/// vfork(2).
pub(crate) fn spawn(stack: &Stack, body: Body<'_>) -> io::Result<Pid> {
    start(stack, libc::CLONE_VFORK, body).map(|(pid, _)| pid)
}

/// Runs `body` in a process of new namespaces, in our memory, and `meanwhile` here, with its pidfd. Where that returns
/// and the process lives, it is killed. Returns what `meanwhile` said, and how the process ended.
///
/// Both run at the same time: what `body` changes, `meanwhile` must not look at, and `body` must not use the heap, of
/// which our C library believes that one thread has it. See clone(2).
pub(crate) fn run_beside<R>(
    stack: &Stack,
    namespaces: libc::c_int,
    body: Body<'_>,
    meanwhile: impl FnOnce(&OwnedFd) -> R,
) -> io::Result<(R, WaitStatus, Duration)> {
    let mut body = body;
    let mut pidfd: libc::c_int = -1;
    let argument: *mut Body<'_> = &raw mut body;
    #[cfg(feature = "fault-injection")]
    let _shared = heap::Shared::begin();
    let namespaces = layers::all_but_gone(namespaces, namespaces_of(namespaces));
    let flags = namespaces | libc::CLONE_PIDFD | libc::CLONE_VM | libc::SIGCHLD;
    // SAFETY: as in `start`; `body` and what it borrows live until the process is reaped below.
    let pid = check_int(unsafe { libc::clone(enter, stack.top(), flags, argument.cast(), &raw mut pidfd) })?;
    let pidfd = own(pidfd.into());
    let said = meanwhile(&pidfd);
    let ended = match wait(pid, false) {
        Ok(Some((_, status, cpu))) => Some((status, cpu)),
        _ => {
            let _ = pidfd_signal(pidfd.as_fd(), libc::SIGKILL);
            wait(pid, true)?.map(|(_, status, cpu)| (status, cpu))
        }
    };
    let (status, cpu) = ended.unwrap_or((WaitStatus::Signaled(libc::SIGKILL), Duration::ZERO));
    Ok((said, status, cpu))
}

/// Strings as a program is started with them: a null-ended array of NUL-ended strings.
#[derive(Debug)]
pub(crate) struct Strings {
    /// What the pointers point to.
    _strings: Vec<CString>,
    pointers: Vec<*const libc::c_char>,
}

impl Strings {
    pub(crate) fn new(strings: Vec<CString>) -> Self {
        let pointers = strings.iter().map(|s| s.as_ptr()).chain(std::iter::once(ptr::null())).collect();
        Self { _strings: strings, pointers }
    }
}

/// Replaces the process by a program; returns only on failure. See execve(2).
pub(crate) fn execve(path: &CStr, argv: &Strings, envp: &Strings) -> io::Error {
    // SAFETY: path and both null-ended arrays point to NUL-ended strings that outlive the call.
    unsafe { libc::execve(path.as_ptr(), argv.pointers.as_ptr(), envp.pointers.as_ptr()) };
    io::Error::last_os_error()
}

/// Writes the C library's words for an error, and its number, as [`io::Error`] shows them, without the heap. See
/// strerror(3).
pub(crate) struct ErrorText(pub(crate) i32);

impl std::fmt::Display for ErrorText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut buffer = [0_u8; 128];
        // SAFETY: pointer and length are those of a live array, which the call leaves NUL-ended.
        let rc = unsafe { libc::strerror_r(self.0, buffer.as_mut_ptr().cast(), buffer.len()) };
        let text = CStr::from_bytes_until_nul(&buffer).ok().and_then(|text| text.to_str().ok());
        match text {
            Some(text) if rc == 0 => write!(f, "{text} (os error {})", self.0),
            _ => write!(f, "os error {}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[test]
    fn who_runs_beside_us_runs_in_our_memory_and_is_known_to() {
        let (outer, inner) = (Stack::new().unwrap(), Stack::new().unwrap());
        let (asked, asked_within) = (AtomicU32::new(0), AtomicU32::new(0));
        let answer = |place: &AtomicU32| place.store(1 + u32::from(heap::is_not_ours()), Ordering::SeqCst);
        let mut body = || {
            answer(&asked);
            let pid = spawn(&inner, &mut || answer(&asked_within));
            if let Ok(pid) = pid {
                let _ = wait(pid, true);
            }
        };
        let meanwhile = |pidfd: &OwnedFd| {
            let mut entries = [crate::sys::Polled { fd: pidfd.as_fd(), ready: false }];
            crate::sys::poll(&mut entries, None).unwrap();
            heap::is_not_ours()
        };
        let (ours_is_foreign, status, _) = run_beside(&outer, 0, &mut body, meanwhile).unwrap();
        assert_eq!(status, WaitStatus::Exited(126), "where its body returns");
        assert_eq!((asked.into_inner(), asked_within.into_inner(), ours_is_foreign), (2, 2, false));
        assert!(!heap::is_not_ours());
    }

    #[test]
    fn who_is_not_waited_for_is_killed() {
        let stack = Stack::new().unwrap();
        let mut body = || loop {
            let _ = crate::sys::take_signal(&[libc::SIGUSR1], None);
        };
        let ((), status, _) = run_beside(&stack, 0, &mut body, |_| ()).unwrap();
        assert_eq!(status, WaitStatus::Signaled(libc::SIGKILL));
    }
}
