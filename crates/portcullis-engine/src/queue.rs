//! What waits for a cell: first in, first out for one principal, and fair between principals.

use std::collections::{HashMap, VecDeque};

/// Items waiting in one lane per principal.
///
/// The next item comes from the principal that has the fewest running; among equals from the one that
/// was served longest ago. So a principal that has nothing running is served at the next free place,
/// however many others wait, and nobody gains by keeping the queue full.
pub(crate) struct FairQueue<T> {
    lanes: HashMap<String, Lane<T>>,
    /// Counts arrivals and servings: the time of this queue.
    clock: u64,
    reserved: usize,
    /// How many of the reserved have been counted as running already.
    at_once: usize,
    waiting: usize,
    running: usize,
}

struct Lane<T> {
    reserved: usize,
    waiting: VecDeque<T>,
    running: usize,
    /// When it was last served; 0 for a newcomer. A lane is kept while something of it runs, so that a
    /// principal does not become a newcomer by submitting one at a time.
    served: u64,
    /// When its oldest waiting item came to the front of an empty lane: newcomers are served in order.
    since: u64,
}

impl<T> FairQueue<T> {
    pub(crate) fn new() -> Self {
        Self { lanes: HashMap::new(), clock: 0, reserved: 0, at_once: 0, waiting: 0, running: 0 }
    }

    /// Holds a place for an item that is not there yet.
    pub(crate) fn reserve(&mut self, owner: &str) {
        self.lane(owner).reserved += 1;
        self.reserved += 1;
    }

    /// Gives a held place up.
    pub(crate) fn release(&mut self, owner: &str) {
        let Some(lane) = self.lanes.get_mut(owner) else { return };
        lane.reserved = lane.reserved.saturating_sub(1);
        self.reserved = self.reserved.saturating_sub(1);
        self.forget_if_empty(owner);
    }

    /// Counts the item of a held place as running, before it is there: when a place to run is free, and nobody waits
    /// or is about to, for whom it would be.
    pub(crate) fn start_at_once(&mut self, owner: &str, slots: usize) -> bool {
        if self.running >= slots || self.waiting > 0 || self.reserved > self.at_once + 1 {
            return false;
        }
        self.clock += 1;
        let clock = self.clock;
        let lane = self.lane(owner);
        lane.running += 1;
        lane.served = clock;
        lane.since = clock;
        self.running += 1;
        self.at_once += 1;
        true
    }

    /// Notes that what was counted so is there, or will not come: it is running, or [`FairQueue::ended`].
    pub(crate) fn started_at_once(&mut self) {
        self.at_once = self.at_once.saturating_sub(1);
    }

    /// Adds an item at the end of its principal's lane.
    pub(crate) fn push(&mut self, owner: &str, item: T) {
        self.clock += 1;
        let clock = self.clock;
        let lane = self.lane(owner);
        if lane.waiting.is_empty() {
            lane.since = clock;
        }
        lane.waiting.push_back(item);
        self.waiting += 1;
    }

    /// Takes the next item out; it counts as running until [`FairQueue::ended`].
    pub(crate) fn pop(&mut self) -> Option<T> {
        self.clock += 1;
        let clock = self.clock;
        // A walk over the principals that wait: bounded by the queue's limit, some microseconds at most.
        let lane = self
            .lanes
            .values_mut()
            .filter(|lane| !lane.waiting.is_empty())
            .min_by_key(|lane| (lane.running, lane.served, lane.since))?;
        let item = lane.waiting.pop_front()?;
        lane.running += 1;
        lane.served = clock;
        lane.since = clock;
        self.waiting -= 1;
        self.running += 1;
        Some(item)
    }

    /// Notes that a running item of this principal ended.
    pub(crate) fn ended(&mut self, owner: &str) {
        let Some(lane) = self.lanes.get_mut(owner) else { return };
        lane.running = lane.running.saturating_sub(1);
        self.running = self.running.saturating_sub(1);
        self.forget_if_empty(owner);
    }

    /// Takes a waiting item out of the middle.
    pub(crate) fn remove(&mut self, owner: &str, is_it: impl FnMut(&T) -> bool) -> Option<T> {
        let lane = self.lanes.get_mut(owner)?;
        let at = lane.waiting.iter().position(is_it)?;
        let item = lane.waiting.remove(at)?;
        self.waiting -= 1;
        self.forget_if_empty(owner);
        Some(item)
    }

    /// Takes everything out that waits.
    pub(crate) fn clear(&mut self) -> Vec<T> {
        self.waiting = 0;
        let items = self.lanes.values_mut().flat_map(|lane| std::mem::take(&mut lane.waiting)).collect();
        self.lanes.retain(|_, lane| lane.reserved + lane.running > 0);
        items
    }

