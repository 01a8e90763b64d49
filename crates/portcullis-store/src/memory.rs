//! A store that lives in memory.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use portcullis_core::{
    Acceptance, Claim, Closing, Confinement, Delivery, Ending, Execution, ExecutionId, ExecutionStore,
    Finish, ListPage, ListQuery, NewExecution, OutputChunk, Recovery, Refusal, Status, StoreError,
};
use time::{OffsetDateTime, UtcOffset};

use crate::cursor::Cursor;
use crate::rules::{self, Progress};

/// Keeps executions for as long as it lives. No call waits for anything but another call's few steps.
#[derive(Debug, Default)]
pub struct MemoryStore {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    entries: HashMap<ExecutionId, Entry>,
    /// Every id, oldest first.
    by_acceptance: BTreeMap<Cursor, ExecutionId>,
    /// Ended executions whose terminal update is not delivered, by the time of their end.
    undelivered: BTreeMap<(OffsetDateTime, ExecutionId), ()>,
    refusals: Vec<Refusal>,
}

#[derive(Debug)]
struct Entry {
    execution: Execution,
    chunks: Vec<OutputChunk>,
}

impl MemoryStore {
    /// Makes an empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change below is made after its checks, so that a panic in between leaves whole records.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    fn append(&mut self, id: &ExecutionId, chunks: Vec<OutputChunk>) -> Result<(), StoreError> {
        let stored = Progress { ended: self.execution.ending.is_some(), last_seq: self.execution.last_seq };
        for chunk in rules::new_chunks(id, stored, chunks)? {
            self.execution.last_seq = chunk.seq;
            self.execution.output_bytes += chunk.bytes.len() as u64;
            self.chunks.push(OutputChunk { at: chunk.at.to_offset(UtcOffset::UTC), ..chunk });
        }
        Ok(())
    }
}

impl State {
    fn entry(&mut self, id: &ExecutionId) -> Result<&mut Entry, StoreError> {
        self.entries.get_mut(id).ok_or_else(|| StoreError::Unknown(id.clone()))
    }

    fn end(&mut self, id: &ExecutionId, ending: Ending) -> Result<Execution, StoreError> {
        let ending = Ending { ended_at: ending.ended_at.to_offset(UtcOffset::UTC), ..ending };
        let ended_at = ending.ended_at;
        let entry = self.entry(id)?;
        entry.execution.status = ending.status;
        entry.execution.ending = Some(ending);
        let execution = entry.execution.clone();
        self.undelivered.insert((ended_at, id.clone()), ());
        Ok(execution)
    }

    /// Notes that nobody has to be told of an ending any more.
    fn told(&mut self, execution: &Execution) {
        if let Some(ending) = &execution.ending {
            self.undelivered.remove(&(ending.ended_at, execution.id.clone()));
        }
    }
}

#[async_trait]
impl ExecutionStore for MemoryStore {
    async fn accept(&self, new: NewExecution) -> Result<Acceptance, StoreError> {
        rules::nanoseconds("the execution", new.accepted_at)?;
        new.start.as_ref().map(|start| rules::nanoseconds("the claim", start.at)).transpose()?;
        let mut state = self.lock();
        if let Some(entry) = state.entries.get(&new.id) {
            let stored = &entry.execution;
            return Ok(if rules::is_same(stored, &new) {
                Acceptance::Same(Box::new(stored.clone()))
            } else {
                Acceptance::Taken
            });
        }
        let execution = rules::accepted(new);
        let id = execution.id.clone();
        state.by_acceptance.insert(Cursor::behind(&execution), id.clone());
        state.entries.insert(id, Entry { execution: execution.clone(), chunks: Vec::new() });
        Ok(Acceptance::New(Box::new(execution)))
    }

    async fn claim(
        &self,
        id: &ExecutionId,
        at: OffsetDateTime,
        confinement: &Confinement,
    ) -> Result<Claim, StoreError> {
        rules::nanoseconds("the claim", at)?;
        let mut state = self.lock();
        let execution = &mut state.entry(id)?.execution;
        if execution.status != Status::Scheduled {
            return Ok(Claim::Refused(Box::new(execution.clone())));
        }
        execution.status = Status::Running;
        execution.started_at = Some(at.to_offset(UtcOffset::UTC));
        execution.confinement = Some(confinement.clone());
        Ok(Claim::Claimed(Box::new(execution.clone())))
    }

    async fn append(&self, id: &ExecutionId, chunks: Vec<OutputChunk>) -> Result<(), StoreError> {
        self.lock().entry(id)?.append(id, chunks)
    }

    async fn close(&self, id: &ExecutionId, closing: Closing) -> Result<Finish, StoreError> {
        let Closing { ending, output, delivery } = closing;
        rules::check_ending(id, &ending)?;
        let mut state = self.lock();
        let entry = state.entry(id)?;
        if entry.execution.ending.is_some() {
            return Ok(Finish::AlreadyEnded(Box::new(entry.execution.clone())));
        }
        entry.append(id, output)?;
        let execution = state.end(id, ending)?;
        if delivery.is_some() {
            state.told(&execution);
        }
        Ok(Finish::Written(Box::new(execution)))
    }

