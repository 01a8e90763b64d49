//! Writes the one ending of an execution, and lets go of it.

use std::sync::Arc;

use portcullis_core::{Closing, Delivery, Ending, Execution, Finish, StoreError};
use tracing::{error, info, warn};

use crate::backoff::Backoff;
use crate::ending::{chain, duration, not_before, output_lost};
use crate::live::Live;
use crate::panics::catching_store;
use crate::recorder::Recorder;
use crate::shared::{Gate, Shared};

/// Writes the ending of an execution that was never given to the launcher.
pub(crate) async fn finish_queued(shared: Arc<Shared>, live: Arc<Live>, ending: Ending) {
    finish(&shared, &live, ending, None).await;
    shared.forget(&live);
}

/// Writes an ending, and with it what the recorder still holds: INVARIANT (one end). Whatever stands in the record
/// afterwards is what everybody is told, be it this ending or one that came first.
///
/// While the store is unavailable this tries again, and the execution stays as it is for all who ask: an
/// ending that is not recorded is told to nobody. It gives up when the store says that there is nothing to
/// write to, or when the service ends; then the next start finds the record open and ends it.
///
/// # Cancel safety
/// Not cancel safe: dropping the future may leave the record open.
pub(crate) async fn finish(shared: &Shared, live: &Live, ending: Ending, recorder: Option<&Recorder>) {
    let tip = live.follow().borrow().clone();
    let began = tip.running.as_ref().and_then(|record| record.started_at).unwrap_or(tip.accepted.accepted_at);
    let mut closing = Closing {
        ending: not_before(ending, began),
        output: recorder.map(Recorder::rest).unwrap_or_default(),
        // Where nobody listens there is nothing to read, to tell, or to note later.
        delivery: (!shared.parts.notifier.wants_updates()).then_some(Delivery::Delivered),
    };
    let mut backoff = Backoff::new();
    loop {
        let call = shared.parts.store.close(&live.id, closing.clone());
        match catching_store("finish", call).await {
            Ok(Finish::Written(record)) => {
                log(&record);
                shared.counters.ended(&record);
                if let Some(recorder) = recorder.filter(|_| !closing.output.is_empty()) {
                    recorder.stored(closing.output);
                }
                return publish(shared, live, *record);
            }
            Ok(Finish::AlreadyEnded(record)) => return publish(shared, live, *record),
            Err(problem @ StoreError::Unavailable { .. }) => {
                shared.counters.note(|stats| stats.store_failures += 1);
                warn!(execution_id = %live.id, error = chain(&problem), "the ending is not recorded yet");
                // It may be the size of the output that cannot be stored.
                if !closing.output.is_empty() && recorder.is_some_and(Recorder::is_overdue) {
                    closing = without_output(live, closing);
                }
            }
            Err(problem) if !closing.output.is_empty() => {
                shared.counters.note(|stats| stats.store_failures += 1);
                error!(execution_id = %live.id, error = chain(&problem), "the end of its output is refused");
                closing = without_output(live, closing);
                continue;
            }
            Err(problem) => {
                error!(execution_id = %live.id, error = chain(&problem), "the ending cannot be recorded");
                return live.abandon();
            }
        }
        tokio::select! {
            () = backoff.wait() => {}
            () = shared.reached(Gate::Abandoned) => {
                error!(execution_id = %live.id, "the ending was not recorded before the service ended");
                return live.abandon();
            }
        }
    }
}

/// Gives the last of the output up: a record without it is better than none.
fn without_output(live: &Live, closing: Closing) -> Closing {
    error!(execution_id = %live.id, "the end of its output could not be stored");
    Closing { ending: output_lost(closing.ending), output: Vec::new(), ..closing }
}

/// Shows the final record to watchers, and has the listeners told.
pub(crate) fn publish(shared: &Shared, live: &Live, record: Execution) {
    live.publish_ended(record);
    if shared.parts.notifier.wants_updates() {
        shared.teller.wake();
    }
}

fn log(record: &Execution) {
    let Some(ending) = &record.ending else { return };
    info!(
        execution_id = %record.id,
        user = %record.owner_name.escape_debug(),
        user_id = %record.owner.escape_debug(),
        trace_id = record.provenance.trace_id(),
        programs = record.programs.join(","),
        status = ending.status.as_str(),
        reason = ending.reason.as_str(),
        exit_code = ending.exit_code,
        signal = ending.signal,
        duration_ms = u64::try_from(duration(record).as_millis()).unwrap_or(u64::MAX),
        "ended"
    );
}
