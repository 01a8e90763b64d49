//! The store fails, or the service is killed, at the 1st, 2nd, … nth call of the store, and the promises hold
//! after each.

use std::sync::Arc;
use std::sync::Mutex;

use portcullis_core::*;

use super::doubles::*;
use crate::{Config, SubmitError, Submitted};

const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];

/// Has a day of work done, and notes what is acknowledged.
async fn work_a_day(service: &Service, acknowledged: &Mutex<Vec<ExecutionId>>) {
    for (name, line) in NAMES.into_iter().zip(["echo a", "fail 3", "sleep 8", "sleep 9", "rm x"]) {
        match service.submit(name, line).await {
            Ok(Submitted::New(record)) => acknowledged.lock().unwrap().push(record.id),
            Ok(Submitted::Same(record)) => panic!("{record:?}"),
            Err(SubmitError::Denied(_)) => assert_eq!(name, "e"),
            Err(SubmitError::Store(StoreError::Unavailable { .. })) => {}
            Err(other) => panic!("{other}"),
        }
    }
    // Whether the cancellation could be heard or not, it must do no harm.
    let _ = service.engine.cancel(&ann(), &id("d")).await;
    let all = acknowledged.lock().unwrap().clone();
    for id in all {
        service.ended(&id).await;
    }
    service.all_told().await;
}

/// Checks what the journal of all lives together says. A life that was killed may have recorded what it did
/// not acknowledge, and told what it did not note.
async fn check(service: &Service, acknowledged: &[ExecutionId], lives: usize) {
    let journal = &service.journal;
    for name in NAMES {
        let x = id(name);
        let record = service.store.inner.read(&x).await.unwrap();
        if acknowledged.contains(&x) || lives == 1 {
            assert_eq!(
                record.is_some(),
                acknowledged.contains(&x),
                "{name}: what is acknowledged is recorded"
            );
        }
        let Some(record) = record else {
            assert_eq!(journal.count(&format!("claim {name}")), 0);
            continue;
        };
        assert!(record.status.is_terminal(), "{name} has its ending");
        assert!(journal.count(&format!("finish {name}")) <= 1, "{name} is ended once");
        let told = journal.count(&format!("conclude {name} {}", record.status.as_str()));
        assert!((1..=lives).contains(&told), "{name} is told as it ended");
        let last = journal.lines().into_iter().rfind(|line| line.contains(&format!("nce {name} ")));
        assert!(
            last.is_none_or(|line| journal.position(&line)
                < journal.position(&format!("conclude {name} {}", record.status.as_str()))),
            "{name}: the end is told last"
        );
        // INVARIANT (record before process), and at most one run.
        let run = format!("run {}", record.command);
        assert!(journal.count(&run) <= 1, "{name} ran at most once");
        assert!(journal.count(&format!("claim {name}")) <= 1);
        if let Some(run) = journal.position(&run) {
            assert!(journal.position(&format!("claim {name}")).is_some_and(|claim| claim < run));
        }
        if record.status == Status::Completed && name == "a" {
            assert_eq!(record.output_bytes, 2, "its output is there");
        }
    }
    assert_eq!(service.engine.load().queued, 0);
    eventually(|| async { (service.engine.load().running == 0).then_some(()) }).await;
}

/// Lives through a day on a store whose given calls fail; returns how many calls there were.
async fn live_through(failing: impl IntoIterator<Item = usize>, config: Config) -> usize {
    let journal = Journal::default();
    let store = FaultyStore::new(&journal);
    *store.failing.lock().unwrap() = failing.into_iter().collect();
    let Some(service) = Service::try_on(store, journal, 2, config).await else {
        return 0;
    };
    let acknowledged = Mutex::default();
    work_a_day(&service, &acknowledged).await;
    let acknowledged = acknowledged.into_inner().unwrap();
    check(&service, &acknowledged, 1).await;
    service.store.calls()
}

#[tokio::test(start_paused = true)]
async fn store_that_fails_at_any_one_call_breaks_no_promise() {
    for config in [Config::default(), at_once()] {
        let calls = live_through([], config.clone()).await;
        assert!(calls > 15, "{calls}");
        for nth in 1..=calls {
            let lived = live_through([nth], config.clone()).await > 0;
            assert_eq!(lived, nth > 1, "only a failed recovery stops the start");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn store_that_fails_for_a_while_from_any_call_on_breaks_no_promise() {
    for nth in 2..=40 {
        assert!(live_through(nth..nth + 6, Config::default()).await > 0);
        assert!(live_through(nth..nth + 6, at_once()).await > 0);
    }
}

#[test]
fn service_that_is_killed_at_any_call_of_the_store_keeps_its_promises_after_the_next_start() {
    // A killed service is a runtime that is dropped with all its tasks; what the store has done stays.
    let runtime =
        || tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let cuts = [Cut::Before, Cut::After].map(|cut| [(cut, Config::default()), (cut, at_once())]);
    for (cut, config) in cuts.into_iter().flatten() {
        let mut nth = 1;
        loop {
            let journal = Journal::default();
            let store = FaultyStore::new(&journal);
            let acknowledged = Arc::new(Mutex::default());
            *store.cut.lock().unwrap() = Some((nth, cut));
            let killed = runtime().block_on(async {
                let life = async {
                    let service = Service::on(store.clone(), journal.clone(), 2, config.clone()).await;
                    work_a_day(&service, &acknowledged).await;
                };
                tokio::select! {
                    biased;
                    () = store.killed() => true,
                    () = life => false,
                }
            });
            *store.cut.lock().unwrap() = None;
            runtime().block_on(async {
                let next = Service::on(store.clone(), journal.clone(), 2, config.clone()).await;
                next.all_told().await;
                let acknowledged = acknowledged.lock().unwrap().clone();
                check(&next, &acknowledged, 2).await;
            });
            if !killed {
                assert!(nth > 15, "{nth}");
                break;
            }
            nth += 1;
        }
    }
}