    /// Returns how many places are taken: items that wait and held places.
    pub(crate) fn taken(&self) -> usize {
        self.reserved + self.waiting
    }

    /// The same for one principal.
    pub(crate) fn taken_by(&self, owner: &str) -> usize {
        self.lanes.get(owner).map_or(0, |lane| lane.reserved + lane.waiting.len())
    }

    pub(crate) fn reserved(&self) -> usize {
        self.reserved
    }

    pub(crate) fn waiting(&self) -> usize {
        self.waiting
    }

    pub(crate) fn running(&self) -> usize {
        self.running
    }

    fn lane(&mut self, owner: &str) -> &mut Lane<T> {
        self.lanes.entry(owner.to_owned()).or_insert_with(|| Lane {
            reserved: 0,
            waiting: VecDeque::new(),
            running: 0,
            served: 0,
            since: 0,
        })
    }

    fn forget_if_empty(&mut self, owner: &str) {
        if self.lanes.get(owner).is_some_and(|lane| lane.reserved + lane.waiting.len() + lane.running == 0) {
            self.lanes.remove(owner);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(items: &[(&str, &'static str)]) -> FairQueue<&'static str> {
        let mut queue = FairQueue::new();
        for &(owner, item) in items {
            queue.push(owner, item);
        }
        queue
    }

    fn order(queue: &mut FairQueue<&'static str>) -> Vec<&'static str> {
        // One cell: what is taken out ends before the next.
        std::iter::from_fn(|| {
            let item = queue.pop()?;
            queue.ended(&item[..1]);
            Some(item)
        })
        .collect()
    }

    #[test]
    fn principals_take_turns_and_each_is_first_in_first_out() {
        let mut queue =
            queue(&[("a", "a1"), ("a", "a2"), ("a", "a3"), ("b", "b1"), ("b", "b2"), ("c", "c1")]);
        assert_eq!(order(&mut queue), ["a1", "b1", "c1", "a2", "b2", "a3"]);
    }

    #[test]
    fn newcomer_is_served_at_the_next_free_place() {
        let mut queue = queue(&[("a", "a1"), ("a", "a2"), ("a", "a3")]);
        assert_eq!(queue.pop(), Some("a1"));
        queue.push("b", "b1");
        queue.ended("a");
        assert_eq!(queue.pop(), Some("b1"));
    }

    #[test]
    fn submitting_one_at_a_time_does_not_make_a_newcomer_again_and_again() {
        let mut queue = queue(&[("a", "a1"), ("a", "a2"), ("b", "b1")]);
        assert_eq!((queue.pop(), queue.ended("a")), (Some("a1"), ()));
        assert_eq!(queue.pop(), Some("b1"));
        queue.push("b", "b2"); // while b1 runs
        queue.ended("b");
        assert_eq!(queue.pop(), Some("a2"));
    }

    #[test]
    fn places_are_shared_evenly_by_those_who_wait() {
        let mut queue = queue(&[("a", "a1"), ("a", "a2"), ("a", "a3"), ("b", "b1"), ("b", "b2")]);
        let four: Vec<_> = std::iter::from_fn(|| queue.pop()).take(4).collect();
        assert_eq!(four, ["a1", "b1", "a2", "b2"]);
    }

    #[test]
    fn who_has_fewer_running_comes_first_although_served_later() {
        let mut queue = queue(&[("a", "a1"), ("a", "a2"), ("a", "a3")]);
        assert_eq!((queue.pop(), queue.pop()), (Some("a1"), Some("a2")));
        queue.push("b", "b1");
        assert_eq!(queue.pop(), Some("b1"));
        queue.push("b", "b2");
        queue.ended("b");
        assert_eq!(queue.pop(), Some("b2"));
    }

    #[test]
    fn counts_follow_every_way_in_and_out_and_empty_lanes_are_forgotten() {
        let mut queue = queue(&[("a", "a1"), ("a", "a2"), ("b", "b1")]);
        queue.reserve("c");
        assert_eq!((queue.taken(), queue.taken_by("a"), queue.taken_by("c")), (4, 2, 1));
        assert_eq!(queue.remove("a", |item| *item == "a2"), Some("a2"));
        assert_eq!(queue.remove("a", |item| *item == "a2"), None);
        assert_eq!(queue.pop(), Some("a1"));
        assert_eq!((queue.waiting(), queue.running(), queue.reserved()), (1, 1, 1));
        assert_eq!(queue.clear(), ["b1"]);
        queue.release("c");
        queue.ended("a");
        assert_eq!((queue.taken(), queue.running(), queue.lanes.len()), (0, 0, 0));
    }
}
