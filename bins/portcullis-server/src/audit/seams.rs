//! Seams that are audited: each writes its entry and passes on what it is asked.

use std::sync::Arc;

use async_trait::async_trait;
use portcullis_core::{
    Acceptance, AuthenticateError, Authenticator, Claim, Closing, Confinement, Credentials, Delivery,
    Execution, ExecutionId, ExecutionStore, Finish, Keep, ListPage, ListQuery, Located, NewExecution,
    OutputChunk, Place, Principal, Reason, Recovery, Refusal, Status, StoreError,
};
use time::OffsetDateTime;

use super::{Audit, AuditError, Entry};

/// A store before which the audit log is written.
pub struct AuditedStore {
    store: Arc<dyn ExecutionStore>,
    audit: Arc<Audit>,
}

impl AuditedStore {
    /// Writes to an audit log what this store is asked to record.
    pub fn new(store: Arc<dyn ExecutionStore>, audit: Arc<Audit>) -> Arc<Self> {
        Arc::new(Self { store, audit })
    }
}

impl From<AuditError> for StoreError {
    fn from(error: AuditError) -> Self {
        Self::Unavailable { operation: "write the audit log", source: Box::new(error) }
    }
}

#[async_trait]
impl ExecutionStore for AuditedStore {
    /// INVARIANT (audited before recorded): nothing is accepted that is not in the audit log.
    async fn accept(&self, new: NewExecution) -> Result<Acceptance, StoreError> {
        self.audit.note(&Entry::permit(&new))?;
        self.store.accept(new).await
    }

    async fn claim(
        &self,
        id: &ExecutionId,
        at: OffsetDateTime,
        confinement: &Confinement,
    ) -> Result<Claim, StoreError> {
        self.store.claim(id, at, confinement).await
    }

    async fn append(&self, id: &ExecutionId, chunks: Vec<OutputChunk>) -> Result<(), StoreError> {
        self.store.append(id, chunks).await
    }

    async fn close(&self, id: &ExecutionId, closing: Closing) -> Result<Finish, StoreError> {
        let finish = self.store.close(id, closing).await?;
        if let Finish::Written(execution) = &finish {
            // It has ended, whether that can be said or not.
            let _ = self.audit.note(&Entry::end(execution));
        }
        Ok(finish)
    }

    async fn read(&self, id: &ExecutionId) -> Result<Option<Execution>, StoreError> {
        self.store.read(id).await
    }

    async fn output(&self, id: &ExecutionId, after: u64, max: usize) -> Result<Vec<OutputChunk>, StoreError> {
        self.store.output(id, after, max).await
    }

    async fn locate(&self, id: &ExecutionId, place: Place) -> Result<Located, StoreError> {
        self.store.locate(id, place).await
    }

    async fn list(&self, query: &ListQuery) -> Result<ListPage, StoreError> {
        self.store.list(query).await
    }

    async fn refuse(&self, refusal: Refusal) -> Result<(), StoreError> {
        self.audit.note(&Entry::deny(&refusal))?;
        self.store.refuse(refusal).await
    }

    async fn refusals(&self, limit: usize) -> Result<Vec<Refusal>, StoreError> {
        self.store.refusals(limit).await
    }

    async fn recover(&self, at: OffsetDateTime) -> Result<Recovery, StoreError> {
        let recovery = self.store.recover(at).await?;
        let lost = recovery.lost.iter().map(|id| (id, Status::Lost, Reason::ServiceDied));
        let interrupted = recovery.interrupted.iter().map(|id| (id, Status::Failed, Reason::Interrupted));
        for (id, status, reason) in lost.chain(interrupted) {
            let (execution_id, status) = (Some(id.to_string()), Some(status.as_str()));
            let reason = Some(reason.as_str());
            let _ = self.audit.note(&Entry { execution_id, status, reason, ..Entry::of("end", None) });
        }
        Ok(recovery)
    }

    async fn undelivered(&self, limit: usize) -> Result<Vec<Execution>, StoreError> {
        self.store.undelivered(limit).await
    }

    async fn delivered(&self, id: &ExecutionId, delivery: Delivery) -> Result<(), StoreError> {
        self.store.delivered(id, delivery).await
    }

    async fn trim(&self, keep: Keep) -> Result<u64, StoreError> {
        self.store.trim(keep).await
    }

    async fn was_removed(&self, owner: &str, id: &ExecutionId) -> Result<bool, StoreError> {
        self.store.was_removed(owner, id).await
    }

    async fn expire(&self, ended_before: OffsetDateTime) -> Result<u64, StoreError> {
        self.store.expire(ended_before).await
    }

    async fn probe(&self) -> Result<(), StoreError> {
        self.audit.check()?;
        self.store.probe().await
    }
}

/// An authenticator whose refusals are in the audit log.
pub struct AuditedAuthenticator {
    authenticator: Arc<dyn Authenticator>,
    audit: Arc<Audit>,
}

impl AuditedAuthenticator {
    /// Writes to an audit log whom this authenticator does not let in.
    pub fn new(authenticator: Arc<dyn Authenticator>, audit: Arc<Audit>) -> Arc<Self> {
        Arc::new(Self { authenticator, audit })
    }
}

#[async_trait]
impl Authenticator for AuditedAuthenticator {
    async fn authenticate(&self, credentials: &Credentials) -> Result<Principal, AuthenticateError> {
        let asked = self.authenticator.authenticate(credentials).await;
        let (code, principal) = match &asked {
            Ok(_) => return asked,
            Err(AuthenticateError::Missing) => ("missing", None),
            Err(AuthenticateError::Invalid) => ("invalid", None),
            Err(AuthenticateError::Forbidden { principal, .. }) => ("forbidden", principal.as_ref()),
            Err(AuthenticateError::Unavailable { .. }) => ("unavailable", None),
        };
        let entry = Entry {
            user: principal.map(|principal| principal.name.clone()),
            user_id: principal.map(|principal| principal.id.clone()),
            ..Entry::of("authentication", code.to_owned())
        };
        self.audit.note_stranger(entry.from(&credentials.provenance));
        asked
    }
}
