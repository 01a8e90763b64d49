//! A process that is made beforehand and waits to be told what to run.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::ptr;
use std::rc::Rc;
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};
use std::time::Duration;

use super::spawn::{Body, NOT_EXECUTED, Stack};
use super::{Pid, Processors, WaitStatus, check, check_int, namespaces_of, own, pidfd_signal, wait};
use crate::layers;

/// It makes itself ready.
const MAKING_READY: u32 = 0;
/// It waits for its word.
const READY: u32 = 1;
/// It has its word.
const GO: u32 = 2;
/// It could not be made ready, and has ended.
const FAILED: u32 = 3;

/// How often its death is looked for while it makes itself ready.
const LOOK: Duration = Duration::from_millis(50);

/// What both see.
struct Place {
    state: AtomicU32,
    body: AtomicPtr<libc::c_void>,
    /// Says whether it is ready.
    make_ready: Box<dyn Fn() -> bool>,
}

/// A process in new namespaces that shares our memory and our descriptors, and waits.
///
/// While it waits it does nothing; before and after, it must not use the heap, like every process that shares our
/// memory. See clone(2), futex(2).
pub(crate) struct Waiting {
    pid: Pid,
    pidfd: OwnedFd,
    reaped: bool,
    /// Shared, since the process has it too.
    place: Rc<Place>,
    _stack: Rc<Stack>,
    #[cfg(feature = "fault-injection")]
    _shared: super::spawn::heap::Shared,
}

impl std::fmt::Debug for Waiting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Waiting").field("pid", &self.pid).finish_non_exhaustive()
    }
}

extern "C" fn enter(place: *mut libc::c_void) -> libc::c_int {
    // SAFETY: `start` passes a place that lives until this process is reaped, and of which all is shared or atomic.
    let place = unsafe { &*place.cast::<Place>().cast_const() };
    if !(place.make_ready)() {
        place.state.store(FAILED, Ordering::Release);
        wake(&place.state);
        return NOT_EXECUTED;
    }
    place.state.store(READY, Ordering::Release);
    wake(&place.state);
    while place.state.load(Ordering::Acquire) != GO {
        sleep_while(&place.state, READY, None);
    }
    let body = place.body.load(Ordering::Relaxed).cast::<Body<'_>>();
    // SAFETY: `run` has put a live `Body` there, which nobody else uses until this process is reaped.
    let body = unsafe { &mut *body };
    body();
    NOT_EXECUTED
}

impl Waiting {
    /// Makes one, and returns when it is ready. The descriptors are shared until it parts with them.
    ///
    /// # Errors
    /// When the kernel refuses the process, or it could not be made ready.
    pub(crate) fn start(
        stack: &Rc<Stack>,
        namespaces: libc::c_int,
        make_ready: Box<dyn Fn() -> bool>,
    ) -> io::Result<Self> {
        let place = Rc::new(Place {
            state: AtomicU32::new(MAKING_READY),
            body: AtomicPtr::new(ptr::null_mut()),
            make_ready,
        });
        #[cfg(feature = "fault-injection")]
        let _shared = super::spawn::heap::Shared::begin();
        let namespaces = layers::all_but_gone(namespaces, namespaces_of(namespaces));
        let flags = namespaces | libc::CLONE_PIDFD | libc::CLONE_VM | libc::CLONE_FILES | libc::SIGCHLD;
        let argument = Rc::as_ptr(&place).cast_mut().cast::<libc::c_void>();
        let mut pidfd: libc::c_int = -1;
        // SAFETY: the stack is used by nobody else while this value holds it, and the place does not move; both
        // outlive the process, which `Drop` reaps. The one pointer besides is to a live int that the kernel writes.
        let pid = check_int(unsafe { libc::clone(enter, stack.top(), flags, argument, &raw mut pidfd) })?;
        let mut waiting = Self {
            pid,
            pidfd: own(pidfd.into()),
            reaped: false,
            place,
            _stack: Rc::clone(stack),
            #[cfg(feature = "fault-injection")]
            _shared,
        };
        loop {
            match waiting.place.state.load(Ordering::Acquire) {
                MAKING_READY if waiting.lives() => {
                    sleep_while(&waiting.place.state, MAKING_READY, Some(LOOK))
                }
                READY => return Ok(waiting),
                _ => return Err(io::Error::from_raw_os_error(libc::ECHILD)),
            }
        }
    }

