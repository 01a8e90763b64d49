//! The contract of [`ExecutionStore`] as tests, for every implementation alike.
//!
//! [`conformance_tests!`](crate::conformance_tests) makes one test of each case:
//!
//! ```ignore
//! portcullis_store::conformance_tests!(async {
//!     let directory = tempfile::tempdir().unwrap();
//!     (SqliteStore::open(&directory.path().join("db")).unwrap(), directory)
//! });
//! ```
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    reason = "these are tests, though the compiler cannot see it"
)]

mod closing;
mod life;
mod listing;
mod outbox;
mod output;

use std::time::Duration;

pub use closing::*;
pub use life::*;
pub use listing::*;
pub use outbox::*;
pub use output::*;
use portcullis_core::{
    Acceptance, CgroupVersion, Confinement, Denial, DenialCode, DenialKind, Ending, Execution, ExecutionId,
    ExecutionStore, Fingerprint, Level, Limits, NewExecution, OutputChunk, OutputStream, Provenance, Reason,
    Refusal, RuleRef, Span, Status, StoreError, TraceContext, Usage,
};
use time::OffsetDateTime;
use time::macros::datetime;

/// Makes one test of each case of the contract.
///
/// Takes an expression that is a future of a fresh store and of what must live as long as it, evaluated for
/// each test. The crate that uses it needs tokio with `macros` and `rt-multi-thread`.
#[macro_export]
macro_rules! conformance_tests {
    ($open:expr) => {
        $crate::conformance_tests! { @each $open;
            // How it begins and ends.
            an_accepted_execution_is_read_back_as_it_was
            the_same_submission_again_gives_the_record_as_it_is_now
            an_id_that_belongs_to_something_else_is_taken
            of_many_equal_submissions_at_once_one_is_new
            an_execution_that_starts_at_once_is_accepted_and_claimed_in_one
            an_execution_is_claimed_once
            of_many_claims_at_once_one_wins
            of_many_endings_at_once_one_is_written
            an_ending_comes_back_as_it_was
            an_execution_that_ended_before_its_start_is_never_claimed
            a_status_that_is_not_terminal_ends_nothing
            what_is_not_stored_is_unknown_to_every_call
            times_are_kept_to_the_nanosecond
            a_time_that_cannot_be_kept_is_refused_and_leaves_nothing
            texts_are_kept_whatever_they_hold
            // Its output.
            output_comes_back_in_order_and_byte_for_byte
            a_gap_is_refused_and_nothing_of_the_call_is_kept
            a_chunk_that_is_stored_is_passed_over
            an_empty_chunk_and_a_number_below_one_are_refused
            output_for_an_ended_execution_is_refused
            output_is_read_in_whole_chunks_that_fit
            a_place_in_the_output_is_found_by_its_bytes
            the_last_output_and_the_ending_are_written_together_or_not_at_all
            outputs_of_several_executions_stay_apart
            the_same_chunks_from_two_sides_at_once_are_stored_once
            // Lists.
            lists_are_newest_first
            pages_follow_each_other_without_gap_or_repetition
            a_newer_record_does_not_move_the_next_page
            each_filter_lists_what_it_names_and_nothing_else
            filters_hold_across_pages
            a_cursor_that_no_page_gave_is_refused
            a_limit_of_zero_counts_as_one
            // What comes after.
            recovery_ends_what_was_left_open
            recovery_never_ends_anything_before_its_beginning
            undelivered_updates_are_read_oldest_first_until_noted
            an_update_that_nobody_waits_for_is_never_undelivered
            an_update_of_a_running_execution_cannot_be_delivered
            expiry_removes_what_ended_before_and_nothing_else
            expiry_removes_more_than_one_step_holds
            refusals_are_read_newest_first_as_they_were
            expiry_removes_old_refusals
            trimming_keeps_the_newest_that_ended
            trimming_to_bytes_removes_the_oldest
            what_was_removed_is_remembered
        }
    };
    (@each $open:expr; $($case:ident)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $case() {
            let (store, _kept) = $open.await;
            $crate::conformance::$case(std::sync::Arc::new(store)).await;
        }
    )*};
}

/// A time from which the cases count.
pub(crate) const START: OffsetDateTime = datetime!(2026-03-01 12:00:00.123456789 UTC);

pub(crate) fn after(seconds: u64) -> OffsetDateTime {
    START + Duration::from_secs(seconds)
}

pub(crate) fn id(text: &str) -> ExecutionId {
    ExecutionId::parse(text).unwrap()
}

