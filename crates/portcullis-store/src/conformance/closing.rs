//! What comes after the end: recovery, delivery, expiry; and refusals, which have no beginning.

use std::sync::Arc;

use portcullis_core::{
    Acceptance, Closing, Delivery, ExecutionStore, Keep, NewExecution, Reason, Refusal, Status,
};

use super::{
    START, accept, after, assert_refused, assert_unknown, chunk, completed, confinement, ended, id, new,
    provenance, refusal,
};

async fn undelivered(store: &dyn ExecutionStore, limit: usize) -> Vec<String> {
    store.undelivered(limit).await.unwrap().iter().map(|execution| execution.id.to_string()).collect()
}

/// `running` is lost, `scheduled` never ran, what has ended stays; a second look finds nothing.
pub async fn recovery_ends_what_was_left_open(store: Arc<dyn ExecutionStore>) {
    for (n, name) in ["done", "ran-1", "ran-2", "waited-1", "waited-2"].into_iter().enumerate() {
        accept(&*store, NewExecution { accepted_at: after(n as u64), ..new(name) }).await;
    }
    for name in ["done", "ran-1", "ran-2"] {
        store.claim(&id(name), after(5), &confinement()).await.unwrap();
    }
    store.append(&id("ran-1"), vec![chunk(1, b"kept")]).await.unwrap();
    store.finish(&id("done"), completed(after(6))).await.unwrap();
    let done = store.read(&id("done")).await.unwrap();

    let recovery = store.recover(after(100)).await.unwrap();
    assert_eq!(recovery.lost, [id("ran-1"), id("ran-2")]);
    assert_eq!(recovery.interrupted, [id("waited-1"), id("waited-2")]);
    for (name, status, reason) in
        [("ran-1", Status::Lost, Reason::ServiceDied), ("waited-2", Status::Failed, Reason::Interrupted)]
    {
        let execution = store.read(&id(name)).await.unwrap().unwrap();
        assert_eq!(execution.status, status);
        let ending = execution.ending.unwrap();
        assert_eq!((ending.status, ending.reason, ending.ended_at), (status, reason, after(100)));
        assert_eq!((ending.exit_code, ending.signal, ending.usage), (None, None, None));
        assert!(ending.message.is_some_and(|message| !message.is_empty()));
    }
    assert_eq!(store.read(&id("done")).await.unwrap(), done);
    assert_eq!(store.output(&id("ran-1"), 0, 10).await.unwrap(), [chunk(1, b"kept")]);
    assert_eq!(undelivered(&*store, 10).await, ["done", "ran-1", "ran-2", "waited-1", "waited-2"]);
    assert_refused(store.append(&id("ran-1"), vec![chunk(2, b"late")]).await);
    assert_eq!(store.recover(after(200)).await.unwrap(), portcullis_core::Recovery::default());
}

/// Also when the clock was set back between two lives of the service.
pub async fn recovery_never_ends_anything_before_its_beginning(store: Arc<dyn ExecutionStore>) {
    accept(&*store, NewExecution { accepted_at: after(50), ..new("waited") }).await;
    accept(&*store, NewExecution { accepted_at: after(50), ..new("ran") }).await;
    store.claim(&id("ran"), after(60), &confinement()).await.unwrap();
    store.recover(START).await.unwrap();
    for (name, seconds) in [("waited", 50), ("ran", 60)] {
        let ending = store.read(&id(name)).await.unwrap().unwrap().ending.unwrap();
        assert_eq!(ending.ended_at, after(seconds), "{name}");
    }
}

