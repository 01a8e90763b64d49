//! The mount view: what of the host a cell can see, and what of that can execute.
//!
//! The *base view* is made once for each cell: a small read-only root with `/usr` and the configured mounts,
//! all `noexec`, stand-ins for `/etc` and `/dev`, and nothing else of the host. A *program view* is a copy of
//! it in which exactly one set of programs, with the libraries and interpreters they need, can execute. An
//! execution runs in a program view, to which its own parts are added before it and taken away after it: a
//! `/proc`, and a workspace and a `/tmp` when its permit lets it write. A cell runs one execution at a time, and
//! no command can mount, so that nobody else sees the view meanwhile.
//!
//! INVARIANT (nothing stays in a view): a cell in which a part could not be taken away is not used again.
//!
//! INVARIANT (nothing writable is executable): whatever can be written is mounted `noexec`.

use std::ffi::{CStr, CString, OsStr};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};

use portcullis_core::{Plan, ViewPath};

use crate::config::{Config, Mount};
use crate::layers::is_gone;
use crate::sys::{self, ATTR_NODEV, ATTR_NOEXEC, ATTR_NOSUID, ATTR_RDONLY, Depth};
use crate::wire::{AtStep, StepError};

/// Host directories at the root that hold programs or libraries on hosts where they are not links into `/usr`.
const ROOT_DIRECTORIES: [&str; 6] = ["bin", "sbin", "lib", "lib32", "lib64", "libx32"];
/// The devices in the view.
const DEVICES: [&str; 5] = ["null", "zero", "full", "random", "urandom"];
/// Inodes of a workspace, and of a `/tmp`.
const INODES: &str = "nr_inodes=32768";

const LOCKED: u64 = ATTR_RDONLY | ATTR_NOSUID | ATTR_NODEV | ATTR_NOEXEC;

