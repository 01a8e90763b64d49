use std::collections::HashSet;
use std::sync::Mutex;

use serde_json::Value;
use tokio::time::advance;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// A peer that takes some time for each post and then answers as its rule says.
struct Peer {
    rule: Box<dyn Fn(&Value) -> Reply + Send + Sync>,
    takes: Duration,
    posts: Mutex<Vec<(Duration, Value, Reply)>>,
    under_way: Mutex<HashSet<String>>,
    begun: Instant,
}

impl Peer {
    fn new(takes: Duration, rule: impl Fn(&Value) -> Reply + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self {
            rule: Box::new(rule),
            takes,
            posts: Mutex::default(),
            under_way: Mutex::default(),
            begun: Instant::now(),
        })
    }

    fn taking(takes: Duration) -> Arc<Self> {
        Self::new(takes, |_| Reply::Taken)
    }

    /// Gives no answer until `for_long` has passed.
    fn absent(for_long: Duration) -> Arc<Self> {
        let begun = Instant::now();
        Self::new(
            Duration::ZERO,
            move |_| if begun.elapsed() < for_long { no_answer() } else { Reply::Taken },
        )
    }

    fn notifier(self: &Arc<Self>) -> SocketServiceNotifier {
        self.notifier_with(SocketConfig::new("http://unused"))
    }

    fn notifier_with(self: &Arc<Self>, config: SocketConfig) -> SocketServiceNotifier {
        SocketServiceNotifier::posting(Box::new(Posting(self.clone())), config, None)
    }

    /// What it has taken, as `status progress`.
    fn taken(&self) -> Vec<String> {
        let posts = self.posts.lock().unwrap();
        posts
            .iter()
            .filter(|(_, _, reply)| *reply == Reply::Taken)
            .map(|(_, update, _)| format!("{} {}", update["status"].as_str().unwrap(), update["progress"]))
            .collect()
    }

    fn posts(&self) -> usize {
        self.posts.lock().unwrap().len()
    }
}

struct Posting(Arc<Peer>);

#[async_trait]
impl Post for Posting {
    async fn post(&self, body: Bytes, _trace: Option<&TraceContext>, deadline: Duration) -> Reply {
        let peer = &self.0;
        let update: Value = serde_json::from_slice(&body).unwrap();
        let id = update["executionId"].as_str().unwrap().to_owned();
        assert!(peer.under_way.lock().unwrap().insert(id.clone()), "two posts of `{id}` at once");
        let _ends = Ends(&peer.under_way, id);
        sleep(peer.takes.min(deadline)).await;
        let reply = if peer.takes < deadline { (peer.rule)(&update) } else { no_answer() };
        peer.posts.lock().unwrap().push((peer.begun.elapsed(), update, reply.clone()));
        reply
    }
}

struct Ends<'a>(&'a Mutex<HashSet<String>>, String);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.lock().unwrap().remove(&self.1);
    }
}

fn no_answer() -> Reply {
    Reply::NoAnswer { problem: "connection refused".into() }
}

fn running(id: &str, progress: u8) -> Update {
    Update {
        id: ExecutionId::parse(id).unwrap(),
        status: Status::Running,
        progress,
        output: Some(format!("line {progress}")),
        error: None,
        trace: None,
    }
}

fn completed(id: &str) -> Update {
    Update { status: Status::Completed, progress: 100, ..running(id, 100) }
}

#[tokio::test(start_paused = true)]
async fn start_progress_and_end_arrive_in_order_one_at_a_time() {
    let peer = Peer::taking(Duration::from_millis(30));
    let notifier = peer.notifier();
    notifier.announce(running("a", 1));
    sleep(SECOND).await;
    notifier.announce(running("a", 50));
    sleep(SECOND).await;
    notifier.conclude(completed("a")).await.unwrap();
    assert_eq!(peer.taken(), ["running 1", "running 50", "completed 100"]);
}

#[tokio::test(start_paused = true)]
async fn of_many_updates_the_newest_is_sent_ten_times_a_second() {
    let peer = Peer::taking(Duration::from_millis(5));
    let notifier = peer.notifier();
    for millis in 0..2_000_u32 {
        notifier.announce(running("a", u8::try_from(millis / 25).unwrap()));
        sleep(Duration::from_millis(1)).await;
    }
    let posts: Vec<u64> = peer
        .posts
        .lock()
        .unwrap()
        .iter()
        .map(|(_, update, _)| update["progress"].as_u64().unwrap())
        .collect();
    assert!((19..=21).contains(&posts.len()), "{posts:?}");
    assert!(posts.is_sorted());
    sleep(SECOND).await;
    assert_eq!(peer.taken().last().unwrap(), "running 79", "the last one is not forgotten");
    let stats = notifier.stats();
    assert_eq!(stats.replaced + stats.delivered, 2_000);
    assert_eq!(stats.pending, 0);
}

