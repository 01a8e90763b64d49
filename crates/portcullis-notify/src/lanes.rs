//! What is pending for each execution.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use portcullis_core::{ExecutionId, Update};

/// Held by who posts for an execution; the others of it wait.
pub(crate) type Turn = Arc<tokio::sync::Mutex<()>>;

/// The lanes of all executions. A lane is there while something is pending or was just sent, and no longer:
/// an execution that is never concluded leaves nothing behind.
pub(crate) struct Lanes {
    state: Mutex<State>,
    max_pending: usize,
}

struct State {
    lanes: HashMap<ExecutionId, Lane>,
    concluded: Recent,
}

struct Lane {
    turn: Turn,
    /// The first announced update of a fresh lane; nothing replaces it.
    first: Option<Update>,
    /// The newest of those behind it.
    newest: Option<Update>,
    has_worker: bool,
    conclusions: usize,
}

/// What became of an announced update.
pub(crate) enum Put {
    /// It is the first of a fresh lane, and needs a worker.
    Fresh(Turn),
    /// The lane's worker will send it.
    Pending,
    /// The same, and it took the place of another.
    Replaced,
    /// Too many executions have updates pending.
    TooMany,
    /// The execution's terminal update is sent or being sent.
    Late,
}

impl Lanes {
    pub(crate) fn new(max_pending: usize) -> Self {
        let state = State { lanes: HashMap::new(), concluded: Recent::new(max_pending) };
        Self { state: Mutex::new(state), max_pending }
    }

    /// Takes an announced update.
    pub(crate) fn put(&self, update: Update) -> Put {
        let mut state = self.lock();
        if state.concluded.contains(&update.id) {
            return Put::Late;
        }
        let count = state.lanes.len();
        match state.lanes.get_mut(&update.id) {
            Some(lane) if lane.conclusions > 0 => Put::Late,
            Some(lane) => match lane.newest.replace(update) {
                Some(_) => Put::Replaced,
                None => Put::Pending,
            },
            None if count >= self.max_pending => Put::TooMany,
            None => {
                let turn = Turn::default();
                let lane = Lane {
                    turn: turn.clone(),
                    first: Some(update.clone()),
                    newest: None,
                    has_worker: true,
                    conclusions: 0,
                };
                state.lanes.insert(update.id, lane);
                Put::Fresh(turn)
            }
        }
    }

    /// Gives a lane's worker, which holds the turn, the next update to send; with none its work is over.
    pub(crate) fn next(&self, id: &ExecutionId) -> Option<Update> {
        let mut state = self.lock();
        let lane = state.lanes.get_mut(id)?;
        // INVARIANT (terminal last): a conclusion takes over what is pending.
        let next = if lane.conclusions > 0 { None } else { lane.first.take().or_else(|| lane.newest.take()) };
        if next.is_none() {
            lane.has_worker = false;
            state.remove_if_idle(id);
        }
        next
    }

    /// Begins the end of an execution: nothing is announced of it from here on, unless the conclusion is
    /// dropped without [`Conclusion::done`]. Returns it, and how many updates it makes superfluous.
    pub(crate) fn conclude(self: &Arc<Self>, id: &ExecutionId) -> (Conclusion, usize) {
        let mut state = self.lock();
        let lane = state.lanes.entry(id.clone()).or_insert_with(|| Lane {
            turn: Turn::default(),
            first: None,
            newest: None,
            has_worker: false,
            conclusions: 0,
        });
        lane.conclusions += 1;
        let superfluous = usize::from(lane.newest.take().is_some());
        (Conclusion { lanes: Arc::clone(self), id: id.clone(), turn: lane.turn.clone() }, superfluous)
    }

    /// Returns how many executions have something pending, and how many of them are being concluded.
    pub(crate) fn count(&self) -> (usize, usize) {
        let state = self.lock();
        let concluding = state.lanes.values().filter(|lane| lane.conclusions > 0).count();
        (state.lanes.len(), concluding)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn remove_if_idle(&mut self, id: &ExecutionId) {
        if self.lanes.get(id).is_some_and(|lane| !lane.has_worker && lane.conclusions == 0) {
            self.lanes.remove(id);
        }
    }
}

/// The end of an execution, as long as it is being told.
pub(crate) struct Conclusion {
    lanes: Arc<Lanes>,
    id: ExecutionId,
    turn: Turn,
}

impl Conclusion {
    pub(crate) fn turn(&self) -> &Turn {
        &self.turn
    }

