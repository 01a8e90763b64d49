//! Lets a test make a step fail, take a layer of the confinement away, or see who uses the heap that is not to: only with
//! the feature `fault-injection`, which nothing but tests turns on.

use std::sync::OnceLock;

/// Is asked at every step, in whatever process takes it, and answers with the errno that the step is to fail
/// with. A forked process asks what its parent has set.
pub type Fault = fn(step: &str) -> Option<i32>;

/// Is asked for every layer of the confinement, in whatever process would put it in force, and says whether it is
/// to be left out.
pub type Gone = fn(layer: &str) -> bool;

/// Stands in every executable that can be weakened, so that a test finds none of it in one that ships.
pub const MARK: &str = "portcullis-sandbox: this executable lets its layers be taken away";

static FAULT: OnceLock<Fault> = OnceLock::new();
static GONE: OnceLock<(Gone, &'static str)> = OnceLock::new();

/// Sets who is asked, once for the life of the process.
pub fn fail_steps(fault: Fault) {
    let _ = FAULT.set(fault);
}

/// Sets who is asked, once for the life of the process.
pub fn take_layers_away(gone: Gone) {
    let _ = GONE.set((gone, std::hint::black_box(MARK)));
}

/// Returns the errno that a step is to fail with, if it is.
pub(crate) fn asked(step: &str) -> Option<i32> {
    FAULT.get().and_then(|fault| fault(step))
}

/// Whether a layer is to be left out.
pub(crate) fn is_gone(layer: &str) -> bool {
    GONE.get().is_some_and(|(gone, _)| gone(layer))
}

/// Whether who asks runs in the memory of a cell that is at work itself, and so must not use the heap. The allocator of a
/// test asks this, and does not come back when the answer is yes.
#[must_use]
pub fn heap_is_not_ours() -> bool {
    crate::sys::heap::is_not_ours()
}
