//! How many connections there may be, and which goes when there is one too many.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// The connections of the service. When one comes that is one too many, the one that has been waiting for a
/// request the longest is closed: connections that send nothing, or a byte now and then, never keep out who
/// has something to ask.
#[derive(Debug)]
pub(crate) struct Connections {
    places: Arc<Semaphore>,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    next_ticket: u64,
    /// By when they began to wait.
    connections: BTreeMap<u64, Arc<Notify>>,
}

/// One connection's place.
#[derive(Debug)]
pub(crate) struct Place {
    connections: Arc<Connections>,
    /// Asks the connection to go at once.
    leave: Arc<Notify>,
    state: Mutex<State>,
    _permit: OwnedSemaphorePermit,
}

#[derive(Debug, Default)]
struct State {
    answering: usize,
    /// While it answers nothing: its place among those that wait.
    ticket: Option<u64>,
}

/// Marks a connection as answering, for as long as it lives.
#[derive(Debug)]
pub(crate) struct Busy(Arc<Place>);

impl Connections {
    pub(crate) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self {
            places: Arc::new(Semaphore::new(limit.clamp(1, Semaphore::MAX_PERMITS))),
            waiting: Mutex::default(),
        })
    }

    /// Gives a new connection a place, at the cost of the one that has waited longest when there is none;
    /// when all are being answered, waits for one.
    pub(crate) async fn admit(self: &Arc<Self>) -> Option<Arc<Place>> {
        let permit = match self.places.clone().try_acquire_owned() {
            Ok(permit) => permit,
            Err(_full) => {
                if let Some((_, longest)) = self.waiting().connections.pop_first() {
                    longest.notify_one();
                }
                self.places.clone().acquire_owned().await.ok()?
            }
        };
        let leave = Arc::new(Notify::new());
        let ticket = self.begin_to_wait(&leave);
        let state = Mutex::new(State { answering: 0, ticket: Some(ticket) });
        Some(Arc::new(Place { connections: self.clone(), leave, state, _permit: permit }))
    }

    fn begin_to_wait(&self, leave: &Arc<Notify>) -> u64 {
        let mut waiting = self.waiting();
        let ticket = waiting.next_ticket;
        waiting.next_ticket += 1;
        waiting.connections.insert(ticket, leave.clone());
        ticket
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Resolves when the connection is to go.
    pub(crate) async fn asked_to_leave(&self) {
        self.leave.notified().await;
    }

    /// Marks the connection as answering a request.
    pub(crate) fn busy(self: &Arc<Self>) -> Busy {
        let mut state = self.state();
        state.answering += 1;
        self.stop_waiting(&mut state);
        Busy(self.clone())
    }

    fn stop_waiting(&self, state: &mut State) {
        if let Some(ticket) = state.ticket.take() {
            self.connections.waiting().connections.remove(&ticket);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.answering -= 1;
        if state.answering == 0 {
            state.ticket = Some(self.0.connections.begin_to_wait(&self.0.leave));
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.stop_waiting(&mut self.state());
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    async fn is_asked_to_leave(place: &Place) -> bool {
        tokio::time::timeout(Duration::from_millis(1), place.asked_to_leave()).await.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn the_connection_that_has_waited_longest_goes_and_never_one_that_is_being_answered() {
        let connections = Connections::new(3);
        let first = connections.admit().await.unwrap();
        let second = connections.admit().await.unwrap();
        let third = connections.admit().await.unwrap();
        let answering = first.busy();
        let mut fourth = tokio::spawn({
            let connections = connections.clone();
            async move { connections.admit().await }
        });
        second.asked_to_leave().await;
        assert!(!is_asked_to_leave(&first).await);
        assert!(!is_asked_to_leave(&third).await);
        assert!(tokio::time::timeout(Duration::from_millis(1), &mut fourth).await.is_err());
        drop(second);
        let fourth = fourth.await.unwrap().unwrap();
        // The first has begun to wait after the third, which is therefore next to go.
        drop(answering);
        let fifth = tokio::spawn(async move { connections.admit().await });
        third.asked_to_leave().await;
        assert!(!is_asked_to_leave(&first).await);
        assert!(!is_asked_to_leave(&fourth).await);
        drop(third);
        assert!(fifth.await.unwrap().is_some());
    }
}