    /// Takes the start update, when it is not sent yet.
    pub(crate) fn take_first(&self) -> Option<Update> {
        self.lanes.lock().lanes.get_mut(&self.id)?.first.take()
    }

    /// Notes that nothing follows.
    pub(crate) fn done(&self) {
        self.lanes.lock().concluded.insert(self.id.clone());
    }
}

impl Drop for Conclusion {
    fn drop(&mut self) {
        let mut state = self.lanes.lock();
        if let Some(lane) = state.lanes.get_mut(&self.id) {
            lane.conclusions -= 1;
        }
        state.remove_if_idle(&self.id);
    }
}

/// The newest of the executions that were concluded.
struct Recent {
    order: VecDeque<ExecutionId>,
    ids: HashSet<ExecutionId>,
    max: usize,
}

impl Recent {
    fn new(max: usize) -> Self {
        Self { order: VecDeque::new(), ids: HashSet::new(), max }
    }

    fn contains(&self, id: &ExecutionId) -> bool {
        self.ids.contains(id)
    }

    fn insert(&mut self, id: ExecutionId) {
        if !self.ids.insert(id.clone()) {
            return;
        }
        self.order.push_back(id);
        if self.order.len() > self.max
            && let Some(oldest) = self.order.pop_front()
        {
            self.ids.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use portcullis_core::Status;

    use super::*;

    fn update(id: &str, progress: u8) -> Update {
        let id = ExecutionId::parse(id).unwrap();
        Update { id, status: Status::Running, progress, output: None, error: None, trace: None }
    }

    #[test]
    fn a_lane_is_gone_when_its_worker_finds_nothing() {
        let lanes = Lanes::new(8);
        let id = update("a", 1).id;
        assert!(matches!(lanes.put(update("a", 1)), Put::Fresh(_)));
        assert!(matches!(lanes.put(update("a", 2)), Put::Pending));
        assert!(matches!(lanes.put(update("a", 3)), Put::Replaced));
        assert_eq!(lanes.next(&id).unwrap().progress, 1);
        assert_eq!(lanes.next(&id).unwrap().progress, 3);
        assert!(lanes.next(&id).is_none());
        assert_eq!(lanes.count(), (0, 0));
    }

    #[test]
    fn a_conclusion_ends_the_work_and_bars_what_comes_late() {
        let lanes = Arc::new(Lanes::new(8));
        let id = update("a", 1).id;
        lanes.put(update("a", 1));
        lanes.put(update("a", 2));
        let (conclusion, superfluous) = lanes.conclude(&id);
        assert_eq!(superfluous, 1);
        assert!(lanes.next(&id).is_none());
        assert_eq!(conclusion.take_first().unwrap().progress, 1);
        assert!(matches!(lanes.put(update("a", 3)), Put::Late));
        assert_eq!(lanes.count(), (1, 1));
        conclusion.done();
        drop(conclusion);
        assert_eq!(lanes.count(), (0, 0));
        assert!(matches!(lanes.put(update("a", 4)), Put::Late));
    }

    #[test]
    fn a_conclusion_given_up_lets_the_execution_speak_again() {
        let lanes = Arc::new(Lanes::new(8));
        drop(lanes.conclude(&update("a", 1).id));
        assert!(matches!(lanes.put(update("a", 3)), Put::Fresh(_)));
    }

    #[test]
    fn lanes_are_bounded_and_so_is_what_is_remembered_of_their_ends() {
        let lanes = Arc::new(Lanes::new(2));
        lanes.put(update("a", 1));
        lanes.put(update("b", 1));
        assert!(matches!(lanes.put(update("c", 1)), Put::TooMany));
        for n in 0..100 {
            let (conclusion, _) = lanes.conclude(&update(&format!("x{n}"), 100).id);
            conclusion.done();
        }
        assert_eq!(lanes.lock().concluded.ids.len(), 2);
        assert_eq!(lanes.lock().concluded.order.len(), 2);
    }
}
