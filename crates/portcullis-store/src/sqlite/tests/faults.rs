//! A disk that fails, and writes that share a group.

use std::future::poll_fn;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::task::Poll;

use portcullis_core::{Delivery, ExecutionStore, NewExecution, StoreError};

use super::super::writer::Durability;
use super::{chain, open, open_prepared};
use crate::SqliteStore;
use crate::conformance::{accept, after, chunk, completed, confinement, id, new, refusal};

/// Blocks the writing thread until the returned sender is dropped, so that what follows becomes one group.
async fn hold(store: &Arc<SqliteStore>) -> mpsc::Sender<()> {
    let (release, held) = mpsc::channel::<()>();
    let (begun, began) = tokio::sync::oneshot::channel();
    let store = Arc::clone(store);
    tokio::spawn(async move {
        store
            .writer
            .write("wait", Durability::Written, move |_| {
                let _ = begun.send(());
                let _ = held.recv();
                Ok(())
            })
            .await
    });
    began.await.unwrap();
    release
}

/// Hands a write over and returns what awaits its answer.
async fn hand_over<T>(call: impl Future<Output = T>) -> Pin<Box<impl Future<Output = T>>> {
    let mut call = Box::pin(call);
    // The first poll does it.
    let first = poll_fn(|context| Poll::Ready(call.as_mut().poll(context).is_pending())).await;
    assert!(first, "it was answered while the writing thread was held");
    call
}

/// Hands over as many submissions as one group, and returns their answers.
async fn accept_together(store: &Arc<SqliteStore>, names: &[String]) -> Vec<Result<(), StoreError>> {
    let release = hold(store).await;
    let mut calls = Vec::new();
    for name in names {
        calls.push(hand_over(store.accept(new(name))).await);
    }
    drop(release);
    let mut answers = Vec::new();
    for call in calls {
        answers.push(call.await.map(drop));
    }
    answers
}

fn names(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("a{n}")).collect()
}

#[tokio::test]
async fn writes_that_wait_together_are_synced_once() {
    let directory = tempfile::tempdir().unwrap();
    let store = Arc::new(open(&directory));
    let answers = accept_together(&store, &names(64)).await;
    assert!(answers.iter().all(Result::is_ok));
    let counts = store.write_counts();
    assert_eq!((counts.writes, counts.groups, counts.synced_groups), (65, 2, 1));
}

#[tokio::test]
async fn a_group_is_synced_when_one_of_its_writes_must_be() {
    let directory = tempfile::tempdir().unwrap();
    let store = Arc::new(open(&directory));
    accept(&*store, new("a")).await;
    let before = store.write_counts();
    let release = hold(&store).await;
    let (a, ending) = (id("a"), completed(after(1)));
    let append = hand_over(store.append(&a, vec![chunk(1, b"x")])).await;
    let finish = hand_over(store.finish(&a, ending)).await;
    let late = hand_over(store.append(&a, vec![chunk(2, b"y")])).await;
    drop(release);
    append.await.unwrap();
    finish.await.unwrap();
    // In the order in which they were handed over, as if each had been alone.
    assert!(matches!(late.await, Err(StoreError::Refused { .. })));
    let now = store.write_counts();
    assert_eq!((now.groups - before.groups, now.synced_groups - before.synced_groups), (2, 1));
}

#[tokio::test]
async fn sqlite_is_told_whether_to_sync() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory);
    // 1 is NORMAL: synced by checkpoints alone. 2 is FULL: synced by each commit.
    for (durability, wanted) in [(Durability::Synced, 2), (Durability::Written, 1), (Durability::Synced, 2)] {
        let read = |connection: &rusqlite::Connection| {
            Ok(connection.query_row("PRAGMA synchronous", [], |row| row.get::<_, i32>(0))?)
        };
        assert_eq!(store.writer.write("look", durability, read).await.unwrap(), wanted, "{durability:?}");
    }
}

#[tokio::test]
async fn only_what_must_survive_a_loss_of_power_waits_for_a_sync() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory);
    let mut synced = 0;
    macro_rules! check {
        ($call:expr, $syncs:expr) => {
            $call.await.unwrap();
            let now = store.write_counts().synced_groups;
            assert_eq!(now - synced, $syncs, "{}", stringify!($call));
            synced = now;
        };
    }
    check!(store.accept(new("a")), 1);
    check!(store.claim(&id("a"), after(1), &confinement()), 1);
    check!(store.append(&id("a"), vec![chunk(1, b"x")]), 0);
    check!(store.append(&id("a"), vec![chunk(2, b"y")]), 0);
    check!(store.finish(&id("a"), completed(after(2))), 1);
    check!(store.delivered(&id("a"), Delivery::Delivered), 0);
    check!(store.refuse(refusal("cat /etc/passwd", after(3))), 1);
    check!(store.accept(new("b")), 1);
    check!(store.recover(after(4)), 1);
    check!(store.expire(after(9)), 0);
    // What changes nothing rests on what was synced before.
    check!(store.recover(after(9)), 0);
    check!(store.probe(), 1);
    assert_eq!(synced, store.write_counts().synced_groups);
}

