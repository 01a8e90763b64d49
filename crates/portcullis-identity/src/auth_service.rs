use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use async_trait::async_trait;
use portcullis_core::{
    AuthenticateError, Authenticator, CallResult, Calls, Credentials, Principal, Secret, TraceContext,
};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::config::{AuthConfig, InvalidAuthConfig};
use crate::memory::{Known, Lifetimes, Memory};
use crate::peer::{Answer, Ask, Failure, HttpPeer};
use crate::token::{Digest, digest, is_well_formed};

/// Asks the Auth Service who holds a token: `GET {base}/user`.
///
/// | the peer's answer | becomes |
/// | --- | --- |
/// | `200` with a user that holds the permission | the principal: id, username (or name), roles, permissions of its roles |
/// | `200` with a user that lacks it, `403` | [`AuthenticateError::Forbidden`] |
/// | `401`, or a token that is none by its form (which is not asked about) | [`AuthenticateError::Invalid`] |
/// | anything else: `5xx`, `429`, a redirect, HTML, a user without id or roles, more than 1 MiB, an answer that breaks off or is late, no connection | [`AuthenticateError::Unavailable`] |
///
/// Answers are remembered by the token's SHA-256 (see [`AuthConfig`] for how long), and requests that come
/// with one token at the same time share one question. A question goes on when whoever asked first hangs up.
pub struct AuthServiceAuthenticator {
    shared: Arc<Shared>,
}

struct Shared {
    peer: Box<dyn Ask>,
    memory: Memory,
    permission: Option<String>,
    counters: Counters,
    failing: AtomicBool,
    calls: Option<Arc<dyn Calls>>,
}

#[derive(Default)]
struct Counters {
    questions: AtomicU64,
    remembered: AtomicU64,
    accepted: AtomicU64,
    invalid: AtomicU64,
    forbidden: AtomicU64,
    limited: AtomicU64,
    failed: AtomicU64,
}

/// What the authenticator has done since its start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AuthStats {
    /// Questions asked.
    pub questions: u64,
    /// Requests that a remembered answer, or a question already under way, has served.
    pub remembered: u64,
    /// Questions answered with a principal that is let in.
    pub accepted: u64,
    /// Questions answered with an invalid token.
    pub invalid: u64,
    /// Questions answered with a principal that is not let in.
    pub forbidden: u64,
    /// Questions that the peer turned away because there were too many of the user's.
    pub limited: u64,
    /// Questions that the peer could not answer.
    pub failed: u64,
    /// Tokens that are remembered or being asked about now.
    pub entries: usize,
    /// Whether the latest question failed; a limit is no failure.
    pub failing: bool,
}

impl AuthServiceAuthenticator {
    /// Makes one; the peer need not be there yet.
    ///
    /// # Errors
    /// When the base URL cannot be used, or a bound is zero.
    pub fn new(config: AuthConfig) -> Result<Self, InvalidAuthConfig> {
        let base = config.check()?;
        let peer = HttpPeer::new(base, &config);
        Ok(Self::asking(Box::new(peer), config, None))
    }

    /// The same, with somebody who is told of each question.
    ///
    /// # Errors
    /// As [`AuthServiceAuthenticator::new`].
    pub fn observed(config: AuthConfig, calls: Arc<dyn Calls>) -> Result<Self, InvalidAuthConfig> {
        let base = config.check()?;
        let peer = HttpPeer::new(base, &config);
        Ok(Self::asking(Box::new(peer), config, Some(calls)))
    }

    fn asking(peer: Box<dyn Ask>, config: AuthConfig, calls: Option<Arc<dyn Calls>>) -> Self {
        let lifetimes = Lifetimes {
            accepted: config.accepted_for,
            refused: config.refused_for,
            failed: config.failed_for,
        };
        Self {
            shared: Arc::new(Shared {
                peer,
                memory: Memory::new(config.max_entries, lifetimes),
                permission: config.permission,
                counters: Counters::default(),
                failing: AtomicBool::new(false),
                calls,
            }),
        }
    }

    /// Returns what has been done so far.
    #[must_use]
    pub fn stats(&self) -> AuthStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counters = &self.shared.counters;
        AuthStats {
            questions: read(&counters.questions),
            remembered: read(&counters.remembered),
            accepted: read(&counters.accepted),
            invalid: read(&counters.invalid),
            forbidden: read(&counters.forbidden),
            limited: read(&counters.limited),
            failed: read(&counters.failed),
            entries: self.shared.memory.len(),
            failing: self.shared.failing.load(Ordering::Relaxed),
        }
    }
}