#[tokio::test(start_paused = true)]
async fn the_end_waits_for_the_start_and_makes_pending_progress_superfluous() {
    let peer = Peer::taking(Duration::from_millis(200));
    let notifier = peer.notifier();
    notifier.announce(running("a", 1));
    notifier.announce(running("a", 20));
    notifier.announce(running("a", 30));
    notifier.conclude(completed("a")).await.unwrap();
    sleep(SECOND).await;
    assert_eq!(peer.taken(), ["running 1", "completed 100"]);
    assert_eq!(notifier.stats().replaced, 2);
}

#[tokio::test(start_paused = true)]
async fn the_end_waits_for_progress_that_is_under_way() {
    let peer = Peer::taking(Duration::from_millis(200));
    let notifier = peer.notifier();
    notifier.announce(running("a", 1));
    sleep(Duration::from_millis(250)).await;
    notifier.announce(running("a", 20));
    sleep(Duration::from_millis(100)).await; // it is being posted
    notifier.conclude(completed("a")).await.unwrap();
    assert_eq!(peer.taken(), ["running 1", "running 20", "completed 100"]);
}

#[tokio::test(start_paused = true)]
async fn what_is_announced_after_the_end_is_not_sent() {
    let peer = Peer::taking(Duration::from_millis(200));
    let notifier = Arc::new(peer.notifier());
    let end = tokio::spawn({
        let notifier = notifier.clone();
        async move { notifier.conclude(completed("a")).await }
    });
    sleep(Duration::from_millis(100)).await;
    notifier.announce(running("a", 50)); // while the end is under way
    end.await.unwrap().unwrap();
    notifier.announce(running("a", 60)); // and behind it
    sleep(SECOND).await;
    assert_eq!(peer.taken(), ["completed 100"]);
    assert_eq!(notifier.stats().dropped_as_late, 2);
    assert_eq!(notifier.stats().pending, 0);
}

#[tokio::test(start_paused = true)]
async fn an_end_is_delivered_after_hours_of_absence() {
    let absence = Duration::from_secs(3 * 3_600);
    let peer = Peer::absent(absence);
    let notifier = peer.notifier();
    let begun = Instant::now();
    notifier.conclude(completed("a")).await.unwrap();
    assert_eq!(peer.taken(), ["completed 100"]);
    assert!(begun.elapsed() < absence + 46 * SECOND, "{:?}", begun.elapsed());
    assert!(peer.posts() < 3 * 3_600 / 10, "{} tries are a storm", peer.posts());
}

#[tokio::test(start_paused = true)]
async fn many_ends_wait_without_a_storm_and_are_all_delivered() {
    let peer = Peer::absent(3_600 * SECOND);
    let notifier = Arc::new(peer.notifier());
    let begun = Instant::now();
    let ends: Vec<_> = (0..500)
        .map(|n| {
            let notifier = notifier.clone();
            tokio::spawn(async move { notifier.conclude(completed(&format!("e{n}"))).await })
        })
        .collect();
    sleep(1_800 * SECOND).await;
    assert_eq!(notifier.stats().concluding, 500);
    for end in ends {
        end.await.unwrap().unwrap();
    }
    assert!(begun.elapsed() < 3_600 * SECOND + 46 * SECOND, "{:?}", begun.elapsed());
    assert_eq!(peer.taken().len(), 500);
    // One pause after another, each ended by the first who tries; and once each at the beginning at most.
    assert!(peer.posts() - 500 < 1_000, "{} tries are a storm", peer.posts() - 500);
    assert_eq!(notifier.stats().pending, 0);
}

