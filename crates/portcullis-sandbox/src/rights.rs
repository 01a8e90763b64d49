//! Turns the rights of one command into a Landlock ruleset.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use portcullis_core::{Plan, Rights, SimpleCommand, ViewPath};

use crate::landlock::{self, Ruleset};
use crate::programs::Programs;

/// Directories of every view that hold nothing of the host's users; every command may read them.
pub(crate) const COMMON: [&str; 10] =
    ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/etc", "/proc", "/dev"];
/// At level `landlock` the view is the host's own: of `/etc` only what the loader needs may be read, of `/proc`
/// only the command itself, of `/dev` only devices without a state.
pub(crate) const COMMON_ON_THE_HOST: [&str; 13] = [
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/etc/ld.so.cache",
    "/etc/alternatives",
    "/dev/null",
    "/dev/zero",
    "/dev/random",
    "/dev/urandom",
];
/// Devices that swallow what is written to them.
pub(crate) const SINKS: [&str; 3] = ["/dev/null", "/dev/zero", "/dev/full"];

/// Where the command will run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum View<'a> {
    /// In a mount view of our own making, with these mounts of the configuration.
    Own {
        /// Where they appear.
        mounts: &'a [ViewPath],
    },
    /// On the host's own files.
    Host {
        /// What the workspace of the permit stands for.
        workspace: &'a Path,
        /// Directories of the configuration, which are where they are on the host.
        mounts: &'a [ViewPath],
        /// Those of them where permits may give the right to write; elsewhere nothing is mounted read-only.
        writable: &'a [ViewPath],
    },
}

/// What every command may read or write in every view of a cell, opened once: the view's own directories and devices do
/// not change in its life.
#[derive(Debug)]
pub(crate) struct Common(Vec<(OwnedFd, u64)>);

impl Common {
    /// Opens what is there.
    pub(crate) fn open(view: View<'_>) -> io::Result<Self> {
        let common: &[&str] = match view {
            View::Own { .. } => &COMMON,
            View::Host { .. } => &COMMON_ON_THE_HOST,
        };
        // Links into what is named anyway need nothing of their own.
        let read = common.iter().filter(|path| !Path::new(path).is_symlink());
        let mut opened = Vec::new();
        for (path, access) in
            read.map(|path| (path, landlock::READ)).chain(SINKS.iter().map(|path| (path, landlock::WRITE)))
        {
            if let Some((fd, access)) = landlock::open(Path::new(path), access)? {
                opened.push((fd, access));
            }
        }
        Ok(Self(opened))
    }
}

/// Makes the ruleset of one command. Paths that do not exist yet may be made where the command may write: the
/// nearest directory above that exists gets the right, as long as it lies in the workspace or a mount.
pub(crate) fn ruleset(
    abi: u32,
    view: View<'_>,
    common: &Common,
    plan: &Plan,
    programs: &Programs,
    command: &SimpleCommand,
) -> io::Result<Ruleset> {
    let ruleset = Ruleset::new(abi)?;
    for (opened, access) in &common.0 {
        ruleset.allow_opened(opened.as_fd(), *access)?;
    }
    for name in std::iter::once(&command.program).chain(&command.rights.execute) {
        if let Some(program) = programs.get(name) {
            for file in &program.executed {
                ruleset.allow(file, landlock::EXECUTE | landlock::READ_FILE)?;
            }
        }
    }
    let Rights { read, write, delete, .. } = &command.rights;
    for path in read {
        for place in view.places_to_read(path, &plan.workspace) {
            ruleset.allow(&place, landlock::READ)?;
        }
    }
    for path in write {
        if let Some(place) = view.place_to_write(path, &plan.workspace) {
            ruleset.allow(&place, landlock::WRITE)?;
        }
    }
    for path in delete {
        // Removing an entry is a right on the directory that holds it.
        let holder = if view.is_top(path, &plan.workspace) { None } else { path.parent() };
        if let Some(place) = view.place_to_write(holder.as_ref().unwrap_or(path), &plan.workspace) {
            ruleset.allow(&place, landlock::DELETE)?;
        }
    }
    // Who may write may keep temporary files, where these are the execution's own.
    if matches!(view, View::Own { .. }) && !(write.is_empty() && delete.is_empty()) {
        ruleset.allow(Path::new("/tmp"), landlock::READ | landlock::WRITE | landlock::DELETE)?;
    }
    Ok(ruleset)
}

