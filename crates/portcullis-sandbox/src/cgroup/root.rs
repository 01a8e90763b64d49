//! The group that holds all others of ours.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;

use portcullis_core::Limits;

use super::Version;
use super::group::{Directories, Group};
use super::leftovers::{self, Leftovers, PREFIX};
use super::places::{self, Places};
use crate::layers::is_gone;

/// Why there are no control groups to use here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Absent(pub(super) String);

/// Who we are, for what depends on it.
pub(super) struct Ourselves {
    pub(super) pid: u32,
    /// Every process of the service: this one, and its parent when that is the server.
    pub(super) processes: Vec<u32>,
}

/// The group that holds those of the cells. Removed when dropped, as far as it is empty.
#[derive(Debug)]
pub(crate) struct Root {
    version: Version,
    directories: Directories,
    leftovers: Leftovers,
    /// How much of the processors a group may use.
    cpu_thousandths: Option<u32>,
    /// The process that made it: a fork of it must not take the group away.
    made_by: u32,
}

impl Root {
    /// Finds what the host offers, takes away what earlier lives have left, and makes our group.
    ///
    /// # Errors
    /// When the host offers nothing that we may use, with the reason for each version.
    pub(crate) fn make(with_server: bool, cpu_thousandths: Option<u32>) -> Result<Self, Absent> {
        if is_gone("control groups") {
            return Err(Absent("taken away".into()));
        }
        let read = |path: &str| {
            fs::read_to_string(path).map_err(|error| Absent(format!("could not read `{path}`: {error}")))
        };
        let places = places::read(&read("/proc/self/mountinfo")?, &read("/proc/self/cgroup")?);
        let mut root = Self::make_at(&places, &ourselves(with_server), &|_| Ok(()))?;
        root.cpu_thousandths = cpu_thousandths;
        Ok(root)
    }

    /// `made` is told each directory that was made: where the kernel fills it with files, a test does.
    pub(super) fn make_at(
        places: &Places,
        ourselves: &Ourselves,
        made: &dyn Fn(&Path) -> io::Result<()>,
    ) -> Result<Self, Absent> {
        let unified = Self::make_v2(places, ourselves, made);
        let Err(Absent(of_v2)) = unified else { return unified };
        Self::make_v1(places, ourselves, made).map_err(|Absent(of_v1)| Absent(format!("{of_v2}; {of_v1}")))
    }

    fn make_v1(
        places: &Places,
        ourselves: &Ourselves,
        made: &dyn Fn(&Path) -> io::Result<()>,
    ) -> Result<Self, Absent> {
        let (Some(memory), Some(pids), Some(cpu)) = (&places.memory, &places.pids, &places.cpuacct) else {
            return Err(Absent("version 1 lacks one of `memory`, `pids` and `cpuacct`".into()));
        };
        let mut leftovers = Leftovers::default();
        for place in [memory, pids, cpu].into_iter().chain(&places.cpu).chain(&places.freezer) {
            leftovers::remove(place, ourselves.pid, &mut leftovers);
        }
        let own = name(ourselves.pid);
        let mut directories = Directories {
            memory: memory.join(&own),
            pids: pids.join(&own),
            cpu: cpu.join(&own),
            share: None,
            freezer: places.freezer.as_ref().map(|place| place.join(&own)),
        };
        let make = |directory: &Path| fs::create_dir(directory).and_then(|()| made(directory));
        let freezer = directories.freezer.take();
        let mut ready: Vec<&Path> = Vec::new();
        for directory in directories.distinct() {
            if let Err(error) = make(directory) {
                for directory in ready {
                    let _ = fs::remove_dir(directory);
                }
                return Err(Absent(format!("version 1: could not make `{}`: {error}", directory.display())));
            }
            ready.push(directory);
        }
        // Often one hierarchy with `cpuacct`. The service runs without.
        let share = places.cpu.as_ref().map(|place| place.join(&own));
        directories.share = share.filter(|share| *share == directories.cpu || make(share).is_ok());
        // Only makes a kill surer, so it may be missing.
        directories.freezer = freezer.filter(|directory| make(directory).is_ok());
        // Without this, what groups beneath use is not counted here; since Linux 5.11 it is always so.
        let _ = write_to(&directories.memory.join("memory.use_hierarchy"), "1");
        Ok(Self {
            version: Version::V1,
            directories,
            leftovers,
            cpu_thousandths: None,
            made_by: std::process::id(),
        })
    }

