//! From a submission to a queued execution with a record.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use portcullis_core::{
    Acceptance, Denial, Execution, ExecutionId, NewExecution, Permit, Principal, Refusal, Start, StoreError,
    Submission, Verdict,
};
use time::OffsetDateTime;
use tracing::{Instrument, debug, error, info, warn};

use crate::admission::{Admission, Admit};
use crate::ending;
use crate::fingerprint::fingerprint;
use crate::finish;
use crate::live::Live;
use crate::panics::{Panicked, catching_store};
use crate::run;
use crate::shared::{Gate, Queued, Shared};
use crate::vocabulary::{SubmitError, Submitted};

/// Judges, checks for room, records and queues, in this order: what is acknowledged is never dropped, so
/// every reason to turn it away comes before the record.
pub(crate) async fn submit(
    shared: &Arc<Shared>,
    principal: &Principal,
    id: Option<ExecutionId>,
    submission: Submission,
) -> Result<Submitted, SubmitError> {
    let (permit, grant) = match judge(shared, principal, &submission)? {
        Verdict::Permit(permit, grant) => (*permit, grant),
        Verdict::Deny(denial) => return refuse(shared, principal, id, submission, denial).await,
    };
    let chosen = id.is_some();
    let mut new = NewExecution {
        id: id.unwrap_or_else(ExecutionId::generate),
        owner: principal.id.clone(),
        owner_name: principal.name.clone(),
        fingerprint: fingerprint(&submission),
        command: submission.command,
        programs: grant.programs.into_iter().map(String::from).collect(),
        rules: grant.rules,
        limits: permit.plan().limits.clone(),
        accepted_at: OffsetDateTime::now_utc(),
        provenance: submission.provenance,
        start: None,
    };
    let place = match Place::take(shared, &new.owner, &new.id) {
        Ok(place) => {
            // INVARIANT (record before process): where it need not wait, the one record says both.
            let confinement = shared.config.confinement.clone().filter(|_| place.at_once);
            new.start = confinement.map(|confinement| Start { at: new.accepted_at, confinement });
            place
        }
        Err(full) if chosen => return known(shared, &new, full).await,
        Err(full) => return Err(turned_away(shared, full)),
    };
    // In a task of its own: a caller who hangs up now must not leave a record that nobody runs.
    in_own_task("accept", accept(Arc::clone(shared), place, new, permit)).await
}

/// Asks the policy. One that breaks has said nothing, and what is not permitted does not run.
pub(crate) fn judge(
    shared: &Shared,
    principal: &Principal,
    submission: &Submission,
) -> Result<Verdict, Panicked> {
    // Nothing of ours is changed by a judgement, and the policy keeps nothing from one to the next.
    let judged = catch_unwind(AssertUnwindSafe(|| shared.parts.policy.judge(principal, submission)));
    judged.map_err(|payload| {
        shared.counters.note(|stats| stats.panics += 1);
        let panicked = Panicked::of(payload.as_ref());
        error!(error = %panicked, "the policy broke; nothing was decided");
        panicked
    })
}

/// Records a refusal. It is returned when its record is safe, so that nobody tries the policy unseen.
async fn refuse(
    shared: &Arc<Shared>,
    principal: &Principal,
    id: Option<ExecutionId>,
    submission: Submission,
    denial: Box<Denial>,
) -> Result<Submitted, SubmitError> {
    shared.counters.denied(&denial);
    let programs = catch_unwind(AssertUnwindSafe(|| shared.parts.policy.programs(&submission)));
    let programs: Vec<_> = programs.unwrap_or_default().into_iter().map(String::from).collect();
    info!(
        execution_id = id.as_ref().map_or("", ExecutionId::as_str),
        user = %principal.name.escape_debug(),
        user_id = %principal.id.escape_debug(),
        trace_id = submission.provenance.trace_id(),
        programs = programs.join(","),
        code = denial.code.as_str(),
        rule = denial.rule.as_ref().map_or("", |rule| rule.name.as_str()),
        "denied"
    );
    let refusal = Refusal {
        at: OffsetDateTime::now_utc(),
        principal: principal.id.clone(),
        principal_name: principal.name.clone(),
        execution_id: id,
        command: submission.command,
        denial: (*denial).clone(),
        provenance: submission.provenance,
    };
    let shared = Arc::clone(shared);
    in_own_task("refuse", async move {
        match catching_store("refuse", shared.parts.store.refuse(refusal)).await {
            Ok(()) => Err(SubmitError::Denied(denial)),
            Err(problem) => {
                store_failed(&shared, &problem, "the refusal could not be recorded");
                Err(problem.into())
            }
        }
    })
    .await
}

