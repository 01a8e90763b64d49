//! How output is kept, and how it is watched.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use portcullis_core::*;

use super::doubles::*;
use crate::{Config, WatchEvent};

const MILLIS: Duration = Duration::from_millis(1);

async fn chunks(service: &Service, id: &ExecutionId) -> Vec<(u64, OutputStream, String)> {
    let chunks = service.store.inner.output(id, 0, usize::MAX).await.unwrap();
    chunks.into_iter().map(|c| (c.seq, c.stream, String::from_utf8_lossy(&c.bytes).into_owned())).collect()
}

#[tokio::test(start_paused = true)]
async fn neighbours_of_one_stream_are_joined_and_a_change_of_stream_begins_a_chunk() {
    use OutputStream::{Stderr, Stdout};
    let service = Service::start(1).await;
    let x = service.accept("x", "wait").await;
    let cell = service.cell().await;
    cell.start().await;
    for text in ["a", "", "b"] {
        cell.print(text).await;
    }
    cell.complain("c").await;
    cell.print("d").await;
    tokio::time::sleep(51 * MILLIS).await;
    let first = [(1, Stdout, "ab".to_owned()), (2, Stderr, "c".into()), (3, Stdout, "d".into())];
    assert_eq!(chunks(&service, &x).await, first);
    cell.print("e").await;
    cell.exit(0).await;
    service.ended(&x).await;
    assert_eq!(chunks(&service, &x).await.last().unwrap(), &(4, Stdout, "e".into()));
}

#[tokio::test(start_paused = true)]
async fn output_is_stored_when_its_time_has_come_or_there_is_enough_of_it() {
    let config = Config { flush_bytes: 10, ..Config::default() };
    let service = Service::with(1, config).await;
    let x = service.accept("x", "wait").await;
    let cell = service.cell().await;
    cell.start().await;
    cell.print("123456789").await;
    tokio::time::sleep(45 * MILLIS).await;
    assert_eq!(service.record(&x).await.last_seq, 0);
    tokio::time::sleep(6 * MILLIS).await;
    assert_eq!(service.record(&x).await.output_bytes, 9);
    cell.print("1234567890").await;
    tokio::time::sleep(MILLIS).await;
    assert_eq!(service.record(&x).await.output_bytes, 19);
    // A large piece is cut: no chunk is larger than a flush.
    cell.print(&"x".repeat(25)).await;
    cell.exit(0).await;
    service.ended(&x).await;
    let sizes: Vec<_> = chunks(&service, &x).await.into_iter().map(|(_, _, text)| text.len()).collect();
    assert_eq!(sizes, [9, 10, 10, 10, 5]);
}

#[tokio::test(start_paused = true)]
async fn command_waits_when_the_store_is_behind_and_nothing_is_lost() {
    let config = Config { flush_bytes: 100, ..Config::default() };
    let service = Service::with(1, config).await;
    let x = service.accept("x", "wait").await;
    let cell = service.cell().await;
    cell.start().await;
    service.store.set_away(true);
    let piece = "y".repeat(50);
    let mut taken = 0;
    while tokio::time::timeout(60 * SECOND, cell.print(&piece)).await.is_ok() {
        taken += 50;
    }
    // One portion is being stored, one is full; the piece that waits is in the launcher's hands.
    assert_eq!(taken, 200);
    service.store.set_away(false);
    tokio::time::sleep(10 * SECOND).await;
    cell.exit(0).await;
    assert_eq!(service.told(&x).await, "completed/exit");
    assert_eq!(service.record(&x).await.output_bytes, 250, "what waited was taken later");
}

#[tokio::test(start_paused = true)]
async fn output_past_the_limit_is_cut_there() {
    let service = Service::start(1).await;
    let x = service.accept("x", "wait").await;
    let cell = service.cell().await;
    cell.start().await;
    let mib = vec![b'z'; 1 << 20];
    for _ in 0..9 {
        cell.act(Act::Print(OutputStream::Stdout, mib.clone())).await;
    }
    assert_eq!(service.told(&x).await, "failed/output_limit");
    let record = service.record(&x).await;
    assert_eq!(record.output_bytes, Limits::default().output_bytes);
    assert!(record.ending.unwrap().truncated);
}