    fn make_v2(
        places: &Places,
        ourselves: &Ourselves,
        made: &dyn Fn(&Path) -> io::Result<()>,
    ) -> Result<Self, Absent> {
        let place = places.unified.as_deref().ok_or_else(|| Absent("version 2 is not mounted".into()))?;
        let failed = |what: &str, error: io::Error| {
            Absent(format!("version 2: could not {what} in `{}`: {error}", place.display()))
        };
        let read = |file: &str| fs::read_to_string(place.join(file));
        let offered = read("cgroup.controllers").map_err(|error| failed("read the controllers", error))?;
        for controller in ["memory", "pids"] {
            if !words(&offered).any(|word| word == controller) {
                return Err(Absent(format!(
                    "version 2 offers no `{controller}` in `{}`: delegate it (systemd: `Delegate=yes`)",
                    place.display()
                )));
            }
        }
        let mut leftovers = Leftovers::default();
        leftovers::remove(place, ourselves.pid, &mut leftovers);

        let own = place.join(name(ourselves.pid));
        let make = |directory: &Path| fs::create_dir(directory).and_then(|()| made(directory));
        make(&own).map_err(|error| {
            let Absent(problem) = failed("make a group", error);
            Absent(format!("{problem}: give the service a group that it may write (systemd: `Delegate=yes`)"))
        })?;
        let enabled = enable_in(place).or_else(|refusal| {
            // EBUSY: a group with processes hands no controllers down, unless it is the root of all.
            if refusal.raw_os_error() != Some(libc::EBUSY) {
                return Err(failed("enable `memory` and `pids`", refusal));
            }
            move_into_leaf(place, &own, ourselves, &make)
        });
        let enabled = enabled.and_then(|()| {
            enable_in(&own).map_err(|error| failed("enable `memory` and `pids` of our group", error))
        });
        if let Err(problem) = enabled {
            move_out_of_leaf(place, &own);
            let _ = fs::remove_dir(&own);
            return Err(problem);
        }
        // The service runs without.
        let shared = words(&offered).any(|word| word == "cpu")
            && hand_down_processors(place).is_ok()
            && hand_down_processors(&own).is_ok();
        if shared {
            // Cells, however many, leave the service enough to answer.
            let _ = write_to(&own.join(LEAF).join("cpu.weight"), SERVICE_WEIGHT);
        }
        let share = shared.then(|| own.clone());
        let directories = Directories { share, ..Directories::unified(own) };
        Ok(Self {
            version: Version::V2,
            directories,
            leftovers,
            cpu_thousandths: None,
            made_by: std::process::id(),
        })
    }

    /// Returns which kind of control groups these are.
    pub(crate) fn version(&self) -> Version {
        self.version
    }

    /// Whether each group has a share of the processors.
    pub(crate) fn shares_processors(&self) -> bool {
        self.directories.share.is_some()
    }

    /// Returns what was found of earlier lives.
    pub(crate) fn leftovers(&self) -> &Leftovers {
        &self.leftovers
    }

    /// Returns the directories that it is.
    #[cfg(test)]
    pub(super) fn directories(&self) -> Vec<std::path::PathBuf> {
        self.directories.distinct().into_iter().map(Path::to_owned).collect()
    }

