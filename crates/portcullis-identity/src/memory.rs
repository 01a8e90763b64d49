//! Remembers answers by their token's digest, and lets one question at a time be asked about each.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::peer::Answer;
use crate::token::Digest;

/// How long each kind of answer stands.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lifetimes {
    pub(crate) accepted: Duration,
    pub(crate) refused: Duration,
    pub(crate) failed: Duration,
}

/// The longest `Retry-After` that is obeyed: what a peer says must not lock somebody out for a day.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(60);

pub(crate) struct Memory {
    entries: Mutex<HashMap<Digest, Entry>>,
    max_entries: usize,
    lifetimes: Lifetimes,
}

enum Entry {
    Asking(watch::Receiver<Option<Answer>>),
    Answered { answer: Answer, until: Instant },
}

/// What is known of a token.
pub(crate) enum Known {
    /// An answer that still stands.
    Answered(Answer),
    /// Somebody asks; the answer will be here.
    Asking(watch::Receiver<Option<Answer>>),
    /// Nothing: ask, then [`Memory::settle`]. The receiver is for oneself.
    Ask(watch::Sender<Option<Answer>>, watch::Receiver<Option<Answer>>),
    /// Nothing, and there is no room to ask.
    Full,
}

impl Memory {
    pub(crate) fn new(max_entries: usize, lifetimes: Lifetimes) -> Self {
        Self { entries: Mutex::default(), max_entries, lifetimes }
    }

    /// Looks a token up, and takes the turn to ask about it when nothing is known.
    pub(crate) fn recall(&self, token: &Digest) -> Known {
        let now = Instant::now();
        let mut entries = self.lock();
        match entries.get(token) {
            Some(Entry::Answered { answer, until }) if *until > now => {
                return Known::Answered(with_remaining_wait(answer, *until - now));
            }
            // A question whose task is gone without an answer (the runtime ends) is no question.
            Some(Entry::Asking(answer)) if answer.has_changed().is_ok() => {
                return Known::Asking(answer.clone());
            }
            _ => {}
        }
        let is_new = !entries.contains_key(token);
        if is_new && entries.len() >= self.max_entries && !make_room(&mut entries, now) {
            return Known::Full;
        }
        let (sender, receiver) = watch::channel(None);
        entries.insert(*token, Entry::Asking(receiver.clone()));
        Known::Ask(sender, receiver)
    }

    /// Remembers the answer to a question for its lifetime.
    pub(crate) fn settle(&self, token: Digest, answer: Answer) {
        let lifetime = match &answer {
            Answer::Known(_) => self.lifetimes.accepted,
            Answer::Invalid | Answer::Forbidden(_) => self.lifetimes.refused,
            // One token's wait holds up nobody else: the peer counts questions by user.
            Answer::Unknown { retry_after, .. } => {
                self.lifetimes.failed.max(retry_after.unwrap_or_default().min(MAX_RETRY_AFTER))
            }
        };
        let until = Instant::now() + lifetime;
        self.lock().insert(token, Entry::Answered { answer, until });
    }

    pub(crate) fn len(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Digest, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Says of a remembered failure how much of its wait is left.
fn with_remaining_wait(answer: &Answer, remaining: Duration) -> Answer {
    match answer {
        Answer::Unknown { retry_after: Some(_), failure } => {
            Answer::Unknown { retry_after: Some(remaining), failure: failure.clone() }
        }
        other => other.clone(),
    }
}

/// Removes what has expired, or else one answer: a no before a yes, so that a flood of invented tokens does
/// not push out those that are in use; then the one that ends first. Questions under way stay.
fn make_room(entries: &mut HashMap<Digest, Entry>, now: Instant) -> bool {
    let before = entries.len();
    entries.retain(|_, entry| match entry {
        Entry::Asking(answer) => answer.has_changed().is_ok(),
        Entry::Answered { until, .. } => *until > now,
    });
    if entries.len() < before {
        return true;
    }
    let victim = entries
        .iter()
        .filter_map(|(token, entry)| match entry {
            Entry::Asking(_) => None,
            Entry::Answered { answer, until } => Some((matches!(answer, Answer::Known(_)), *until, *token)),
        })
        .min();
    victim.is_some_and(|(_, _, token)| entries.remove(&token).is_some())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use portcullis_core::Principal;

    use super::*;
    use crate::peer::Failure;

    fn memory(max_entries: usize) -> Memory {
        let lifetimes = Lifetimes {
            accepted: Duration::from_secs(30),
            refused: Duration::from_secs(5),
            failed: Duration::from_secs(1),
        };
        Memory::new(max_entries, lifetimes)
    }

    fn yes() -> Answer {
        Answer::Known(Arc::new(Principal::local()))
    }

    fn stands(memory: &Memory, token: u8) -> bool {
        matches!(memory.recall(&[token; 32]), Known::Answered(_))
    }

    #[tokio::test(start_paused = true)]
    async fn each_kind_of_answer_stands_for_its_own_time() {
        for (answer, seconds) in [
            (yes(), 30),
            (Answer::Invalid, 5),
            (Answer::Forbidden(None), 5),
            (Failure::Status(500).into(), 1),
            (
                Answer::Unknown {
                    retry_after: Some(Duration::from_secs(7)),
                    failure: Arc::new(Failure::Status(429)),
                },
                7,
            ),
            (
                Answer::Unknown {
                    retry_after: Some(Duration::from_secs(86_400)),
                    failure: Arc::new(Failure::Status(429)),
                },
                60,
            ),
        ] {
            let memory = memory(8);
            memory.settle([1; 32], answer.clone());
            tokio::time::advance(Duration::from_secs(seconds) - Duration::from_millis(1)).await;
            assert!(stands(&memory, 1), "{answer:?}");
            tokio::time::advance(Duration::from_millis(1)).await;
            assert!(!stands(&memory, 1), "{answer:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_of_invented_tokens_does_not_push_out_a_yes() {
        let memory = memory(16);
        memory.settle([0; 32], yes());
        for token in 1..=200 {
            let known = memory.recall(&[token; 32]);
            assert!(matches!(known, Known::Ask(..)));
            memory.settle([token; 32], Answer::Invalid);
        }
        assert!(stands(&memory, 0));
        assert_eq!(memory.len(), 16);
    }

    #[tokio::test(start_paused = true)]
    async fn questions_under_way_are_kept_and_bounded() {
        let memory = memory(2);
        let first = memory.recall(&[1; 32]);
        let second = memory.recall(&[2; 32]);
        assert!(matches!((&first, &second), (Known::Ask(..), Known::Ask(..))));
        assert!(matches!(memory.recall(&[3; 32]), Known::Full));
        assert!(matches!(memory.recall(&[1; 32]), Known::Asking(_)));
        drop(first); // its task ended without an answer
        assert!(matches!(memory.recall(&[3; 32]), Known::Ask(..)));
    }
}
