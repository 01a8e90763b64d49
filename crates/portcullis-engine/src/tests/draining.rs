//! How the engine ends its work.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use portcullis_core::*;
use tokio::time::Instant;

use super::doubles::*;
use crate::{Config, SubmitError, Submitted};

#[tokio::test(start_paused = true)]
async fn drain_refuses_new_work_and_finishes_the_old_within_its_patience() {
    let service = Arc::new(Service::start(1).await);
    let x = service.accept("x", "sleep 5").await;
    let y = service.accept("y", "sleep 5").await;
    let draining = tokio::spawn({
        let service = Arc::clone(&service);
        async move { service.engine.drain(60 * SECOND).await }
    });
    eventually(|| async { service.engine.load().draining.then_some(()) }).await;
    assert!(matches!(service.submit("z", "echo z").await, Err(SubmitError::Draining)));
    assert!(matches!(
        service.engine.submit(&ann(), None, Submission::of("echo z")).await,
        Err(SubmitError::Draining)
    ));
    assert!(matches!(service.submit("x", "sleep 5").await, Ok(Submitted::Same(_))));
    let began = Instant::now();
    draining.await.unwrap();
    assert!(began.elapsed() < 11 * SECOND, "it waits no longer than needed: {:?}", began.elapsed());
    assert_eq!(service.told(&x).await, "completed/exit");
    assert_eq!(service.told(&y).await, "completed/exit");
    assert_eq!(service.listener.last_of(&y).unwrap().status, Status::Completed);
    assert_eq!(service.stats().turned_away_draining, 2);
}

#[tokio::test(start_paused = true)]
async fn drain_ends_what_is_left_truthfully_when_its_patience_is_over() {
    let service = Service::start(1).await;
    let x = service.accept("x", "sleep 500").await;
    let y = service.accept("y", "sleep 500").await;
    eventually(|| async { service.journal.position("run sleep 500") }).await;
    service.engine.drain(3 * SECOND).await;
    assert_eq!(service.told(&x).await, "failed/shutdown");
    assert_eq!(service.told(&y).await, "failed/interrupted");
    assert_eq!(service.journal.count("claim y"), 0);
    service.all_told().await;
}

#[tokio::test(start_paused = true)]
async fn second_drain_with_less_patience_hastens_the_first() {
    let service = Arc::new(Service::start(1).await);
    let x = service.accept("x", "sleep 500").await;
    eventually(|| async { service.journal.position("run sleep 500") }).await;
    let first = tokio::spawn({
        let service = Arc::clone(&service);
        async move { service.engine.drain(600 * SECOND).await }
    });
    tokio::time::sleep(SECOND).await;
    let began = Instant::now();
    service.engine.drain(Duration::ZERO).await;
    first.await.unwrap();
    assert!(began.elapsed() < 2 * SECOND);
    assert_eq!(service.told(&x).await, "failed/shutdown");
}

#[tokio::test(start_paused = true)]
async fn drain_returns_though_the_store_is_away_and_the_next_start_ends_the_record() {
    let service = Service::start(1).await;
    let x = service.accept("x", "sleep 500").await;
    eventually(|| async { service.journal.position("run sleep 500") }).await;
    service.store.set_away(true);
    let began = Instant::now();
    service.engine.drain(Duration::ZERO).await;
    assert!(began.elapsed() < 30 * SECOND, "{:?}", began.elapsed());
    assert_eq!(service.record(&x).await.status, Status::Running);
    service.store.set_away(false);
    let next = Service::on(service.store.clone(), service.journal.clone(), 1, Config::default()).await;
    assert_eq!(next.told(&x).await, "lost/service_died");
}

#[tokio::test(start_paused = true)]
async fn update_that_was_not_told_before_the_end_is_told_after_the_next_start() {
    let service = Service::start(1).await;
    service.listener.away.store(true, Ordering::SeqCst);
    let x = service.accept("x", "echo a").await;
    service.ended(&x).await;
    let began = Instant::now();
    service.engine.drain(SECOND).await;
    assert!(began.elapsed() < 10 * SECOND, "a listener that is away is not waited for long");
    assert_eq!(service.store.inner.undelivered(9).await.unwrap().len(), 1);
    let next = Service::on(service.store.clone(), service.journal.clone(), 1, Config::default()).await;
    next.all_told().await;
    assert_eq!(next.listener.last_of(&x).unwrap().output.as_deref(), Some("a"));
}

#[tokio::test(start_paused = true)]
async fn acceptance_that_the_drain_overtakes_still_has_its_ending() {
    let service = Arc::new(Service::start(1).await);
    let submission = tokio::spawn({
        let service = Arc::clone(&service);
        async move { service.submit("x", "echo a").await }
    });
    // Its place is taken, and the store has not answered.
    tokio::task::yield_now().await;
    tokio::task::yield_now().await;
    service.engine.drain(Duration::ZERO).await;
    match submission.await.unwrap() {
        Ok(Submitted::New(record)) => {
            assert_eq!(service.told(&record.id).await, "failed/interrupted");
        }
        other => panic!("the test means to be overtaken: {other:?}"),
    }
}
