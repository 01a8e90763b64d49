//! On a paused clock: a day of failures takes no time.

use std::collections::VecDeque;
use std::sync::Mutex;

use async_trait::async_trait;
use portcullis_core::{Execution, ExecutionStore, NewExecution, Outbox, Provenance, Subscription};
use portcullis_store::MemoryStore;
use time::macros::datetime;
use tokio::time::advance;

use super::super::config::tests::secret;
use super::super::message::tests::execution;
use super::super::{RunningWebhooks as Running, WebhookConfig};
use super::*;

const START: OffsetDateTime = datetime!(2026-12-01 0:00 UTC);

/// What an endpoint was sent, and when; and what it answers.
#[derive(Default)]
struct Receiver {
    got: Mutex<Vec<(Duration, Attempt)>>,
    answers: Mutex<VecDeque<Answer>>,
    /// What it answers when those are used up; it takes everything otherwise.
    otherwise: Mutex<Option<Answer>>,
    /// How long it takes.
    slow: Mutex<Duration>,
    busy: Mutex<(usize, usize)>,
}

struct Dialled(Arc<Receiver>, Instant);

#[async_trait]
impl Dial for Dialled {
    async fn post(&self, attempt: Attempt) -> Answer {
        let receiver = &self.0;
        receiver.got.lock().unwrap().push((self.1.elapsed(), attempt));
        let slow = *receiver.slow.lock().unwrap();
        {
            let mut busy = receiver.busy.lock().unwrap();
            busy.0 += 1;
            busy.1 = busy.1.max(busy.0);
        }
        sleep(slow).await;
        receiver.busy.lock().unwrap().0 -= 1;
        let next = receiver.answers.lock().unwrap().pop_front();
        next.or_else(|| receiver.otherwise.lock().unwrap().clone()).unwrap_or(Answer::Taken)
    }
}

impl Receiver {
    fn times(&self) -> Vec<f64> {
        self.got.lock().unwrap().iter().map(|(at, _)| at.as_secs_f64()).collect()
    }

    fn count(&self) -> usize {
        self.got.lock().unwrap().len()
    }
}

fn failed(retry_after: Option<u64>) -> Answer {
    Answer::Failed { problem: "it answered 503".into(), retry_after: retry_after.map(Duration::from_secs) }
}

struct Ground {
    store: Arc<MemoryStore>,
    receivers: Vec<Arc<Receiver>>,
    running: Option<Running>,
    begun: Instant,
}

impl Ground {
    /// Starts with endpoints of these names.
    async fn new(names: &[&str]) -> Self {
        let store = Arc::new(MemoryStore::new());
        let subscriptions = names.iter().map(|name| Subscription {
            endpoint: (*name).into(),
            url: "https://x".into(),
            ..Subscription::default()
        });
        store.subscribe(subscriptions.collect()).await.unwrap();
        let receivers = names.iter().map(|_| Arc::default()).collect();
        let mut ground = Self { store, receivers, running: None, begun: Instant::now() };
        ground.start(names);
        ground
    }

    fn start(&mut self, names: &[&str]) {
        let begun = self.begun;
        let endpoints = names.iter().zip(&self.receivers).map(|(name, receiver)| {
            let config = WebhookConfig::new(*name, "https://x", vec![secret()]);
            (config, Box::new(Dialled(Arc::clone(receiver), begun)) as Box<dyn Dial>)
        });
        let clock: Clock = Arc::new(move || START + begun.elapsed());
        self.running = Some(Running::start(endpoints, self.store.clone(), "https://p.example", clock));
    }

    /// Ends an execution now.
    async fn ended(&self, id: &str) {
        let at = START + self.begun.elapsed();
        let Execution {
            id, owner, owner_name, command, fingerprint, programs, rules, limits, ending, ..
        } = execution(id, at);
        let new = NewExecution {
            id: id.clone(),
            owner,
            owner_name,
            command,
            fingerprint,
            programs,
            rules,
            limits,
            accepted_at: at,
            provenance: Provenance::default(),
            start: None,
        };
        self.store.accept(new).await.unwrap();
        self.store.finish(&id, ending.unwrap()).await.unwrap();
    }

    async fn waiting(&self, name: &str) -> u64 {
        self.store.waiting(name).await.unwrap()
    }
}

/// Lets time pass in small steps, so that everything that is due meanwhile happens.
async fn pass(time: Duration) {
    sleep(time).await;
}

