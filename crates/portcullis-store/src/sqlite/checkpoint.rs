//! Copies the log into the database file beside the writer, so that no acknowledgement waits for it.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{self, SyncSender};
use std::thread::{self, JoinHandle};

use rusqlite::Connection;

/// A thread that makes checkpoints when asked. Dropped, it ends the one it is making and goes.
#[derive(Debug)]
pub(super) struct Checkpointer {
    wake: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Checkpointer {
    /// Starts the thread with a connection of its own.
    pub(super) fn start(path: Arc<Path>, connection: Connection) -> std::io::Result<Self> {
        // One place: asked twice before it begins, it makes one checkpoint.
        let (wake, asked) = mpsc::sync_channel(1);
        let work = move || asked.iter().for_each(|()| run(&connection, &path));
        let thread = thread::Builder::new().name("store-checkpoint".into()).spawn(work)?;
        Ok(Self { wake: Some(wake), thread: Some(thread) })
    }

    /// Asks for a checkpoint and does not wait for it.
    pub(super) fn ask(&self) {
        if let Some(wake) = &self.wake {
            // Full: one is asked for already. Disconnected: the thread's own panic message told.
            let _ = wake.try_send(());
        }
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

/// Syncs the log and copies as much of it as no reader still needs. Waits for nobody. A failure costs
/// nothing but a longer log: what is not copied stays where it is safe.
pub(super) fn run(connection: &Connection, path: &Path) {
    if let Err(error) = connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())) {
        tracing::warn!(path = %path.display(), %error, "could not copy the log into the database");
    }
}
