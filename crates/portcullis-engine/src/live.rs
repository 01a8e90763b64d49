//! An execution that has not ended, as its runner, its watchers and those who stop it share it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use portcullis_core::{Execution, ExecutionId, OutputChunk, StopReason};
use tokio::sync::watch;

/// Recent output kept in memory for watchers at the tip; older output is read from the store.
const RECENT_BYTES: usize = 256 * 1024;
/// The same by number, since chunks may hold one byte each.
const RECENT_CHUNKS: usize = 1_024;

/// One execution between its acceptance and its ending.
pub(crate) struct Live {
    pub(crate) id: ExecutionId,
    pub(crate) owner: String,
    tip: watch::Sender<Tip>,
    recent: Mutex<Recent>,
    stop: watch::Sender<Option<StopReason>>,
}

/// How far an execution has come. What it says is in the store already.
#[derive(Clone)]
pub(crate) struct Tip {
    /// The record when it was accepted.
    pub(crate) accepted: Arc<Execution>,
    /// The record when it was started.
    pub(crate) running: Option<Arc<Execution>>,
    /// The final record.
    pub(crate) ended: Option<Arc<Execution>>,
    /// Whether the runner gave up on the record: only the store knows more.
    pub(crate) abandoned: bool,
    /// The last stored chunk.
    pub(crate) last_seq: u64,
    /// Bytes of stored output.
    pub(crate) output_bytes: u64,
}

impl Tip {
    /// Returns the record as it is now.
    pub(crate) fn record(&self) -> Execution {
        if let Some(ended) = &self.ended {
            return (**ended).clone();
        }
        let base = self.running.as_ref().unwrap_or(&self.accepted);
        Execution { last_seq: self.last_seq, output_bytes: self.output_bytes, ..(**base).clone() }
    }
}

/// The newest chunks, without a gap.
#[derive(Default)]
struct Recent {
    chunks: VecDeque<Arc<OutputChunk>>,
    bytes: usize,
}

impl Live {
    pub(crate) fn new(accepted: Execution) -> Self {
        let (id, owner) = (accepted.id.clone(), accepted.owner.clone());
        let tip = Tip {
            running: None,
            ended: None,
            abandoned: false,
            last_seq: accepted.last_seq,
            output_bytes: accepted.output_bytes,
            accepted: Arc::new(accepted),
        };
        Self {
            id,
            owner,
            tip: watch::Sender::new(tip),
            recent: Mutex::default(),
            stop: watch::Sender::new(None),
        }
    }

    /// Returns a view of how far it has come, which tells when it goes on.
    pub(crate) fn follow(&self) -> watch::Receiver<Tip> {
        self.tip.subscribe()
    }

    pub(crate) fn accepted(&self) -> Arc<Execution> {
        Arc::clone(&self.tip.borrow().accepted)
    }

    pub(crate) fn publish_running(&self, record: Execution) {
        self.tip.send_modify(|tip| tip.running = Some(Arc::new(record)));
    }

    /// Shows chunks that are stored to those who watch.
    pub(crate) fn publish_output(&self, chunks: Vec<OutputChunk>) {
        let Some(last_seq) = chunks.last().map(|chunk| chunk.seq) else { return };
        let bytes: usize = chunks.iter().map(|chunk| chunk.bytes.len()).sum();
        self.recent().extend(chunks);
        self.tip.send_modify(|tip| {
            tip.last_seq = last_seq;
            tip.output_bytes += bytes as u64;
        });
    }

    pub(crate) fn publish_ended(&self, record: Execution) {
        self.tip.send_modify(|tip| tip.ended = Some(Arc::new(record)));
    }

    pub(crate) fn abandon(&self) {
        self.tip.send_modify(|tip| tip.abandoned = true);
    }

    pub(crate) fn is_abandoned(&self) -> bool {
        self.tip.borrow().abandoned
    }

    /// Returns a chunk while it is kept in memory.
    pub(crate) fn recent_chunk(&self, seq: u64) -> Option<Arc<OutputChunk>> {
        let recent = self.recent();
        let first = recent.chunks.front()?.seq;
        recent.chunks.get(usize::try_from(seq.checked_sub(first)?).ok()?).cloned()
    }

    /// Returns all of the stored output, when all of it is kept in memory.
    pub(crate) fn output_in_memory(&self) -> Option<Vec<Arc<OutputChunk>>> {
        let last_seq = self.tip.borrow().last_seq;
        let recent = self.recent();
        let whole = recent.chunks.front().map_or(last_seq == 0, |first| first.seq == 1);
        whole.then(|| recent.chunks.iter().take_while(|chunk| chunk.seq <= last_seq).cloned().collect())
    }

    /// Asks for the end; the first reason counts.
    pub(crate) fn request_stop(&self, reason: StopReason) {
        self.stop.send_if_modified(|stop| {
            let first = stop.is_none();
            stop.get_or_insert(reason);
            first
        });
    }

    /// Returns why it is to stop, if it is.
    pub(crate) fn stop(&self) -> Option<StopReason> {
        *self.stop.borrow()
    }

    /// Resolves when it is to stop.
    pub(crate) async fn stop_requested(&self) -> StopReason {
        let mut stop = self.stop.subscribe();
        loop {
            if let Some(reason) = *stop.borrow_and_update() {
                return reason;
            }
            if stop.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }

    /// Resolves to the final record, or to `None` when only the store can tell.
    pub(crate) async fn ended(&self) -> Option<Arc<Execution>> {
        let mut tip = self.follow();
        match tip.wait_for(|tip| tip.ended.is_some() || tip.abandoned).await {
            Ok(tip) => tip.ended.clone(),
            Err(_) => None,
        }
    }

    fn recent(&self) -> MutexGuard<'_, Recent> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Recent {
    fn extend(&mut self, chunks: Vec<OutputChunk>) {
        for chunk in chunks {
            self.bytes += chunk.bytes.len();
            self.chunks.push_back(Arc::new(chunk));
            while self.bytes > RECENT_BYTES || self.chunks.len() > RECENT_CHUNKS {
                let Some(oldest) = self.chunks.pop_front() else { break };
                self.bytes -= oldest.bytes.len();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use portcullis_core::OutputStream;
    use time::OffsetDateTime;

    use super::*;

    /// Returns which chunk is the oldest kept of so many of this size.
    fn oldest(chunks: u64, bytes: usize) -> u64 {
        let mut recent = Recent::default();
        let (stream, at) = (OutputStream::Stdout, OffsetDateTime::UNIX_EPOCH);
        for seq in 1..=chunks {
            recent.extend(vec![OutputChunk { seq, stream, at, bytes: vec![0; bytes] }]);
        }
        recent.chunks.front().map_or(0, |chunk| chunk.seq)
    }

    #[test]
    fn recent_output_is_bounded_in_bytes_and_in_number() {
        assert_eq!(oldest(4, 64 * 1024), 1);
        assert_eq!(oldest(10, 64 * 1024), 7);
        assert_eq!(oldest(5_000, 1), 5_000 - 1_024 + 1);
    }
}
