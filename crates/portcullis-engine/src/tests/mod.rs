//! What the engine promises, tried on parts in memory. The clock is paused: time passes only where all
//! tasks wait for it, so no test depends on how fast the machine is.

mod doubles;

mod access;
mod admission;
mod ahead;
mod draining;
mod faults;
mod output;
mod running;
mod simulation;
mod telling;