#[tokio::test]
async fn a_failed_commit_is_told_to_each_of_its_group_and_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let broken = Arc::new(AtomicBool::new(false));
    let commits_fail = Arc::clone(&broken);
    let store = Arc::new(open_prepared(&directory, |writer| {
        writer.commit_hook(Some(move || commits_fail.load(Ordering::SeqCst)));
    }));
    accept(&*store, new("before")).await;
    broken.store(true, Ordering::SeqCst);
    for answer in accept_together(&store, &names(20)).await {
        let error = answer.unwrap_err();
        assert!(matches!(error, StoreError::Unavailable { .. }), "{error:?}");
        assert!(chain(&error).contains("portcullis.db"), "{}", chain(&error));
    }
    // Also a refusal is none: it rests on an ending that was rolled back.
    let release = hold(&store).await;
    let before = id("before");
    let finish = hand_over(store.finish(&before, completed(after(1)))).await;
    let append = hand_over(store.append(&before, vec![chunk(1, b"late")])).await;
    drop(release);
    assert!(matches!(finish.await, Err(StoreError::Unavailable { .. })));
    assert!(matches!(append.await, Err(StoreError::Unavailable { .. })));

    broken.store(false, Ordering::SeqCst);
    for name in names(20) {
        assert!(store.read(&id(&name)).await.unwrap().is_none(), "{name}");
    }
    assert!(store.read(&id("before")).await.unwrap().unwrap().ending.is_none());
    assert!(accept_together(&store, &names(20)).await.iter().all(Result::is_ok));
    drop(store);
    let store = open(&directory);
    assert!(store.read(&id("a19")).await.unwrap().is_some());
}

