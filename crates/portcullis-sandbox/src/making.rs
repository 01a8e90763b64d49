//! How a cell is made: its namespaces, identity, view and what it gives up, in the order the kernel wants.

use std::collections::HashMap;
use std::ffi::CString;
use std::fs::{DirBuilder, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use portcullis_core::Level;

use crate::account;
use crate::cell::{self, Cell};
use crate::cgroup;
use crate::config::Config;
use crate::descriptors;
use crate::init;
use crate::layers::is_gone;
use crate::oom;
use crate::programs::Finder;
use crate::removal;
use crate::rights::{Common, View};
use crate::seccomp;
use crate::sys::{self, Forked, Pid, Polled};
use crate::view::{self, SourceIdentity};
use crate::wire::{self, AtStep, LastWords, StepError};

/// The uid and gid inside the view.
const INNER_ID: u32 = 1000;
/// `CAP_SYS_ADMIN` and `CAP_SYS_CHROOT`, inside the cell's own user namespace: what mounts and views need.
const CELL_CAPABILITIES: u64 = 1 << 21 | 1 << 18;
/// One more than the last capability that a kernel may know.
const MOST_CAPABILITIES: u32 = 64;

/// What a cell stands on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ground {
    /// Namespaces and a view of its own.
    Namespaces,
    /// The host's own files, within Landlock. There is no pid namespace: who is killed leaves its children.
    Host,
}

/// Whose uids executions get on the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Identities {
    /// One for each cell, from the configured range.
    OwnRange,
    /// The service's own.
    Shared,
}

impl Identities {
    /// Looks whether we are root and the configured range exists in our user namespace.
    pub(crate) fn find(config: &Config) -> Self {
        let count = u64::try_from(config.cells.max(1)).unwrap_or(u64::MAX);
        let holds = |map| account::is_mapped(map, config.first_uid.into(), count);
        let mapped = holds("uid_map") && holds("gid_map") && !is_gone("uid of its own");
        if sys::effective_uid() == 0 && mapped { Self::OwnRange } else { Self::Shared }
    }

    /// Returns the uid and gid of a cell, when it has its own.
    pub(crate) fn of_cell(self, config: &Config, number: u32) -> Option<u32> {
        (self == Self::OwnRange).then(|| config.first_uid.saturating_add(number))
    }
}

/// A cell that is ready.
pub(crate) struct MadeCell {
    pub(crate) pid: Pid,
    pub(crate) pidfd: OwnedFd,
    group: Option<cgroup::Group>,
    workspace: Option<PathBuf>,
    /// Ends with us, which tells a cell that no signal tells.
    life: Option<OwnedFd>,
}

impl MadeCell {
    /// Reaps it. What ran in it is gone with it, or is a child of ours now: see [`Ground::Host`].
    pub(crate) fn reap(&self) {
        let _ = sys::wait(self.pid, true);
    }

    /// Removes what a cell held that is reaped, with all that ran in it: a group with a process does not go. Returns
    /// what the group had counted for the last execution.
    pub(crate) fn bury(self) -> LastWords {
        let counted = self.group.as_ref().and_then(|group| group.sample().ok());
        let words = counted.map_or_else(LastWords::default, |counted| LastWords {
            oom_kills: counted.oom_kills,
            cpu_time: counted.cpu,
            peak_memory_bytes: counted.peak_memory_bytes,
        });
        if let Some(workspace) = &self.workspace {
            let _ = removal::remove(workspace);
        }
        drop(self.life);
        words
    }
}

/// What the launcher was asked for, and what it found when it was.
#[derive(Clone, Copy)]
pub(crate) struct Asked<'a> {
    pub(crate) config: &'a Config,
    /// Which directories the mount sources were.
    pub(crate) sources: &'a [SourceIdentity],
}

