//! The store fails at its 1st, 2nd, … nth call, once or for a while, and the promises hold after each.

use portcullis_core::*;

use super::doubles::*;
use crate::{Config, SubmitError, Submitted};

/// What one history was to lead to.
struct History {
    service: Service,
    acknowledged: Vec<ExecutionId>,
}

/// Starts an engine on a store whose given calls fail, and has a day of work done on it.
async fn live_through(failing: impl IntoIterator<Item = usize>) -> Option<History> {
    let journal = Journal::default();
    let store = FaultyStore::new(&journal);
    *store.failing.lock().unwrap() = failing.into_iter().collect();
    let service = Service::try_on(store, journal, 2, Config::default()).await?;
    let mut acknowledged = Vec::new();
    for (name, line) in [("a", "echo a"), ("b", "fail 3"), ("c", "sleep 9"), ("d", "sleep 9"), ("e", "rm x")]
    {
        match service.submit(name, line).await {
            Ok(Submitted::New(record)) => acknowledged.push(record.id),
            Ok(Submitted::Same(record)) => panic!("{record:?}"),
            Err(SubmitError::Denied(_)) => assert_eq!(name, "e"),
            Err(SubmitError::Store(StoreError::Unavailable { .. })) => {}
            Err(other) => panic!("{other}"),
        }
    }
    // Whether the cancellation could be heard or not, it must do no harm.
    let _ = service.engine.cancel(&ann(), &id("d")).await;
    for id in &acknowledged {
        service.ended(id).await;
    }
    service.all_told().await;
    Some(History { service, acknowledged })
}

impl History {
    async fn check(&self) {
        let journal = &self.service.journal;
        for name in ["a", "b", "c", "d", "e"] {
            let x = id(name);
            let record = self.service.store.inner.read(&x).await.unwrap();
            let acknowledged = self.acknowledged.contains(&x);
            assert_eq!(
                acknowledged,
                record.is_some(),
                "{name}: acknowledged is recorded, and nothing else is"
            );
            let Some(record) = record else { continue };
            assert!(record.status.is_terminal(), "{name} has its ending");
            assert!(
                journal.count(&format!("finish {name}")) <= 1 + journal.count("recover "),
                "{name} ended once"
            );
            let told = format!("conclude {name} {}", record.status.as_str());
            assert!(journal.count(&told) >= 1, "{name} is told as it ended");
            let last = self.service.listener.last_of(&x).unwrap();
            assert_eq!((last.status, last.progress), (record.status, 100), "{name}: the end is told last");
            // Of each line with a run there is one claim, and it came before.
            let run =
                journal.lines().iter().filter(|line| **line == format!("run {}", record.command)).count();
            let same_line = if record.command == "sleep 9" { 2 } else { 1 };
            assert!(run <= same_line, "{name} ran at most once");
            assert!(journal.count(&format!("claim {name}")) <= 1);
            if record.status == Status::Completed {
                let claim = journal.position(&format!("claim {name}")).unwrap();
                assert!(
                    claim < journal.position(&format!("run {}", record.command)).unwrap() || same_line == 2
                );
                let stored = self.service.store.inner.output(&x, 0, usize::MAX).await.unwrap();
                let bytes: usize = stored.iter().map(|chunk| chunk.bytes.len()).sum();
                assert_eq!(bytes, if name == "a" { 2 } else { 0 }, "{name} has its output");
            }
        }
        assert_eq!(self.service.engine.load().queued, 0);
        eventually(|| async { (self.service.engine.load().running == 0).then_some(()) }).await;
    }
}

#[tokio::test(start_paused = true)]
async fn store_that_fails_at_any_one_call_breaks_no_promise() {
    let undisturbed = live_through([]).await.unwrap();
    undisturbed.check().await;
    assert_eq!(undisturbed.acknowledged.len(), 4);
    let calls = undisturbed.service.store.calls();
    assert!(calls > 20, "{calls}");
    for nth in 1..=calls {
        match live_through([nth]).await {
            Some(history) => history.check().await,
            None => assert_eq!(nth, 1, "only a failed recovery stops the start"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn store_that_fails_for_a_while_from_any_call_on_breaks_no_promise() {
    for nth in 2..=40 {
        live_through(nth..nth + 6).await.unwrap().check().await;
    }
}
