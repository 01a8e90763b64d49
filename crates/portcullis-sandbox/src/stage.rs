//! One command of a pipeline, from fork to exec.

use std::ffi::{CStr, CString};
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use portcullis_core::{Duplicate, RedirectionTarget, SimpleCommand, ViewPath};
use serde::{Deserialize, Serialize};

use crate::descriptors;
use crate::init;
use crate::landlock::Ruleset;
use crate::line::Setting;
use crate::rights::{self, View};
use crate::sys;
use crate::wire::{AtStep, StepError};

/// The exit status of a command whose redirection failed, as in the shell.
const STATUS_REDIRECTION: i32 = 1;
/// The exit status of a command that could not be executed, as in the shell.
const STATUS_NOT_EXECUTED: i32 = 126;

/// Why a command never became its program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum StageFailure {
    /// A step of its confinement failed.
    Step(StepError),
    /// Everything was in force, and the kernel would not execute the program.
    Exec(StepError),
}

/// What a command gets from its pipeline.
pub(crate) struct Plumbing<'a> {
    /// Instead of the line's standard input.
    pub(crate) input: Option<OwnedFd>,
    /// Instead of the line's standard output.
    pub(crate) output: Option<OwnedFd>,
    /// Where a failure is reported; closed by a successful exec.
    pub(crate) failures: OwnedFd,
    /// The command's ruleset, where it is ready already.
    pub(crate) ruleset: Option<&'a Ruleset>,
}

/// Becomes the command. Never returns: the process is the program, or ends.
///
/// The order matters. Descriptors come first, since opening them needs what Landlock will refuse; the
/// ruleset comes after them, so that files made by a redirection are there to be named; the filter that
/// keeps a reader from changing modes and times comes last, just before the program.
pub(crate) fn become_command(
    setting: &Setting<'_>,
    directory: &ViewPath,
    command: &SimpleCommand,
    argv: &[CString],
    plumbing: Plumbing<'_>,
) -> ! {
    let failures = match connect(&plumbing) {
        Ok(failures) => failures,
        Err(step) => fail(plumbing.failures, &StageFailure::Step(step)),
    };
    if let Err((redirection, error)) = redirect(setting, directory, command) {
        complain(&format!("cannot open `{redirection}`: {error}"));
        sys::exit_now(STATUS_REDIRECTION);
    }
    let failure = match confine(setting, command, plumbing.ruleset, &failures) {
        Err(step) => StageFailure::Step(step),
        Ok(path) => {
            let error = sys::execve(path, argv, &environment(setting, command));
            StageFailure::Exec(StepError::new(format!("execute {}", command.program), &error))
        }
    };
    fail(failures, &failure)
}

/// Says why the command never became its program, and ends.
fn fail(failures: OwnedFd, failure: &StageFailure) -> ! {
    if let Ok(bytes) = postcard::to_stdvec(failure) {
        // Fewer bytes than PIPE_BUF, so that reports of several commands never mix; see pipe(7).
        let _ = std::fs::File::from(failures).write_all(&bytes);
    }
    sys::exit_now(STATUS_NOT_EXECUTED)
}

/// Puts the pipeline's ends in place. Returns where failures go.
fn connect(plumbing: &Plumbing<'_>) -> Result<OwnedFd, StepError> {
    if let Some(input) = &plumbing.input {
        sys::duplicate_onto(input.as_raw_fd(), 0).at("connect the pipeline")?;
    }
    if let Some(output) = &plumbing.output {
        sys::duplicate_onto(output.as_raw_fd(), 1).at("connect the pipeline")?;
    }
    sys::duplicate_above(plumbing.failures.as_fd(), 3).at("failure pipe of the command")
}

