//! What is true of SQLite alone, beside the contract.

use super::*;

fn open(directory: &tempfile::TempDir) -> SqliteStore {
    SqliteStore::open(&directory.path().join("state/portcullis.db")).unwrap()
}

crate::conformance_tests!(async {
    let directory = tempfile::tempdir().unwrap();
    (open(&directory), directory)
});
