//! The memory store, with a journal, faults by count, and places to kill the service at.

use std::collections::HashSet;
use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use portcullis_core::*;
use portcullis_store::MemoryStore;
use time::OffsetDateTime;
use tokio::sync::Notify;

use super::{Journal, SECOND, unavailable};

/// Where in a call of the store the service is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::tests) enum Cut {
    /// The store has not done it.
    Before,
    /// The store has done it, and nobody knows.
    After,
}

/// The memory store, with a journal and faults by count.
pub(in crate::tests) struct FaultyStore {
    pub(in crate::tests) inner: MemoryStore,
    journal: Journal,
    calls: AtomicUsize,
    /// The calls that fail, from 1.
    pub(in crate::tests) failing: Mutex<HashSet<usize>>,
    /// Every call fails while this is set.
    away: AtomicBool,
    /// The same for calls that change something.
    read_only: AtomicBool,
    /// The same for output.
    refusing_output: AtomicBool,
    /// The call at which the service is killed, and whether the store still does it.
    pub(in crate::tests) cut: Mutex<Option<(usize, Cut)>>,
    killed: Notify,
    /// Every answer comes a second after it is true.
    slow: AtomicBool,
    /// Claims are dated an hour ahead, as before a clock is set back.
    ahead: AtomicBool,
    /// A start leaves open what is open.
    shared: AtomicBool,
    /// Calls of `output` that reached the store.
    pub(in crate::tests) output_reads: AtomicUsize,
}

impl FaultyStore {
    pub(in crate::tests) fn new(journal: &Journal) -> Arc<Self> {
        Arc::new(Self {
            inner: MemoryStore::new(),
            journal: journal.clone(),
            calls: AtomicUsize::new(0),
            failing: Mutex::default(),
            away: AtomicBool::new(false),
            read_only: AtomicBool::new(false),
            refusing_output: AtomicBool::new(false),
            cut: Mutex::new(None),
            killed: Notify::new(),
            slow: AtomicBool::new(false),
            ahead: AtomicBool::new(false),
            shared: AtomicBool::new(false),
            output_reads: AtomicUsize::new(0),
        })
    }

    pub(in crate::tests) fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    pub(in crate::tests) fn set_away(&self, away: bool) {
        self.away.store(away, Ordering::SeqCst);
    }

    pub(in crate::tests) fn set_read_only(&self, read_only: bool) {
        self.read_only.store(read_only, Ordering::SeqCst);
    }

    pub(in crate::tests) fn set_slow(&self, slow: bool) {
        self.slow.store(slow, Ordering::SeqCst);
    }

    pub(in crate::tests) fn set_ahead(&self) {
        self.ahead.store(true, Ordering::SeqCst);
    }

    pub(in crate::tests) fn set_refusing_output(&self, refusing: bool) {
        self.refusing_output.store(refusing, Ordering::SeqCst);
    }

    /// Has every later start leave open what is open, as on a store of many machines.
    pub(in crate::tests) fn set_shared(&self) {
        self.shared.store(true, Ordering::SeqCst);
    }

    /// Resolves when the service is to be killed.
    pub(in crate::tests) async fn killed(&self) {
        self.killed.notified().await;
    }

    fn fails(&self, name: &str, number: usize) -> bool {
        self.away.load(Ordering::SeqCst)
            || self.failing.lock().unwrap().contains(&number)
            || self.refusing_output.load(Ordering::SeqCst) && name == "append"
            || self.read_only.load(Ordering::SeqCst) && !["read", "output", "undelivered"].contains(&name)
    }

    async fn call<T>(
        &self,
        name: &'static str,
        id: &str,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        // As a real store does, it takes a while, in which other tasks go on.
        tokio::task::yield_now().await;
        let number = self.calls.fetch_add(1, Ordering::SeqCst) + 1;
        let cut = self.cut.lock().unwrap().filter(|(at, _)| *at == number).map(|(_, cut)| cut);
        if cut == Some(Cut::Before) {
            return self.die().await;
        }
        if self.fails(name, number) {
            self.journal.write(format!("failed {name} {id}"));
            return unavailable(name);
        }
        let answer = call.await?;
        self.journal.write(format!("{name} {id}"));
        if cut == Some(Cut::After) {
            return self.die().await;
        }
        match self.slow.load(Ordering::SeqCst) {
            true => tokio::time::sleep(SECOND).await,
            false => tokio::task::yield_now().await,
        }
        Ok(answer)
    }

