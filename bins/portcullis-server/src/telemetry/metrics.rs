//! All metrics at one moment.

use std::sync::Arc;

use portcullis_core::{Cells, CgroupVersion, Confinement, Launcher};
use portcullis_engine::Engine;
use portcullis_identity::AuthServiceAuthenticator;
use portcullis_notify::{SocketServiceNotifier, WebhookStats, WebhooksWatch};

use super::exposition::{Exposition, Family, Format};
use super::families as family;
use super::meters::Meters;
use super::process;
use crate::audit::Audit;

/// What is asked when somebody wants the metrics, beside what was counted.
pub struct Metrics {
    /// What was counted.
    pub meters: Arc<Meters>,
    /// What knows its load.
    pub engine: Arc<Engine>,
    /// What knows its cells.
    pub launcher: Arc<dyn Launcher>,
    /// What the launcher found at its start.
    pub confinement: Confinement,
    /// What knows how the peers are.
    pub peers: Peers,
    /// What is audited, and can be asked how it is.
    pub audit: Option<Arc<Audit>>,
}

/// The clients of peer services, where these are configured.
#[derive(Default)]
pub struct Peers {
    /// Of the Auth Service.
    pub auth_service: Option<Arc<AuthServiceAuthenticator>>,
    /// Of the Socket Service.
    pub socket_service: Option<Arc<SocketServiceNotifier>>,
    /// Of the webhooks.
    pub webhooks: WebhooksWatch,
}

impl Metrics {
    /// Writes all of them.
    #[must_use]
    pub fn write(&self, format: Format) -> String {
        let mut to = Exposition::new(format);
        let confinement = &self.confinement;
        to.family(&family::BUILD).count(&[("version", env!("CARGO_PKG_VERSION"))], 1);
        let cgroup = match confinement.cgroup {
            None => "none",
            Some(CgroupVersion::V1) => "v1",
            Some(CgroupVersion::V2) => "v2",
        };
        let landlock_abi = confinement.landlock_abi.unwrap_or(0).to_string();
        let level = confinement.level.as_str();
        to.family(&family::CONFINEMENT)
            .count(&[("level", level), ("cgroup", cgroup), ("landlock_abi", &landlock_abi)], 1);
        self.meters.write_executions(&mut to);
        self.write_engine(&mut to);
        self.write_cells(&mut to);
        self.meters.write_surroundings(&mut to);
        self.write_peers(&mut to);
        self.write_audit(&mut to);
        write_process(&mut to);
        to.end()
    }

    fn write_engine(&self, to: &mut Exposition) {
        let (load, stats) = (self.engine.load(), self.engine.stats());
        to.family(&family::TURNED_AWAY);
        for (reason, many) in [
            ("id_taken", stats.ids_taken),
            ("user_queue_full", stats.turned_away_principal_busy),
            ("queue_full", stats.turned_away_busy),
            ("draining", stats.turned_away_draining),
        ] {
            to.count(&[("reason", reason)], many);
        }
        to.family(&family::QUEUED).count(&[], load.queued as u64);
        to.family(&family::RUNNING).count(&[], load.running as u64);
        to.family(&family::DRAINING).count(&[], load.draining.into());
        to.family(&family::PANICS).count(&[], stats.panics);
        to.family(&family::FINAL_UPDATES)
            .count(&[("result", "delivered")], stats.updates_delivered)
            .count(&[("result", "given_up")], stats.updates_given_up);
    }

    fn write_cells(&self, to: &mut Exposition) {
        let Cells { free, alive, made, gone, late } = self.launcher.cells();
        let missing = self.launcher.capacity().saturating_sub(alive);
        to.family(&family::CELLS)
            .count(&[("state", "ready")], free as u64)
            .count(&[("state", "taken")], alive.saturating_sub(free) as u64)
            .count(&[("state", "missing")], missing as u64);
        to.family(&family::CELLS_MADE).count(&[], made);
        to.family(&family::CELLS_GONE).count(&[], gone);
        to.family(&family::CELLS_LATE).count(&[], late);
    }

    fn write_peers(&self, to: &mut Exposition) {
        let Peers { auth_service, socket_service, webhooks } = &self.peers;
        let socket = socket_service.as_ref().map(|notifier| notifier.stats()).unwrap_or_default();
        to.family(&family::FAILING);
        if let Some(authenticator) = auth_service {
            to.count(&[("peer", "auth_service")], authenticator.stats().failing.into());
        }
        if socket_service.is_some() {
            to.count(&[("peer", "socket_service")], socket.outage.into());
        }
        to.family(&family::UPDATES_PENDING).count(&[], socket.pending as u64);
        let dropped =
            [socket.replaced, socket.dropped_in_outage, socket.dropped_as_too_many, socket.dropped_as_late];
        to.family(&family::UPDATES_DROPPED).count(&[], dropped.iter().sum());
        write_webhooks(&webhooks.stats(), to);
    }

    fn write_audit(&self, to: &mut Exposition) {
        let counts = self.audit.as_ref().map(|audit| audit.counts());
        let (entries, failures, failing) = counts.unwrap_or_default();
        for (family, value) in [
            (&family::AUDIT_ENTRIES, entries),
            (&family::AUDIT_FAILURES, failures),
            (&family::AUDIT_FAILING, failing.into()),
        ] {
            to.family(family);
            if counts.is_some() {
                to.count(&[], value);
            }
        }
    }
}

fn write_webhooks(endpoints: &[WebhookStats], to: &mut Exposition) {
    type Figure = fn(&WebhookStats) -> u64;
    let plain: [(&'static Family, Figure); 4] = [
        (&family::WEBHOOK_ATTEMPTS, |stats| stats.attempts),
        (&family::WEBHOOK_FAILURES, |stats| stats.failed),
        (&family::WEBHOOK_WAITING, |stats| stats.waiting),
        (&family::WEBHOOK_FAILING, |stats| (stats.failing || stats.disabled).into()),
    ];
    for (family, figure) in plain {
        to.family(family);
        for stats in endpoints {
            to.count(&[("endpoint", &stats.endpoint)], figure(stats));
        }
    }
    to.family(&family::WEBHOOK_MESSAGES);
    for stats in endpoints {
        let ends = [("delivered", stats.delivered), ("given_up", stats.given_up), ("dropped", stats.dropped)];
        for (result, many) in ends {
            to.count(&[("endpoint", &stats.endpoint), ("result", result)], many);
        }
    }
}

fn write_process(to: &mut Exposition) {
    let Some(figures) = process::figures() else { return };
    to.family(&family::PROCESS_CPU).number(&[], figures.cpu_seconds);
    to.family(&family::PROCESS_RESIDENT).count(&[], figures.resident_bytes);
    to.family(&family::PROCESS_VIRTUAL).count(&[], figures.virtual_bytes);
    to.family(&family::PROCESS_FILES).count(&[], figures.open_files);
    to.family(&family::PROCESS_FILES_LIMIT).count(&[], figures.open_files_limit);
    to.family(&family::PROCESS_STARTED).number(&[], figures.started_seconds);
}
