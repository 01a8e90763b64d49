//! Carries a judged command line out: its steps, its pipelines, `cd`. This is what a shell would do, and all
//! of it: nothing is parsed here.

use std::borrow::Cow;
use std::cell::RefCell;
use std::ffi::CString;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use portcullis_core::{Command, Connector, Plan, SimpleCommand, ViewPath};

use crate::glob;
use crate::init::Report;
use crate::paths::Paths;
use crate::programs::Programs;
use crate::ready::{self, Ready};
use crate::rights::View;
use crate::stage::{self, StageFailure, Start};
use crate::sys::{self, ErrorText, Forked, Pid, Processors, Stack, Strings, WaitStatus};
use crate::wire::{AtStep, StepError};

/// The exit status of a command that could not be executed, as in the shell.
const STATUS_NOT_EXECUTED: i32 = 126;

/// What every command of a line shares.
pub(crate) struct Setting<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) programs: &'a Programs,
    /// For each command of the line, in order, what it is started with.
    pub(crate) ready: &'a [Ready],
    pub(crate) landlock_abi: Option<u32>,
    pub(crate) view: View<'a>,
    pub(crate) paths: &'a Paths<'a>,
    /// The filter that a command takes on beside the one that init has: for those that may write, and for
    /// those that only read. An empty one adds nothing.
    pub(crate) filters: Filters<'a>,
    /// The pid that a signal to stop comes from, as this pid namespace sees it; 0 is outside.
    pub(crate) stopper: Pid,
    /// Sends a signal to everything that the line has started.
    pub(crate) signal_all: fn(i32),
    /// For the commands, one after another, until they execute their program.
    pub(crate) stack: &'a Stack,
    /// Where commands may run, when init is kept to one processor.
    pub(crate) processors: Option<&'a Processors>,
    /// Room for the pids of the longest pipeline.
    pub(crate) pids: &'a RefCell<Vec<Pid>>,
}

/// The seccomp filters that commands take on themselves.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Filters<'a> {
    pub(crate) writer: &'a [libc::sock_filter],
    pub(crate) reader: &'a [libc::sock_filter],
}

/// Carries the line out.
pub(crate) fn carry_out(setting: &Setting<'_>) -> Report {
    let mut status = WaitStatus::Exited(0);
    let mut something_ran = false;
    let mut next = 0;
    // A `cd` that failed ends the line, unless `||` stands behind it: what follows was judged for where it leads.
    let mut nowhere = false;
    let mut directory = Cow::Borrowed(&setting.plan.working_directory);
    for step in &setting.plan.script.steps {
        // Commands are numbered whether they run or not.
        let first = next;
        next += step.pipeline.commands.iter().filter(|command| matches!(command, Command::Simple(_))).count();
        let succeeded = status == WaitStatus::Exited(0);
        match step.connector {
            Connector::IfSucceeded if !succeeded => continue,
            Connector::IfFailed if succeeded => continue,
            Connector::Always if nowhere => break,
            _ => nowhere = false,
        }
        if let [Command::ChangeDirectory(change)] = step.pipeline.commands.as_slice() {
            let to = ViewPath::resolve(&directory, &change.directory);
            match setting.paths.enter(&to) {
                Ok(()) => {
                    directory = Cow::Owned(to);
                    status = WaitStatus::Exited(0);
                }
                Err(error) => {
                    stage::complain(format_args!("cd: `{}`: {error}", change.directory));
                    status = WaitStatus::Exited(1);
                }
            }
            nowhere = status != WaitStatus::Exited(0);
            continue;
        }
        if step.pipeline.commands.len() != next - first {
            let step = StepError { step: "cd inside a pipeline".into(), errno: libc::EINVAL };
            return refuse_or_break(step, something_ran);
        }
        let pipeline = Pipeline {
            commands: &step.pipeline.commands,
            ready: setting.ready.get(first..next).unwrap_or_default(),
            alone: step.pipeline.commands.len() == 1 && !something_ran,
        };
        match pipeline.run(setting, &directory) {
            Ok(ended) => {
                status = ended.status;
                if ended.told_to_stop {
                    break;
                }
            }
            Err(failed) => {
                (setting.signal_all)(libc::SIGKILL);
                return match failed.failure {
                    StageFailure::Step(step) => refuse_or_break(step, something_ran || failed.something_ran),
                    StageFailure::Exec(errno) => Report::NotExecuted { command: first, errno },
                };
            }
        }
        something_ran = true;
    }
    match status {
        WaitStatus::Exited(code) => Report::Exited(code),
        WaitStatus::Signaled(signal) => Report::Signaled(signal),
    }
}