/// Carries redirections out from left to right. Their paths count from the working directory of the line, by
/// their text.
fn redirect(
    setting: &Setting<'_>,
    directory: &ViewPath,
    command: &SimpleCommand,
) -> Result<(), (String, io::Error)> {
    let resolve = |path: &str| ViewPath::resolve(directory, path);
    for redirection in &command.redirections {
        let target = i32::from(redirection.descriptor);
        let opened = match &redirection.target {
            RedirectionTarget::Duplicate(source) => {
                let source = match source {
                    Duplicate::Stdout => 1,
                    Duplicate::Stderr => 2,
                };
                sys::duplicate_onto(source, target).map_err(|error| (format!("&{source}"), error))?;
                continue;
            }
            RedirectionTarget::Read(path) => setting.paths.open_to_read(&resolve(path), &command.rights.read),
            RedirectionTarget::Truncate(path) => setting.paths.open_to_write(&resolve(path), libc::O_TRUNC),
            RedirectionTarget::Append(path) => setting.paths.open_to_write(&resolve(path), libc::O_APPEND),
        };
        let path = match &redirection.target {
            RedirectionTarget::Read(path)
            | RedirectionTarget::Truncate(path)
            | RedirectionTarget::Append(path) => path,
            RedirectionTarget::Duplicate(_) => continue,
        };
        let placed = opened.and_then(|fd| sys::duplicate_onto(fd.as_raw_fd(), target));
        placed.map_err(|error| (path.clone(), error))?;
    }
    Ok(())
}

/// Takes on everything that holds the command to its rights, and returns the path of its program.
fn confine<'a>(
    setting: &Setting<'a>,
    command: &SimpleCommand,
    ready: Option<&Ruleset>,
    failures: &OwnedFd,
) -> Result<&'a CStr, StepError> {
    let program = setting
        .programs
        .get(&command.program)
        .ok_or_else(|| StepError { step: format!("find {}", command.program), errno: libc::ENOENT })?;
    // Rust ignores SIGPIPE in its own programs, and the launcher what ends a service; a command gets them back.
    // See signal(7).
    for signal in [libc::SIGPIPE, libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGQUIT] {
        sys::default_disposition(signal);
    }
    sys::unblock_all_signals().at("signal mask")?;
    if matches!(setting.view, View::Host { .. }) {
        // Where no pid namespace ends a tree: should cell and launcher be killed at once, nobody is left to end us,
        // and this goes from the launcher to the cell, to init and to here. Who is forked from here on loses it.
        sys::set_parent_death_signal(libc::SIGKILL).at("parent-death signal")?;
    }
    match (ready, setting.landlock_abi) {
        (Some(ruleset), _) => ruleset.enforce().at("landlock")?,
        (None, Some(abi)) => {
            let ruleset = rights::ruleset(abi, setting.view, setting.plan, setting.programs, command);
            ruleset.at("landlock ruleset")?.enforce().at("landlock")?;
        }
        (None, None) => {}
    }
    // INVARIANT (three descriptors): all others are close-on-exec as well; this is the second lock.
    descriptors::close_all_but(&[failures.as_raw_fd()]).at("close descriptors")?;
    let reads_only = command.rights.write.is_empty() && command.rights.delete.is_empty();
    let filter = if reads_only { setting.filters.reader } else { setting.filters.writer };
    if !filter.is_empty() {
        sys::install_filter(filter).at("seccomp of the command")?;
    }
    // Here and not in init, which needs descriptors for the pipes of the line.
    let open_files = u64::from(setting.plan.limits.open_files);
    init::lower_limits(&[(sys::Resource::OpenFiles, open_files)])?;
    Ok(&program.path)
}

fn environment(setting: &Setting<'_>, command: &SimpleCommand) -> Vec<CString> {
    let mut variables = setting.environment.clone();
    for (name, value) in &command.assignments {
        variables.retain(|(known, _)| known != name);
        variables.push((name.clone(), value.clone()));
    }
    variables.iter().filter_map(|(name, value)| CString::new(format!("{name}={value}")).ok()).collect()
}

/// Says something on the command's standard error.
pub(crate) fn complain(text: &str) {
    let _ = io::stderr().write_all(format!("portcullis: {text}\n").as_bytes());
}

/// The line's own descriptors, 0, 1 and 2, put in place once for all its commands.
pub(crate) fn place_standard_streams(fds: [BorrowedFd<'_>; 3]) -> io::Result<()> {
    for (target, fd) in (0..).zip(fds) {
        // A cell keeps 0, 1 and 2 open, so that what it receives lies above them and none covers another.
        if fd.as_raw_fd() <= 2 {
            return Err(io::Error::from_raw_os_error(libc::EBADF));
        }
        sys::duplicate_onto(fd.as_raw_fd(), target)?;
    }
    Ok(())
}
