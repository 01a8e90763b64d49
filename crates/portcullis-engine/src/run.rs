//! One execution, from the queue to its final record.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use portcullis_core::{
    Claim, Confinement, Execution, ExecutionObserver, Flow, LaunchError, Limits, OutputStream, Status,
    StopReason, Update,
};
use time::OffsetDateTime;
use tokio::time::Instant;
use tracing::{error, info, warn};

use crate::admission::Admission;
use crate::ending::{self, Story, chain};
use crate::finish::{finish, publish};
use crate::live::Live;
use crate::panics::{catching, catching_store};
use crate::recorder::Recorder;
use crate::shared::{Gate, Queued, Shared};

/// How long beyond every limit and grace period a launcher is waited for.
const OVERDUE: Duration = Duration::from_secs(30);

/// Starts what waits, while there are cells for it.
pub(crate) fn start_waiting(shared: &Arc<Shared>) {
    let slots = shared.slots();
    loop {
        let next = {
            let mut ledger = shared.ledger();
            if ledger.queue.running() >= slots || shared.gate() >= Gate::Closed {
                return;
            }
            ledger.queue.pop()
        };
        let Some(queued) = next else { return };
        tokio::spawn(run(Arc::clone(shared), queued));
    }
}

/// Runs one execution and lets the next one in.
pub(crate) async fn run(shared: Arc<Shared>, queued: Queued) {
    let live = Arc::clone(&queued.live);
    let admission = queued.admission.clone();
    let began = Instant::now();
    if let Err(panicked) = catching(Box::pin(conduct(&shared, queued))).await {
        // The launch, if there was one, was dropped with the future, which killed the execution.
        shared.counters.note(|stats| stats.panics += 1);
        error!(execution_id = %live.id, error = %panicked, "the task of an execution broke");
        if admission.is_given().await {
            finish(&shared, &live, ending::lost(panicked.to_string()), None).await;
        }
    }
    let admitted = admission.is_given().await;
    {
        let mut ledger = shared.ledger();
        ledger.queue.ended(&live.owner);
        if admitted {
            ledger.typical_run = mean(ledger.typical_run, began.elapsed());
        }
    }
    // What was not admitted is not in the ledger; another one under its id may be.
    if admitted {
        shared.forget(&live);
    }
    start_waiting(&shared);
}

/// Launches an execution, keeps its output, and writes its ending.
async fn conduct(shared: &Arc<Shared>, queued: Queued) {
    let Queued { live, permit, since, admission } = queued;
    let began = Instant::now();
    let recorder = Arc::new(Recorder::new(shared, &live, permit.plan().limits.output_bytes));
    let observer = Arc::new(Observer {
        shared: Arc::clone(shared),
        live: Arc::clone(&live),
        recorder: Arc::clone(&recorder),
        since,
        admission: admission.clone(),
        start: Mutex::new(match live.accepted().status {
            Status::Running => Start::Recorded,
            _ => Start::Waiting,
        }),
    });
    // Both in this task: the output is stored while the execution goes on, and what is left, after it.
    let launch = async {
        let seen: Arc<dyn ExecutionObserver> = Arc::clone(&observer) as _;
        let limits = permit.plan().limits.clone();
        let launched = tokio::select! {
            launched = catching(shared.parts.launcher.launch(permit, seen)) => launched,
            () = observer.overdue(&limits) => Ok(Err(observer.given_up())),
        };
        recorder.close();
        launched
    };
    let (launched, ()) = tokio::join!(launch, recorder.keep());
    if let Err(panicked) = &launched {
        shared.counters.note(|stats| stats.panics += 1);
        error!(execution_id = %live.id, error = %panicked, "the launcher broke");
    }
    // There may be nothing to finish; and nothing is finished before it was accepted.
    if !admission.is_given().await {
        return;
    }
    let start = observer.start();
    if matches!(start, Start::Claimed) {
        shared.counters.note(|stats| stats.ran += began.elapsed());
    }
    match start {
        // It is not ours: whoever claimed or ended it sees to its record.
        Start::Refused(record) if record.status.is_terminal() => publish(shared, &live, *record),
        Start::Refused(_) => live.abandon(),
        start => {
            let story = Story {
                claimed: matches!(start, Start::Claiming | Start::Claimed),
                unrecorded: match start {
                    Start::Unrecorded(problem) => Some(problem),
                    _ => None,
                },
                stop: live.stop(),
                ..recorder.story()
            };
            finish(shared, &live, ending::of(&launched, &story), Some(&recorder)).await;
        }
    }
}

/// Seven parts the old, one part the new.
fn mean(old: Duration, new: Duration) -> Duration {
    (old * 7 + new.min(Duration::from_secs(3_600))) / 8
}

