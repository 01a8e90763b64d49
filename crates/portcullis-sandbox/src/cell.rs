//! A cell: a small process that sits in everything that executions may share one after another, and runs one
//! execution at a time.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use portcullis_core::{Ended, Level, Limit, Limits, Network, Plan, ProgramName, Usage, ViewPath};

use crate::ahead::{Ahead, Kind};
use crate::cgroup::{Counters, Group};
use crate::config::Config;
use crate::gate::Begin;
use crate::init::{self, Job, Report, ReportTo};
use crate::landlock::Ruleset;
use crate::paths::Paths;
use crate::programs::{self, Finder, Programs};
use crate::ready::{self, Ready};
use crate::removal;
use crate::rights::{self, Common, View};
use crate::seccomp;
use crate::sys::{self, Forked, Pid, Polled, Processors, SharedNumber, Stack, WaitStatus, Waiting};
use crate::tree;
use crate::view::{self, PrivateParts, Proc, Scratches, SourceIdentity};
use crate::wire::{self, Answer, AtStep, FromCell, Refused, StepError, ToCell};

/// How often counters are looked at while a line runs.
const TICK: Duration = Duration::from_millis(100);
/// How many rulesets a cell keeps.
const MOST_RULESETS: usize = 64;
/// How many program views a cell keeps.
const MOST_VIEWS: usize = 32;

/// What a cell is made of.
pub(crate) struct Cell {
    pub(crate) config: Config,
    /// Which directories the mount sources were at the start.
    pub(crate) sources: Vec<SourceIdentity>,
    pub(crate) level: Level,
    pub(crate) landlock_abi: Option<u32>,
    /// The cell's control group, where there is one.
    pub(crate) group: Option<Group>,
    /// Its other end ends with the launcher. Held at level `landlock`: elsewhere the kernel ends a cell, and with it all
    /// that runs in it, together with the launcher.
    pub(crate) life: Option<OwnedFd>,
    /// The server's end of the world.
    pub(crate) link: OwnedFd,
    /// Where the workspace lies at level `landlock`.
    pub(crate) host_workspace: Option<PathBuf>,
    pub(crate) finder: Finder,
    /// Views made so far, by the programs that can execute in them; and the base.
    pub(crate) views: HashMap<BTreeSet<ProgramName>, ProgramView>,
    pub(crate) base_view: Option<OwnedFd>,
    /// The programs of the view that the cell is in.
    pub(crate) current_view: Option<BTreeSet<ProgramName>>,
    pub(crate) filters: Rc<seccomp::Programs>,
    /// Rulesets of commands that need nothing of their execution's own, by program and rights.
    pub(crate) rulesets: HashMap<Vec<u8>, Rc<Ruleset>>,
    /// File systems for the next execution that writes.
    pub(crate) scratches: Scratches,
    /// What every ruleset allows; `None` where there is no Landlock, or no view of our own.
    pub(crate) common: Option<Rc<Common>>,
    /// The limits that the group has now.
    pub(crate) limits_in_force: Option<Limits>,
    /// For the processes of an execution that share our memory for a while; `None` before the cell is made.
    pub(crate) stacks: Option<Stacks>,
    /// Where the cell may run; `None` where there is but one place, or it cannot be said.
    pub(crate) processors: Option<Processors>,
    /// The device of the base view's `/proc`.
    pub(crate) base_proc: Option<u64>,
    /// Mounts of the last execution that are still to be taken away.
    pub(crate) left: Vec<PathBuf>,
    /// What may come next, going by what came last.
    pub(crate) expected: Option<Kind>,
    /// An init that waits for it.
    pub(crate) ahead: Option<Ahead>,
}

/// For init, and for one command after another.
pub(crate) struct Stacks {
    pub(crate) init: Rc<Stack>,
    command: Stack,
    /// When the line began, as init saw it; see [`Begin`].
    began: SharedNumber,
}

