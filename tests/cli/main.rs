//! The command-line client's promises, from outside: a process, and a service that does what each test says.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test ends where it cannot go on")]

mod busy;
mod client;
mod offline;
mod own;
mod peer;
mod reading;
mod real;
mod run;
mod terminal;
mod verify;
