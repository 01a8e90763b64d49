//! Stored output, read once for many watchers.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use portcullis_core::{Execution, ExecutionId, ExecutionStore, OutputChunk, StoreError};
use time::OffsetDateTime;
use tokio::sync::OnceCell;

use crate::panics::catching_store;

/// Bytes of output in one page, as far as whole chunks allow.
const PAGE_BYTES: usize = 256 * 1024;
/// Pages kept: 4 MiB for all watchers together.
const PAGES: usize = 16;

/// Chunks of one execution behind a position.
pub(crate) type Page = Arc<[Arc<OutputChunk>]>;

/// The last pages read. A stored chunk never changes, so a page stays true; watchers that ask for the same
/// page at once wait for one reading of it.
pub(crate) struct Pages {
    store: Arc<dyn ExecutionStore>,
    kept: Mutex<VecDeque<(Key, Arc<OnceCell<Page>>)>>,
}

/// A position in one execution. The time of acceptance is part of it: after a record has expired another
/// principal may use its id.
#[derive(Clone, PartialEq, Eq)]
struct Key {
    id: ExecutionId,
    accepted_at: OffsetDateTime,
    after_seq: u64,
}

impl Pages {
    pub(crate) fn new(store: Arc<dyn ExecutionStore>) -> Self {
        Self { store, kept: Mutex::default() }
    }

    /// Reads what follows a position.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the reading to the next who asks.
    pub(crate) async fn read(&self, execution: &Execution, after_seq: u64) -> Result<Page, StoreError> {
        let id = &execution.id;
        let key = Key { id: id.clone(), accepted_at: execution.accepted_at, after_seq };
        let cell = self.cell(&key);
        let read = || async {
            let call = self.store.output(id, after_seq, PAGE_BYTES);
            let chunks = catching_store("read output", call).await?;
            Ok(chunks.into_iter().map(Arc::new).collect())
        };
        let page: Page = cell.get_or_try_init(read).await?.clone();
        if page.is_empty() {
            // The one answer that does not stay true.
            self.kept.lock().unwrap_or_else(PoisonError::into_inner).retain(|(kept, _)| *kept != key);
        }
        Ok(page)
    }

    fn cell(&self, key: &Key) -> Arc<OnceCell<Page>> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, cell)) = kept.iter().find(|(kept, _)| kept == key) {
            return Arc::clone(cell);
        }
        if kept.len() == PAGES {
            kept.pop_front();
        }
        let cell = Arc::new(OnceCell::new());
        kept.push_back((key.clone(), Arc::clone(&cell)));
        cell
    }
}
