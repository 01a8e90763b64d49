//! Seams with a clock beside them: each passes on what it is asked, and notes how long that took and what came of it.
//! So the engine is measured without knowing that.

use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use portcullis_core::{
    Acceptance, AuthenticateError, Authenticator, Cells, Claim, Closing, Confinement, Credentials, Delivery,
    Execution, ExecutionId, ExecutionObserver, ExecutionStore, Finish, Flow, Keep, LaunchError, Launcher,
    ListPage, ListQuery, Located, NewExecution, Outcome, OutputChunk, OutputStream, Permit, Place, Principal,
    Recovery, Refusal, StopReason, StoreError,
};
use time::OffsetDateTime;

use super::meters::{Meters, StoreCall};

/// A store that is measured.
pub struct MeasuredStore {
    store: Arc<dyn ExecutionStore>,
    meters: Arc<Meters>,
}

impl MeasuredStore {
    /// Puts a clock beside a store.
    pub fn new(store: Arc<dyn ExecutionStore>, meters: Arc<Meters>) -> Arc<Self> {
        Arc::new(Self { store, meters })
    }

    async fn timed<T>(
        &self,
        call: StoreCall,
        answer: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let began = Instant::now();
        let answer = answer.await;
        let failed = matches!(answer, Err(StoreError::Unavailable { .. }));
        self.meters.store(call, began.elapsed(), failed);
        answer
    }
}

fn bytes(chunks: &[OutputChunk]) -> u64 {
    chunks.iter().map(|chunk| chunk.bytes.len() as u64).sum()
}

#[async_trait]
impl ExecutionStore for MeasuredStore {
    async fn accept(&self, new: NewExecution) -> Result<Acceptance, StoreError> {
        let accepted = self.timed(StoreCall::Accept, self.store.accept(new)).await?;
        match &accepted {
            Acceptance::New(execution) => self.meters.accepted(execution),
            Acceptance::Same(_) => self.meters.submitted_again(),
            Acceptance::Taken => {}
        }
        Ok(accepted)
    }

    async fn claim(
        &self,
        id: &ExecutionId,
        at: OffsetDateTime,
        confinement: &Confinement,
    ) -> Result<Claim, StoreError> {
        let claim = self.timed(StoreCall::Claim, self.store.claim(id, at, confinement)).await?;
        if let Claim::Claimed(execution) = &claim {
            self.meters.claimed(execution);
        }
        Ok(claim)
    }

    async fn append(&self, id: &ExecutionId, chunks: Vec<OutputChunk>) -> Result<(), StoreError> {
        let bytes = bytes(&chunks);
        self.timed(StoreCall::Append, self.store.append(id, chunks)).await?;
        self.meters.output.add(bytes);
        Ok(())
    }

    async fn close(&self, id: &ExecutionId, closing: Closing) -> Result<Finish, StoreError> {
        let bytes = bytes(&closing.output);
        let finish = self.timed(StoreCall::Close, self.store.close(id, closing)).await?;
        if let Finish::Written(execution) = &finish {
            self.meters.output.add(bytes);
            self.meters.ended(execution);
        }
        Ok(finish)
    }

    async fn read(&self, id: &ExecutionId) -> Result<Option<Execution>, StoreError> {
        self.timed(StoreCall::Read, self.store.read(id)).await
    }

    async fn output(
        &self,
        id: &ExecutionId,
        after_seq: u64,
        max_bytes: usize,
    ) -> Result<Vec<OutputChunk>, StoreError> {
        self.timed(StoreCall::Output, self.store.output(id, after_seq, max_bytes)).await
    }

    async fn locate(&self, id: &ExecutionId, place: Place) -> Result<Located, StoreError> {
        self.timed(StoreCall::Locate, self.store.locate(id, place)).await
    }

    async fn list(&self, query: &ListQuery) -> Result<ListPage, StoreError> {
        self.timed(StoreCall::List, self.store.list(query)).await
    }

    async fn refuse(&self, refusal: Refusal) -> Result<(), StoreError> {
        self.meters.denied(&refusal);
        self.timed(StoreCall::Refuse, self.store.refuse(refusal)).await
    }

    async fn refusals(&self, limit: usize) -> Result<Vec<Refusal>, StoreError> {
        self.timed(StoreCall::Refusals, self.store.refusals(limit)).await
    }

