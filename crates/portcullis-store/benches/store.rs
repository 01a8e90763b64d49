//! How many rows a second the SQLite store makes safe, alone and in groups.
//!
//! `cargo bench -p portcullis-store` prints a table; words after `--` choose its lines. The database lies in the directory for temporary files, or
//! in the one that `PORTCULLIS_BENCH_DIRECTORY` names: what is measured is that disk. The first line is its
//! floor: one block written and synced.
#![allow(clippy::unwrap_used, reason = "a benchmark that fails has nothing better to do than to say where")]

use std::fs::File;
use std::future::Future;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use portcullis_core::{
    Confinement, Delivery, Ending, ExecutionId, ExecutionStore, Fingerprint, Level, Limits, NewExecution,
    OutputChunk, OutputStream, Provenance, Reason, Status, Usage,
};
use portcullis_store::{MemoryStore, SqliteStore};
use time::OffsetDateTime;

const ROUND: Duration = Duration::from_millis(1_500);

fn main() {
    let parent =
        std::env::var_os("PORTCULLIS_BENCH_DIRECTORY").map_or_else(std::env::temp_dir, PathBuf::from);
    let directory = tempfile::tempdir_in(parent).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    println!(
        "{:<34} {:>7} {:>10} {:>9} {:>9} {:>9}",
        "", "at once", "a second", "µs each", "p50 µs", "p99 µs"
    );
    floor(directory.path());

    let path = directory.path().join("bench.db");
    let sqlite = Arc::new(SqliteStore::open(&path).unwrap());
    runtime.block_on(async {
        for at_once in [1, 8, 64, 256] {
            operations(Arc::clone(&sqlite), at_once).await;
        }
        let memory: Arc<dyn ExecutionStore> = Arc::new(MemoryStore::new());
        measure("memory: whole life", 1, &memory, life).await;
    });
    println!("\n{:?}", sqlite.write_counts());
    let log = std::fs::metadata(directory.path().join("bench.db-wal")).unwrap().len();
    let began = Instant::now();
    drop(sqlite);
    println!("log {} KiB, closed in {:?}", log / 1024, began.elapsed());
    let began = Instant::now();
    drop(SqliteStore::open(&path).unwrap());
    println!(
        "database {} MiB, opened and closed in {:?}",
        std::fs::metadata(&path).unwrap().len() >> 20,
        began.elapsed()
    );
}

async fn operations(sqlite: Arc<SqliteStore>, at_once: usize) {
    let store: Arc<dyn ExecutionStore> = sqlite;
    measure("accept", at_once, &store, |store| async move { drop(accept(&store).await) }).await;
    measure("whole life: 3 synced writes of 5", at_once, &store, life).await;
    let running = accept(&store).await;
    let name = running.clone();
    measure("read", at_once, &store, move |store| {
        let name = name.clone();
        async move { drop(store.read(&name).await.unwrap().unwrap()) }
    })
    .await;
    outputs(at_once, &store, "append 100 bytes", 100).await;
    outputs(at_once, &store, "append 64 KiB", 64 << 10).await;
}

/// Each task appends to an execution of its own.
async fn outputs(at_once: usize, store: &Arc<dyn ExecutionStore>, name: &str, bytes: usize) {
    if !is_wanted(name) {
        return;
    }
    let mut tasks = Vec::new();
    for _ in 0..at_once {
        let store = Arc::clone(store);
        tasks.push(tokio::spawn(async move {
            let id = accept(&store).await;
            let began = Instant::now();
            let mut taken = Vec::new();
            let mut seq = 0;
            while began.elapsed() < ROUND {
                seq += 1;
                let before = Instant::now();
                store.append(&id, vec![chunk(seq, bytes)]).await.unwrap();
                taken.push(before.elapsed());
            }
            taken
        }));
    }
    report(name, at_once, tasks).await;
}

