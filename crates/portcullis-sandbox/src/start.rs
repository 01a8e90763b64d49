//! Starting the launcher, and becoming it.

use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use crate::config::Config;
use crate::launcher;
use crate::sys;

/// Becomes the launcher, and never returns, when this process was started as one (or as the process that tries what
/// the host gives, for [`examine`](crate::examine)); otherwise returns at once.
/// The first thing that `main` of an embedding program calls.
pub fn enter_if_launcher() {
    if std::env::args_os().next().is_some_and(|name| name == launcher::NAME) {
        launcher::run();
    }
    crate::doctor::enter_if_named();
}

/// A launcher that has been started and not yet been connected to.
#[derive(Debug)]
pub struct LauncherProcess {
    pub(crate) link: OwnedFd,
    pub(crate) config: Config,
    pub(crate) child: Child,
    /// Whether it is the same program as we.
    pub(crate) is_us: bool,
}

impl LauncherProcess {
    /// Returns its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }
}

/// Why the launcher could not be started, or no cell be made.
#[derive(Debug, thiserror::Error)]
#[error("could not start the sandbox: {problem}")]
pub struct StartError {
    /// What went wrong.
    pub problem: String,
}

/// Starts the launcher: this executable, again. Call it while the process has one thread and before it reads
/// anything from outside.
///
/// # Errors
/// When the process could not be started.
pub fn start_launcher(config: &Config) -> Result<LauncherProcess, StartError> {
    let process = start_launcher_from(std::path::Path::new("/proc/self/exe"), config)?;
    Ok(LauncherProcess { is_us: true, ..process })
}

/// Starts the launcher from another executable that calls [`enter_if_launcher`] first. For tests, whose own
/// executable does not.
///
/// # Errors
/// When the process could not be started.
#[expect(
    clippy::disallowed_methods,
    reason = "the one process that the server starts; everything else it asks for"
)]
pub fn start_launcher_from(
    executable: &std::path::Path,
    config: &Config,
) -> Result<LauncherProcess, StartError> {
    let problem =
        |error: std::io::Error| StartError { problem: format!("cannot start the launcher: {error}") };
    let (ours, theirs) = sys::socket_pair().map_err(problem)?;
    let child = Command::new(executable)
        .arg0(launcher::NAME)
        .env_clear()
        .current_dir("/")
        // A terminal's interrupt goes to the whole process group: it is for the server, which then lets what
        // runs end.
        .process_group(0)
        .stdin(Stdio::from(theirs))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(problem)?;
    Ok(LauncherProcess { link: ours, config: config.clone(), child, is_us: false })
}
