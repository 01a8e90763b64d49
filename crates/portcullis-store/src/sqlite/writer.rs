//! The one thread that writes, and how writes become groups.
//!
//! INVARIANT (safe before told): an answer leaves this file only after the commit it depends on has returned.

use std::cell::Cell;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use portcullis_core::StoreError;
use rusqlite::Connection;
use tokio::sync::oneshot;

use super::checkpoint::Checkpointer;
use super::trouble::{Failed, ThreadGone, Trouble, is_of_one_write};
use super::writes;

/// Writes of one group; more wait for the next.
const GROUP_LIMIT: usize = 256;
/// How long output that only the operating system has may wait for a sync.
const UNSYNCED_LIMIT: Duration = Duration::from_secs(1);
/// After how many pages of the log it is copied into the database, beside the writer: 8 MiB.
pub(super) const CHECKPOINT_PAGES: u32 = 2_048;
/// Pages of the log at which the writer itself ends the copying, so that the log begins anew: 32 MiB.
const LOG_LIMIT_PAGES: u32 = 8_192;

/// What an acknowledged write survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Durability {
    /// A loss of power: the commit is synced.
    Synced,
    /// The death of the process: the operating system has it, and a later sync takes it along.
    Written,
}

/// How much was written since the store was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WriteCounts {
    /// Writes that were acknowledged.
    pub writes: u64,
    /// Commits that carried them.
    pub groups: u64,
    /// Those of the commits that were synced.
    pub synced_groups: u64,
    /// Groups that failed as a whole, each write of which was told so.
    pub failed_groups: u64,
    /// Whether the last group failed. A later one that does not ends this; see [`SqliteStore::probe`].
    ///
    /// [`SqliteStore::probe`]: crate::SqliteStore::probe
    pub failing: bool,
}

#[derive(Debug, Default)]
struct Counters {
    writes: AtomicU64,
    groups: AtomicU64,
    synced_groups: AtomicU64,
    failed_groups: AtomicU64,
    failing: AtomicBool,
}

/// The way to the writing thread. Dropped, it waits until everything handed to it is committed.
#[derive(Debug)]
pub(super) struct Writer {
    path: Arc<Path>,
    jobs: Option<Sender<Box<dyn Job>>>,
    thread: Option<JoinHandle<()>>,
    counters: Arc<Counters>,
}

impl Writer {
    /// Starts the thread; it owns the connection and the checkpointer.
    pub(super) fn start(
        path: Arc<Path>,
        connection: Connection,
        checkpointer: Checkpointer,
    ) -> std::io::Result<Self> {
        let (jobs, waiting) = mpsc::channel();
        let counters = Arc::new(Counters::default());
        let thread = Thread {
            path: Arc::clone(&path),
            connection,
            waiting,
            checkpointer,
            durability: Durability::Synced,
            unsynced_since: None,
            checkpoint_at: CHECKPOINT_PAGES,
            counters: Arc::clone(&counters),
        };
        let thread = thread::Builder::new().name("store-writer".into()).spawn(move || thread.run())?;
        Ok(Self { path, jobs: Some(jobs), thread: Some(thread), counters })
    }

    /// Runs a write in the next group and returns its answer once the group is committed.
    ///
    /// # Cancel safety
    /// Dropping the future drops the answer; the write itself is made.
    pub(super) async fn write<T: Send + 'static>(
        &self,
        operation: &'static str,
        durability: Durability,
        work: impl FnOnce(&Connection) -> Result<T, Trouble> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        let job = Write { operation, durability, work: Some(work), answer: None, reply };
        let gone = || StoreError::Unavailable {
            operation,
            source: Box::new(ThreadGone { path: Arc::clone(&self.path) }),
        };
        self.jobs.as_ref().ok_or_else(gone)?.send(Box::new(job)).map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }

    pub(super) fn counts(&self) -> WriteCounts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        WriteCounts {
            writes: read(&self.counters.writes),
            groups: read(&self.counters.groups),
            synced_groups: read(&self.counters.synced_groups),
            failed_groups: read(&self.counters.failed_groups),
            failing: self.counters.failing.load(Ordering::Relaxed),
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!(path = %self.path.display(), "the writing thread of the store had panicked");
        }
    }
}