impl Stacks {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self { init: Rc::new(Stack::new()?), command: Stack::new()?, began: SharedNumber::new()? })
    }
}

/// A program view.
pub(crate) struct ProgramView {
    /// Its mount namespace, where there is one.
    namespace: Option<OwnedFd>,
    programs: Rc<Programs>,
}

impl Cell {
    /// Serves executions until the link ends, and ends the process. The launcher makes a new cell.
    pub(crate) fn serve(mut self) -> ! {
        let mut buffer = vec![0; wire::MAX_FRAME_BYTES];
        let status = loop {
            if self.expected.is_some() && !self.is_asked_soon() {
                self.make_ahead();
            }
            if self.is_orphaned() {
                break 0;
            }
            match wire::receive_into::<ToCell>(&self.link, &mut buffer) {
                Ok(Some((ToCell::Run { plan, stdin, gated }, descriptors))) => {
                    let Some(streams) = take_streams(descriptors, stdin, gated) else { break 1 };
                    let answer = self.run(&plan, streams);
                    // Nobody waits for what comes after the answer: whoever is to run next finds a cell that has ended,
                    // or that is done.
                    if wire::send(self.link.as_fd(), &answer, &[]).is_err()
                        || !answer.fit
                        || !self.clean(&plan)
                    {
                        break 1;
                    }
                }
                // Came too late: what it was to stop has ended.
                Ok(Some((ToCell::Stop { .. }, descriptors))) if descriptors.is_empty() => {}
                Ok(None) => break 0,
                Ok(Some(_)) | Err(_) => break 1,
            }
        };
        sys::exit_now(status)
    }

    /// Waits for the server's word; says whether the launcher ended before it came.
    fn is_orphaned(&self) -> bool {
        let Some(life) = &self.life else { return false };
        let mut entries = [&self.link, life].map(|fd| Polled { fd: fd.as_fd(), ready: false });
        // When there is no waiting, the word is waited for, which ends with the server at the latest.
        let waited = sys::poll(&mut entries, None);
        let [_, life] = entries;
        waited.is_ok() && life.ready
    }

    fn run(&mut self, plan: &Plan, streams: Streams) -> FromCell {
        let refuse = |refused, fit| FromCell { answer: Answer::Refused(refused), fit };
        let names = plan.programs();
        self.expected = None;
        let programs = match self.within_ceilings(plan).and_then(|()| self.programs_of(&names)) {
            Ok(programs) => programs,
            Err(refused) => return refuse(refused, true),
        };
        let own_proc = !programs::are_indifferent_to_proc(&programs);
        let proc = if own_proc { Proc::Own } else { Proc::OfTheCell };
        let kind = Kind { programs: names, writes: plan.writes(), proc };
        // What was made for something else ends before anything of this execution is counted.
        let prepared = self.take_ahead(&kind).and_then(|ahead| {
            self.enter_view(&kind.programs, &programs)?;
            self.set_limits(&plan.limits)?;
            Ok(ahead)
        });
        let ahead = match prepared {
            Ok(ahead) => ahead,
            Err(step) => return refuse(Refused::Step(step), false),
        };
        match self.run_prepared(plan, &programs, streams, kind, ahead) {
            Ok(answer) => answer,
            Err(step) => refuse(Refused::Step(step), false),
        }
    }

