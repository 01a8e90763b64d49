//! A store that lives in memory.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use portcullis_core::{
    Acceptance, Claim, Closing, Confinement, Delivery, Due, Ending, Execution, ExecutionId, ExecutionStore,
    Finish, Keep, ListPage, ListQuery, NewExecution, Outbox, OutputChunk, Posting, Recovery, Refusal,
    Settled, Status, StoreError, Subscription,
};
use time::{OffsetDateTime, UtcOffset};

use crate::cursor::Cursor;
use crate::marks;
use crate::rules::{self, Progress};
use crate::subscribers::Subscribers;

/// Keeps executions for as long as it lives. No call waits for anything but another call's few steps.
#[derive(Debug, Default)]
pub struct MemoryStore {
    state: Mutex<State>,
    subscribers: Subscribers,
}

#[derive(Debug, Default)]
struct State {
    entries: HashMap<ExecutionId, Entry>,
    /// Every id, oldest first.
    by_acceptance: BTreeMap<Cursor, ExecutionId>,
    /// Ended executions whose terminal update is not delivered, by the time of their end.
    undelivered: BTreeMap<(OffsetDateTime, ExecutionId), ()>,
    refusals: Vec<Refusal>,
    /// Marks of what was removed, and the same, oldest first.
    removed: HashSet<i64>,
    removed_first: VecDeque<i64>,
    /// By their numbers.
    postings: BTreeMap<u64, Waiting>,
    last_posting: u64,
    /// Places of disabled endpoints by name, and since when.
    disabled: HashMap<String, (String, OffsetDateTime)>,
}

/// A posting.
#[derive(Debug)]
struct Waiting {
    endpoint: String,
    id: ExecutionId,
    made_at: OffsetDateTime,
    due_at: OffsetDateTime,
    attempts: u32,
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

    fn end(
        &mut self,
        id: &ExecutionId,
        ending: Ending,
        subscribed: &[Subscription],
    ) -> Result<Execution, StoreError> {
        let ending = Ending { ended_at: ending.ended_at.to_offset(UtcOffset::UTC), ..ending };
        let ended_at = ending.ended_at;
        let entry = self.entry(id)?;
        entry.execution.status = ending.status;
        entry.execution.ending = Some(ending);
        let execution = entry.execution.clone();
        self.undelivered.insert((ended_at, id.clone()), ());
        for one in subscribed.iter().filter(|one| one.wants(execution.status, &execution.programs)) {
            self.last_posting += 1;
            let endpoint = one.endpoint.clone();
            let waiting =
                Waiting { endpoint, id: id.clone(), made_at: ended_at, due_at: ended_at, attempts: 0 };
            self.postings.insert(self.last_posting, waiting);
        }
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
        let execution = new.into_execution();
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
        let execution = state.end(id, ending, &self.subscribers.posted_to())?;
        if delivery.is_some() {
            state.told(&execution);
        }
        drop(state);
        self.subscribers.stir();
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
        let subscribed = self.subscribers.posted_to();
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
            let ended = state.end(&execution.id, rules::left_open(&execution, at), &subscribed)?;
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

    /// Counts the bytes of command lines and output.
    async fn trim(&self, keep: Keep) -> Result<u64, StoreError> {
        let mut state = self.lock();
        let size = |entry: &Entry| entry.execution.output_bytes + entry.execution.command.len() as u64;
        let mut bytes: u64 = state.entries.values().map(size).sum();
        let mut ended: Vec<(OffsetDateTime, ExecutionId, u64)> = state
            .entries
            .values()
            .filter_map(|entry| {
                Some((entry.execution.ending.as_ref()?.ended_at, entry.execution.id.clone(), size(entry)))
            })
            .collect();
        ended.sort();
        let mut left = ended.len() as u64;
        let mut removed = 0;
        for (_, id, size) in ended {
            if keep.executions.is_none_or(|most| left <= most) && keep.bytes.is_none_or(|most| bytes <= most)
            {
                break;
            }
            state.remove_execution(&id);
            (left, bytes, removed) = (left - 1, bytes - size, removed + 1);
        }
        Ok(removed)
    }

    async fn was_removed(&self, owner: &str, id: &ExecutionId) -> Result<bool, StoreError> {
        Ok(self.lock().removed.contains(&marks::mark(owner, id)))
    }

    async fn expire(&self, ended_before: OffsetDateTime) -> Result<u64, StoreError> {
        let mut state = self.lock();
        let ended = |execution: &Execution| {
            execution.ending.as_ref().is_some_and(|ending| ending.ended_at < ended_before)
        };
        let expired: Vec<ExecutionId> = state
            .entries
            .values()
            .filter(|entry| ended(&entry.execution))
            .map(|entry| entry.execution.id.clone())
            .collect();
        expired.iter().for_each(|id| state.remove_execution(id));
        state.refusals.retain(|refusal| refusal.at >= ended_before);
        Ok(expired.len() as u64)
    }
}

#[async_trait]
impl Outbox for MemoryStore {
    async fn subscribe(&self, subscriptions: Vec<Subscription>) -> Result<u64, StoreError> {
        let mut state = self.lock();
        state.disabled.retain(|name, (url, _)| {
            subscriptions.iter().any(|one| one.endpoint == *name && one.url == *url)
        });
        let removed =
            state.remove(|waiting| !subscriptions.iter().any(|one| one.endpoint == waiting.endpoint));
        self.subscribers.set(subscriptions, state.disabled.keys().cloned().collect());
        self.subscribers.stir();
        Ok(removed)
    }

