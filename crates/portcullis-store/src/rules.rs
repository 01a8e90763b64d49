//! What every implementation decides alike, whatever it keeps records in.

use portcullis_core::{
    Ending, Execution, ExecutionId, NewExecution, OutputChunk, Reason, Status, StoreError,
};
use time::OffsetDateTime;

/// The most records of one page, whatever the query asks for.
pub const MAX_PAGE: usize = 1_000;

/// Returns how many records a page may hold.
pub(crate) fn page_size(asked: usize) -> usize {
    asked.clamp(1, MAX_PAGE)
}

/// Returns a time in nanoseconds since 1970.
pub(crate) fn nanoseconds(operation: &'static str, at: OffsetDateTime) -> Result<i64, StoreError> {
    i64::try_from(at.unix_timestamp_nanos()).map_err(|_| StoreError::Refused {
        operation,
        problem: format!("the time `{at}` is outside the years 1677 to 2262"),
    })
}

/// Returns a bound of a query in nanoseconds; a time that cannot be stored bounds as well as the nearest one.
pub(crate) fn bound_in_nanoseconds(at: OffsetDateTime) -> i64 {
    let nanoseconds = at.unix_timestamp_nanos();
    i64::try_from(nanoseconds).unwrap_or(if nanoseconds < 0 { i64::MIN } else { i64::MAX })
}

/// Whether a submission is the one that this record was made of.
pub(crate) fn is_same(stored: &Execution, new: &NewExecution) -> bool {
    stored.owner == new.owner && stored.fingerprint == new.fingerprint
}

/// How far an execution's output has come.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Progress {
    pub(crate) ended: bool,
    pub(crate) last_seq: u64,
}

/// Returns those chunks that are not stored yet; they continue the stored output without a gap.
pub(crate) fn new_chunks(
    id: &ExecutionId,
    stored: Progress,
    chunks: Vec<OutputChunk>,
) -> Result<Vec<OutputChunk>, StoreError> {
    let refuse = |problem: String| Err(StoreError::Refused { operation: "output", problem });
    if stored.ended {
        return refuse(format!("the execution `{id}` has ended"));
    }
    let mut last = stored.last_seq;
    let mut new = Vec::with_capacity(chunks.len());
    for chunk in chunks {
        if chunk.seq == 0 || chunk.bytes.is_empty() {
            return refuse(format!(
                "chunk `{}` of `{id}` has {} bytes: numbers begin at 1, and a chunk is never empty",
                chunk.seq,
                chunk.bytes.len()
            ));
        }
        if chunk.seq <= last {
            continue;
        }
        if chunk.seq - last != 1 {
            return refuse(format!("chunk `{}` of `{id}` does not follow chunk `{last}`", chunk.seq));
        }
        nanoseconds("output", chunk.at)?;
        last = chunk.seq;
        new.push(chunk);
    }
    Ok(new)
}

/// Checks an ending that is to be written.
pub(crate) fn check_ending(id: &ExecutionId, ending: &Ending) -> Result<(), StoreError> {
    if !ending.status.is_terminal() {
        return Err(StoreError::Refused {
            operation: "the ending",
            problem: format!("`{}` of `{id}` is no terminal status", ending.status.as_str()),
        });
    }
    nanoseconds("the ending", ending.ended_at).map(|_| ())
}

/// Returns the ending of an execution that an earlier life of the service left open.
///
/// The clock may have been set back since, and an ending is never before its beginning.
pub(crate) fn left_open(stored: &Execution, at: OffsetDateTime) -> Ending {
    let (status, reason, message) = if stored.status == Status::Running {
        (Status::Lost, Reason::ServiceDied, "the service ended while this ran; what it had done is unknown")
    } else {
        (Status::Failed, Reason::Interrupted, "the service ended before this could start; nothing of it ran")
    };
    Ending {
        status,
        reason,
        exit_code: None,
        signal: None,
        ended_at: at.max(stored.started_at.unwrap_or(stored.accepted_at)),
        usage: None,
        truncated: false,
        message: Some(message.into()),
    }
}

/// Returns the refusal of a delivery note for an execution that has not ended.
pub(crate) fn nothing_to_deliver(id: &ExecutionId) -> StoreError {
    StoreError::Refused {
        operation: "the delivery",
        problem: format!("the execution `{id}` has not ended, so it has no terminal update"),
    }
}
