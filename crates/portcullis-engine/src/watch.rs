//! Follows one execution from a position: what is stored first, then what arrives.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use portcullis_core::{Execution, ExecutionId, OutputChunk, Principal, Status, StoreError};
use tokio::sync::watch;

use crate::access;
use crate::live::{Live, Tip};
use crate::panics::catching_store;
use crate::shared::Shared;
use crate::vocabulary::{AccessError, WatchEvent};

/// How often the record of an execution is read that is not in this engine's hands.
pub(crate) const POLL: Duration = Duration::from_millis(100);

/// Follows one execution: stored output first, then what arrives, without gap or repetition.
///
/// A watch at the tip takes chunks from memory that all watchers share; one that is behind reads pages
/// from the store, and shares those with watchers at the same position. It buffers one page at most, so a
/// watcher that does not read costs nobody anything.
pub struct Watch {
    shared: Arc<Shared>,
    owner: String,
    id: ExecutionId,
    /// The last sequence number given out, or asked to begin behind.
    cursor: u64,
    /// The record to begin with.
    first: Option<Box<Execution>>,
    /// Whether the watcher knows that it runs.
    running_told: bool,
    page: VecDeque<Arc<OutputChunk>>,
    source: Source,
}

/// Where the next event comes from.
enum Source {
    /// It is in this engine's hands.
    Live(Arc<Live>, watch::Receiver<Tip>),
    /// Only the store knows it.
    Stored,
    /// It has ended: this is the final record, and its output is still to be read.
    Ending(Box<Execution>),
    /// All is told.
    Over,
}

/// Begins to follow an execution of this principal.
pub(crate) async fn begin(
    shared: &Arc<Shared>,
    principal: &Principal,
    id: &ExecutionId,
    after_seq: u64,
) -> Result<Watch, AccessError> {
    let (record, source) = match shared.live_of(&principal.id, id) {
        Some(live) => {
            let tip = live.follow();
            let record = tip.borrow().record();
            (record, Source::Live(live, tip))
        }
        None => {
            let record = access::read(shared, principal, id).await?;
            let ended = record.status.is_terminal();
            let source = if ended { Source::Ending(Box::new(record.clone())) } else { Source::Stored };
            (record, source)
        }
    };
    Ok(Watch {
        shared: Arc::clone(shared),
        owner: principal.id.clone(),
        id: id.clone(),
        cursor: after_seq,
        running_told: record.status != Status::Scheduled,
        first: Some(Box::new(record)),
        page: VecDeque::new(),
        source,
    })
}

impl Watch {
    /// Returns the next event, and `None` after [`WatchEvent::Ended`].
    ///
    /// # Errors
    /// When the store cannot be read. The watch stays where it is: it can be asked again, or begun again
    /// behind the last sequence number seen.
    ///
    /// # Cancel safety
    /// Dropping the future loses no event.
    pub async fn next(&mut self) -> Result<Option<WatchEvent>, StoreError> {
        if let Some(record) = self.first.take() {
            return Ok(Some(WatchEvent::Status(record)));
        }
        loop {
            // Nothing that was taken out of `self` is held across an await.
            if let Some(chunk) = self.page.pop_front() {
                return Ok(Some(self.give(chunk)));
            }
            match &mut self.source {
                Source::Live(live, follow) => {
                    let tip = follow.borrow_and_update().clone();
                    if let Some(record) = tip.running.as_ref().filter(|_| !self.running_told) {
                        self.running_told = true;
                        return Ok(Some(WatchEvent::Status(Box::new((**record).clone()))));
                    }
                    if tip.last_seq > self.cursor {
                        if let Some(chunk) = live.recent_chunk(self.cursor + 1) {
                            return Ok(Some(self.give(chunk)));
                        }
                        let accepted = tip.accepted;
                        self.turn_page(&accepted).await?;
                    } else if let Some(record) = tip.ended {
                        self.source = Source::Over;
                        return Ok(Some(WatchEvent::Ended(Box::new((*record).clone()))));
                    } else if tip.abandoned || follow.changed().await.is_err() {
                        self.source = Source::Stored;
                    }
                }
                Source::Stored => {
                    if let Some(event) = self.look_at_the_store().await? {
                        return Ok(Some(event));
                    }
                }
                Source::Ending(record) if record.last_seq > self.cursor => {
                    let record = record.clone();
                    self.turn_page(&record).await?;
                }
                Source::Ending(_) => {
                    if let Source::Ending(record) = std::mem::replace(&mut self.source, Source::Over) {
                        return Ok(Some(WatchEvent::Ended(record)));
                    }
                }
                Source::Over => return Ok(None),
            }
        }
    }

    fn give(&mut self, chunk: Arc<OutputChunk>) -> WatchEvent {
        self.cursor = chunk.seq;
        WatchEvent::Output(Arc::unwrap_or_clone(chunk))
    }

    /// Reads the page behind the cursor, which has to be there.
    async fn turn_page(&mut self, execution: &Execution) -> Result<(), StoreError> {
        let page = self.shared.pages.read(execution, self.cursor).await?;
        if page.is_empty() {
            return Err(StoreError::Refused {
                operation: "reading output",
                problem: format!("what followed {} is not stored any more", self.cursor),
            });
        }
        self.page = page.iter().cloned().collect();
        Ok(())
    }

    /// Reads how far an execution has come that is not in this engine's hands, and waits when it is no
    /// farther than before.
    async fn look_at_the_store(&mut self) -> Result<Option<WatchEvent>, StoreError> {
        if let Some(live) = self.shared.live_of(&self.owner, &self.id).filter(|live| !live.is_abandoned()) {
            let tip = live.follow();
            self.source = Source::Live(live, tip);
            return Ok(None);
        }
        let record = catching_store("read", self.shared.parts.store.read(&self.id)).await?;
        let Some(record) = record.filter(|record| record.owner == self.owner) else {
            return Err(StoreError::Unknown(self.id.clone()));
        };
        if record.status.is_terminal() {
            self.source = Source::Ending(Box::new(record));
        } else if record.status == Status::Running && !self.running_told {
            self.running_told = true;
            return Ok(Some(WatchEvent::Status(Box::new(record))));
        } else if record.last_seq > self.cursor {
            self.turn_page(&record).await?;
        } else {
            tokio::time::sleep(POLL).await;
        }
        Ok(None)
    }
}