    async fn read(&self, id: &ExecutionId) -> Result<Option<Execution>, StoreError> {
        Ok(self.lock().entries.get(id).map(|entry| entry.execution.clone()))
    }

    async fn output(
        &self,
        id: &ExecutionId,
        after_seq: u64,
        max_bytes: usize,
    ) -> Result<Vec<OutputChunk>, StoreError> {
        let mut state = self.lock();
        let entry = state.entry(id)?;
        let passed = usize::try_from(after_seq).unwrap_or(usize::MAX);
        let mut bytes = 0_usize;
        let fits = |chunk: &&OutputChunk| {
            let first = bytes == 0;
            bytes = bytes.saturating_add(chunk.bytes.len());
            first || bytes <= max_bytes
        };
        Ok(entry.chunks.iter().skip(passed).take_while(fits).cloned().collect())
    }

    async fn list(&self, query: &ListQuery) -> Result<ListPage, StoreError> {
        let cursor = query.cursor.as_deref().map(Cursor::decode).transpose()?;
        let size = rules::page_size(query.limit);
        let state = self.lock();
        let older: Box<dyn Iterator<Item = &ExecutionId> + Send> = match cursor {
            Some(cursor) => Box::new(state.by_acceptance.range(..cursor).rev().map(|(_, id)| id)),
            None => Box::new(state.by_acceptance.values().rev()),
        };
        let mut executions: Vec<Execution> = older
            .filter_map(|id| state.entries.get(id).map(|entry| &entry.execution))
            .filter(|execution| matches(query, execution))
            .take(size + 1)
            .cloned()
            .collect();
        let more = executions.len() > size;
        executions.truncate(size);
        let next = executions.last().filter(|_| more).map(|last| Cursor::behind(last).encode());
        Ok(ListPage { executions, next })
    }

    async fn refuse(&self, refusal: Refusal) -> Result<(), StoreError> {
        rules::nanoseconds("the refusal", refusal.at)?;
        let at = refusal.at.to_offset(UtcOffset::UTC);
        self.lock().refusals.push(Refusal { at, ..refusal });
        Ok(())
    }

    async fn refusals(&self, limit: usize) -> Result<Vec<Refusal>, StoreError> {
        Ok(self.lock().refusals.iter().rev().take(limit).cloned().collect())
    }

    async fn recover(&self, at: OffsetDateTime) -> Result<Recovery, StoreError> {
        rules::nanoseconds("the recovery", at)?;
        let mut state = self.lock();
        let open: Vec<Execution> = state
            .by_acceptance
            .values()
            .filter_map(|id| state.entries.get(id).map(|entry| &entry.execution))
            .filter(|execution| execution.ending.is_none())
            .cloned()
            .collect();
        let mut recovery = Recovery::default();
        for execution in open {
            let ended = state.end(&execution.id, rules::left_open(&execution, at))?;
            match ended.status {
                Status::Lost => recovery.lost.push(ended.id),
                _ => recovery.interrupted.push(ended.id),
            }
        }
        Ok(recovery)
    }

    async fn undelivered(&self, limit: usize) -> Result<Vec<Execution>, StoreError> {
        let state = self.lock();
        let records = state.undelivered.keys().filter_map(|(_, id)| state.entries.get(id));
        Ok(records.map(|entry| entry.execution.clone()).take(limit).collect())
    }

    async fn delivered(&self, id: &ExecutionId, delivery: Delivery) -> Result<(), StoreError> {
        // Both end the waiting; which of them it was is for the eyes of an operator with a database.
        let (Delivery::Delivered | Delivery::GivenUp) = delivery;
        let mut state = self.lock();
        let execution = state.entry(id)?.execution.clone();
        if execution.ending.is_none() {
            return Err(rules::nothing_to_deliver(id));
        }
        state.told(&execution);
        Ok(())
    }

    async fn expire(&self, ended_before: OffsetDateTime) -> Result<u64, StoreError> {
        let mut state = self.lock();
        let expired: Vec<(OffsetDateTime, Execution)> = state
            .entries
            .values()
            .filter_map(|Entry { execution, .. }| Some((execution.ending.as_ref()?.ended_at, execution)))
            .filter(|(ended_at, _)| *ended_at < ended_before)
            .map(|(ended_at, execution)| (ended_at, execution.clone()))
            .collect();
        for (ended_at, execution) in &expired {
            state.by_acceptance.remove(&Cursor::behind(execution));
            state.undelivered.remove(&(*ended_at, execution.id.clone()));
            state.entries.remove(&execution.id);
        }
        state.refusals.retain(|refusal| refusal.at >= ended_before);
        Ok(expired.len() as u64)
    }
}

fn matches(query: &ListQuery, execution: &Execution) -> bool {
    query.owner.as_ref().is_none_or(|owner| *owner == execution.owner)
        && query.status.is_none_or(|status| status == execution.status)
        && query.accepted_from.is_none_or(|from| execution.accepted_at >= from)
        && query.accepted_before.is_none_or(|before| execution.accepted_at < before)
        && query.program.as_ref().is_none_or(|program| execution.programs.contains(program))
}

#[cfg(test)]
mod tests {
    use super::*;

    crate::conformance_tests!(async { (MemoryStore::new(), ()) });
}
