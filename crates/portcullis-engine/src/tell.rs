//! Has listeners told how executions ended, until they know or will never know.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use portcullis_core::{Delivery, Execution, ExecutionId, ExecutionStore, Notifier, StoreError};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tracing::{info, warn};

use crate::backoff::Backoff;
use crate::ending::chain;
use crate::excerpt::Excerpt;
use crate::panics::{catching, catching_store};
use crate::stats::Counters;

/// Updates that are on their way at once. Each holds an excerpt of its execution's output; all others
/// wait in the store, so that a listener that is away for long costs no memory.
const AT_ONCE: usize = 32;
/// Stored output read at once.
const PAGE_BYTES: usize = 256 * 1024;

/// The task that takes undelivered terminal updates out of the store, oldest first. The store is the only
/// queue: what was not told when the service ended is told by the next one, in the same way.
pub(crate) struct Teller {
    /// Counts wakings.
    asked: watch::Sender<u64>,
    /// The waking after which nothing was left to tell.
    settled: watch::Receiver<u64>,
    task: JoinHandle<()>,
}

#[derive(Clone)]
struct Desk {
    store: Arc<dyn ExecutionStore>,
    notifier: Arc<dyn Notifier>,
    counters: Arc<Counters>,
}

impl Teller {
    pub(crate) fn start(
        store: Arc<dyn ExecutionStore>,
        notifier: Arc<dyn Notifier>,
        counters: Arc<Counters>,
    ) -> Self {
        // The start is the first waking: the store may hold what an earlier life left.
        let asked = watch::Sender::new(1);
        let (settled, seen) = watch::channel(0);
        let desk = Desk { store, notifier, counters };
        let task = tokio::spawn(desk.work(asked.subscribe(), settled));
        Self { asked, settled: seen, task }
    }

    /// Has it look for something to tell. Called after an ending is recorded.
    pub(crate) fn wake(&self) {
        self.asked.send_modify(|asked| *asked += 1);
    }

    /// Resolves when everything that was recorded before is told, or given up.
    pub(crate) async fn settled(&self) {
        let asked = *self.asked.borrow();
        // An error means that the task is gone, and nothing more will be told.
        let _ = self.settled.clone().wait_for(|settled| *settled >= asked).await;
    }

    /// Stops telling; what is under way stays undelivered.
    pub(crate) fn stop(&self) {
        self.task.abort();
    }
}

impl Drop for Teller {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Desk {
    async fn work(self, mut asked: watch::Receiver<u64>, settled: watch::Sender<u64>) {
        let mut telling = JoinSet::new();
        let mut under_way = HashSet::new();
        // Whether the store may hold something that is not under way.
        let mut behind = true;
        let mut seen = 0;
        let mut backoff = Backoff::new();
        loop {
            // Compared here, and not where the waking is awaited: it may come while something else is.
            let now = *asked.borrow_and_update();
            behind |= now != seen;
            seen = now;
            let mut failed = false;
            if behind && under_way.len() < AT_ONCE {
                match self.take_up(&mut telling, &mut under_way).await {
                    Ok(more) => {
                        behind = more;
                        backoff = Backoff::new();
                    }
                    Err(problem) => {
                        self.counters.note(|stats| stats.store_failures += 1);
                        warn!(error = chain(&problem), "undelivered updates cannot be read");
                        failed = true;
                    }
                }
            }
            if !behind && under_way.is_empty() {
                settled.send_replace(seen);
            }
            tokio::select! {
                Some(told) = telling.join_next(), if !telling.is_empty() => {
                    // A task of this set catches the panics of the parts, so it always names its execution.
                    if let Ok(id) = told {
                        under_way.remove(&id);
                    }
                }
                changed = asked.changed() => if changed.is_err() {
                    return;
                },
                () = backoff.wait(), if failed => {}
            }
        }
    }

