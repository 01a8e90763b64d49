//! Removes records when their time is over, or when there are too many.

use std::sync::Arc;
use std::time::Duration;

use portcullis_core::{ExecutionStore, Keep, StoreError};
use time::OffsetDateTime;

use crate::report::chain;

/// How often the store is asked for what is too old or too much. What comes in between is too much for so long.
const PERIOD: Duration = Duration::from_secs(60);

/// Removes, at once and then every minute, what ended longer ago than this, and the oldest of what is too much. Never
/// returns; a store that fails is asked again a minute later.
pub async fn retain(time: Option<Duration>, keep: Keep, store: Arc<dyn ExecutionStore>) {
    loop {
        match once(time, keep, &*store).await {
            Ok((0, 0)) => {}
            Ok((too_old, too_much)) => {
                tracing::info!(too_old, too_much, "removed the oldest records, as retention says");
            }
            Err(error) => tracing::warn!(reason = chain(&error), "could not remove old records"),
        }
        tokio::time::sleep(PERIOD).await;
    }
}

async fn once(
    time: Option<Duration>,
    keep: Keep,
    store: &dyn ExecutionStore,
) -> Result<(u64, u64), StoreError> {
    // A time so long that no clock reaches back keeps everything.
    let before = time.and_then(|time| {
        OffsetDateTime::now_utc().checked_sub(time.try_into().unwrap_or(time::Duration::MAX))
    });
    let too_old = match before {
        Some(before) => store.expire(before).await?,
        None => 0,
    };
    // Also without bounds: it gives room back that is free by now.
    Ok((too_old, store.trim(keep).await?))
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
    async fn what_is_too_old_goes_at_the_start_and_every_minute_and_nothing_else_does() {
        let store = Arc::new(MemoryStore::new());
        record(&store, "old", 31).await;
        record(&store, "new", 29).await;
        let keeping = tokio::spawn(retain(Some(30 * DAY), Keep::default(), store.clone()));
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
        let keeping = tokio::spawn(retain(Some(Duration::MAX), Keep::default(), store.clone()));
        tokio::time::sleep(2 * PERIOD).await;
        assert!(is_there(&store, "old").await && !keeping.is_finished());
        keeping.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn the_oldest_go_when_there_are_too_many() {
        let store = Arc::new(MemoryStore::new());
        for (id, days) in [("a", 3), ("b", 2), ("c", 1)] {
            record(&store, id, days).await;
        }
        let keep = Keep { executions: Some(2), bytes: None };
        let keeping = tokio::spawn(retain(None, keep, store.clone()));
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(!is_there(&store, "a").await && is_there(&store, "b").await);
        record(&store, "d", 0).await;
        tokio::time::sleep(PERIOD).await;
        assert!(!is_there(&store, "b").await && is_there(&store, "c").await && is_there(&store, "d").await);
        keeping.abort();
    }
}