    async fn recover(&self, at: OffsetDateTime) -> Result<Recovery, StoreError> {
        let recovery = self.timed(StoreCall::Recover, self.store.recover(at)).await?;
        self.meters.recovered(recovery.lost.len(), recovery.interrupted.len());
        #[cfg(feature = "otel")]
        if let Some(spans) = self.meters.spans() {
            let (spans, store) = (spans.clone(), self.store.clone());
            let ended: Vec<_> = recovery.lost.iter().chain(&recovery.interrupted).cloned().collect();
            // Beside the start, which waits for no span.
            tokio::spawn(async move {
                for id in ended {
                    if let Ok(Some(execution)) = store.read(&id).await {
                        spans.execution(&execution);
                    }
                }
            });
        }
        Ok(recovery)
    }

    async fn undelivered(&self, limit: usize) -> Result<Vec<Execution>, StoreError> {
        self.timed(StoreCall::Undelivered, self.store.undelivered(limit)).await
    }

    async fn delivered(&self, id: &ExecutionId, delivery: Delivery) -> Result<(), StoreError> {
        self.timed(StoreCall::Delivered, self.store.delivered(id, delivery)).await
    }

    async fn expire(&self, ended_before: OffsetDateTime) -> Result<u64, StoreError> {
        self.timed(StoreCall::Expire, self.store.expire(ended_before)).await
    }

    /// Removes as well, and is counted so.
    async fn trim(&self, keep: Keep) -> Result<u64, StoreError> {
        self.timed(StoreCall::Expire, self.store.trim(keep)).await
    }

    /// Looks for a record that is not there: a reading.
    async fn was_removed(&self, owner: &str, id: &ExecutionId) -> Result<bool, StoreError> {
        self.timed(StoreCall::Read, self.store.was_removed(owner, id)).await
    }

    async fn probe(&self) -> Result<(), StoreError> {
        self.timed(StoreCall::Probe, self.store.probe()).await
    }
}

/// A launcher that is measured.
pub struct MeasuredLauncher {
    launcher: Arc<dyn Launcher>,
    meters: Arc<Meters>,
}

impl MeasuredLauncher {
    /// Puts a clock beside a launcher.
    pub fn new(launcher: Arc<dyn Launcher>, meters: Arc<Meters>) -> Arc<Self> {
        Arc::new(Self { launcher, meters })
    }
}

/// Notes when a start is let through.
struct MeasuredStart {
    observer: Arc<dyn ExecutionObserver>,
    meters: Arc<Meters>,
    asked: Instant,
}

#[async_trait]
impl ExecutionObserver for MeasuredStart {
    async fn starting(&self, confinement: &Confinement) -> Flow {
        let flow = self.observer.starting(confinement).await;
        if flow == Flow::Continue {
            self.meters.launch.see(self.asked.elapsed());
        }
        flow
    }

    async fn output(&self, stream: OutputStream, bytes: Vec<u8>) -> Flow {
        self.observer.output(stream, bytes).await
    }

    async fn stop_requested(&self) -> StopReason {
        self.observer.stop_requested().await
    }
}

#[async_trait]
impl Launcher for MeasuredLauncher {
    async fn launch(
        &self,
        permit: Permit,
        observer: Arc<dyn ExecutionObserver>,
    ) -> Result<Outcome, LaunchError> {
        let meters = Arc::clone(&self.meters);
        let observer = Arc::new(MeasuredStart { observer, meters, asked: Instant::now() });
        self.launcher.launch(permit, observer).await
    }

    fn capacity(&self) -> usize {
        self.launcher.capacity()
    }

    fn cells(&self) -> Cells {
        self.launcher.cells()
    }

    fn problem(&self) -> Option<String> {
        self.launcher.problem()
    }
}

/// An authenticator whose answers are counted.
pub struct MeasuredAuthenticator {
    authenticator: Arc<dyn Authenticator>,
    meters: Arc<Meters>,
}

impl MeasuredAuthenticator {
    /// Counts the answers of an authenticator.
    pub fn new(authenticator: Arc<dyn Authenticator>, meters: Arc<Meters>) -> Arc<Self> {
        Arc::new(Self { authenticator, meters })
    }
}

#[async_trait]
impl Authenticator for MeasuredAuthenticator {
    async fn authenticate(&self, credentials: &Credentials) -> Result<Principal, AuthenticateError> {
        let asked = self.authenticator.authenticate(credentials).await;
        self.meters.authenticated(&asked);
        asked
    }
}
