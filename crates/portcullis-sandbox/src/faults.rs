//! Lets a test make a step fail: only with the feature `fault-injection`, which nothing but tests turns on.

use std::sync::OnceLock;

/// Is asked at every step, in whatever process takes it, and answers with the errno that the step is to fail
/// with. A forked process asks what its parent has set.
pub type Fault = fn(step: &str) -> Option<i32>;

static FAULT: OnceLock<Fault> = OnceLock::new();

/// Sets who is asked, once for the life of the process.
pub fn fail_steps(fault: Fault) {
    let _ = FAULT.set(fault);
}

/// Returns the errno that a step is to fail with, if it is.
pub(crate) fn asked(step: &str) -> Option<i32> {
    FAULT.get().and_then(|fault| fault(step))
}
