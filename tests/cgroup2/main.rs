//! Control groups of version 2, and a kernel without Landlock: the cases of `tests/confinement` that depend on
//! them, and some more, inside Debian's user-mode-linux.
//!
//! The kernel boots once, as a process, on this machine's files, and runs this very executable. So each case
//! runs there and not here, and each test here says how its namesake ended there.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod harness;
#[path = "../confinement/host.rs"]
#[allow(dead_code, reason = "the cases here use a part of it")]
mod host;
#[path = "../confinement/permit.rs"]
#[allow(dead_code, reason = "the cases here use a part of it")]
mod permit;
mod uml;

mod cores;
mod groups;

#[path = "../confinement/ends.rs"]
mod ends;
#[path = "../confinement/limits.rs"]
mod limits;
#[path = "../confinement/lines.rs"]
mod lines;
