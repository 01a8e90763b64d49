//! One execution from its start to its ending.

use portcullis_core::*;

use super::doubles::*;

#[tokio::test(start_paused = true)]
async fn execution_goes_from_scheduled_over_running_to_its_end() {
    let service = Service::start(1).await;
    let x = service.accept("x", "wait").await;
    assert_eq!(service.record(&x).await.status, Status::Scheduled);
    let cell = service.cell().await;
    cell.start().await;
    let record = service.record(&x).await;
    assert_eq!((record.status, record.confinement), (Status::Running, Some(confinement())));
    cell.print("out").await;
    cell.complain("err").await;
    cell.exit(3).await;
    let record = service.ended(&x).await;
    let ending = record.ending.unwrap();
    assert_eq!((ending.status, ending.reason, ending.exit_code), (Status::Failed, Reason::Exit, Some(3)));
    assert!(ending.ended_at >= record.started_at.unwrap());
    assert_eq!((record.last_seq, record.output_bytes), (2, 6));
    eventually(|| async { (service.engine.load().running == 0).then_some(()) }).await;
}

#[tokio::test(start_paused = true)]
async fn record_is_claimed_before_anything_runs_and_finished_after() {
    let service = Service::start(1).await;
    let x = service.accept("x", "echo a").await;
    service.ended(&x).await;
    service.all_told().await;
    let lines = service.journal.lines();
    let steps: Vec<_> = lines
        .iter()
        .map(String::as_str)
        .filter(|line| !line.starts_with("undelivered") && !line.starts_with("recover"))
        .collect();
    assert_eq!(
        steps,
        [
            "accept x",
            "claim x",
            "announce x running",
            "run echo a",
            "ran echo a",
            "finish x",
            "announce x running",
            "output x",
            "conclude x completed",
            "delivered x"
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn what_need_not_wait_is_accepted_and_claimed_in_one_record() {
    let service = Service::with(1, at_once()).await;
    let x = service.accept("x", "wait").await;
    let record = service.record(&x).await;
    assert_eq!((record.status, record.confinement), (Status::Running, Some(confinement())));
    assert_eq!(record.started_at, Some(record.accepted_at));
    let cell = service.cell().await;
    // The next one has to wait, is told so, and is claimed when its turn comes.
    let y = service.accept("y", "echo b").await;
    assert_eq!(service.record(&y).await.status, Status::Scheduled);
    assert_eq!((service.engine.load().running, service.engine.load().queued), (1, 1));
    cell.start().await;
    cell.exit(0).await;
    assert_eq!(
        (service.told(&x).await, service.told(&y).await),
        ("completed/exit".into(), "completed/exit".into())
    );
    eventually(|| async { (service.engine.load().running == 0).then_some(()) }).await;
    let lines = service.journal.lines();
    let of = |words: &str| lines.iter().filter(|line| line.contains(words)).cloned().collect::<Vec<_>>();
    assert_eq!(of("claim"), ["claim x", "claim y"]);
    assert!(service.journal.position("claim x") < service.journal.position("accept x"));
    assert!(service.journal.position("accept y") < service.journal.position("claim y"));
    assert_eq!((service.stats().started, service.stats().accepted), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn start_at_once_is_called_off_by_a_cancellation_and_given_up_when_the_store_fails() {
    let service = Service::with(1, at_once()).await;
    let x = service.accept("x", "wait").await;
    let cell = service.cell().await;
    let engine = service.engine.clone();
    let cancelling = tokio::spawn(async move { engine.cancel(&ann(), &id("x")).await });
    eventually(|| async { service.journal.lines().iter().any(|line| line == "accept x").then_some(()) })
        .await;
    tokio::task::yield_now().await;
    cell.start().await;
    assert_eq!(service.told(&x).await, "cancelled/cancelled");
    cancelling.await.unwrap().unwrap();
    assert_eq!(service.journal.count("run wait"), 0);

    service.store.set_away(true);
    assert!(service.submit("y", "echo b").await.is_err());
    service.store.set_away(false);
    assert_eq!((service.engine.load().running, service.engine.load().queued), (0, 0));
    let z = service.accept("z", "echo c").await;
    assert_eq!(service.told(&z).await, "completed/exit");
}

#[tokio::test(start_paused = true)]
async fn launch_that_fails_is_told_with_its_causes() {
    let service = Service::start(1).await;
    let x = service.accept("x", "wait").await;
    let cell = service.cell().await;
    cell.act(Act::Fail(LaunchError::Confinement {
        step: "PivotRoot".into(),
        source: std::io::Error::other("no"),
    }))
    .await;
    assert_eq!(service.told(&x).await, "failed/start_failed");
    let record = service.record(&x).await;
    assert_eq!(record.started_at, None);
    let message = record.ending.unwrap().message.unwrap();
    assert_eq!(message, "could not apply confinement step `PivotRoot`: no");
}

#[tokio::test(start_paused = true)]
async fn cell_that_dies_loses_its_execution_and_no_other() {
    let service = Service::start(1).await;
    let x = service.accept("x", "wait").await;
    let y = service.accept("y", "echo y").await;
    let cell = service.cell().await;
    cell.start().await;
    cell.print("before").await;
    cell.act(Act::Fail(LaunchError::Died { problem: "killed".into() })).await;
    assert_eq!(service.told(&x).await, "lost/service_died");
    assert_eq!(service.record(&x).await.output_bytes, 6);
    assert_eq!(service.told(&y).await, "completed/exit");
}

#[tokio::test(start_paused = true)]
async fn launcher_that_panics_leaves_no_record_open() {
    let service = Service::start(1).await;
    let x = service.accept("x", "wait").await;
    let y = service.accept("y", "wait").await;
    let z = service.accept("z", "echo z").await;
    let cell = service.cell().await;
    cell.start().await;
    cell.act(Act::Panic).await;
    assert_eq!(service.told(&x).await, "lost/service_died");
    let cell = service.cell().await;
    cell.act(Act::Panic).await;
    assert_eq!(service.told(&y).await, "failed/start_failed");
    assert_eq!(service.told(&z).await, "completed/exit");
    assert_eq!(service.stats().panics, 2);
}

#[tokio::test(start_paused = true)]
async fn execution_that_somebody_else_ended_does_not_start() {
    let service = Service::start(1).await;
    let x = service.accept("x", "wait").await;
    let cell = service.cell().await;
    service.store.inner.finish(&x, crate::ending::cancelled()).await.unwrap();
    let watch = service.watch(&x, 0).await;
    cell.start().await;
    assert_eq!(story(watch).await, "scheduled cancelled");
    assert_eq!(service.journal.count("run wait"), 0);
    eventually(|| async { (service.engine.load().running == 0).then_some(()) }).await;
}

#[tokio::test(start_paused = true)]
async fn start_that_cannot_be_recorded_is_a_failed_start() {
    let service = Service::start(1).await;
    let x = service.accept("x", "wait").await;
    let cell = service.cell().await;
    service.store.set_away(true);
    cell.start().await;
    service.store.set_away(false);
    assert_eq!(service.told(&x).await, "failed/start_failed");
    assert_eq!(service.journal.count("run wait"), 0);
    let message = service.record(&x).await.ending.unwrap().message.unwrap();
    assert!(message.contains("the disk is full"), "{message}");
}

#[tokio::test(start_paused = true)]
async fn ending_is_written_when_the_store_is_back() {
    let service = Service::start(1).await;
    let x = service.accept("x", "wait").await;
    let cell = service.cell().await;
    cell.start().await;
    service.store.set_away(true);
    cell.exit(0).await;
    tokio::time::sleep(600 * SECOND).await;
    assert_eq!(service.record(&x).await.status, Status::Running);
    assert_eq!(service.listener.last_of(&x).unwrap().status, Status::Running, "nothing false is told");
    service.store.set_away(false);
    assert_eq!(service.told(&x).await, "completed/exit");
}

#[tokio::test(start_paused = true)]
async fn launch_that_never_returns_is_dropped_and_its_execution_is_lost() {
    let service = Service::start(1).await;
    let x = service.accept("x", "wait").await;
    let y = service.accept("y", "wait").await;
    service.cell().await.start().await;
    let began = tokio::time::Instant::now();
    assert_eq!(service.told(&x).await, "lost/service_died");
    let (limit, elapsed) = (Limits::default().wall_time, began.elapsed());
    assert!(elapsed > limit + 10 * SECOND && elapsed < limit + 60 * SECOND, "{elapsed:?}");
    // One that was never started and does not listen either.
    service.cell().await.act(Act::Deafen).await;
    let cancelled = service.engine.cancel(&ann(), &y).await.unwrap();
    assert!(matches!(cancelled, crate::Cancelled::Cancelled(_)));
    assert_eq!(service.journal.count("claim y"), 0);
}

#[tokio::test(start_paused = true)]
async fn launcher_that_asks_to_start_twice_may_not() {
    let service = Service::start(1).await;
    let x = service.accept("x", "wait").await;
    let cell = service.cell().await;
    cell.start().await;
    cell.start().await;
    assert_eq!(service.told(&x).await, "failed/start_failed");
    assert_eq!((service.journal.count("claim x"), service.journal.count("run wait")), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn ending_that_somebody_else_wrote_stands_and_is_told() {
    let service = Service::start(1).await;
    let x = service.accept("x", "wait").await;
    let cell = service.cell().await;
    cell.start().await;
    let watch = service.watch(&x, 0).await;
    service.store.inner.finish(&x, crate::ending::lost("its lease ended".into())).await.unwrap();
    cell.exit(0).await;
    assert_eq!(story(watch).await, "running lost");
    service.all_told().await;
    assert_eq!(service.listener.last_of(&x).unwrap().error.as_deref(), Some("its lease ended"));
}

#[tokio::test(start_paused = true)]
async fn end_is_not_before_the_start_when_the_clock_is_set_back() {
    let service = Service::start(1).await;
    service.store.set_ahead();
    let x = service.accept("x", "echo a").await;
    let record = service.ended(&x).await;
    assert_eq!(record.ending.unwrap().ended_at, record.started_at.unwrap());
}
