//! What keeps the database of the real executable small, and copies it: retention and backup, under load and kills.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Instant;

use portcullis_api::ProblemCode as Code;
use portcullis_core::{
    Ending, ExecutionId, ExecutionStore, Fingerprint, Limits, ListQuery, NewExecution, OutputChunk,
    OutputStream, Principal, Provenance, Reason, Status,
};
use portcullis_store::SqliteStore;
use time::OffsetDateTime;

use crate::process::Real;
use crate::served::PATIENCE;

/// Fills a database with executions of the local user that ended one after the other, `e0` first.
async fn fill(data: &Path, count: usize, output_bytes: usize) {
    let store = SqliteStore::open(&data.join("portcullis.db")).unwrap();
    let local = Principal::local();
    let begun = OffsetDateTime::now_utc() - time::Duration::hours(1);
    let fill = async |n: usize| {
        let id = ExecutionId::parse(&format!("e{n}")).unwrap();
        let at = begun + time::Duration::milliseconds(i64::try_from(n).unwrap());
        let new = NewExecution {
            id: id.clone(),
            owner: local.id.clone(),
            owner_name: local.name.clone(),
            command: "echo x".into(),
            fingerprint: Fingerprint([0; 32]),
            programs: vec!["echo".into()],
            rules: Vec::new(),
            limits: Limits::default(),
            accepted_at: at,
            provenance: Provenance::default(),
            start: None,
        };
        store.accept(new).await.unwrap();
        let bytes = vec![b'x'; output_bytes];
        let chunk = OutputChunk { seq: 1, stream: OutputStream::Stdout, at, bytes };
        store.append(&id, vec![chunk]).await.unwrap();
        let ending = Ending {
            status: Status::Failed,
            reason: Reason::Interrupted,
            exit_code: None,
            signal: None,
            ended_at: at,
            usage: None,
            truncated: false,
            message: None,
        };
        store.finish(&id, ending).await.unwrap();
    };
    for n in 0..count {
        fill(n).await;
    }
}

async fn kept(data: &Path) -> Vec<String> {
    let store = SqliteStore::open(&data.join("portcullis.db")).unwrap();
    let mut query = ListQuery { limit: 1_000, ..ListQuery::default() };
    let mut ids = Vec::new();
    loop {
        let page = store.list(&query).await.unwrap();
        for record in page.executions {
            let output = store.output(&record.id, 0, usize::MAX).await.unwrap();
            assert_eq!(output.iter().map(|chunk| chunk.bytes.len() as u64).sum::<u64>(), record.output_bytes);
            ids.push(record.id.to_string());
        }
        let Some(next) = page.next else { return ids };
        query.cursor = Some(next);
    }
}

#[tokio::test]
async fn retention_by_number_goes_on_after_a_kill_and_the_service_works_meanwhile() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    fill(&data, 1_500, 4_000).await;
    let settings = [("PORTCULLIS_RETENTION_EXECUTIONS", "100")];
    let mut lives = 0;
    let real = loop {
        let Some(real) = Real::start(&data, &settings).await else { return };
        lives += 1;
        if lives == 4 {
            break real;
        }
        // In the midst of it, or just before or behind.
        let mine = format!("mine{lives}");
        assert_eq!(real.client.run(&mine, "echo still").await.output.as_deref(), Some("still"));
        real.signal("KILL");
        assert_eq!(real.ended().await.0, None);
    };
    // What has ended in these lives is over the bound until the next round, a minute later.
    let begun = Instant::now();
    while real.client.get("/api/commands/e1399").await.status != 404 {
        assert!(begun.elapsed() < PATIENCE, "nothing is removed");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let gone =
        real.client.get("/api/commands/e0").await.expect_status(404).expect_problem(Code::ExecutionExpired);
    assert!(gone.detail.contains("removed when its retention was over"), "{gone}");
    for path in ["/api/commands/e0/output", "/api/commands/e0/events"] {
        real.client.get(path).await.expect_status(404).expect_problem(Code::ExecutionExpired);
    }
    real.client.get("/api/commands/f0").await.expect_problem(Code::ExecutionNotFound);
    // Its id is free again.
    assert_eq!(real.client.run("e0", "echo anew").await.output.as_deref(), Some("anew"));
    real.signal("TERM");
    let (code, log) = real.ended().await;
    assert_eq!(code, Some(0), "{log}");
    let kept = kept(&data).await;
    assert!((100..=104).contains(&kept.len()), "{}: {kept:?}", kept.len());
    for id in ["e1499", "mine1", "mine3", "e0"] {
        assert!(kept.iter().any(|kept| kept == id), "{id} in {kept:?}");
    }
}