/// Makes one cell and waits until it is ready; returns it with the server's end of its link. On the host's own ground it
/// needs workspaces.
pub(crate) fn make(
    Asked { config, sources }: Asked<'_>,
    ground: Ground,
    number: u32,
    host_id: Option<u32>,
    cgroups: Option<&mut cgroup::Root>,
    workspaces: Option<&Workspaces>,
    landlock_abi: Option<u32>,
) -> Result<(MadeCell, OwnedFd), StepError> {
    let group = match cgroups {
        Some(root) => Some(root.group(&format!("cell-{number}"), &config.ceilings).at("cgroup of the cell")?),
        None => None,
    };
    let handles = match &group {
        Some(group) => Some(group.share().at("cgroup files")?),
        None => None,
    };
    let (workspace, host_workspace) = match workspaces {
        Some(workspaces) => workspaces
            .make(number, host_id)
            .at("workspace directory")
            .map(|(ours, on_the_host)| (Some(ours), Some(on_the_host)))?,
        None => (None, None),
    };
    let (server_end, cell_end) = sys::socket_pair().at("link of the cell")?;
    let (go_read, go_write) = sys::pipe().at("start pipe")?;
    let (result_read, result_write) = sys::pipe().at("result pipe")?;
    let namespaces = match ground {
        Ground::Namespaces => {
            libc::CLONE_NEWUSER
                | libc::CLONE_NEWNS
                | libc::CLONE_NEWPID
                | libc::CLONE_NEWNET
                | libc::CLONE_NEWIPC
                | libc::CLONE_NEWUTS
        }
        Ground::Host => 0,
    };
    // Without privilege we may write the maps of a child only while it is dumpable; it inherits that from us,
    // and ends it itself when it is done. See proc_pid_uid_map(5), PR_SET_DUMPABLE(2const).
    sys::set_dumpable(host_id.is_none()).at("dumpable")?;
    let cloned = wire::attempt("namespaces of the cell", || sys::clone_into(namespaces));
    if !matches!(cloned, Ok((Forked::Child, _))) {
        sys::set_dumpable(false).at("undumpable")?;
    }
    let (forked, pidfd) = cloned?;
    let pid = match forked {
        Forked::Parent(pid) => pid,
        Forked::Child => {
            drop((server_end, go_write, result_read));
            let level = match (ground, &handles) {
                (Ground::Host, _) => Level::Landlock,
                (_, Some(_)) => Level::Full,
                (_, None) => Level::Namespaces,
            };
            let cell = Cell {
                config: config.clone(),
                sources: sources.to_vec(),
                level,
                landlock_abi,
                group: handles,
                life: None,
                link: cell_end,
                host_workspace,
                finder: Finder::new(config.path.clone()),
                views: HashMap::new(),
                base_view: None,
                current_view: None,
                filters: Rc::new(seccomp::Programs::assemble()),
                ahead: None,
                expected: None,
                limits_in_force: None,
                rulesets: HashMap::new(),
                common: None,
                scratches: view::Scratches::default(),
                stacks: None,
                processors: sys::Processors::allowed().ok().filter(|allowed| allowed.count() > 1),
                base_proc: None,
                left: Vec::new(),
            };
            become_cell(cell, host_id, go_read, result_write)
        }
    };
    let pidfd = pidfd.ok_or_else(|| StepError { step: "pidfd".into(), errno: libc::EBADF })?;
    drop((cell_end, go_read, result_write));
    let mut made = MadeCell { pid, pidfd, group, workspace, life: None };
    let prepared = prepare_from_outside(&made, ground, host_id);
    let ready = prepared.and_then(|()| {
        File::from(go_write.try_clone().at("start pipe")?).write_all(&[1]).at("start the cell")?;
        read_result(result_read)
    });
    // The cell looks at this pipe to learn whether we still live: where there are namespaces once, elsewhere always.
    made.life = (ground == Ground::Host).then_some(go_write);
    match ready {
        Ok(()) => Ok((made, server_end)),
        Err(failure) => {
            let _ = sys::pidfd_signal(made.pidfd.as_fd(), libc::SIGKILL);
            made.reap();
            made.bury();
            Err(failure)
        }
    }
}

/// The directories that stand in for `/workspace` where there is no view, one for each cell, beneath one of this
/// launcher's own, so that the end of an earlier life cannot take them away.
///
/// Held by a descriptor: the directory above may belong to the service's user, who could put another in its place and
/// have us remove what is in that.
#[derive(Debug)]
pub(crate) struct Workspaces {
    directory: OwnedFd,
}

