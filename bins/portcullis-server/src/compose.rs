//! Puts the rooms together, as the configuration says.

use std::fs::{self, DirBuilder};
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use portcullis_api::URL_FILE;
use portcullis_core::{Authenticator, Confinement, ExecutionStore, Keep, Launcher, Notifier, Outbox};
use portcullis_engine::{Engine, Parts};
use portcullis_identity::{AuthServiceAuthenticator, LocalTokenAuthenticator};
use portcullis_notify::{RunningWebhooks, Silent, SocketServiceNotifier, Webhooks};
use portcullis_store::{MemoryStore, SqliteStore};

use crate::audit::{Audit, AuditedAuthenticator, AuditedStore};
use crate::config::{Config, StoreKind};
use crate::health::Health;
use crate::http::Service;
use crate::retention;
use crate::rules::Rules;
use crate::telemetry::{MeasuredAuthenticator, MeasuredLauncher, MeasuredStore, Meters, Metrics, Peers};

/// Name of the database in the data directory.
pub(crate) const DATABASE_FILE: &str = "portcullis.db";

/// Why the service could not be put together.
#[derive(Debug, thiserror::Error)]
pub enum ComposeError {
    /// The file system refused.
    #[error("could not {operation} `{}`", .path.display())]
    File {
        /// What was tried.
        operation: &'static str,
        /// With what.
        path: PathBuf,
        /// What it answered.
        source: io::Error,
    },
    /// A room could not do its part; the text is its own.
    #[error("could not {operation}")]
    Room {
        /// What was tried.
        operation: &'static str,
        /// Why not.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl ComposeError {
    /// Says which room could not do what.
    pub fn room(operation: &'static str) -> impl Fn(Box<dyn std::error::Error + Send + Sync>) -> Self {
        move |source| Self::Room { operation, source }
    }
}

/// The service, put together and at work, but not listening yet.
pub struct Composed {
    /// What runs executions.
    pub engine: Arc<Engine>,
    /// What answers requests.
    pub service: Arc<Service>,
    /// What says how it is.
    pub health: Arc<Health>,
    /// What lines are judged by.
    pub rules: Arc<Rules>,
    /// What posts how executions ended.
    pub webhooks: RunningWebhooks,
    /// What sends spans, where these are exported.
    #[cfg(feature = "otel")]
    pub spans: Option<crate::telemetry::Spans>,
}

/// Makes the data directory, readable by its owner alone, when there is none.
///
/// # Errors
/// When it cannot be made, or is no directory.
pub fn make_data_dir(path: &Path) -> Result<(), ComposeError> {
    let failed =
        |source| ComposeError::File { operation: "make the data directory", path: path.to_owned(), source };
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed)
}

/// Prepares to find out who asks. Where the local token counts, it is read or made, so this comes before root is given
/// up: the token stays root's, and the service need not be able to read it.
///
/// # Errors
/// When the token is not safe to use, or cannot be made.
pub fn authenticator(config: &Config, meters: &Arc<Meters>) -> Result<WhoAsks, ComposeError> {
    let (authenticator, auth_service): (Arc<dyn Authenticator>, _) = match &config.auth_service {
        Some(auth_service) => {
            let asking = AuthServiceAuthenticator::observed(auth_service.clone(), meters.auth_service());
            let asking = asking.map_err(Into::into).map_err(ComposeError::room("use the Auth Service"))?;
            let asking = Arc::new(asking);
            (asking.clone(), Some(asking))
        }
        None => {
            let owner = config.user.as_ref().map(|user| user.account.uid);
            let authenticator = LocalTokenAuthenticator::open_or_create_beside(&config.token_file, owner);
            let authenticator = authenticator.map_err(Into::into);
            (Arc::new(authenticator.map_err(ComposeError::room("use the local token"))?), None)
        }
    };
    let authenticator = MeasuredAuthenticator::new(authenticator, meters.clone());
    Ok(WhoAsks { authenticator, auth_service })
}

/// What finds out who asks.
pub struct WhoAsks {
    authenticator: Arc<dyn Authenticator>,
    /// The same, where it is the Auth Service that is asked.
    auth_service: Option<Arc<AuthServiceAuthenticator>>,
}

