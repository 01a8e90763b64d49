//! What the cases use: inside, the harness of `tests/confinement` as it is; outside, what became of them inside.

use portcullis_core::{Ended, Level};

use crate::uml;

#[path = "../confinement/harness.rs"]
#[allow(dead_code, reason = "the cases here use a part of it")]
mod confinement;

pub(crate) use confinement::{Bench, Line, Watcher, bench, config};

/// Whether a case is to go on: inside, at least at this level; never outside, where this is the whole case.
#[track_caller]
pub(crate) fn has(level: Level) -> bool {
    here() && confinement::has(level)
}

/// Whether we are inside. Outside, asserts that the test of this thread has passed there.
#[track_caller]
pub(crate) fn here() -> bool {
    let inside = uml::inside();
    if !inside {
        uml::expect_passed(std::thread::current().name().unwrap_or_default());
    }
    inside
}

#[track_caller]
pub(crate) fn check(line: Line, expected: &[&str]) {
    if here() {
        confinement::check(line, expected);
    }
}

#[track_caller]
pub(crate) fn check_on(bench: &Bench, line: Line, expected: &[&str]) {
    confinement::check_on(bench, line, expected);
}

#[track_caller]
pub(crate) fn check_end(line: Line, expected: Ended) {
    if here() {
        confinement::check_end(line, expected);
    }
}
