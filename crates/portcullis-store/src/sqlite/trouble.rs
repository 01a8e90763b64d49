//! Why an operation on a connection came to nothing.

use std::path::Path;
use std::sync::Arc;

use portcullis_core::StoreError;
use rusqlite::ErrorCode;

/// An answer to the caller, or trouble with the medium.
#[derive(Debug)]
pub(super) enum Trouble {
    /// What was asked for cannot be; the operation has written nothing.
    Answer(StoreError),
    /// SQLite failed, at whatever step.
    Medium(rusqlite::Error),
}

impl From<StoreError> for Trouble {
    fn from(answer: StoreError) -> Self {
        Self::Answer(answer)
    }
}

impl From<rusqlite::Error> for Trouble {
    fn from(source: rusqlite::Error) -> Self {
        Self::Medium(source)
    }
}

/// SQLite's failure, shared by every write of a group, with the file it is about.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the database `{}` failed", path.display())]
pub(super) struct Failed {
    path: Arc<Path>,
    source: Arc<rusqlite::Error>,
}

impl Failed {
    pub(super) fn new(path: &Arc<Path>, source: rusqlite::Error) -> Self {
        Self { path: Arc::clone(path), source: Arc::new(source) }
    }

    pub(super) fn to(&self, operation: &'static str) -> StoreError {
        StoreError::Unavailable { operation, source: Box::new(self.clone()) }
    }

    /// See [`is_of_one_write`].
    pub(super) fn is_of_one_write(&self) -> bool {
        is_of_one_write(&self.source)
    }
}

/// Whether an error comes from what was to be written, and says nothing about the medium.
pub(super) fn is_of_one_write(error: &rusqlite::Error) -> bool {
    match error.sqlite_error_code() {
        Some(code) => {
            matches!(code, ErrorCode::ConstraintViolation | ErrorCode::TypeMismatch | ErrorCode::TooBig)
        }
        None => true,
    }
}

/// The thread that would have answered is gone: it panicked, which its own message tells.
#[derive(Debug, thiserror::Error)]
#[error("the thread of the database `{}` is gone", path.display())]
pub(super) struct ThreadGone {
    pub(super) path: Arc<Path>,
}