/// By the time of their end; either note takes one off, twice noted or not.
pub async fn undelivered_updates_are_read_oldest_first_until_noted(store: Arc<dyn ExecutionStore>) {
    assert!(undelivered(&*store, 10).await.is_empty());
    for (name, seconds) in [("c", 3), ("a", 4), ("e", 1), ("d", 2), ("b", 3)] {
        ended(&*store, name, after(seconds)).await;
    }
    accept(&*store, new("open")).await;
    assert_eq!(undelivered(&*store, 10).await, ["e", "d", "b", "c", "a"]);
    assert_eq!(undelivered(&*store, 2).await, ["e", "d"]);
    assert!(undelivered(&*store, 0).await.is_empty());
    assert_eq!(store.undelivered(1).await.unwrap(), [store.read(&id("e")).await.unwrap().unwrap()]);

    store.delivered(&id("e"), Delivery::Delivered).await.unwrap();
    store.delivered(&id("b"), Delivery::GivenUp).await.unwrap();
    store.delivered(&id("b"), Delivery::Delivered).await.unwrap();
    assert_eq!(undelivered(&*store, 10).await, ["d", "c", "a"]);
    // A second ending changes nothing, so there is nothing to tell again.
    store.finish(&id("e"), completed(after(9))).await.unwrap();
    assert_eq!(undelivered(&*store, 10).await, ["d", "c", "a"]);
}

/// The closing says so; recovery does not.
pub async fn an_update_that_nobody_waits_for_is_never_undelivered(store: Arc<dyn ExecutionStore>) {
    for (name, delivery) in [("a", Some(Delivery::Delivered)), ("b", Some(Delivery::GivenUp)), ("c", None)] {
        accept(&*store, new(name)).await;
        let closing = Closing { delivery, ..completed(after(1)).into() };
        store.close(&id(name), closing).await.unwrap();
    }
    assert_eq!(undelivered(&*store, 10).await, ["c"]);
    accept(&*store, new("open")).await;
    assert_eq!(store.recover(after(2)).await.unwrap().interrupted, [id("open")]);
    assert_eq!(undelivered(&*store, 10).await, ["c", "open"]);
}

/// It has none yet.
pub async fn an_update_of_a_running_execution_cannot_be_delivered(store: Arc<dyn ExecutionStore>) {
    accept(&*store, new("a")).await;
    assert_refused(store.delivered(&id("a"), Delivery::Delivered).await);
    store.claim(&id("a"), after(1), &confinement()).await.unwrap();
    assert_refused(store.delivered(&id("a"), Delivery::GivenUp).await);
    store.finish(&id("a"), completed(after(2))).await.unwrap();
    assert_eq!(undelivered(&*store, 10).await, ["a"]);
}

/// With its output, its place in lists and its undelivered update; its id is free again.
pub async fn expiry_removes_what_ended_before_and_nothing_else(store: Arc<dyn ExecutionStore>) {
    accept(&*store, new("old")).await;
    store.append(&id("old"), vec![chunk(1, b"gone")]).await.unwrap();
    store.finish(&id("old"), completed(after(9))).await.unwrap();
    ended(&*store, "at", after(10)).await;
    ended(&*store, "later", after(11)).await;
    accept(&*store, NewExecution { accepted_at: START, ..new("waiting") }).await;
    accept(&*store, NewExecution { accepted_at: START, ..new("running") }).await;
    store.claim(&id("running"), after(1), &confinement()).await.unwrap();

    assert_eq!(store.expire(after(10)).await.unwrap(), 1);
    assert_eq!(store.expire(after(10)).await.unwrap(), 0);
    assert_eq!(store.read(&id("old")).await.unwrap(), None);
    assert_unknown(store.output(&id("old"), 0, 10).await);
    assert_eq!(undelivered(&*store, 10).await, ["at", "later"]);
    let query = portcullis_core::ListQuery { limit: 10, ..Default::default() };
    assert_eq!(store.list(&query).await.unwrap().executions.len(), 4);

    assert!(matches!(store.accept(new("old")).await.unwrap(), Acceptance::New(_)));
    assert!(store.output(&id("old"), 0, 10).await.unwrap().is_empty());
}

/// All of them, and their number.
pub async fn expiry_removes_more_than_one_step_holds(store: Arc<dyn ExecutionStore>) {
    for n in 0..200 {
        let name = format!("a{n}");
        accept(&*store, new(&name)).await;
        store.append(&id(&name), vec![chunk(1, b"x"), chunk(2, b"y")]).await.unwrap();
        store.finish(&id(&name), completed(after(n))).await.unwrap();
    }
    assert_eq!(store.expire(after(190)).await.unwrap(), 190);
    assert_eq!(undelivered(&*store, 100).await, (190..200).map(|n| format!("a{n}")).collect::<Vec<_>>());
}

