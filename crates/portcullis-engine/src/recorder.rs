//! Gathers the output of one execution and stores it, a piece at a time.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use portcullis_core::{Flow, OutputChunk, OutputStream, Status, StopReason, StoreError, Update};
use time::OffsetDateTime;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};
use tracing::{error, warn};

use crate::backoff::Backoff;
use crate::ending::{Story, chain};
use crate::live::Live;
use crate::newest::Newest;
use crate::panics::catching_store;
use crate::shared::{Gate, Shared};

/// How long the end of the output is offered to a store that does not take it, after the execution ended.
const LAST_FLUSH: Duration = Duration::from_secs(30);
/// Pieces that are stored at once, at most: a command may change streams with every byte.
const PIECES: usize = 1_024;

/// The output of one execution on its way to the store.
///
/// Two portions are in memory at most, each of `flush_bytes` and what the launcher gives at once: one
/// being stored, one being gathered. When the second is full too, [`Recorder::take`] waits, the launcher
/// reads no more, and the command is slowed.
pub(crate) struct Recorder {
    shared: Arc<Shared>,
    live: Arc<Live>,
    /// Bytes that may be stored; the launcher holds the execution to the same number.
    limit: u64,
    gathered: Mutex<Gathered>,
    /// Told when there is something, when it is enough, and at the end. One task waits.
    arrived: Notify,
    /// Told when there is room again.
    room: Notify,
    newest: Mutex<Newest>,
}

#[derive(Default)]
struct Gathered {
    chunks: Vec<OutputChunk>,
    bytes: usize,
    /// When the oldest of it came.
    since: Option<Instant>,
    last_seq: u64,
    total: u64,
    closed: Option<Instant>,
    /// Nothing more is taken: the limit is reached, or the store refuses.
    over: bool,
    output_cut: bool,
    output_lost: bool,
    output_refused: bool,
}

impl Recorder {
    pub(crate) fn new(shared: &Arc<Shared>, live: &Arc<Live>, limit: u64) -> Self {
        Self {
            shared: Arc::clone(shared),
            live: Arc::clone(live),
            limit,
            gathered: Mutex::default(),
            arrived: Notify::new(),
            room: Notify::new(),
            newest: Mutex::default(),
        }
    }

    /// Takes output in, when there is room.
    pub(crate) async fn take(&self, stream: OutputStream, bytes: Vec<u8>) -> Flow {
        loop {
            let room = self.room.notified();
            tokio::pin!(room);
            room.as_mut().enable();
            {
                let mut gathered = self.gathered();
                if gathered.over || gathered.closed.is_some() {
                    return Flow::Stop;
                }
                if !self.is_full(&gathered) {
                    return self.gather(&mut gathered, stream, &bytes);
                }
            }
            room.await;
        }
    }

    fn gather(&self, gathered: &mut Gathered, stream: OutputStream, mut bytes: &[u8]) -> Flow {
        let left = usize::try_from(self.limit.saturating_sub(gathered.total)).unwrap_or(usize::MAX);
        if let Some(within) = bytes.get(..left).filter(|_| bytes.len() > left) {
            bytes = within;
            gathered.output_cut = true;
            gathered.over = true;
        }
        gathered.total += bytes.len() as u64;
        gathered.bytes += bytes.len();
        let at = OffsetDateTime::now_utc();
        let most = self.shared.config.flush_bytes.max(1);
        while !bytes.is_empty() {
            let joined = gathered.chunks.last_mut().filter(|c| c.stream == stream && c.bytes.len() < most);
            let chunk = match joined {
                Some(chunk) => chunk,
                None => {
                    gathered.last_seq += 1;
                    gathered.chunks.push(OutputChunk { seq: gathered.last_seq, stream, at, bytes: vec![] });
                    match gathered.chunks.last_mut() {
                        Some(chunk) => chunk,
                        None => break,
                    }
                }
            };
            let (now, later) = bytes.split_at(bytes.len().min(most - chunk.bytes.len()));
            chunk.bytes.extend_from_slice(now);
            bytes = later;
        }
        if gathered.since.is_none() && !gathered.chunks.is_empty() {
            gathered.since = Some(Instant::now());
            self.arrived.notify_one();
        } else if self.is_full(gathered) {
            self.arrived.notify_one();
        }
        if gathered.over { Flow::Stop } else { Flow::Continue }
    }

    fn is_full(&self, gathered: &Gathered) -> bool {
        gathered.bytes >= self.shared.config.flush_bytes.max(1) || gathered.chunks.len() >= PIECES
    }

    /// Whether the command waits for the store.
    pub(crate) fn is_behind(&self) -> bool {
        self.look(|gathered| self.is_full(gathered))
    }

