//! Who is posted how executions end, as far as a store has to know it when one does.

use std::sync::{Arc, PoisonError, RwLock};

use portcullis_core::Subscription;
use tokio::sync::Notify;

/// The subscriptions of a store, and the bell for who posts.
#[derive(Debug, Default)]
pub(crate) struct Subscribers {
    known: RwLock<Known>,
    /// Rung when postings may have been made.
    made: Notify,
}

#[derive(Debug, Default)]
struct Known {
    all: Vec<Subscription>,
    disabled: Vec<String>,
    /// All but the disabled ones; kept ready, since every ending asks.
    posted_to: Arc<[Subscription]>,
}

impl Subscribers {
    /// Returns who is posted endings.
    pub(crate) fn posted_to(&self) -> Arc<[Subscription]> {
        Arc::clone(&self.known.read().unwrap_or_else(PoisonError::into_inner).posted_to)
    }

    /// Returns the place of a subscribed endpoint.
    pub(crate) fn url(&self, endpoint: &str) -> Option<String> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.all.iter().find(|subscription| subscription.endpoint == endpoint).map(|found| found.url.clone())
    }

    /// Replaces everything that is known.
    pub(crate) fn set(&self, all: Vec<Subscription>, disabled: Vec<String>) {
        self.change(|known| {
            known.all = all;
            known.disabled = disabled;
        });
    }

    /// Takes an endpoint out of those that are posted to, or back among them.
    pub(crate) fn set_disabled(&self, endpoint: &str, disabled: bool) {
        self.change(|known| {
            known.disabled.retain(|name| name != endpoint);
            if disabled {
                known.disabled.push(endpoint.to_owned());
            }
        });
    }

    /// Rings the bell.
    pub(crate) fn stir(&self) {
        self.made.notify_one();
    }

    /// Waits for the bell.
    pub(crate) async fn made(&self) {
        self.made.notified().await;
    }

    fn change(&self, change: impl FnOnce(&mut Known)) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        change(&mut known);
        let Known { all, disabled, posted_to } = &mut *known;
        *posted_to = all.iter().filter(|one| !disabled.contains(&one.endpoint)).cloned().collect();
    }
}
