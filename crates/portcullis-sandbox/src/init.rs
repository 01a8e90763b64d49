//! The first process of an execution: pid 1 of its pid namespace.
//!
//! It is made by the cell, completes the confinement, carries the line out, reports, and ends; with it
//! the kernel ends whatever the line has left behind. See pid_namespaces(7).

use std::cell::RefCell;
use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use portcullis_core::{Level, Plan, ViewPath};
use serde::{Deserialize, Serialize};

use crate::descriptors;
use crate::gate::{Begin, Gate};
use crate::launcher;
use crate::line::{self, Filters, Setting};
use crate::paths::Paths;
use crate::programs::Programs;
use crate::ready::Ready;
use crate::rights::View;
use crate::seccomp::{self, Part};
use crate::stage;
use crate::sys::{self, Pid, Processors, Resource, Stack};
use crate::tree;
use crate::view::{PrivateParts, Proc};
use crate::wire::{AtStep, StepError};

/// What init tells the cell before it ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Report {
    /// The line ended with this exit code.
    Exited(i32),
    /// Its last command was ended by this signal.
    Signaled(i32),
    /// A step failed, and nothing of it ran.
    Refused(StepError),
    /// Everything was in force, and the server did not let it go; nothing of it ran.
    CalledOff,
    /// Everything was in force, and the kernel would not execute the first command; nothing of the line ran.
    NotExecuted {
        /// Which of the line's commands.
        command: usize,
        /// The errno.
        errno: i32,
    },
    /// A step failed after a part of it had run.
    Broken(StepError),
}

/// Where init puts its report.
pub(crate) enum ReportTo<'a> {
    /// Into memory that it shares with the cell.
    Memory(&'a Mutex<Option<Report>>),
    /// Into a pipe.
    Pipe(RawFd),
}

/// What init works with; made by the cell before there is an init.
pub(crate) struct Job<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) programs: &'a Programs,
    /// For each command, in order, what it is started with.
    pub(crate) ready: &'a [Ready],
    pub(crate) level: Level,
    pub(crate) landlock_abi: Option<u32>,
    pub(crate) filters: &'a seccomp::Programs,
    /// Whether a cgroup bounds the tree as a whole; otherwise rlimits bound each process.
    pub(crate) group_bounds_the_tree: bool,
    pub(crate) mounts: &'a [ViewPath],
    /// Those of the mounts where permits may give the right to write.
    pub(crate) writable: &'a [ViewPath],
    pub(crate) parts: &'a PrivateParts<'a>,
    /// Where the service's own workspace lies at level `landlock`.
    pub(crate) host_workspace: Option<&'a Path>,
    /// Where the line starts, when init was not born there.
    pub(crate) directory: Option<&'a OwnedFd>,
    /// Standard input, output and error of the line.
    pub(crate) streams: [RawFd; 3],
    /// The descriptors beside those that init keeps, in ascending order.
    pub(crate) kept: &'a [RawFd],
    pub(crate) report: ReportTo<'a>,
    pub(crate) begin: &'a Begin<'a>,
    pub(crate) cell: Pid,
    /// For the commands, one after another, until they execute their program.
    pub(crate) stack: &'a Stack,
    /// Where commands may run, when init is kept to one processor.
    pub(crate) processors: Option<&'a Processors>,
    /// Room for the pids of the longest pipeline.
    pub(crate) pids: &'a RefCell<Vec<Pid>>,
}

/// Runs the job and ends the process.
///
/// INVARIANT (no heap): of a plain line, neither this process nor those of the commands use the heap before they end or
/// become programs: they share it with the cell, which uses it meanwhile. Nor do they read what the cell changes.
pub(crate) fn run(job: &Job<'_>) -> ! {
    run_prepared(job, prepare)
}

/// The same, in a process that was made ready beforehand; see [`make_ready`].
pub(crate) fn run_ahead(job: &Job<'_>) -> ! {
    run_prepared(job, complete)
}

