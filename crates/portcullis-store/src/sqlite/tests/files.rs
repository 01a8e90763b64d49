//! Opening: whose file it is, who may have it, what is left alone.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use portcullis_core::{
    ExecutionStore, ListQuery, Outbox, OutputStream, Provenance, Reason, Refusal, Status, Subscription,
};
use rusqlite::Connection;
use time::macros::datetime;

use super::super::schema::MIGRATIONS;
use super::{chain, open, path};
use crate::conformance::{accept, after, chunk, completed, confinement, ended, id, new, refusal};
use crate::{OpenError, SqliteStore};

/// A file of each schema version with one record of each kind, as that version wrote it.
const FILES: [&str; 3] =
    [include_str!("version-1.sql"), include_str!("version-2.sql"), include_str!("version-3.sql")];

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[tokio::test]
async fn everything_is_there_when_the_store_is_opened_again() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory);
    accept(&store, new("a")).await;
    store.claim(&id("a"), after(1), &confinement()).await.unwrap();
    store.append(&id("a"), vec![chunk(1, b"x"), chunk(2, b"y")]).await.unwrap();
    store.finish(&id("a"), completed(after(2))).await.unwrap();
    accept(&store, new("b")).await;
    store.append(&id("b"), vec![chunk(1, b"last")]).await.unwrap();
    store.refuse(refusal("cat /etc/passwd", after(3))).await.unwrap();
    let before = (store.read(&id("a")).await.unwrap(), store.read(&id("b")).await.unwrap());
    drop(store);
    // A store that was closed leaves one file, which can be copied as it is, and the lock.
    let mut names: Vec<_> = fs::read_dir(path(&directory).parent().unwrap())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["portcullis.db", "portcullis.db.lock"]);

    let store = open(&directory);
    let now = (store.read(&id("a")).await.unwrap(), store.read(&id("b")).await.unwrap());
    assert_eq!(now, before);
    assert_eq!(store.output(&id("a"), 0, 99).await.unwrap(), [chunk(1, b"x"), chunk(2, b"y")]);
    assert_eq!(store.output(&id("b"), 0, 99).await.unwrap(), [chunk(1, b"last")]);
    assert_eq!(store.refusals(9).await.unwrap(), [refusal("cat /etc/passwd", after(3))]);
    assert_eq!(store.undelivered(9).await.unwrap().len(), 1);
}

#[tokio::test]
async fn only_the_owner_may_open_the_files() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory);
    accept(&store, new("a")).await;
    let state = path(&directory).parent().unwrap().to_owned();
    assert_eq!(mode(&state), 0o700);
    for name in ["portcullis.db", "portcullis.db-wal", "portcullis.db-shm", "portcullis.db.lock"] {
        assert_eq!(mode(&state.join(name)), 0o600, "{name}");
    }
    drop(store);
    fs::set_permissions(path(&directory), Permissions::from_mode(0o644)).unwrap();
    drop(open(&directory));
    assert_eq!(mode(&path(&directory)), 0o600);
}

#[tokio::test]
async fn a_second_store_on_the_same_database_is_refused_and_the_first_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory);
    accept(&store, new("a")).await;
    for _ in 0..2 {
        let error = SqliteStore::open(&path(&directory)).unwrap_err();
        assert!(
            matches!(&error, OpenError::InUse { path: named } if *named == path(&directory)),
            "{error:?}"
        );
    }
    accept(&store, new("b")).await;
    drop(store);
    assert!(open(&directory).read(&id("b")).await.unwrap().is_some());
}

/// Asserts that a file is refused, is named, and stays as it is to the byte.
#[track_caller]
fn assert_left_alone(directory: &tempfile::TempDir, expected: &str) {
    let before = fs::read(path(directory)).unwrap();
    let error = SqliteStore::open(&path(directory)).unwrap_err();
    let text = chain(&error);
    assert!(text.contains(expected) && text.contains(path(directory).to_str().unwrap()), "{text}");
    assert!(fs::read(path(directory)).unwrap() == before, "the file was changed");
}

