//! What a principal may do with executions of its own: read, list and cancel them.

use std::sync::Arc;

use portcullis_core::{
    Execution, ExecutionId, ListPage, ListQuery, Located, OutputChunk, Place, Principal, Status, StopReason,
    StoreError,
};
use tracing::info;

use crate::backoff::Backoff;
use crate::ending;
use crate::finish::finish_queued;
use crate::live::Live;
use crate::panics::catching_store;
use crate::shared::Shared;
use crate::vocabulary::{AccessError, Cancelled, Waited};
use crate::watch::POLL;

/// Reads a record. One that belongs to somebody else is not there.
pub(crate) async fn read(
    shared: &Shared,
    principal: &Principal,
    id: &ExecutionId,
) -> Result<Execution, AccessError> {
    // What is in our hands is as far in memory as in the store: nobody has to look there.
    match shared.live_of(&principal.id, id).filter(|live| !live.is_abandoned()) {
        Some(live) => Ok(live.follow().borrow().record()),
        None => stored(shared, principal, id).await,
    }
}

/// Waits until an execution has ended.
pub(crate) async fn wait(
    shared: &Shared,
    principal: &Principal,
    id: &ExecutionId,
) -> Result<Waited, AccessError> {
    loop {
        if let Some(live) = shared.live_of(&principal.id, id)
            && let Some(record) = live.ended().await
        {
            let output = live.output_in_memory();
            return Ok(Waited { execution: Box::new((*record).clone()), output });
        }
        let execution = stored(shared, principal, id).await?;
        if execution.status.is_terminal() {
            return Ok(Waited { execution: Box::new(execution), output: None });
        }
        // It is just about to come into our hands, or in those of another machine.
        tokio::time::sleep(POLL).await;
    }
}

/// Reads a record as the store has it.
async fn stored(shared: &Shared, principal: &Principal, id: &ExecutionId) -> Result<Execution, AccessError> {
    let record = catching_store("read", shared.parts.store.read(id)).await?;
    if let Some(record) = record.filter(|record| record.owner == principal.id) {
        return Ok(record);
    }
    let removed = shared.parts.store.was_removed(&principal.id, id);
    match catching_store("look for a removed execution", removed).await? {
        true => Err(AccessError::Expired(id.clone())),
        false => Err(AccessError::NotFound(id.clone())),
    }
}

pub(crate) async fn output(
    shared: &Shared,
    principal: &Principal,
    id: &ExecutionId,
    after_seq: u64,
    max_bytes: usize,
) -> Result<Vec<OutputChunk>, AccessError> {
    if shared.live_of(&principal.id, id).is_none() {
        read(shared, principal, id).await?;
    }
    Ok(catching_store("read output", shared.parts.store.output(id, after_seq, max_bytes)).await?)
}

pub(crate) async fn locate(
    shared: &Shared,
    principal: &Principal,
    id: &ExecutionId,
    place: Place,
) -> Result<Located, AccessError> {
    if shared.live_of(&principal.id, id).is_none() {
        read(shared, principal, id).await?;
    }
    Ok(catching_store("find a place in output", shared.parts.store.locate(id, place)).await?)
}

pub(crate) async fn list(
    shared: &Shared,
    principal: &Principal,
    query: ListQuery,
) -> Result<ListPage, StoreError> {
    let query = ListQuery { owner: Some(principal.id.clone()), ..query };
    catching_store("list", shared.parts.store.list(&query)).await
}

/// Cancels an execution and waits for its end. Whoever comes first, the exit or the cancellation, there is
/// one terminal state, and this returns it.
pub(crate) async fn cancel(
    shared: &Arc<Shared>,
    principal: &Principal,
    id: &ExecutionId,
) -> Result<Cancelled, AccessError> {
    let mut backoff = Backoff::new();
    loop {
        if let Some(live) = shared.live_of(&principal.id, id) {
            stop(shared, principal, &live);
            if let Some(record) = live.ended().await {
                return Ok(ended((*record).clone()));
            }
        }
        let record = stored(shared, principal, id).await?;
        if record.status.is_terminal() {
            return Ok(ended(record));
        }
        // Recorded, and not in our hands: it is just about to come into them, or it is somebody else's.
        backoff.wait().await;
    }
}

fn ended(record: Execution) -> Cancelled {
    match record.status {
        Status::Cancelled => Cancelled::Cancelled(Box::new(record)),
        _ => Cancelled::AlreadyEnded(Box::new(record)),
    }
}

/// Ends what waits without ever starting it, and asks what runs to stop.
fn stop(shared: &Arc<Shared>, principal: &Principal, live: &Arc<Live>) {
    live.request_stop(StopReason::Cancelled);
    // In a statement of its own, which gives the ledger back.
    let waiting = shared.ledger().queue.remove(&live.owner, |queued| queued.live.id == live.id);
    info!(
        execution_id = %live.id,
        user = %principal.name.escape_debug(),
        user_id = %principal.id.escape_debug(),
        waiting = waiting.is_some(),
        "cancellation asked"
    );
    if let Some(queued) = waiting {
        // In a task of its own: it is in nobody's hands but ours now, and the caller may hang up.
        tokio::spawn(finish_queued(Arc::clone(shared), queued.live, ending::cancelled()));
    }
}