impl Workspaces {
    /// Opens the place, made when it is missing, and takes away what earlier lives have left, whose launchers are gone.
    ///
    /// # Errors
    /// When it cannot be made, is no directory, or belongs to somebody else: then it may hold anything.
    pub(crate) fn open(config: &Config) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o711).create(&config.state_directory)?;
        let path = CString::new(config.state_directory.as_os_str().as_bytes())?;
        let directory = sys::open_at(None, &path, libc::O_RDONLY | libc::O_DIRECTORY | libc::O_NOFOLLOW, 0)?;
        let owner = File::from(directory.try_clone()?).metadata()?.uid();
        if sys::effective_uid() == 0 && owner != 0 {
            return Err(io::Error::from_raw_os_error(libc::EPERM));
        }
        let workspaces = Self { directory };
        workspaces.remove();
        Ok(workspaces)
    }

    /// Where they are, as long as we live, whatever becomes of the name.
    fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}/workspaces", self.directory.as_raw_fd()))
    }

    /// Makes that of a cell; returns its path for us, and the one that it has on the host, for the cell.
    fn make(&self, number: u32, owner: Option<u32>) -> io::Result<(PathBuf, PathBuf)> {
        let parent = self.path().join(std::process::id().to_string());
        DirBuilder::new().recursive(true).mode(0o711).create(&parent)?;
        let path = parent.join(format!("cell-{number}"));
        match removal::remove(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        DirBuilder::new().mode(0o700).create(&path)?;
        if let Some(owner) = owner {
            std::os::unix::fs::chown(&path, Some(owner), Some(owner))?;
        }
        // Paths of the host are compared by their text.
        let on_the_host = std::fs::canonicalize(&path)?;
        Ok((path, on_the_host))
    }

    /// Removes those of this launcher, and those of earlier lives.
    pub(crate) fn remove(&self) {
        let own = std::process::id().to_string();
        for entry in std::fs::read_dir(self.path()).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let living = name != *own && std::path::Path::new("/proc").join(&name).exists();
            if !living {
                let _ = std::fs::remove_dir_all(entry.path());
            }
        }
        // Goes when it is empty.
        let _ = std::fs::remove_dir(self.path());
    }
}

/// What only the parent may do: the identity that the cell's user namespace maps to, and its cgroup.
fn prepare_from_outside(made: &MadeCell, ground: Ground, host_id: Option<u32>) -> Result<(), StepError> {
    if ground == Ground::Namespaces {
        let (uid, gid) =
            host_id.map_or((sys::effective_uid(), sys::effective_gid()), |host_id| (host_id, host_id));
        let write = |name: &str, text: String| std::fs::write(format!("/proc/{}/{name}", made.pid), text);
        // Without it an unprivileged gid map is refused; see user_namespaces(7).
        write("setgroups", "deny".into()).at("setgroups of the cell")?;
        write("uid_map", format!("{INNER_ID} {uid} 1")).at("uid map of the cell")?;
        write("gid_map", format!("{INNER_ID} {gid} 1")).at("gid map of the cell")?;
    }
    if let Some(group) = &made.group {
        group.attach(made.pid).at("cgroup of the cell")?;
    }
    Ok(())
}

fn read_result(result: OwnedFd) -> Result<(), StepError> {
    let mut bytes = Vec::new();
    File::from(result).take(4_096).read_to_end(&mut bytes).at("result of the cell")?;
    match wire::decode::<Result<(), StepError>>(&bytes) {
        Ok(result) => result,
        Err(_) => Err(StepError { step: "the cell died while it was made".into(), errno: libc::ECHILD }),
    }
}

/// The cell's side.
fn become_cell(mut cell: Cell, host_id: Option<u32>, go: OwnedFd, result: OwnedFd) -> ! {
    let prepared = keep_only_own_descriptors(&cell, &go, &result)
        .and_then(|()| prepare_from_inside(&mut cell, host_id, &go));
    // Without a pid namespace the cell must outlive us by as long as it takes to end what runs in it.
    cell.life = (cell.level == Level::Landlock).then_some(go);
    let told = postcard::to_stdvec(&prepared).map(|bytes| File::from(result).write_all(&bytes));
    match (prepared, told) {
        (Ok(()), Ok(Ok(()))) => cell.serve(),
        _ => sys::exit_now(1),
    }
}

