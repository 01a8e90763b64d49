//! How many connections there may be, and which goes when there is one too many.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// The connections of the service. When one comes that is one too many, the one that has been waiting for a
/// request the longest is closed: connections that send nothing, or a byte now and then, never keep out who
/// has something to ask. When none waits, it is the one that has been streaming the longest: who watches can
/// resume, and a crowd of watchers keeps nobody out either.
#[derive(Debug)]
pub(crate) struct Connections {
    places: Arc<Semaphore>,
    expendable: Mutex<Expendable>,
}

/// The connections that may be closed, by when they became so.
#[derive(Debug, Default)]
struct Expendable {
    next_ticket: u64,
    waiting: BTreeMap<u64, Arc<Notify>>,
    streaming: BTreeMap<u64, Arc<Notify>>,
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
    /// While it is expendable: its place among those that are.
    ticket: Option<u64>,
}

/// Marks a connection as answering, for as long as it lives.
#[derive(Debug)]
pub(crate) struct Busy(Arc<Place>);

/// Marks a connection that is being answered as one that may be closed all the same, for as long as it lives: its
/// answer waits for something that may take its time, as a stream does.
#[derive(Debug)]
pub(crate) struct Patience(Arc<Place>);

impl Connections {
    pub(crate) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self {
            places: Arc::new(Semaphore::new(limit.clamp(1, Semaphore::MAX_PERMITS))),
            expendable: Mutex::default(),
        })
    }

    /// Gives a new connection a place, at the cost of the most expendable one when there is none; when all
    /// are being answered, waits for one.
    pub(crate) async fn admit(self: &Arc<Self>) -> Option<Arc<Place>> {
        let permit = match self.places.clone().try_acquire_owned() {
            Ok(permit) => permit,
            Err(_full) => {
                self.expendable().pop().inspect(|connection| connection.notify_one());
                self.places.clone().acquire_owned().await.ok()?
            }
        };
        let leave = Arc::new(Notify::new());
        let ticket = self.expendable().add_waiting(&leave);
        let state = Mutex::new(State { answering: 0, ticket: Some(ticket) });
        Some(Arc::new(Place { connections: self.clone(), leave, state, _permit: permit }))
    }

    fn expendable(&self) -> MutexGuard<'_, Expendable> {
        self.expendable.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Expendable {
    fn ticket(&mut self) -> u64 {
        self.next_ticket += 1;
        self.next_ticket
    }

    fn add_waiting(&mut self, leave: &Arc<Notify>) -> u64 {
        let ticket = self.ticket();
        self.waiting.insert(ticket, leave.clone());
        ticket
    }

    fn add_streaming(&mut self, leave: &Arc<Notify>) -> u64 {
        let ticket = self.ticket();
        self.streaming.insert(ticket, leave.clone());
        ticket
    }

    fn remove(&mut self, ticket: u64) {
        self.waiting.remove(&ticket);
        self.streaming.remove(&ticket);
    }

    fn pop(&mut self) -> Option<Arc<Notify>> {
        let (_, leave) = self.waiting.pop_first().or_else(|| self.streaming.pop_first())?;
        Some(leave)
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
        self.forget(&mut state);
        Busy(self.clone())
    }

    /// Marks the answer as one that waits.
    pub(crate) fn patient(self: &Arc<Self>) -> Patience {
        let mut state = self.state();
        self.forget(&mut state);
        state.ticket = Some(self.connections.expendable().add_streaming(&self.leave));
        drop(state);
        Patience(self.clone())
    }

    /// Takes the connection from among those that may be closed.
    fn forget(&self, state: &mut State) {
        if let Some(ticket) = state.ticket.take() {
            self.connections.expendable().remove(ticket);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Busy {
    /// Marks the answer as one that is streamed, and may be broken off when there are too many connections.
    pub(crate) fn streaming(self) -> Self {
        let mut state = self.0.state();
        self.0.forget(&mut state);
        state.ticket = Some(self.0.connections.expendable().add_streaming(&self.0.leave));
        drop(state);
        self
    }
}

impl Drop for Patience {
    fn drop(&mut self) {
        let mut state = self.0.state();
        // A connection that nobody answers any more is expendable for another reason.
        if state.answering > 0 {
            self.0.forget(&mut state);
        }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.answering -= 1;
        if state.answering == 0 {
            self.0.forget(&mut state);
            state.ticket = Some(self.0.connections.expendable().add_waiting(&self.0.leave));
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.forget(&mut self.state());
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

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_waits_goes_as_a_stream_does_and_is_kept_again_when_it_comes() {
        let connections = Connections::new(2);
        let first = connections.admit().await.unwrap();
        let second = connections.admit().await.unwrap();
        let answering = [first.busy(), second.busy()];
        drop(second.patient());
        let waiting = first.patient();
        let third = tokio::spawn(async move { connections.admit().await });
        first.asked_to_leave().await;
        assert!(!is_asked_to_leave(&second).await);
        drop(answering);
        drop((waiting, first));
        assert!(third.await.unwrap().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn when_none_waits_the_longest_stream_goes_and_when_all_are_answered_the_new_one_waits() {
        let connections = Connections::new(2);
        let first = connections.admit().await.unwrap();
        let second = connections.admit().await.unwrap();
        let stream = first.busy().streaming();
        let answering = second.busy();
        let third = tokio::spawn({
            let connections = connections.clone();
            async move { connections.admit().await }
        });
        first.asked_to_leave().await;
        assert!(!is_asked_to_leave(&second).await);
        drop((stream, first));
        let third = third.await.unwrap().unwrap();
        let _answering = third.busy();
        let mut fourth = tokio::spawn(async move { connections.admit().await });
        assert!(tokio::time::timeout(Duration::from_millis(1), &mut fourth).await.is_err());
        assert!(!is_asked_to_leave(&second).await);
        drop((answering, second));
        assert!(fourth.await.unwrap().is_some());
    }
}