/// In the order in which they were recorded, whole.
pub async fn refusals_are_read_newest_first_as_they_were(store: Arc<dyn ExecutionStore>) {
    assert_eq!(store.refusals(10).await.unwrap(), []);
    let refusals = [
        refusal("cat /etc/passwd", after(1)),
        Refusal { execution_id: None, provenance: provenance(), ..refusal("\0 'é' \u{2028}", after(2)) },
        refusal("cat /etc/passwd", after(3)),
    ];
    for refusal in &refusals {
        store.refuse(refusal.clone()).await.unwrap();
    }
    let newest: Vec<Refusal> = refusals.into_iter().rev().collect();
    assert_eq!(store.refusals(10).await.unwrap(), newest);
    assert_eq!(store.refusals(2).await.unwrap(), newest[..2]);
    assert_eq!(store.refusals(0).await.unwrap(), []);
    // No claim on the id that the caller had chosen.
    accept(&*store, new("chosen")).await;
}

/// So that refusals cannot fill the disk for ever; they are not counted.
pub async fn expiry_removes_old_refusals(store: Arc<dyn ExecutionStore>) {
    for n in 0..150 {
        store.refuse(refusal("cat /etc/passwd", after(n))).await.unwrap();
    }
    assert_eq!(store.expire(after(149)).await.unwrap(), 0);
    assert_eq!(store.refusals(10).await.unwrap(), [refusal("cat /etc/passwd", after(149))]);
}

/// The rest stays, and so does what has not ended.
pub async fn trimming_keeps_the_newest_that_ended(store: Arc<dyn ExecutionStore>) {
    for n in 0..200 {
        ended(&*store, &format!("a{n}"), after(n)).await;
    }
    accept(&*store, new("waiting")).await;
    let trim = async |executions| store.trim(Keep { executions, bytes: None }).await.unwrap();
    assert_eq!((trim(None).await, trim(Some(200)).await, trim(Some(70)).await), (0, 0, 130));
    assert_eq!(undelivered(&*store, 100).await, (130..200).map(|n| format!("a{n}")).collect::<Vec<_>>());
    assert_eq!(trim(Some(0)).await, 70);
    assert!(store.read(&id("waiting")).await.unwrap().is_some());
    assert_eq!(trim(Some(0)).await, 0);
}

/// The oldest go, and not many more of them than need be.
pub async fn trimming_to_bytes_removes_the_oldest(store: Arc<dyn ExecutionStore>) {
    for n in 0..40 {
        let name = format!("a{n}");
        accept(&*store, new(&name)).await;
        store.append(&id(&name), vec![chunk(1, &[b'x'; 500_000])]).await.unwrap();
        store.finish(&id(&name), completed(after(n))).await.unwrap();
    }
    let trim = async |bytes| store.trim(Keep { executions: None, bytes: Some(bytes) }).await.unwrap();
    assert_eq!(trim(40_000_000).await, 0);
    let removed = trim(10_000_000).await;
    assert!((20..=30).contains(&removed), "{removed}");
    assert_eq!(store.read(&id(&format!("a{}", removed - 1))).await.unwrap(), None);
    let kept = store.output(&id(&format!("a{removed}")), 0, 1_000_000).await.unwrap();
    assert_eq!(kept[0].bytes.len(), 500_000);
    // What cannot be had is not looked for for ever.
    assert_eq!(trim(0).await, 40 - removed);
    assert_eq!(trim(0).await, 0);
}

/// To its owner alone, and as often as it happens.
pub async fn what_was_removed_is_remembered(store: Arc<dyn ExecutionStore>) {
    ended(&*store, "a", after(1)).await;
    ended(&*store, "b", after(2)).await;
    let removed = async |owner: &str, name: &str| store.was_removed(owner, &id(name)).await.unwrap();
    assert!(!removed("u-1", "a").await);
    store.expire(after(2)).await.unwrap();
    store.trim(Keep { executions: Some(0), bytes: None }).await.unwrap();
    assert!(removed("u-1", "a").await && removed("u-1", "b").await);
    assert!(!removed("u-2", "a").await && !removed("u-1", "c").await);
    ended(&*store, "a", after(3)).await;
    store.expire(after(4)).await.unwrap();
    assert!(removed("u-1", "a").await);
}