    async fn made(&self) {
        self.subscribers.made().await;
    }

    async fn due(&self, endpoint: &str, now: OffsetDateTime, limit: usize) -> Result<Due, StoreError> {
        let state = self.lock();
        let mut waiting: Vec<(&u64, &Waiting)> =
            state.postings.iter().filter(|(_, waiting)| waiting.endpoint == endpoint).collect();
        waiting.sort_by_key(|(n, waiting)| (waiting.due_at, **n));
        let (due, later): (Vec<_>, Vec<_>) =
            waiting.into_iter().partition(|(_, waiting)| waiting.due_at <= now);
        let postings = due.into_iter().take(limit).filter_map(|(n, waiting)| {
            let execution = state.entries.get(&waiting.id)?.execution.clone();
            Some(Posting { n: *n, execution, made_at: waiting.made_at, attempts: waiting.attempts })
        });
        Ok(Due { postings: postings.collect(), next: later.first().map(|(_, waiting)| waiting.due_at) })
    }

    async fn settle(&self, n: u64, settled: Settled) -> Result<(), StoreError> {
        let mut state = self.lock();
        match settled {
            Settled::Over => {
                state.postings.remove(&n);
            }
            Settled::Again(at) => {
                rules::nanoseconds("the next attempt", at)?;
                if let Some(waiting) = state.postings.get_mut(&n) {
                    waiting.due_at = at;
                    waiting.attempts += 1;
                }
            }
        }
        Ok(())
    }

    async fn tidy(
        &self,
        endpoint: &str,
        keep: usize,
        made_before: Option<OffsetDateTime>,
        latest: OffsetDateTime,
    ) -> Result<u64, StoreError> {
        let mut state = self.lock();
        for waiting in state.postings.values_mut().filter(|waiting| waiting.endpoint == endpoint) {
            if waiting.due_at > latest {
                waiting.made_at = waiting.made_at.min(latest);
                waiting.due_at = waiting.made_at;
            }
        }
        let of_it = state.postings.iter().filter(|(_, waiting)| waiting.endpoint == endpoint);
        let too_many = of_it.clone().rev().nth(keep).map(|(n, _)| *n);
        let too_old = of_it.filter(|(_, waiting)| made_before.is_some_and(|before| waiting.made_at < before));
        let Some(last) = too_many.max(too_old.map(|(n, _)| *n).max()) else { return Ok(0) };
        let before = state.postings.len();
        state.postings.retain(|n, waiting| *n > last || waiting.endpoint != endpoint);
        Ok((before - state.postings.len()) as u64)
    }

    async fn disable(&self, endpoint: &str, at: OffsetDateTime) -> Result<u64, StoreError> {
        rules::nanoseconds("the time", at)?;
        let Some(url) = self.subscribers.url(endpoint) else { return Ok(0) };
        self.subscribers.set_disabled(endpoint, true);
        let mut state = self.lock();
        state.disabled.insert(endpoint.to_owned(), (url, at));
        Ok(state.remove(|waiting| waiting.endpoint == endpoint))
    }

    async fn disabled_since(&self, endpoint: &str) -> Result<Option<OffsetDateTime>, StoreError> {
        Ok(self.lock().disabled.get(endpoint).map(|(_, at)| *at))
    }

    async fn waiting(&self, endpoint: &str) -> Result<u64, StoreError> {
        let state = self.lock();
        Ok(state.postings.values().filter(|waiting| waiting.endpoint == endpoint).count() as u64)
    }
}

impl State {
    /// Removes an execution with all that hangs on it, and remembers that it was there.
    fn remove_execution(&mut self, id: &ExecutionId) {
        let Some(Entry { execution, .. }) = self.entries.remove(id) else { return };
        self.by_acceptance.remove(&Cursor::behind(&execution));
        self.told(&execution);
        self.postings.retain(|_, waiting| waiting.id != *id);
        let mark = marks::mark(&execution.owner, id);
        if self.removed.insert(mark) {
            self.removed_first.push_back(mark);
        }
        if self.removed_first.len() > marks::MOST
            && let Some(first) = self.removed_first.pop_front()
        {
            self.removed.remove(&first);
        }
    }

    /// Removes postings, and counts them.
    fn remove(&mut self, which: impl Fn(&Waiting) -> bool) -> u64 {
        let before = self.postings.len();
        self.postings.retain(|_, waiting| !which(waiting));
        (before - self.postings.len()) as u64
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
    crate::outbox_tests!(async { (MemoryStore::new(), ()) });
}
