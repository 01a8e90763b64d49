//! The attacker: makes the system calls that it is told to, and says what the kernel answered.
//!
//! Tests run it as the permitted program of a line. Started as the launcher, it is that instead.
//!
//! - `call NAME ARG… [, NAME ARG…]…` makes system calls in one process, one after another. An argument is a
//!   number (decimal or `0x…`), `s:TEXT` (a string), `b:N` (N zero bytes), `w:N,…` (64-bit words, joined by `/`),
//!   or `$N` (what call N returned, from 0). Each prints `NAME = VALUE` or `NAME ! ERRNO`.
//! - `print`, `fds`, `caps`, `spin`, `sleep SECONDS`, `allocate MIB`, `bomb`, `forks COUNT`, `threads`, `flood BYTES`, `hide
//!   SECONDS` (a daemon that outlives its parent), `stubborn SECONDS` (ignores TERM), `exec PATH ARG…`,
//!   `fork CASE…` (does CASE in a grandchild).
//! - The cases of `attacks` (what a hostile command does) and `takes` (what a greedy one takes).
#![expect(unsafe_code, reason = "an attacker makes raw system calls")]
#![allow(clippy::indexing_slicing, reason = "what goes wrong here fails the test")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::ffi::CString;
use std::io::{self, Write};
use std::process::exit;

mod attacks;
mod calls;
mod numbers;
mod takes;
mod wrapper;

/// Ends a process that uses the heap of a cell which is at work itself; decision 0032.
struct Watched;

#[cfg(not(feature = "fault-injection"))]
fn refuse_a_foreign_heap() {}

#[cfg(feature = "fault-injection")]
fn refuse_a_foreign_heap() {
    if portcullis_sandbox::heap_is_not_ours() {
        let text = b"used the heap that its cell has\n";
        // SAFETY: pointer and length are those of a static array.
        unsafe { libc::write(2, text.as_ptr().cast(), text.len()) };
        // SAFETY: takes a number; does not return.
        unsafe { libc::_exit(99) };
    }
}

// SAFETY: everything is the system's allocator's.
unsafe impl GlobalAlloc for Watched {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        refuse_a_foreign_heap();
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        refuse_a_foreign_heap();
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(place, layout) }
    }
}

#[global_allocator]
static HEAP: Watched = Watched;

fn main() {
    wrapper::apply();
    portcullis_sandbox::enter_if_launcher();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    run(&words);
}

fn run(words: &[&str]) {
    match words {
        ["print", rest @ ..] => rest.iter().for_each(|word| println!("{word}")),
        ["environment"] => std::env::vars().for_each(|(name, value)| println!("{name}={value}")),
        ["exit", code] => exit(code.parse().unwrap_or(2)),
        ["signal", number] => die_by(number.parse().unwrap_or(9)),
        ["call", rest @ ..] => calls::make(rest),
        ["fds"] => list_descriptors(),
        ["spin"] => spin(),
        ["sleep", seconds] => sleep(seconds),
        ["stubborn", seconds] => {
            // SAFETY: ignoring a signal asks for nothing.
            unsafe { libc::signal(libc::SIGTERM, libc::SIG_IGN) };
            say("deaf to TERM");
            sleep(seconds);
        }
        ["polite"] => polite(),
        ["allocate", mebibytes] => allocate(mebibytes.parse().unwrap_or(1)),
        ["take", kind, mebibytes] => takes::memory(kind, mebibytes.parse().unwrap_or(1)),
        ["bomb", ..] => bomb(),
        ["threads"] => threads(),
        ["forks", count] => takes::forks(count.parse().unwrap_or(1)),
        ["flood", bytes] => flood(bytes.parse().unwrap_or(1)),
        ["hide", seconds] => hide(seconds),
        ["read-input"] => drop(io::copy(&mut io::stdin(), &mut io::stdout())),
        ["exec", path, rest @ ..] => exec(path, rest),
        ["fork", rest @ ..] => in_a_grandchild(rest),
        ["special-files"] => special_files(),
        ["write-until-full", path] => write_until_full(path),
        ["names-until-full", path] => names_until_full(path),
        ["swap", one, other, count] => attacks::swap(one, other, count),
        ["swaps", count] => attacks::wait_for_swaps(count),
        ["tangle", path, depth] => attacks::tangle(path, depth.parse().unwrap_or(1)),
        ["hydra", heads] => attacks::hydra(heads.parse().unwrap_or(1)),
        ["reaper"] => attacks::become_subreaper(),
        ["kill-everybody"] => attacks::kill_everybody(),
        ["stop-myself"] => attacks::stop_myself(),
        ["vfork"] => attacks::hang_in_vfork(),
        ["int80"] => attacks::foreign_call(),
        ["connect", kind, name] => attacks::connect(kind, name),
        ["leave"] => attacks::leave_traces(),
        ["look"] => attacks::look_for_traces(),
        ["ticks", count] => takes::tick(count.parse().unwrap_or(1)),
        ["zombies"] => takes::zombies(),
        ["half", processes] => takes::half(processes.parse().unwrap_or(1)),
        ["queue-signals"] => takes::queue_signals(),
        ["timers"] => takes::timers(),
        ["deleted-until-full", path] => takes::deleted_until_full(path),
        _ => {
            eprintln!("the probe knows no case `{}`", words.join(" "));
            exit(99);
        }
    }
}

