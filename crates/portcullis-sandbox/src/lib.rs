//! Starts permitted command lines under kernel confinement.
//!
//! The server starts a *launcher*, a single-threaded process of its own, before it opens a socket or a
//! thread. The launcher makes *cells*; each cell runs one execution at a time.
#![deny(unsafe_code)]

mod config;

pub use config::{Config, Mount};

use portcullis_core::{Confinement, ExecutionObserver, LaunchError, Launcher, Outcome, Permit};
use std::sync::Arc;

/// Becomes the launcher, and never returns, when this process was started as one; otherwise returns at
/// once. The first thing that `main` of an embedding program calls.
pub fn enter_if_launcher() {}

/// A launcher that has been started and not yet been connected to.
#[derive(Debug)]
pub struct LauncherProcess {
    _private: (),
}

/// Why the launcher could not be started, or no cell be made.
#[derive(Debug, thiserror::Error)]
#[error("could not start the launcher: {problem}")]
pub struct StartError {
    /// What went wrong, and how to mend it.
    pub problem: String,
}

/// Starts the launcher. Call it while the process has one thread and before it reads anything from outside.
///
/// # Errors
/// When the process could not be started.
pub fn start_launcher(_config: &Config) -> Result<LauncherProcess, StartError> {
    Err(StartError { problem: "not built yet".into() })
}

/// The launcher's other end: implements [`Launcher`].
#[derive(Debug)]
pub struct Sandbox {
    confinement: Confinement,
}

impl Sandbox {
    /// Connects to a launcher inside an async runtime and waits for the first cell.
    ///
    /// # Errors
    /// When no cell at or above the configured floor can be made on this host; the text says which step
    /// failed and how to mend it.
    pub async fn connect(_process: LauncherProcess) -> Result<Self, StartError> {
        Err(StartError { problem: "not built yet".into() })
    }

    /// Returns what is in force around every execution.
    #[must_use]
    pub fn confinement(&self) -> &Confinement {
        &self.confinement
    }
}

#[async_trait::async_trait]
impl Launcher for Sandbox {
    async fn launch(
        &self,
        _permit: Permit,
        _observer: Arc<dyn ExecutionObserver>,
    ) -> Result<Outcome, LaunchError> {
        Err(LaunchError::Unavailable { problem: "not built yet".into() })
    }

    fn capacity(&self) -> usize {
        1
    }
}