/// Closes what the launcher holds for itself and for other cells.
fn keep_only_own_descriptors(cell: &Cell, go: &OwnedFd, result: &OwnedFd) -> Result<(), StepError> {
    let mut kept = vec![cell.link.as_raw_fd(), go.as_raw_fd(), result.as_raw_fd()];
    kept.extend(cell.group.iter().flat_map(cgroup::Group::descriptors));
    kept.sort_unstable();
    descriptors::close_all_but(&kept).at("close descriptors")
}

fn prepare_from_inside(cell: &mut Cell, host_id: Option<u32>, go: &OwnedFd) -> Result<(), StepError> {
    let _ = sys::set_name(c"portcullis-cell");
    // Init inherits the mask: a wish to stop that comes before it looks for one waits for it. Sent to a first
    // process that neither blocks nor handles it, a signal is lost; see pid_namespaces(7).
    sys::block_signals(&[libc::SIGTERM]).at("signal mask")?;
    let mut byte = [0];
    let mut reader = File::from(go.try_clone().at("start pipe")?);
    reader.read_exact(&mut byte).at("start of the cell")?;
    // While the host's `/proc` can be seen, and with the identity that owns us there.
    let _ = oom::go_first();
    cell.stacks = Some(cell::Stacks::new().at("stacks")?);
    if cell.level == Level::Landlock {
        if let Some(id) = host_id {
            sys::set_gid(id).at("gid of the cell")?;
            sys::set_uid(id).at("uid of the cell")?;
        }
        sys::set_subreaper().at("subreaper")?;
    } else {
        // Mount sources are opened with the identity that may reach them, before the cell's own is taken.
        let sources = view::collect(&cell.config, &cell.sources)?;
        sys::set_gid(INNER_ID).at("gid of the cell")?;
        sys::set_uid(INNER_ID).at("uid of the cell")?;
        sys::set_hostname("portcullis").at("host name")?;
        // After the parent has moved us into our group: this is the root that we will see. See
        // cgroup_namespaces(7).
        sys::unshare(libc::CLONE_NEWCGROUP).at("cgroup namespace")?;
        view::enter_base(sources, &cell.config.user_name)?;
        cell.base_view = Some(cell::own_mount_namespace()?);
        if cell.landlock_abi.is_some() {
            let common = Common::open(View::Own { mounts: &[] }).at("view: open what all may read")?;
            cell.common = Some(Rc::new(common));
        }
        cell.base_proc = Some(view::proc_device().at("view: proc")?);
    }
    // A change of identity clears the parent-death signal, so it is asked for here; if the launcher ended
    // before, its end of the pipe is closed by now. See PR_SET_PDEATHSIG(2const).
    if cell.level != Level::Landlock {
        sys::set_parent_death_signal(libc::SIGKILL).at("parent-death signal")?;
    }
    let mut entries = [Polled { fd: go.as_fd(), ready: false }];
    sys::poll(&mut entries, Some(Duration::ZERO)).at("look for the launcher")?;
    if entries.iter().any(|entry| entry.ready) {
        return Err(StepError { step: "the launcher has ended".into(), errno: libc::ECHILD });
    }
    init::lower_limits(&init::FIXED_LIMITS)?;
    for capability in 0..MOST_CAPABILITIES {
        match sys::drop_bounding_capability(capability) {
            // Without CAP_SETPCAP the bounding set stays; `no_new_privs` and the empty sets hold all the same.
            Err(_) if cell.level == Level::Landlock => break,
            dropped => {
                if !dropped.at("bounding set")? {
                    break;
                }
            }
        }
    }
    let kept = if cell.level == Level::Landlock { 0 } else { CELL_CAPABILITIES };
    sys::keep_capabilities(kept).at("capabilities of the cell")?;
    sys::set_no_new_privileges().at("no_new_privs")?;
    sys::set_dumpable(false).at("undumpable")?;
    if cell.level != Level::Landlock {
        // Inherited by every execution, which adds what a cell itself still needs.
        sys::install_filter(cell.filters.part(seccomp::Part::Cell)).at("seccomp of the cell")?;
    }
    Ok(())
}