#[tokio::test(start_paused = true)]
async fn progress_in_an_outage_is_dropped_without_a_try_and_counted() {
    let peer = Peer::absent(60 * SECOND);
    let notifier = peer.notifier();
    for n in 0..600 {
        notifier.announce(running("a", u8::try_from(n / 10).unwrap()));
        sleep(Duration::from_millis(100)).await;
    }
    let stats = notifier.stats();
    assert!(stats.outage && stats.posts < 15, "{stats:?}");
    assert_eq!(stats.dropped_in_outage + stats.replaced, 600);
    sleep(31 * SECOND).await;
    notifier.announce(running("a", 80));
    sleep(SECOND).await;
    assert_eq!(peer.taken(), ["running 80"]);
    assert!(!notifier.stats().outage);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_for_good_is_reported_and_blocks_nobody() {
    for status in [400, 413] {
        let peer = Peer::new(Duration::ZERO, move |update| {
            if update["executionId"] == "bad" { Reply::Refused { status } } else { Reply::Taken }
        });
        let notifier = peer.notifier();
        let error = notifier.conclude(completed("bad")).await.unwrap_err();
        assert!(error.to_string().contains(&status.to_string()), "{error}");
        notifier.conclude(completed("good")).await.unwrap();
        assert_eq!(peer.posts(), 2, "no second try");
        assert!(!notifier.stats().outage);
    }
}

#[tokio::test(start_paused = true)]
async fn an_update_that_always_fails_is_tried_ever_more_rarely_and_blocks_nobody() {
    for reply in [Reply::NotNow { status: 500, retry_after: None }, no_answer()] {
        let peer = Peer::new(Duration::ZERO, move |update| {
            if update["executionId"] == "bad" { reply.clone() } else { Reply::Taken }
        });
        let notifier = Arc::new(peer.notifier());
        let bad = tokio::spawn({
            let notifier = notifier.clone();
            async move { notifier.conclude(completed("bad")).await }
        });
        let mut good = 0;
        while peer.begun.elapsed() < 60 * SECOND {
            notifier.conclude(completed(&format!("good{good}"))).await.unwrap();
            good += 1;
            sleep(Duration::from_millis(100)).await;
        }
        bad.abort();
        let tries = peer.posts() - good;
        // Pauses are drawn at random: of 600 that nobody blocks, some wait for one of them.
        assert!(good > 400 && tries <= 12, "{good} good ones; {tries} tries in a minute");
    }
}

#[tokio::test(start_paused = true)]
async fn the_peer_is_left_alone_for_as_long_as_it_asks() {
    let begun = Instant::now();
    let peer = Peer::new(Duration::ZERO, move |_| {
        if begun.elapsed() < 90 * SECOND {
            Reply::NotNow { status: 429, retry_after: Some(100 * SECOND) }
        } else {
            Reply::Taken
        }
    });
    let notifier = peer.notifier();
    notifier.conclude(completed("a")).await.unwrap();
    assert_eq!(peer.posts(), 2);
    assert!(begun.elapsed() >= 100 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_delivery_given_up_can_be_asked_for_again() {
    let peer = Peer::absent(60 * SECOND);
    let notifier = peer.notifier();
    notifier.announce(running("a", 1));
    for _ in 0..5 {
        assert!(timeout(5 * SECOND, notifier.conclude(completed("a"))).await.is_err());
        sleep(Duration::from_millis(1)).await;
        assert_eq!(notifier.stats().pending, 0, "nothing is left of it");
    }
    advance(60 * SECOND).await;
    notifier.conclude(completed("a")).await.unwrap();
    assert_eq!(peer.taken(), ["completed 100"]);
}

#[tokio::test(start_paused = true)]
async fn a_slow_peer_gets_no_more_posts_at_once_than_configured() {
    let peer = Peer::taking(SECOND);
    let config = SocketConfig { posts_at_once: 4, ..SocketConfig::new("http://unused") };
    let notifier = Arc::new(peer.notifier_with(config));
    let ends: Vec<_> = (0..40)
        .map(|n| {
            let notifier = notifier.clone();
            tokio::spawn(async move { notifier.conclude(completed(&format!("e{n}"))).await })
        })
        .collect();
    sleep(Duration::from_millis(500)).await;
    assert_eq!(peer.under_way.lock().unwrap().len(), 4);
    for end in ends {
        end.await.unwrap().unwrap();
    }
    assert_eq!(peer.begun.elapsed(), 10 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_answers_late_is_waited_for() {
    let peer = Peer::taking(25 * SECOND);
    peer.notifier().conclude(completed("a")).await.unwrap();
    assert_eq!(peer.posts(), 4, "after 5, 10 and 20 s, 40 are given");
}

#[tokio::test(start_paused = true)]
async fn too_many_executions_lose_progress_and_no_end() {
    let peer = Peer::taking(Duration::from_millis(50));
    let config = SocketConfig { max_pending: 10, ..SocketConfig::new("http://unused") };
    let notifier = peer.notifier_with(config);
    for n in 0..15 {
        notifier.announce(running(&format!("e{n}"), 1));
    }
    assert_eq!(notifier.stats().dropped_as_too_many, 5);
    for n in 0..15 {
        notifier.conclude(completed(&format!("e{n}"))).await.unwrap();
    }
    assert_eq!(peer.taken().iter().filter(|taken| *taken == "completed 100").count(), 15);
}

#[tokio::test(start_paused = true)]
async fn what_has_no_word_at_the_peer_is_not_announced() {
    let peer = Peer::taking(Duration::ZERO);
    let notifier = peer.notifier();
    notifier.announce(Update { status: Status::Scheduled, ..running("a", 0) });
    notifier.announce(completed("a"));
    sleep(SECOND).await;
    assert_eq!(peer.posts(), 0);
}