#[tokio::test]
async fn retention_by_bytes_gives_the_disk_back_what_it_removes() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    fill(&data, 800, 100_000).await;
    let size = || fs::metadata(data.join("portcullis.db")).unwrap().len();
    assert!(size() > 80_000_000, "{}", size());
    let settings = [("PORTCULLIS_RETENTION_BYTES", "20000000")];
    let Some(real) = Real::start(&data, &settings).await else { return };
    let begun = Instant::now();
    while real.client.get("/api/commands/e599").await.status != 404 {
        assert!(begun.elapsed() < PATIENCE, "nothing is removed");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    real.client.get("/api/commands/e799").await.expect_status(200);
    let shrunk = async || {
        let store = data.join("portcullis.db");
        let free: i64 = rusqlite_pragma(&store, "freelist_count");
        let pages: i64 = rusqlite_pragma(&store, "page_count");
        pages * 4_096 < 30_000_000 && free * 4_096 < 10_000_000
    };
    let begun = Instant::now();
    while !shrunk().await {
        assert!(begun.elapsed() < PATIENCE, "no room is given back");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    real.signal("TERM");
    assert_eq!(real.ended().await.0, Some(0));
    assert!(size() < 30_000_000, "{}", size());
    assert!(kept(&data).await.len() > 100);
}

fn rusqlite_pragma(path: &Path, name: &str) -> i64 {
    let connection = rusqlite::Connection::open(path).unwrap();
    connection.query_row(&format!("PRAGMA {name}"), [], |row| row.get(0)).unwrap()
}

#[expect(clippy::disallowed_methods, reason = "this is the service itself, not something it runs")]
fn back_up(data: &Path, to: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_portcullis-server"))
        .env_clear()
        .env("PORTCULLIS_DATA_DIR", data)
        .args(["backup", to.to_str().unwrap()])
        .output()
        .unwrap()
}

#[tokio::test]
async fn a_backup_of_a_service_under_load_opens_and_holds_all_that_was_acknowledged_before() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    fill(&data, 300, 50_000).await;
    let Some(real) = Real::start(&data, &[]).await else { return };
    let mut acknowledged = Vec::new();
    for round in 0..3 {
        for n in 0..5 {
            let id = format!("r{round}-{n}");
            assert_eq!(real.client.run(&id, "echo x").await.status, Status::Completed);
            acknowledged.push(id);
        }
        let to = directory.path().join(format!("backup-{round}.db"));
        let backing_up = tokio::task::spawn_blocking({
            let (data, to) = (data.clone(), to.clone());
            move || back_up(&data, &to)
        });
        let mut meanwhile = 0;
        while !backing_up.is_finished() {
            real.client.run(&format!("m{round}-{meanwhile}"), "echo y").await;
            meanwhile += 1;
        }
        let output = backing_up.await.unwrap();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert_eq!(fs::metadata(&to).unwrap().permissions().mode() & 0o777, 0o600);
        // It is a database that a service can be started on.
        let restored = directory.path().join(format!("restored-{round}"));
        fs::create_dir(&restored).unwrap();
        fs::copy(&to, restored.join("portcullis.db")).unwrap();
        let ids = kept(&restored).await;
        for id in acknowledged.iter().map(String::as_str).chain(["e0", "e299"]) {
            assert!(ids.iter().any(|known| known == id), "{id} is not in backup {round}");
        }
        // A backup never takes the place of anything.
        let again = back_up(&data, &to);
        assert_eq!(again.status.code(), Some(1));
        assert!(String::from_utf8_lossy(&again.stderr).contains("exists"), "{again:?}");
    }
    let files = fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(files.into_iter().all(|name| !name.to_string_lossy().contains(".part-")));
    real.signal("TERM");
    assert_eq!(real.ended().await.0, Some(0));
}

#[test]
fn there_is_no_backup_without_a_database_and_nothing_is_made() {
    let directory = tempfile::tempdir().unwrap();
    let output = back_up(&directory.path().join("data"), &directory.path().join("backup.db"));
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("portcullis.db") && said.contains("No such file"), "{said}");
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}
