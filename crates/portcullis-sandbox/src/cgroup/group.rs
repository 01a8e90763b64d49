//! One group: limits, counters and the end of everything in it.

use std::cell::Cell;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use portcullis_core::Limits;

use super::Version;
use super::leftovers::remove_group;
use super::root::write_to;
use crate::layers::is_gone;
use crate::sys::SharedNumber;

/// Processes of ours in a group beside the execution's: the cell, and the execution's first process.
const OWN_PROCESSES: u64 = 2;
/// As much of a file of the kernel as is looked at; all of ours are far shorter.
const MAX_BYTES: usize = 4096;
/// How often, and how far apart, a kill is repeated until a group is empty.
const KILLS: u32 = 500;
const KILL_PAUSE: Duration = Duration::from_millis(2);

/// The directories of a group. In version 2 all are the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Directories {
    pub(super) memory: PathBuf,
    pub(super) pids: PathBuf,
    pub(super) cpu: PathBuf,
    /// Where the processors are shared out, if they are.
    pub(super) share: Option<PathBuf>,
    pub(super) freezer: Option<PathBuf>,
}

impl Directories {
    pub(super) fn unified(directory: PathBuf) -> Self {
        Self {
            memory: directory.clone(),
            pids: directory.clone(),
            cpu: directory,
            share: None,
            freezer: None,
        }
    }

    pub(super) fn beneath(&self, name: &str) -> Self {
        Self {
            memory: self.memory.join(name),
            pids: self.pids.join(name),
            cpu: self.cpu.join(name),
            share: self.share.as_ref().map(|directory| directory.join(name)),
            freezer: self.freezer.as_ref().map(|directory| directory.join(name)),
        }
    }

    /// Visits each directory once: controllers may share one.
    pub(super) fn distinct(&self) -> Vec<&Path> {
        let all = [
            Some(&self.memory),
            Some(&self.pids),
            Some(&self.cpu),
            self.share.as_ref(),
            self.freezer.as_ref(),
        ];
        let mut distinct: Vec<&Path> = Vec::new();
        for directory in all.into_iter().flatten() {
            if !distinct.contains(&directory.as_path()) {
                distinct.push(directory);
            }
        }
        distinct
    }
}

/// What an execution has used since [`Group::reset`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Counters {
    /// CPU time of all processes, ended ones included.
    pub(crate) cpu: Duration,
    /// The most memory at once. Version 2 before Linux 6.12 cannot reset its mark: then, and when the mark did not
    /// rise, it is the most that a look at the counters has found.
    pub(crate) peak_memory_bytes: Option<u64>,
    /// Processes that the kernel killed for memory.
    pub(crate) oom_kills: u64,
    /// Times that a process was refused at the limit.
    pub(crate) pids_refused: u64,
    /// Processes and threads now, the cell's own included.
    pub(crate) processes_now: u64,
}

/// Running totals of a group, from which counters are differences.
#[derive(Debug, Clone, Copy, Default)]
struct Totals {
    oom_kills: u64,
    pids_refused: u64,
}

/// What can be said of the peak of memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Peak {
    /// The kernel's mark begins at the last reset.
    Reset,
    /// The mark could not be reset and stood here: only a higher one is this execution's.
    Since(u64),
}

impl Peak {
    /// Returns the most memory since the last reset. Where the kernel's mark does not tell, that is the most that
    /// was ever `seen`, which the true peak may exceed.
    fn bytes(self, mark: Option<u64>, seen: u64) -> u64 {
        match (self, mark) {
            (Self::Reset, Some(mark)) => mark,
            (Self::Since(before), Some(mark)) if mark > before => mark,
            (Self::Reset | Self::Since(_), _) => seen,
        }
    }
}

/// A group, by its open files. The one that made it removes it when dropped; a shared one does not.
#[derive(Debug)]
pub(crate) struct Group {
    version: Version,
    files: Files,
    /// Where it is, for who made it.
    directories: Option<Directories>,
    /// The process that made it: a fork of it must not take the group away.
    made_by: u32,
    base: Totals,
    /// CPU time at the last reset, in nanoseconds, of whoever did it: known to all holds.
    base_cpu: Arc<SharedNumber>,
    peak: Peak,
    /// The most memory that a look at the counters has found, for kernels whose mark cannot be reset.
    seen_memory: Cell<u64>,
    /// What the last look since the last reset has found.
    seen: Cell<Option<Totals>>,
}