    /// Whether it still waits.
    pub(crate) fn lives(&mut self) -> bool {
        if !self.reaped && !matches!(wait(self.pid, false), Ok(None)) {
            self.reaped = true;
        }
        !self.reaped
    }

    /// Has it run `body`, and `meanwhile` here, as [`run_beside`] does.
    ///
    /// [`run_beside`]: super::run_beside
    pub(crate) fn run<R>(
        mut self,
        here: Option<&Processors>,
        body: Body<'_>,
        meanwhile: impl FnOnce(&OwnedFd) -> R,
    ) -> io::Result<(R, WaitStatus, Duration)> {
        let mut body = body;
        let argument: *mut Body<'_> = &raw mut body;
        if let Some(here) = here {
            let _ = here.keep(self.pid);
        }
        self.place.body.store(argument.cast(), Ordering::Relaxed);
        self.place.state.store(GO, Ordering::Release);
        wake(&self.place.state);
        let said = meanwhile(&self.pidfd);
        let ended = match wait(self.pid, false) {
            Ok(Some((_, status, cpu))) => Some((status, cpu)),
            _ => {
                let _ = pidfd_signal(self.pidfd.as_fd(), libc::SIGKILL);
                wait(self.pid, true)?.map(|(_, status, cpu)| (status, cpu))
            }
        };
        self.reaped = true;
        let (status, cpu) = ended.unwrap_or((WaitStatus::Signaled(libc::SIGKILL), Duration::ZERO));
        Ok((said, status, cpu))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if !self.reaped {
            let _ = pidfd_signal(self.pidfd.as_fd(), libc::SIGKILL);
            let _ = wait(self.pid, true);
        }
    }
}

fn sleep_while(state: &AtomicU32, value: u32, at_most: Option<Duration>) {
    let timeout = at_most.map(super::timespec);
    let timeout = timeout.as_ref().map_or(ptr::null(), ptr::from_ref);
    let operation = libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG;
    // SAFETY: the place is a live, aligned number; the timeout is null or a live local. Returning early is expected.
    let _ = check(unsafe { libc::syscall(libc::SYS_futex, state.as_ptr(), operation, value, timeout) });
}

fn wake(state: &AtomicU32) {
    let operation = libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG;
    // SAFETY: the place is a live, aligned number; there is one to wake at most.
    let _ = check(unsafe { libc::syscall(libc::SYS_futex, state.as_ptr(), operation, 1) });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::{Polled, poll};

    #[test]
    fn it_is_ready_before_it_has_its_word_and_runs_what_it_is_told() {
        let stack = Rc::new(Stack::new().unwrap());
        let (ready, ran) = (Rc::new(AtomicU32::new(0)), AtomicU32::new(0));
        let seen = Rc::clone(&ready);
        let make_ready = Box::new(move || seen.fetch_add(1, Ordering::SeqCst) == 0);
        let mut waiting = Waiting::start(&stack, 0, make_ready).unwrap();
        assert_eq!((ready.load(Ordering::SeqCst), waiting.lives()), (1, true));
        let mut body = || ran.store(7, Ordering::SeqCst);
        let meanwhile = |pidfd: &OwnedFd| {
            let mut entries = [Polled { fd: pidfd.as_fd(), ready: false }];
            poll(&mut entries, None).unwrap();
        };
        let ((), status, _) = waiting.run(None, &mut body, meanwhile).unwrap();
        assert_eq!((status, ran.into_inner()), (WaitStatus::Exited(126), 7));
    }

    #[test]
    fn what_cannot_be_made_ready_is_an_error_and_what_is_dropped_is_killed() {
        let stack = Rc::new(Stack::new().unwrap());
        assert!(Waiting::start(&stack, 0, Box::new(|| false)).is_err());
        drop(Waiting::start(&stack, 0, Box::new(|| true)).unwrap());
        assert_eq!(wait(-1, false).unwrap_err().raw_os_error(), Some(libc::ECHILD));
    }
}
