//! What a command must not be able to do, tried from inside a cell on this kernel.
//!
//! Cases are pairs: the allowed works, the forbidden fails with the errno named. Names and numbers of lines
//! are those of `docs/threat-model.md`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod ends;
mod execute;
mod files;
mod harness;
mod kernel;
mod limits;
mod lines;