/// One write that waits. Its answer is kept until the group is committed.
trait Job: Send {
    fn durability(&self) -> Durability;
    /// Does the work inside the open transaction. What it answers is a promise only once committed.
    fn run(&mut self, connection: &Connection) -> Result<(), rusqlite::Error>;
    /// Notes that this write alone came to nothing.
    fn fail(&mut self, failed: &Failed);
    /// Gives the answer: the kept one, or that the group failed.
    fn settle(self: Box<Self>, failed: Option<&Failed>);
}

struct Write<W, T> {
    operation: &'static str,
    durability: Durability,
    work: Option<W>,
    answer: Option<Result<T, StoreError>>,
    reply: oneshot::Sender<Result<T, StoreError>>,
}

impl<W, T> Job for Write<W, T>
where
    W: FnOnce(&Connection) -> Result<T, Trouble> + Send,
    T: Send,
{
    fn durability(&self) -> Durability {
        self.durability
    }

    fn run(&mut self, connection: &Connection) -> Result<(), rusqlite::Error> {
        let Some(work) = self.work.take() else { return Ok(()) };
        match work(connection) {
            Ok(answer) => self.answer = Some(Ok(answer)),
            Err(Trouble::Answer(answer)) => self.answer = Some(Err(answer)),
            Err(Trouble::Medium(source)) => return Err(source),
        }
        Ok(())
    }

    fn fail(&mut self, failed: &Failed) {
        self.answer = Some(Err(failed.to(self.operation)));
    }

    fn settle(self: Box<Self>, failed: Option<&Failed>) {
        // Also a refusal rests on what the group had written before it, so it falls with the group.
        let answer = match failed {
            None => self.answer,
            Some(failed) => Some(Err(failed.to(self.operation))),
        };
        if let Some(answer) = answer {
            // Who has stopped waiting can read the record instead.
            let _ = self.reply.send(answer);
        }
    }
}

thread_local! {
    /// Pages of the log after the last commit of this thread, until the commit's end is seen to.
    static COMMITTED_PAGES: Cell<Option<u32>> = const { Cell::new(None) };
}

struct Thread {
    path: Arc<Path>,
    connection: Connection,
    waiting: Receiver<Box<dyn Job>>,
    checkpointer: Checkpointer,
    /// What the connection is set to.
    durability: Durability,
    /// When the oldest commit was made that no sync has followed.
    unsynced_since: Option<Instant>,
    /// How long the log is when the next checkpoint is due.
    checkpoint_at: u32,
    counters: Arc<Counters>,
}

impl Thread {
    fn run(mut self) {
        // In place of SQLite's own checkpoint, which would make a group wait for it.
        self.connection.wal_hook(Some(|_, pages| {
            COMMITTED_PAGES.set(Some(u32::try_from(pages).unwrap_or(0)));
            Ok(())
        }));
        while let Some(group) = self.next_group() {
            self.commit(group);
            self.tend();
        }
    }

    /// Waits for a write and takes all that wait with it; `None` when nobody can send any more.
    fn next_group(&mut self) -> Option<Vec<Box<dyn Job>>> {
        let first = loop {
            let Some(since) = self.unsynced_since else { break self.waiting.recv().ok()? };
            match self.waiting.recv_timeout(UNSYNCED_LIMIT.saturating_sub(since.elapsed())) {
                Ok(job) => break job,
                Err(RecvTimeoutError::Timeout) => self.tend(),
                Err(RecvTimeoutError::Disconnected) => return None,
            }
        };
        let mut group = vec![first];
        group.extend(self.waiting.try_iter().take(GROUP_LIMIT - 1));
        Some(group)
    }