#[async_trait]
impl Authenticator for AuthServiceAuthenticator {
    async fn authenticate(&self, credentials: &Credentials) -> Result<Principal, AuthenticateError> {
        let token = credentials.bearer.as_ref().ok_or(AuthenticateError::Missing)?;
        if !is_well_formed(token) {
            return Err(AuthenticateError::Invalid);
        }
        let shared = &self.shared;
        let key = digest(token);
        let answer = match shared.memory.recall(&key) {
            Known::Answered(answer) => {
                count(&shared.counters.remembered);
                answer
            }
            Known::Asking(answer) => {
                count(&shared.counters.remembered);
                await_answer(answer).await
            }
            Known::Ask(sender, answer) => {
                tokio::spawn(Arc::clone(shared).question(
                    key,
                    token.clone(),
                    credentials.provenance.trace.clone(),
                    sender,
                ));
                await_answer(answer).await
            }
            Known::Full => Failure::Busy.into(),
        };
        shared.admit(answer)
    }
}

async fn await_answer(mut answer: watch::Receiver<Option<Answer>>) -> Answer {
    match answer.wait_for(Option::is_some).await.as_deref() {
        Ok(Some(answer)) => answer.clone(),
        _ => Failure::Abandoned.into(),
    }
}

impl Shared {
    /// Asks in a task of its own, so that who hangs up takes the answer from nobody else.
    async fn question(
        self: Arc<Self>,
        key: Digest,
        token: Secret,
        trace: Option<TraceContext>,
        sender: watch::Sender<Option<Answer>>,
    ) {
        count(&self.counters.questions);
        let began = Instant::now();
        let answer = self.peer.ask(&token, trace.as_ref()).await;
        if let Some(calls) = &self.calls {
            calls.ended(result(&answer), began.elapsed());
        }
        let answer = match answer {
            Answer::Known(principal) if !self.lets_in(&principal) => Answer::Forbidden(Some(principal)),
            answer => answer,
        };
        self.note(&answer);
        self.memory.settle(key, answer.clone());
        let _ = sender.send(Some(answer)); // nobody may be waiting any more
    }

    fn lets_in(&self, principal: &Principal) -> bool {
        self.permission.as_ref().is_none_or(|permission| principal.permissions.contains(permission))
    }

    /// Counts an answer, and logs where failing begins and ends: one line each, however many fail between.
    fn note(&self, answer: &Answer) {
        let failure = match answer {
            Answer::Known(_) => return self.note_success(&self.counters.accepted),
            Answer::Invalid => return self.note_success(&self.counters.invalid),
            Answer::Forbidden(_) => return self.note_success(&self.counters.forbidden),
            Answer::Unknown { failure, .. } => failure,
        };
        // It counts by user: that one is over the limit says nothing of the others.
        if matches!(**failure, Failure::Status(429)) {
            count(&self.counters.limited);
            tracing::debug!("the Auth Service limits the questions about a user");
            return;
        }
        count(&self.counters.failed);
        if !self.failing.swap(true, Ordering::Relaxed) {
            tracing::warn!(error = %failure, "the Auth Service fails: nobody new is let in");
        }
    }

    fn note_success(&self, counter: &AtomicU64) {
        count(counter);
        if self.failing.swap(false, Ordering::Relaxed) {
            tracing::info!("the Auth Service answers again");
        }
    }

    fn admit(&self, answer: Answer) -> Result<Principal, AuthenticateError> {
        match answer {
            Answer::Known(principal) => Ok(Arc::unwrap_or_clone(principal)),
            Answer::Invalid => Err(AuthenticateError::Invalid),
            Answer::Forbidden(principal) => Err(AuthenticateError::Forbidden {
                permission: self.permission.clone().unwrap_or_else(|| "access".into()),
                principal,
            }),
            Answer::Unknown { retry_after, failure } => {
                Err(AuthenticateError::Unavailable { retry_after, source: Box::new(failure) })
            }
        }
    }
}

fn result(answer: &Answer) -> CallResult {
    match answer {
        Answer::Known(_) => CallResult::Answered,
        Answer::Invalid | Answer::Forbidden(_) => CallResult::Refused,
        Answer::Unknown { failure, .. } => match **failure {
            Failure::Status(_) | Failure::NotFound | Failure::Nonsense(_) => CallResult::Failed,
            _ => CallResult::Silent,
        },
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

#[cfg(test)]
mod tests;
