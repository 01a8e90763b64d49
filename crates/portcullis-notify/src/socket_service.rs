use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use portcullis_core::{CallResult, Calls, ExecutionId, Notifier, NotifyError, Status, TraceContext, Update};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::backoff::{Backoff, MAX_RETRY_AFTER, part_of};
use crate::config::{InvalidSocketConfig, SocketConfig};
use crate::lanes::{Lanes, Put, Turn};
use crate::message::encode;
use crate::outage::Outage;
use crate::post::{HttpPost, Post, Reply};
use crate::shorten::shorten;
use crate::stats::{Counters, SocketStats, count};

/// The first wait that the end of an outage does not cut short. It doubles each time one is cut short, for a
/// body that breaks the connection by itself must not be tried again with every success of the others.
const FIRM_WAIT: Duration = Duration::from_secs(1);

/// How often the deadline of a terminal update's post is doubled when it fails: a peer that takes an update
/// but answers late would otherwise be given it for ever.
const DEADLINE_DOUBLINGS: u32 = 3;

/// Posts updates to the Socket Service: `POST {base}/api/execution-status`.
///
/// - The first update of an execution is sent at once; of those that follow, the newest, at most one each
///   `progress_interval`. What cannot be sent then is dropped and counted.
/// - The terminal update waits for the post that is under way and for a first update that is not sent yet;
///   pending progress gives way to it, for it replaces what the peer has.
/// - It is then tried until the peer takes it, or answers 400, 413, 415 or 422: refused for good.
///
/// A post without an answer may have arrived, so an update can arrive twice; and one that its peer acts on
/// long after its deadline can arrive after the next. Nothing in the peer's protocol would let it tell.
///
/// `announce` must be called within a tokio runtime.
pub struct SocketServiceNotifier {
    shared: Arc<Shared>,
}

struct Shared {
    peer: Box<dyn Post>,
    config: SocketConfig,
    lanes: Arc<Lanes>,
    outage: Outage,
    slots: Semaphore,
    counters: Counters,
    calls: Option<Arc<dyn Calls>>,
}

impl SocketServiceNotifier {
    /// Makes one; the peer need not be there yet.
    ///
    /// # Errors
    /// When the base URL cannot be used, or a bound leaves no room.
    pub fn new(config: SocketConfig) -> Result<Self, InvalidSocketConfig> {
        let target = config.check()?;
        let peer = HttpPost::new(target, config.deadline);
        Ok(Self::posting(Box::new(peer), config, None))
    }

    /// The same, with somebody who is told of each post.
    ///
    /// # Errors
    /// As [`SocketServiceNotifier::new`].
    pub fn observed(config: SocketConfig, calls: Arc<dyn Calls>) -> Result<Self, InvalidSocketConfig> {
        let target = config.check()?;
        let peer = HttpPost::new(target, config.deadline);
        Ok(Self::posting(Box::new(peer), config, Some(calls)))
    }

    fn posting(peer: Box<dyn Post>, config: SocketConfig, calls: Option<Arc<dyn Calls>>) -> Self {
        Self {
            shared: Arc::new(Shared {
                peer,
                lanes: Arc::new(Lanes::new(config.max_pending)),
                outage: Outage::new(backoff(&config)),
                slots: Semaphore::new(config.posts_at_once),
                counters: Counters::default(),
                calls,
                config,
            }),
        }
    }

    /// Returns what has been done so far, and what is pending.
    #[must_use]
    pub fn stats(&self) -> SocketStats {
        let (pending, concluding) = self.shared.lanes.count();
        SocketStats { pending, concluding, outage: self.shared.outage.is_on(), ..self.shared.counters.read() }
    }
}

fn backoff(config: &SocketConfig) -> Backoff {
    Backoff { first: config.first_retry, longest: config.longest_retry }
}

#[async_trait]
impl Notifier for SocketServiceNotifier {
    /// Passes over what is not `running`: the peer's consumers know nothing before it, and terminal updates
    /// are concluded.
    fn announce(&self, mut update: Update) {
        let shared = &self.shared;
        if update.status != Status::Running {
            return;
        }
        if shared.outage.pauses() {
            return shared.drop_in_outage();
        }
        // What waits must be small; that it fits once it is escaped is seen to when it is sent.
        for text in [&mut update.output, &mut update.error].into_iter().flatten() {
            if text.len() > shared.config.max_body_bytes {
                *text = shorten(text, shared.config.max_body_bytes).into_owned();
            }
        }
        let id = update.id.clone();
        match shared.lanes.put(update) {
            Put::Fresh(turn) => {
                tokio::spawn(Arc::clone(shared).work(id, turn));
            }
            Put::Pending => {}
            Put::Replaced => count(&shared.counters.replaced),
            Put::TooMany => count(&shared.counters.dropped_as_too_many),
            Put::Late => count(&shared.counters.dropped_as_late),
        }
    }