    /// INVARIANT (ceilings): whatever the server asks, a cell goes no further than the launcher was told at
    /// its start.
    fn within_ceilings(&self, plan: &Plan) -> Result<(), Refused> {
        let ceilings = &self.config.ceilings;
        let limits = &plan.limits;
        let sizes = [
            ("wall_time", limits.wall_time.as_millis(), ceilings.wall_time.as_millis()),
            ("cpu_time", limits.cpu_time.as_millis(), ceilings.cpu_time.as_millis()),
            ("memory_bytes", limits.memory_bytes.into(), ceilings.memory_bytes.into()),
            ("processes", limits.processes.into(), ceilings.processes.into()),
            ("open_files", limits.open_files.into(), ceilings.open_files.into()),
            ("file_size_bytes", limits.file_size_bytes.into(), ceilings.file_size_bytes.into()),
            ("disk_bytes", limits.disk_bytes.into(), ceilings.disk_bytes.into()),
            ("output_bytes", limits.output_bytes.into(), ceilings.output_bytes.into()),
            ("grace_period", limits.grace_period.as_millis(), ceilings.grace_period.as_millis()),
        ];
        for (name, asked, most) in sizes {
            if asked > most {
                let problem =
                    format!("the limit `{name}` of the permit is {asked}, above the configured {most}");
                return Err(Refused::Unenforceable(problem));
            }
        }
        // Below these there is no room for any process; and a tmpfs of size 0 would be one without a bound. See
        // tmpfs(5).
        let least = [
            ("processes", limits.processes.into(), 1),
            ("open_files", limits.open_files.into(), 4),
            ("memory_bytes", limits.memory_bytes, 1 << 20),
            ("disk_bytes", limits.disk_bytes, 1),
            ("wall_time", u64::from(!limits.wall_time.is_zero()), 1),
            ("cpu_time", u64::from(!limits.cpu_time.is_zero()), 1),
        ];
        if let Some((name, _, least)) = least.into_iter().find(|(_, asked, least)| asked < least) {
            let least = if name.ends_with("time") { "more than nothing".into() } else { least.to_string() };
            let problem = format!("the limit `{name}` of the permit leaves no room: it is at least {least}");
            return Err(Refused::Unenforceable(problem));
        }
        if plan.script.commands().any(|command| command.rights.network != Network::None) {
            let problem =
                "the permit gives network access to some hosts, which this version cannot hold to them";
            return Err(Refused::Unenforceable(problem.into()));
        }
        if plan.script.commands().next().is_none() && plan.script.steps.is_empty() {
            return Err(Refused::Unenforceable("the permit holds no command".into()));
        }
        Ok(())
    }

    fn programs_of(&mut self, names: &BTreeSet<ProgramName>) -> Result<Rc<Programs>, Refused> {
        match self.views.get(names) {
            Some(view) => Ok(Rc::clone(&view.programs)),
            None => self.finder.find(names).map(Rc::new),
        }
    }

    /// Enters the view in which exactly these programs can execute, making it when there is none yet.
    fn enter_view(
        &mut self,
        names: &BTreeSet<ProgramName>,
        programs: &Rc<Programs>,
    ) -> Result<(), StepError> {
        if self.current_view.as_ref() == Some(names) {
            return Ok(());
        }
        self.current_view = None;
        if let Some(known) = self.views.get(names) {
            if let Some(namespace) = &known.namespace {
                sys::set_namespace(namespace.as_fd(), libc::CLONE_NEWNS).at("view: enter")?;
            }
        } else {
            if self.views.len() >= MOST_VIEWS {
                self.views.clear();
            }
            let namespace = match &self.base_view {
                Some(base) => Some(make_view(base, programs)?),
                None => None,
            };
            self.views.insert(names.clone(), ProgramView { namespace, programs: Rc::clone(programs) });
        }
        self.current_view = Some(names.clone());
        Ok(())
    }

    fn set_limits(&mut self, limits: &Limits) -> Result<(), StepError> {
        let Some(group) = &mut self.group else { return Ok(()) };
        if self.limits_in_force.as_ref() != Some(limits) {
            self.limits_in_force = None;
            group.set_limits(limits).at("cgroup limits")?;
            self.limits_in_force = Some(limits.clone());
        }
        group.reset().at("cgroup counters")
    }

