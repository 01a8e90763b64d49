//! A store on one disk: SQLite with a write-ahead log.
//!
//! One thread writes, a few read, one copies the log into the database. Async callers hand them closures
//! over a channel and await the answer, so no call blocks the runtime.

mod beside;
mod checkpoint;
mod open;
mod postings;
mod queries;
mod readers;
mod room;
mod rows;
mod schema;
mod trouble;
mod writer;
mod writes;

#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use async_trait::async_trait;
use portcullis_core::{
    Acceptance, Claim, Closing, Confinement, Delivery, Execution, ExecutionId, ExecutionStore, Finish, Keep,
    ListPage, ListQuery, Located, NewExecution, OutputChunk, Place, Recovery, Refusal, StoreError,
};
use rusqlite::Connection;
use time::OffsetDateTime;

pub use beside::{Beside, DisabledEndpoint};
use checkpoint::Checkpointer;
use open::Database;
pub use open::OpenError;
use readers::Readers;
pub use writer::WriteCounts;
use writer::{Durability, Writer};

use crate::marks;
use crate::subscribers::Subscribers;

/// How long the writer is left to others between two steps that give room back.
const BETWEEN_STEPS: Duration = Duration::from_millis(5);

/// Keeps executions in a database file of its own.
///
/// Dropping it finishes what it was given, which may take as long as the disk takes for one commit and one
/// checkpoint.
#[derive(Debug)]
pub struct SqliteStore {
    // In the order in which they end: the last connection to close is the writer's, which takes the log's
    // remainder along; the lock goes after it.
    readers: Readers,
    writer: Writer,
    subscribers: Subscribers,
    _database: Database,
}

impl SqliteStore {
    /// Opens the database at a path, and makes it, with its directory, when there is none. Its files can be
    /// read by their owner alone. Takes as long as the disk takes, and after a crash as the log is long.
    ///
    /// # Errors
    /// See [`OpenError`]; an existing file is left as it was.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        let (database, writer) = Database::open(path)?;
        Self::start(database, writer)
    }

    fn start(database: Database, writer: rusqlite::Connection) -> Result<Self, OpenError> {
        let path: Arc<Path> = database.path.as_path().into();
        let threads = |source| OpenError::Files {
            operation: "start the threads of",
            path: database.path.clone(),
            source,
        };
        let count = thread::available_parallelism().map_or(2, |n| n.get().clamp(2, 4));
        let readers = (0..count).map(|_| database.reader()).collect::<Result<_, _>>()?;
        let checkpointer =
            Checkpointer::start(Arc::clone(&path), database.checkpointer()?).map_err(threads)?;
        let writer = Writer::start(Arc::clone(&path), writer, checkpointer).map_err(threads)?;
        let readers = Readers::start(path, readers).map_err(threads)?;
        Ok(Self { readers, writer, subscribers: Subscribers::default(), _database: database })
    }

    /// Writes a page that changes nothing, and syncs it: whether the store can be relied on, at this moment.
    ///
    /// # Errors
    /// What a write would meet.
    pub async fn probe(&self) -> Result<(), StoreError> {
        self.writer.write("write a page as a trial", Durability::Synced, writes::probe).await
    }

    /// Returns how much was written since the store was opened.
    #[must_use]
    pub fn write_counts(&self) -> WriteCounts {
        self.writer.counts()
    }
}

/// # Cancel safety
/// Dropping a future drops its answer. A write that was handed over is made all the same.
#[async_trait]
impl ExecutionStore for SqliteStore {
    async fn accept(&self, new: NewExecution) -> Result<Acceptance, StoreError> {
        self.writer
            .write("record the execution", Durability::Synced, |connection| writes::accept(connection, new))
            .await
    }

    async fn claim(
        &self,
        id: &ExecutionId,
        at: OffsetDateTime,
        confinement: &Confinement,
    ) -> Result<Claim, StoreError> {
        // Synced, since a start that a loss of power forgets would be told as `interrupted`: as if nothing
        // had run.
        let (id, confinement) = (id.clone(), confinement.clone());
        self.writer
            .write("record the start", Durability::Synced, move |connection| {
                writes::claim(connection, &id, at, &confinement)
            })
            .await
    }

    async fn append(&self, id: &ExecutionId, chunks: Vec<OutputChunk>) -> Result<(), StoreError> {
        let id = id.clone();
        self.writer
            .write("record output", Durability::Written, move |connection| {
                writes::append(connection, &id, chunks)
            })
            .await
    }