fn run_prepared(job: &Job<'_>, prepare: fn(&Job<'_>) -> Result<(), StepError>) -> ! {
    // INVARIANT (record before process): whoever waits for the record holds the gate shut until then.
    let report = match prepare(job).and_then(|()| job.begin.wait()) {
        Ok(Gate::Open) => carry_out(job),
        Ok(Gate::CalledOff) => Report::CalledOff,
        Err(step) => Report::Refused(step),
    };
    match job.report {
        ReportTo::Memory(place) => *place.lock().unwrap_or_else(PoisonError::into_inner) = Some(report),
        ReportTo::Pipe(pipe) => {
            if let Ok(bytes) = postcard::to_stdvec(&report) {
                sys::write_all(pipe, &bytes);
            }
        }
    }
    sys::exit_now(0)
}

/// Completes the confinement. The order is what the kernel wants: mounts need the capabilities that are given
/// up after them, and the filter is last, since it forbids the calls before it.
fn prepare(job: &Job<'_>) -> Result<(), StepError> {
    let _ = sys::set_name(c"portcullis-init");
    sys::block_signals(&[libc::SIGCHLD, libc::SIGTERM]).at("signal mask")?;
    for signal in launcher::IGNORED_SIGNALS {
        sys::default_disposition(signal);
    }
    stage::place_standard_streams(job.streams).at("standard streams")?;
    descriptors::close_all_but(job.kept).at("close descriptors")?;
    sys::setsid().at("session")?;
    sys::umask(0o022);
    match job.level {
        Level::Full | Level::Namespaces => {
            // The cell has added the others, and entered the working directory.
            job.parts.proc().add()?;
            allow_proc(job)?;
        }
        Level::Landlock => {
            sys::set_parent_death_signal(libc::SIGKILL).at("parent-death signal")?;
            sys::set_subreaper().at("subreaper")?;
            let directory = paths(job).locate(&job.plan.working_directory);
            if job.plan.working_directory.is_beneath(&job.plan.workspace) {
                std::fs::create_dir_all(&directory).at("working directory")?;
            }
            paths(job).enter(&job.plan.working_directory).at("working directory")?;
        }
    }
    set_limits(job)?;
    // Already given up by the cell at level `landlock`; elsewhere they were needed until here.
    sys::keep_capabilities(0).at("capabilities")?;
    sys::set_no_new_privileges().at("no_new_privs")?;
    match job.level {
        Level::Full | Level::Namespaces => {
            sys::install_filter(job.filters.part(closing_part(job.plan.writes()))).at("seccomp")
        }
        // Here init must still signal descendants, which the filter may forbid: each command takes it on itself.
        Level::Landlock => Ok(()),
    }
}

/// Does beforehand what is the same for all lines that write, or for all that only read: all but descriptors, rlimits
/// and the working directory. In namespaces of its own.
///
/// INVARIANT (no heap) as for [`run`].
pub(crate) fn make_ready(filters: &seccomp::Programs, part: Part, proc: Proc) -> Result<(), StepError> {
    let _ = sys::set_name(c"portcullis-next");
    sys::block_signals(&[libc::SIGCHLD, libc::SIGTERM]).at("signal mask")?;
    for signal in launcher::IGNORED_SIGNALS {
        sys::default_disposition(signal);
    }
    sys::setsid().at("session")?;
    sys::umask(0o022);
    proc.add()?;
    sys::keep_capabilities(0).at("capabilities")?;
    sys::set_no_new_privileges().at("no_new_privs")?;
    sys::install_filter(filters.part(part)).at("seccomp")
}

/// Which filter closes an execution's chain.
pub(crate) fn closing_part(writes: bool) -> Part {
    if writes { Part::Closing } else { Part::ClosingReadOnly }
}

/// Does what was left to do for this line alone.
fn complete(job: &Job<'_>) -> Result<(), StepError> {
    let _ = sys::set_name(c"portcullis-init");
    // The cell's own stay as they are.
    sys::unshare_descriptors().at("unshare descriptors")?;
    allow_proc(job)?;
    if let Some(directory) = job.directory {
        sys::change_directory(directory.as_fd()).at("working directory")?;
    }
    stage::place_standard_streams(job.streams).at("standard streams")?;
    descriptors::close_all_but(job.kept).at("close descriptors")?;
    set_limits(job)
}

/// Lets commands read the `/proc` that the execution has of its own, in rulesets that were made before it was there.
fn allow_proc(job: &Job<'_>) -> Result<(), StepError> {
    if job.parts.proc() == Proc::Own {
        for ruleset in job.ready.iter().filter_map(|ready| ready.ruleset.as_deref()) {
            ruleset.allow_proc().at("landlock ruleset")?;
        }
    }
    Ok(())
}