#[derive(Debug)]
struct Files {
    memory_limit: File,
    /// Version 1: memory and swap together.
    memory_and_swap_limit: Option<File>,
    memory_now: File,
    memory_peak: Option<File>,
    memory_events: File,
    pids_limit: File,
    pids_now: File,
    pids_events: Option<File>,
    cpu: File,
    /// Version 2, since Linux 5.19: gives memory back on demand.
    memory_reclaim: Option<File>,
}

impl Group {
    /// Makes the directories, opens the files and sets the limits. Of the processors, every group has the same share as
    /// any other, however many processes it has, and uses at most so many thousandths of one.
    pub(super) fn make(
        version: Version,
        directories: Directories,
        limits: &Limits,
        cpu_thousandths: Option<u32>,
    ) -> io::Result<Self> {
        let mut made: Vec<PathBuf> = Vec::new();
        let group = directories
            .distinct()
            .into_iter()
            .try_for_each(|directory| fs::create_dir(directory).map(|()| made.push(directory.to_owned())))
            .and_then(|()| match (&directories.share, cpu_thousandths) {
                (Some(share), Some(thousandths)) => bound_processors(version, share, thousandths),
                _ => Ok(()),
            })
            .and_then(|()| Self::open(version, directories));
        match group {
            Ok(mut group) => {
                // From here on dropping it takes it away.
                group.set_limits(limits)?;
                group.reset()?;
                Ok(group)
            }
            Err(error) => {
                for directory in made {
                    let _ = fs::remove_dir(directory);
                }
                Err(error)
            }
        }
    }

    /// Opens the files of a group that is there.
    pub(super) fn open(version: Version, directories: Directories) -> io::Result<Self> {
        let Directories { memory, pids, cpu, .. } = &directories;
        let files = match version {
            Version::V2 => {
                if !is_gone("memory.swap.max") {
                    optional(write_to(&memory.join("memory.swap.max"), "0"))?;
                }
                // Since Linux 4.19. What is short of memory ends as a whole, the cell included; see `oom`.
                optional(write_to(&memory.join("memory.oom.group"), "1"))?;
                Files {
                    memory_limit: write(&memory.join("memory.max"))?,
                    memory_and_swap_limit: None,
                    memory_now: read(&memory.join("memory.current"))?,
                    memory_peak: optional(open_peak(&memory.join("memory.peak")))?,
                    memory_events: read(&memory.join("memory.events"))?,
                    pids_limit: write(&pids.join("pids.max"))?,
                    pids_now: read(&pids.join("pids.current"))?,
                    pids_events: optional(read(&pids.join("pids.events")))?,
                    cpu: read(&cpu.join("cpu.stat"))?,
                    memory_reclaim: optional(write(&memory.join("memory.reclaim")))?,
                }
            }
            Version::V1 => {
                if !is_gone("memory.swappiness") {
                    optional(write_to(&memory.join("memory.swappiness"), "0"))?;
                }
                Files {
                    memory_limit: write(&memory.join("memory.limit_in_bytes"))?,
                    memory_and_swap_limit: optional(write(&memory.join("memory.memsw.limit_in_bytes")))?,
                    memory_now: read(&memory.join("memory.usage_in_bytes"))?,
                    memory_peak: optional(open_peak(&memory.join("memory.max_usage_in_bytes")))?,
                    memory_events: read(&memory.join("memory.oom_control"))?,
                    pids_limit: write(&pids.join("pids.max"))?,
                    pids_now: read(&pids.join("pids.current"))?,
                    pids_events: optional(read(&pids.join("pids.events")))?,
                    cpu: read(&cpu.join("cpuacct.usage"))?,
                    memory_reclaim: None,
                }
            }
        };
        let (base, peak, seen_memory) = (Totals::default(), Peak::Since(0), Cell::new(0));
        Ok(Self {
            version,
            files,
            directories: Some(directories),
            made_by: std::process::id(),
            base,
            base_cpu: Arc::new(SharedNumber::new()?),
            peak,
            seen_memory,
            seen: Cell::default(),
        })
    }