fn refuse_or_break(failure: StepError, something_ran: bool) -> Report {
    if something_ran { Report::Broken(failure) } else { Report::Refused(failure) }
}

/// A command that could not be started, and whether something of its pipeline may have run.
struct Failed {
    failure: StageFailure,
    something_ran: bool,
}

struct PipelineEnd {
    status: WaitStatus,
    told_to_stop: bool,
}

/// The commands of one pipeline, which run at the same time.
struct Pipeline<'a> {
    commands: &'a [Command],
    ready: &'a [Ready],
    /// Whether it is a single command, and nothing of the line has run before it.
    alone: bool,
}

impl Pipeline<'_> {
    fn commands(&self) -> impl Iterator<Item = &SimpleCommand> {
        self.commands.iter().filter_map(|command| match command {
            Command::Simple(simple) => Some(&**simple),
            Command::ChangeDirectory(_) => None,
        })
    }

    /// Runs them and waits for all of them. An error says that a step of the confinement failed in one, or that the
    /// only command of the line so far would not execute.
    fn run(&self, setting: &Setting<'_>, directory: &ViewPath) -> Result<PipelineEnd, Failed> {
        let Ok(expanded) = self.expand(setting, directory) else {
            let status = WaitStatus::Exited(STATUS_NOT_EXECUTED);
            return Ok(PipelineEnd { status, told_to_stop: false });
        };
        let failed =
            |something_ran: bool| move |step| Failed { failure: StageFailure::Step(step), something_ran };
        let mut pids = setting.pids.borrow_mut();
        pids.clear();
        let mut failures: Option<(OwnedFd, OwnedFd)> = None;
        let mut input: Option<OwnedFd> = None;
        for (index, (command, ready)) in self.commands().zip(self.ready).enumerate() {
            let (next_input, output) = if index + 1 < self.commands.len() {
                let (read, write) = sys::pipe().at("pipe").map_err(failed(index > 0))?;
                (Some(read), Some(write))
            } else {
                (None, None)
            };
            let argv = ready.argv.as_ref().or_else(|| expanded.get(index).and_then(Option::as_ref));
            let Some(argv) = argv else {
                let step = StepError { step: "words of the command".into(), errno: libc::EINVAL };
                return Err(failed(index > 0)(step));
            };
            let start = Start {
                command,
                argv,
                environment: &ready.environment,
                ruleset: ready.ruleset.as_deref(),
                input: input.as_ref().map(AsRawFd::as_raw_fd),
                output: output.as_ref().map(AsRawFd::as_raw_fd),
                kept: None,
            };
            let started = if ready::opens_files(command) {
                if failures.is_none() {
                    failures = Some(sys::pipe().at("pipe").map_err(failed(index > 0))?);
                }
                let write = failures.as_ref().map(|(_, write)| write);
                fork(setting, directory, start, index, write)
            } else {
                let mut failure = None;
                let started = sys::spawn(setting.stack, &mut || {
                    failure = Some(stage::become_command(setting, directory, &start));
                });
                match failure.filter(|_| started.is_ok()) {
                    None => {}
                    Some(failure @ StageFailure::Step(_)) => {
                        return Err(Failed { failure, something_ran: index > 0 });
                    }
                    Some(StageFailure::Exec(errno)) => self.not_executed(command, errno)?,
                }
                started
            };
            match started {
                Ok(pid) => pids.push(pid),
                // Out of processes or memory: said as a shell says it; what has started goes on and ends.
                Err(error) => {
                    let error = ErrorText(error.raw_os_error().unwrap_or(libc::EIO));
                    stage::complain(format_args!("cannot start `{}`: {error}", command.program));
                    pids.push(-1);
                }
            }
            input = next_input;
        }
        if let Some((read, write)) = failures {
            drop(write);
            self.wait_for_forked(read)?;
        }
        Ok(wait_for(setting, &mut pids))
    }

    /// Returns the words of the commands that have patterns, in their places. An error says that they were too many,
    /// and has been told to the user.
    fn expand(&self, setting: &Setting<'_>, directory: &ViewPath) -> Result<Vec<Option<Strings>>, ()> {
        if self.ready.iter().all(|ready| ready.argv.is_some()) {
            return Ok(Vec::new());
        }
        let mut all = Vec::new();
        for (command, ready) in self.commands().zip(self.ready) {
            all.push(match ready.argv {
                Some(_) => None,
                None => match argument_vector(setting, directory, command) {
                    Some(argv) => Some(argv),
                    None => {
                        stage::complain(format_args!(
                            "{}: a pattern matches too many names",
                            command.program
                        ));
                        return Err(());
                    }
                },
            });
        }
        Ok(all)
    }

    /// The kernel would not execute a command: said as a shell says it, unless nothing else has run.
    fn not_executed(&self, command: &SimpleCommand, errno: i32) -> Result<(), Failed> {
        if self.alone {
            return Err(Failed { failure: StageFailure::Exec(errno), something_ran: false });
        }
        stage::complain(format_args!("cannot execute {}: {}", command.program, ErrorText(errno)));
        Ok(())
    }

    /// Waits until each forked command has become its program or said why not.
    fn wait_for_forked(&self, failures: OwnedFd) -> Result<(), Failed> {
        let something_ran = self.commands.len() > 1;
        let broken = |step| Failed { failure: StageFailure::Step(step), something_ran };
        let most = u64::try_from(self.commands.len()).unwrap_or(u64::MAX).saturating_mul(4_096);
        let mut bytes = Vec::new();
        // Without it nobody knows what has become its program.
        let read = std::fs::File::from(failures).take(most).read_to_end(&mut bytes);
        read.at("failure report").map_err(broken)?;
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let unreadable = StepError { step: "failure report".into(), errno: libc::EPROTO };
            let ((index, failure), behind) =
                postcard::take_from_bytes::<(usize, StageFailure)>(rest).map_err(|_| broken(unreadable))?;
            rest = behind;
            match (failure, self.commands().nth(index)) {
                (StageFailure::Exec(errno), Some(command)) => self.not_executed(command, errno)?,
                (failure, _) => return Err(Failed { failure, something_ran }),
            }
        }
        Ok(())
    }
}