fn say(text: &str) {
    let mut out = io::stdout();
    let _ = writeln!(out, "{text}");
    let _ = out.flush();
}

fn die_by(signal: i32) {
    // SAFETY: the default disposition of a signal is always valid; ours for SIGSEGV is Rust's.
    unsafe { libc::signal(signal, libc::SIG_DFL) };
    // SAFETY: sends a signal to ourselves.
    unsafe { libc::raise(signal) };
    sleep("5");
}

fn list_descriptors() {
    for fd in 0..4_096 {
        // SAFETY: asks for flags by number.
        if unsafe { libc::fcntl(fd, libc::F_GETFD) } >= 0 {
            say(&fd.to_string());
        }
    }
}

fn spin() {
    say("spinning");
    let mut number = 1_u64;
    loop {
        number = std::hint::black_box(number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
    }
}

fn sleep(seconds: &str) {
    std::thread::sleep(std::time::Duration::from_secs(seconds.parse().unwrap_or(1)));
}

/// Ends by itself when asked to, and says so.
fn polite() {
    let mut set = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: the set is written before it is read.
    unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    // SAFETY: the set was initialised by the call before.
    unsafe { libc::sigaddset(set.as_mut_ptr(), libc::SIGTERM) };
    // SAFETY: as above; a null old set is allowed.
    unsafe { libc::sigprocmask(libc::SIG_BLOCK, set.as_ptr(), std::ptr::null_mut()) };
    say("waiting for TERM");
    let mut signal = 0;
    // SAFETY: set and signal are live.
    unsafe { libc::sigwait(set.as_ptr(), &raw mut signal) };
    say("ending as asked");
    exit(7);
}

fn allocate(mebibytes: usize) {
    let mut held = Vec::new();
    for _ in 0..mebibytes {
        held.push(vec![1_u8; 1 << 20]);
    }
    say(&format!("holding {}", std::hint::black_box(&held).len()));
}

/// Forks until it is refused; the children wait, and go on forking when they can.
fn bomb() {
    let mut made = 0;
    loop {
        // SAFETY: this process has one thread.
        match unsafe { libc::fork() } {
            0 => {
                // SAFETY: waits for a signal.
                unsafe { libc::pause() };
            }
            -1 => {
                say(&format!("refused after {made}: {}", calls::errno_name(io::Error::last_os_error())));
                exit(3);
            }
            _ => made += 1,
        }
    }
}

fn threads() {
    let mut made = 0;
    loop {
        let builder = std::thread::Builder::new().stack_size(16 * 1024);
        match builder.spawn(|| std::thread::sleep(std::time::Duration::from_secs(60))) {
            Ok(_) => made += 1,
            Err(error) => {
                say(&format!("refused after {made}: {}", calls::errno_name(error)));
                exit(3);
            }
        }
    }
}

fn flood(bytes: usize) {
    let block = vec![b'x'; 64 * 1024];
    let mut out = io::stdout();
    let mut left = bytes;
    while left > 0 {
        let part = left.min(block.len());
        if out.write_all(&block[..part]).is_err() {
            exit(4);
        }
        left -= part;
    }
    let _ = out.flush();
}

/// Leaves a process behind that has left its parent, its session and its signals.
fn hide(seconds: &str) {
    let mut ends = [0; 2];
    // SAFETY: the pointer is to two live ints.
    unsafe { libc::pipe(ends.as_mut_ptr()) };
    // SAFETY: this process has one thread.
    if unsafe { libc::fork() } == 0 {
        // SAFETY: takes nothing.
        unsafe { libc::setsid() };
        // SAFETY: this process has one thread.
        if unsafe { libc::fork() } == 0 {
            for signal in [libc::SIGTERM, libc::SIGHUP, libc::SIGINT] {
                // SAFETY: ignoring a signal asks for nothing.
                unsafe { libc::signal(signal, libc::SIG_IGN) };
            }
            say("hidden");
            // SAFETY: writes one live byte.
            unsafe { libc::write(ends[1], b"x".as_ptr().cast(), 1) };
            sleep(seconds);
        }
        exit(0);
    }
    let mut byte = 0_u8;
    // SAFETY: reads into one live byte, until the daemon says that it is there.
    unsafe { libc::read(ends[0], (&raw mut byte).cast(), 1) };
}

fn exec(path: &str, arguments: &[&str]) {
    let strings: Vec<CString> = std::iter::once(path)
        .chain(arguments.iter().copied())
        .filter_map(|word| CString::new(word).ok())
        .collect();
    let mut list: Vec<*const libc::c_char> = strings.iter().map(|string| string.as_ptr()).collect();
    list.push(std::ptr::null());
    // SAFETY: a null-ended list of NUL-ended strings that outlive the call.
    unsafe { libc::execv(list[0], list.as_ptr()) };
    say(&format!("execve ! {}", calls::errno_name(io::Error::last_os_error())));
}

fn in_a_grandchild(words: &[&str]) {
    for _ in 0..2 {
        // SAFETY: this process has one thread.
        let child = unsafe { libc::fork() };
        if child > 0 {
            let mut status = 0;
            // SAFETY: the status is live and the child is ours.
            unsafe { libc::waitpid(child, &raw mut status, 0) };
            exit(libc::WEXITSTATUS(status));
        }
    }
    run(words);
    let _ = io::stdout().flush();
    exit(0);
}

/// Lists what is in `/dev` by kind.
fn special_files() {
    let mut names: Vec<String> = std::fs::read_dir("/dev")
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    say(&names.join(" "));
}

fn write_until_full(path: &str) {
    let mut file = match std::fs::File::create(path) {
        Ok(file) => file,
        Err(error) => return say(&format!("create ! {}", calls::errno_name(error))),
    };
    let block = vec![1_u8; 1 << 20];
    let mut written = 0_u64;
    loop {
        match file.write(&block) {
            Ok(count) => written += count as u64,
            Err(error) => {
                return say(&format!("full after {} MiB ! {}", written >> 20, calls::errno_name(error)));
            }
        }
    }
}

fn names_until_full(path: &str) {
    for number in 0..10_000_000 {
        if let Err(error) = std::fs::File::create(format!("{path}/{number}")) {
            return say(&format!("full after {number} ! {}", calls::errno_name(error)));
        }
    }
}