/// Clones of the host's mounts, taken while the host can still be seen.
pub(crate) struct Sources {
    /// Directories: where each appears, whether it may be written, and its mount.
    directories: Vec<(String, bool, OwnedFd)>,
    devices: Vec<(&'static str, OwnedFd)>,
    /// Links at the root, as the host has them: `bin` to `usr/bin`.
    links: Vec<(&'static str, PathBuf)>,
    etc: Vec<(String, EtcEntry)>,
}

enum EtcEntry {
    File(Vec<u8>),
    Link(PathBuf),
}

/// Which directory a mount source is: device and inode; `None` where there was nothing when it was looked at.
pub(crate) type SourceIdentity = Option<(u64, u64)>;

/// Looks at the mount sources once, when the configuration has just been read: later cells get the same.
pub(crate) fn identities_of_sources(config: &Config) -> Vec<SourceIdentity> {
    let identity =
        |mount: &Mount| std::fs::metadata(&mount.source).ok().map(|found| (found.dev(), found.ino()));
    config.mounts.iter().map(identity).collect()
}

/// Fails when a clone is not of what was meant.
fn check_source(clone: &OwnedFd, meant: SourceIdentity) -> io::Result<()> {
    let found = std::fs::File::from(clone.try_clone()?).metadata()?;
    if meant == Some((found.dev(), found.ino())) {
        Ok(())
    } else {
        Err(io::Error::from_raw_os_error(libc::ESTALE))
    }
}

/// Clones what the view will hold. Runs with the identity that may still reach the sources.
pub(crate) fn collect(config: &Config, meant: &[SourceIdentity]) -> Result<Sources, StepError> {
    let mut directories =
        vec![("/usr".to_owned(), false, clone(Path::new("/usr"), Depth::All).at("view: clone /usr")?)];
    let mut links = Vec::new();
    for name in ROOT_DIRECTORIES {
        let path = Path::new("/").join(name);
        match std::fs::symlink_metadata(&path) {
            Ok(found) if found.is_symlink() => {
                links.push((name, std::fs::read_link(&path).at("view: read link")?))
            }
            Ok(found) if found.is_dir() => {
                let mount = clone(&path, Depth::All).at("view: clone root directory")?;
                directories.push((format!("/{name}"), false, mount));
            }
            _ => {}
        }
    }
    if is_gone("view") {
        add_the_host(&mut directories)?;
    }
    for (mount, meant) in config.mounts.iter().zip(meant) {
        let clone = clone(&mount.source, Depth::All)
            .at(format!("view: clone mount source {}", mount.source.display()))?;
        check_source(&clone, *meant)
            .at(format!("view: mount source {} is another than at the start", mount.source.display()))?;
        directories.push((mount.target.as_str().to_owned(), mount.writable, clone));
    }
    let mut devices = Vec::new();
    for name in DEVICES {
        devices.push((name, clone(&Path::new("/dev").join(name), Depth::One).at("view: clone device")?));
    }
    Ok(Sources { directories, devices, links, etc: stand_in_etc(&config.user_name) })
}

/// Adds what a view is there to leave out: for the test that sees it missed.
fn add_the_host(directories: &mut Vec<(String, bool, OwnedFd)>) -> Result<(), StepError> {
    for name in ["boot", "etc", "home", "opt", "root", "run", "srv", "sys", "var"] {
        let path = Path::new("/").join(name);
        if path.is_dir() && !path.is_symlink() {
            directories.push((format!("/{name}"), false, clone(&path, Depth::All).at("view: clone host")?));
        }
    }
    Ok(())
}

/// Makes the base view and leaves the host for good. The caller is in a user namespace and mount namespace of
/// its own, and has taken the identity it will keep.
pub(crate) fn enter_base(sources: Sources, user_name: &str) -> Result<(), StepError> {
    sys::make_mounts_private().at("view: private mounts")?;
    let root = file_system(
        c"tmpfs",
        &[(c"size", c"4m"), (c"nr_inodes", c"4096"), (c"mode", c"755")],
        LOCKED & !ATTR_RDONLY,
    )
    .at("view: root")?;
    // The root is built on top of `/usr`: the one directory that every host has, and whose clone is in hand.
    sys::attach_mount(root.as_fd(), c"/usr").at("view: attach root")?;
    std::env::set_current_dir("/usr").at("view: enter root")?;

    for directory in ["proc", "dev", "tmp", "workspace", "home", "etc", "usr"] {
        make_directory(Path::new(directory)).at("view: make directory")?;
    }
    make_directory(&Path::new("home").join(user_name)).at("view: make home")?;
    for (name, target) in &sources.links {
        symlink(target, name).at("view: link root directory")?;
    }
    for (name, entry) in &sources.etc {
        let path = Path::new("etc").join(name);
        if let Some(parent) = path.parent() {
            make_directory(parent).at("view: fill etc")?;
        }
        match entry {
            EtcEntry::File(text) => std::fs::write(&path, text).at("view: fill etc")?,
            EtcEntry::Link(target) => symlink(target, &path).at("view: fill etc")?,
        }
    }
    for (name, mount) in &sources.devices {
        let path = Path::new("dev").join(name);
        std::fs::write(&path, b"").at("view: fill dev")?;
        // A device must not be `nodev`; it is one of ours, and nothing can be put beside it.
        sys::set_mount_attributes(mount.as_fd(), ATTR_RDONLY | ATTR_NOSUID | ATTR_NOEXEC, 0, Depth::One)
            .at("view: lock device")?;
        attach(mount, &path).at("view: attach device")?;
    }
    for (name, target) in [("fd", "/proc/self/fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")]
    {
        symlink(target, Path::new("dev").join(name)).at("view: fill dev")?;
    }
    for (target, writable, mount) in &sources.directories {
        let path = Path::new(target.trim_start_matches('/'));
        make_directory(path).at("view: make mount point")?;
        let attributes = if *writable { LOCKED & !ATTR_RDONLY } else { LOCKED };
        sys::set_mount_attributes(mount.as_fd(), attributes, 0, Depth::All).at("view: lock mount")?;
        attach(mount, path).at("view: attach mount")?;
    }
    // The kernel lets a user namespace mount `/proc` only where one can be seen already, so this one stays
    // beneath that of every execution.
    mount_proc(c"proc").at("view: proc")?;

    // `pivot_root(".", ".")` stacks the old root on the new one; see pivot_root(2), NOTES.
    sys::pivot_to_working_directory().at("view: pivot")?;
    sys::detach(c".").at("view: leave host")?;
    std::env::set_current_dir("/").at("view: enter root")?;
    let root = sys::open_at(None, c"/", libc::O_PATH | libc::O_DIRECTORY, 0).at("view: open root")?;
    sys::set_mount_attributes(root.as_fd(), LOCKED, 0, Depth::One).at("view: lock root")
}

/// Makes exactly these files, and what lies in these directories, executable in the mount namespace of the
/// caller, which holds a base view and nobody else uses.
pub(crate) fn make_executable<'a>(
    files: impl Iterator<Item = &'a Path>,
    directories: impl Iterator<Item = &'a Path>,
) -> Result<(), StepError> {
    let one = files.map(|path| (path, Depth::One));
    let all = directories.map(|path| (path, Depth::All));
    for (path, depth) in one.chain(all) {
        let mount = clone(path, depth).at("view: clone program")?;
        sys::set_mount_attributes(mount.as_fd(), 0, ATTR_NOEXEC, depth).at("view: allow program")?;
        attach(&mount, path).at("view: attach program")?;
    }
    Ok(())
}

/// What belongs to one execution alone, and is taken away after it.
pub(crate) struct PrivateParts<'a> {
    plan: &'a Plan,
    mounts: &'a [ViewPath],
    proc: Proc,
}

