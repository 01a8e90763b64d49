//! Losses of power, as far as they can be had without losing it: the files as they are at some moment, with
//! the log cut where the disk might have cut it, are opened elsewhere.

use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use portcullis_core::{ExecutionId, ExecutionStore, Status};
use tempfile::TempDir;
use tokio::sync::Semaphore;

use super::{open, path};
use crate::SqliteStore;
use crate::conformance::{accept, after, chunk, completed, confinement, id, new};

const LOG_HEADER_BYTES: usize = 32;
const FRAME_HEADER_BYTES: usize = 24;

/// Where the frames of the log's present round end, and the salts that name the round. See
/// sqlite.org/fileformat2.html#the_write_ahead_log
fn written(log: &[u8]) -> (usize, Vec<u8>) {
    let Some(header) = log.get(..LOG_HEADER_BYTES) else { return (0, Vec::new()) };
    let salts = header[16..24].to_vec();
    let page_bytes = u32::from_be_bytes(header[8..12].try_into().unwrap()) as usize;
    let mut end = LOG_HEADER_BYTES;
    while let Some(frame) = log.get(end..end + FRAME_HEADER_BYTES + page_bytes)
        && frame[8..16] == salts
    {
        end += frame.len();
    }
    (end, salts)
}

fn log_path(database: &Path) -> PathBuf {
    let mut path = database.as_os_str().to_owned();
    path.push("-wal");
    path.into()
}

/// Opens what a loss of power would leave: this database and this log.
fn after_the_loss(database: &[u8], log: &[u8]) -> (SqliteStore, TempDir) {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(path(&directory).parent().unwrap()).unwrap();
    fs::write(path(&directory), database).unwrap();
    fs::write(log_path(&path(&directory)), log).unwrap();
    let connection = rusqlite::Connection::open(path(&directory)).unwrap();
    let verdict: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(verdict, "ok");
    drop(connection);
    (open(&directory), directory)
}

#[tokio::test]
async fn a_log_that_lost_its_end_holds_all_that_was_acknowledged_before_the_cut() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory);
    let read_log = || fs::read(log_path(&path(&directory))).unwrap();
    let mut ends = Vec::new();
    for n in 0..12 {
        let name = format!("a{n}");
        accept(&store, new(&name)).await;
        ends.push((name, written(&read_log()).0));
    }
    let database = fs::read(path(&directory)).unwrap();
    let log = read_log();
    let (first, last) = (ends[0].1, ends[11].1);
    for step in 0..40 {
        let cut = first + (last - first) * step / 40;
        let (found, _kept) = after_the_loss(&database, &log[..cut]);
        for (name, end) in &ends {
            assert_eq!(found.read(&id(name)).await.unwrap().is_some(), *end <= cut, "{name} {cut}");
        }
    }
}

#[tokio::test]
async fn a_first_start_that_was_cut_short_anywhere_is_taken_up() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory);
    let database = fs::read(path(&directory)).unwrap();
    let log = fs::read(log_path(&path(&directory))).unwrap();
    let end = written(&log).0;
    assert!(end > 10_000, "the schema is in the log");
    for step in 0..=20 {
        let (found, _kept) = after_the_loss(&database, &log[..end * step / 20]);
        accept(&found, new("a")).await;
    }
    drop(store);
}

#[tokio::test]
async fn a_log_with_rubbish_behind_its_end_is_read_up_to_there() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory);
    accept(&store, new("a")).await;
    let database = fs::read(path(&directory)).unwrap();
    let mut log = fs::read(log_path(&path(&directory))).unwrap();
    log.truncate(written(&log).0);
    let frame = log[LOG_HEADER_BYTES..LOG_HEADER_BYTES + FRAME_HEADER_BYTES + 4_096].to_vec();
    for rubbish in [vec![0; 10_000], vec![0xa5; 4_120], frame] {
        let (found, _kept) = after_the_loss(&database, &[log.clone(), rubbish].concat());
        assert!(found.read(&id("a")).await.unwrap().is_some());
        accept(&found, new("b")).await;
    }
}

#[tokio::test]
async fn unsynced_output_is_lost_alone_and_safe_with_the_next_synced_write() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory);
    accept(&store, new("a")).await;
    store.claim(&id("a"), after(1), &confinement()).await.unwrap();
    let read_log = || fs::read(log_path(&path(&directory))).unwrap();
    let synced = written(&read_log()).0;
    store.append(&id("a"), vec![chunk(1, b"x")]).await.unwrap();
    let database = fs::read(path(&directory)).unwrap();
    assert!(written(&read_log()).0 > synced, "the process could die now: the system has the output");
    let (found, _kept) = after_the_loss(&database, &read_log()[..synced]);
    let execution = found.read(&id("a")).await.unwrap().unwrap();
    assert_eq!((execution.status, execution.last_seq), (Status::Running, 0));
    assert!(found.output(&id("a"), 0, 9).await.unwrap().is_empty());
    assert_eq!(found.recover(after(9)).await.unwrap().lost, [id("a")]);

    accept(&store, new("b")).await;
    let synced = written(&read_log()).0;
    let (found, _kept) = after_the_loss(&database, &read_log()[..synced]);
    assert_eq!(found.output(&id("a"), 0, 9).await.unwrap(), [chunk(1, b"x")]);
}