    /// Makes a group with these limits. `name` is one component of a path.
    ///
    /// # Errors
    /// When the kernel refuses the group or one of its limits; then no group is left.
    pub(crate) fn group(&mut self, name: &str, limits: &Limits) -> io::Result<Group> {
        if name.is_empty() || name.contains('/') || name.starts_with('.') {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        Group::make(self.version, self.directories.beneath(name), limits, self.cpu_thousandths)
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        if self.made_by != std::process::id() {
            return;
        }
        let own = &self.directories.memory;
        if let (Version::V2, Some(place)) = (self.version, own.parent()) {
            move_out_of_leaf(place, own);
        }
        for directory in self.directories.distinct() {
            // What is not empty is found by the next start.
            let _ = fs::remove_dir(directory);
        }
    }
}

/// The service's share of the processors, where a cell has the kernel's default of 100.
const SERVICE_WEIGHT: &str = "1000";
/// The leaf that the service's own processes move into.
const LEAF: &str = "service";

/// Moves our processes out of the way when all that are in `place` are ours, and enables the controllers there.
fn move_into_leaf(
    place: &Path,
    own: &Path,
    ourselves: &Ourselves,
    make: &dyn Fn(&Path) -> io::Result<()>,
) -> Result<(), Absent> {
    let failed = |what: &str, error: io::Error| {
        Absent(format!("version 2: could not {what} in `{}`: {error}", place.display()))
    };
    let here =
        fs::read_to_string(place.join("cgroup.procs")).map_err(|error| failed("list processes", error))?;
    let here: Vec<u32> = words(&here).filter_map(|word| word.parse().ok()).collect();
    // Process 0 is one that our pid namespace does not show.
    if let Some(stranger) = here.iter().find(|pid| !ourselves.processes.contains(pid)) {
        return Err(Absent(format!(
            "version 2: `{}` also holds process {stranger}, which is not ours, so its controllers cannot be handed \
             down: give the service a group of its own (systemd: a unit with `Delegate=yes`)",
            place.display()
        )));
    }
    let leaf = own.join(LEAF);
    make(&leaf).map_err(|error| failed("make a leaf", error))?;
    for pid in here {
        write_to(&leaf.join("cgroup.procs"), &pid.to_string())
            .map_err(|error| failed("move the service into a leaf", error))?;
    }
    enable_in(place).map_err(|error| failed("enable `memory` and `pids`", error))
}

/// Undoes [`move_into_leaf`], as far as it was done: takes the controllers back, then moves everybody who is in
/// the leaf back. What fails is left to the next start.
fn move_out_of_leaf(place: &Path, own: &Path) {
    let leaf = own.join(LEAF);
    let Ok(processes) = fs::read_to_string(leaf.join("cgroup.procs")) else { return };
    for directory in [own, place] {
        let _ = write_to(&directory.join("cgroup.subtree_control"), "-memory -pids");
        let _ = write_to(&directory.join("cgroup.subtree_control"), "-cpu");
    }
    for pid in words(&processes) {
        let _ = write_to(&place.join("cgroup.procs"), pid);
    }
    let _ = fs::remove_dir(leaf);
}

/// Hands `memory` and `pids` down to the groups beneath, where they are not yet.
fn enable_in(directory: &Path) -> io::Result<()> {
    let file = directory.join("cgroup.subtree_control");
    let enabled = fs::read_to_string(&file)?;
    if ["memory", "pids"].iter().all(|controller| words(&enabled).any(|word| word == *controller)) {
        return Ok(());
    }
    write_to(&file, "+memory +pids")
}

/// Hands `cpu` down, where it is not yet.
fn hand_down_processors(directory: &Path) -> io::Result<()> {
    let file = directory.join("cgroup.subtree_control");
    if words(&fs::read_to_string(&file)?).any(|word| word == "cpu") {
        return Ok(());
    }
    write_to(&file, "+cpu")
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split_whitespace()
}

fn name(pid: u32) -> String {
    format!("{PREFIX}{pid}")
}

/// Writes to a file of the kernel: in one piece, and never makes it.
pub(super) fn write_to(path: &Path, text: &str) -> io::Result<()> {
    OpenOptions::new().write(true).open(path)?.write_all(text.as_bytes())
}

fn ourselves(with_server: bool) -> Ourselves {
    let pid = std::process::id();
    let parent = with_server.then(std::os::unix::process::parent_id);
    Ourselves { pid, processes: std::iter::once(pid).chain(parent).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn try_to_move(processes: &str) -> (String, String, String) {
        let place = tempfile::tempdir().unwrap();
        for (file, text) in [("cgroup.procs", processes), ("cgroup.subtree_control", "")] {
            fs::write(place.path().join(file), text).unwrap();
        }
        let own = place.path().join("portcullis-77");
        fs::create_dir(&own).unwrap();
        let ourselves = Ourselves { pid: 77, processes: vec![77, 70] };
        let make = |leaf: &Path| {
            fs::create_dir(leaf)?;
            fs::write(leaf.join("cgroup.procs"), "")
        };
        let moved = move_into_leaf(place.path(), &own, &ourselves, &make);
        let read = |path: &str| fs::read_to_string(place.path().join(path)).unwrap_or_default();
        let problem = moved.err().map(|Absent(text)| text).unwrap_or_default();
        (problem, read("portcullis-77/service/cgroup.procs"), read("cgroup.subtree_control"))
    }

    #[test]
    fn only_our_own_processes_are_moved_out_of_the_way() {
        let (problem, leaf, control) = try_to_move("70\n77\n");
        // One write each; a plain file keeps the last.
        assert_eq!((problem.as_str(), leaf.as_str(), control.as_str()), ("", "77", "+memory +pids"));
    }

    #[test]
    fn a_group_that_strangers_share_is_left_alone() {
        for (processes, stranger) in [("70\n77\n99\n", "99"), ("0\n77\n", "0")] {
            let (problem, leaf, control) = try_to_move(processes);
            assert!(
                problem.contains(&format!("also holds process {stranger}, which is not ours")),
                "{problem}"
            );
            assert_eq!((leaf.as_str(), control.as_str()), ("", ""));
        }
    }
}