    /// Returns a second hold on the open files, for the cell. It sets limits and reads counters, and can neither
    /// move a process nor remove the group.
    ///
    /// # Errors
    /// When there are no descriptors left.
    pub(crate) fn share(&self) -> io::Result<Self> {
        let again = |file: &Option<File>| file.as_ref().map(File::try_clone).transpose();
        let Files { memory_limit, memory_now, memory_events, pids_limit, pids_now, cpu, .. } = &self.files;
        Ok(Self {
            version: self.version,
            files: Files {
                memory_limit: memory_limit.try_clone()?,
                memory_and_swap_limit: again(&self.files.memory_and_swap_limit)?,
                memory_now: memory_now.try_clone()?,
                memory_peak: again(&self.files.memory_peak)?,
                memory_events: memory_events.try_clone()?,
                pids_limit: pids_limit.try_clone()?,
                pids_now: pids_now.try_clone()?,
                pids_events: again(&self.files.pids_events)?,
                cpu: cpu.try_clone()?,
                memory_reclaim: again(&self.files.memory_reclaim)?,
            },
            directories: None,
            made_by: self.made_by,
            base: self.base,
            base_cpu: Arc::clone(&self.base_cpu),
            peak: self.peak,
            seen_memory: self.seen_memory.clone(),
            seen: Cell::default(),
        })
    }

    /// Returns the numbers of the open files, for who closes all others.
    pub(crate) fn descriptors(&self) -> Vec<RawFd> {
        let files = &self.files;
        let always = [
            &files.memory_limit,
            &files.memory_now,
            &files.memory_events,
            &files.pids_limit,
            &files.pids_now,
            &files.cpu,
        ];
        let sometimes =
            [&files.memory_and_swap_limit, &files.memory_peak, &files.pids_events, &files.memory_reclaim];
        always.into_iter().chain(sometimes.into_iter().flatten()).map(AsRawFd::as_raw_fd).collect()
    }

    /// Moves a process with all its threads into the group.
    ///
    /// # Errors
    /// When the kernel refuses, or this hold is a shared one.
    pub(crate) fn attach(&self, pid: i32) -> io::Result<()> {
        if is_gone("cgroup.procs") {
            return Ok(());
        }
        let directories = self.directories.as_ref().ok_or_else(shared)?;
        for directory in directories.distinct() {
            write_to(&directory.join("cgroup.procs"), &pid.to_string())?;
        }
        Ok(())
    }

    /// Sets the limits of memory and of processes; the latter leaves room for the cell's own.
    ///
    /// # Errors
    /// When the kernel refuses one, as it does when more is in use than can be given back.
    pub(crate) fn set_limits(&mut self, limits: &Limits) -> io::Result<()> {
        let bytes = limits.memory_bytes.to_string();
        self.make_room(limits.memory_bytes)?;
        match &self.files.memory_and_swap_limit {
            _ if is_gone("memory.max") => {}
            Some(_) if is_gone("memory.swap.max") => set(&self.files.memory_limit, &bytes)?,
            None => set(&self.files.memory_limit, &bytes)?,
            // The limit of both is never below that of memory: on the way down memory goes first, on the way up
            // it is the other way round.
            Some(both) => {
                let first = set(&self.files.memory_limit, &bytes);
                set(both, &bytes)?;
                if first.is_err() {
                    set(&self.files.memory_limit, &bytes)?;
                }
            }
        }
        if is_gone("pids.max") {
            return Ok(());
        }
        set(&self.files.pids_limit, &(u64::from(limits.processes) + OWN_PROCESSES).to_string())
    }

    /// Version 2 answers a limit below what is in use by killing, the cell first of all. So what earlier
    /// executions have left in caches is given back before, and a limit that is too small all the same refused.
    fn make_room(&self, bytes: u64) -> io::Result<()> {
        let Some(reclaim) = &self.files.memory_reclaim else { return Ok(()) };
        let too_much = number(&self.files.memory_now)?.saturating_sub(bytes);
        if too_much == 0 {
            return Ok(());
        }
        // EAGAIN when less came back than was asked for; what counts is what is in use now.
        let _ = set(reclaim, &too_much.to_string());
        if number(&self.files.memory_now)? > bytes {
            Err(io::Error::from_raw_os_error(libc::ENOMEM))
        } else {
            Ok(())
        }
    }

