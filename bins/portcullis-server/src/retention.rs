//! Removes records when their time is over.

use std::sync::Arc;
use std::time::Duration;

use portcullis_core::ExecutionStore;
use time::OffsetDateTime;

use crate::report::chain;

/// How often the store is asked for what is too old.
const PERIOD: Duration = Duration::from_secs(3_600);

/// Removes, at once and then every hour, what ended longer ago than this. Never returns; a store that fails is
/// asked again at the next hour.
pub async fn keep_for(time: Duration, store: Arc<dyn ExecutionStore>) {
    loop {
        // A time so long that no clock reaches back keeps everything.
        if let Some(before) =
            OffsetDateTime::now_utc().checked_sub(time.try_into().unwrap_or(time::Duration::MAX))
        {
            match store.expire(before).await {
                Ok(0) => {}
                Ok(executions) => tracing::info!(executions, "removed records that were old enough"),
                Err(error) => tracing::warn!(reason = chain(&error), "could not remove old records"),
            }
        }
        tokio::time::sleep(PERIOD).await;
    }
}

#[cfg(test)]
mod tests {
    use portcullis_core::{Ending, ExecutionId, Fingerprint, Limits, NewExecution, Reason, Status};
    use portcullis_store::MemoryStore;

    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    /// Records an execution that ended so many days ago.
    async fn record(store: &MemoryStore, id: &str, days: u32) {
        let at = OffsetDateTime::now_utc() - days * DAY;
        let id = ExecutionId::parse(id).unwrap();
        let new = NewExecution {
            id: id.clone(),
            owner: "u-1".into(),
            owner_name: "ann".into(),
            command: "echo x".into(),
            fingerprint: Fingerprint([0; 32]),
            programs: vec!["echo".into()],
            rules: Vec::new(),
            limits: Limits::default(),
            accepted_at: at,
            provenance: Default::default(),
            start: None,
        };
        store.accept(new).await.unwrap();
        let ending = Ending {
            status: Status::Failed,
            reason: Reason::Interrupted,
            exit_code: None,
            signal: None,
            ended_at: at,
            usage: None,
            truncated: false,
            message: None,
        };
        store.finish(&id, ending).await.unwrap();
    }

    async fn is_there(store: &MemoryStore, id: &str) -> bool {
        store.read(&ExecutionId::parse(id).unwrap()).await.unwrap().is_some()
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_too_old_goes_at_the_start_and_every_hour_and_nothing_else_does() {
        let store = Arc::new(MemoryStore::new());
        record(&store, "old", 31).await;
        record(&store, "new", 29).await;
        let keeping = tokio::spawn(keep_for(30 * DAY, store.clone()));
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(!is_there(&store, "old").await && is_there(&store, "new").await);
        record(&store, "late", 40).await;
        tokio::time::sleep(PERIOD - Duration::from_secs(2)).await;
        assert!(is_there(&store, "late").await);
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert!(!is_there(&store, "late").await && is_there(&store, "new").await);
        keeping.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn a_time_longer_than_any_clock_keeps_everything() {
        let store = Arc::new(MemoryStore::new());
        record(&store, "old", 10_000).await;
        let keeping = tokio::spawn(keep_for(Duration::MAX, store.clone()));
        tokio::time::sleep(2 * PERIOD).await;
        assert!(is_there(&store, "old").await && !keeping.is_finished());
        keeping.abort();
    }
}
