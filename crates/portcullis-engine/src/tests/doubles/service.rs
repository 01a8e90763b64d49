//! An engine on doubles, and what tests ask of it.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use portcullis_core::*;
use tokio::sync::mpsc;

use super::{AllButRm, Cell, FakeLauncher, FaultyStore, Journal, Listener, SECOND, ann, confinement, id};
use crate::{Config, Engine, Parts, Stats, SubmitError, Submitted, Watch, WatchEvent};

/// Settings with which what need not wait is started by its acceptance.
pub(in crate::tests) fn at_once() -> Config {
    Config { confinement: Some(confinement()), ..Config::default() }
}

/// An engine and its parts.
pub(in crate::tests) struct Service {
    pub(in crate::tests) engine: Arc<Engine>,
    pub(in crate::tests) store: Arc<FaultyStore>,
    pub(in crate::tests) listener: Arc<Listener>,
    pub(in crate::tests) launcher: Arc<FakeLauncher>,
    pub(in crate::tests) journal: Journal,
    cells: tokio::sync::Mutex<mpsc::UnboundedReceiver<Cell>>,
}

impl Service {
    pub(in crate::tests) async fn start(capacity: usize) -> Self {
        Self::with(capacity, Config::default()).await
    }

    pub(in crate::tests) async fn with(capacity: usize, config: Config) -> Self {
        let journal = Journal::default();
        Self::on(FaultyStore::new(&journal), journal, capacity, config).await
    }

    /// Starts on a store that may hold something already.
    pub(in crate::tests) async fn on(
        store: Arc<FaultyStore>,
        journal: Journal,
        capacity: usize,
        config: Config,
    ) -> Self {
        Self::try_on(store, journal, capacity, config).await.unwrap()
    }

    /// Starts an engine on the store of another, as if on another machine. What is open stays so.
    pub(in crate::tests) async fn beside(other: &Self) -> Self {
        other.store.set_shared();
        Self::on(other.store.clone(), other.journal.clone(), 1, Config::default()).await
    }

    /// The same, and `None` when the store does not let it start.
    pub(in crate::tests) async fn try_on(
        store: Arc<FaultyStore>,
        journal: Journal,
        capacity: usize,
        config: Config,
    ) -> Option<Self> {
        let (launcher, launched) = FakeLauncher::new(&journal, capacity);
        let listener = Listener::new(&journal);
        let parts = Parts {
            policy: Arc::new(AllButRm),
            launcher: launcher.clone(),
            store: store.clone(),
            notifier: listener.clone(),
        };
        let engine = Engine::start(parts, config).await.ok()?;
        let cells = tokio::sync::Mutex::new(launched);
        Some(Self { engine, store, listener, launcher, journal, cells })
    }

    pub(in crate::tests) async fn submit(&self, name: &str, line: &str) -> Result<Submitted, SubmitError> {
        self.engine.submit(&ann(), Some(id(name)), Submission::of(line)).await
    }

    /// Submits for ann, and returns the id.
    pub(in crate::tests) async fn accept(&self, name: &str, line: &str) -> ExecutionId {
        match self.submit(name, line).await {
            Ok(Submitted::New(record)) => record.id,
            other => panic!("not accepted: {other:?}"),
        }
    }

    /// Returns the next launch that the test drives.
    pub(in crate::tests) async fn cell(&self) -> Cell {
        let mut cells = self.cells.lock().await;
        tokio::time::timeout(1_000 * SECOND, cells.recv()).await.expect("a launch").unwrap()
    }

    /// Reads ann's record.
    pub(in crate::tests) async fn record(&self, id: &ExecutionId) -> Execution {
        self.store.inner.read(id).await.unwrap().unwrap()
    }

    /// Returns the record when it has ended.
    #[track_caller]
    pub(in crate::tests) fn ended(&self, id: &ExecutionId) -> impl Future<Output = Execution> {
        eventually(|| async {
            let record = self.store.inner.read(id).await.unwrap()?;
            record.status.is_terminal().then_some(record)
        })
    }

    /// Returns the ending in words, when it is there: `completed/exit`.
    pub(in crate::tests) async fn told(&self, id: &ExecutionId) -> String {
        let ending = self.ended(id).await.ending.unwrap();
        format!("{}/{}", ending.status.as_str(), ending.reason.as_str())
    }

    pub(in crate::tests) async fn watch(&self, id: &ExecutionId, after: u64) -> Watch {
        self.engine.watch(&ann(), id, after).await.unwrap()
    }

    pub(in crate::tests) fn stats(&self) -> Stats {
        self.engine.stats()
    }

    /// Waits until every terminal update is told.
    pub(in crate::tests) async fn all_told(&self) {
        eventually(|| async { self.store.inner.undelivered(1).await.unwrap().is_empty().then_some(()) })
            .await;
    }
}

/// Looks again and again until there is something; on the paused clock this takes no time.
#[track_caller]
pub(in crate::tests) fn eventually<T, F: Future<Output = Option<T>>>(
    mut look: impl FnMut() -> F,
) -> impl Future<Output = T> {
    let caller = std::panic::Location::caller();
    async move {
        for _ in 0..100_000 {
            if let Some(seen) = look().await {
                return seen;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("it did not come, asked at {caller}");
    }
}

/// Reads a watch to its end, as text: `scheduled running o1:hello e2:oops completed`.
pub(in crate::tests) async fn story(mut watch: Watch) -> String {
    let mut words = Vec::new();
    while let Some(event) = watch.next().await.unwrap() {
        words.push(match event {
            WatchEvent::Status(record) => record.status.as_str().to_owned(),
            WatchEvent::Output(chunk) => format!(
                "{}{}:{}",
                if chunk.stream == OutputStream::Stdout { "o" } else { "e" },
                chunk.seq,
                String::from_utf8_lossy(&chunk.bytes).trim_end()
            ),
            WatchEvent::Ended(record) => record.status.as_str().to_owned(),
        });
    }
    words.join(" ")
}
