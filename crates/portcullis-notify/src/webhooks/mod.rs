//! Posts how executions ended to endpoints of the operator's choice: Standard Webhooks 1.0.
//!
//! The store is the only queue: a message waits there from the transaction that wrote the ending until its endpoint
//! took it, was given up, or is gone. Each endpoint has a task of its own.

mod address;
mod config;
mod dial;
mod lane;
mod message;
mod secret;
mod stats;

use std::sync::Arc;
use std::time::Duration;

use portcullis_core::{Outbox, StoreError, Subscription};
use time::OffsetDateTime;
use tokio::sync::{Notify, watch};
use tokio::task::{JoinHandle, JoinSet};

pub use address::Network;
pub use config::{InvalidWebhook, Place, WebhookConfig};
use dial::HttpEndpoint;
use lane::{Clock, Endpoint};
pub use secret::SigningSecret;
pub use stats::WebhookStats;

/// Endpoints that can be posted to: checked, with the certificates that may vouch for them.
pub struct Webhooks {
    endpoints: Vec<(Subscription, WebhookConfig, HttpEndpoint)>,
}

impl Webhooks {
    /// Checks endpoints, and reads certificates. Nobody needs to be there yet.
    ///
    /// # Errors
    /// When one cannot be used, or two have one name.
    pub fn new(configs: Vec<WebhookConfig>) -> Result<Self, InvalidWebhook> {
        let mut endpoints: Vec<(Subscription, WebhookConfig, HttpEndpoint)> = Vec::new();
        for config in configs {
            if endpoints.iter().any(|(known, ..)| known.endpoint == config.name) {
                return Err(InvalidWebhook {
                    endpoint: config.name,
                    problem: "there are two of its name".into(),
                });
            }
            let endpoint = HttpEndpoint::new(&config)?;
            endpoints.push((config.subscription(), config, endpoint));
        }
        Ok(Self { endpoints })
    }

    /// Has a store keep what these are to be posted, from here on and no longer for others. Comes before the engine
    /// starts, which may find executions to end.
    ///
    /// # Errors
    /// When the store cannot note it.
    pub async fn subscribe(&self, outbox: &dyn Outbox) -> Result<(), StoreError> {
        let subscriptions = self.endpoints.iter().map(|(subscription, ..)| subscription.clone()).collect();
        let removed = outbox.subscribe(subscriptions).await?;
        if removed > 0 {
            tracing::warn!(removed, "postings of webhooks that are not configured any more are removed");
        }
        Ok(())
    }

    /// Begins to post. `base` is the service's own URL for links, or nothing.
    #[must_use]
    pub fn start(self, outbox: Arc<dyn Outbox>, base: &str) -> RunningWebhooks {
        RunningWebhooks::start(
            self.endpoints
                .into_iter()
                .map(|(_, config, dial)| (config, Box::new(dial) as Box<dyn dial::Dial>)),
            outbox,
            base,
            Arc::new(OffsetDateTime::now_utc),
        )
    }
}

/// Sees how endpoints are. Cheap to clone; counts stand still when the posting has ended.
#[derive(Clone, Default)]
pub struct WebhooksWatch {
    endpoints: Arc<[Arc<Endpoint>]>,
}

impl WebhooksWatch {
    /// Returns what was done for each endpoint, in the order of the configuration.
    #[must_use]
    pub fn stats(&self) -> Vec<WebhookStats> {
        self.endpoints.iter().map(|endpoint| endpoint.counters.read(&endpoint.name)).collect()
    }
}

/// The posting that goes on. Dropped, it ends at once; what was under way is posted again by the next start.
pub struct RunningWebhooks {
    watch: WebhooksWatch,
    stop: watch::Sender<bool>,
    lanes: JoinSet<()>,
    bell: JoinHandle<()>,
}

impl RunningWebhooks {
    fn start(
        endpoints: impl Iterator<Item = (WebhookConfig, Box<dyn dial::Dial>)>,
        outbox: Arc<dyn Outbox>,
        base: &str,
        clock: Clock,
    ) -> Self {
        let endpoints: Vec<_> = endpoints
            .map(|(config, dial)| {
                Arc::new(Endpoint {
                    name: config.name,
                    secrets: config.secrets,
                    dial,
                    outbox: Arc::clone(&outbox),
                    base: base.to_owned(),
                    clock: Arc::clone(&clock),
                    counters: stats::Counters::default(),
                    bell: Notify::new(),
                })
            })
            .collect();
        let stop = watch::Sender::new(false);
        let mut lanes = JoinSet::new();
        for endpoint in &endpoints {
            lanes.spawn(Arc::clone(endpoint).run(stop.subscribe()));
        }
        let bell = tokio::spawn({
            let endpoints = endpoints.clone();
            async move {
                loop {
                    outbox.made().await;
                    endpoints.iter().for_each(|endpoint| endpoint.bell.notify_one());
                }
            }
        });
        Self { watch: WebhooksWatch { endpoints: endpoints.into() }, stop, lanes, bell }
    }

    /// Returns the way to see how the endpoints are, for metrics and probes.
    #[must_use]
    pub fn watch(&self) -> WebhooksWatch {
        self.watch.clone()
    }

    /// Begins nothing more, gives what is under way this long, and ends.
    pub async fn stop(mut self, patience: Duration) {
        self.stop.send_replace(true);
        let ended = async { while self.lanes.join_next().await.is_some() {} };
        if tokio::time::timeout(patience, ended).await.is_err() {
            tracing::info!("some webhooks are not posted yet; the next start goes on with it");
        }
    }
}

impl Drop for RunningWebhooks {
    fn drop(&mut self) {
        self.bell.abort();
    }
}