    async fn close(&self, id: &ExecutionId, closing: Closing) -> Result<Finish, StoreError> {
        let id = id.clone();
        let subscribed = self.subscribers.posted_to();
        let anybody = !subscribed.is_empty();
        let finish = self
            .writer
            .write("record the ending", Durability::Synced, move |connection| {
                writes::close(connection, &id, closing, &subscribed)
            })
            .await;
        if anybody {
            self.subscribers.stir();
        }
        finish
    }

    async fn read(&self, id: &ExecutionId) -> Result<Option<Execution>, StoreError> {
        let id = id.clone();
        self.readers
            .read("read the execution", move |connection| {
                Ok(queries::find(connection, &id)?.map(|stored| stored.execution))
            })
            .await
    }

    async fn output(
        &self,
        id: &ExecutionId,
        after_seq: u64,
        max_bytes: usize,
    ) -> Result<Vec<OutputChunk>, StoreError> {
        let id = id.clone();
        self.readers
            .read("read output", move |connection| queries::output(connection, &id, after_seq, max_bytes))
            .await
    }

    async fn locate(&self, id: &ExecutionId, place: Place) -> Result<Located, StoreError> {
        let id = id.clone();
        self.readers
            .read("find a place in output", move |connection| queries::locate(connection, &id, place))
            .await
    }

    async fn list(&self, query: &ListQuery) -> Result<ListPage, StoreError> {
        let query = query.clone();
        self.readers.read("list executions", move |connection| queries::list(connection, &query)).await
    }

    async fn refuse(&self, refusal: Refusal) -> Result<(), StoreError> {
        self.writer
            .write("record the refusal", Durability::Synced, move |connection| {
                writes::refuse(connection, &refusal)
            })
            .await
    }

    async fn refusals(&self, limit: usize) -> Result<Vec<Refusal>, StoreError> {
        self.readers.read("read refusals", move |connection| queries::refusals(connection, limit)).await
    }

    async fn recover(&self, at: OffsetDateTime) -> Result<Recovery, StoreError> {
        let subscribed = self.subscribers.posted_to();
        let recovery = self
            .writer
            .write("end what was left open", Durability::Synced, move |connection| {
                writes::recover(connection, at, &subscribed)
            })
            .await;
        self.subscribers.stir();
        recovery
    }

    async fn undelivered(&self, limit: usize) -> Result<Vec<Execution>, StoreError> {
        self.readers
            .read("read undelivered updates", move |connection| queries::undelivered(connection, limit))
            .await
    }

    async fn delivered(&self, id: &ExecutionId, delivery: Delivery) -> Result<(), StoreError> {
        let id = id.clone();
        self.writer
            .write("record the delivery", Durability::Written, move |connection| {
                writes::delivered(connection, &id, delivery)
            })
            .await
    }

    /// Removes a few at a time, each time in a group with whatever else waits to be written.
    async fn expire(&self, ended_before: OffsetDateTime) -> Result<u64, StoreError> {
        let mut executions = 0;
        loop {
            let step = self
                .writer
                .write("remove old executions", Durability::Written, move |connection| {
                    writes::expire(connection, ended_before)
                })
                .await?;
            executions += step.executions;
            if !step.more {
                return Ok(executions);
            }
        }
    }

    async fn trim(&self, keep: Keep) -> Result<u64, StoreError> {
        const OPERATION: &str = "remove the oldest executions";
        let mut removed = 0;
        if let Some(most) = keep.executions {
            let ended = self.readers.read("count what has ended", queries::count_ended).await?;
            while let surplus @ 1.. = ended.saturating_sub(removed).saturating_sub(most) {
                let work = move |connection: &Connection| writes::remove_some(connection, surplus);
                let step = self.writer.write(OPERATION, Durability::Written, work).await?;
                removed += step.executions;
                if !step.more {
                    break;
                }
            }
        }
        if let Some(bytes) = keep.bytes {
            loop {
                let work = move |connection: &Connection| writes::remove_beyond(connection, bytes);
                let step = self.writer.write(OPERATION, Durability::Written, work).await?;
                removed += step.executions;
                if !step.more {
                    break;
                }
            }
        }
        while self.writer.write("give room back", Durability::Written, room::give_back).await? {
            // Whoever has waited for the last step is not to wait for the next.
            tokio::time::sleep(BETWEEN_STEPS).await;
        }
        Ok(removed)
    }

    async fn was_removed(&self, owner: &str, id: &ExecutionId) -> Result<bool, StoreError> {
        let mark = marks::mark(owner, id);
        self.readers
            .read("look for a removed execution", move |connection| queries::is_marked(connection, mark))
            .await
    }

    async fn probe(&self) -> Result<(), StoreError> {
        SqliteStore::probe(self).await
    }
}