/// Starts a command in memory of its own, so that it can wait for another one; it says in `failures` why it did not
/// become its program.
fn fork(
    setting: &Setting<'_>,
    directory: &ViewPath,
    mut start: Start<'_>,
    index: usize,
    failures: Option<&OwnedFd>,
) -> std::io::Result<Pid> {
    /// Above every descriptor that a redirection can name.
    const KEPT: i32 = 10;
    match sys::fork()? {
        Forked::Parent(pid) => Ok(pid),
        Forked::Child => {
            let kept = failures.and_then(|fd| sys::duplicate_above(fd.as_fd(), KEPT).ok());
            start.kept = kept.as_ref().map(AsRawFd::as_raw_fd);
            let failure = stage::become_command(setting, directory, &start);
            if let (Some(kept), Ok(bytes)) = (kept, postcard::to_stdvec(&(index, failure))) {
                // Fewer bytes than PIPE_BUF, so that reports of several commands never mix; see pipe(7).
                let _ = std::fs::File::from(kept).write_all(&bytes);
            }
            sys::exit_now(STATUS_NOT_EXECUTED)
        }
    }
}

fn argument_vector(setting: &Setting<'_>, directory: &ViewPath, command: &SimpleCommand) -> Option<Strings> {
    let open = |path: &Path| setting.paths.open_to_list(directory, path, &command.rights.read);
    let mut argv = vec![CString::new(command.program.as_str()).ok()?];
    for word in &command.arguments {
        for argument in glob::expand(word, &open).ok()? {
            argv.push(CString::new(argument).ok()?);
        }
    }
    Some(Strings::new(argv))
}

/// Reaps until every command of the pipeline has ended, and passes on a signal to stop.
fn wait_for(setting: &Setting<'_>, pids: &mut [Pid]) -> PipelineEnd {
    let last = pids.last().copied().unwrap_or(-1);
    let mut open = pids.iter().filter(|&&pid| pid > 0).count();
    let mut status = WaitStatus::Exited(STATUS_NOT_EXECUTED);
    let mut told_to_stop = false;
    loop {
        while let Ok(Some((pid, ended, _))) = sys::wait(-1, false) {
            if pid == last {
                status = ended;
            }
            if let Some(place) = pids.iter_mut().find(|place| **place == pid) {
                *place = -1;
                open -= 1;
            }
        }
        if open == 0 {
            return PipelineEnd { status, told_to_stop };
        }
        // A line's own processes may send us SIGTERM too: only the one outside is heard.
        if let Ok(Some((libc::SIGTERM, sender))) = sys::take_signal(&[libc::SIGCHLD, libc::SIGTERM], None)
            && sender == setting.stopper
        {
            told_to_stop = true;
            (setting.signal_all)(libc::SIGTERM);
            (setting.signal_all)(libc::SIGCONT);
        }
    }
}