/// What became of the start.
#[derive(Clone)]
enum Start {
    /// The launcher has not asked yet.
    Waiting,
    /// The same, and the record says `running` since its acceptance, once that is given.
    Recorded,
    /// The store is being asked.
    Claiming,
    /// The record says `running`.
    Claimed,
    /// The record was not `scheduled` any more.
    Refused(Box<Execution>),
    /// The store could not record it.
    Unrecorded(String),
    /// It was to stop before it began.
    CalledOff,
}

/// The engine's side of a launch.
struct Observer {
    shared: Arc<Shared>,
    live: Arc<Live>,
    recorder: Arc<Recorder>,
    since: Instant,
    admission: Admission,
    start: Mutex<Start>,
}

impl Observer {
    fn start(&self) -> Start {
        self.start.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Goes on to a state of the start, and returns the one before.
    fn turn(&self, to: Start) -> Start {
        std::mem::replace(&mut *self.start.lock().unwrap_or_else(PoisonError::into_inner), to)
    }

    /// Resolves when the launcher should have returned long ago: after the time limit, or after it was asked
    /// to stop. Dropping the launch then kills the execution, so that none runs for ever, whatever the
    /// launcher does.
    async fn overdue(&self, limits: &Limits) {
        let by_limit = async {
            let mut tip = self.live.follow();
            if tip.wait_for(|tip| tip.running.is_some()).await.is_err() {
                std::future::pending::<()>().await;
            }
            tokio::time::sleep(limits.wall_time.saturating_add(limits.grace_period)).await;
        };
        let by_request = async {
            self.live.stop_requested().await;
            tokio::time::sleep(limits.grace_period).await;
        };
        tokio::select! {
            () = by_limit => {}
            () = by_request => {}
        }
        tokio::time::sleep(OVERDUE).await;
        // The launcher may have the last of the output, and wait for a store that is away.
        while self.recorder.is_behind() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    /// Returns what is to be said of a launch that was overdue and dropped.
    fn given_up(&self) -> LaunchError {
        error!(execution_id = %self.live.id, "the launcher did not end it in time");
        match self.start() {
            Start::Claiming | Start::Claimed => {
                LaunchError::Died { problem: "the launcher did not end it in time".into() }
            }
            Start::Waiting
            | Start::Recorded
            | Start::Refused(_)
            | Start::Unrecorded(_)
            | Start::CalledOff => LaunchError::Forbidden,
        }
    }

    fn started(&self, record: Execution) {
        let waited = self.since.elapsed();
        self.shared.counters.note(|stats| {
            stats.started += 1;
            stats.waited += waited;
        });
        info!(
            execution_id = %record.id,
            user = %record.owner_name.escape_debug(),
            user_id = %record.owner.escape_debug(),
            trace_id = record.provenance.trace_id(),
            programs = record.programs.join(","),
            status = record.status.as_str(),
            confinement = record.confinement.as_ref().map_or("", |confinement| confinement.level.as_str()),
            duration_ms = u64::try_from(waited.as_millis()).unwrap_or(u64::MAX),
            "started"
        );
        self.shared.announce(Update {
            id: record.id.clone(),
            status: record.status,
            progress: 1,
            output: Some("Starting execution...".into()),
            error: None,
            trace: record.trace(),
        });
        self.live.publish_running(record);
    }
}

#[async_trait]
impl ExecutionObserver for Observer {
    /// INVARIANT (record before process): nothing runs before the store has the claim.
    async fn starting(&self, confinement: &Confinement) -> Flow {
        let admitted = self.admission.is_given().await;
        if !admitted || self.live.stop().is_some() {
            self.turn(Start::CalledOff);
            return Flow::Stop;
        }
        match self.turn(Start::Claiming) {
            Start::Waiting => {}
            Start::Recorded => {
                self.turn(Start::Claimed);
                self.started((*self.live.accepted()).clone());
                return Flow::Continue;
            }
            // A launcher that asks twice would start twice.
            before => {
                self.turn(before);
                return Flow::Stop;
            }
        }
        let claim = self.shared.parts.store.claim(&self.live.id, OffsetDateTime::now_utc(), confinement);
        match catching_store("claim", claim).await {
            Ok(Claim::Claimed(record)) => {
                self.turn(Start::Claimed);
                self.started(*record);
                match self.live.stop() {
                    Some(_) => Flow::Stop,
                    None => Flow::Continue,
                }
            }
            Ok(Claim::Refused(record)) => {
                warn!(execution_id = %self.live.id, status = record.status.as_str(), "it is not ours to run");
                self.turn(Start::Refused(record));
                Flow::Stop
            }
            Err(problem) => {
                self.shared.counters.note(|stats| stats.store_failures += 1);
                warn!(execution_id = %self.live.id, error = chain(&problem), "the start could not be recorded");
                self.turn(Start::Unrecorded(format!("the start could not be recorded: {}", chain(&problem))));
                Flow::Stop
            }
        }
    }

    async fn output(&self, stream: OutputStream, bytes: Vec<u8>) -> Flow {
        self.recorder.take(stream, bytes).await
    }

    async fn stop_requested(&self) -> StopReason {
        self.live.stop_requested().await
    }
}
