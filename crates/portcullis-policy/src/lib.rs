//! Judges command lines: value in, value out, on any platform.
#![forbid(unsafe_code)]

pub mod code;
mod effects;
pub mod explain;
mod judge;
mod language;
mod nearest;
mod rulebook;

pub use judge::RulebookPolicy;
pub use language::{MAX_COMMANDS, MAX_LINE_BYTES};
pub use rulebook::{Coverage, DEFAULT_PROTECTED, Problem, Rulebook, RulebookError, TestFailure, TestReport};