    fn run_prepared(
        &mut self,
        plan: &Plan,
        programs: &Programs,
        streams: Streams,
        kind: Kind,
        ahead: Option<Waiting>,
    ) -> Result<FromCell, StepError> {
        let targets: Vec<ViewPath> = self.config.mounts.iter().map(|mount| mount.target.clone()).collect();
        let writable = self.config.mounts.iter().filter(|mount| mount.writable);
        let writable: Vec<ViewPath> = writable.map(|mount| mount.target.clone()).collect();
        let parts = PrivateParts::new(plan, &targets, kind.proc);
        if self.level != Level::Landlock {
            parts.add(&mut self.scratches)?;
            let entered =
                Paths::new(&plan.workspace, None, &targets, &writable).enter(&plan.working_directory);
            entered.at("working directory")?;
        }
        let rulesets = self.ready_rulesets(plan, programs, &parts, &targets).at("landlock ruleset")?;
        let ready = ready::commands(plan, &self.config.user_name, rulesets);
        let line =
            Line { plan, programs, ready: &ready, mounts: &targets, writable: &writable, parts: &parts };
        let End { watched, status, cpu, report, began, is_plain } = self.carry_out(&line, streams, ahead)?;
        self.expected = Some(kind).filter(|_| is_plain);
        let counters = self.group.as_ref().and_then(|group| group.sample().ok());
        let gone = self.everything_is_gone(counters.as_ref());
        let usage = Usage {
            cpu_time: counters.as_ref().map_or(cpu, |counters| counters.cpu),
            peak_memory_bytes: counters.as_ref().and_then(|counters| counters.peak_memory_bytes),
            wall_time: began.elapsed(),
        };
        // A step that the kernel refuses leaves nobody knows what behind.
        let sound = !matches!(report, Some(Report::Refused(_) | Report::Broken(_)));
        let answer = conclude(plan, watched, report, status, counters.as_ref(), usage);
        // Memory may not be given back at once after it ran out, and the launcher counts such ends for the whole
        // life of a cell: it is not used again.
        let ran_out = counters.as_ref().is_some_and(|counters| counters.oom_kills > 0);
        let goes_on = !matches!(watched, Watched::LinkEnded | Watched::Orphaned);
        if self.level != Level::Landlock {
            self.left = parts.mounts(self.base_proc);
        }
        Ok(FromCell { answer, fit: gone && sound && !ran_out && goes_on })
    }

    /// Takes away what an execution has left in the view or on the host. Says whether it is gone.
    fn clean(&mut self, plan: &Plan) -> bool {
        if let Some(processors) = &self.processors {
            let _ = processors.keep_to();
        }
        let left = std::mem::take(&mut self.left);
        let home = self.level == Level::Landlock || std::env::set_current_dir("/").is_ok();
        let done = home && view::take_away(&left).is_ok() && self.empty_host_workspace();
        if plan.writes() && self.level != Level::Landlock {
            self.scratches.refill(plan.limits.disk_bytes);
        }
        done
    }