/// A submission of `ann`, accepted at the start.
pub(crate) fn new(name: &str) -> NewExecution {
    NewExecution {
        id: id(name),
        owner: "u-1".into(),
        owner_name: "ann".into(),
        command: format!("echo {name} | cat"),
        fingerprint: Fingerprint([7; 32]),
        programs: vec!["echo".into(), "cat".into()],
        rules: vec!["text tools".into()],
        limits: Limits { memory_bytes: u64::MAX, wall_time: Duration::new(60, 1), ..Limits::default() },
        accepted_at: START,
        provenance: Provenance::default(),
        start: None,
    }
}

pub(crate) fn confinement() -> Confinement {
    Confinement {
        level: Level::Namespaces,
        landlock_abi: Some(7),
        cgroup: Some(CgroupVersion::V2),
        weaker: vec!["memory is limited for each process alone".into()],
    }
}

pub(crate) fn completed(at: OffsetDateTime) -> Ending {
    Ending {
        status: Status::Completed,
        reason: Reason::Exit,
        exit_code: Some(0),
        signal: None,
        ended_at: at,
        usage: Some(Usage {
            cpu_time: Duration::from_nanos(1_234_567_891),
            peak_memory_bytes: Some(1 << 40),
            wall_time: Duration::from_millis(3),
        }),
        truncated: false,
        message: None,
    }
}

pub(crate) fn chunk(seq: u64, bytes: &[u8]) -> OutputChunk {
    let stream = if seq.is_multiple_of(2) { OutputStream::Stderr } else { OutputStream::Stdout };
    OutputChunk { seq, stream, at: after(seq), bytes: bytes.to_vec() }
}

pub(crate) fn refusal(command: &str, at: OffsetDateTime) -> Refusal {
    let denial = Denial {
        code: DenialCode::new("path/protected"),
        kind: DenialKind::Forbidden,
        span: Span::new(4, 15),
        subject: "/etc/passwd".into(),
        rule: Some(RuleRef { name: "text tools".into(), line: Some(3) }),
        message: "`cat` names a protected path".into(),
        suggestion: None,
        effects: Vec::new(),
        further: Vec::new(),
    };
    Refusal {
        at,
        principal: "u-1".into(),
        principal_name: "ann".into(),
        execution_id: Some(id("chosen")),
        command: command.into(),
        denial: Denial { further: vec![denial.clone()], suggestion: Some("ask".into()), ..denial },
        provenance: Provenance::default(),
    }
}

/// Comes from somewhere, in a trace of somebody else's.
pub(crate) fn provenance() -> Provenance {
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    Provenance {
        peer: Some(([192, 0, 2, 1], 4321).into()),
        trace: TraceContext::parse(parent, ["vendor=a b\"c"]),
    }
}

/// Accepts what must be new.
pub(crate) async fn accept(store: &dyn ExecutionStore, new: NewExecution) -> Execution {
    match store.accept(new).await.unwrap() {
        Acceptance::New(execution) => *execution,
        other => panic!("not new: {other:?}"),
    }
}

/// Accepts and ends an execution.
pub(crate) async fn ended(store: &dyn ExecutionStore, name: &str, at: OffsetDateTime) -> Execution {
    accept(store, NewExecution { accepted_at: at, ..new(name) }).await;
    store.finish(&id(name), completed(at)).await.unwrap();
    store.read(&id(name)).await.unwrap().unwrap()
}

#[track_caller]
pub(crate) fn assert_refused<T: std::fmt::Debug>(result: Result<T, StoreError>) {
    assert!(matches!(result, Err(StoreError::Refused { .. })), "{result:?}");
}

#[track_caller]
pub(crate) fn assert_unknown<T: std::fmt::Debug>(result: Result<T, StoreError>) {
    assert!(matches!(result, Err(StoreError::Unknown(_))), "{result:?}");
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_case_is_in_the_list() {
        let list = concat!(include_str!("mod.rs"), include_str!("outbox.rs"));
        for file in [
            include_str!("life.rs"),
            include_str!("output.rs"),
            include_str!("listing.rs"),
            include_str!("closing.rs"),
            include_str!("outbox.rs"),
        ] {
            for line in file.lines().filter_map(|line| line.strip_prefix("pub async fn ")) {
                let case = line.split('(').next().unwrap();
                assert!(list.contains(&format!("            {case}\n")), "`{case}` is in no list");
            }
        }
    }
}
