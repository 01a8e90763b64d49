//! Carries a judged command line out: its steps, its pipelines, `cd`. This is what a shell would do, and all
//! of it: nothing is parsed here.

use std::collections::BTreeSet;
use std::ffi::CString;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::rc::Rc;

use portcullis_core::{Command, Connector, Plan, SimpleCommand, ViewPath};

use crate::glob;
use crate::landlock::Ruleset;
use crate::paths::Paths;
use crate::programs::Programs;
use crate::rights::View;
use crate::stage::{self, Plumbing, StageFailure};
use crate::sys::{self, Forked, Pid, WaitStatus};
use crate::wire::{AtStep, Refused, StepError};

/// What every command of a line shares.
pub(crate) struct Setting<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) programs: &'a Programs,
    /// For each command of the line, in order, its ruleset where it is ready already.
    pub(crate) rulesets: &'a [Option<Rc<Ruleset>>],
    pub(crate) environment: Vec<(String, String)>,
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
}

/// The seccomp filters that commands take on themselves.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Filters<'a> {
    pub(crate) writer: &'a [libc::sock_filter],
    pub(crate) reader: &'a [libc::sock_filter],
}

/// How a line ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LineEnd {
    /// By itself, or because it was told to stop.
    Done(WaitStatus),
    /// Nothing of it ran.
    Refused(Refused),
    /// A step failed after a part of it had run.
    Broken(StepError),
}

/// Carries the line out.
pub(crate) fn carry_out(setting: &Setting<'_>) -> LineEnd {
    let mut status = WaitStatus::Exited(0);
    let mut something_ran = false;
    let mut next = 0;
    // A `cd` that failed ends the line, unless `||` stands behind it: what follows was judged for where it leads.
    let mut nowhere = false;
    let mut directory = setting.plan.working_directory.clone();
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
                    directory = to;
                    status = WaitStatus::Exited(0);
                }
                Err(error) => {
                    stage::complain(&format!("cd: `{}`: {error}", change.directory));
                    status = WaitStatus::Exited(1);
                }
            }
            nowhere = status != WaitStatus::Exited(0);
            continue;
        }
        let commands: Vec<&SimpleCommand> = step
            .pipeline
            .commands
            .iter()
            .filter_map(|command| match command {
                Command::Simple(simple) => Some(&**simple),
                Command::ChangeDirectory(_) => None,
            })
            .collect();
        if commands.len() != step.pipeline.commands.len() {
            let step = StepError { step: "cd inside a pipeline".into(), errno: libc::EINVAL };
            return if something_ran { LineEnd::Broken(step) } else { LineEnd::Refused(Refused::Step(step)) };
        }
        let rulesets = setting.rulesets.get(first..next).unwrap_or_default();
        match run_pipeline(setting, &directory, &commands, rulesets, !something_ran) {
            Ok(ended) => {
                status = ended.status;
                if ended.told_to_stop {
                    break;
                }
            }
            Err(failed) => {
                (setting.signal_all)(libc::SIGKILL);
                return refuse_or_break(failed.step, something_ran || failed.something_ran);
            }
        }
        something_ran = true;
    }
    LineEnd::Done(status)
}

fn refuse_or_break(failure: StepError, something_ran: bool) -> LineEnd {
    if something_ran { LineEnd::Broken(failure) } else { LineEnd::Refused(Refused::Step(failure)) }
}

/// A step that failed, and whether something of its pipeline may have run.
struct Failed {
    step: StepError,
    something_ran: bool,
}

struct PipelineEnd {
    status: WaitStatus,
    told_to_stop: bool,
}