    /// Runs the line and waits for its end.
    fn carry_out(
        &self,
        line: &Line<'_>,
        streams: Streams,
        mut ahead: Option<Waiting>,
    ) -> Result<End, StepError> {
        let stacks = self.stacks.as_ref().ok_or(StepError { step: "stacks".into(), errno: libc::ENOMEM })?;
        let begin = Begin::new(streams.gate.as_ref(), &stacks.began);
        let input = match streams.input {
            Some(input) => input,
            None => sys::open_at(None, c"/dev/null", libc::O_RDONLY, 0).at("open /dev/null")?,
        };
        let namespaces = match self.level {
            Level::Full | Level::Namespaces => libc::CLONE_NEWPID | libc::CLONE_NEWIPC,
            Level::Landlock => 0,
        };
        let shares_memory = self.level != Level::Landlock
            && ready::is_plain(line.plan, line.ready, self.landlock_abi.is_some());
        let rulesets = line.ready.iter().filter_map(|ready| ready.ruleset.as_ref());
        let mut kept: Vec<_> = rulesets.map(|ruleset| ruleset.descriptor()).collect();
        kept.extend(begin.gate());
        let longest = line.plan.script.steps.iter().map(|step| step.pipeline.commands.len()).max();
        let pids = RefCell::new(Vec::with_capacity(longest.unwrap_or(0)));
        let told = Mutex::new(None);
        let pipe = if shares_memory { None } else { Some(sys::pipe().at("report pipe")?) };
        let report = match &pipe {
            None => ReportTo::Memory(&told),
            Some((_, write)) => {
                kept.push(write.as_raw_fd());
                ReportTo::Pipe(write.as_raw_fd())
            }
        };
        kept.sort_unstable();
        if !shares_memory && ahead.take().is_some() {
            self.take_away_proc(line.parts.proc())?;
        }
        // One that was made beforehand is where the cell was then.
        let directory = match &ahead {
            Some(_) => {
                Some(sys::open_at(None, c".", libc::O_PATH | libc::O_DIRECTORY, 0).at("working directory")?)
            }
            None => None,
        };
        let job = Job {
            plan: line.plan,
            programs: line.programs,
            ready: line.ready,
            level: self.level,
            landlock_abi: self.landlock_abi,
            filters: &self.filters,
            group_bounds_the_tree: self.group.is_some(),
            mounts: line.mounts,
            writable: line.writable,
            parts: line.parts,
            host_workspace: self.host_workspace.as_deref(),
            directory: directory.as_ref(),
            streams: [input.as_raw_fd(), streams.output.as_raw_fd(), streams.error.as_raw_fd()],
            kept: &kept,
            report,
            begin: &begin,
            cell: Pid::try_from(std::process::id()).unwrap_or(-1),
            stack: &stacks.command,
            processors: self.processors.as_ref(),
            pids: &pids,
        };
        let given = (input, streams.output, streams.error, streams.gate);
        if shares_memory {
            // Cell, init and command follow one another, and seldom run at once. On one processor, nobody waits for
            // another one to wake up. Commands leave it, and so do we when the answer is out.
            let here = self.processors.as_ref().and_then(|_| Processors::current().ok());
            if let Some(here) = &here {
                let _ = here.keep_to();
            }
            let run = || match ahead {
                // It shares our descriptors until it has its own, so that they are not closed before its end.
                Some(ahead) => ahead.run(here.as_ref(), &mut || init::run_ahead(&job), |pidfd| {
                    self.watch(line.plan, pidfd, &begin)
                }),
                None => sys::run_beside(&stacks.init, namespaces, &mut || init::run(&job), |pidfd| {
                    drop(given);
                    self.watch(line.plan, pidfd, &begin)
                }),
            };
            let (watched, status, cpu) = wire::attempt("namespaces of the execution", run)?;
            let report = told.into_inner().unwrap_or_else(PoisonError::into_inner);
            return Ok(End { watched, status, cpu, report, began: begin.at(), is_plain: true });
        }
        let (forked, pidfd) = wire::attempt("namespaces of the execution", || sys::clone_into(namespaces))?;
        let pid = match forked {
            Forked::Child => init::run(&job),
            Forked::Parent(pid) => pid,
        };
        let pidfd = pidfd.ok_or_else(|| StepError { step: "pidfd".into(), errno: libc::EBADF })?;
        drop(given);
        let watched = self.watch(line.plan, &pidfd, &begin);
        let (status, cpu) = self.reap(pid);
        let report = pipe.and_then(|(read, write)| {
            drop(write);
            read_report(read)
        });
        Ok(End { watched, status, cpu, report, began: begin.at(), is_plain: false })
    }

