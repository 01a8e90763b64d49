//! What a greedy command takes.

use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::process::exit;

use crate::attacks::in_a_child;
use crate::calls::{errno_name, raw};
use crate::{say, sleep};

const MIB: usize = 1 << 20;

/// Takes memory of one kind until that much is held; says so if it comes to that.
pub(crate) fn memory(kind: &str, mebibytes: usize) {
    match kind {
        "shared" => touch(map_shared(-1, mebibytes), mebibytes),
        "memfd" => {
            const NOEXEC_SEAL: usize = 8;
            let Ok(fd) = raw(libc::SYS_memfd_create, &[c"held".as_ptr() as usize, NOEXEC_SEAL]) else {
                return say("no memfd");
            };
            let _ = raw(libc::SYS_ftruncate, &[fd as usize, mebibytes * MIB]);
            touch(map_shared(fd as i32, mebibytes), mebibytes);
        }
        "system-v" => {
            const CREATE: usize = 0o1600;
            let made = raw(libc::SYS_shmget, &[0, mebibytes * MIB, CREATE]);
            let Ok(at) = made.and_then(|id| raw(libc::SYS_shmat, &[id as usize, 0, 0])) else {
                return say("no segment");
            };
            touch(at as *mut u8, mebibytes);
        }
        "pipes" => in_children(mebibytes, || {
            let mut held = Vec::new();
            while let Ok((reader, writer)) = io::pipe() {
                fill(writer.as_raw_fd());
                held.push((reader, writer));
            }
            held
        }),
        "sockets" => in_children(mebibytes, || {
            let mut held = Vec::new();
            while let Ok(pair) = std::os::unix::net::UnixStream::pair() {
                fill(pair.0.as_raw_fd());
                held.push(pair);
            }
            held
        }),
        "children" => in_children(mebibytes, || vec![1_u8; 4 * MIB]),
        "tables" => tables(mebibytes),
        _ => say("no such kind"),
    }
    say("holding");
}

fn map_shared(fd: i32, mebibytes: usize) -> *mut u8 {
    let flags = libc::MAP_SHARED | if fd < 0 { libc::MAP_ANONYMOUS } else { 0 };
    let protection = (libc::PROT_READ | libc::PROT_WRITE) as usize;
    let mapped = raw(libc::SYS_mmap, &[0, mebibytes * MIB, protection, flags as usize, fd as usize, 0]);
    mapped.map_or(std::ptr::null_mut(), |at| at as *mut u8)
}

fn touch(at: *mut u8, mebibytes: usize) {
    if at.is_null() {
        say("no mapping");
        exit(5);
    }
    for page in 0..mebibytes * MIB / 4096 {
        let place = at.wrapping_add(page * 4096);
        // SAFETY: the mapping is that long and writable.
        unsafe { place.write_volatile(1) };
    }
}

/// Writes until no more fits.
fn fill(fd: i32) {
    let _ = raw(libc::SYS_fcntl, &[fd as usize, libc::F_SETFL as usize, libc::O_NONBLOCK as usize]);
    let block = [1_u8; 4096];
    while raw(libc::SYS_write, &[fd as usize, block.as_ptr() as usize, block.len()]).is_ok() {}
}

/// Lets children take until as many are there as could hold that much at 4 MiB each, and then waits.
fn in_children<T>(mebibytes: usize, take: impl Fn() -> T) {
    for _ in 0..mebibytes.div_ceil(4) {
        let child = in_a_child(|| {
            let held = take();
            sleep("30");
            drop(std::hint::black_box(held));
        });
        if child < 0 {
            break;
        }
    }
    sleep("30");
}

/// Makes page tables: one page touched in each 2 MiB, all of them the same page of zeros.
fn tables(mebibytes: usize) {
    let pages = mebibytes * MIB / 4096;
    let span = pages * 2 * MIB;
    let flags = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE) as usize;
    let mapped = raw(libc::SYS_mmap, &[0, span, libc::PROT_READ as usize, flags, usize::MAX, 0]);
    let Ok(at) = mapped else { return say("no mapping") };
    // No huge page of zeros instead of a table.
    let _ = raw(libc::SYS_madvise, &[at as usize, span, libc::MADV_NOHUGEPAGE as usize]);
    for page in 0..pages {
        let place = (at as *const u8).wrapping_add(page * 2 * MIB);
        // SAFETY: the mapping is that long and readable.
        unsafe { place.read_volatile() };
    }
}

