//! Judges command lines: value in, value out, on any platform.
#![forbid(unsafe_code)]

pub mod code;
mod effects;
pub mod explain;
mod language;
mod policy;
mod rulebook;

pub use policy::RulebookPolicy;
pub use rulebook::{Rulebook, RulebookError};