fn minutes(minutes: u64) -> Duration {
    Duration::from_secs(60 * minutes)
}

#[tokio::test(start_paused = true)]
async fn an_ending_is_posted_at_once_signed_and_gone_from_the_store() {
    let ground = Ground::new(&["ci"]).await;
    ground.ended("a").await;
    pass(Duration::from_millis(10)).await;
    let (_, attempt) = ground.receivers[0].got.lock().unwrap()[0].clone();
    assert_eq!(attempt.timestamp, START.unix_timestamp());
    let signed = secret().sign(&attempt.id, attempt.timestamp, &attempt.body);
    assert_eq!(attempt.signatures, signed);
    assert!(String::from_utf8_lossy(&attempt.body).contains("https://p.example/api/commands/a/output"));
    assert_eq!(ground.waiting("ci").await, 0);
    let stats = ground.running.as_ref().unwrap().watch().stats();
    assert_eq!((stats[0].attempts, stats[0].delivered, stats[0].failed), (1, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_message_is_tried_over_a_day_with_longer_and_longer_waits_under_one_id() {
    let ground = Ground::new(&["ci"]).await;
    *ground.receivers[0].otherwise.lock().unwrap() = Some(failed(None));
    ground.ended("a").await;
    pass(Duration::from_secs(24 * 3_600 + 120)).await;
    let times = ground.receivers[0].times();
    assert!((12..=24).contains(&times.len()), "{times:?}");
    let waits: Vec<f64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    for (n, wait) in waits.iter().enumerate().take(waits.len() - 1) {
        let longest = (5.0 * 4_f64.powi(i32::try_from(n).unwrap())).min(10_800.0);
        assert!((longest / 2.0 - 0.1..=longest + 1.1).contains(wait), "{n}: {waits:?}");
    }
    // The last one is made when the day is over; then it is given up.
    assert!((86_400.0..86_470.0).contains(times.last().unwrap()), "{times:?}");
    assert_eq!(ground.waiting("ci").await, 0);
    let got = ground.receivers[0].got.lock().unwrap();
    assert!(got.iter().all(|(_, attempt)| attempt.id == got[0].1.id && attempt.body == got[0].1.body));
    for (at, attempt) in got.iter() {
        assert_eq!(attempt.timestamp, (START + *at).unix_timestamp(), "new for each attempt");
    }
    let stats = ground.running.as_ref().unwrap().watch().stats();
    assert_eq!((stats[0].given_up, stats[0].failing), (1, true));
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_asks_for_time_gets_it() {
    let ground = Ground::new(&["ci"]).await;
    ground.receivers[0].answers.lock().unwrap().push_back(failed(Some(1_000)));
    ground.ended("a").await;
    pass(minutes(5)).await;
    // Also for what ends meanwhile.
    ground.ended("b").await;
    pass(minutes(11)).await;
    assert_eq!(ground.receivers[0].count(), 1);
    pass(minutes(2)).await;
    assert_eq!(ground.receivers[0].count(), 3);
    assert!(ground.receivers[0].times()[1..].iter().all(|at| (1_000.0..1_001.0).contains(at)));
    assert_eq!(ground.waiting("ci").await, 0);
}

#[tokio::test(start_paused = true)]
async fn no_endpoint_can_ask_for_more_than_the_messages_day() {
    let ground = Ground::new(&["ci"]).await;
    ground.receivers[0].answers.lock().unwrap().push_back(failed(Some(u64::MAX)));
    ground.ended("a").await;
    pass(Duration::from_secs(24 * 3_600 + 120)).await;
    let times = ground.receivers[0].times();
    assert_eq!(times.len(), 2, "{times:?}");
    assert!((86_400.0..86_470.0).contains(&times[1]), "{times:?}");
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_is_gone_is_disabled_until_somebody_enables_it() {
    let mut ground = Ground::new(&["ci", "other"]).await;
    ground.receivers[0].answers.lock().unwrap().push_back(Answer::Gone);
    ground.ended("a").await;
    pass(minutes(1)).await;
    ground.ended("b").await;
    pass(minutes(60)).await;
    assert_eq!((ground.receivers[0].count(), ground.receivers[1].count()), (1, 2));
    assert_eq!(ground.waiting("ci").await, 0);
    assert!(ground.running.as_ref().unwrap().watch().stats()[0].disabled);

    // A restart changes nothing of it.
    ground.running = None;
    ground.start(&["ci", "other"]);
    ground.ended("c").await;
    pass(minutes(60)).await;
    assert_eq!((ground.receivers[0].count(), ground.receivers[1].count()), (1, 3));
    assert!(ground.running.as_ref().unwrap().watch().stats()[0].disabled);
}

#[tokio::test(start_paused = true)]
async fn a_slow_endpoint_has_so_many_messages_under_way_and_delays_no_other() {
    let ground = Ground::new(&["slow", "fast"]).await;
    *ground.receivers[0].slow.lock().unwrap() = Duration::from_secs(15);
    for n in 0..100 {
        ground.ended(&format!("e{n}")).await;
    }
    pass(Duration::from_millis(100)).await;
    assert_eq!((ground.receivers[0].count(), ground.receivers[1].count()), (AT_ONCE, 100));
    pass(minutes(4)).await;
    assert_eq!(ground.receivers[0].count(), 100);
    assert_eq!(ground.receivers[0].busy.lock().unwrap().1, AT_ONCE);
    assert_eq!(ground.waiting("slow").await, 0);
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_fails_is_asked_by_one_message_at_a_time_until_it_is_back() {
    let ground = Ground::new(&["ci"]).await;
    *ground.receivers[0].otherwise.lock().unwrap() = Some(failed(None));
    for n in 0..200 {
        ground.ended(&format!("e{n}")).await;
    }
    pass(minutes(60)).await;
    let tried = ground.receivers[0].count();
    assert!((60..160).contains(&tried), "{tried} attempts in an hour");
    *ground.receivers[0].otherwise.lock().unwrap() = None;
    // Those that were tried wait their time, the others go at once.
    pass(minutes(2)).await;
    assert!(ground.waiting("ci").await < 200 - 30, "{}", ground.waiting("ci").await);
    pass(minutes(200)).await;
    assert_eq!(ground.waiting("ci").await, 0);
    assert!(!ground.running.as_ref().unwrap().watch().stats()[0].failing);
}

#[tokio::test(start_paused = true)]
async fn a_message_that_fails_alone_does_not_hold_up_the_others() {
    let ground = Ground::new(&["ci"]).await;
    ground.receivers[0].answers.lock().unwrap().extend([failed(None), Answer::Taken, failed(None)]);
    ground.ended("a").await;
    pass(Duration::from_millis(1)).await;
    ground.ended("b").await;
    pass(Duration::from_secs(2)).await;
    assert_eq!(ground.waiting("ci").await, 1);
    pass(minutes(1)).await;
    assert_eq!(ground.waiting("ci").await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_service_that_was_away_for_days_still_posts_what_waits() {
    let mut ground = Ground::new(&["ci"]).await;
    ground.running = None;
    ground.ended("a").await;
    advance(Duration::from_secs(3 * 24 * 3_600)).await;
    ground.receivers[0].answers.lock().unwrap().extend((0..4).map(|_| failed(None)));
    ground.start(&["ci"]);
    pass(minutes(15)).await;
    assert_eq!((ground.receivers[0].count(), ground.waiting("ci").await), (5, 0));
    assert_eq!(ground.running.as_ref().unwrap().watch().stats()[0].delivered, 1);
}

#[tokio::test(start_paused = true)]
async fn what_is_under_way_at_the_end_is_seen_to_and_nothing_is_begun() {
    let mut ground = Ground::new(&["ci"]).await;
    *ground.receivers[0].slow.lock().unwrap() = Duration::from_secs(3);
    for n in 0..20 {
        ground.ended(&format!("e{n}")).await;
    }
    pass(Duration::from_secs(1)).await;
    ground.running.take().unwrap().stop(Duration::from_secs(5)).await;
    assert_eq!((ground.receivers[0].count(), ground.waiting("ci").await), (AT_ONCE, 20 - AT_ONCE as u64));
    ground.start(&["ci"]);
    pass(minutes(1)).await;
    assert_eq!((ground.receivers[0].count(), ground.waiting("ci").await), (20, 0));
}

#[test]
fn a_message_of_the_future_is_tried_as_any_other() {
    // As after a clock that was set back.
    let next = next_attempt(START + Duration::from_secs(86_400 * 365), START, 1, None).unwrap();
    assert!(next <= START + FIRST_WAIT);
}
