//! Copies the log into the database file beside the writer, so that no acknowledgement waits for it.

use std::path::Path;
use std::sync::mpsc::{self, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use rusqlite::Connection;

/// A thread that makes checkpoints when asked. Dropped, it ends the one it is making and goes.
#[derive(Debug)]
pub(super) struct Checkpointer {
    path: Arc<Path>,
    wake: Option<SyncSender<()>>,
    /// Held while a checkpoint is made: SQLite refuses a second one instead of letting it wait.
    busy: Arc<Mutex<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Checkpointer {
    /// Starts the thread with a connection of its own.
    pub(super) fn start(path: Arc<Path>, connection: Connection) -> std::io::Result<Self> {
        // One place: asked twice before it begins, it makes one checkpoint.
        let (wake, asked) = mpsc::sync_channel(1);
        let busy = Arc::default();
        let work = {
            let (path, busy) = (Arc::clone(&path), Arc::clone(&busy));
            move || asked.iter().for_each(|()| run(&connection, &path, &busy))
        };
        let thread = thread::Builder::new().name("store-checkpoint".into()).spawn(work)?;
        Ok(Self { path, wake: Some(wake), busy, thread: Some(thread) })
    }

    /// Asks for a checkpoint and does not wait for it.
    pub(super) fn ask(&self) {
        if let Some(wake) = &self.wake {
            // Full: one is asked for already. Disconnected: the thread's own panic message told.
            let _ = wake.try_send(());
        }
    }

    /// Makes a checkpoint on the caller's connection, after the one that the thread may be making.
    pub(super) fn run_here(&self, connection: &Connection) {
        run(connection, &self.path, &self.busy);
    }
}

impl Drop for Checkpointer {
    fn drop(&mut self) {
        drop(self.wake.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Copies of the log what no reader still needs, and waits for no reader. A failure costs nothing but a longer
/// log: what is not copied stays where it is safe.
fn run(connection: &Connection, path: &Path, busy: &Mutex<()>) {
    let _guard = busy.lock().unwrap_or_else(PoisonError::into_inner);
    if let Err(error) = connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())) {
        tracing::warn!(path = %path.display(), %error, "could not copy the log into the database");
    }
}
