//! What starts at once is made ready while it is accepted, and runs after.

use std::sync::atomic::Ordering;

use portcullis_core::*;

use super::doubles::*;
use crate::{SubmitError, Submitted};

#[tokio::test(start_paused = true)]
async fn what_starts_at_once_is_made_ready_while_it_is_accepted_and_runs_after() {
    let service = Service::with(1, at_once()).await;
    service.store.set_slow(true);
    let accepting = async { service.accept("x", "wait").await };
    let driving = async {
        let cell = service.cell().await;
        assert_eq!(service.journal.count("accept x"), 0, "its launcher has it before the store");
        cell.start().await;
        cell.exit(0).await;
    };
    let (x, ()) = tokio::join!(accepting, driving);
    assert_eq!(service.told(&x).await, "completed/exit");
    assert!(service.journal.position("accept x") < service.journal.position("run wait"));
}

#[tokio::test(start_paused = true)]
async fn nothing_runs_of_what_the_store_does_not_take() {
    let service = Service::with(1, at_once()).await;
    service.store.set_away(true);
    let driving = async { service.cell().await.start().await };
    let (answer, ()) = tokio::join!(service.submit("x", "wait"), driving);
    assert!(answer.is_err());
    eventually(|| async { (service.engine.load().running == 0).then_some(()) }).await;
    service.store.set_away(false);
    assert_eq!(service.journal.count("run wait"), 0);
    assert!(service.store.inner.read(&id("x")).await.unwrap().is_none());
    // Its place is free again.
    let y = service.accept("y", "echo b").await;
    assert_eq!(service.told(&y).await, "completed/exit");
}

#[tokio::test(start_paused = true)]
async fn what_has_ended_is_made_ready_again_at_most_and_never_runs_again() {
    let service = Service::with(1, at_once()).await;
    let x = service.accept("x", "echo a").await;
    let first = service.ended(&x).await;
    for _ in 0..3 {
        let again = service.submit("x", "echo a").await;
        assert!(matches!(&again, Ok(Submitted::Same(record)) if **record == first), "{again:?}");
    }
    let taken = service.submit("x", "echo b").await;
    assert!(matches!(taken, Err(SubmitError::IdTaken(_))), "{taken:?}");
    eventually(|| async { (service.engine.load().running == 0).then_some(()) }).await;
    assert_eq!((service.journal.count("run echo a"), service.journal.count("run echo b")), (1, 0));
    assert_eq!(service.record(&x).await, first);
    assert_eq!(service.stats().started, 1);
}

#[tokio::test(start_paused = true)]
async fn what_lives_is_not_made_ready_again() {
    let service = Service::with(2, at_once()).await;
    let x = service.accept("x", "wait").await;
    let cell = service.cell().await;
    cell.start().await;
    assert!(matches!(service.submit("x", "wait").await, Ok(Submitted::Same(_))));
    assert_eq!(service.launcher.launches.load(Ordering::SeqCst), 1);
    cell.exit(0).await;
    assert_eq!(service.told(&x).await, "completed/exit");
}

#[tokio::test(start_paused = true)]
async fn launch_that_fails_before_the_acceptance_is_told_after_it() {
    for broken in [false, true] {
        let service = Service::with(1, at_once()).await;
        service.store.set_slow(true);
        let driving = async {
            let act = match broken {
                true => Act::Panic,
                false => Act::Fail(LaunchError::Unenforceable { problem: "no".into() }),
            };
            service.cell().await.act(act).await;
            assert_eq!(service.stats().accepted, 0, "its acceptance is not known yet");
        };
        let (x, ()) = tokio::join!(async { service.accept("x", "wait").await }, driving);
        assert_eq!(service.told(&x).await, "failed/start_failed");
        assert!(service.journal.position("accept x") < service.journal.position("finish x"));
    }
}

#[tokio::test(start_paused = true)]
async fn launch_that_fails_for_what_is_not_accepted_is_nobodys() {
    for act in [Act::Panic, Act::Fail(LaunchError::Unenforceable { problem: "no".into() })] {
        let service = Service::with(1, at_once()).await;
        service.store.set_away(true);
        let driving = async { service.cell().await.act(act).await };
        let (answer, ()) = tokio::join!(service.submit("x", "wait"), driving);
        assert!(answer.is_err());
        eventually(|| async { (service.engine.load().running == 0).then_some(()) }).await;
        assert_eq!(service.journal.count("finish x") + service.journal.count("failed finish x"), 0);
    }
}
