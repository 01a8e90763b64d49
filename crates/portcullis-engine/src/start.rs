//! Takes up what an earlier life of the service left.

use std::sync::Arc;

use portcullis_core::{ExecutionId, Reason, Status, StoreError};
use time::OffsetDateTime;
use tracing::{info, warn};

use crate::panics::catching_store;
use crate::shared::Shared;
use crate::vocabulary::{Config, Parts};

/// Ends open records and begins to tell undelivered updates, theirs among them.
pub(crate) async fn start(parts: Parts, config: Config) -> Result<Arc<Shared>, StoreError> {
    let found = catching_store("recover", parts.store.recover(OffsetDateTime::now_utc())).await?;
    let shared = Shared::new(parts, config);
    let log = |id: &ExecutionId, status: Status, reason: Reason| {
        shared.counters.note(|stats| *stats.ended.entry((status, reason)).or_default() += 1);
        warn!(execution_id = %id, status = status.as_str(), reason = reason.as_str(), "was left open");
    };
    found.lost.iter().for_each(|id| log(id, Status::Lost, Reason::ServiceDied));
    found.interrupted.iter().for_each(|id| log(id, Status::Failed, Reason::Interrupted));
    info!(lost = found.lost.len(), interrupted = found.interrupted.len(), "started");
    Ok(shared)
}
