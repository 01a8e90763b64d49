//! Tries each mechanism in the way in which a cell uses it.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::facts::{Answer, Facts, Tried};
use crate::cgroup;
use crate::config::Config;
use crate::making::Identities;
use crate::sys::{self, ATTR_NODEV, ATTR_NOEXEC, ATTR_NOSUID, ATTR_RDONLY, Depth, Forked, Pid};
use crate::wire;

/// The most that a trial tells.
const MOST_BYTES: u64 = 64 * 1024;
/// As in a cell.
const INNER_ID: u32 = 1000;

/// The life of the process that tries. Ends the process.
pub(super) fn run() -> ! {
    let stdin = io::stdin();
    let answered = (|| {
        let link = sys::duplicate_above(stdin.as_fd(), 3)?;
        let Some((config, _)) = wire::receive::<Config>(&link)? else { return Ok(()) };
        wire::send(link.as_fd(), &all(&config), &[])
    })();
    sys::exit_now(i32::from(answered.is_err()))
}

/// Tries everything.
fn all(config: &Config) -> Facts {
    let mut facts = Facts::default();
    facts.note(Tried::Usr, fs::read_dir("/usr").map(drop), "");
    facts.note(Tried::Devices, devices(), "");
    facts.note(Tried::CloseRange, sys::close_range(u32::MAX - 1, u32::MAX), "");
    processes(&mut facts);
    namespaces(config, &mut facts);
    landlock(&mut facts);
    control_groups(&mut facts);
    identities(config, &mut facts);
    facts
}

fn devices() -> io::Result<()> {
    for name in ["null", "zero", "full", "random", "urandom"] {
        let path = Path::new("/dev").join(name);
        fs::metadata(&path).map_err(|error| io::Error::other(format!("`{}`: {error}", path.display())))?;
    }
    Ok(())
}

/// Tries what a process takes on for good, in one that ends.
fn processes(facts: &mut Facts) {
    let forked = report_from(
        0,
        |_| Ok(()),
        || {
            let mut facts = Facts::default();
            let no_new_privileges = sys::set_no_new_privileges();
            facts.note(Tried::NoNewPrivileges, no_new_privileges, "");
            // See seccomp(2): one instruction, that allows everything.
            let allow = libc::sock_filter {
                code: u16::try_from(libc::BPF_RET | libc::BPF_K).unwrap_or(0),
                jt: 0,
                jf: 0,
                k: libc::SECCOMP_RET_ALLOW,
            };
            facts.note(Tried::Seccomp, sys::install_filter(&[allow]), "");
            facts
        },
    );
    match forked {
        Ok(found) => {
            facts.take_over(found);
            // A pidfd came with it, and signal 0 through it was taken.
            facts.note(Tried::Pidfd, Ok(()), "");
        }
        Err(error) => facts.note(Tried::Pidfd, Err(error), ""),
    }
}

/// Tries namespaces, and inside them the mounts that a view is made of.
fn namespaces(config: &Config, facts: &mut Facts) {
    // The identity of the first cell: to map uid 0 instead takes a capability more. See user_namespaces(7).
    let cell = Identities::find(config).of_cell(config, 0);
    let (uid, gid) = cell.map_or((sys::effective_uid(), sys::effective_gid()), |id| (id, id));
    let map = |pid: Pid| {
        let write = |name: &str, text: String| fs::write(format!("/proc/{pid}/{name}"), text);
        write("setgroups", "deny".into())?;
        write("uid_map", format!("{INNER_ID} {uid} 1"))?;
        write("gid_map", format!("{INNER_ID} {gid} 1"))
    };
    let settings = user_namespace_settings();
    match report_from(libc::CLONE_NEWUSER, map, inside_user_namespace) {
        Ok(found) => {
            facts.take_over(found);
            facts.note(Tried::UserNamespace, Ok(()), settings);
        }
        Err(error) => {
            facts.set(Tried::UserNamespace, Answer::Fails(format!("{error}; {settings}")));
            let why = "not tried, for want of a user namespace";
            for tried in INSIDE {
                facts.set(tried, Answer::Untried(why.into()));
            }
        }
    }
}

