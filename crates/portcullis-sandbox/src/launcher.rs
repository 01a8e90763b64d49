//! The launcher: makes cells and makes them anew, and nothing else.
//!
//! It is our own executable started again, with one thread, before the server opens a socket. It holds the
//! one link to the server and the cells it has made. When the server ends, the link ends, and the launcher
//! with it; when the launcher ends, every cell does (parent-death signal), and with each cell all that runs
//! in it (pid namespace).

use std::ffi::CStr;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use portcullis_core::{CgroupVersion, Confinement, Level};

use crate::cgroup;
use crate::config::Config;
use crate::descriptors;
use crate::making::{self, Asked, Ground, Identities, MadeCell, Workspaces};
use crate::seccomp;
use crate::sys::{self, Polled};
use crate::tree;
use crate::view::{self, SourceIdentity};
use crate::wire::{self, AtStep, FromLauncher, StepError, ToLauncher};

/// The name that a launcher is started by.
pub(crate) const NAME: &str = "portcullis-launcher";
/// The name that the kernel knows it by: 15 bytes at most. See PR_SET_NAME(2const).
pub(crate) const COMM: &CStr = c"portcullis-laun";
/// Signals that do not end it, nor its cells: who tells the whole service to end means the server, which lets what
/// runs end first, and the launcher ends with its link. Init gives them back their meaning for commands.
pub(crate) const IGNORED_SIGNALS: [i32; 3] = [libc::SIGTERM, libc::SIGINT, libc::SIGHUP];
/// How often making a cell is tried in a row before the launcher gives up.
const MOST_FAILURES: u32 = 5;
/// The pause after a failure; doubled by each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// The life of the launcher. Ends the process.
pub(crate) fn run() -> ! {
    let status = match serve() {
        Ok(()) => 0,
        Err(_) => 1,
    };
    sys::exit_now(status)
}

fn serve() -> Result<(), StepError> {
    let _ = sys::set_name(COMM);
    // Commands get these from us: what the service was started with ignored or blocked is not theirs. See
    // signal(7).
    sys::default_dispositions();
    sys::unblock_all_signals().at("signal mask")?;
    for signal in IGNORED_SIGNALS {
        sys::ignore_signal(signal);
    }
    sys::set_dumpable(false).at("undumpable")?;
    // The link came as standard input, the one descriptor that a plain spawn can hand on.
    let stdin = std::io::stdin();
    let link = sys::duplicate_above(stdin.as_fd(), 3).at("link")?;
    let nothing = sys::open_at(None, c"/dev/null", libc::O_RDWR, 0).at("open /dev/null")?;
    sys::duplicate_onto(std::os::fd::AsRawFd::as_raw_fd(&nothing), 0).at("standard input")?;
    drop(nothing);
    // INVARIANT (nothing is handed on): what a parent left open without close-on-exec ends here.
    descriptors::close_all_but(&[std::os::fd::AsRawFd::as_raw_fd(&link)]).at("close descriptors")?;

    // Cells inherit it: no group of whoever started the service is left to a command. Without privilege the
    // kernel refuses, and what stays is said. See setgroups(2).
    let _ = sys::clear_groups();
    // Before the first word of anybody else. Whatever is forked from here on inherits both.
    sys::set_no_new_privileges().at("no_new_privs of the launcher")?;
    sys::install_filter(&seccomp::launcher()).at("seccomp of the launcher")?;
    let Some((ToLauncher::Configure { config, with_server }, none)) =
        wire::receive::<ToLauncher>(&link).at("configuration")?
    else {
        return Ok(());
    };
    if !none.is_empty() {
        return Err(StepError { step: "configuration".into(), errno: libc::EPROTO });
    }
    // What a dead cell has left behind comes to us, where no pid namespace ends it.
    sys::set_subreaper().at("subreaper")?;
    let mut launcher = Launcher::new(config, link, with_server);
    if launcher.config.state_directory.exists() {
        // What earlier lives have left goes. What cannot be opened is none of ours, and is met again where it is needed.
        drop(Workspaces::open(&launcher.config));
    }
    launcher.tell_what_was_found()?;
    if sys::effective_uid() == 0 {
        keep_what_cells_need(launcher.identities)?;
    }
    let ended = launcher.work();
    launcher.end();
    ended
}

/// Gives up every capability but those that the making and the end of cells take. In its own user namespace a
/// cell has what it needs all the same; see user_namespaces(7).
fn keep_what_cells_need(identities: Identities) -> Result<(), StepError> {
    /// `CAP_CHOWN`, `CAP_DAC_OVERRIDE` (control groups and workspaces), `CAP_KILL`, `CAP_SETGID`, `CAP_SETUID`
    /// (identities), `CAP_SYS_RESOURCE` (`oom_score_adj` below 0). See capabilities(7).
    const KEPT: [u32; 6] = [0, 1, 5, 6, 7, 24];
    /// `CAP_SETFCAP`: without it nobody gives his own uid 0 to a user namespace. See user_namespaces(7).
    const SETFCAP: u64 = 1 << 31;
    let shared = if identities == Identities::Shared { SETFCAP } else { 0 };
    let kept = KEPT.iter().fold(shared, |set, capability| set | 1_u64 << capability);
    // One that whoever started us does not have cannot be kept, and is not missed more than before.
    let held = sys::permitted_capabilities().at("capabilities of the launcher")?;
    sys::keep_capabilities(kept & held).at("capabilities of the launcher")
}

