//! A few threads that read, each on a connection of its own, beside the writer.

use std::path::Path;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use portcullis_core::StoreError;
use rusqlite::Connection;
use tokio::sync::oneshot;

use super::trouble::{Failed, ThreadGone, Trouble};

type Job = Box<dyn FnOnce(&Connection) + Send>;

/// The way to the reading threads. Dropped, it waits until they have answered and gone.
#[derive(Debug)]
pub(super) struct Readers {
    path: Arc<Path>,
    jobs: Option<Sender<Job>>,
    threads: Vec<JoinHandle<()>>,
}

impl Readers {
    /// Starts one thread for each connection.
    pub(super) fn start(path: Arc<Path>, connections: Vec<Connection>) -> std::io::Result<Self> {
        let (jobs, waiting) = mpsc::channel();
        let waiting = Arc::new(Mutex::new(waiting));
        let mut readers = Self { path, jobs: Some(jobs), threads: Vec::new() };
        for connection in connections {
            let waiting = Arc::clone(&waiting);
            let thread = thread::Builder::new().name("store-reader".into());
            readers.threads.push(thread.spawn(move || read(&connection, &waiting))?);
        }
        Ok(readers)
    }

    /// Runs a reading operation on the next free thread.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        operation: &'static str,
        work: impl FnOnce(&Connection) -> Result<T, Trouble> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        let path = Arc::clone(&self.path);
        let job = move |connection: &Connection| {
            let answer = work(connection).map_err(|trouble| match trouble {
                Trouble::Answer(answer) => answer,
                Trouble::Medium(source) => Failed::new(&path, source).to(operation),
            });
            // Who has stopped waiting needs no answer.
            let _ = reply.send(answer);
        };
        let gone = || StoreError::Unavailable {
            operation,
            source: Box::new(ThreadGone { path: Arc::clone(&self.path) }),
        };
        self.jobs.as_ref().ok_or_else(gone)?.send(Box::new(job)).map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        drop(self.jobs.take());
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn read(connection: &Connection, waiting: &Mutex<Receiver<Job>>) {
    loop {
        // The guard is gone before the job runs: one thread waits for the next job, the others wait for it.
        let job = waiting.lock().unwrap_or_else(PoisonError::into_inner).recv();
        match job {
            Ok(job) => job(connection),
            Err(mpsc::RecvError) => return,
        }
    }
}