/// What needs a user namespace to be tried.
const INSIDE: [Tried; 10] = [
    Tried::MountNamespace,
    Tried::PidNamespace,
    Tried::NetworkNamespace,
    Tried::IpcNamespace,
    Tried::UtsNamespace,
    Tried::CgroupNamespace,
    Tried::OpenTree,
    Tried::MountSetattr,
    Tried::Tmpfs,
    Tried::Proc,
];

fn inside_user_namespace() -> Facts {
    let mut facts = Facts::default();
    for (tried, flag) in [
        (Tried::MountNamespace, libc::CLONE_NEWNS),
        (Tried::NetworkNamespace, libc::CLONE_NEWNET),
        (Tried::IpcNamespace, libc::CLONE_NEWIPC),
        (Tried::UtsNamespace, libc::CLONE_NEWUTS),
        (Tried::CgroupNamespace, libc::CLONE_NEWCGROUP),
        (Tried::PidNamespace, libc::CLONE_NEWPID),
    ] {
        facts.note(tried, sys::unshare(flag), "");
    }
    // A `/proc` of its own is for who is in the new pid namespace: the next child.
    match report_from(0, |_| Ok(()), mounts) {
        Ok(found) => facts.take_over(found),
        Err(error) => facts.note(Tried::PidNamespace, Err(error), ""),
    }
    facts
}

fn mounts() -> Facts {
    let mut facts = Facts::default();
    let locked = ATTR_RDONLY | ATTR_NOSUID | ATTR_NODEV | ATTR_NOEXEC;
    let _ = sys::make_mounts_private();
    let cloned = sys::clone_tree(c"/usr", Depth::All);
    match &cloned {
        Ok(mount) => {
            let set = sys::set_mount_attributes(mount.as_fd(), locked, 0, Depth::All);
            facts.note(Tried::MountSetattr, set, "");
        }
        Err(_) => {
            facts.set(Tried::MountSetattr, Answer::Untried("not tried: nothing could be cloned".into()))
        }
    }
    facts.note(Tried::OpenTree, cloned.map(drop), "");
    let mount = |kind, options: &[(&std::ffi::CStr, &std::ffi::CStr)]| {
        let context = sys::fs_open(kind)?;
        for (key, value) in options {
            sys::fs_set(context.as_fd(), key, value)?;
        }
        sys::fs_create(context.as_fd())?;
        sys::fs_mount(context.as_fd(), locked).map(drop)
    };
    facts.note(Tried::Tmpfs, mount(c"tmpfs", &[(c"size", c"4k"), (c"nr_inodes", c"4")]), "");
    let proc = mount(c"proc", &[(c"subset", c"pid"), (c"hidepid", c"ptraceable")]);
    facts.note(Tried::Proc, proc, "subset=pid, hidepid=ptraceable");
    facts
}

/// Says what of the host's settings bears on user namespaces.
fn user_namespace_settings() -> String {
    [
        "user.max_user_namespaces",
        "kernel.unprivileged_userns_clone",
        "kernel.apparmor_restrict_unprivileged_userns",
    ]
    .into_iter()
    .filter_map(|name| {
        let value = fs::read_to_string(Path::new("/proc/sys").join(name.replace('.', "/"))).ok()?;
        Some(format!("{name}={}", value.trim()))
    })
    .collect::<Vec<_>>()
    .join(", ")
}

fn landlock(facts: &mut Facts) {
    let abi = match sys::landlock_abi() {
        Ok(abi) => abi,
        Err(error) => {
            let why = match error.raw_os_error() {
                Some(libc::ENOSYS) => "the kernel was built without it, or a seccomp profile hides it",
                Some(libc::EOPNOTSUPP) => "the kernel was started without it",
                _ => "the kernel refuses to say",
            };
            facts.set(Tried::Landlock, Answer::Fails(format!("{why}: {error}")));
            0
        }
    };
    for (tried, first) in [
        (Tried::Landlock, 1),
        (Tried::LandlockRefer, 2),
        (Tried::LandlockTruncate, 3),
        (Tried::LandlockTcp, 4),
        (Tried::LandlockIoctl, 5),
        (Tried::LandlockScopes, 6),
    ] {
        if abi >= first {
            facts.set(tried, Answer::Works(format!("ABI {abi}")));
        } else if abi > 0 {
            facts.set(tried, Answer::Fails(format!("needs ABI {first}, the kernel has {abi}")));
        } else if tried != Tried::Landlock {
            facts.set(tried, Answer::Fails("no Landlock".into()));
        }
    }
}