/// Asks the store to accept, and queues what is new. Cannot be dropped half-way.
async fn accept(
    shared: Arc<Shared>,
    mut place: Place,
    new: NewExecution,
    permit: Permit,
) -> Result<Submitted, SubmitError> {
    let id = new.id.clone();
    let work = place.prepare(&new, permit);
    match catching_store("accept", shared.parts.store.accept(new)).await {
        Ok(Acceptance::New(record)) => {
            shared.counters.note(|stats| stats.accepted += 1);
            info!(
                execution_id = %id,
                user = %record.owner_name.escape_debug(),
                user_id = %record.owner.escape_debug(),
                trace_id = record.provenance.trace_id(),
                programs = record.programs.join(","),
                status = record.status.as_str(),
                "accepted"
            );
            place.fill(work, &record);
            Ok(Submitted::New(record))
        }
        Ok(Acceptance::Same(record)) => {
            shared.counters.note(|stats| stats.repeated += 1);
            debug!(execution_id = %id, "submitted again");
            Ok(Submitted::Same(record))
        }
        Ok(Acceptance::Taken) => Err(taken(&shared, id)),
        Err(problem) => {
            store_failed(&shared, &problem, "the submission could not be recorded");
            Err(problem.into())
        }
    }
}

/// Answers a submission for which there is no room: one that is known already needs none.
async fn known(
    shared: &Arc<Shared>,
    new: &NewExecution,
    full: SubmitError,
) -> Result<Submitted, SubmitError> {
    match catching_store("read", shared.parts.store.read(&new.id)).await {
        Ok(None) => Err(turned_away(shared, full)),
        Ok(Some(record)) if record.owner == new.owner && record.fingerprint == new.fingerprint => {
            shared.counters.note(|stats| stats.repeated += 1);
            Ok(Submitted::Same(Box::new(record)))
        }
        Ok(Some(_)) => Err(taken(shared, new.id.clone())),
        Err(problem) => {
            store_failed(shared, &problem, "a known submission could not be looked up");
            Err(problem.into())
        }
    }
}

fn taken(shared: &Shared, id: ExecutionId) -> SubmitError {
    shared.counters.note(|stats| stats.ids_taken += 1);
    SubmitError::IdTaken(id)
}

fn turned_away(shared: &Shared, why: SubmitError) -> SubmitError {
    shared.counters.note(|stats| match &why {
        SubmitError::PrincipalBusy { .. } => stats.turned_away_principal_busy += 1,
        SubmitError::Busy { .. } => stats.turned_away_busy += 1,
        _ => stats.turned_away_draining += 1,
    });
    why
}

fn store_failed(shared: &Shared, problem: &StoreError, what: &'static str) {
    shared.counters.note(|stats| stats.store_failures += 1);
    warn!(error = ending::chain(problem), "{what}");
}

/// Runs a piece of work that goes on when the caller does not wait for it.
async fn in_own_task(
    operation: &'static str,
    work: impl Future<Output = Result<Submitted, SubmitError>> + Send + 'static,
) -> Result<Submitted, SubmitError> {
    match tokio::spawn(work.in_current_span()).await {
        Ok(answer) => answer,
        Err(broken) => Err(StoreError::Unavailable { operation, source: Box::new(broken) }.into()),
    }
}

/// What is to be run once it is accepted.
enum Work {
    /// It will wait for a cell.
    Permitted(Box<Permit>),
    /// It is being made ready, and starts when it is admitted.
    Prepared { live: Arc<Live>, admit: Admit },
}

/// A held place in the queue; given up when dropped.
struct Place {
    shared: Arc<Shared>,
    key: (String, ExecutionId),
    /// It counts as running already: its acceptance is its start.
    at_once: bool,
    /// Its runner has it, and says when it has ended.
    prepared: bool,
}