    /// Returns, in the order of the commands, the rulesets that can be made before anything runs. Those of commands
    /// that only read, in a view to which the execution adds nothing, are made once and shared by executions. A command
    /// that opens files first, or comes after others, may name what is not there yet, and makes its own.
    fn ready_rulesets(
        &mut self,
        plan: &Plan,
        programs: &Programs,
        parts: &PrivateParts<'_>,
        mounts: &[ViewPath],
    ) -> io::Result<Vec<Option<Rc<Ruleset>>>> {
        let (Some(abi), Some(common)) = (self.landlock_abi, self.common.clone()) else {
            return Ok(Vec::new());
        };
        let view = View::Own { mounts };
        let same_view = parts.are_none();
        let at_once = plan.script.steps.len() == 1;
        let mut rulesets = Vec::new();
        for command in plan.script.commands() {
            if !(same_view && rights::are_stable(&command.rights)) {
                let ready = at_once && !ready::opens_files(command);
                let make = || rights::ruleset(abi, view, &common, plan, programs, command).map(Rc::new);
                rulesets.push(if ready { Some(make()?) } else { None });
                continue;
            }
            let key = postcard::to_stdvec(&(&command.program, &command.rights)).map_err(io::Error::other)?;
            if let Some(known) = self.rulesets.get(&key) {
                rulesets.push(Some(Rc::clone(known)));
                continue;
            }
            if self.rulesets.len() >= MOST_RULESETS {
                self.rulesets.clear();
            }
            let ruleset = Rc::new(rights::ruleset(abi, view, &common, plan, programs, command)?);
            self.rulesets.insert(key, Rc::clone(&ruleset));
            rulesets.push(Some(ruleset));
        }
        Ok(rulesets)
    }

    /// Waits for init to end, and sees to the limits and the server's word meanwhile.
    fn watch(&self, plan: &Plan, pidfd: &OwnedFd, begin: &Begin<'_>) -> Watched {
        let limits = &plan.limits;
        let mut stop: Option<(Ended, Instant)> = None;
        // Before the line has begun, its time does not run.
        let deadline = || begin.began().map(|began| after(began, limits.wall_time));
        loop {
            let now = Instant::now();
            let next = match stop {
                Some((_, kill_at)) => kill_at,
                None => deadline().unwrap_or(after(now, limits.wall_time)).min(now + TICK),
            };
            let life = self.life.as_ref().unwrap_or(&self.link);
            let mut entries = [pidfd, &self.link, life].map(|fd| Polled { fd: fd.as_fd(), ready: false });
            if sys::poll(&mut entries, Some(next.saturating_duration_since(now))).is_err() {
                let _ = sys::pidfd_signal(pidfd.as_fd(), libc::SIGKILL);
                return Watched::LinkEnded;
            }
            let [init, link, life] = entries;
            if init.ready {
                return stop.map_or(Watched::EndedByItself, |(ended, _)| Watched::Stopped(ended));
            }
            if life.ready && self.life.is_some() {
                self.kill(pidfd);
                return Watched::Orphaned;
            }
            if link.ready {
                match wire::receive::<ToCell>(&self.link) {
                    Ok(Some((ToCell::Stop { ended, gently }, none))) if none.is_empty() => {
                        // The first reason stands; a harder way overtakes a gentle one.
                        let first = stop.map_or(ended, |(first, _)| first);
                        let grace = if gently { limits.grace_period } else { Duration::ZERO };
                        let kill_at = after(Instant::now(), grace);
                        let kill_at = stop.map_or(kill_at, |(_, at)| at.min(kill_at));
                        if stop.is_none() && gently {
                            let _ = sys::pidfd_signal(pidfd.as_fd(), libc::SIGTERM);
                        }
                        stop = Some((first, kill_at));
                    }
                    _ => {
                        self.kill(pidfd);
                        return Watched::LinkEnded;
                    }
                }
            }
            let now = Instant::now();
            match stop {
                Some((ended, kill_at)) if now >= kill_at => {
                    self.kill(pidfd);
                    return Watched::Stopped(ended);
                }
                Some(_) => {}
                None if deadline().is_some_and(|deadline| now >= deadline) => {
                    let _ = sys::pidfd_signal(pidfd.as_fd(), libc::SIGTERM);
                    stop = Some((Ended::Limited(Limit::WallTime), after(now, limits.grace_period)));
                }
                None => {
                    if let Some(limit) = self.exceeded(limits) {
                        self.kill(pidfd);
                        return Watched::Stopped(Ended::Limited(limit));
                    }
                }
            }
        }
    }

