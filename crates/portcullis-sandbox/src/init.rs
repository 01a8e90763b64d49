//! The first process of an execution: pid 1 of its pid namespace.
//!
//! It is forked from the cell, completes the confinement, carries the line out, reports, and ends; with it
//! the kernel ends whatever the line has left behind. See pid_namespaces(7).

use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::rc::Rc;

use portcullis_core::{Level, Plan, ViewPath};
use serde::{Deserialize, Serialize};

use crate::descriptors;
use crate::landlock::Ruleset;
use crate::launcher;
use crate::line::{self, Filters, LineEnd, Setting};
use crate::paths::Paths;
use crate::programs::Programs;
use crate::rights::View;
use crate::seccomp::{self, Part};
use crate::stage;
use crate::sys::{self, Pid, Resource, WaitStatus};
use crate::tree;
use crate::view::PrivateParts;
use crate::wire::{AtStep, Refused, StepError};

/// What init tells the cell before it ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Report {
    /// The line ended with this exit code.
    Exited(i32),
    /// Its last command was ended by this signal.
    Signaled(i32),
    /// Nothing of it ran.
    Refused(Refused),
    /// A step failed after a part of it had run.
    Broken(StepError),
}

/// What init works with; made by the cell before the fork.
pub(crate) struct Job<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) programs: &'a Programs,
    /// For each command, in order, its ruleset where it is ready already.
    pub(crate) rulesets: &'a [Option<Rc<Ruleset>>],
    pub(crate) level: Level,
    pub(crate) landlock_abi: Option<u32>,
    pub(crate) filters: &'a seccomp::Programs,
    /// Whether a cgroup bounds the tree as a whole; otherwise rlimits bound each process.
    pub(crate) group_bounds_the_tree: bool,
    pub(crate) mounts: &'a [ViewPath],
    /// Those of the mounts where permits may give the right to write.
    pub(crate) writable: &'a [ViewPath],
    pub(crate) parts: &'a PrivateParts<'a>,
    pub(crate) user_name: &'a str,
    /// Where the service's own workspace lies at level `landlock`.
    pub(crate) host_workspace: Option<&'a Path>,
    /// Standard input, output and error of the line.
    pub(crate) streams: [OwnedFd; 3],
    pub(crate) report: OwnedFd,
    pub(crate) cell: Pid,
}

/// Runs the job and ends the process.
pub(crate) fn run(job: Job<'_>) -> ! {
    let report = match prepare(&job) {
        Ok(()) => carry_out(&job),
        Err(step) => Report::Refused(Refused::Step(step)),
    };
    if let Ok(bytes) = postcard::to_stdvec(&report) {
        let _ = std::fs::File::from(job.report).write_all(&bytes);
    }
    sys::exit_now(0)
}

/// Completes the confinement. The order is what the kernel wants: mounts need the capabilities that are given
/// up after them, and the filter is last, since it forbids the calls before it.
fn prepare(job: &Job<'_>) -> Result<(), StepError> {
    let _ = sys::set_name(c"portcullis-init");
    let [input, output, error] = &job.streams;
    sys::block_signals(&[libc::SIGCHLD, libc::SIGTERM]).at("signal mask")?;
    for signal in launcher::IGNORED_SIGNALS {
        sys::default_disposition(signal);
    }
    stage::place_standard_streams([input.as_fd(), output.as_fd(), error.as_fd()]).at("standard streams")?;
    let rulesets = job.rulesets.iter().flatten().map(|ruleset| ruleset.descriptor());
    let kept: Vec<_> = rulesets.chain([job.report.as_raw_fd()]).collect();
    descriptors::close_all_but(&kept).at("close descriptors")?;
    sys::setsid().at("session")?;
    sys::umask(0o022);
    match job.level {
        Level::Full | Level::Namespaces => {
            job.parts.add()?;
            paths(job).enter(&job.plan.working_directory).at("working directory")?;
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
            let writes = job.plan.writes();
            let part = if writes { Part::Closing } else { Part::ClosingReadOnly };
            sys::install_filter(job.filters.part(part)).at("seccomp")
        }
        // Here init must still signal descendants, which the filter may forbid: each command takes it on itself.
        Level::Landlock => Ok(()),
    }
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
    let setting = Setting {
        plan: job.plan,
        programs: job.programs,
        rulesets: job.rulesets,
        environment: environment(job),
        landlock_abi: job.landlock_abi,
        paths: &paths(job),
        view: match job.host_workspace {
            Some(workspace) => View::Host { workspace, mounts: job.mounts, writable: job.writable },
            None => View::Own { mounts: job.mounts },
        },
        filters: Filters { writer, reader },
        stopper,
        signal_all,
    };
    match line::carry_out(&setting) {
        LineEnd::Done(WaitStatus::Exited(code)) => Report::Exited(code),
        LineEnd::Done(WaitStatus::Signaled(signal)) => Report::Signaled(signal),
        LineEnd::Refused(refused) => Report::Refused(refused),
        LineEnd::Broken(step) => Report::Broken(step),
    }
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

/// The variables of every command. Nothing of the service's own environment is among them.
fn environment(job: &Job<'_>) -> Vec<(String, String)> {
    let home = format!("/home/{}", job.user_name);
    let mut variables: Vec<(String, String)> = [
        ("PATH", "/usr/local/bin:/usr/bin:/bin"),
        ("HOME", home.as_str()),
        ("USER", job.user_name),
        ("LOGNAME", job.user_name),
        ("LANG", "C.UTF-8"),
        ("PWD", job.plan.working_directory.as_str()),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .collect();
    for (name, value) in &job.plan.environment {
        variables.retain(|(known, _)| known != name);
        variables.push((name.clone(), value.clone()));
    }
    variables
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
        set.at(&format!("rlimit {resource:?}"))?;
    }
    Ok(())
}

fn set_limits(job: &Job<'_>) -> Result<(), StepError> {
    let limits = &job.plan.limits;
    let mut list = vec![
        (Resource::Cpu, limits.cpu_time.as_secs().saturating_add(1)),
        (Resource::FileSize, limits.file_size_bytes),
    ];
    // Counted per user namespace and uid: those of this cell, which has two processes of its own; without a user
    // namespace, all that the uid has on the host. Where a cgroup counts too, that one is to be met first, since
    // it says so.
    let others = if job.level == Level::Landlock { tree::tasks_of(sys::real_uid()) } else { 2 };
    let spare = if job.group_bounds_the_tree { u64::from(limits.processes) + 64 } else { 0 };
    list.push((Resource::Processes, u64::from(limits.processes) + others + spare));
    if !job.group_bounds_the_tree {
        list.push((Resource::Data, limits.memory_bytes));
    }
    lower_limits(&list)
}