impl View<'_> {
    /// Returns what a right to read a path grants. On the host it is as much as a view would show: what lies
    /// beneath a directory that a view would hold, and of a directory above some those.
    fn places_to_read(self, path: &ViewPath, workspace: &ViewPath) -> Vec<PathBuf> {
        let Self::Host { workspace: host_workspace, mounts, .. } = self else {
            return vec![PathBuf::from(path.as_str())];
        };
        let mut places = Vec::new();
        for top in mounts {
            if path.is_beneath(top) {
                places.push(PathBuf::from(path.as_str()));
            } else if top.is_beneath(path) {
                places.push(PathBuf::from(top.as_str()));
            }
        }
        if path.is_beneath(workspace) {
            places.extend(beneath(host_workspace, path, workspace));
        } else if workspace.is_beneath(path) {
            places.push(host_workspace.to_owned());
        }
        places
    }

    /// Whether a path is the workspace or a mount, which cannot be removed: only what is in it can.
    fn is_top(self, path: &ViewPath, workspace: &ViewPath) -> bool {
        let (Self::Own { mounts } | Self::Host { mounts, .. }) = self;
        path == workspace || mounts.contains(path)
    }

    /// Returns what a right to write a path grants: itself, or the nearest directory above it that exists in
    /// the workspace or a mount.
    fn place_to_write(self, path: &ViewPath, workspace: &ViewPath) -> Option<PathBuf> {
        let (Self::Own { mounts } | Self::Host { writable: mounts, .. }) = self;
        let mut at = path.clone();
        loop {
            let in_workspace = at.is_beneath(workspace);
            if !in_workspace && !mounts.iter().any(|mount| at.is_beneath(mount)) {
                return None;
            }
            let place = match self {
                Self::Host { workspace: host, .. } if in_workspace => beneath(host, &at, workspace)?,
                _ => PathBuf::from(at.as_str()),
            };
            if std::fs::symlink_metadata(&place).is_ok() {
                return Some(place);
            }
            at = at.parent()?;
        }
    }
}

/// Returns where a path of the workspace lies when the workspace lies at `host`.
fn beneath(host: &Path, path: &ViewPath, workspace: &ViewPath) -> Option<PathBuf> {
    let rest = path.as_str().strip_prefix(workspace.as_str())?;
    Some(host.join(rest.trim_start_matches('/')))
}

/// Whether a ruleset of these rights stays right for later executions: it names what does not come and go.
pub(crate) fn are_stable(rights: &Rights) -> bool {
    let reads_only = rights.write.is_empty() && rights.delete.is_empty();
    let usr = Path::new("/usr");
    reads_only
        && rights
            .read
            .iter()
            .map(|path| Path::new(path.as_str()))
            .all(|path| path.starts_with(usr) || path.is_dir())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> ViewPath {
        ViewPath::parse(text).unwrap()
    }

    #[test]
    fn on_the_host_reading_is_as_wide_as_a_view_would_be() {
        let mounts = [path("/srv/data")];
        let view = View::Host { workspace: Path::new("/state/cell-0"), mounts: &mounts, writable: &[] };
        for (asked, granted) in [
            ("/", vec!["/srv/data", "/state/cell-0"]),
            ("/srv/data/x", vec!["/srv/data/x"]),
            ("/etc", vec![]),
            ("/srv", vec!["/srv/data"]),
            ("/workspace", vec!["/state/cell-0"]),
            ("/workspace/a/b", vec!["/state/cell-0/a/b"]),
            ("/workspaces", vec![]),
        ] {
            let places = view.places_to_read(&path(asked), &path("/workspace"));
            assert_eq!(places, granted.into_iter().map(PathBuf::from).collect::<Vec<_>>(), "{asked}");
        }
    }

    #[test]
    fn a_right_to_write_never_climbs_out_of_the_workspace_or_a_mount() {
        let directory = tempfile::tempdir().unwrap();
        let top = path(directory.path().to_str().unwrap());
        std::fs::create_dir(directory.path().join("a")).unwrap();
        let inside = ViewPath::resolve(&top, "a/b/c");
        let none = View::Own { mounts: &[] };
        assert_eq!(none.place_to_write(&inside, &top), Some(directory.path().join("a")));
        assert_eq!(none.place_to_write(&ViewPath::resolve(&top, ".."), &top), None);
        assert_eq!(none.place_to_write(&path("/workspace/x"), &path("/workspace/none")), None);
        let mounts = [top.clone()];
        let mounted = View::Own { mounts: &mounts };
        assert_eq!(mounted.place_to_write(&inside, &path("/workspace")), Some(directory.path().join("a")));
        let host = View::Host { workspace: directory.path(), mounts: &mounts, writable: &[] };
        assert_eq!(host.place_to_write(&inside, &path("/workspace")), None, "a mount that is only read");
        assert!(host.is_top(&top, &path("/workspace")) && !host.is_top(&inside, &path("/workspace")));
        assert_eq!(
            host.place_to_write(&path("/workspace/a/new"), &path("/workspace")),
            Some(directory.path().join("a"))
        );
    }
}