/// Runs the commands of one pipeline at the same time and waits for all of them. An error says that a step of
/// the confinement failed in one, or that the only command of a `first` pipeline would not execute.
fn run_pipeline(
    setting: &Setting<'_>,
    directory: &ViewPath,
    commands: &[&SimpleCommand],
    rulesets: &[Option<Rc<Ruleset>>],
    first: bool,
) -> Result<PipelineEnd, Failed> {
    let mut argument_vectors = Vec::new();
    for command in commands {
        match argument_vector(setting, directory, command) {
            Some(argv) => argument_vectors.push(argv),
            None => {
                stage::complain(&format!("{}: a pattern matches too many names", command.program));
                return Ok(PipelineEnd { status: WaitStatus::Exited(126), told_to_stop: false });
            }
        }
    }
    let mut pids = Vec::new();
    let failed = |something_ran| move |step| Failed { step, something_ran };
    let (failures_read, failures_write) = sys::pipe().at("pipe").map_err(failed(false))?;
    let mut input: Option<OwnedFd> = None;
    for (index, (command, argv)) in commands.iter().zip(&argument_vectors).enumerate() {
        let (next_input, output) = if index + 1 < commands.len() {
            let (read, write) = sys::pipe().at("pipe").map_err(failed(!pids.is_empty()))?;
            (Some(read), Some(write))
        } else {
            (None, None)
        };
        let failures = failures_write.try_clone().at("pipe").map_err(failed(!pids.is_empty()))?;
        let ruleset = rulesets.get(index).and_then(Option::as_deref);
        let plumbing = Plumbing { input: input.take(), output, failures, ruleset };
        match sys::fork() {
            Ok(Forked::Child) => stage::become_command(setting, directory, command, argv, plumbing),
            Ok(Forked::Parent(pid)) => pids.push(pid),
            // Out of processes or memory: said as a shell says it; what has started goes on and ends.
            Err(error) => {
                stage::complain(&format!("cannot start `{}`: {error}", command.program));
                pids.push(-1);
            }
        }
        input = next_input;
    }
    drop(failures_write);
    // Without it nobody knows what has become its program.
    let failure = first_failure(failures_read, commands.len()).map_err(failed(true))?;
    if let Some(StageFailure::Step(step)) = failure {
        return Err(failed(commands.len() > 1)(step));
    }
    if let Some(StageFailure::Exec(step)) = failure {
        if first && commands.len() == 1 {
            return Err(failed(false)(step));
        }
        stage::complain(&format!("cannot {}: {}", step.step, step.source()));
    }
    Ok(wait_for(setting, &pids))
}

fn argument_vector(
    setting: &Setting<'_>,
    directory: &ViewPath,
    command: &SimpleCommand,
) -> Option<Vec<CString>> {
    let open = |path: &Path| setting.paths.open_to_list(directory, path, &command.rights.read);
    let mut argv = vec![CString::new(command.program.as_str()).ok()?];
    for word in &command.arguments {
        for argument in glob::expand(word, &open).ok()? {
            argv.push(CString::new(argument).ok()?);
        }
    }
    Some(argv)
}

/// Waits until each command has become its program or said why not, and returns the first reason.
fn first_failure(failures: OwnedFd, commands: usize) -> Result<Option<StageFailure>, StepError> {
    let most = u64::try_from(commands).unwrap_or(u64::MAX).saturating_mul(4_096);
    let mut bytes = Vec::new();
    std::fs::File::from(failures).take(most).read_to_end(&mut bytes).at("failure report")?;
    if bytes.is_empty() {
        return Ok(None);
    }
    let unreadable = StepError { step: "failure report".into(), errno: libc::EPROTO };
    postcard::take_from_bytes(&bytes).map(|(failure, _)| Some(failure)).map_err(|_| unreadable)
}

/// Reaps until every command of the pipeline has ended, and passes on a signal to stop.
fn wait_for(setting: &Setting<'_>, pids: &[Pid]) -> PipelineEnd {
    let mut open: BTreeSet<Pid> = pids.iter().copied().filter(|&pid| pid > 0).collect();
    let last = pids.last().copied().unwrap_or(-1);
    let mut status = WaitStatus::Exited(126);
    let mut told_to_stop = false;
    loop {
        while let Ok(Some((pid, ended, _))) = sys::wait(-1, false) {
            if pid == last {
                status = ended;
            }
            open.remove(&pid);
        }
        if open.is_empty() {
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