    /// Begins an execution: counters count from here.
    ///
    /// # Errors
    /// When the counters cannot be read.
    pub(crate) fn reset(&mut self) -> io::Result<()> {
        // What was refused before stays counted as the last look found it: between executions nothing is.
        self.base = match self.seen.take() {
            Some(totals) => totals,
            None => self.totals()?,
        };
        self.base_cpu.set(u64::try_from(self.cpu()?.as_nanos()).unwrap_or(u64::MAX));
        self.seen_memory.set(0);
        self.peak = match &self.files.memory_peak {
            Some(peak) if set(peak, "0").is_ok() => Peak::Reset,
            Some(peak) => Peak::Since(number(peak)?),
            None => Peak::Since(0),
        };
        Ok(())
    }

    /// Reads the counters since the last reset.
    ///
    /// # Errors
    /// When they cannot be read.
    pub(crate) fn sample(&self) -> io::Result<Counters> {
        let totals = self.totals()?;
        self.seen.set(Some(totals));
        let base_cpu = Duration::from_nanos(self.base_cpu.get());
        let now = number(&self.files.memory_now)?;
        self.seen_memory.set(self.seen_memory.get().max(now));
        let mark = self.files.memory_peak.as_ref().map(number).transpose()?;
        let peak_memory_bytes = Some(self.peak.bytes(mark, self.seen_memory.get()));
        Ok(Counters {
            cpu: self.cpu()?.saturating_sub(base_cpu),
            peak_memory_bytes,
            oom_kills: totals.oom_kills.saturating_sub(self.base.oom_kills),
            pids_refused: totals.pids_refused.saturating_sub(self.base.pids_refused),
            processes_now: number(&self.files.pids_now)?,
        })
    }

    fn totals(&self) -> io::Result<Totals> {
        let pids_refused = match &self.files.pids_events {
            Some(file) => keyed(&text(file)?, "max")?,
            None => 0,
        };
        // Before Linux 4.13 there was no such count.
        let oom_kills = keyed(&text(&self.files.memory_events)?, "oom_kill").unwrap_or(0);
        Ok(Totals { oom_kills, pids_refused })
    }

    /// Returns the CPU time of all that ever was in the group.
    fn cpu(&self) -> io::Result<Duration> {
        Ok(match self.version {
            _ if is_gone("cpu.stat") => Duration::ZERO,
            Version::V2 => Duration::from_micros(keyed(&text(&self.files.cpu)?, "usage_usec")?),
            Version::V1 => Duration::from_nanos(number(&self.files.cpu)?),
        })
    }

    /// Returns the processes of the group, by their numbers in our pid namespace. Opens the file anew: version 1
    /// answers from a list up to a second old when an open file is read again.
    fn processes(&self) -> io::Result<Vec<i32>> {
        let directories = self.directories.as_ref().ok_or_else(shared)?;
        let text = fs::read_to_string(directories.pids.join("cgroup.procs"))?;
        Ok(text.split_whitespace().filter_map(|word| word.parse().ok()).collect())
    }

