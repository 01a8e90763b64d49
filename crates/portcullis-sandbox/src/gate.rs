//! The gate of an execution: everything is made ready before it, and nothing of the line runs until it opens.
//!
//! So the server can have an execution prepared while its record is still being written. The gate is a pipe: a byte
//! opens it, and an end without one calls the execution off, also that of a server which died.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

use crate::sys::{self, SharedNumber};
use crate::wire::{AtStep, StepError};

/// What became of the gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Gate {
    Open,
    CalledOff,
}

/// When a line begins: at once, or when its gate opens. Shared by the cell, which counts the time from there, and init.
#[derive(Debug)]
pub(crate) struct Begin<'a> {
    ready: Instant,
    gate: Option<RawFd>,
    /// Nanoseconds between `ready` and the opening; 0 before it.
    opened: &'a SharedNumber,
}

impl<'a> Begin<'a> {
    /// The gate's descriptor is to live until init has it.
    pub(crate) fn new(gate: Option<&OwnedFd>, opened: &'a SharedNumber) -> Self {
        opened.set(u64::from(gate.is_none()));
        Self { ready: Instant::now(), gate: gate.map(AsRawFd::as_raw_fd), opened }
    }

    pub(crate) fn gate(&self) -> Option<RawFd> {
        self.gate
    }

    /// Init's side: returns when the line may begin, or when it may not. Uses no heap.
    pub(crate) fn wait(&self) -> Result<Gate, StepError> {
        let Some(gate) = self.gate else { return Ok(Gate::Open) };
        if !sys::read_byte(gate).at("gate")? {
            return Ok(Gate::CalledOff);
        }
        self.opened.set(u64::try_from(self.ready.elapsed().as_nanos()).unwrap_or(u64::MAX).max(1));
        Ok(Gate::Open)
    }

    /// The cell's side: when the line began, if it has.
    pub(crate) fn began(&self) -> Option<Instant> {
        let opened = self.opened.get();
        (opened > 0).then(|| self.ready + Duration::from_nanos(opened))
    }

    /// The same, for one that has ended: what was never let go began when all was ready.
    pub(crate) fn at(&self) -> Instant {
        self.began().unwrap_or(self.ready)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_opens_the_gate_and_its_end_calls_the_line_off() {
        let opened = SharedNumber::new().unwrap();
        for (word, expected) in [(&b"1"[..], Gate::Open), (b"", Gate::CalledOff)] {
            let (read, write) = sys::pipe().unwrap();
            let begin = Begin::new(Some(&read), &opened);
            assert_eq!(begin.began(), None);
            sys::write_all(write.as_raw_fd(), word);
            drop(write);
            assert_eq!(begin.wait().unwrap(), expected);
            assert_eq!(begin.began().is_some(), expected == Gate::Open);
        }
    }

    #[test]
    fn without_a_gate_a_line_begins_when_it_is_ready() {
        let opened = SharedNumber::new().unwrap();
        let begin = Begin::new(None, &opened);
        assert_eq!(begin.wait().unwrap(), Gate::Open);
        assert!(begin.began().is_some_and(|began| began >= begin.ready));
    }
}
