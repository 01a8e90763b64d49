//! What one endpoint is posted, one task for each: a slow endpoint delays nobody else.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use portcullis_core::{ExecutionId, Outbox, Posting, Settled, StoreError};
use time::OffsetDateTime;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use super::dial::{Answer, Attempt, Dial};
use super::message::Message;
use super::secret::{SigningSecret, signatures};
use super::stats::Counters;
use crate::backoff::{Backoff, part_of};

/// Messages on their way to one endpoint at once. All others wait in the store.
const AT_ONCE: usize = 8;
/// How long a message is tried.
const LIFE: Duration = Duration::from_secs(24 * 3_600);
/// How often at least, when the service itself was away for longer than that.
const LEAST_ATTEMPTS: u32 = 5;
/// The wait after a message's first failure; then four times as long each time.
const FIRST_WAIT: Duration = Duration::from_secs(5);
const LONGEST_WAIT: Duration = Duration::from_secs(3 * 3_600);
/// Pauses of an endpoint that fails: one message at a time finds out whether it is back.
const PAUSES: Backoff = Backoff { first: Duration::from_secs(1), longest: Duration::from_secs(60) };
/// How many messages wait for one endpoint, at most, and what ends within a `ROUND`.
const MOST_WAITING: usize = 100_000;
/// How often what waits is looked over.
const ROUND: Duration = Duration::from_secs(60);
/// How often a disabled endpoint is looked up: somebody may have enabled it.
const DISABLED_ROUND: Duration = Duration::from_secs(5);
/// The first and the longest wait for a store that does not answer.
const STORE_WAITS: Backoff = Backoff { first: Duration::from_millis(250), longest: Duration::from_secs(15) };

/// Says what time it is; it may jump.
pub(crate) type Clock = Arc<dyn Fn() -> OffsetDateTime + Send + Sync>;

/// An endpoint and what is needed to post to it.
pub(crate) struct Endpoint {
    pub(crate) name: String,
    pub(crate) secrets: Vec<SigningSecret>,
    pub(crate) dial: Box<dyn Dial>,
    pub(crate) outbox: Arc<dyn Outbox>,
    /// The service's own URL, or nothing.
    pub(crate) base: String,
    pub(crate) clock: Clock,
    pub(crate) counters: Counters,
    /// Rung when something may have been made for it.
    pub(crate) bell: Notify,
}

/// What became of an attempt, for the lane.
struct Tried {
    n: u64,
    answer: Answer,
}

/// Whether the endpoint answers, as far as the latest attempts know.
#[derive(Default)]
struct Condition {
    /// Failures in a row.
    failures: u32,
    since: Option<Instant>,
    /// Nothing is tried before.
    paused_until: Option<Instant>,
}

impl Endpoint {
    /// Posts until it is told to stop; then what is under way is seen to its end.
    pub(crate) async fn run(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        let mut condition = Condition::default();
        let mut under_way = HashSet::new();
        let mut tries: JoinSet<Tried> = JoinSet::new();
        let mut looked_over = Instant::now();
        let mut first = true;
        loop {
            if *stop.borrow() {
                break;
            }
            let round = if self.is_disabled() { DISABLED_ROUND } else { ROUND };
            if looked_over.elapsed() >= round || first {
                self.look_over(&condition).await;
                looked_over = Instant::now();
                first = false;
            }
            let wake = if self.is_disabled() {
                looked_over + DISABLED_ROUND
            } else {
                self.take_up(&condition, &mut tries, &mut under_way).await
            };
            tokio::select! {
                Some(tried) = tries.join_next(), if !tries.is_empty() => match tried {
                    Ok(tried) => {
                        under_way.remove(&tried.n);
                        self.note(&mut condition, tried.answer).await;
                    }
                    // A panic of ours: which message it was is not known, so all may be taken up again.
                    Err(_) => under_way.clear(),
                },
                () = self.bell.notified() => {}
                () = sleep_until(wake) => {}
                _ = stop.changed() => {}
            }
        }
        while tries.join_next().await.is_some() {}
    }

