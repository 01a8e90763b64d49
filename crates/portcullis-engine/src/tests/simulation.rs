//! Seeded histories: principals submit, repeat, cancel, watch and hang up, cells die, the store and the
//! listener go away and come back, the service drains or is killed and starts again; and every promise is
//! checked after each. A failure names its seed.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use portcullis_core::*;

use super::doubles::*;
use crate::{Config, SubmitError, Submitted, Watch, WatchEvent};

/// Ids that callers choose from, so that they meet.
const IDS: u64 = 25;

/// SplitMix64: small, and the same everywhere.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides
    }

    fn line(&mut self, n: u64) -> String {
        match self.roll(8) {
            0..=2 => format!("echo {n}"),
            3 => format!("fail {}", self.roll(5)),
            4 => format!("sleep {}", self.roll(4)),
            5 => format!("chat {}", self.roll(40)),
            6 => format!("die {n}"),
            _ => "rm x".into(),
        }
    }
}

/// Follows a watch and checks that it is whole.
async fn follow(mut watch: Watch) -> (Vec<u64>, Option<Execution>) {
    let mut seen = Vec::new();
    loop {
        match watch.next().await {
            Ok(Some(WatchEvent::Status(_))) => {}
            Ok(Some(WatchEvent::Output(chunk))) => seen.push(chunk.seq),
            Ok(Some(WatchEvent::Ended(record))) => {
                assert!(matches!(watch.next().await, Ok(None)));
                return (seen, Some(*record));
            }
            Ok(None) => return (seen, None),
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

type Follower = (ExecutionId, tokio::task::JoinHandle<(Vec<u64>, Option<Execution>)>);

/// What outlives a life of the service.
struct World {
    dice: Dice,
    journal: Journal,
    store: Arc<FaultyStore>,
    acknowledged: HashMap<ExecutionId, Fingerprint>,
}

/// Settings of a life; in most of them what need not wait is started by its acceptance.
fn config(capacity: usize) -> Config {
    let confinement = (capacity != 2).then(confinement);
    Config { queue_limit: 12, queue_limit_per_principal: 6, flush_bytes: 8, confinement, ..Config::default() }
}

impl World {
    async fn start(&self, capacity: usize) -> Arc<Service> {
        Arc::new(Service::on(self.store.clone(), self.journal.clone(), capacity, config(capacity)).await)
    }

    /// One life, from the start to the drain.
    async fn live(&mut self, followers: &mut Vec<Follower>) {
        let capacity = 1 + usize::try_from(self.dice.roll(3)).unwrap();
        let service = self.start(capacity).await;
        for n in 0..10 + self.dice.roll(30) {
            self.act(&service, n, followers).await;
        }
        self.store.set_away(false);
        service.engine.drain(Duration::from_secs(self.dice.roll(8))).await;
        assert_eq!((service.engine.load().queued, service.engine.load().running), (0, 0));
    }

    async fn act(&mut self, service: &Arc<Service>, n: u64, followers: &mut Vec<Follower>) {
        let dice = &mut self.dice;
        let who = principal(["ann", "bob", "cy"][usize::try_from(dice.roll(3)).unwrap()]);
        let x = id(&format!("x{}", dice.roll(IDS)));
        match dice.roll(14) {
            0..=6 => {
                let submit = service.engine.submit(&who, Some(x.clone()), Submission::of(dice.line(n)));
                if dice.roll(8) == 0 {
                    // Hangs up at once: acknowledged or not, it must be whole.
                    let _ = tokio::time::timeout(Duration::ZERO, submit).await;
                    return;
                }
                match submit.await {
                    Ok(Submitted::New(record)) => {
                        assert_eq!(self.acknowledged.insert(x, record.fingerprint), None);
                    }
                    Ok(Submitted::Same(record)) => assert_eq!(record.owner, who.id),
                    Err(SubmitError::Draining) => panic!("nobody drained"),
                    Err(_) => {}
                }
            }
            7 => {
                let service = Arc::clone(service);
                tokio::spawn(async move { service.engine.cancel(&who, &x).await.is_ok() });
            }
            8 => {
                if let Ok(watch) = service.engine.watch(&who, &x, 0).await {
                    followers.push((x, tokio::spawn(follow(watch))));
                }
            }
            9 => self.store.set_away(dice.roll(2) == 0),
            10 => service.listener.away.store(dice.roll(3) == 0, Ordering::SeqCst),
            11 => {
                let next = self.store.calls() + 1;
                let failing = (0..dice.roll(4)).map(|_| next + usize::try_from(dice.roll(12)).unwrap());
                self.store.failing.lock().unwrap().extend(failing);
            }
            _ => tokio::time::sleep(Duration::from_millis(dice.roll(1_500))).await,
        }
    }

    /// Lets the store work again, and chooses where in the next life the service is killed, if it is.
    fn mend(&mut self, killing: bool) {
        self.store.set_away(false);
        self.store.failing.lock().unwrap().clear();
        let cut = if self.dice.roll(2) == 0 { Cut::Before } else { Cut::After };
        let at = self.store.calls() + 1 + usize::try_from(self.dice.roll(120)).unwrap();
        *self.store.cut.lock().unwrap() = killing.then_some((at, cut));
    }

    async fn check(&self, kills: usize) {
        let lines = self.journal.lines();
        for (x, fingerprint) in &self.acknowledged {
            let record = self.store.inner.read(x).await.unwrap().expect("what was acknowledged is recorded");
            assert_eq!(record.fingerprint, *fingerprint);
        }
        for n in 0..IDS {
            let x = id(&format!("x{n}"));
            let of = |what: &str| {
                let begin = format!("{what} {x} ");
                lines.iter().filter(|line| format!("{line} ").starts_with(&begin)).count()
            };
            assert!(of("claim") <= 1, "{x} was claimed twice");
            let Some(record) = self.store.inner.read(&x).await.unwrap() else {
                assert_eq!((of("announce"), of("conclude")), (0, 0), "{x} is told and not recorded");
                continue;
            };
            assert!(record.status.is_terminal(), "{x}, acknowledged or not, has its ending");
            let told = format!("conclude {x} {}", record.status.as_str());
            let times = lines.iter().filter(|line| **line == told).count();
            assert_eq!(of("conclude"), times, "{x} is told in one way");
            assert!((1..=1 + kills).contains(&times), "{x} is told {times} times, with {kills} kills");
            let first = lines.iter().position(|line| *line == told);
            let announced = lines.iter().rposition(|line| line.starts_with(&format!("announce {x} ")));
            assert!(announced < first, "{x}: the end is told last");
        }
    }
}

fn history(seed: u64) {
    let runtime =
        || tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let journal = Journal::default();
    let store = FaultyStore::new(&journal);
    let mut world = World { dice: Dice(seed), journal, store, acknowledged: HashMap::new() };
    let mut kills = 0;
    for _life in 0..=world.dice.roll(3) {
        let killing = world.dice.roll(2) == 0;
        world.mend(killing);
        let mut followers = Vec::new();
        runtime().block_on(async {
            let store = Arc::clone(&world.store);
            let killed = tokio::select! {
                biased;
                () = store.killed() => true,
                () = world.live(&mut followers) => false,
            };
            // Dropped with all its tasks at the end of this block, when it was killed.
            kills += usize::from(killed);
            if killed {
                return;
            }
            // What the drain had to leave open is ended by the next start, which some watches wait for.
            world.mend(false);
            let next = world.start(1).await;
            next.all_told().await;
            for (x, follower) in followers {
                let (seen, ended) = follower.await.unwrap();
                let record = world.store.inner.read(&x).await.unwrap().unwrap();
                assert_eq!(seen, (1..=record.last_seq).collect::<Vec<_>>(), "{x}: no gap, no repetition");
                assert_eq!(ended, Some(record));
            }
            next.engine.drain(Duration::ZERO).await;
        });
    }
    world.mend(false);
    runtime().block_on(async {
        let last = world.start(1).await;
        last.all_told().await;
        world.check(kills).await;
    });
}

/// `PORTCULLIS_SEED=N` runs one history, `PORTCULLIS_SEEDS=N` so many.
#[test]
fn histories_of_many_seeds_keep_every_promise() {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seeds = match number("PORTCULLIS_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("PORTCULLIS_SEEDS").unwrap_or(400),
    };
    for seed in seeds {
        let told = std::panic::catch_unwind(|| history(seed));
        assert!(told.is_ok(), "the history of PORTCULLIS_SEED={seed} broke a promise");
    }
}