    /// Takes nothing more; what is gathered is left for the ending.
    pub(crate) fn close(&self) {
        self.gathered().closed.get_or_insert_with(Instant::now);
        self.arrived.notify_one();
        self.room.notify_waiters();
    }

    /// Stores what is gathered, piece by piece, until it is closed. What is there by then is stored with the
    /// ending: see [`Recorder::rest`].
    pub(crate) async fn keep(&self) {
        loop {
            let since = loop {
                let (since, closed) = self.look(|gathered| (gathered.since, gathered.closed.is_some()));
                match since {
                    Some(since) => break since,
                    None if closed => return,
                    None => self.arrived.notified().await,
                }
            };
            let due = since + self.shared.config.flush_interval;
            while !self.look(|gathered| gathered.closed.is_some() || self.is_full(gathered)) {
                if timeout_at(due, self.arrived.notified()).await.is_err() {
                    break;
                }
            }
            if self.look(|gathered| gathered.closed.is_some()) {
                return;
            }
            let chunks = self.rest();
            self.room.notify_waiters();
            if !self.append(&chunks).await {
                return;
            }
            self.stored(chunks);
        }
    }

    /// Gives out what is gathered and not stored.
    pub(crate) fn rest(&self) -> Vec<OutputChunk> {
        self.look(|gathered| {
            gathered.bytes = 0;
            gathered.since = None;
            std::mem::take(&mut gathered.chunks)
        })
    }

    /// Shows and tells what is stored now.
    pub(crate) fn stored(&self, chunks: Vec<OutputChunk>) {
        let bytes: usize = chunks.iter().map(|chunk| chunk.bytes.len()).sum();
        self.shared.counters.note(|stats| stats.output_bytes += bytes as u64);
        self.announce(&chunks);
        self.live.publish_output(chunks);
    }

    /// Whether the store had its time to take the end of the output.
    pub(crate) fn is_overdue(&self) -> bool {
        self.look(|gathered| gathered.closed.is_some_and(|at| at.elapsed() > LAST_FLUSH))
    }

    /// Stores chunks; returns whether they are stored. While the store is unavailable this tries again, and
    /// the command waits as soon as the next portion is full.
    async fn append(&self, chunks: &[OutputChunk]) -> bool {
        let mut backoff = Backoff::new();
        loop {
            let call = self.shared.parts.store.append(&self.live.id, chunks.to_vec());
            let problem = match catching_store("append", call).await {
                Ok(()) => return true,
                Err(problem) => problem,
            };
            self.shared.counters.note(|stats| stats.store_failures += 1);
            if !matches!(problem, StoreError::Unavailable { .. }) {
                // The record was ended, or removed, by somebody else: then nobody needs the rest.
                error!(execution_id = %self.live.id, error = chain(&problem), "its output is refused");
                self.look(|gathered| gathered.output_refused = true);
                self.live.request_stop(StopReason::Shutdown);
                break;
            }
            warn!(execution_id = %self.live.id, error = chain(&problem), "its output is not stored yet");
            if self.is_overdue() {
                error!(execution_id = %self.live.id, "the end of its output could not be stored");
                break;
            }
            tokio::select! {
                () = backoff.wait() => {}
                () = self.shared.reached(Gate::Abandoned) => break,
            }
        }
        self.look(|gathered| {
            gathered.over = true;
            gathered.output_lost = true;
        });
        self.room.notify_waiters();
        false
    }

    /// Tells the listeners how far it has come, when standard output went on.
    fn announce(&self, chunks: &[OutputChunk]) {
        if !self.shared.parts.notifier.wants_updates() {
            return;
        }
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        let stdout = chunks.iter().filter(|chunk| chunk.stream == OutputStream::Stdout);
        if stdout.map(|chunk| newest.read(&chunk.bytes)).count() == 0 {
            return;
        }
        self.shared.announce(Update {
            id: self.live.id.clone(),
            status: Status::Running,
            progress: newest.progress(),
            output: newest.text(),
            error: None,
            trace: self.live.accepted().trace(),
        });
    }

    /// Returns what became of the output.
    pub(crate) fn story(&self) -> Story {
        self.look(|gathered| Story {
            output_cut: gathered.output_cut,
            output_lost: gathered.output_lost,
            output_refused: gathered.output_refused,
            ..Story::default()
        })
    }

    fn look<T>(&self, at: impl FnOnce(&mut Gathered) -> T) -> T {
        at(&mut self.gathered())
    }

    fn gathered(&self) -> MutexGuard<'_, Gathered> {
        self.gathered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
