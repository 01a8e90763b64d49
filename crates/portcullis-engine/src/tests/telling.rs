//! What listeners are told.

use std::sync::atomic::Ordering;

use portcullis_core::*;

use super::doubles::*;

#[tokio::test(start_paused = true)]
async fn listener_is_told_the_start_then_progress_then_once_the_end() {
    let service = Service::start(1).await;
    let x = service.accept("x", "wait").await;
    let cell = service.cell().await;
    cell.start().await;
    cell.print("one\n\ntwo\n").await;
    tokio::time::sleep(SECOND).await;
    cell.complain("careful\n").await;
    tokio::time::sleep(SECOND).await;
    cell.print(&"line\n".repeat(98)).await;
    cell.exit(0).await;
    service.ended(&x).await;
    service.all_told().await;
    let told: Vec<_> = service
        .listener
        .updates()
        .into_iter()
        .map(|update| (update.status, update.progress, update.output.unwrap_or_default().lines().count()))
        .collect();
    use Status::{Completed, Running};
    assert_eq!(told, [(Running, 1, 1), (Running, 1, 2), (Running, 10, 10), (Completed, 100, 100)]);
    assert_eq!(service.listener.updates()[0].output.as_deref(), Some("Starting execution..."));
}

#[tokio::test(start_paused = true)]
async fn cancelled_failed_and_timed_out_executions_are_told_in_their_words() {
    let service = Service::start(3).await;
    let mut told = Vec::new();
    for (name, ended) in
        [("f", Some(Ended::Exited(2))), ("t", Some(Ended::Limited(Limit::WallTime))), ("c", None)]
    {
        let x = service.accept(name, "wait").await;
        let cell = service.cell().await;
        cell.start().await;
        cell.print("out\n").await;
        cell.complain("err\n").await;
        match ended {
            Some(ended) => cell.act(Act::End(ended)).await,
            None => drop(service.engine.cancel(&ann(), &x).await.unwrap()),
        }
        service.ended(&x).await;
        service.all_told().await;
        let update = service.listener.last_of(&x).unwrap();
        told.push((update.status, update.output.unwrap(), update.error));
    }
    assert_eq!(
        told,
        [
            (Status::Failed, "out".into(), Some("err".into())),
            (Status::Timeout, "out".into(), Some("Execution timed out".into())),
            (Status::Cancelled, "Execution cancelled by user".into(), None),
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn listener_that_is_away_costs_no_execution_anything_and_gets_every_end_later() {
    let service = Service::start(4).await;
    service.listener.away.store(true, Ordering::SeqCst);
    let ids: Vec<_> = (0..90).map(|n| format!("x{n}")).collect();
    for name in &ids {
        service.accept(name, "echo a").await;
        assert_eq!(service.told(&id(name)).await, "completed/exit");
    }
    tokio::time::sleep(3_600 * SECOND).await;
    let waiting = service.listener.waiting.load(Ordering::SeqCst);
    assert_eq!(waiting, 32, "the others wait in the store");
    service.listener.away.store(false, Ordering::SeqCst);
    service.all_told().await;
    for name in &ids {
        assert_eq!(service.journal.count(&format!("conclude {name} completed")), 1);
    }
    assert_eq!(service.stats().updates_delivered, 90);
}

#[tokio::test(start_paused = true)]
async fn update_that_is_refused_for_good_does_not_block_the_next() {
    let service = Service::start(1).await;
    service.listener.refusing.store(true, Ordering::SeqCst);
    service.accept("x", "echo a").await;
    service.ended(&id("x")).await;
    service.all_told().await;
    service.listener.refusing.store(false, Ordering::SeqCst);
    service.accept("y", "echo a").await;
    service.ended(&id("y")).await;
    service.all_told().await;
    assert_eq!((service.stats().updates_given_up, service.stats().updates_delivered), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn delivery_that_cannot_be_noted_is_not_told_again_and_again() {
    let service = Service::start(1).await;
    service.listener.away.store(true, Ordering::SeqCst);
    let x = service.accept("x", "echo a").await;
    service.ended(&x).await;
    eventually(|| async { (service.listener.waiting.load(Ordering::SeqCst) == 1).then_some(()) }).await;
    service.store.set_read_only(true);
    service.listener.away.store(false, Ordering::SeqCst);
    tokio::time::sleep(600 * SECOND).await;
    assert_eq!(service.journal.count("conclude x completed"), 1);
    service.store.set_read_only(false);
    service.all_told().await;
    assert_eq!(service.journal.count("conclude x completed"), 1);
}

#[tokio::test(start_paused = true)]
async fn where_nobody_listens_no_update_is_made_and_none_waits() {
    let service = Service::start(1).await;
    service.listener.nobody.store(true, Ordering::SeqCst);
    let x = service.accept("x", "wait").await;
    let cell = service.cell().await;
    cell.start().await;
    cell.print("one\n").await;
    cell.exit(0).await;
    service.ended(&x).await;
    service.all_told().await;
    assert_eq!(service.listener.updates(), []);
    assert_eq!(service.store.output_reads.load(Ordering::SeqCst), 0);
    assert_eq!(service.stats().updates_delivered, 0);
}
