//! Turns the rights of one command into a Landlock ruleset.

use std::io;
use std::path::{Path, PathBuf};

use portcullis_core::{Plan, Rights, SimpleCommand, ViewPath};

use crate::landlock::{self, Ruleset};
use crate::programs::Programs;

/// Directories of every view that hold nothing of the host's users; every command may read them.
const COMMON: [&str; 10] =
    ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/etc", "/proc", "/dev"];
/// At level `landlock` the view is the host's own: of `/etc` only what the loader needs may be read, of `/proc`
/// only the command itself, of `/dev` only devices without a state.
const COMMON_ON_THE_HOST: [&str; 13] = [
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
const SINKS: [&str; 3] = ["/dev/null", "/dev/zero", "/dev/full"];

/// Where the command will run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum View {
    /// In a mount view of our own making.
    Own,
    /// On the host's own files.
    Host,
}

/// Makes the ruleset of one command. Paths that do not exist yet may be made where the command may write: the
/// nearest directory above that exists gets the right. `visible` is what of the host may be seen at level
/// `landlock`, beside what every command may read.
pub(crate) fn ruleset(
    abi: u32,
    view: View,
    plan: &Plan,
    programs: &Programs,
    command: &SimpleCommand,
    visible: &[ViewPath],
) -> io::Result<Ruleset> {
    let ruleset = Ruleset::new(abi)?;
    let common: &[&str] = match view {
        View::Own => &COMMON,
        View::Host => &COMMON_ON_THE_HOST,
    };
    for path in common.iter().map(Path::new) {
        // Links into what is named anyway need nothing of their own.
        if !path.is_symlink() {
            ruleset.allow(path, landlock::READ)?;
        }
    }
    for path in SINKS {
        ruleset.allow(Path::new(path), landlock::WRITE)?;
    }
    for name in std::iter::once(&command.program).chain(&command.rights.execute) {
        if let Some(program) = programs.get(name) {
            for file in &program.executed {
                ruleset.allow(file, landlock::EXECUTE | landlock::READ_FILE)?;
            }
        }
    }
    for path in &command.rights.read {
        match view {
            View::Own => ruleset.allow(Path::new(path.as_str()), landlock::READ)?,
            View::Host => allow_of_host(&ruleset, path, visible)?,
        }
    }
    for path in &command.rights.write {
        ruleset.allow(&nearest(path), landlock::WRITE)?;
    }
    for path in &command.rights.delete {
        // Removing an entry is a right on the directory that holds it.
        let holder = if *path == plan.workspace { None } else { path.parent() };
        ruleset.allow(&nearest(holder.as_ref().unwrap_or(path)), landlock::DELETE)?;
    }
    Ok(ruleset)
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

/// Allows reading a path of the host as far as a view would show it: what lies beneath a visible directory, and
/// of a directory above some the visible ones.
fn allow_of_host(ruleset: &Ruleset, path: &ViewPath, visible: &[ViewPath]) -> io::Result<()> {
    for top in visible {
        if path.is_beneath(top) {
            ruleset.allow(Path::new(path.as_str()), landlock::READ)?;
        } else if top.is_beneath(path) {
            ruleset.allow(Path::new(top.as_str()), landlock::READ)?;
        }
    }
    Ok(())
}

/// Returns the path, or the nearest one above it that exists.
fn nearest(path: &ViewPath) -> PathBuf {
    let mut at = path.clone();
    while std::fs::symlink_metadata(at.as_str()).is_err() {
        match at.parent() {
            Some(parent) => at = parent,
            None => break,
        }
    }
    PathBuf::from(at.as_str())
}