struct Launcher {
    config: Config,
    /// Which directories the mount sources were when the configuration came.
    sources: Vec<SourceIdentity>,
    link: OwnedFd,
    cgroups: Option<cgroup::Root>,
    ground: Option<Ground>,
    weaker: Vec<String>,
    landlock_abi: Option<u32>,
    identities: Identities,
    /// Where there is no view.
    workspaces: Option<Workspaces>,
    /// One slot for each cell.
    slots: Vec<Slot>,
    /// How many cells were made so far.
    made: u64,
}

#[derive(Default)]
struct Slot {
    cell: Option<(u64, MadeCell)>,
    failures: u32,
    not_before: Option<Instant>,
}

impl Launcher {
    fn new(config: Config, link: OwnedFd, with_server: bool) -> Self {
        let mut weaker = Vec::new();
        let cgroups = match cgroup::Root::make(with_server, config.cpu_thousandths) {
            Ok(root) => Some(root),
            Err(reason) => {
                weaker.push(format!(
                    "no cgroup limits for whole trees: {reason}; rlimits bound each process, and memory is not counted together"
                ));
                None
            }
        };
        if cgroups.as_ref().is_none_or(|root| !root.shares_processors()) {
            let bound =
                if config.cpu_thousandths.is_some() { "; the configured bound does not hold" } else { "" };
            weaker.push(format!(
                "no control group shares out the processors: an execution gets more of them by more processes{bound}"
            ));
        }
        let landlock_abi = sys::landlock_abi().ok().filter(|&abi| abi > 0);
        if landlock_abi.is_none() {
            weaker.push(
                "no Landlock on this kernel: commands of one line share the rights of the mount view".into(),
            );
        }
        let identities = Identities::find(&config);
        if identities == Identities::Shared {
            weaker.push(
                "executions run under the service's own uid on the host: start the service as root, with the \
                 configured range of uids mapped, to give each cell one of its own"
                    .into(),
            );
        }
        if sys::supplementary_groups().is_ok_and(|count| count > 0) {
            weaker.push("executions keep the supplementary groups of whoever started the service".into());
        }
        let sources = view::identities_of_sources(&config);
        let slots = (0..config.cells.max(1)).map(|_| Slot::default()).collect();
        Self {
            config,
            sources,
            link,
            cgroups,
            ground: None,
            weaker,
            landlock_abi,
            identities,
            workspaces: None,
            slots,
            made: 0,
        }
    }

    fn tell_what_was_found(&self) -> Result<(), StepError> {
        const MOST: usize = 100;
        let Some(root) = &self.cgroups else { return Ok(()) };
        let names = |paths: &[std::path::PathBuf]| {
            paths.iter().take(MOST).map(|path| path.display().to_string()).collect::<Vec<_>>()
        };
        let found = root.leftovers();
        let message = FromLauncher::Found { removed: names(&found.removed), kept: names(&found.kept) };
        wire::send(self.link.as_fd(), &message, &[]).at("tell the server")
    }

    fn work(&mut self) -> Result<(), StepError> {
        loop {
            for index in 0..self.slots.len() {
                self.fill(index)?;
            }
            let now = Instant::now();
            let pause = self.slots.iter().filter_map(|slot| slot.not_before).min();
            let mut entries = vec![Polled { fd: self.link.as_fd(), ready: false }];
            let mut indices = Vec::new();
            for (index, slot) in self.slots.iter().enumerate() {
                if let Some((_, cell)) = &slot.cell {
                    entries.push(Polled { fd: cell.pidfd.as_fd(), ready: false });
                    indices.push(index);
                }
            }
            sys::poll(&mut entries, pause.map(|at| at.saturating_duration_since(now))).at("wait")?;
            let mut ready = entries.iter().map(|entry| entry.ready);
            // The server says nothing after its configuration: whatever comes now, its end included, ends us.
            if ready.next() == Some(true) {
                return Ok(());
            }
            let ended: Vec<usize> =
                indices.into_iter().zip(ready).filter(|&(_, gone)| gone).map(|(i, _)| i).collect();
            for index in ended {
                self.bury(index)?;
            }
        }
    }

