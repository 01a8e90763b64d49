//! Ends the work of the engine in good order.

use std::sync::Arc;
use std::time::Duration;

use portcullis_core::StopReason;
use tokio::time::timeout;
use tracing::{error, info};

use crate::ending;
use crate::finish::finish_queued;
use crate::shared::{Gate, Shared};
use crate::tell::LAST_UPDATES;

/// How long after their grace period the last executions are waited for, and the store with their endings.
const LAST_ENDINGS: Duration = Duration::from_secs(10);

/// Refuses new work, waits, stops the rest, and sees every record to its ending.
///
/// A second call with less patience hastens the first.
pub(crate) async fn drain(shared: &Arc<Shared>, patience: Duration) {
    shared.advance(Gate::Draining);
    let load = shared.load();
    info!(queued = load.queued, running = load.running, "draining");
    tokio::select! {
        () = shared.quiet() => {}
        () = shared.reached(Gate::Closed) => {}
        () = tokio::time::sleep(patience) => {}
    }
    let grace = stop_the_rest(shared);
    if timeout(grace + LAST_ENDINGS, shared.quiet()).await.is_err() {
        // The store is away, or the launcher does not answer. The next start ends these records.
        error!(executions = shared.ledger().live.len(), "not every execution could be ended");
        shared.advance(Gate::Abandoned);
    }
    if timeout(LAST_UPDATES, shared.teller.settled()).await.is_err() {
        info!("some listeners are not told yet; the next start goes on with it");
    }
    shared.teller.stop();
    info!("drained");
}

/// Ends what waits, asks what runs to stop, and returns the longest grace period among it.
fn stop_the_rest(shared: &Arc<Shared>) -> Duration {
    shared.advance(Gate::Closed);
    let (waiting, live) = {
        let mut ledger = shared.ledger();
        (ledger.queue.clear(), ledger.live.values().cloned().collect::<Vec<_>>())
    };
    for queued in waiting {
        tokio::spawn(finish_queued(Arc::clone(shared), queued.live, ending::interrupted()));
    }
    live.iter().for_each(|live| live.request_stop(StopReason::Shutdown));
    live.iter().map(|live| live.accepted().limits.grace_period).max().unwrap_or_default()
}