/// Which `/proc` an execution sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Proc {
    /// That of its own pid namespace.
    Own,
    /// That of the cell, which shows every command itself and nothing else: its numbers are those of the
    /// cell's pid namespace.
    OfTheCell,
}

impl Proc {
    /// Adds the `/proc` of the execution, if it sees its own. The caller is pid 1 of the execution's pid namespace.
    pub(crate) fn add(self) -> Result<(), StepError> {
        match self {
            Self::Own => mount_proc(c"/proc").at("view: proc of the execution"),
            Self::OfTheCell => Ok(()),
        }
    }
}

impl<'a> PrivateParts<'a> {
    pub(crate) fn new(plan: &'a Plan, mounts: &'a [ViewPath], proc: Proc) -> Self {
        Self { plan, mounts, proc }
    }

    fn has_workspace(&self) -> bool {
        let plan = self.plan;
        (plan.writes() || plan.working_directory != plan.workspace) && !self.mounts.contains(&plan.workspace)
    }

    fn hidden(&self) -> impl Iterator<Item = &Path> {
        let shown = || self.plan.protected.iter().filter(|path| shows_the_host(path, self.mounts));
        // What lies within another is covered with it, and can be looked for no more.
        let outermost =
            move |path: &&ViewPath| !shown().any(|other| other != *path && path.is_beneath(other));
        shown().filter(outermost).map(|path| Path::new(path.as_str()))
    }

    /// Whether there are none: the view stays as every execution of these programs sees it.
    pub(crate) fn are_none(&self) -> bool {
        self.proc == Proc::OfTheCell
            && !self.has_workspace()
            && !self.plan.writes()
            && self.hidden().next().is_none()
    }

    /// Which `/proc` the execution sees.
    pub(crate) fn proc(&self) -> Proc {
        self.proc
    }