    /// Ends every process of the group, the cell included, and returns when none is left. Where the kernel has
    /// no call for that, `signal` is given the number of each to send `SIGKILL` to; the group is frozen around
    /// it where it can be, so that nothing forks and no number comes to mean another process.
    ///
    /// # Errors
    /// When the group cannot be read, is a shared hold, or does not become empty within a second or so.
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "for the launcher, when a cell died and left something")
    )]
    pub(crate) fn kill_all(&self, mut signal: impl FnMut(i32)) -> io::Result<()> {
        let directories = self.directories.as_ref().ok_or_else(shared)?;
        // Since Linux 5.14, in version 2 alone.
        let at_once = self.version == Version::V2
            && optional(write_to(&directories.memory.join("cgroup.kill"), "1"))?.is_some();
        for round in 0..KILLS {
            let left = self.processes()?;
            if left.is_empty() {
                return Ok(());
            }
            if !at_once {
                let freezer = directories.freezer.as_deref();
                if let Some(freezer) = freezer {
                    freeze(freezer);
                }
                self.processes()?.into_iter().for_each(&mut signal);
                if let Some(freezer) = freezer {
                    let _ = write_to(&freezer.join("freezer.state"), "THAWED");
                }
            }
            if round > 0 {
                thread::sleep(KILL_PAUSE);
            }
        }
        Err(io::Error::from_raw_os_error(libc::EBUSY))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if self.made_by != std::process::id() {
            return;
        }
        for directory in self.directories.iter().flat_map(Directories::distinct) {
            // What does not go is found by the next start.
            let _ = remove_group(directory);
        }
    }
}

/// Freezes a group of version 1, and waits a moment until it is.
fn freeze(freezer: &Path) {
    let state = freezer.join("freezer.state");
    for _ in 0..20 {
        let frozen = write_to(&state, "FROZEN").and_then(|()| fs::read_to_string(&state));
        match frozen {
            Ok(text) if text.trim() != "FROZEN" => thread::sleep(KILL_PAUSE),
            // Frozen, or not to be frozen: signals are sent in any case.
            _ => return,
        }
    }
}

fn shared() -> io::Error {
    io::Error::from_raw_os_error(libc::EPERM)
}

fn read(path: &Path) -> io::Result<File> {
    File::open(path)
}

/// Bounds how much of the processors a group uses in each period of 100 ms. See sched-bwc.rst, cgroup-v2.rst of the
/// kernel.
fn bound_processors(version: Version, directory: &Path, thousandths: u32) -> io::Result<()> {
    const PERIOD: u64 = 100_000;
    // The kernel takes no less than a millisecond.
    let quota = (u64::from(thousandths) * PERIOD / 1000).max(1000);
    match version {
        Version::V1 => {
            write_to(&directory.join("cpu.cfs_period_us"), &PERIOD.to_string())?;
            write_to(&directory.join("cpu.cfs_quota_us"), &quota.to_string())
        }
        Version::V2 => write_to(&directory.join("cpu.max"), &format!("{quota} {PERIOD}")),
    }
}

fn write(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).open(path)
}

/// Opens a mark of memory: for writing too where the kernel lets it be reset (version 2: Linux 6.12).
fn open_peak(path: &Path) -> io::Result<File> {
    match OpenOptions::new().read(true).write(true).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(error),
        Err(_) => File::open(path),
        Ok(file) => Ok(file),
    }
}

/// Turns the absence of a file, which an older kernel does not have, into `None`.
fn optional<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn set(file: &File, value: &str) -> io::Result<()> {
    file.write_all_at(value.as_bytes(), 0)
}

/// Reads a short file from its beginning: one read is one consistent answer.
fn text(file: &File) -> io::Result<String> {
    let mut buffer = [0; MAX_BYTES];
    let read = file.read_at(&mut buffer, 0)?;
    Ok(String::from_utf8_lossy(buffer.get(..read).unwrap_or_default()).into_owned())
}

fn number(file: &File) -> io::Result<u64> {
    text(file)?.trim().parse().map_err(|_| io::Error::from_raw_os_error(libc::EBADMSG))
}

/// Finds `KEY NUMBER` among lines.
fn keyed(text: &str, key: &str) -> io::Result<u64> {
    text.lines()
        .filter_map(|line| line.split_once(' '))
        .find_map(|(known, value)| (known == key).then(|| value.trim().parse().ok())?)
        .ok_or_else(|| io::Error::from_raw_os_error(libc::EBADMSG))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_that_cannot_be_reset_counts_only_when_it_rises() {
        for (peak, mark, seen, wanted) in [
            (Peak::Reset, Some(10), 7, 10),
            (Peak::Since(10), Some(12), 7, 12),
            (Peak::Since(10), Some(10), 7, 7),
            (Peak::Since(0), None, 7, 7),
        ] {
            assert_eq!(peak.bytes(mark, seen), wanted, "{peak:?} {mark:?} {seen}");
        }
    }
}
