//! Looks at what a host gives: each mechanism by trying it, the programs of the rules, and the whole by making a
//! cell and running a program in it.
//!
//! Trying needs a process with one thread that may take things on for good, so it is done in one of its own: our
//! executable, started again. What it tries is what a cell does, in the same order; nothing of it stays.

mod facts;
mod mechanisms;
mod probes;
mod trial;

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use portcullis_core::{CgroupVersion, Level, ProgramName};
use serde::Serialize;

use crate::config::Config;
use crate::elf;
use crate::sys::{self, Polled};
use crate::wire;

pub use mechanisms::{Mend, Need};

use facts::Facts;

/// The name that the process which tries is started by.
const NAME: &str = "portcullis-doctor";
/// How long it may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a host gives.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Findings {
    /// What follows from all of it.
    pub standing: Standing,
    /// The kernel's release.
    pub kernel: String,
    /// The uid that the service would run under.
    pub uid: u32,
    /// The level below which nothing is to run; without it, the host's best.
    pub floor: Option<Level>,
    /// What came of making a cell.
    pub trial: Trial,
    /// Each mechanism, in the order in which a cell takes them on.
    pub mechanisms: Vec<Mechanism>,
    /// Each program of the rules.
    pub programs: Vec<Program>,
}

/// What follows for the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Standing {
    /// Everything is there.
    Whole,
    /// It runs, and something that it can do without is missing.
    Lacking,
    /// Nothing runs, or not at the level that was asked for.
    Refused,
}

/// A cell that was made, and what ran in it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Trial {
    /// The level that it has; without it, none could be made.
    pub level: Option<Level>,
    /// Landlock's ABI, where commands are held by it.
    pub landlock_abi: Option<u32>,
    /// Which cgroups limit the tree, where they do.
    pub cgroup: Option<CgroupVersion>,
    /// What the level does not hold on this host, in words.
    pub weaker: Vec<String>,
    /// The program that ran in it to its end.
    pub ran: Option<String>,
    /// What went wrong.
    pub problem: Option<String>,
}

/// A mechanism of the kernel, or something of the host, that confinement is made of.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Mechanism {
    /// Its name.
    pub name: &'static str,
    /// Whether it is there and works; `None` when that could not be tried.
    pub present: Option<bool>,
    /// Its version or ABI, or what the kernel answered.
    pub detail: String,
    /// What needs it.
    pub needed_for: Need,
    /// Whether nothing can run at the asked level without it.
    pub required: bool,
    /// What its absence means.
    pub absence: &'static str,
    /// How to get it, place by place.
    pub mends: &'static [Mend],
}

/// A program of the rules.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Program {
    /// Its name.
    pub name: String,
    /// The file that it is, behind all links.
    pub file: Option<PathBuf>,
    /// Why it cannot run.
    pub problem: Option<String>,
    /// The multi-call executable that it is, if it is one: for the kernel all its applets are the same program, so
    /// that the policy alone tells them apart.
    pub multi_call: Option<&'static str>,
    /// Whether it has a set-user-id or set-group-id bit, which has no effect in a cell.
    pub set_id: bool,
}

/// Looks at the host as the service with this configuration would find it, and at these programs. Takes up to some
/// seconds. May be called at any time, also beside a running service.
#[must_use]
pub fn examine(config: &Config, programs: impl IntoIterator<Item = ProgramName>) -> Findings {
    examine_from(Path::new("/proc/self/exe"), config, programs)
}

/// As [`examine`], with another executable that calls [`enter_if_launcher`](crate::enter_if_launcher) first. For
/// tests, whose own executable does not.
#[must_use]
pub fn examine_from(
    executable: &Path,
    config: &Config,
    programs: impl IntoIterator<Item = ProgramName>,
) -> Findings {
    let trial = trial::run(executable, config);
    let facts = ask(executable, config).unwrap_or_else(Facts::of_nothing);
    let mechanisms = mechanisms::list(&facts, config.floor);
    let programs = look_up(config, programs);
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned();
    let standing = standing(&trial, config.floor, &programs);
    Findings { standing, kernel, uid: sys::effective_uid(), floor: config.floor, trial, mechanisms, programs }
}

/// Looks for these programs where executions would find them, and tries nothing else: cheap enough for every start.
#[must_use]
pub fn look_up(config: &Config, programs: impl IntoIterator<Item = ProgramName>) -> Vec<Program> {
    programs.into_iter().map(|name| program(&name, &config.path)).collect()
}