/// Puts the service together around a launcher, whose confinement is given, and takes up what an earlier life of
/// it left open.
///
/// # Errors
/// See [`ComposeError`].
pub async fn compose(
    config: &Config,
    who_asks: WhoAsks,
    launcher: Arc<dyn Launcher>,
    confinement: &Confinement,
    meters: Arc<Meters>,
    audit: Option<Arc<Audit>>,
) -> Result<Composed, ComposeError> {
    let launcher = MeasuredLauncher::new(launcher, meters.clone());
    let (store, outbox): (Arc<dyn ExecutionStore>, Arc<dyn Outbox>) = match config.store {
        StoreKind::Memory => {
            let store = Arc::new(MemoryStore::new());
            (store.clone(), store)
        }
        StoreKind::Sqlite => {
            let path = config.data_dir.join(DATABASE_FILE);
            let store = SqliteStore::open(&path).map_err(Into::into);
            let store = Arc::new(store.map_err(ComposeError::room("open the database"))?);
            (store.clone(), store)
        }
    };
    // Before the engine, which may find executions to end.
    #[cfg(feature = "otel")]
    let spans = config.otlp.as_ref().map(crate::telemetry::Spans::start);
    #[cfg(feature = "otel")]
    if let Some(spans) = &spans {
        meters.export(spans.clone());
    }
    let mut store: Arc<dyn ExecutionStore> = MeasuredStore::new(store, meters.clone());
    if let Some(audit) = &audit {
        store = AuditedStore::new(store, audit.clone());
    }
    // Before the engine, which may find executions to end.
    let webhooks = Webhooks::new(config.webhooks.clone()).map_err(Into::into);
    let webhooks = webhooks.map_err(ComposeError::room("use the webhooks"))?;
    let subscribed = webhooks.subscribe(&*outbox).await.map_err(Into::into);
    subscribed.map_err(ComposeError::room("note who is posted to"))?;
    let (notifier, socket_service): (Arc<dyn Notifier>, _) = match &config.socket_service {
        Some(socket_service) => {
            let telling = SocketServiceNotifier::observed(socket_service.clone(), meters.socket_service());
            let telling =
                telling.map_err(Into::into).map_err(ComposeError::room("use the Socket Service"))?;
            let telling = Arc::new(telling);
            (telling.clone(), Some(telling))
        }
        None => (Arc::new(Silent), None),
    };
    let rules = Arc::new(Rules::new(config));
    let parts = Parts { policy: rules.clone(), launcher: launcher.clone(), store: store.clone(), notifier };
    let settings =
        portcullis_engine::Config { confinement: Some(confinement.clone()), ..config.engine.clone() };
    let engine = Engine::start(parts, settings).await.map_err(Into::into);
    let engine = engine.map_err(ComposeError::room("take up what the last run left open"))?;
    if config.retention.is_some() || config.keep != Keep::default() {
        tokio::spawn(retention::retain(config.retention, config.keep, store.clone()));
    }
    let webhooks = webhooks.start(outbox, config.public_url.as_deref().unwrap_or_default());
    let health = Health::new(engine.clone(), launcher.clone(), store, confinement.clone(), webhooks.watch());
    let WhoAsks { mut authenticator, auth_service } = who_asks;
    if let Some(audit) = &audit {
        authenticator = AuditedAuthenticator::new(authenticator, audit.clone());
    }
    let metrics = Metrics {
        meters,
        engine: engine.clone(),
        launcher,
        confinement: confinement.clone(),
        peers: Peers { auth_service, socket_service, webhooks: webhooks.watch() },
        audit,
    };
    let (metrics, http) = (Arc::new(metrics), config.http.clone());
    let service = Service::new(engine.clone(), authenticator, health.clone(), metrics, http);
    Ok(Composed {
        engine,
        service,
        health,
        rules,
        webhooks,
        #[cfg(feature = "otel")]
        spans,
    })
}

/// Writes where the service is to be found, for clients on this machine; returns what was written.
///
/// # Errors
/// When the file cannot be written.
pub fn write_url(data_dir: &Path, listening: SocketAddr) -> Result<String, ComposeError> {
    let path = data_dir.join(URL_FILE);
    let failed = |source| ComposeError::File { operation: "write", path: path.clone(), source };
    let mut reachable = listening;
    if listening.ip().is_unspecified() {
        let loopback = if listening.is_ipv4() { "127.0.0.1" } else { "::1" };
        reachable.set_ip(loopback.parse().map_err(io::Error::other).map_err(failed)?);
    }
    let url = format!("http://{reachable}");
    // Written beside and moved: a client never reads half of it.
    let beside = data_dir.join(format!(".{URL_FILE}.{}", std::process::id()));
    fs::write(&beside, format!("{url}\n")).map_err(failed)?;
    fs::set_permissions(&beside, fs::Permissions::from_mode(0o644)).map_err(failed)?;
    fs::rename(&beside, &path).map_err(failed)?;
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_url_is_one_that_a_client_on_this_machine_can_reach() {
        let directory = tempfile::tempdir().unwrap();
        for (listening, wanted) in [
            ("127.0.0.1:5000", "http://127.0.0.1:5000"),
            ("0.0.0.0:80", "http://127.0.0.1:80"),
            ("[::]:80", "http://[::1]:80"),
            ("192.0.2.1:5000", "http://192.0.2.1:5000"),
        ] {
            assert_eq!(write_url(directory.path(), listening.parse().unwrap()).unwrap(), wanted);
            let written = fs::read_to_string(directory.path().join(URL_FILE)).unwrap();
            assert_eq!(written, format!("{wanted}\n"));
        }
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn the_data_directory_is_its_owners_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a/b");
        make_data_dir(&path).unwrap();
        make_data_dir(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        fs::write(path.join("file"), "").unwrap();
        let error = make_data_dir(&path.join("file")).unwrap_err().to_string();
        assert!(error.starts_with("could not make the data directory"), "{error}");
    }
}
