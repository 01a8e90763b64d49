//! Who may see and cancel what, and what a cancellation does.

use std::sync::Arc;

use portcullis_core::*;

use super::doubles::*;
use crate::{AccessError, Cancelled};

#[tokio::test(start_paused = true)]
async fn another_principals_execution_is_not_there_in_any_way() {
    let service = Service::start(1).await;
    let running = service.accept("running", "wait").await;
    service.cell().await.start().await;
    let waiting = service.accept("waiting", "wait").await;
    let unknown = id("unknown");
    let bob = principal("bob");
    let engine = &service.engine;
    let mut answers = Vec::new();
    for id in [&running, &waiting, &unknown] {
        let asked = [
            engine.read(&bob, id).await.err(),
            engine.output(&bob, id, 0, 9).await.err(),
            engine.cancel(&bob, id).await.err(),
            engine.watch(&bob, id, 0).await.err(),
        ];
        answers.extend(asked.map(|answer| match answer {
            Some(AccessError::NotFound(named)) => named == *id,
            _ => false,
        }));
    }
    assert_eq!(answers, [true; 12]);
    let all = ListQuery { owner: Some(ann().id), limit: 10, ..ListQuery::default() };
    assert_eq!(engine.list(&bob, all.clone()).await.unwrap().executions, []);
    assert_eq!(engine.list(&ann(), all).await.unwrap().executions.len(), 2);
    assert_eq!(service.record(&waiting).await.status, Status::Scheduled);
    assert_eq!(service.record(&running).await.status, Status::Running);
}

#[tokio::test(start_paused = true)]
async fn waiting_execution_is_cancelled_without_ever_starting() {
    let service = Service::start(1).await;
    service.accept("first", "wait").await;
    let x = service.accept("x", "wait x").await;
    let watch = service.watch(&x, 0).await;

    let cancelled = service.engine.cancel(&ann(), &x).await.unwrap();

    assert!(matches!(cancelled, Cancelled::Cancelled(record) if record.started_at.is_none()));
    assert_eq!(story(watch).await, "scheduled cancelled");
    let cell = service.cell().await;
    cell.start().await;
    cell.exit(0).await;
    assert_eq!(service.told(&id("first")).await, "completed/exit");
    assert_eq!(service.journal.count("claim x"), 0);
    assert_eq!(service.engine.load().queued, 0);
}

#[tokio::test(start_paused = true)]
async fn running_execution_is_stopped_and_the_cancellation_waits_for_its_end() {
    let service = Service::start(1).await;
    let x = service.accept("x", "wait").await;
    let cell = service.cell().await;
    cell.start().await;
    cell.print("so far").await;
    let cancelled = service.engine.cancel(&ann(), &x).await.unwrap();
    assert!(matches!(cancelled, Cancelled::Cancelled(record) if record.output_bytes == 6));
    let again = service.engine.cancel(&ann(), &x).await.unwrap();
    assert!(matches!(again, Cancelled::Cancelled(_)));
    assert_eq!(service.told(&x).await, "cancelled/cancelled");
}

#[tokio::test(start_paused = true)]
async fn ended_execution_is_not_altered_by_a_cancellation() {
    let service = Service::start(1).await;
    let x = service.accept("x", "fail 2").await;
    let before = service.ended(&x).await;
    match service.engine.cancel(&ann(), &x).await.unwrap() {
        Cancelled::AlreadyEnded(record) => assert_eq!(*record, before),
        other => panic!("{other:?}"),
    }
    assert_eq!(service.record(&x).await, before);
}

#[tokio::test(start_paused = true)]
async fn cancellation_before_the_claim_is_never_followed_by_a_run() {
    let service = Service::start(1).await;
    let x = service.accept("x", "wait").await;
    let _cell = service.cell().await; // launched, and not yet asked to start
    let cancelled = service.engine.cancel(&ann(), &x).await.unwrap();
    assert!(matches!(cancelled, Cancelled::Cancelled(_)));
    assert_eq!(service.journal.count("run wait"), 0);
}

#[tokio::test(start_paused = true)]
async fn cancellation_is_seen_at_the_start_although_the_launcher_does_not_listen() {
    let service = Service::start(1).await;
    // Before the claim: it is not made.
    let x = service.accept("x", "wait").await;
    let cell = service.cell().await;
    cell.act(Act::Deafen).await;
    let ann = ann();
    let (cancelled, ()) = tokio::join!(service.engine.cancel(&ann, &x), cell.start());
    assert!(matches!(cancelled, Ok(Cancelled::Cancelled(_))));
    assert_eq!(service.journal.count("claim x"), 0);
    // While the claim is made: nothing runs.
    let y = service.accept("y", "wait").await;
    let cell = service.cell().await;
    cell.act(Act::Deafen).await;
    let cancel = async {
        eventually(|| async { service.journal.position("claim y") }).await;
        service.engine.cancel(&ann, &y).await
    };
    service.store.set_slow(true);
    let (cancelled, ()) = tokio::join!(cancel, cell.start());
    assert!(matches!(cancelled, Ok(Cancelled::Cancelled(_))));
    assert_eq!(service.journal.count("run wait"), 0);
}

#[tokio::test(start_paused = true)]
async fn cancellation_goes_on_when_the_caller_hangs_up() {
    let service = Service::start(1).await;
    service.accept("first", "wait").await;
    let x = service.accept("x", "wait").await;
    let hung_up = tokio::time::timeout(std::time::Duration::ZERO, service.engine.cancel(&ann(), &x)).await;
    assert!(hung_up.is_err());
    assert_eq!(service.told(&x).await, "cancelled/cancelled");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn race_of_exit_and_cancellations_has_one_terminal_state_for_everybody() {
    let service = Arc::new(Service::start(4).await);
    let mut cancelled = 0;
    for n in 0..200 {
        let x = service.accept(&format!("x{n}"), "echo a").await;
        let watch = service.watch(&x, 0).await;
        let cancels: Vec<_> = (0..3)
            .map(|turns| {
                let (service, x) = (Arc::clone(&service), x.clone());
                tokio::spawn(async move {
                    for _ in 0..turns * (n % 7) {
                        tokio::task::yield_now().await;
                    }
                    service.engine.cancel(&ann(), &x).await.unwrap()
                })
            })
            .collect();
        let record = service.ended(&x).await;
        for cancel in cancels {
            let (Cancelled::Cancelled(seen) | Cancelled::AlreadyEnded(seen)) = cancel.await.unwrap();
            assert_eq!(*seen, record);
        }
        assert!(story(watch).await.ends_with(record.status.as_str()));
        assert_eq!(service.record(&x).await, record);
        assert_eq!(service.journal.count(&format!("finish x{n}")), 1);
        cancelled += usize::from(record.status == Status::Cancelled);
    }
    assert!(cancelled > 0, "no cancellation ever came first: this proves nothing");
}
