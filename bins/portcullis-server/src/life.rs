//! The service from its first request to its last: serve, signal, drain.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::compose::Composed;
use crate::http::serve;
use crate::supervisor::Supervisor;

/// How long connections have to end when all executions have.
const LAST_ANSWERS: Duration = Duration::from_secs(3);

/// How long webhooks that are being posted have then.
const LAST_POSTS: Duration = Duration::from_secs(3);

/// How long spans that wait have then.
#[cfg(feature = "otel")]
const LAST_SPANS: Duration = Duration::from_secs(3);

/// The signals that tell the service to end.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Begins to listen to SIGTERM and SIGINT.
    ///
    /// # Errors
    /// When the runtime cannot.
    pub fn listen() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Returns the name of the next signal.
    ///
    /// # Cancel safety
    /// Dropping the future loses no signal.
    pub async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// Why the service ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// A signal told it to.
    Told,
    /// A part that it cannot go on without has ended: it must be started again.
    Broken,
}

/// Serves until a signal tells to end; then refuses new work, gives what waits and runs `drain_time`, and ends
/// the rest. A second signal ends the rest at once. Until all executions have ended their records can be
/// read and watched.
///
/// When `launcher_ended` resolves, everything that ran is gone with the launcher: that is recorded, what waits is
/// ended without having started, and the service ends.
pub async fn serve_until_told(
    composed: Composed,
    listener: TcpListener,
    drain_time: Duration,
    signals: &mut Signals,
    launcher_ended: impl Future<Output = ()>,
    supervisor: Arc<Supervisor>,
) -> End {
    let (close, closing) = watch::channel(false);
    let mut serving = tokio::spawn(serve(listener, composed.service, closing));
    let watching = tokio::spawn({
        let (supervisor, health) = (Arc::clone(&supervisor), composed.health);
        async move { supervisor.keep_alive(&health).await }
    });
    let (end, drain_time) = tokio::select! {
        told = signals.next() => {
            tracing::info!(signal = told, drain_seconds = drain_time.as_secs_f64(), "told to end");
            (End::Told, drain_time)
        }
        () = launcher_ended => {
            tracing::error!("the launcher has ended: what ran is lost, and the service ends to be started again");
            (End::Broken, Duration::ZERO)
        }
        ended = &mut serving => {
            tracing::error!(panicked = ended.is_err(), "the listener ended by itself");
            (End::Broken, drain_time)
        }
    };
    supervisor.stopping();
    let engine = composed.engine;
    let drain = tokio::spawn({
        let engine = Arc::clone(&engine);
        async move { engine.drain(drain_time).await }
    });
    tokio::select! {
        _ = drain => {}
        told = signals.next() => {
            tracing::info!(signal = told, "told again: ending at once");
            engine.drain(Duration::ZERO).await;
        }
    }
    let _ = close.send(true);
    if !serving.is_finished() && tokio::time::timeout(LAST_ANSWERS, &mut serving).await.is_err() {
        tracing::info!("some connections had to be closed");
        serving.abort();
    }
    composed.webhooks.stop(LAST_POSTS).await;
    #[cfg(feature = "otel")]
    if let Some(spans) = composed.spans {
        spans.stop(LAST_SPANS).await;
    }
    watching.abort();
    end
}