    /// Adds all the others. The caller is the cell, before the execution has a process.
    pub(crate) fn add(&self, scratches: &mut Scratches) -> Result<(), StepError> {
        let plan = self.plan;
        if self.has_workspace() {
            let mount =
                scratches.attach(plan.workspace.as_str(), plan.limits.disk_bytes).at("view: workspace")?;
            if plan.working_directory.is_beneath(&plan.workspace) {
                make_directory(Path::new(plan.working_directory.as_str())).at("view: working directory")?;
            }
            if !plan.writes() {
                sys::set_mount_attributes(mount.as_fd(), ATTR_RDONLY, 0, Depth::One)
                    .at("view: lock workspace")?;
            }
        }
        if plan.writes() {
            scratches.attach("/tmp", plan.limits.disk_bytes).at("view: tmp")?;
        }
        for path in self.hidden() {
            hide(path).at("view: hide protected directory")?;
        }
        Ok(())
    }

    /// Returns the mounts that [`take_away`] takes, when every process of the execution is gone; `base_proc` is the
    /// device of the `/proc` that stays.
    pub(crate) fn mounts(&self, base_proc: Option<u64>) -> Vec<PathBuf> {
        let mut paths = Vec::new();
        if self.has_workspace() {
            paths.push(PathBuf::from(self.plan.workspace.as_str()));
        }
        if self.plan.writes() {
            paths.push(PathBuf::from("/tmp"));
        }
        paths.extend(self.hidden().filter(|path| path.exists()).map(Path::to_owned));
        // Init may have ended before it came to that.
        if self.proc == Proc::Own && proc_device().ok() != base_proc {
            paths.push(PathBuf::from("/proc"));
        }
        paths
    }
}

/// Takes mounts away, the last one first: one may lie within another.
pub(crate) fn take_away(mounts: &[PathBuf]) -> io::Result<()> {
    for path in mounts.iter().rev() {
        sys::detach(&CString::new(path.as_os_str().as_bytes())?)?;
    }
    Ok(())
}

/// Returns the device of what is mounted at `/proc`: a number that no other mount of processes has.
pub(crate) fn proc_device() -> io::Result<u64> {
    Ok(std::fs::metadata("/proc")?.dev())
}

/// Whether a protected path lies where the view shows files of the host; elsewhere it shows none to hide.
fn shows_the_host(path: &ViewPath, mounts: &[ViewPath]) -> bool {
    let within = |top: &ViewPath| path.is_beneath(top) || top.is_beneath(path);
    let usr = ViewPath::resolve(&ViewPath::root(), "usr");
    path.as_str() != "/" && (path.is_beneath(&usr) || mounts.iter().any(within))
}

