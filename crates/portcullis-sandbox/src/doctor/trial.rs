//! Makes one cell as the service would, and runs a program in it that does nothing.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::time::Duration;

use portcullis_core::{
    Command, Connector, Ended, Limits, Pipeline, Plan, ProgramName, Rights, Script, SimpleCommand, Span,
    Step, ViewPath,
};

use super::{Trial, await_readable};
use crate::config::Config;
use crate::start::{LauncherProcess, start_launcher_from};
use crate::sys;
use crate::wire::{self, Answer, FromCell, FromLauncher, Refused, ToCell, ToLauncher};

/// How long the launcher may take for one message, and a cell for a program that does nothing.
const PATIENCE: Duration = Duration::from_secs(20);
/// The program that does nothing.
const PROGRAM: &str = "true";

/// Makes the cell and runs the program. The floor is left out of it: what the host gives is found out first, and
/// judged by it then.
pub(super) fn run(executable: &Path, config: &Config) -> Trial {
    // Beside a running service: what it has on disk is left alone.
    let own = std::env::temp_dir().join(format!("portcullis-doctor-{}", std::process::id()));
    let made = std::fs::DirBuilder::new().mode(0o711).create(&own).is_ok();
    let state_directory = if made { own.clone() } else { config.state_directory.clone() };
    let config = Config { cells: 1, floor: None, state_directory, ..config.clone() };
    let mut trial = Trial::default();
    match start_launcher_from(executable, &config) {
        Err(error) => trial.problem = Some(error.to_string()),
        Ok(LauncherProcess { link, mut child, .. }) => {
            let with_server = executable == Path::new("/proc/self/exe");
            trial.problem = try_cell(&link, config, with_server, &mut trial).err();
            // The launcher ends with its link; one that hangs is ended, and every cell with it.
            drop(link);
            if trial.problem.is_some() {
                let _ = child.kill();
            }
            let _ = child.wait();
        }
    }
    if made {
        let _ = std::fs::remove_dir_all(&own);
    }
    trial
}

fn try_cell(link: &OwnedFd, config: Config, with_server: bool, trial: &mut Trial) -> Result<(), String> {
    let limits = config.ceilings.clone();
    let has_program = crate::elf::executable(&program_name()?, &config.path).is_ok();
    let silent = |error: std::io::Error| format!("the launcher does not answer: {error}");
    wire::send(link.as_fd(), &ToLauncher::Configure { config, with_server }, &[]).map_err(silent)?;
    let cell = loop {
        await_readable(link, PATIENCE).map_err(silent)?;
        match wire::receive::<FromLauncher>(link).map_err(silent)? {
            None => return Err("the launcher ended before it had made a cell".into()),
            Some((FromLauncher::Ready { confinement, .. }, mut descriptors)) => {
                trial.level = Some(confinement.level);
                trial.landlock_abi = confinement.landlock_abi;
                trial.cgroup = confinement.cgroup;
                trial.weaker = confinement.weaker;
                break descriptors.pop().ok_or("the launcher sent a cell without its link")?;
            }
            Some((FromLauncher::Failed { failure, last: true, .. }, _)) => {
                return Err(format!("no cell can be made: {failure}"));
            }
            Some(_) => {}
        }
    };
    if !has_program {
        // Nothing is wrong with the cell; that the program is missing is no defect of the host.
        return Ok(());
    }
    run_in(&cell, limits)?;
    trial.ran = Some(PROGRAM.into());
    Ok(())
}

fn run_in(cell: &OwnedFd, limits: Limits) -> Result<(), String> {
    let silent = |error: std::io::Error| format!("the cell does not answer: {error}");
    let nothing = sys::open_at(None, c"/dev/null", libc::O_WRONLY, 0).map_err(silent)?;
    let message = ToCell::Run { plan: Box::new(plan(limits)?), stdin: false, gated: false };
    wire::send(cell.as_fd(), &message, &[nothing.as_fd(), nothing.as_fd()]).map_err(silent)?;
    await_readable(cell, PATIENCE).map_err(silent)?;
    let Some((FromCell { answer, .. }, _)) = wire::receive::<FromCell>(cell).map_err(silent)? else {
        return Err("the cell died while it ran a program".into());
    };
    match answer {
        Answer::Ended { ended: Ended::Exited(0), .. } => Ok(()),
        Answer::Ended { ended, .. } => Err(format!("`{PROGRAM}` ended otherwise than it should: {ended:?}")),
        Answer::Broken(step) | Answer::Refused(Refused::Step(step)) => Err(step.to_string()),
        Answer::Refused(Refused::Program { problem, .. } | Refused::Unenforceable(problem)) => Err(problem),
        Answer::Refused(Refused::CalledOff) => Err("the trial was called off".into()),
    }
}

fn program_name() -> Result<ProgramName, String> {
    ProgramName::parse(PROGRAM).ok_or_else(|| format!("`{PROGRAM}` is no program's name"))
}

/// A line that an operator's own trial runs: one program, no rights.
fn plan(limits: Limits) -> Result<Plan, String> {
    let workspace = ViewPath::resolve(&ViewPath::root(), "workspace");
    let span = Span::new(0, PROGRAM.len());
    let command = SimpleCommand {
        program: program_name()?,
        arguments: Vec::new(),
        assignments: Vec::new(),
        redirections: Vec::new(),
        rights: Rights::default(),
        span,
    };
    let pipeline = Pipeline { commands: vec![Command::Simple(Box::new(command))] };
    Ok(Plan {
        script: Script { steps: vec![Step { connector: Connector::Always, pipeline }] },
        working_directory: workspace.clone(),
        workspace,
        environment: Vec::new(),
        stdin: None,
        limits,
        protected: Vec::new(),
    })
}
