//! A listener that keeps what it was told.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use portcullis_core::*;

use super::{Journal, SECOND};

/// Keeps what it was told.
pub(in crate::tests) struct Listener {
    journal: Journal,
    updates: Mutex<Vec<Update>>,
    /// While set, a conclusion is not taken and not refused.
    pub(in crate::tests) away: AtomicBool,
    /// While set, a conclusion is refused for good.
    pub(in crate::tests) refusing: AtomicBool,
    pub(in crate::tests) waiting: AtomicUsize,
    /// While set, nobody listens.
    pub(in crate::tests) nobody: AtomicBool,
}

impl Listener {
    pub(in crate::tests) fn new(journal: &Journal) -> Arc<Self> {
        Arc::new(Self {
            journal: journal.clone(),
            updates: Mutex::default(),
            away: AtomicBool::new(false),
            refusing: AtomicBool::new(false),
            waiting: AtomicUsize::new(0),
            nobody: AtomicBool::new(false),
        })
    }

    pub(in crate::tests) fn updates(&self) -> Vec<Update> {
        self.updates.lock().unwrap().clone()
    }

    pub(in crate::tests) fn last_of(&self, id: &ExecutionId) -> Option<Update> {
        self.updates().into_iter().rev().find(|update| update.id == *id)
    }
}

#[async_trait]
impl Notifier for Listener {
    fn announce(&self, update: Update) {
        self.journal.write(format!("announce {} {}", update.id, update.status.as_str()));
        self.updates.lock().unwrap().push(update);
    }

    async fn conclude(&self, update: Update) -> Result<(), NotifyError> {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        while self.away.load(Ordering::SeqCst) {
            tokio::time::sleep(SECOND).await;
        }
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        if self.refusing.load(Ordering::SeqCst) {
            return Err(NotifyError { problem: "413".into() });
        }
        self.journal.write(format!("conclude {} {}", update.id, update.status.as_str()));
        self.updates.lock().unwrap().push(update);
        Ok(())
    }

    fn wants_updates(&self) -> bool {
        !self.nobody.load(Ordering::SeqCst)
    }
}
