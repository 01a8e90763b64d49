//! What the tasks of one engine share.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use portcullis_core::{ExecutionId, Permit, Update};
use tokio::sync::{Notify, watch};
use tracing::error;

use crate::admission::Admission;
use crate::live::Live;
use crate::pages::Pages;
use crate::queue::FairQueue;
use crate::stats::Counters;
use crate::tell::Teller;
use crate::vocabulary::{Config, Load, Parts};

pub(crate) struct Shared {
    pub(crate) parts: Parts,
    pub(crate) config: Config,
    pub(crate) counters: Arc<Counters>,
    pub(crate) teller: Teller,
    pub(crate) pages: Pages,
    /// How far the engine is open; only ever goes forward, and only while the ledger is locked.
    pub(crate) gate: watch::Sender<Gate>,
    ledger: Mutex<Ledger>,
    /// Told when an execution is gone from the ledger.
    gone: Notify,
}

/// How far the engine is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Gate {
    /// Takes new work.
    Open,
    /// Takes none; what is queued and running goes on.
    Draining,
    /// Starts nothing any more; what runs is being stopped.
    Closed,
    /// Waits for nothing any more: what the store did not take stays as it is, for the next start.
    Abandoned,
}

/// What the engine holds in memory. The lock is never held across an await.
pub(crate) struct Ledger {
    pub(crate) queue: FairQueue<Queued>,
    pub(crate) live: HashMap<ExecutionId, Arc<Live>>,
    /// Submissions between the capacity check and the store's answer, with how many share the place: the
    /// same submission, sent many times at once, takes one.
    pub(crate) arriving: HashMap<(String, ExecutionId), usize>,
    /// A moving mean of how long executions run, for `Retry-After`.
    pub(crate) typical_run: Duration,
}

/// An execution that waits for a cell.
pub(crate) struct Queued {
    pub(crate) live: Arc<Live>,
    pub(crate) permit: Permit,
    pub(crate) since: tokio::time::Instant,
    pub(crate) admission: Admission,
}

impl Shared {
    pub(crate) fn new(parts: Parts, config: Config) -> Arc<Self> {
        let counters = Arc::new(Counters::default());
        let teller =
            Teller::start(Arc::clone(&parts.store), Arc::clone(&parts.notifier), Arc::clone(&counters));
        Arc::new(Self {
            pages: Pages::new(Arc::clone(&parts.store)),
            parts,
            config,
            counters,
            teller,
            gate: watch::Sender::new(Gate::Open),
            ledger: Mutex::new(Ledger {
                queue: FairQueue::new(),
                live: HashMap::new(),
                arriving: HashMap::new(),
                typical_run: Duration::from_secs(1),
            }),
            gone: Notify::new(),
        })
    }

    pub(crate) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        // A panic under the lock leaves counts at worst one off; going on beats stopping the service.
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns an execution that has not ended, when it belongs to this principal.
    pub(crate) fn live_of(&self, owner: &str, id: &ExecutionId) -> Option<Arc<Live>> {
        self.ledger().live.get(id).filter(|live| live.owner == owner).cloned()
    }

    pub(crate) fn gate(&self) -> Gate {
        *self.gate.borrow()
    }

    /// Moves the gate forward; it never goes back.
    pub(crate) fn advance(&self, to: Gate) {
        let _ledger = self.ledger();
        self.gate.send_if_modified(|gate| {
            let forward = *gate < to;
            *gate = to.max(*gate);
            forward
        });
    }

    /// Resolves when the gate has come this far.
    pub(crate) async fn reached(&self, gate: Gate) {
        let mut at = self.gate.subscribe();
        // The sender lives as long as `self`.
        let _ = at.wait_for(|at| *at >= gate).await;
    }

    /// Resolves when nothing arrives, waits or runs.
    pub(crate) async fn quiet(&self) {
        loop {
            let gone = self.gone.notified();
            tokio::pin!(gone);
            gone.as_mut().enable();
            {
                let ledger = self.ledger();
                if ledger.live.is_empty() && ledger.queue.reserved() == 0 {
                    return;
                }
            }
            gone.await;
        }
    }

    /// Forgets an execution whose record is final, or out of our hands.
    pub(crate) fn forget(&self, live: &Live) {
        self.ledger().live.remove(&live.id);
        self.gone.notify_waiters();
    }

    /// Tells who waits for quiet to look again.
    pub(crate) fn stir(&self) {
        self.gone.notify_waiters();
    }

    /// Announces a start or progress. A listener's trouble, a panic included, is no trouble of the execution.
    pub(crate) fn announce(&self, update: Update) {
        if !self.parts.notifier.wants_updates() {
            return;
        }
        if std::panic::catch_unwind(AssertUnwindSafe(|| self.parts.notifier.announce(update))).is_err() {
            self.counters.note(|stats| stats.panics += 1);
            error!("the notifier broke");
        }
    }

    pub(crate) fn load(&self) -> Load {
        let ledger = self.ledger();
        Load {
            queued: ledger.queue.waiting(),
            running: ledger.queue.running(),
            draining: self.gate() > Gate::Open,
        }
    }

    /// Returns how many executions may run at once. A launcher that says none is still asked to run one: it
    /// knows why it cannot, and its answer ends in the record.
    pub(crate) fn slots(&self) -> usize {
        self.parts.launcher.capacity().max(1)
    }
}
