//! One command of a pipeline, from fork to exec.

use std::ffi::{CStr, CString};
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use portcullis_core::{Duplicate, Redirection, RedirectionTarget, SimpleCommand};
use serde::{Deserialize, Serialize};

use crate::descriptors;
use crate::init;
use crate::landlock::Ruleset;
use crate::line::Setting;
use crate::rights;
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
    command: &SimpleCommand,
    argv: &[CString],
    plumbing: Plumbing<'_>,
) -> ! {
    let failures = match connect(&plumbing) {
        Ok(failures) => failures,
        Err(_) => sys::exit_now(STATUS_NOT_EXECUTED),
    };
    if let Err((redirection, error)) = redirect(&command.redirections) {
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
    if let Ok(bytes) = postcard::to_stdvec(&failure) {
        // Fewer bytes than PIPE_BUF, so that reports of several commands never mix; see pipe(7).
        let _ = std::fs::File::from(failures).write_all(&bytes);
    }
    sys::exit_now(STATUS_NOT_EXECUTED)
}

/// Puts the pipeline's ends in place. Returns where failures go.
fn connect(plumbing: &Plumbing<'_>) -> io::Result<OwnedFd> {
    if let Some(input) = &plumbing.input {
        sys::duplicate_onto(input.as_raw_fd(), 0)?;
    }
    if let Some(output) = &plumbing.output {
        sys::duplicate_onto(output.as_raw_fd(), 1)?;
    }
    sys::duplicate_above(plumbing.failures.as_fd(), 3)
}

/// Carries redirections out from left to right.
fn redirect(redirections: &[Redirection]) -> Result<(), (String, io::Error)> {
    for redirection in redirections {
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
            RedirectionTarget::Read(path) => open_to_read(path),
            RedirectionTarget::Truncate(path) => open_to_write(path, libc::O_TRUNC),
            RedirectionTarget::Append(path) => open_to_write(path, libc::O_APPEND),
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

/// Opens for reading. Links are followed inside the view, but nothing of `/proc` is handed on: what is
/// opened there would be this process, not the command.
fn open_to_read(path: &str) -> io::Result<OwnedFd> {
    let fd = sys::open_at(None, &CString::new(path)?, libc::O_RDONLY | libc::O_NOCTTY, 0)?;
    if sys::file_system_type(fd.as_fd())? == libc::PROC_SUPER_MAGIC {
        return Err(io::Error::from_raw_os_error(libc::EACCES));
    }
    Ok(fd)
}

/// Opens for writing without following a link at any component, so that nothing planted in the workspace
/// leads elsewhere.
fn open_to_write(path: &str, how: i32) -> io::Result<OwnedFd> {
    let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_NOFOLLOW | libc::O_NOCTTY | how;
    let (directory, name) = walk(path)?;
    sys::open_at(Some(directory.as_fd()), &name, flags, 0o666)
}

/// Opens the directory of a path component by component, following no link; returns it with the last name.
pub(crate) fn walk(path: &str) -> io::Result<(OwnedFd, CString)> {
    let start = if path.starts_with('/') { c"/" } else { c"." };
    let directory_flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_NOFOLLOW;
    let mut directory = sys::open_at(None, start, directory_flags, 0)?;
    let mut parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let last = parts.pop().unwrap_or(".");
    for part in parts {
        directory = sys::open_at(Some(directory.as_fd()), &CString::new(part)?, directory_flags, 0)?;
    }
    Ok((directory, CString::new(last)?))
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