async fn measure<F, R>(name: &str, at_once: usize, store: &Arc<dyn ExecutionStore>, work: F)
where
    F: Fn(Arc<dyn ExecutionStore>) -> R + Clone + Send + Sync + 'static,
    R: Future<Output = ()> + Send,
{
    if !is_wanted(name) {
        return;
    }
    let mut tasks = Vec::new();
    for _ in 0..at_once {
        let (store, work) = (Arc::clone(store), work.clone());
        tasks.push(tokio::spawn(async move {
            let began = Instant::now();
            let mut taken = Vec::new();
            while began.elapsed() < ROUND {
                let before = Instant::now();
                work(Arc::clone(&store)).await;
                taken.push(before.elapsed());
            }
            taken
        }));
    }
    report(name, at_once, tasks).await;
}

/// Whether the arguments name this line, or none.
fn is_wanted(name: &str) -> bool {
    let mut words = std::env::args().skip(1).filter(|word| !word.starts_with('-')).peekable();
    words.peek().is_none() || words.any(|word| name.contains(&word))
}

async fn report(name: &str, at_once: usize, tasks: Vec<tokio::task::JoinHandle<Vec<Duration>>>) {
    let began = Instant::now();
    let mut taken = Vec::new();
    for task in tasks {
        taken.extend(task.await.unwrap());
    }
    print(name, at_once, taken, began.elapsed());
}

fn print(name: &str, at_once: usize, mut taken: Vec<Duration>, elapsed: Duration) {
    taken.sort_unstable();
    let micros = |duration: Duration| duration.as_secs_f64() * 1e6;
    let at = |share: usize| taken.get(taken.len() * share / 100).copied().map_or(0.0, micros);
    let count = taken.len() as f64;
    println!(
        "{name:<34} {at_once:>7} {:>10.0} {:>9.1} {:>9.1} {:>9.1}",
        count / elapsed.as_secs_f64(),
        micros(elapsed) / count,
        at(50),
        at(99),
    );
}

/// What one synced block costs here, in a file that does not grow.
fn floor(directory: &Path) {
    let mut file = File::create(directory.join("floor")).unwrap();
    file.write_all(&vec![0; 4 << 20]).unwrap();
    file.sync_all().unwrap();
    let began = Instant::now();
    let mut taken = Vec::new();
    for n in 0_u64.. {
        if began.elapsed() > ROUND {
            break;
        }
        let before = Instant::now();
        std::os::unix::fs::FileExt::write_all_at(&file, &[1; 4_096], n % 1_024 * 4_096).unwrap();
        file.sync_data().unwrap();
        taken.push(before.elapsed());
    }
    print("the disk: write 4 KiB, fdatasync", 1, taken, began.elapsed());
}

async fn accept(store: &Arc<dyn ExecutionStore>) -> ExecutionId {
    let id = ExecutionId::generate();
    let new = NewExecution {
        id: id.clone(),
        owner: "0198f0c4-1111-7000-8000-000000000000".into(),
        owner_name: "ann".into(),
        command: "find . -name '*.rs' | xargs grep -n unsafe | head -20".into(),
        fingerprint: Fingerprint([7; 32]),
        programs: ["find", "xargs", "grep", "head"].map(String::from).to_vec(),
        rules: vec!["text tools".into()],
        limits: Limits::default(),
        accepted_at: OffsetDateTime::now_utc(),
        provenance: Provenance::default(),
        start: None,
    };
    store.accept(new).await.unwrap();
    id
}

async fn life(store: Arc<dyn ExecutionStore>) {
    let id = accept(&store).await;
    let now = OffsetDateTime::now_utc();
    let confinement = Confinement { level: Level::Full, landlock_abi: Some(7), cgroup: None, weaker: vec![] };
    store.claim(&id, now, &confinement).await.unwrap();
    store.append(&id, vec![chunk(1, 100)]).await.unwrap();
    let ending = Ending {
        status: Status::Completed,
        reason: Reason::Exit,
        exit_code: Some(0),
        signal: None,
        ended_at: now,
        usage: Some(Usage::default()),
        truncated: false,
        message: None,
    };
    store.finish(&id, ending).await.unwrap();
    store.delivered(&id, Delivery::Delivered).await.unwrap();
}

fn chunk(seq: u64, bytes: usize) -> OutputChunk {
    OutputChunk { seq, stream: OutputStream::Stdout, at: OffsetDateTime::now_utc(), bytes: vec![b'x'; bytes] }
}