    /// Begins to tell what the store has, as far as there is room; returns whether there may be more.
    async fn take_up(
        &self,
        telling: &mut JoinSet<ExecutionId>,
        under_way: &mut HashSet<ExecutionId>,
    ) -> Result<bool, StoreError> {
        // Those under way are undelivered as well, and may come first.
        let limit = AT_ONCE + under_way.len();
        let found = catching_store("read undelivered updates", self.store.undelivered(limit)).await?;
        let mut more = found.len() == limit;
        for execution in found {
            if under_way.contains(&execution.id) {
                continue;
            }
            if under_way.len() == AT_ONCE {
                more = true;
                break;
            }
            under_way.insert(execution.id.clone());
            telling.spawn(self.clone().tell(execution));
        }
        Ok(more)
    }

    /// Tells how one execution ended and notes in the store that it is told. Where nobody listens, nothing is read,
    /// told, counted or logged.
    async fn tell(self, execution: Execution) -> ExecutionId {
        let id = execution.id.clone();
        if !self.notifier.wants_updates() {
            self.note(&id, Delivery::Delivered).await;
            return id;
        }
        let mut backoff = Backoff::new();
        let update = loop {
            match self.excerpt(&execution).await {
                Ok(excerpt) => break excerpt.update(&execution),
                Err(problem @ StoreError::Unavailable { .. }) => {
                    self.failed(&id, &problem, "its output cannot be read for the last update yet");
                    backoff.wait().await;
                }
                Err(problem) => {
                    self.failed(&id, &problem, "its output cannot be read for the last update");
                    break Excerpt::default().update(&execution);
                }
            }
        };
        let delivery = match catching(self.notifier.conclude(update)).await {
            Ok(Ok(())) => Delivery::Delivered,
            Ok(Err(refused)) => {
                warn!(execution_id = %id, error = chain(&refused), "its last update is given up");
                Delivery::GivenUp
            }
            Err(panicked) => {
                self.counters.note(|stats| stats.panics += 1);
                warn!(execution_id = %id, error = %panicked, "its last update is given up");
                Delivery::GivenUp
            }
        };
        self.counters.note(|stats| match delivery {
            Delivery::Delivered => stats.updates_delivered += 1,
            Delivery::GivenUp => stats.updates_given_up += 1,
        });
        self.note(&id, delivery).await;
        info!(
            execution_id = %id,
            user = %execution.owner_name.escape_debug(),
            user_id = %execution.owner.escape_debug(),
            trace_id = execution.provenance.trace_id(),
            delivery = ?delivery,
            "told"
        );
        id
    }

    /// Notes what became of an update.
    async fn note(&self, id: &ExecutionId, delivery: Delivery) {
        // Until this is noted the place stays taken: a store that reads and does not write must not make
        // us tell the same again and again.
        let mut backoff = Backoff::new();
        loop {
            match catching_store("note a delivery", self.store.delivered(id, delivery)).await {
                Ok(()) => break,
                Err(problem @ StoreError::Unavailable { .. }) => {
                    self.failed(id, &problem, "its delivery is not noted yet");
                    backoff.wait().await;
                }
                Err(problem) => {
                    self.failed(id, &problem, "its delivery cannot be noted");
                    break;
                }
            }
        }
    }

    /// Reads through the stored output of an execution, and keeps a bounded part of it.
    async fn excerpt(&self, execution: &Execution) -> Result<Excerpt, StoreError> {
        let mut excerpt = Excerpt::default();
        let mut after = 0;
        while after < execution.last_seq {
            let page =
                catching_store("read output", self.store.output(&execution.id, after, PAGE_BYTES)).await?;
            let Some(last) = page.last() else { break };
            after = last.seq;
            page.iter().for_each(|chunk| excerpt.read(chunk));
        }
        Ok(excerpt)
    }

    fn failed(&self, id: &ExecutionId, problem: &StoreError, what: &'static str) {
        self.counters.note(|stats| stats.store_failures += 1);
        warn!(execution_id = %id, error = chain(problem), "{what}");
    }
}

/// How long the updates of a service that ends are waited for.
pub(crate) const LAST_UPDATES: Duration = Duration::from_secs(5);