    fn exceeded(&self, limits: &Limits) -> Option<Limit> {
        let counters = self.group.as_ref()?.sample().ok()?;
        if counters.oom_kills > 0 {
            return Some(Limit::Memory);
        }
        (counters.cpu >= limits.cpu_time).then_some(Limit::CpuTime)
    }

    /// Ends init, and with its pid namespace everything in it. Where there is none, `reap` ends the rest.
    fn kill(&self, pidfd: &OwnedFd) {
        let _ = sys::pidfd_signal(pidfd.as_fd(), libc::SIGKILL);
    }

    /// Reaps init: on return every process of its pid namespace is reaped too; see pid_namespaces(7).
    fn reap(&self, init: Pid) -> (WaitStatus, Duration) {
        let (status, cpu) = match sys::wait(init, true) {
            Ok(Some((_, status, cpu))) => (status, cpu),
            _ => (WaitStatus::Signaled(libc::SIGKILL), Duration::ZERO),
        };
        if self.level == Level::Landlock {
            // We are the subreaper of what init has left behind.
            tree::end_descendants();
        }
        (status, cpu)
    }

    /// INVARIANT (nothing is left): the cell is the only process of its group, and has no child.
    fn everything_is_gone(&self, counters: Option<&Counters>) -> bool {
        let childless =
            matches!(sys::wait(-1, false), Err(error) if error.raw_os_error() == Some(libc::ECHILD));
        let alone = self.group.is_none() || counters.is_some_and(|counters| counters.processes_now <= 1);
        childless && alone
    }

    fn empty_host_workspace(&self) -> bool {
        let Some(workspace) = &self.host_workspace else { return true };
        removal::empty(workspace).is_ok()
    }
}

/// Returns when a time is over that may be longer than any clock counts.
fn after(start: Instant, time: Duration) -> Instant {
    /// Some three years.
    const LONG: Duration = Duration::from_secs(100_000_000);
    start + time.min(LONG)
}

/// A line and what was made ready for it.
struct Line<'a> {
    plan: &'a Plan,
    programs: &'a Programs,
    ready: &'a [Ready],
    mounts: &'a [ViewPath],
    writable: &'a [ViewPath],
    parts: &'a PrivateParts<'a>,
}

/// How an execution ended.
struct End {
    watched: Watched,
    status: WaitStatus,
    /// What the kernel counted for init and what it had reaped.
    cpu: Duration,
    report: Option<Report>,
    began: Instant,
    /// Whether nothing of the line had to wait for what it does itself; see [`ready::is_plain`].
    is_plain: bool,
}

/// Standard streams of an execution, as the server gave them, and its gate.
struct Streams {
    output: OwnedFd,
    error: OwnedFd,
    input: Option<OwnedFd>,
    gate: Option<OwnedFd>,
}

fn take_streams(descriptors: Vec<OwnedFd>, stdin: bool, gated: bool) -> Option<Streams> {
    let mut given = descriptors.into_iter();
    let streams = Streams {
        output: given.next()?,
        error: given.next()?,
        input: if stdin { Some(given.next()?) } else { None },
        gate: if gated { Some(given.next()?) } else { None },
    };
    given.next().is_none().then_some(streams)
}

/// How the wait for init ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Watched {
    EndedByItself,
    Stopped(Ended),
    LinkEnded,
    /// The launcher has ended.
    Orphaned,
}

