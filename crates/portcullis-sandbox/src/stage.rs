//! One command of a pipeline, from its process to its program.

use std::ffi::CStr;
use std::fmt::{self, Write};
use std::io;
use std::os::fd::{AsRawFd, RawFd};

use portcullis_core::{Duplicate, RedirectionTarget, SimpleCommand, ViewPath};
use serde::{Deserialize, Serialize};

use crate::descriptors;
use crate::init;
use crate::landlock::Ruleset;
use crate::line::Setting;
use crate::rights::{self, Common, View};
use crate::sys::{self, ErrorText, Strings};
use crate::wire::{AtStep, StepError};

/// The exit status of a command whose redirection failed, as in the shell.
const STATUS_REDIRECTION: i32 = 1;
/// Why a command never became its program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum StageFailure {
    /// A step of its confinement failed.
    Step(StepError),
    /// Everything was in force, and the kernel would not execute the program: the errno.
    Exec(i32),
}

/// What a command is started with.
pub(crate) struct Start<'a> {
    pub(crate) command: &'a SimpleCommand,
    pub(crate) argv: &'a Strings,
    pub(crate) environment: &'a Strings,
    /// The command's ruleset, where it is ready already.
    pub(crate) ruleset: Option<&'a Ruleset>,
    /// Instead of the line's standard input.
    pub(crate) input: Option<RawFd>,
    /// Instead of the line's standard output.
    pub(crate) output: Option<RawFd>,
    /// A descriptor to be kept beside the standard streams until the program is executed.
    pub(crate) kept: Option<RawFd>,
}

/// Becomes the command: where this returns, the process has not become the program, and is to end.
///
/// The order matters. Descriptors come first, since opening them needs what Landlock will refuse; the
/// ruleset comes after them, so that files made by a redirection are there to be named; the filter that
/// keeps a reader from changing modes and times comes last, just before the program.
pub(crate) fn become_command(setting: &Setting<'_>, directory: &ViewPath, start: &Start<'_>) -> StageFailure {
    if let Err(step) = connect(start) {
        return StageFailure::Step(step);
    }
    if let Err((redirection, error)) = redirect(setting, directory, start.command) {
        let error = ErrorText(error.raw_os_error().unwrap_or(libc::EIO));
        complain(format_args!("cannot open `{redirection}`: {error}"));
        sys::exit_now(STATUS_REDIRECTION);
    }
    match confine(setting, start) {
        Err(step) => StageFailure::Step(step),
        Ok(path) => {
            let error = sys::execve(path, start.argv, start.environment);
            StageFailure::Exec(error.raw_os_error().unwrap_or(libc::EIO))
        }
    }
}

/// Puts the pipeline's ends in place.
fn connect(start: &Start<'_>) -> Result<(), StepError> {
    for (end, target) in [(start.input, 0), (start.output, 1)] {
        if let Some(end) = end {
            sys::duplicate_onto(end, target).at("connect the pipeline")?;
        }
    }
    Ok(())
}

/// Carries redirections out from left to right. Their paths count from the working directory of the line, by
/// their text.
fn redirect<'a>(
    setting: &Setting<'_>,
    directory: &ViewPath,
    command: &'a SimpleCommand,
) -> Result<(), (&'a str, io::Error)> {
    let resolve = |path: &str| ViewPath::resolve(directory, path);
    for redirection in &command.redirections {
        let target = i32::from(redirection.descriptor);
        let (path, opened) = match &redirection.target {
            RedirectionTarget::Duplicate(source) => {
                let (source, name) = match source {
                    Duplicate::Stdout => (1, "&1"),
                    Duplicate::Stderr => (2, "&2"),
                };
                sys::duplicate_onto(source, target).map_err(|error| (name, error))?;
                continue;
            }
            RedirectionTarget::Read(path) => {
                (path, setting.paths.open_to_read(&resolve(path), &command.rights.read))
            }
            RedirectionTarget::Truncate(path) => {
                (path, setting.paths.open_to_write(&resolve(path), libc::O_TRUNC))
            }
            RedirectionTarget::Append(path) => {
                (path, setting.paths.open_to_write(&resolve(path), libc::O_APPEND))
            }
        };
        let placed = opened.and_then(|fd| sys::duplicate_onto(fd.as_raw_fd(), target));
        placed.map_err(|error| (path.as_str(), error))?;
    }
    Ok(())
}

/// Takes on everything that holds the command to its rights, and returns the path of its program.
fn confine<'a>(setting: &Setting<'a>, start: &Start<'_>) -> Result<&'a CStr, StepError> {
    let command = start.command;
    let program = setting
        .programs
        .get(&command.program)
        .ok_or_else(|| StepError { step: "find the program".into(), errno: libc::ENOENT })?;
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
    match (start.ruleset, setting.landlock_abi) {
        (Some(ruleset), _) => ruleset.enforce().at("landlock")?,
        (None, Some(abi)) => {
            let ruleset = Common::open(setting.view).and_then(|common| {
                rights::ruleset(abi, setting.view, &common, setting.plan, setting.programs, command)
            });
            ruleset.at("landlock ruleset")?.enforce().at("landlock")?;
        }
        (None, None) => {}
    }
    // INVARIANT (three descriptors): all others are close-on-exec as well; this is the second lock.
    descriptors::close_all_but(start.kept.as_slice()).at("close descriptors")?;
    let reads_only = command.rights.write.is_empty() && command.rights.delete.is_empty();
    let filter = if reads_only { setting.filters.reader } else { setting.filters.writer };
    if !filter.is_empty() {
        sys::install_filter(filter).at("seccomp of the command")?;
    }
    // Here and not in init, which needs descriptors for the pipes of the line.
    let open_files = u64::from(setting.plan.limits.open_files);
    init::lower_limits(&[(sys::Resource::OpenFiles, open_files)])?;
    if let Some(processors) = setting.processors {
        // Where it is refused, the command stays where init is: slower, and not freer.
        let _ = processors.keep_to();
    }
    Ok(&program.path)
}

/// Says something on the command's standard error, without the heap; what is too long is cut.
pub(crate) fn complain(text: fmt::Arguments<'_>) {
    let mut said = Said { bytes: [0; 4_608], length: 0 };
    let _ = writeln!(said, "portcullis: {text}");
    sys::write_all(2, said.bytes.get(..said.length).unwrap_or_default());
}

struct Said {
    bytes: [u8; 4_608],
    length: usize,
}

impl Write for Said {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = self.bytes.get_mut(self.length..).unwrap_or_default();
        let fits = room.len().min(text.len());
        for (place, byte) in room.iter_mut().zip(text.bytes()) {
            *place = byte;
        }
        self.length += fits;
        Ok(())
    }
}

/// The line's own descriptors, 0, 1 and 2, put in place once for all its commands.
pub(crate) fn place_standard_streams(fds: [RawFd; 3]) -> io::Result<()> {
    for (target, fd) in (0..).zip(fds) {
        // A cell keeps 0, 1 and 2 open, so that what it receives lies above them and none covers another.
        if fd <= 2 {
            return Err(io::Error::from_raw_os_error(libc::EBADF));
        }
        sys::duplicate_onto(fd, target)?;
    }
    Ok(())
}
