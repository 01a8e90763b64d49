//! What a hostile command does.

use std::ffi::CString;
use std::io::{self, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::Path;
use std::process::exit;

use crate::calls::{errno_name, raw};
use crate::{say, sleep};

const EXCHANGE: usize = 2;
const HERE: usize = libc::AT_FDCWD as usize;
/// A key of System V objects.
const KEY: usize = 0x0050_6f72;
const ABSTRACT: &[u8] = b"portcullis-left-behind";

/// Forks; the child does `act` and ends.
pub(crate) fn in_a_child(act: impl FnOnce()) -> i32 {
    // SAFETY: this process has one thread.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        act();
        exit(0);
    }
    pid
}

/// Leaves a process behind that exchanges two names for as long as the line lasts, and counts in a file.
pub(crate) fn swap(one: &str, other: &str, count: &str) {
    let (one, other) = (CString::new(one).unwrap_or_default(), CString::new(other).unwrap_or_default());
    let Ok(count) = std::fs::File::create(count) else { return say("no file to count in") };
    let names = [HERE, one.as_ptr() as usize, HERE, other.as_ptr() as usize, EXCHANGE];
    if let Err(error) = raw(libc::SYS_renameat2, &names) {
        return say(&format!("renameat2 ! {}", errno_name(error)));
    }
    in_a_child(|| {
        let mut made = 1_u64;
        loop {
            let _ = raw(libc::SYS_renameat2, &names);
            made += 1;
            if made.is_multiple_of(1_000) {
                let _ = count.write_all_at(made.to_string().as_bytes(), 0);
            }
        }
    });
    say("swapping");
}

/// Waits until at least 10,000 exchanges were made.
pub(crate) fn wait_for_swaps(count: &str) {
    loop {
        let made = std::fs::read_to_string(count).unwrap_or_default();
        if made.parse::<u64>().is_ok_and(|made| made >= 10_000) {
            return say("swapped 10000 times");
        }
        std::thread::yield_now();
    }
}

/// Makes what is hard to remove: a deep tree, names that are no text, directories that nobody may enter.
pub(crate) fn tangle(path: &str, depth: usize) {
    let name: Vec<u8> = (0..255_u8).map(|byte| if byte == b'/' || byte == 0 { 0xff } else { byte }).collect();
    let odd = Path::new(path).join(std::ffi::OsStr::from_bytes(&name));
    let made = std::fs::create_dir(&odd)
        .and_then(|()| std::fs::write(odd.join("line\nbreak"), b"x"))
        .and_then(|()| {
            let closed = Path::new(path).join("closed");
            std::fs::create_dir(&closed)?;
            std::fs::write(closed.join("inside"), b"x")?;
            std::fs::set_permissions(&closed, std::os::unix::fs::PermissionsExt::from_mode(0o000))
        })
        .and_then(|()| std::env::set_current_dir(path));
    if let Err(error) = made {
        return say(&format!("odd names ! {}", errno_name(error)));
    }
    for level in 0..depth {
        if let Err(error) = std::fs::create_dir("d").and_then(|()| std::env::set_current_dir("d")) {
            return say(&format!("deep at {level} ! {}", errno_name(error)));
        }
    }
    say(&format!("deep {depth}"));
}

/// Keeps that many processes alive, each of which only forks its successor and ends.
pub(crate) fn hydra(heads: usize) {
    for _ in 0..heads {
        in_a_child(|| {
            // SAFETY: takes nothing.
            unsafe { libc::setsid() };
            for signal in [libc::SIGTERM, libc::SIGHUP, libc::SIGCHLD] {
                // SAFETY: ignoring a signal asks for nothing.
                unsafe { libc::signal(signal, libc::SIG_IGN) };
            }
            loop {
                // SAFETY: this process has one thread.
                if unsafe { libc::fork() } > 0 {
                    // SAFETY: takes a number.
                    unsafe { libc::_exit(0) };
                }
            }
        });
    }
    say("growing heads");
    sleep("60");
}

/// Takes orphans for itself, away from whoever else would.
pub(crate) fn become_subreaper() {
    let _ = raw(libc::SYS_prctl, &[libc::PR_SET_CHILD_SUBREAPER as usize, 1]);
    in_a_child(|| {
        in_a_child(|| sleep("6262"));
    });
    say("reaping");
    sleep("6262");
}