#[tokio::test(start_paused = true)]
async fn command_whose_output_nobody_will_take_is_ended_and_does_not_wait() {
    let config = Config { flush_bytes: 10, ..Config::default() };
    let service = Service::with(1, config).await;
    let x = service.accept("x", "wait").await;
    let cell = service.cell().await;
    cell.start().await;
    cell.act(Act::Deafen).await;
    service.store.set_away(true);
    for _ in 0..2 {
        cell.print("1234567890").await;
    }
    let waiting = cell.print("and more"); // waits for room
    let ended = async {
        tokio::time::sleep(SECOND).await;
        service.store.inner.finish(&x, crate::ending::lost("its lease ended".into())).await.unwrap();
        service.store.set_away(false);
    };
    let began = tokio::time::Instant::now();
    tokio::join!(waiting, ended);
    eventually(|| async { (service.engine.load().running == 0).then_some(()) }).await;
    assert!(began.elapsed() < 10 * SECOND, "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn end_of_output_that_the_store_never_takes_is_named_in_the_record() {
    let service = Service::start(1).await;
    let x = service.accept("x", "wait").await;
    let cell = service.cell().await;
    cell.start().await;
    service.store.set_refusing_output(true);
    cell.print("lost").await;
    cell.exit(0).await;
    tokio::time::sleep(31 * SECOND).await;
    assert_eq!(service.told(&x).await, "completed/exit");
    let ending = service.record(&x).await.ending.unwrap();
    assert!(ending.truncated);
    assert_eq!(ending.message.as_deref(), Some("the end of its output could not be stored"));
}

#[tokio::test(start_paused = true)]
async fn watch_shows_what_is_stored_and_then_what_arrives() {
    let service = Service::start(1).await;
    let x = service.accept("x", "wait").await;
    let from_the_start = service.watch(&x, 0).await;
    let cell = service.cell().await;
    cell.start().await;
    cell.print("one").await;
    tokio::time::sleep(SECOND).await;
    let later = service.watch(&x, 0).await;
    let behind_one = service.watch(&x, 1).await;
    let beyond = service.watch(&x, u64::MAX).await;
    cell.complain("two").await;
    tokio::time::sleep(SECOND).await;
    cell.print("three").await;
    cell.exit(1).await;
    service.ended(&x).await;
    let after_the_end = service.watch(&x, 1).await;
    assert_eq!(story(from_the_start).await, "scheduled running o1:one e2:two o3:three failed");
    assert_eq!(story(later).await, "running o1:one e2:two o3:three failed");
    assert_eq!(story(behind_one).await, "running e2:two o3:three failed");
    assert_eq!(story(beyond).await, "running failed");
    assert_eq!(story(after_the_end).await, "failed e2:two o3:three failed");
    assert_eq!(story(service.watch(&x, 3).await).await, "failed failed");
}

#[tokio::test(start_paused = true)]
async fn watch_that_is_dropped_in_the_middle_of_an_event_loses_none() {
    let service = Service::start(1).await;
    let x = service.accept("x", "wait").await;
    let mut watch = service.watch(&x, 0).await;
    let cell = service.cell().await;
    let other = service.watch(&x, 0).await;
    let writer = async {
        cell.start().await;
        for n in 0..50 {
            cell.print(&format!("{n}")).await;
            tokio::time::sleep(60 * MILLIS).await;
        }
        cell.exit(0).await;
    };
    let reader = async {
        let mut seen = Vec::new();
        loop {
            match tokio::time::timeout(7 * MILLIS, watch.next()).await {
                Ok(Ok(Some(WatchEvent::Output(chunk)))) => seen.push(chunk.seq),
                Ok(Ok(Some(WatchEvent::Ended(_)))) => return seen,
                Ok(Ok(_)) | Err(_) => {}
                Ok(Err(problem)) => panic!("{problem}"),
            }
        }
    };
    let ((), seen) = tokio::join!(writer, reader);
    assert_eq!(seen, (1..=50).collect::<Vec<_>>());
    assert!(story(other).await.ends_with("o50:49 completed"));
}

#[tokio::test(start_paused = true)]
async fn watch_that_fell_behind_reads_on_in_the_store_without_gap() {
    let config = Config { flush_bytes: 1_000, ..Config::default() };
    let service = Service::with(1, config).await;
    let x = service.accept("x", "wait").await;
    let cell = service.cell().await;
    cell.start().await;
    let mut slow = service.watch(&x, 0).await;
    for _ in 0..1_000 {
        cell.print(&"x".repeat(1_000)).await; // a megabyte: four times what is kept in memory
    }
    for seq in 0..500 {
        match slow.next().await.unwrap().unwrap() {
            WatchEvent::Status(_) => assert_eq!(seq, 0),
            WatchEvent::Output(chunk) => assert_eq!(chunk.seq, seq),
            WatchEvent::Ended(_) => panic!("too early"),
        }
    }
    cell.exit(0).await;
    service.ended(&x).await;
    let mut last = 499;
    while let Some(event) = slow.next().await.unwrap() {
        if let WatchEvent::Output(chunk) = event {
            assert_eq!(chunk.seq, last + 1);
            last = chunk.seq;
        }
    }
    assert_eq!(last, 1_000);
}

#[tokio::test(start_paused = true)]
async fn thousand_watchers_cost_about_one_reading_of_the_output() {
    let service = Arc::new(Service::start(1).await);
    let x = service.accept("x", "wait").await;
    let cell = service.cell().await;
    cell.start().await;
    let first_half = vec![b'x'; 1 << 20];
    cell.act(Act::Print(OutputStream::Stdout, first_half.clone())).await;
    tokio::time::sleep(SECOND).await;
    // They come late, so that the first mebibyte is in the store alone.
    let watchers: Vec<_> = (0..1_000)
        .map(|_| {
            let (service, x) = (Arc::clone(&service), x.clone());
            tokio::spawn(async move {
                let mut watch = service.watch(&x, 0).await;
                let (mut bytes, mut last) = (0, 0);
                while let Some(event) = watch.next().await.unwrap() {
                    if let WatchEvent::Output(chunk) = event {
                        assert_eq!(chunk.seq, last + 1);
                        (bytes, last) = (bytes + chunk.bytes.len(), chunk.seq);
                    }
                }
                bytes
            })
        })
        .collect();
    tokio::time::sleep(SECOND).await;
    cell.act(Act::Print(OutputStream::Stdout, first_half)).await;
    cell.exit(0).await;
    for watcher in watchers {
        assert_eq!(watcher.await.unwrap(), 2 << 20);
    }
    service.all_told().await;
    // Pages of 256 KiB: once for all watchers, and once for the last update.
    let reads = service.store.output_reads.load(Ordering::SeqCst);
    assert!(reads <= 20, "{reads} readings");
}

#[tokio::test(start_paused = true)]
async fn watch_goes_on_after_the_store_failed_it() {
    let service = Service::start(1).await;
    let x = service.accept("x", "echo a").await;
    service.ended(&x).await;
    let mut watch = service.watch(&x, 0).await;
    assert!(matches!(watch.next().await, Ok(Some(WatchEvent::Status(_)))));
    service.store.set_away(true);
    assert!(matches!(watch.next().await, Err(StoreError::Unavailable { .. })));
    service.store.set_away(false);
    assert_eq!(story(watch).await, "o1:a completed");
}

#[tokio::test(start_paused = true)]
async fn watch_follows_an_execution_that_is_in_another_engines_hands() {
    let service = Service::start(1).await;
    let x = service.accept("x", "wait").await;
    let other = Service::beside(&service).await;
    let watch = other.watch(&x, 0).await;
    let told = tokio::spawn(story(watch));
    tokio::time::sleep(SECOND).await;
    let cell = service.cell().await;
    cell.start().await;
    tokio::time::sleep(SECOND).await;
    cell.print("one").await;
    tokio::time::sleep(SECOND).await;
    cell.print("two").await;
    cell.exit(0).await;
    assert_eq!(told.await.unwrap(), "scheduled running o1:one o2:two completed");
}

#[tokio::test(start_paused = true)]
async fn page_that_was_empty_is_read_again() {
    let service = Service::start(1).await;
    let x = service.accept("x", "wait").await;
    let record = service.record(&x).await;
    let pages = crate::pages::Pages::new(service.store.clone());
    assert_eq!(pages.read(&record, 0).await.unwrap().len(), 0);
    let cell = service.cell().await;
    cell.start().await;
    cell.print("now").await;
    cell.exit(0).await;
    service.ended(&x).await;
    assert_eq!(pages.read(&record, 0).await.unwrap().len(), 1);
}