/// Writes single bytes, to both streams by turns.
pub(crate) fn tick(count: usize) {
    for number in 0..count {
        let fd = 1 + number % 2;
        if raw(libc::SYS_write, &[fd, b".".as_ptr() as usize, 1]).is_err() {
            exit(4);
        }
    }
}

/// Makes that many children, says how many there came to be, and ends them.
pub(crate) fn forks(count: usize) {
    let mut made = Vec::new();
    while made.len() < count {
        // SAFETY: this process has one thread.
        match unsafe { libc::fork() } {
            0 => loop {
                // SAFETY: waits for a signal.
                unsafe { libc::pause() };
            },
            -1 => {
                say(&format!("refused after {}: {}", made.len(), errno_name(io::Error::last_os_error())));
                break;
            }
            child => made.push(child),
        }
    }
    if made.len() == count {
        say(&format!("made {count}"));
    }
    for child in made {
        let _ = raw(libc::SYS_kill, &[child as usize, libc::SIGKILL as usize]);
    }
}

/// Makes children that end and are never reaped.
pub(crate) fn zombies() {
    let mut made = 0;
    loop {
        // SAFETY: this process has one thread.
        match unsafe { libc::fork() } {
            // SAFETY: takes a number.
            0 => unsafe { libc::_exit(0) },
            -1 => {
                say(&format!("refused after {made}: {}", errno_name(io::Error::last_os_error())));
                exit(3);
            }
            _ => made += 1,
        }
    }
}

/// Uses what a quiet command needs: processes, memory and a file, and says when all of it worked.
pub(crate) fn half(processes: usize) {
    let held = vec![1_u8; 8 * MIB];
    for _ in 0..processes {
        let child = in_a_child(|| {});
        let mut status = 0;
        // SAFETY: the status is live and the child, if there is one, is ours.
        if child < 0 || unsafe { libc::waitpid(child, &raw mut status, 0) } != child || status != 0 {
            say("harmed");
            exit(6);
        }
    }
    drop(std::hint::black_box(held));
    say("unharmed");
}

/// Queues signals to itself until no more are taken.
pub(crate) fn queue_signals() {
    let signal = libc::SIGRTMIN();
    // SAFETY: an all-zero set is a valid value of that plain type.
    let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: the set is live.
    unsafe { libc::sigaddset(&raw mut set, signal) };
    // SAFETY: the set is live; a null old set is allowed.
    unsafe { libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) };
    let value = libc::sigval { sival_ptr: std::ptr::null_mut() };
    let own = std::process::id().cast_signed();
    for queued in 0..100_000 {
        // SAFETY: takes values.
        if unsafe { libc::sigqueue(own, signal, value) } != 0 {
            return say(&format!("refused after {queued}: {}", errno_name(io::Error::last_os_error())));
        }
    }
    say("never refused");
}

/// Makes timers until no more are given.
pub(crate) fn timers() {
    for made in 0..100_000 {
        let mut id = 0_i32;
        if let Err(error) = raw(libc::SYS_timer_create, &[1, 0, (&raw mut id) as usize]) {
            return say(&format!("refused after {made}: {}", errno_name(error)));
        }
    }
    say("never refused");
}

/// Fills a directory with files that have no name any more.
pub(crate) fn deleted_until_full(path: &str) {
    let mut held = Vec::new();
    let mut written = 0;
    for number in 0..200 {
        let name = format!("{path}/{number}");
        let made = std::fs::File::create(&name).and_then(|mut file| {
            std::fs::remove_file(&name)?;
            let done = file.write_all(&[1; MIB]);
            held.push(file);
            done
        });
        match made {
            Ok(()) => written += 1,
            Err(error) => return say(&format!("full after {written} MiB ! {}", errno_name(error))),
        }
    }
    say("never full");
}