#[tokio::test]
async fn output_is_synced_soon_though_nothing_else_is_written() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory);
    accept(&store, new("a")).await;
    store.append(&id("a"), vec![chunk(1, b"x")]).await.unwrap();
    assert_eq!(store.write_counts().synced_groups, 1);
    for _ in 0..2_000 {
        if store.write_counts().synced_groups == 2 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("the output was not synced within 10 s");
}

#[tokio::test]
async fn the_log_stays_short_however_much_is_written() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory);
    accept(&store, new("a")).await;
    let output = vec![b'x'; 1 << 20];
    let mut longest = 0;
    for seq in 1..=120 {
        store.append(&id("a"), vec![chunk(seq, &output)]).await.unwrap();
        longest = longest.max(fs::metadata(log_path(&path(&directory))).unwrap().len());
    }
    assert!(longest < 64 << 20, "the log grew to {longest} bytes");
    assert_eq!(store.read(&id("a")).await.unwrap().unwrap().output_bytes, 120 << 20);
}

/// How far a record had come when its last answer arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reached {
    Accepted,
    Running,
    Ended,
}

/// Takes the files as they are at one moment. They are two, so the moment must fall within one round of the
/// log: the log is read last, and holds whatever of the round the database lacks or has in part.
fn snapshot(database: &Path) -> (Vec<u8>, Vec<u8>) {
    for _ in 0..1_000 {
        let Ok(before) = fs::read(log_path(database)) else { continue };
        let (_, round) = written(&before);
        let file = fs::read(database).unwrap();
        let log = fs::read(log_path(database)).unwrap();
        let (_, still) = written(&fs::read(log_path(database)).unwrap());
        if !round.is_empty() && round == written(&log).1 && round == still {
            return (file, log);
        }
    }
    panic!("the log was never the same for as long as it takes to copy it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn files_taken_at_any_moment_under_load_hold_all_that_was_acknowledged() {
    let directory = tempfile::tempdir().unwrap();
    let store = Arc::new(open(&directory));
    let acknowledged: Arc<Mutex<Vec<(ExecutionId, Reached)>>> = Arc::default();
    // So many more executions for each copy: on a fast disk the log would else change faster than it is copied.
    let load_left = Arc::new(Semaphore::new(0));
    let mut load = Vec::new();
    for task in 0..6 {
        let (store, acknowledged) = (Arc::clone(&store), Arc::clone(&acknowledged));
        let load_left = Arc::clone(&load_left);
        load.push(tokio::spawn(async move {
            let output = vec![b'x'; 8_000];
            for n in 0.. {
                let Ok(permit) = load_left.acquire().await else { break };
                permit.forget();
                let name = id(&format!("t{task}-{n}"));
                let note = |reached| acknowledged.lock().unwrap().push((name.clone(), reached));
                accept(&*store, new(name.as_str())).await;
                note(Reached::Accepted);
                store.claim(&name, after(1), &confinement()).await.unwrap();
                note(Reached::Running);
                store.append(&name, vec![chunk(1, &output), chunk(2, b"y")]).await.unwrap();
                store.finish(&name, completed(after(2))).await.unwrap();
                note(Reached::Ended);
            }
        }));
    }
    for round in 0..15 {
        load_left.add_permits(300);
        let pause = RandomState::new().hash_one(round) % 60_000;
        tokio::time::sleep(Duration::from_micros(pause)).await;
        let promised = acknowledged.lock().unwrap().clone();
        let database = path(&directory);
        let (file, log) = tokio::task::spawn_blocking(move || snapshot(&database)).await.unwrap();
        let (found, _kept) = after_the_loss(&file, &log);
        for (name, reached) in &promised {
            let execution = found.read(name).await.unwrap();
            let execution = execution.unwrap_or_else(|| panic!("{name}, {reached:?}, is gone"));
            match reached {
                Reached::Accepted => {}
                Reached::Running => assert_ne!(execution.status, Status::Scheduled, "{name}"),
                Reached::Ended => {
                    assert_eq!(execution.ending, Some(completed(after(2))), "{name}");
                    let output = found.output(name, 0, usize::MAX).await.unwrap();
                    let bytes: usize = output.iter().map(|chunk| chunk.bytes.len()).sum();
                    assert_eq!((output.len(), bytes), (2, 8_001), "{name}");
                }
            }
        }
    }
    load_left.close();
    for task in load {
        task.await.unwrap();
    }
    assert!(acknowledged.lock().unwrap().len() > 100);
}