    fn is_disabled(&self) -> bool {
        self.counters.disabled.load(Ordering::Relaxed)
    }

    /// Begins to post what is due, as far as there is room. Returns when to look again, if nothing happens before.
    async fn take_up(
        self: &Arc<Self>,
        condition: &Condition,
        tries: &mut JoinSet<Tried>,
        under_way: &mut HashSet<u64>,
    ) -> Instant {
        let now = Instant::now();
        if let Some(until) = condition.paused_until.filter(|until| *until > now) {
            // Not for longer, since the clock on the wall may jump, and what is made is bounded in a round.
            return until.min(now + ROUND);
        }
        let most = if condition.failures > 0 { 1 } else { AT_ONCE };
        if under_way.len() >= most {
            return now + ROUND;
        }
        let time = (self.clock)();
        // Those under way are due as well, and may come first.
        let due = match self.outbox.due(&self.name, time, most + under_way.len()).await {
            Ok(due) => due,
            Err(error) => {
                tracing::warn!(endpoint = self.name, reason = chain(&error), "postings cannot be read");
                return now + STORE_WAITS.longest;
            }
        };
        for posting in due.postings {
            if under_way.len() >= most {
                break;
            }
            if under_way.insert(posting.n) {
                tries.spawn(Arc::clone(self).try_once(posting));
            }
        }
        let until_next = due.next.map_or(ROUND, |next| Duration::try_from(next - time).unwrap_or_default());
        now + until_next.min(ROUND)
    }

    /// Makes an attempt, and keeps its place until what became of it is noted in the store.
    async fn try_once(self: Arc<Self>, posting: Posting) -> Tried {
        let n = posting.n;
        let Some(message) = Message::of(&posting.execution, &self.base) else {
            self.settle(n, Settled::Over).await;
            return Tried { n, answer: Answer::Taken };
        };
        let timestamp = (self.clock)().unix_timestamp();
        let attempt = Attempt {
            signatures: signatures(&self.secrets, &message.id, timestamp, &message.body),
            id: message.id,
            timestamp,
            body: message.body,
            trace: posting.execution.trace(),
        };
        self.counters.attempts.fetch_add(1, Ordering::Relaxed);
        let answer = self.dial.post(attempt).await;
        let id = &posting.execution.id;
        match &answer {
            Answer::Taken => {
                self.counters.delivered.fetch_add(1, Ordering::Relaxed);
                tracing::info!(endpoint = self.name, execution_id = %id, attempts = posting.attempts + 1, "posted");
                self.settle(n, Settled::Over).await;
            }
            // What waits for it is removed as a whole.
            Answer::Gone => {}
            Answer::Failed { problem, retry_after } => {
                self.counters.failed.fetch_add(1, Ordering::Relaxed);
                self.failed(&posting, id, problem, *retry_after).await;
            }
        }
        Tried { n, answer }
    }

    async fn failed(
        &self,
        posting: &Posting,
        id: &ExecutionId,
        problem: &str,
        retry_after: Option<Duration>,
    ) {
        let now = (self.clock)();
        let attempts = posting.attempts + 1;
        match next_attempt(posting.made_at, now, attempts, retry_after) {
            Some(next) => {
                tracing::debug!(endpoint = self.name, execution_id = %id, attempts, problem, %next, "not posted");
                self.settle(posting.n, Settled::Again(next)).await;
            }
            None => {
                self.counters.given_up.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(endpoint = self.name, execution_id = %id, attempts, problem, "given up");
                self.settle(posting.n, Settled::Over).await;
            }
        }
    }

    async fn settle(&self, n: u64, settled: Settled) {
        let mut failures = 0;
        while let Err(error) = self.outbox.settle(n, settled).await {
            tracing::warn!(endpoint = self.name, reason = chain(&error), "a posting is not noted yet");
            if !matches!(error, StoreError::Unavailable { .. }) {
                return;
            }
            failures += 1;
            sleep(STORE_WAITS.after(failures)).await;
        }
    }