/// Covers what is at a path, if anything is.
fn hide(path: &Path) -> io::Result<()> {
    match std::fs::metadata(path) {
        Ok(_) if is_gone("protected directories") => attach(&clone(path, Depth::One)?, path),
        Ok(found) if found.is_dir() => {
            let options = [(c"size", c"4k"), (c"nr_inodes", c"1"), (c"mode", c"0")];
            let empty = file_system(c"tmpfs", &options, LOCKED)?;
            attach(&empty, path)
        }
        Ok(_) => attach(&clone(Path::new("/dev/null"), Depth::One)?, path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// Empty file systems for workspace and `/tmp` of the next execution, made before anybody waits for them. Each is used
/// once.
#[derive(Debug, Default)]
pub(crate) struct Scratches {
    /// How large each may become, in bytes.
    bytes: u64,
    ready: Vec<OwnedFd>,
}

impl Scratches {
    /// Makes as many as an execution takes, for one that may write as much as the last. What cannot be made now is made
    /// when it is needed, where a failure is told.
    pub(crate) fn refill(&mut self, bytes: u64) {
        const MOST: usize = 2;
        if self.bytes != bytes {
            self.ready.clear();
            self.bytes = bytes;
        }
        while self.ready.len() < MOST {
            match make_scratch(bytes) {
                Ok(mount) => self.ready.push(mount),
                Err(_) => return,
            }
        }
    }

    fn attach(&mut self, path: &str, bytes: u64) -> io::Result<OwnedFd> {
        let ready = if self.bytes == bytes { self.ready.pop() } else { None };
        let mount = match ready {
            Some(mount) => mount,
            None => make_scratch(bytes)?,
        };
        attach(&mount, Path::new(path))?;
        Ok(mount)
    }
}

fn make_scratch(bytes: u64) -> io::Result<OwnedFd> {
    let size = CString::new(bytes.to_string())?;
    let inodes = CString::new(INODES.trim_start_matches("nr_inodes="))?;
    let options = [(c"size", size.as_c_str()), (c"nr_inodes", inodes.as_c_str()), (c"mode", c"700")];
    file_system(c"tmpfs", &options, LOCKED & !ATTR_RDONLY)
}

/// Mounts the processes of the caller's pid namespace, and nothing else of `/proc`; nothing there is writable.
fn mount_proc(path: &CStr) -> io::Result<()> {
    // Of the processes only those that the reader may trace are shown: never a cell or init.
    let options = [(c"subset", c"pid"), (c"hidepid", c"ptraceable")];
    sys::attach_mount(file_system(c"proc", &options, LOCKED)?.as_fd(), path)
}

fn file_system(kind: &CStr, options: &[(&CStr, &CStr)], attributes: u64) -> io::Result<OwnedFd> {
    let context = sys::fs_open(kind)?;
    for (key, value) in options {
        sys::fs_set(context.as_fd(), key, value)?;
    }
    sys::fs_create(context.as_fd())?;
    sys::fs_mount(context.as_fd(), attributes)
}

fn clone(path: &Path, depth: Depth) -> io::Result<OwnedFd> {
    sys::clone_tree(&CString::new(path.as_os_str().as_bytes())?, depth)
}

fn attach(mount: &OwnedFd, path: &Path) -> io::Result<()> {
    sys::attach_mount(mount.as_fd(), &CString::new(path.as_os_str().as_bytes())?)
}

fn make_directory(path: &Path) -> io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o755).create(path)
}

/// Returns a stand-in for `/etc` that tells nothing of the host's users: what the C library needs to name the
/// one user there is, and what the loader and the alternatives system need to find programs and libraries.
fn stand_in_etc(user: &str) -> Vec<(String, EtcEntry)> {
    let text = |name: &str, text: String| (name.to_owned(), EtcEntry::File(text.into_bytes()));
    let mut entries = vec![
        text(
            "passwd",
            format!(
                "root:x:0:0:root:/root:/usr/sbin/nologin\n{user}:x:1000:1000::/home/{user}:/usr/sbin/nologin\n\
                 nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"
            ),
        ),
        text("group", format!("root:x:0:\n{user}:x:1000:\nnogroup:x:65534:\n")),
        text("nsswitch.conf", "passwd: files\ngroup: files\nhosts: files\n".into()),
        text("hosts", "127.0.0.1 localhost\n::1 localhost\n".into()),
        text("hostname", "portcullis\n".into()),
    ];
    for name in ["ld.so.cache", "ld.so.conf"] {
        if let Some(bytes) = small_file(&Path::new("/etc").join(name)) {
            entries.push((name.to_owned(), EtcEntry::File(bytes)));
        }
    }
    for (name, path) in listing("/etc/ld.so.conf.d") {
        if let Some(bytes) = small_file(&path) {
            entries.push((format!("ld.so.conf.d/{name}"), EtcEntry::File(bytes)));
        }
    }
    for (name, path) in listing("/etc/alternatives") {
        if let Ok(target) = std::fs::read_link(&path) {
            entries.push((format!("alternatives/{name}"), EtcEntry::Link(target)));
        }
    }
    entries
}

fn small_file(path: &Path) -> Option<Vec<u8>> {
    const MOST: u64 = 1 << 20;
    let found = std::fs::metadata(path).ok()?;
    (found.is_file() && found.len() <= MOST).then(|| std::fs::read(path).ok()).flatten()
}

fn listing(directory: &str) -> Vec<(String, PathBuf)> {
    const MOST: usize = 1_024;
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten().take(MOST);
    let named = entries.map(|entry| (entry.file_name(), entry.path()));
    named.filter_map(|(name, path)| OsStr::to_str(&name).map(|name| (name.to_owned(), path))).collect()
}