    fn commit(&mut self, mut group: Vec<Box<dyn Job>>) {
        COMMITTED_PAGES.set(None);
        let committed = self.transact(&mut group);
        let counters = &self.counters;
        match &committed {
            Ok(()) => {
                counters.writes.fetch_add(group.len() as u64, Ordering::Relaxed);
                counters.groups.fetch_add(1, Ordering::Relaxed);
                let synced = self.durability == Durability::Synced;
                match COMMITTED_PAGES.get() {
                    None => {} // Nothing was changed, so nothing was written.
                    Some(_) if synced => {
                        counters.synced_groups.fetch_add(1, Ordering::Relaxed);
                        self.unsynced_since = None;
                    }
                    Some(_) => self.unsynced_since = self.unsynced_since.or_else(|| Some(Instant::now())),
                }
                if counters.failing.swap(false, Ordering::Relaxed) {
                    tracing::info!(path = %self.path.display(), "the store writes again");
                }
            }
            Err(failed) if failed.is_of_one_write() => {
                tracing::error!(error = failed as &dyn std::error::Error, "a write failed and was undone");
            }
            Err(failed) => {
                counters.failed_groups.fetch_add(1, Ordering::Relaxed);
                if !counters.failing.swap(true, Ordering::Relaxed) {
                    tracing::error!(
                        error = failed as &dyn std::error::Error,
                        writes = group.len(),
                        "the store cannot write; nothing of the group is kept"
                    );
                }
            }
        }
        for job in group {
            job.settle(committed.as_ref().err());
        }
    }

    /// Runs the group in one transaction. On an error nothing of it is there, and it is not tried again: after
    /// a failed sync the system may report success for pages it has thrown away.
    fn transact(&mut self, group: &mut [Box<dyn Job>]) -> Result<(), Failed> {
        let result = self.begin(group).and_then(|()| {
            let alone = group.len() == 1;
            for job in group {
                self.run_one(job, alone)?;
            }
            self.statement("COMMIT")
        });
        result.map_err(|source| {
            // Some errors have rolled back already; then there is nothing to roll back.
            if !self.connection.is_autocommit()
                && let Err(error) = self.statement("ROLLBACK")
            {
                tracing::error!(path = %self.path.display(), %error, "could not roll a group back");
            }
            Failed::new(&self.path, source)
        })
    }

    fn begin(&mut self, group: &[Box<dyn Job>]) -> rusqlite::Result<()> {
        let synced = group.iter().any(|job| job.durability() == Durability::Synced);
        let durability = if synced { Durability::Synced } else { Durability::Written };
        if durability != self.durability {
            // Takes effect only between transactions. With NORMAL a commit is written and not synced, and
            // stays in its place among the others: the next FULL commit syncs the log up to its end.
            let level = if synced { "FULL" } else { "NORMAL" };
            self.connection.execute_batch(&format!("PRAGMA synchronous = {level}"))?;
            self.durability = durability;
        }
        self.statement("BEGIN IMMEDIATE")
    }

    /// Runs one write of the group. When it fails for a reason of its own, it alone is undone.
    fn run_one(&self, job: &mut Box<dyn Job>, alone: bool) -> rusqlite::Result<()> {
        if alone {
            return job.run(&self.connection);
        }
        self.statement("SAVEPOINT one")?;
        if let Err(source) = job.run(&self.connection) {
            if !is_of_one_write(&source) || self.connection.is_autocommit() {
                return Err(source);
            }
            self.statement("ROLLBACK TO one")?;
            let failed = Failed::new(&self.path, source);
            tracing::error!(error = &failed as &dyn std::error::Error, "a write failed and was undone");
            job.fail(&failed);
        }
        self.statement("RELEASE one")
    }

    fn statement(&self, sql: &str) -> rusqlite::Result<()> {
        self.connection.prepare_cached(sql)?.execute([]).map(|_| ())
    }

    /// Sees to syncing what waits for it and to the length of the log, after the answers are given.
    fn tend(&mut self) {
        if self.unsynced_since.is_some_and(|since| since.elapsed() >= UNSYNCED_LIMIT) {
            // Tried again in as long when it fails.
            self.unsynced_since = Some(Instant::now());
            let (reply, _) = oneshot::channel();
            self.commit(vec![Box::new(Write {
                operation: "sync output",
                durability: Durability::Synced,
                work: Some(writes::probe),
                answer: None,
                reply,
            })]);
        }
        let Some(pages) = COMMITTED_PAGES.take() else { return };
        if pages < self.checkpoint_at - CHECKPOINT_PAGES {
            self.checkpoint_at = CHECKPOINT_PAGES; // The log has begun anew.
        }
        if pages < self.checkpoint_at {
            return;
        }
        self.checkpoint_at = pages + CHECKPOINT_PAGES;
        if pages < LOG_LIMIT_PAGES {
            self.checkpointer.ask();
        } else {
            // Most is copied by now. With all of it copied, and no writer but this thread, the next commit
            // begins the log anew.
            self.checkpointer.run_here(&self.connection);
        }
    }
}