    /// From here on nobody hears of this call again.
    async fn die<T>(&self) -> T {
        self.killed.notify_one();
        std::future::pending().await
    }
}

#[async_trait]
impl ExecutionStore for FaultyStore {
    async fn accept(&self, new: NewExecution) -> Result<Acceptance, StoreError> {
        let (id, starts) = (new.id.clone(), new.start.is_some());
        let accept = async {
            let accepted = self.inner.accept(new).await?;
            if starts && matches!(accepted, Acceptance::New(_)) {
                self.journal.write(format!("claim {id}"));
            }
            Ok(accepted)
        };
        self.call("accept", id.as_str(), accept).await
    }
    async fn claim(
        &self,
        id: &ExecutionId,
        at: OffsetDateTime,
        c: &Confinement,
    ) -> Result<Claim, StoreError> {
        let at = if self.ahead.load(Ordering::SeqCst) { at + 3_600 * SECOND } else { at };
        self.call("claim", id.as_str(), self.inner.claim(id, at, c)).await
    }
    async fn append(&self, id: &ExecutionId, chunks: Vec<OutputChunk>) -> Result<(), StoreError> {
        self.call("append", id.as_str(), self.inner.append(id, chunks)).await
    }
    async fn close(&self, id: &ExecutionId, closing: Closing) -> Result<Finish, StoreError> {
        // What takes no output takes none with an ending either.
        let with_output = self.refusing_output.load(Ordering::SeqCst) && !closing.output.is_empty();
        let name = if with_output { "append" } else { "finish" };
        self.call(name, id.as_str(), self.inner.close(id, closing)).await
    }
    async fn read(&self, id: &ExecutionId) -> Result<Option<Execution>, StoreError> {
        self.call("read", id.as_str(), self.inner.read(id)).await
    }
    async fn output(&self, id: &ExecutionId, after: u64, max: usize) -> Result<Vec<OutputChunk>, StoreError> {
        self.output_reads.fetch_add(1, Ordering::SeqCst);
        self.call("output", id.as_str(), self.inner.output(id, after, max)).await
    }
    async fn list(&self, query: &ListQuery) -> Result<ListPage, StoreError> {
        self.call("list", "", self.inner.list(query)).await
    }
    async fn refuse(&self, refusal: Refusal) -> Result<(), StoreError> {
        self.call("refuse", "", self.inner.refuse(refusal)).await
    }
    async fn refusals(&self, limit: usize) -> Result<Vec<Refusal>, StoreError> {
        self.call("refusals", "", self.inner.refusals(limit)).await
    }
    async fn recover(&self, at: OffsetDateTime) -> Result<Recovery, StoreError> {
        if self.shared.load(Ordering::SeqCst) {
            return Ok(Recovery::default());
        }
        self.call("recover", "", self.inner.recover(at)).await
    }
    async fn undelivered(&self, limit: usize) -> Result<Vec<Execution>, StoreError> {
        self.call("undelivered", "", self.inner.undelivered(limit)).await
    }
    async fn delivered(&self, id: &ExecutionId, delivery: Delivery) -> Result<(), StoreError> {
        self.call("delivered", id.as_str(), self.inner.delivered(id, delivery)).await
    }
    async fn trim(&self, keep: Keep) -> Result<u64, StoreError> {
        self.call("trim", "", self.inner.trim(keep)).await
    }

    async fn was_removed(&self, owner: &str, id: &ExecutionId) -> Result<bool, StoreError> {
        self.call("was_removed", id.as_str(), self.inner.was_removed(owner, id)).await
    }

    async fn expire(&self, before: OffsetDateTime) -> Result<u64, StoreError> {
        self.call("expire", "", self.inner.expire(before)).await
    }
}