/// Kills everybody that it can, and says whether its own child was among them.
pub(crate) fn kill_everybody() {
    let child = in_a_child(|| sleep("5252"));
    match raw(libc::SYS_kill, &[usize::MAX, libc::SIGKILL as usize]) {
        Ok(answer) => say(&format!("kill = {answer}")),
        Err(error) => say(&format!("kill ! {}", errno_name(error))),
    }
    let mut status = 0;
    // SAFETY: the status is live and the child is ours.
    unsafe { libc::waitpid(child, &raw mut status, 0) };
    say(&format!("the child ended by {}", libc::WTERMSIG(status)));
}

pub(crate) fn stop_myself() {
    say("stopping");
    let _ = raw(libc::SYS_kill, &[std::process::id() as usize, libc::SIGSTOP as usize]);
    say("going on");
}

/// Waits for a vfork child that never ends: a wait that no signal but the deadly one interrupts.
#[cfg(target_arch = "x86_64")]
pub(crate) fn hang_in_vfork() {
    say("hanging");
    if raw(libc::SYS_vfork, &[]).is_ok_and(|pid| pid == 0) {
        loop {
            let _ = raw(libc::SYS_pause, &[]);
        }
    }
}

#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn hang_in_vfork() {
    say("hanging");
    sleep("60");
}

/// Asks for its process id as a program of 32 bits does.
#[cfg(target_arch = "x86_64")]
pub(crate) fn foreign_call() {
    const GETPID: u32 = 20;
    say("calling");
    let answer: u32;
    // SAFETY: getpid takes nothing and writes nothing.
    unsafe {
        std::arch::asm!("int 0x80", inlateout("eax") GETPID => answer, out("r8") _, out("r9") _, out("r10") _, out("r11") _)
    };
    say(&format!("answered {answer}"));
}

#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn foreign_call() {
    say("calling");
    let _ = raw(libc::SYS_kill, &[std::process::id() as usize, libc::SIGSYS as usize]);
}

pub(crate) fn connect(kind: &str, name: &str) {
    let connected = match kind {
        "path" => UnixStream::connect(name),
        _ => SocketAddr::from_abstract_name(name).and_then(|address| UnixStream::connect_addr(&address)),
    };
    match connected {
        Ok(_) => say("connected"),
        Err(error) => say(&format!("connect ! {}", errno_name(error))),
    }
}

/// Leaves one of everything that is not a file, held by a process that stays for as long as it is let.
pub(crate) fn leave_traces() {
    const CREATE: usize = 0o1600;
    let mut left = Vec::new();
    let mut leave = |what: &str, done: io::Result<i64>| {
        left.push(match done {
            Ok(_) => what.to_owned(),
            Err(error) => format!("{what} ! {}", errno_name(error)),
        });
    };
    leave("memory", raw(libc::SYS_shmget, &[KEY, 4096, CREATE]));
    leave("semaphore", raw(libc::SYS_semget, &[KEY, 1, CREATE]));
    leave("queue", raw(libc::SYS_msgget, &[KEY, CREATE]));
    let queue = c"portcullis";
    leave("mq", raw(libc::SYS_mq_open, &[queue.as_ptr() as usize, 0o102, 0o600, 0]));
    let bound = SocketAddr::from_abstract_name(ABSTRACT).and_then(|at| UnixListener::bind_addr(&at));
    leave("socket", bound.as_ref().map(|_| 0).map_err(|error| io::Error::from(error.kind())));
    leave("umask", raw(libc::SYS_umask, &[0]));
    say(&left.join(", "));
    let _ = io::stdout().flush();
    in_a_child(|| {
        sleep("8383");
    });
}

/// Looks for what [`leave_traces`] leaves.
pub(crate) fn look_for_traces() {
    let mut found = Vec::new();
    let mut look = |what: &str, answer: io::Result<i64>| match answer {
        Ok(_) => found.push(format!("{what} is there")),
        Err(error) => found.push(format!("{what} ! {}", errno_name(error))),
    };
    look("memory", raw(libc::SYS_shmget, &[KEY, 0, 0]));
    look("semaphore", raw(libc::SYS_semget, &[KEY, 0, 0]));
    look("queue", raw(libc::SYS_msgget, &[KEY, 0]));
    let queue = c"portcullis";
    look("mq", raw(libc::SYS_mq_open, &[queue.as_ptr() as usize, 0, 0, 0]));
    let stream = SocketAddr::from_abstract_name(ABSTRACT).and_then(|at| UnixStream::connect_addr(&at));
    look("socket", stream.map(|_| 0));
    let umask = raw(libc::SYS_umask, &[0o022]).unwrap_or(-1);
    found.push(format!("umask {umask:o}"));
    say(&found.join(", "));
}