    /// Takes what an attempt tells of the endpoint.
    async fn note(&self, condition: &mut Condition, answer: Answer) {
        match answer {
            Answer::Taken => {
                if condition.failures > 0 {
                    let outage_seconds = condition.since.map_or(0, |since| since.elapsed().as_secs());
                    tracing::info!(endpoint = self.name, outage_seconds, "the webhook is taken again");
                }
                *condition = Condition::default();
            }
            Answer::Gone => {
                self.counters.disabled.store(true, Ordering::Relaxed);
                let mut failures = 0;
                let dropped = loop {
                    match self.outbox.disable(&self.name, (self.clock)()).await {
                        Ok(dropped) => break dropped,
                        Err(error) => {
                            tracing::warn!(
                                endpoint = self.name,
                                reason = chain(&error),
                                "not noted as disabled yet"
                            );
                            failures += 1;
                            sleep(STORE_WAITS.after(failures)).await;
                        }
                    }
                };
                self.counters.dropped.fetch_add(dropped, Ordering::Relaxed);
                tracing::error!(
                    endpoint = self.name,
                    dropped,
                    "the webhook answered 410 and is disabled: `portcullis-server webhooks enable` takes that back"
                );
            }
            Answer::Failed { problem, retry_after } => {
                let now = Instant::now();
                if condition.failures == 0 {
                    condition.since = Some(now);
                    tracing::warn!(
                        endpoint = self.name,
                        problem,
                        "the webhook fails: what is to be posted waits"
                    );
                }
                condition.failures = condition.failures.saturating_add(1);
                let pause = PAUSES.after(condition.failures);
                let pause = (pause / 2 + part_of(pause / 2)).max(retry_after.unwrap_or_default().min(LIFE));
                let until = now + pause;
                condition.paused_until =
                    Some(condition.paused_until.map_or(until, |before| before.max(until)));
            }
        }
        self.counters.failing.store(condition.failures > 0, Ordering::Relaxed);
    }

    /// Looks over what waits: whether it is too much or too old, and whether the endpoint is enabled.
    async fn look_over(&self, condition: &Condition) {
        let now = (self.clock)();
        let looked = async {
            let disabled = self.outbox.disabled_since(&self.name).await?.is_some();
            if self.counters.disabled.swap(disabled, Ordering::Relaxed) != disabled {
                let state = if disabled { "disabled" } else { "enabled" };
                tracing::info!(endpoint = self.name, state, "the webhook");
            }
            let keep = if disabled { 0 } else { MOST_WAITING };
            // Of an endpoint that is away; else each has its attempts, however old it is.
            let away = condition.since.is_some_and(|since| since.elapsed() >= LIFE / 24);
            let made_before = away.then(|| now - LIFE - LIFE / 24);
            let removed = self.outbox.tidy(&self.name, keep, made_before, now + LIFE + LIFE / 24).await?;
            if removed > 0 {
                self.counters.dropped.fetch_add(removed, Ordering::Relaxed);
                tracing::warn!(
                    endpoint = self.name,
                    removed,
                    "too much waits for the webhook, or for too long"
                );
            }
            self.counters.waiting.store(self.outbox.waiting(&self.name).await?, Ordering::Relaxed);
            Ok::<(), StoreError>(())
        };
        if let Err(error) = looked.await {
            tracing::warn!(endpoint = self.name, reason = chain(&error), "what waits cannot be looked over");
        }
    }
}

/// Returns when a message is tried again; `None` when it has had its day.
fn next_attempt(
    made_at: OffsetDateTime,
    now: OffsetDateTime,
    attempts: u32,
    retry_after: Option<Duration>,
) -> Option<OffsetDateTime> {
    let end = made_at + LIFE;
    let longest =
        FIRST_WAIT.saturating_mul(4_u32.saturating_pow(attempts.saturating_sub(1))).min(LONGEST_WAIT);
    let wait = (longest / 2 + part_of(longest / 2)).max(retry_after.unwrap_or_default().min(LIFE));
    let next = now + wait;
    if now < end {
        // The last attempt is made when its day is over.
        return Some(next.min(end));
    }
    (attempts < LEAST_ATTEMPTS).then_some(next)
}

/// Writes an error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", chain(source)),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests;
