//! What a command must not be able to do, tried from inside a cell on this kernel; and what the launcher must.
//!
//! Cases are pairs: the allowed works, the forbidden fails with the errno named. Names and numbers of lines
//! are those of `docs/threat-model.md`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod harness;
mod host;
mod permit;

mod ahead;
mod bad_input;
mod defences;
mod ends;
mod execute;
mod faults;
mod files;
mod gate;
mod interfaces;
mod judged;
mod kernel;
mod launcher;
mod leaks;
mod leavings;
mod levels;
mod limits;
mod lines;
mod links;
mod memory;
mod neighbours;
mod network;
mod output;
