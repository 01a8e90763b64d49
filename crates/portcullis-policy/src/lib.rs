//! Judges command lines: value in, value out, on any platform.
#![forbid(unsafe_code)]

mod effects;
pub mod explain;
mod policy;
mod rulebook;

pub use policy::RulebookPolicy;
pub use rulebook::{Rulebook, RulebookError};