#[test]
fn a_newer_schema_is_refused_and_kept() {
    let directory = tempfile::tempdir().unwrap();
    drop(open(&directory));
    let newer = MIGRATIONS.len() + 1;
    let connection = Connection::open(path(&directory)).unwrap();
    connection.pragma_update(None, "user_version", newer as i64).unwrap();
    drop(connection);
    assert_left_alone(&directory, &format!("has schema version `{newer}`"));
}

#[test]
fn a_database_of_another_application_is_refused_and_kept() {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(path(&directory).parent().unwrap()).unwrap();
    let connection = Connection::open(path(&directory)).unwrap();
    connection.execute_batch("CREATE TABLE notes (x); PRAGMA application_id = 77").unwrap();
    drop(connection);
    fs::set_permissions(path(&directory), Permissions::from_mode(0o600)).unwrap();
    assert_left_alone(&directory, "is a database of another application (application id `77`)");
}

#[test]
fn what_is_no_database_is_refused_and_kept() {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(path(&directory).parent().unwrap()).unwrap();
    for content in [b"remember the milk\n".repeat(1_000), vec![0xff; 100_000], b"x".to_vec()] {
        fs::write(path(&directory), content).unwrap();
        assert_left_alone(&directory, "is damaged, or no database at all");
    }
}

#[tokio::test]
async fn a_database_that_lost_its_end_is_named_and_kept() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory);
    for n in 0..50 {
        accept(&store, new(&format!("a{n}"))).await;
    }
    drop(store);
    let whole = fs::read(path(&directory)).unwrap();
    fs::write(path(&directory), &whole[..whole.len() / 2]).unwrap();
    match SqliteStore::open(&path(&directory)) {
        Err(error) => assert!(matches!(error, OpenError::Damaged { .. }), "{error:?}"),
        // It is opened without being read through; then the first who comes upon the damage is told.
        Ok(store) => {
            let error = store.list(&ListQuery { limit: 100, ..ListQuery::default() }).await.unwrap_err();
            let text = chain(&error);
            assert!(text.contains("malformed") && text.contains("portcullis.db"), "{text}");
        }
    }
}

#[tokio::test]
async fn a_record_that_cannot_be_read_is_told_and_the_others_are_read() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory);
    accept(&store, new("a")).await;
    accept(&store, new("b")).await;
    let connection = Connection::open(path(&directory)).unwrap();
    connection.execute("UPDATE executions SET limits = '{\"future\": 1}' WHERE id = 'a'", []).unwrap();
    let text = chain(&store.read(&id("a")).await.unwrap_err());
    assert!(text.contains("could not read the execution") && text.contains("missing field"), "{text}");
    assert!(store.read(&id("b")).await.unwrap().is_some());
}

#[test]
fn a_database_locked_by_another_program_is_named() {
    let directory = tempfile::tempdir().unwrap();
    drop(open(&directory));
    let other = Connection::open(path(&directory)).unwrap();
    other.execute_batch("PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE; CREATE TABLE x (x)").unwrap();
    let error = SqliteStore::open(&path(&directory)).unwrap_err();
    assert!(
        matches!(&error, OpenError::Locked { path: named, .. } if *named == path(&directory)),
        "{error:?}"
    );
    drop(other);
    drop(open(&directory));
}

#[test]
fn a_directory_that_cannot_be_written_is_named() {
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), Permissions::from_mode(0o555)).unwrap();
    // Nobody can make files in `/proc`, not even who may write everywhere else.
    let refused = [directory.path(), Path::new("/proc")].map(|parent| parent.join("portcullis.db"));
    let mut tried = 0;
    for path in refused.iter().filter(|path| fs::File::create(path).is_err()) {
        tried += 1;
        let error = SqliteStore::open(path).unwrap_err();
        let text = chain(&error);
        assert!(matches!(error, OpenError::Files { .. }), "{error:?}");
        assert!(text.contains(path.to_str().unwrap()), "{text}");
    }
    assert!(tried > 0);
    let below_a_file = tempfile::NamedTempFile::new().unwrap();
    let error = SqliteStore::open(&below_a_file.path().join("portcullis.db")).unwrap_err();
    assert!(chain(&error).starts_with("could not make the directory"), "{error:?}");
}