/// Says how the execution ended. Only the service's own counters say that a limit did it; what the line says
/// of itself (an exit code of 137, a signal) stays what it is.
fn conclude(
    plan: &Plan,
    watched: Watched,
    report: Option<Report>,
    status: WaitStatus,
    counters: Option<&Counters>,
    usage: Usage,
) -> Answer {
    let out_of_memory = counters.is_some_and(|counters| counters.oom_kills > 0);
    let refused_processes = counters.is_some_and(|counters| counters.pids_refused > 0);
    let ended = match (watched, report) {
        (_, Some(Report::Refused(step))) => return Answer::Refused(Refused::Step(step)),
        (_, Some(Report::CalledOff)) => return Answer::Refused(Refused::CalledOff),
        (_, Some(Report::NotExecuted { command, errno })) => {
            let name = plan.script.commands().nth(command).map_or("the command", |it| it.program.as_str());
            let step = StepError { step: format!("execute {name}").into(), errno };
            return Answer::Refused(Refused::Step(step));
        }
        (Watched::Stopped(ended), _) => ended,
        (Watched::Orphaned, _) => {
            return Answer::Broken(StepError { step: "the launcher has ended".into(), errno: libc::ECHILD });
        }
        _ if out_of_memory => Ended::Limited(Limit::Memory),
        (_, Some(Report::Broken(step))) => return Answer::Broken(step),
        (_, Some(Report::Exited(code))) if code != 0 && refused_processes => Ended::Limited(Limit::Processes),
        (_, Some(Report::Exited(code))) => Ended::Exited(code),
        (_, Some(Report::Signaled(libc::SIGXFSZ))) => Ended::Limited(Limit::FileSize),
        (_, Some(Report::Signaled(libc::SIGXCPU))) => Ended::Limited(Limit::CpuTime),
        (_, Some(Report::Signaled(signal))) => Ended::Signaled(signal),
        (_, None) => match status {
            WaitStatus::Signaled(signal) => Ended::Signaled(signal),
            WaitStatus::Exited(_) => {
                return Answer::Broken(StepError {
                    step: "report of the execution".into(),
                    errno: libc::EPROTO,
                });
            }
        },
    };
    Answer::Ended { ended, usage }
}

fn read_report(report: OwnedFd) -> Option<Report> {
    const MOST: u64 = 16 * 1024;
    let mut bytes = Vec::new();
    std::fs::File::from(report).take(MOST).read_to_end(&mut bytes).ok()?;
    wire::decode(&bytes).ok()
}

/// Makes a program view from the base, and stays in it.
fn make_view(base: &OwnedFd, programs: &Programs) -> Result<OwnedFd, StepError> {
    sys::set_namespace(base.as_fd(), libc::CLONE_NEWNS).at("view: enter base")?;
    sys::unshare(libc::CLONE_NEWNS).at("view: copy base")?;
    let directories: BTreeSet<&Path> =
        programs.values().flat_map(|program| &program.modules).map(PathBuf::as_path).collect();
    // A library in a module directory comes with that.
    let files: BTreeSet<&Path> = programs
        .values()
        .flat_map(|program| program.executed.iter().chain(&program.mapped))
        .map(PathBuf::as_path)
        .filter(|file| !directories.iter().any(|directory| file.starts_with(directory)))
        .collect();
    view::make_executable(files.into_iter(), directories.into_iter())?;
    own_mount_namespace()
}

/// Opens the mount namespace that this process is in.
pub(crate) fn own_mount_namespace() -> Result<OwnedFd, StepError> {
    sys::open_at(None, c"/proc/self/ns/mnt", libc::O_RDONLY, 0).at("view: remember")
}

/// Says whether an error means that the host refuses namespaces, rather than that something is broken.
pub(crate) fn is_refusal(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EPERM | libc::EACCES | libc::ENOSYS | libc::EINVAL | libc::ENOSPC | libc::EUSERS)
    )
}
