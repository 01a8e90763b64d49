//! Keeps executions, their output, and what was refused.
//!
//! Two implementations of [`ExecutionStore`](portcullis_core::ExecutionStore), which one suite of tests
//! (`conformance`) holds to the same contract:
//!
//! - [`SqliteStore`]: one database file. What it acknowledged survives the death of the process, and, but
//!   for the newest output, a loss of power.
//! - [`MemoryStore`]: lives as long as the process; for tests and for services that need not remember.
//!
//! # Terms
//! A *write* is one request that changes something. Writes that wait at the same time form a *group*: they
//! are committed, and synced to the disk, together. A *chunk* is a piece of output with its sequence number.
//! A *cursor* is the place between two records of a list where the next page begins.
//!
//! # What survives what
//! | acknowledged | the process is killed | the power fails |
//! |---|---|---|
//! | `accept`, `claim`, `finish` (postings of [`Outbox`](portcullis_core::Outbox) included), `refuse`, `recover`, `subscribe`, `disable` | kept | kept: synced before the answer |
//! | `append` | kept | kept once a later write of the first row is acknowledged (at the latest the execution's own `finish`), or about a second later |
//! | `delivered`, `expire`, `trim`, `settle`, `tidy` | kept | as `append`; forgotten, they are done again |
//!
//! # Times
//! Times are kept in whole nanoseconds of UTC, and come back as the same instant with offset zero. The years
//! 1677 to 2262 fit; another time is refused.
//!
//! # Example
//! ```
//! use portcullis_core::ExecutionStore;
//! use portcullis_store::SqliteStore;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let directory = tempfile::tempdir()?;
//! # let path = directory.path().join("portcullis.db");
//! let store = SqliteStore::open(&path)?;
//! assert!(store.refusals(10).await?.is_empty());
//! # Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]

mod cursor;
mod marks;
mod memory;
mod rules;
mod sqlite;
mod subscribers;

#[cfg(any(test, feature = "conformance"))]
pub mod conformance;

pub use memory::MemoryStore;
pub use rules::MAX_PAGE;
pub use sqlite::{Beside, DisabledEndpoint, OpenError, SqliteStore, WriteCounts};