#[test]
fn what_an_interrupted_first_start_left_is_taken_up() {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(path(&directory).parent().unwrap()).unwrap();
    fs::write(path(&directory), b"").unwrap();
    drop(open(&directory));
    fs::remove_file(path(&directory)).unwrap();
    let connection = Connection::open(path(&directory)).unwrap();
    connection.pragma_update(None, "journal_mode", "WAL").unwrap();
    drop(connection);
    drop(open(&directory));
}

/// Writes a file as an earlier version left it.
fn write_file(directory: &tempfile::TempDir, sql: &str) {
    fs::create_dir(path(directory).parent().unwrap()).unwrap();
    let connection = Connection::open(path(directory)).unwrap();
    connection.execute_batch(sql).unwrap();
}

#[tokio::test]
async fn a_file_of_every_schema_version_is_read_and_written_on() {
    assert_eq!(FILES.len(), MIGRATIONS.len(), "keep a file of each version, as that version wrote it");
    for (before, sql) in FILES.into_iter().enumerate() {
        let provenance = match before {
            0 => Provenance::default(),
            _ => Provenance { peer: Some(([192, 0, 2, 1], 4321).into()), trace: None },
        };
        let directory = tempfile::tempdir().unwrap();
        write_file(&directory, sql);
        let store = open(&directory);
        let done = store.read(&id("done")).await.unwrap().unwrap();
        assert_eq!((&*done.owner, &*done.owner_name, &*done.command), ("u-1", "ann", "echo done | cat"));
        assert_eq!((done.programs, done.rules), (new("done").programs, new("done").rules));
        assert_eq!((done.limits, done.fingerprint), (new("done").limits, new("done").fingerprint));
        assert_eq!(done.accepted_at, datetime!(2026-03-01 12:00:00.123456789 UTC));
        assert_eq!((done.started_at, done.confinement), (Some(after(1)), Some(confinement())));
        assert_eq!((done.status, done.last_seq, done.output_bytes), (Status::Completed, 2, 4));
        assert_eq!((done.ending, &done.provenance), (Some(completed(after(2))), &provenance));
        let output = store.output(&id("done"), 0, 99).await.unwrap();
        assert_eq!(output, [chunk(1, b"x\xff\0"), chunk(2, b"y")]);
        assert_eq!(output[1].stream, OutputStream::Stderr);
        let refusal = Refusal { provenance, ..refusal("cat /etc/passwd", after(3)) };
        assert_eq!(store.refusals(9).await.unwrap(), [refusal]);
        assert_eq!(store.undelivered(9).await.unwrap().len(), 1);
        assert_eq!(store.recover(after(9)).await.unwrap().interrupted, [id("waiting")]);
        let waiting = store.read(&id("waiting")).await.unwrap().unwrap();
        assert_eq!(waiting.ending.unwrap().reason, Reason::Interrupted);

        let subscription = |name: &str| Subscription {
            endpoint: name.into(),
            url: format!("https://{name}.example/hook"),
            ..Subscription::default()
        };
        store.subscribe(vec![subscription("ci"), subscription("gone")]).await.unwrap();
        ended(&store, "later", after(10)).await;
        assert_eq!(store.expire(after(3)).await.unwrap(), 1);
        drop(store);
        let store = open(&directory);
        assert_eq!(store.read(&id("done")).await.unwrap(), None);
        assert_eq!(store.due("ci", after(99), 9).await.unwrap().postings.len(), 1);
    }
}

#[tokio::test]
async fn what_is_to_be_posted_and_who_is_disabled_is_read_from_a_file_of_version_3() {
    let directory = tempfile::tempdir().unwrap();
    write_file(&directory, FILES[2]);
    let store = open(&directory);
    let subscription =
        |name: &str, url: &str| Subscription { endpoint: name.into(), url: url.into(), ..Default::default() };
    let all = vec![subscription("ci", "https://x"), subscription("gone", "https://gone.example/hook")];
    store.subscribe(all).await.unwrap();
    let due = store.due("ci", after(60), 9).await.unwrap().postings;
    assert_eq!((due[0].n, due[0].attempts, due[0].made_at), (7, 3, after(2)));
    assert_eq!(due[0].execution.id, id("done"));
    assert_eq!(store.due("ci", after(59), 9).await.unwrap().next, Some(after(60)));
    assert_eq!(store.disabled_since("gone").await.unwrap(), Some(after(3)));
}
