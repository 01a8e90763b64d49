//! What is true of SQLite alone, beside the contract.

mod faults;
mod files;
mod killed;
mod model;
mod power;

use std::path::PathBuf;

use super::*;

fn path(directory: &tempfile::TempDir) -> PathBuf {
    directory.path().join("state/portcullis.db")
}

fn open(directory: &tempfile::TempDir) -> SqliteStore {
    SqliteStore::open(&path(directory)).unwrap()
}

/// Opens a store whose writing connection was prepared by `prepare`.
fn open_prepared(directory: &tempfile::TempDir, prepare: impl FnOnce(&rusqlite::Connection)) -> SqliteStore {
    let (database, writer) = Database::open(&path(directory)).unwrap();
    prepare(&writer);
    SqliteStore::start(database, writer).unwrap()
}

/// Returns an error with its causes, as the edge prints it.
fn chain(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", chain(source)),
        None => error.to_string(),
    }
}

crate::conformance_tests!(async {
    let directory = tempfile::tempdir().unwrap();
    (open(&directory), directory)
});

crate::outbox_tests!(async {
    let directory = tempfile::tempdir().unwrap();
    (open(&directory), directory)
});