#[tokio::test]
async fn each_commit_in_turn_may_fail_and_the_record_stays_whole() {
    for nth in 1..=6 {
        let directory = tempfile::tempdir().unwrap();
        let mut commit = 0;
        let store = open_prepared(&directory, |writer| {
            writer.commit_hook(Some(move || {
                commit += 1;
                commit == nth
            }));
        });
        let mut failures = 0;
        // Each call is repeated once by its caller, who finds the record as if the failed one had never been.
        macro_rules! twice_at_most {
            ($call:expr) => {
                if let Err(error) = $call.await {
                    assert!(matches!(error, StoreError::Unavailable { .. }), "{error:?}");
                    failures += 1;
                    $call.await.unwrap();
                }
            };
        }
        twice_at_most!(store.accept(new("a")));
        twice_at_most!(store.append(&id("a"), vec![chunk(1, b"x")]));
        twice_at_most!(store.append(&id("a"), vec![chunk(2, b"y"), chunk(3, b"z")]));
        twice_at_most!(store.finish(&id("a"), completed(after(1))));
        twice_at_most!(store.delivered(&id("a"), Delivery::Delivered));
        assert_eq!(failures, usize::from(nth <= 5), "{nth}");
        let execution = store.read(&id("a")).await.unwrap().unwrap();
        assert_eq!((execution.last_seq, execution.output_bytes), (3, 3));
        assert_eq!(execution.ending, Some(completed(after(1))));
        assert!(store.undelivered(1).await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn a_database_that_another_program_writes_to_is_unavailable_until_it_is_free() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory);
    let other = rusqlite::Connection::open(super::path(&directory)).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let error = store.accept(new("a")).await.unwrap_err();
    assert!(chain(&error).contains("database is locked"), "{}", chain(&error));
    assert!(store.write_counts().failing && store.probe().await.is_err());
    assert!(store.read(&id("a")).await.unwrap().is_none(), "reading goes on");
    other.execute_batch("ROLLBACK").unwrap();
    store.probe().await.unwrap();
    let counts = store.write_counts();
    assert_eq!((counts.failing, counts.failed_groups, counts.synced_groups), (false, 2, 1));
    accept(&store, new("a")).await;
}

#[tokio::test]
async fn a_write_that_fails_by_itself_is_undone_alone() {
    let directory = tempfile::tempdir().unwrap();
    let store = Arc::new(open(&directory));
    let release = hold(&store).await;
    let failing = tokio::spawn({
        let store = Arc::clone(&store);
        async move {
            let work = |connection: &rusqlite::Connection| {
                let sql = "INSERT INTO refusals (at, principal, principal_name, command, denial)
                           VALUES (1, 'half', 'done', '', '')";
                connection.execute(sql, [])?;
                connection.execute("INSERT INTO refusals (at) VALUES (NULL)", [])?;
                Ok(())
            };
            store.writer.write("fail", Durability::Synced, work).await
        }
    });
    let neighbour = tokio::spawn({
        let store = Arc::clone(&store);
        async move { store.accept(new("a")).await }
    });
    drop(release);
    let error = failing.await.unwrap().unwrap_err();
    assert!(chain(&error).contains("NOT NULL"), "{}", chain(&error));
    neighbour.await.unwrap().unwrap();
    assert_eq!((store.write_counts().failed_groups, store.write_counts().failing), (0, false));
    assert!(store.read(&id("a")).await.unwrap().is_some());
    assert!(store.refusals(9).await.unwrap().is_empty());
}

/// Fills the disk, whatever its size. What was acknowledged is there, what failed is not.
async fn fill(store: &SqliteStore) {
    let output = vec![b'x'; 16 << 10];
    accept(store, new("running")).await;
    let mut acknowledged = Vec::new();
    let mut failed = Vec::new();
    for n in 0.. {
        assert!(n < 10_000, "the disk does not fill");
        let name = format!("a{n}");
        match store.accept(NewExecution { command: "x".repeat(4_000), ..new(&name) }).await {
            Ok(_) => {}
            Err(StoreError::Unavailable { .. }) => failed.push(name.clone()),
            Err(error) => panic!("{error:?}"),
        }
        if failed.is_empty() {
            acknowledged.push(name.clone());
            let kept = store.append(&id(&name), vec![chunk(1, &output)]).await.is_ok();
            if kept && store.finish(&id(&name), completed(after(1))).await.is_ok() {
                continue;
            }
        }
        if failed.len() == 3 {
            break;
        }
    }
    assert!(acknowledged.len() > 5, "{acknowledged:?}");
    for name in &acknowledged {
        assert!(store.read(&id(name)).await.unwrap().is_some(), "{name}");
    }
    for name in &failed {
        assert!(store.read(&id(name)).await.unwrap().is_none(), "{name}");
    }
    assert!(store.write_counts().failed_groups >= 3);
}

async fn write_again(store: &SqliteStore) {
    accept(store, new("again")).await;
    store.append(&id("again"), vec![chunk(1, b"room")]).await.unwrap();
    store.finish(&id("running"), completed(after(2))).await.unwrap();
}

#[tokio::test]
async fn a_full_database_refuses_what_it_cannot_keep_and_writes_again_when_there_is_room() {
    let directory = tempfile::tempdir().unwrap();
    let store = open_prepared(&directory, |writer| {
        writer.pragma_update_and_check(None, "max_page_count", 200, |_| Ok(())).unwrap();
    });
    fill(&store).await;
    assert!(store.expire(after(100)).await.unwrap() > 0);
    write_again(&store).await;
}

/// The same on a file system that is full, in a mount namespace of its own.
#[tokio::test]
async fn a_full_disk_refuses_what_it_cannot_keep_and_work_resumes_when_there_is_room() {
    const DISK: &str = "PORTCULLIS_TEST_FULL_DISK";
    let Some(disk) = std::env::var_os(DISK) else {
        return again_on_a_small_disk(DISK);
    };
    let ballast = Path::new(&disk).join("ballast");
    std::fs::write(&ballast, vec![0; 1 << 20]).unwrap();
    let store = SqliteStore::open(&Path::new(&disk).join("portcullis.db")).unwrap();
    fill(&store).await;
    std::fs::remove_file(ballast).unwrap();
    write_again(&store).await;
    drop(store);
    let store = SqliteStore::open(&Path::new(&disk).join("portcullis.db")).unwrap();
    assert!(store.read(&id("running")).await.unwrap().unwrap().ending.is_some());
}

fn again_on_a_small_disk(variable: &str) {
    let directory = tempfile::tempdir().unwrap();
    let script = "mount -t tmpfs -o size=4m none \"$0\" && exec \"$@\"";
    let this =
        "sqlite::tests::faults::a_full_disk_refuses_what_it_cannot_keep_and_work_resumes_when_there_is_room";
    #[expect(clippy::disallowed_methods, reason = "a small disk needs a mount namespace, and that a process")]
    let output = std::process::Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", script])
        .arg(directory.path())
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", this, "--nocapture"])
        .env(variable, directory.path())
        .output();
    let text = match &output {
        Ok(output) => String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr),
        Err(error) => error.to_string().into(),
    };
    if text.contains("1 passed") {
        return;
    }
    assert!(!text.contains("running 1 test"), "{text}");
    assert!(std::env::var_os("PORTCULLIS_REQUIRE_ALL").is_none(), "no small disk could be mounted: {text}");
    eprintln!("SKIPPED: a full disk: no small disk could be mounted: {text}");
}

#[tokio::test]
async fn a_write_whose_caller_left_is_made_before_the_store_closes() {
    let directory = tempfile::tempdir().unwrap();
    let store = Arc::new(open(&directory));
    let release = hold(&store).await;
    for name in names(10) {
        drop(hand_over(store.accept(new(&name))).await);
    }
    drop(release);
    drop(store);
    let store = reopened(&directory).await;
    for name in names(10) {
        assert!(store.read(&id(&name)).await.unwrap().is_some(), "{name}");
    }
}

/// The task of `hold` may keep the store for a moment longer than the test does.
async fn reopened(directory: &tempfile::TempDir) -> SqliteStore {
    for _ in 0..1_000 {
        match SqliteStore::open(&super::path(directory)) {
            Ok(store) => return store,
            Err(crate::OpenError::InUse { .. }) => {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await
            }
            Err(error) => panic!("{error:?}"),
        }
    }
    panic!("the store was never closed");
}