    /// Makes the cell of an empty slot, unless it is too early.
    fn fill(&mut self, index: usize) -> Result<(), StepError> {
        let Some(slot) = self.slots.get_mut(index) else { return Ok(()) };
        let due = slot.not_before.is_none_or(|at| at <= Instant::now());
        if slot.cell.is_some() || !due || slot.failures >= MOST_FAILURES {
            return Ok(());
        }
        slot.not_before = None;
        let number = u32::try_from(index).unwrap_or(u32::MAX);
        match self.make(number) {
            Ok((cell, cell_link)) => {
                self.made += 1;
                let message = FromLauncher::Ready { cell: self.made, confinement: self.confinement() };
                // The link is the server's from here on: our copy of it is closed.
                wire::send(self.link.as_fd(), &message, &[cell_link.as_fd()]).at("tell the server")?;
                if let Some(slot) = self.slots.get_mut(index) {
                    slot.cell = Some((self.made, cell));
                    slot.failures = 0;
                }
            }
            Err(failure) => {
                // A floor above what the host gives is not met by trying again.
                let mut last = failure.errno == libc::EOPNOTSUPP;
                if let Some(slot) = self.slots.get_mut(index) {
                    slot.failures += 1;
                    slot.not_before = Some(Instant::now() + FIRST_PAUSE * 2_u32.pow(slot.failures));
                    last |= slot.failures >= MOST_FAILURES;
                    if last {
                        slot.failures = MOST_FAILURES;
                        slot.not_before = None;
                    }
                }
                let message = FromLauncher::Failed { slot: number, failure, last };
                wire::send(self.link.as_fd(), &message, &[]).at("tell the server")?;
            }
        }
        Ok(())
    }

    /// Makes a cell on the best ground that the host gives and the floor allows. What the first one found out
    /// holds for all that follow.
    fn make(&mut self, number: u32) -> Result<(MadeCell, OwnedFd), StepError> {
        if let Some(ground) = self.ground {
            return self.make_on(ground, number);
        }
        let level = if self.cgroups.is_some() { Level::Full } else { Level::Namespaces };
        self.check_floor(level)?;
        match self.make_on(Ground::Namespaces, number) {
            Ok(cell) => {
                self.ground = Some(Ground::Namespaces);
                Ok(cell)
            }
            Err(refusal) if crate::cell::is_refusal(&refusal.source()) && self.landlock_abi.is_some() => {
                self.check_floor(Level::Landlock).map_err(|_| refusal.clone())?;
                let cell = self.make_on(Ground::Host, number)?;
                self.ground = Some(Ground::Host);
                self.weaker.push(format!(
                    "no namespaces ({refusal}): the view is the host's own files within Landlock rules, any program \
                     can be read and `ld.so PROGRAM` can start it, other processes are visible, and \
                     `/workspace` does not exist under that name"
                ));
                Ok(cell)
            }
            Err(failure) => Err(failure),
        }
    }

    fn make_on(&mut self, ground: Ground, number: u32) -> Result<(MadeCell, OwnedFd), StepError> {
        let host_id = self.identities.of_cell(&self.config, number);
        if ground == Ground::Host && self.workspaces.is_none() {
            self.workspaces = Some(Workspaces::open(&self.config).at("workspace directory")?);
        }
        let workspaces = self.workspaces.as_ref();
        making::make(
            Asked { config: &self.config, sources: &self.sources },
            ground,
            number,
            host_id,
            self.cgroups.as_mut(),
            workspaces,
            self.landlock_abi,
        )
    }

    fn check_floor(&self, level: Level) -> Result<(), StepError> {
        match self.config.floor {
            Some(floor) if level < floor => Err(StepError {
                step: format!(
                    "confinement level `{}` is required, this host gives `{}`",
                    floor.as_str(),
                    level.as_str()
                )
                .into(),
                errno: libc::EOPNOTSUPP,
            }),
            _ => Ok(()),
        }
    }

    fn confinement(&self) -> Confinement {
        let level = match self.ground {
            Some(Ground::Host) => Level::Landlock,
            _ if self.cgroups.is_some() => Level::Full,
            _ => Level::Namespaces,
        };
        let cgroup = self.cgroups.as_ref().map(|root| match root.version() {
            cgroup::Version::V1 => CgroupVersion::V1,
            cgroup::Version::V2 => CgroupVersion::V2,
        });
        Confinement { level, landlock_abi: self.landlock_abi, cgroup, weaker: self.weaker.clone() }
    }

    /// Ends every cell, so that their groups are empty and can be removed.
    fn end(&mut self) {
        let cells: Vec<MadeCell> =
            self.slots.iter_mut().filter_map(|slot| slot.cell.take()).map(|(_, cell)| cell).collect();
        for cell in &cells {
            let _ = sys::pidfd_signal(cell.pidfd.as_fd(), libc::SIGKILL);
        }
        for cell in &cells {
            cell.reap();
        }
        tree::end_strays(&[]);
        for cell in cells {
            cell.bury();
        }
        if let Some(workspaces) = &self.workspaces {
            workspaces.remove();
        }
    }

    /// Reaps a cell that has ended, takes what it held away, and tells the server.
    fn bury(&mut self, index: usize) -> Result<(), StepError> {
        let Some((number, cell)) = self.slots.get_mut(index).and_then(|slot| slot.cell.take()) else {
            return Ok(());
        };
        cell.reap();
        if self.ground == Some(Ground::Host) {
            let living: Vec<_> =
                self.slots.iter().filter_map(|slot| slot.cell.as_ref()).map(|(_, cell)| cell.pid).collect();
            tree::end_strays(&living);
        }
        let message = FromLauncher::Gone { cell: number, words: cell.bury() };
        wire::send(self.link.as_fd(), &message, &[]).at("tell the server")
    }
}