/// A cell that was made says more than any list.
fn standing(trial: &Trial, floor: Option<Level>, programs: &[Program]) -> Standing {
    let Some(level) = trial.level.filter(|_| trial.problem.is_none()) else { return Standing::Refused };
    if floor.is_some_and(|floor| level < floor) {
        return Standing::Refused;
    }
    let lacks = level < Level::Full
        || !trial.weaker.is_empty()
        || programs.iter().any(|program| program.problem.is_some());
    if lacks { Standing::Lacking } else { Standing::Whole }
}

fn program(name: &ProgramName, search: &[PathBuf]) -> Program {
    let name_text = name.to_string();
    match elf::executable(name, search) {
        Ok(found) => Program {
            name: name_text,
            file: Some(found.file),
            problem: None,
            multi_call: found.multi_call,
            set_id: found.set_id,
        },
        Err(problem) => Program {
            name: name_text,
            file: None,
            problem: Some(problem.explain()),
            multi_call: None,
            set_id: false,
        },
    }
}

/// Becomes the process that tries, and never returns, when this process was started as it.
pub(crate) fn enter_if_named() {
    if std::env::args_os().next().is_some_and(|name| name == NAME) {
        probes::run();
    }
}

/// Has everything tried by a process of its own.
fn ask(executable: &Path, config: &Config) -> Result<Facts, String> {
    let (link, mut child) = start(executable).map_err(|error| format!("cannot start `{NAME}`: {error}"))?;
    let answer = wire::send(link.as_fd(), config, &[])
        .and_then(|()| await_readable(&link, PATIENCE))
        .and_then(|()| wire::receive::<Facts>(&link))
        .map_err(|error| format!("`{NAME}` does not answer: {error}"));
    // It ends with its link; one that hangs is ended.
    if answer.is_err() {
        let _ = child.kill();
    }
    drop(link);
    let _ = child.wait();
    answer?.map(|(facts, _)| facts).ok_or_else(|| format!("`{NAME}` ended before it had answered"))
}

#[expect(clippy::disallowed_methods, reason = "our own executable, for what changes a process for good")]
fn start(executable: &Path) -> std::io::Result<(OwnedFd, Child)> {
    let (ours, theirs) = sys::socket_pair()?;
    let child = Command::new(executable)
        .arg0(NAME)
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::from(theirs))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    Ok((ours, child))
}

/// Waits until something can be received.
fn await_readable(link: &OwnedFd, patience: Duration) -> std::io::Result<()> {
    let mut entries = [Polled { fd: link.as_fd(), ready: false }];
    sys::poll(&mut entries, Some(patience))?;
    let [entry] = entries;
    if entry.ready { Ok(()) } else { Err(std::io::ErrorKind::TimedOut.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trial(level: Option<Level>) -> Trial {
        Trial { level, ..Trial::default() }
    }

    #[test]
    fn what_a_cell_shows_decides() {
        #[track_caller]
        fn check(trial: Trial, floor: Option<Level>, wanted: Standing) {
            assert_eq!(standing(&trial, floor, &[]), wanted);
        }
        check(trial(Some(Level::Full)), None, Standing::Whole);
        check(trial(Some(Level::Full)), Some(Level::Full), Standing::Whole);
        check(trial(Some(Level::Landlock)), None, Standing::Lacking);
        check(trial(Some(Level::Namespaces)), Some(Level::Full), Standing::Refused);
        check(trial(None), None, Standing::Refused);
        let weaker = vec!["no Landlock".into()];
        check(Trial { weaker, ..trial(Some(Level::Full)) }, None, Standing::Lacking);
        let problem = Some("it ended by signal 9".into());
        check(Trial { problem, ..trial(Some(Level::Full)) }, None, Standing::Refused);
    }

    #[test]
    fn what_was_not_tried_is_neither_there_nor_missing() {
        let all = mechanisms::list(&Facts::of_everything(), None);
        assert!(all.iter().all(|mechanism| mechanism.present == Some(true)), "{all:?}");
        let nothing = mechanisms::list(&Facts::of_nothing("not tried".into()), None);
        assert!(
            nothing.iter().all(|mechanism| mechanism.present.is_none() && mechanism.detail == "not tried")
        );
    }

    #[test]
    fn programs_are_found_or_their_problem_is_named() {
        let search = ["/usr/bin", "/bin"].map(PathBuf::from);
        let found = program(&ProgramName::parse("sh").unwrap(), &search);
        assert!(found.file.is_some_and(|file| file.is_absolute()) && found.problem.is_none());
        let missing = program(&ProgramName::parse("no-such-program").unwrap(), &search);
        assert!(missing.problem.unwrap().contains("is in none of"));
    }
}