impl Place {
    fn take(shared: &Arc<Shared>, owner: &str, id: &ExecutionId) -> Result<Self, SubmitError> {
        let slots = shared.slots();
        let mut ledger = shared.ledger();
        if shared.gate() > Gate::Open {
            return Err(SubmitError::Draining);
        }
        let key = (owner.to_owned(), id.clone());
        if let Some(sharers) = ledger.arriving.get_mut(&key) {
            *sharers += 1;
            return Ok(Self { shared: Arc::clone(shared), key, at_once: false, prepared: false });
        }
        // The time until enough places are free, if executions run as long as they did lately.
        let typical_run = ledger.typical_run;
        let retry_after = |ahead: usize| {
            let rounds = u32::try_from(ahead / slots).unwrap_or(u32::MAX);
            typical_run.saturating_mul(rounds).clamp(Duration::from_secs(1), Duration::from_secs(60))
        };
        let (mine, all) = (ledger.queue.taken_by(owner), ledger.queue.taken());
        if mine >= shared.config.queue_limit_per_principal {
            return Err(SubmitError::PrincipalBusy { retry_after: retry_after(mine) });
        }
        if all >= shared.config.queue_limit {
            return Err(SubmitError::Busy { retry_after: retry_after(all) });
        }
        ledger.queue.reserve(owner);
        ledger.arriving.insert(key.clone(), 1);
        // One that lives already is submitted again: there is nothing to start.
        let at_once = shared.config.confinement.is_some()
            && !ledger.live.contains_key(id)
            && ledger.queue.start_at_once(owner, slots);
        Ok(Self { shared: Arc::clone(shared), key, at_once, prepared: false })
    }

    /// Has what starts at once made ready, while the store is asked to accept it.
    ///
    /// INVARIANT (record before process): its runner lets nothing of it run before it is admitted.
    fn prepare(&mut self, new: &NewExecution, permit: Permit) -> Work {
        if new.start.is_none() {
            return Work::Permitted(Box::new(permit));
        }
        let live = Arc::new(Live::new(new.clone().into_execution()));
        let (admit, admission) = Admission::asked();
        let since = tokio::time::Instant::now();
        let queued = Queued { live: Arc::clone(&live), permit, since, admission };
        self.prepared = true;
        tokio::spawn(run::run(Arc::clone(&self.shared), queued));
        Work::Prepared { live, admit }
    }

    /// Puts the accepted execution into the queue, or lets go what was prepared.
    fn fill(mut self, work: Work, record: &Execution) {
        let shared = Arc::clone(&self.shared);
        let live = match &work {
            Work::Permitted(_) => Arc::new(Live::new(record.clone())),
            Work::Prepared { live, .. } => Arc::clone(live),
        };
        let too_late = {
            let mut ledger = shared.ledger();
            ledger.live.insert(live.id.clone(), Arc::clone(&live));
            // What was accepted while the drain swept the queue is ended like what the sweep found.
            let too_late = shared.gate() >= Gate::Closed;
            match work {
                _ if too_late => {}
                Work::Prepared { admit, .. } => {
                    self.at_once = false;
                    ledger.queue.started_at_once();
                    admit.give();
                }
                Work::Permitted(permit) => {
                    let (live, since) = (Arc::clone(&live), tokio::time::Instant::now());
                    let admission = Admission::given();
                    ledger.queue.push(&record.owner, Queued { live, permit: *permit, since, admission });
                }
            }
            too_late
        };
        drop(self);
        if too_late {
            tokio::spawn(finish::finish_queued(shared, live, ending::interrupted()));
        } else {
            run::start_waiting(&shared);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut ledger = self.shared.ledger();
        if self.at_once {
            ledger.queue.started_at_once();
            if !self.prepared {
                ledger.queue.ended(&self.key.0);
            }
        }
        let Some(sharers) = ledger.arriving.get_mut(&self.key) else { return };
        *sharers -= 1;
        if *sharers == 0 {
            ledger.arriving.remove(&self.key);
            ledger.queue.release(&self.key.0);
            drop(ledger);
            self.shared.stir();
        } else {
            drop(ledger);
        }
        if self.at_once {
            run::start_waiting(&self.shared);
        }
    }
}
