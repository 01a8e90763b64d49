//! Whether the service can do its work, for probes and for who watches over its process.

use std::sync::Arc;
use std::time::Duration;

use portcullis_api::ConfinementView;
use portcullis_core::{Confinement, ExecutionStore, Launcher};
use portcullis_engine::Engine;
use portcullis_notify::{WebhookStats, WebhooksWatch};
use serde::Serialize;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use crate::report::chain;

/// How long an answer of the store counts: who asks often does not make it write often.
const FRESH: Duration = Duration::from_secs(1);
/// How long the store may take to answer.
const STORE_PATIENCE: Duration = Duration::from_secs(5);

/// Looks after the parts that everything needs.
pub struct Health {
    engine: Arc<Engine>,
    launcher: Arc<dyn Launcher>,
    store: Arc<dyn ExecutionStore>,
    confinement: Confinement,
    webhooks: WebhooksWatch,
    /// What the store answered last, and when. Locked while it is asked, so that it is asked once at a time.
    asked: Mutex<Option<(Instant, StoreState)>>,
}

/// How the store answered a trial.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreState {
    /// It could write.
    Writes,
    /// It could not; the text says why. A restart of the service does not mend that.
    Refuses(String),
    /// It did not answer in time.
    Silent,
}

/// Whether new work can be taken, and why not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Readiness {
    /// Whether it can.
    pub ready: bool,
    /// Everything that stands against it.
    pub problems: Vec<String>,
    /// What is in force around every execution.
    pub confinement: ConfinementView,
    /// How many executions may run at once.
    pub cells: usize,
    /// How the webhooks are; an endpoint in trouble stands against nothing. Left out when there is none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub webhooks: Vec<WebhookState>,
}

/// How a webhook is, as far as anybody may know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WebhookState {
    /// Its name in the configuration.
    pub name: String,
    /// `delivering`; `failing`, when its latest attempt failed; `disabled`, when it has answered 410.
    pub state: &'static str,
    /// Messages that wait for it, as counted within the last minute.
    pub waiting: u64,
}

impl From<WebhookStats> for WebhookState {
    fn from(stats: WebhookStats) -> Self {
        let state = match (stats.disabled, stats.failing) {
            (true, _) => "disabled",
            (false, true) => "failing",
            (false, false) => "delivering",
        };
        Self { name: stats.endpoint, state, waiting: stats.waiting }
    }
}

impl Health {
    /// Looks after these parts; `confinement` is what the launcher found at its start.
    pub fn new(
        engine: Arc<Engine>,
        launcher: Arc<dyn Launcher>,
        store: Arc<dyn ExecutionStore>,
        confinement: Confinement,
        webhooks: WebhooksWatch,
    ) -> Arc<Self> {
        Arc::new(Self { engine, launcher, store, confinement, webhooks, asked: Mutex::new(None) })
    }

    /// Tries the store, unless that was done a moment ago.
    ///
    /// # Cancel safety
    /// Dropping the future may leave the trial made and its answer unknown.
    pub async fn store(&self) -> StoreState {
        let mut asked = self.asked.lock().await;
        if let Some((at, state)) = &*asked
            && at.elapsed() < FRESH
        {
            return state.clone();
        }
        let state = match timeout(STORE_PATIENCE, self.store.probe()).await {
            Ok(Ok(())) => StoreState::Writes,
            Ok(Err(error)) => StoreState::Refuses(chain(&error)),
            Err(_) => StoreState::Silent,
        };
        *asked = Some((Instant::now(), state.clone()));
        state
    }

    /// Says whether new work can be taken.
    pub async fn readiness(&self) -> Readiness {
        let mut problems = Vec::new();
        if self.engine.load().draining {
            problems.push("the service is shutting down".to_owned());
        }
        problems.extend(self.launcher.problem());
        match self.store().await {
            StoreState::Writes => {}
            StoreState::Refuses(problem) => problems.push(problem),
            StoreState::Silent => {
                problems.push(format!("the store did not answer within {} s", STORE_PATIENCE.as_secs()));
            }
        }
        Readiness {
            ready: problems.is_empty(),
            problems,
            confinement: ConfinementView::from(&self.confinement),
            cells: self.launcher.capacity(),
            webhooks: self.webhooks.stats().into_iter().map(WebhookState::from).collect(),
        }
    }

    /// Whether the process is worth keeping: its runtime runs this, its launcher lives, and its store answers. A
    /// store that answers that it cannot write is alive: a restart gives the disk no room.
    pub async fn is_alive(&self) -> bool {
        self.launcher.problem().is_none() && self.store().await != StoreState::Silent
    }
}