fn paths<'a>(job: &Job<'a>) -> Paths<'a> {
    Paths::new(&job.plan.workspace, job.host_workspace, job.mounts, job.writable)
}

fn carry_out(job: &Job<'_>) -> Report {
    let (writer, reader) = command_filters(job);
    let (stopper, signal_all): (Pid, fn(i32)) = match job.level {
        Level::Full | Level::Namespaces => (0, tree::signal_namespace),
        Level::Landlock => (job.cell, tree::signal_descendants),
    };
    let paths = paths(job);
    let setting = Setting {
        plan: job.plan,
        programs: job.programs,
        ready: job.ready,
        landlock_abi: job.landlock_abi,
        paths: &paths,
        view: match job.host_workspace {
            Some(workspace) => View::Host { workspace, mounts: job.mounts, writable: job.writable },
            None => View::Own { mounts: job.mounts },
        },
        filters: Filters { writer, reader },
        stopper,
        signal_all,
        stack: job.stack,
        processors: job.processors,
        pids: job.pids,
    };
    line::carry_out(&setting)
}

/// Returns what commands that write, and commands that only read, take on beside init's own filter.
fn command_filters<'a>(job: &'a Job<'_>) -> (&'a [libc::sock_filter], &'a [libc::sock_filter]) {
    use seccomp::{Class, Signals};
    match job.level {
        Level::Full | Level::Namespaces if job.plan.writes() => {
            (&[], job.filters.part(Part::ClosingReadOnly))
        }
        Level::Full | Level::Namespaces => (&[], &[]),
        Level::Landlock => {
            let scoped = job.landlock_abi.is_some_and(|abi| abi >= 6);
            let signals = if scoped { Signals::Scoped } else { Signals::Unscoped };
            let filter = |class| job.filters.of(class);
            (filter(Class::LandlockLevel(signals)), filter(Class::LandlockLevelReadOnly(signals)))
        }
    }
}

/// Limits that are the same for every execution; set in the cell and inherited.
pub(crate) const FIXED_LIMITS: [(Resource, u64); 7] = [
    // 1 and not 0: a `core_pattern` that is a pipe is started in spite of 0. See core(5).
    (Resource::Core, 1),
    (Resource::Locks, 256),
    (Resource::MemLock, 64 * 1024),
    (Resource::MsgQueue, 0),
    (Resource::Nice, 0),
    (Resource::RealTimePriority, 0),
    (Resource::SigPending, 256),
];

/// Sets limits, each as far as the host's own hard limit lets it.
pub(crate) fn lower_limits(limits: &[(Resource, u64)]) -> Result<(), StepError> {
    for &(resource, value) in limits {
        // At the hard limit of CPU time the kernel sends SIGKILL, which says nothing of a limit; a second before it comes
        // SIGXCPU. See getrlimit(2).
        let hard = if resource == Resource::Cpu { value.saturating_add(1) } else { value };
        let set = match sys::set_rlimit(resource, value, hard) {
            // The host's own hard limit is lower, and stays.
            Err(error) if error.raw_os_error() == Some(libc::EPERM) => sys::hard_rlimit(resource)
                .and_then(|most| sys::set_rlimit(resource, value.min(most), hard.min(most))),
            other => other,
        };
        set.at(resource.step())?;
    }
    Ok(())
}

fn set_limits(job: &Job<'_>) -> Result<(), StepError> {
    let limits = &job.plan.limits;
    // Counted per user namespace and uid: those of this cell, which has two processes of its own; without a user
    // namespace, all that the uid has on the host. Where a cgroup counts too, that one is to be met first, since
    // it says so.
    let others = if job.level == Level::Landlock { tree::tasks_of(sys::real_uid()) } else { 2 };
    let spare = if job.group_bounds_the_tree { u64::from(limits.processes) + 64 } else { 0 };
    lower_limits(&[
        (Resource::Cpu, limits.cpu_time.as_secs().saturating_add(1)),
        (Resource::FileSize, limits.file_size_bytes),
        (Resource::Processes, u64::from(limits.processes) + others + spare),
    ])?;
    if !job.group_bounds_the_tree {
        lower_limits(&[(Resource::Data, limits.memory_bytes)])?;
    }
    Ok(())
}