/// Whether the doctor that started us is the same program, as a server would be.
fn started_by_itself() -> bool {
    let executable = |process: &str| std::fs::read_link(format!("/proc/{process}/exe")).ok();
    let own = executable("self");
    own.is_some() && own == executable(&std::os::unix::process::parent_id().to_string())
}

fn control_groups(facts: &mut Facts) {
    let offered = cgroup::offered();
    for (tried, name) in [
        (Tried::CgroupMemory, "memory"),
        (Tried::CgroupPids, "pids"),
        (Tried::CgroupCpuacct, "cpuacct"),
        (Tried::CgroupCpu, "cpu"),
    ] {
        let answer = match offered.iter().find(|offer| offer.controller == name) {
            None => Answer::Fails("no hierarchy has it, or none is mounted".into()),
            Some(offer) => {
                let place = format!("version {} at `{}`", offer.version, offer.place.display());
                match can_make_group(&offer.place) {
                    Ok(()) => Answer::Works(place),
                    Err(error) => Answer::Fails(format!("{place}: {error}")),
                }
            }
        };
        facts.set(tried, answer);
    }
    // As the launcher does; what was made goes with it.
    let answer = match cgroup::Root::make(started_by_itself(), None) {
        Ok(root) => Answer::Works(match root.version() {
            cgroup::Version::V1 => "version 1".into(),
            cgroup::Version::V2 => "version 2".into(),
        }),
        Err(reason) => Answer::Fails(reason.to_string()),
    };
    facts.set(Tried::Cgroups, answer);
}

fn can_make_group(place: &Path) -> io::Result<()> {
    let group = place.join(format!("portcullis-doctor-{}", std::process::id()));
    fs::create_dir(&group)?;
    fs::remove_dir(&group)
}

fn identities(config: &Config, facts: &mut Facts) {
    let last = config.first_uid.saturating_add(u32::try_from(config.cells.max(1) - 1).unwrap_or(u32::MAX));
    let range = format!("uids and gids {} to {last}", config.first_uid);
    let answer = match Identities::find(config) {
        Identities::OwnRange => Answer::Works(range),
        Identities::Shared if sys::effective_uid() != 0 => Answer::Fails("the service is not root".into()),
        Identities::Shared => Answer::Fails(format!("{range} are not mapped in this user namespace")),
    };
    facts.set(Tried::UidRange, answer);
}

/// Forks into new namespaces, has the parent prepare the child, and returns what the child found out.
fn report_from<T: Serialize + DeserializeOwned>(
    namespaces: libc::c_int,
    prepare: impl FnOnce(Pid) -> io::Result<()>,
    work: impl FnOnce() -> T,
) -> io::Result<T> {
    let (go_read, go_write) = sys::pipe()?;
    let (result_read, result_write) = sys::pipe()?;
    let (forked, pidfd) = sys::clone_into(namespaces)?;
    let pid = match forked {
        Forked::Parent(pid) => pid,
        Forked::Child => {
            drop((go_write, result_read));
            let mut byte = [0];
            let begun = File::from(go_read).read_exact(&mut byte);
            let told = begun.and_then(|()| {
                let bytes = postcard::to_stdvec(&work()).map_err(io::Error::other)?;
                File::from(result_write).write_all(&bytes)
            });
            sys::exit_now(i32::from(told.is_err()))
        }
    };
    drop((go_read, result_write));
    let result = pidfd
        .ok_or_else(|| io::Error::from_raw_os_error(libc::EBADF))
        .and_then(|pidfd| sys::pidfd_signal(pidfd.as_fd(), 0))
        .and_then(|()| prepare(pid))
        .and_then(|()| File::from(go_write).write_all(&[1]))
        .and_then(|()| {
            let mut bytes = Vec::new();
            File::from(result_read).take(MOST_BYTES).read_to_end(&mut bytes)?;
            wire::decode(&bytes)
        });
    let _ = sys::wait(pid, true);
    result
}