    async fn conclude(&self, update: Update) -> Result<(), NotifyError> {
        let shared = &self.shared;
        let body = encode(&update, shared.config.max_body_bytes);
        let (id, trace) = (update.id.clone(), update.trace.clone());
        drop(update); // its output may be far longer than the body, and the wait long

        let (conclusion, superfluous) = shared.lanes.conclude(&id);
        for _ in 0..superfluous {
            count(&shared.counters.replaced);
        }
        let _turn = conclusion.turn().lock().await;
        if let Some(first) = conclusion.take_first() {
            shared.try_once(&first).await;
        }
        let result = shared.deliver(&id, body, trace.as_ref()).await;
        // INVARIANT (terminal last): noted while the turn is still ours.
        conclusion.done();
        result
    }
}

impl Shared {
    /// Sends what is announced for an execution, until nothing is, or its end takes over.
    async fn work(self: Arc<Self>, id: ExecutionId, turn: Turn) {
        loop {
            let begun = {
                let _turn = turn.lock().await;
                let Some(update) = self.lanes.next(&id) else { return };
                let begun = Instant::now();
                self.try_once(&update).await;
                begun
            };
            sleep_until(begun + self.config.progress_interval).await;
        }
    }

    /// Sends an update that is not worth a second try.
    async fn try_once(&self, update: &Update) {
        let Ok(Ok(_slot)) = timeout(self.config.deadline, self.slots.acquire()).await else {
            return self.drop_in_outage();
        };
        if self.outage.pauses() {
            return self.drop_in_outage();
        }
        let body = encode(update, self.config.max_body_bytes);
        match self.post(body, update.trace.as_ref(), self.config.deadline).await {
            Reply::Taken => {}
            Reply::Refused { status } => {
                tracing::debug!(execution_id = %update.id, status, "the Socket Service refused an update");
            }
            Reply::NotNow { .. } | Reply::NoAnswer { .. } => self.drop_in_outage(),
        }
    }

    /// Sends a terminal update until the peer has it or refuses it for good.
    async fn deliver(
        &self,
        id: &ExecutionId,
        body: Bytes,
        trace: Option<&TraceContext>,
    ) -> Result<(), NotifyError> {
        let mut failures = 0_u32;
        let mut firm_wait = FIRM_WAIT;
        loop {
            self.outage.pass().await;
            let Ok(slot) = self.slots.acquire().await else { continue }; // it is never closed
            if self.outage.pauses() {
                continue; // it began while this one waited for its slot
            }
            let deadline = self.config.deadline.saturating_mul(1 << failures.min(DEADLINE_DOUBLINGS));
            let reply = self.post(body.clone(), trace, deadline).await;
            drop(slot);
            failures = failures.saturating_add(1);
            let longest = backoff(&self.config).after(failures);
            let wait = longest / 2 + part_of(longest / 2);
            match reply {
                Reply::Taken => return Ok(()),
                Reply::Refused { status } => {
                    tracing::warn!(execution_id = %id, status, "the Socket Service refused a final update for good");
                    return Err(NotifyError { problem: format!("the Socket Service answered {status}") });
                }
                // Its own answer: the next may be the same, whatever becomes of others.
                Reply::NotNow { retry_after, .. } => {
                    sleep(wait.max(retry_after.unwrap_or_default().min(MAX_RETRY_AFTER))).await;
                }
                Reply::NoAnswer { .. } => {
                    sleep(wait.min(firm_wait)).await;
                    if self.outage.sleep_or_end(wait.saturating_sub(firm_wait)).await {
                        firm_wait = (firm_wait * 2).min(self.config.longest_retry);
                    }
                }
            }
        }
    }

    /// Posts once, in a slot that the caller holds, and notes what it tells of the peer.
    async fn post(&self, body: Bytes, trace: Option<&TraceContext>, deadline: Duration) -> Reply {
        count(&self.counters.posts);
        let began = Instant::now();
        let reply = self.peer.post(body, trace, deadline).await;
        if let Some(calls) = &self.calls {
            calls.ended(result(&reply), began.elapsed());
        }
        match &reply {
            Reply::Taken => {
                count(&self.counters.delivered);
                self.outage.post_succeeded();
            }
            Reply::Refused { .. } => {
                count(&self.counters.refused);
                self.outage.post_succeeded();
            }
            Reply::NotNow { status, retry_after } => {
                count(&self.counters.failed);
                self.outage.post_failed(&format!("it answered {status}{}", hint(*status)), *retry_after);
            }
            Reply::NoAnswer { problem } => {
                count(&self.counters.failed);
                self.outage.post_failed(problem, None);
            }
        }
        reply
    }

    fn drop_in_outage(&self) {
        count(&self.counters.dropped_in_outage);
        self.outage.dropped_update();
    }
}

fn result(reply: &Reply) -> CallResult {
    match reply {
        Reply::Taken => CallResult::Answered,
        Reply::Refused { .. } => CallResult::Refused,
        Reply::NotNow { .. } => CallResult::Failed,
        Reply::NoAnswer { .. } => CallResult::Silent,
    }
}

/// What an operator can look at first.
fn hint(status: u16) -> &'static str {
    match status {
        404 => " (is its URL right? it is given without `/api`)",
        300..=399 => " (redirects are not followed)",
        401 | 403 => " (is there a proxy in front of it?)",
        _ => "",
    }
}

#[cfg(test)]
mod tests;
