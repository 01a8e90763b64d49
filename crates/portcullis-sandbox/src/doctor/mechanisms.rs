//! The one table of mechanisms: what needs each, what its absence means, and how to get it.

use portcullis_core::Level;
use serde::Serialize;

use super::Mechanism;
use super::facts::{Answer, Facts, Tried};

/// What needs a mechanism.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Need {
    /// Every level.
    Everything,
    /// Levels `namespaces` and `full`.
    Namespaces,
    /// Level `full`.
    Full,
    /// Level `landlock`; the others use it where it is there.
    Landlock,
    /// No level; what is weaker without it is said in each record.
    BestEffort,
}

impl Need {
    /// Says it in a word or two.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Everything => "everything",
            Self::Namespaces => "namespaces, full",
            Self::Full => "full",
            Self::Landlock => "landlock",
            Self::BestEffort => "best effort",
        }
    }

    /// Whether nothing runs without the mechanism when nothing below this level may.
    fn is_required(self, floor: Option<Level>) -> bool {
        match self {
            Self::Everything => true,
            Self::Namespaces => floor >= Some(Level::Namespaces),
            Self::Full => floor >= Some(Level::Full),
            // Without a floor, or with the lowest, namespaces do as well; whether either is there, a cell shows.
            Self::Landlock | Self::BestEffort => false,
        }
    }
}

/// How to get a mechanism in one place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Mend {
    /// Where.
    pub on: &'static str,
    /// How.
    pub how: &'static str,
}

/// A mechanism, but for what a host answered.
pub(super) struct Row {
    pub(super) tried: Tried,
    name: &'static str,
    need: Need,
    absence: &'static str,
    mends: &'static [Mend],
}

const fn mend(on: &'static str, how: &'static str) -> Mend {
    Mend { on, how }
}

const DEBIAN: &str = "Debian, Ubuntu";
const FEDORA: &str = "Fedora";
const DOCKER: &str = "Docker";
const KUBERNETES: &str = "Kubernetes";
const SYSTEMD: &str = "systemd";

const DOCKER_NAMESPACES: Mend =
    mend(DOCKER, "`--security-opt seccomp=deploy/seccomp.json --security-opt apparmor=unconfined`");
const KUBERNETES_NAMESPACES: Mend = mend(
    KUBERNETES,
    "`securityContext.seccompProfile: {type: Localhost, localhostProfile: portcullis.json}` with deploy/seccomp.json \
     on the node, and `appArmorProfile: {type: Unconfined}`",
);
const SYSTEMD_NAMESPACES: Mend = mend(
    SYSTEMD,
    "the unit sets no `RestrictNamespaces=`, and no `SystemCallFilter=` that refuses `@mount`; see deploy/portcullis.service",
);

const NAMESPACES: &[Mend] = &[
    mend(DEBIAN, "`sysctl user.max_user_namespaces=15000`; the other kinds have a limit of the same form"),
    mend(FEDORA, "`sysctl user.max_user_namespaces=15000`; the other kinds have a limit of the same form"),
    DOCKER_NAMESPACES,
    KUBERNETES_NAMESPACES,
    SYSTEMD_NAMESPACES,
];
const KERNEL_5_12: &[Mend] = &[
    mend(DEBIAN, "a kernel of 5.12 or later: Debian 12, Ubuntu 22.04"),
    mend(FEDORA, "a kernel of 5.12 or later: any release that is still supported"),
    DOCKER_NAMESPACES,
    KUBERNETES_NAMESPACES,
    SYSTEMD_NAMESPACES,
];
const KERNEL_5_10: &[Mend] = &[
    mend(DEBIAN, "a kernel of 5.10 or later: Debian 11, Ubuntu 22.04"),
    mend(FEDORA, "any release that is still supported"),
    mend(DOCKER, "an engine of 20.10 or later: older default seccomp profiles refuse the call"),
    mend(KUBERNETES, "nodes with a kernel of 5.10 or later"),
    mend(SYSTEMD, "the unit sets no `SystemCallFilter=` that refuses the call"),
];
const LANDLOCK: &[Mend] = &[
    mend(
        DEBIAN,
        "a kernel of 5.13 or later; `lsm=landlock,…` on its command line where `/sys/kernel/security/lsm` lacks it",
    ),
    mend(
        FEDORA,
        "`grubby --update-kernel=ALL --args=lsm=landlock,…` with what `/sys/kernel/security/lsm` lists already",
    ),
    mend(
        DOCKER,
        "the host's kernel decides; an engine of 23.0 or later, whose default seccomp profile allows the calls",
    ),
    mend(
        KUBERNETES,
        "the node's kernel decides; `seccompProfile: {type: RuntimeDefault}` of a current runtime allows the calls",
    ),
    mend(SYSTEMD, "the unit sets no `SystemCallFilter=`, or one with `@sandbox`"),
];
const NEWER_KERNEL: &[Mend] = &[
    mend(DEBIAN, "a newer kernel: ABI 2 came with 5.19, 3 with 6.2, 4 with 6.7, 5 with 6.10, 6 with 6.12"),
    mend(FEDORA, "`dnf upgrade kernel`"),
    mend(DOCKER, "the host's kernel decides"),
    mend(KUBERNETES, "the node's kernel decides"),
    mend(SYSTEMD, "the host's kernel decides"),
];
const CGROUPS: &[Mend] = &[
    mend(DEBIAN, "start the service by systemd with `Delegate=yes`, or as root outside of a container"),
    mend(FEDORA, "start the service by systemd with `Delegate=yes`, or as root outside of a container"),
    mend(
        DOCKER,
        "`--user 0 --cgroupns=private --security-opt writable-cgroups=true`, with an engine of 28.0 or later and version 2",
    ),
    mend(
        KUBERNETES,
        "a runtime that mounts cgroups writable: CRI-O's annotation `io.kubernetes.cri-o.cgroup2-mount-hierarchy-rw`, containerd 2.1's `cgroup_writable`",
    ),
    mend(SYSTEMD, "`Delegate=yes`, and no `ProtectControlGroups=`"),
];

/// Every mechanism, in the order in which a cell takes them on.
pub(super) const TABLE: &[Row] = &[
    Row {
        tried: Tried::Usr,
        name: "/usr",
        need: Need::Everything,
        absence: "there are no programs to run, and no view can be made",
        mends: &[
            mend(DEBIAN, "run where a system is installed, and let the service's user read `/usr`"),
            mend(FEDORA, "run where a system is installed, and let the service's user read `/usr`"),
            mend(DOCKER, "an image with a userland, such as deploy/Dockerfile makes: not `scratch`"),
            mend(KUBERNETES, "an image with a userland, such as deploy/Dockerfile makes: not `scratch`"),
            mend(SYSTEMD, "no `RootDirectory=` without a `/usr`, no `InaccessiblePaths=/usr`"),
        ],
    },
    Row {
        tried: Tried::Devices,
        name: "/dev devices",
        need: Need::Namespaces,
        absence: "the view lacks `/dev/null` and its like, and cannot be made",
        mends: &[
            mend(DEBIAN, "mount devtmpfs, or `mknod` null, zero, full, random and urandom in `/dev`"),
            mend(FEDORA, "mount devtmpfs, or `mknod` null, zero, full, random and urandom in `/dev`"),
            mend(DOCKER, "the engine makes them: do not mount over `/dev`"),
            mend(KUBERNETES, "the runtime makes them: do not mount over `/dev`"),
            mend(SYSTEMD, "`PrivateDevices=` keeps all five"),
        ],
    },
    Row {
        tried: Tried::Pidfd,
        name: "pidfd",
        need: Need::Everything,
        absence: "processes cannot be told by anything but a number that may be reused: nothing runs",
        mends: KERNEL_5_10,
    },
    Row {
        tried: Tried::CloseRange,
        name: "close_range",
        need: Need::Everything,
        absence: "descriptors cannot be closed for sure before a command starts: nothing runs",
        mends: KERNEL_5_10,
    },
    Row {
        tried: Tried::NoNewPrivileges,
        name: "no_new_privs",
        need: Need::Everything,
        absence: "a set-user-id program could raise a command's privilege: nothing runs",
        mends: KERNEL_5_10,
    },
    Row {
        tried: Tried::Seccomp,
        name: "seccomp filter",
        need: Need::Everything,
        absence: "a command could make any system call: nothing runs",
        mends: &[
            mend(DEBIAN, "a kernel with `CONFIG_SECCOMP_FILTER`, as the distribution's own are"),
            mend(FEDORA, "a kernel with `CONFIG_SECCOMP_FILTER`, as the distribution's own are"),
            mend(DOCKER, "the host's kernel decides; no profile that refuses `seccomp`"),
            mend(KUBERNETES, "the node's kernel decides; no profile that refuses `seccomp`"),
            mend(SYSTEMD, "the unit sets no `SystemCallFilter=`, or one with `@sandbox`"),
        ],
    },
    Row {
        tried: Tried::UserNamespace,
        name: "user namespace",
        need: Need::Namespaces,
        absence: "no namespace of any kind: nothing runs above level `landlock`",
        mends: &[
            mend(
                DEBIAN,
                "`sysctl user.max_user_namespaces=15000`; Debian also `kernel.unprivileged_userns_clone=1`; Ubuntu 23.10 and \
                 later an AppArmor profile for the executable (deploy/apparmor-portcullis), or \
                 `kernel.apparmor_restrict_unprivileged_userns=0`",
            ),
            mend(FEDORA, "`sysctl user.max_user_namespaces=15000`"),
            DOCKER_NAMESPACES,
            KUBERNETES_NAMESPACES,
            SYSTEMD_NAMESPACES,
        ],
    },
    Row {
        tried: Tried::MountNamespace,
        name: "mount namespace",
        need: Need::Namespaces,
        absence: "no view: commands see the host's files within Landlock's rules; level `landlock`",
        mends: &[
            mend(
                DEBIAN,
                "where a user namespace can be made and this cannot, AppArmor takes its privilege: a profile for the executable \
                 (deploy/apparmor-portcullis), or `sysctl kernel.apparmor_restrict_unprivileged_userns=0`",
            ),
            mend(FEDORA, "`sysctl user.max_mnt_namespaces=15000`"),
            DOCKER_NAMESPACES,
            KUBERNETES_NAMESPACES,
            SYSTEMD_NAMESPACES,
        ],
    },
    Row {
        tried: Tried::PidNamespace,
        name: "pid namespace",
        need: Need::Namespaces,
        absence: "the end of an execution is not the kernel's own doing, and other processes can be seen; level `landlock`",
        mends: NAMESPACES,
    },
    Row {
        tried: Tried::NetworkNamespace,
        name: "network namespace",
        need: Need::Namespaces,
        absence: "no network is refused by seccomp and Landlock alone; level `landlock`",
        mends: NAMESPACES,
    },
    Row {
        tried: Tried::IpcNamespace,
        name: "ipc namespace",
        need: Need::Namespaces,
        absence: "System V objects of the host are refused by seccomp alone; level `landlock`",
        mends: NAMESPACES,
    },
    Row {
        tried: Tried::UtsNamespace,
        name: "uts namespace",
        need: Need::Namespaces,
        absence: "the host's name can be read; level `landlock`",
        mends: NAMESPACES,
    },
    Row {
        tried: Tried::CgroupNamespace,
        name: "cgroup namespace",
        need: Need::Namespaces,
        absence: "the host's groups can be read; level `landlock`",
        mends: NAMESPACES,
    },
    Row {
        tried: Tried::OpenTree,
        name: "open_tree, move_mount",
        need: Need::Namespaces,
        absence: "no view can be put together; level `landlock`",
        mends: KERNEL_5_12,
    },
    Row {
        tried: Tried::MountSetattr,
        name: "mount_setattr",
        need: Need::Namespaces,
        absence: "a view cannot be made read-only and `noexec` as a whole; level `landlock`",
        mends: KERNEL_5_12,
    },
    Row {
        tried: Tried::Tmpfs,
        name: "tmpfs in a user namespace",
        need: Need::Namespaces,
        absence: "no root, workspace or `/tmp` of an execution's own; level `landlock`",
        mends: KERNEL_5_12,
    },
    Row {
        tried: Tried::Proc,
        name: "proc of its own",
        need: Need::Namespaces,
        absence: "an execution cannot see itself in `/proc` without seeing others; level `landlock`",
        mends: &[
            mend(DEBIAN, "a kernel of 5.8 or later, and nothing mounted over parts of `/proc`"),
            mend(FEDORA, "a kernel of 5.8 or later, and nothing mounted over parts of `/proc`"),
            mend(
                DOCKER,
                "`--security-opt systempaths=unconfined`: the kernel lets a user namespace mount no `/proc` while parts of the container's are covered",
            ),
            mend(KUBERNETES, "`securityContext.procMount: Unmasked`, which asks for `hostUsers: false`"),
            mend(
                SYSTEMD,
                "no `ProtectKernelTunables=`, `ProtectKernelLogs=`, `ProcSubset=` or `ProtectProc=`: they cover parts of `/proc`",
            ),
        ],
    },
    Row {
        tried: Tried::Landlock,
        name: "Landlock (ABI 1: files, execution)",
        need: Need::Landlock,
        absence: "commands of one line share the rights of the view; without namespaces nothing runs",
        mends: LANDLOCK,
    },
    Row {
        tried: Tried::LandlockRefer,
        name: "Landlock ABI 2: moves",
        need: Need::BestEffort,
        absence: "files cannot be moved between directories, also where a rule allows it",
        mends: NEWER_KERNEL,
    },
    Row {
        tried: Tried::LandlockTruncate,
        name: "Landlock ABI 3: truncation",
        need: Need::BestEffort,
        absence: "what may be opened for writing by nobody can still be truncated; read-only mounts refuse that where there is a view",
        mends: NEWER_KERNEL,
    },
    Row {
        tried: Tried::LandlockTcp,
        name: "Landlock ABI 4: TCP",
        need: Need::BestEffort,
        absence: "TCP is refused by the network namespace and seccomp alone",
        mends: NEWER_KERNEL,
    },
    Row {
        tried: Tried::LandlockIoctl,
        name: "Landlock ABI 5: device ioctl",
        need: Need::BestEffort,
        absence: "device controls are refused by seccomp and the choice of devices alone",
        mends: NEWER_KERNEL,
    },
    Row {
        tried: Tried::LandlockScopes,
        name: "Landlock ABI 6: scopes",
        need: Need::BestEffort,
        absence: "signals and abstract sockets are held by namespaces alone; at level `landlock` no command may signal anybody",
        mends: NEWER_KERNEL,
    },
    Row {
        tried: Tried::Cgroups,
        name: "control groups",
        need: Need::Full,
        absence: "memory, processes and CPU time are bounded for each process, not for the tree; level `namespaces`",
        mends: CGROUPS,
    },
    Row {
        tried: Tried::CgroupMemory,
        name: "cgroup memory",
        need: Need::Full,
        absence: "the tree's memory is neither bounded nor counted; level `namespaces`",
        mends: CGROUPS,
    },
    Row {
        tried: Tried::CgroupPids,
        name: "cgroup pids",
        need: Need::Full,
        absence: "the tree's processes are not bounded together; level `namespaces`",
        mends: CGROUPS,
    },
    Row {
        tried: Tried::CgroupCpuacct,
        name: "cgroup cpuacct",
        need: Need::Full,
        absence: "the tree's CPU time is not counted together; level `namespaces`",
        mends: CGROUPS,
    },
    Row {
        tried: Tried::CgroupCpu,
        name: "cgroup cpu",
        need: Need::BestEffort,
        absence: "executions cannot be given shares of the processors",
        mends: CGROUPS,
    },
    Row {
        tried: Tried::UidRange,
        name: "a uid for each cell",
        need: Need::BestEffort,
        absence: "executions run under the service's own uid on the host; namespaces alone keep them apart",
        mends: &[
            mend(DEBIAN, "start the service as root; it gives each cell one from `PORTCULLIS_FIRST_UID` on"),
            mend(FEDORA, "start the service as root; it gives each cell one from `PORTCULLIS_FIRST_UID` on"),
            mend(
                DOCKER,
                "`--user 0`, with the default capabilities; with userns-remap a `PORTCULLIS_FIRST_UID` inside the mapped range",
            ),
            mend(
                KUBERNETES,
                "`runAsUser: 0`; with `hostUsers: false` a `PORTCULLIS_FIRST_UID` below 65536 minus the cells",
            ),
            mend(SYSTEMD, "no `User=`, no `PrivateUsers=`, as in deploy/portcullis.service"),
        ],
    },
];

/// Joins the table with what a host answered.
pub(super) fn list(facts: &Facts, floor: Option<Level>) -> Vec<Mechanism> {
    let mechanism = |row: &Row| {
        let (present, detail) = match facts.of(row.tried) {
            Answer::Works(detail) => (Some(true), detail),
            Answer::Fails(detail) => (Some(false), detail),
            Answer::Untried(detail) => (None, detail),
        };
        Mechanism {
            name: row.name,
            present,
            detail,
            needed_for: row.need,
            required: row.need.is_required(floor),
            absence: row.absence,
            mends: row.mends,
        }
    };
    TABLE.iter().map(mechanism).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mechanism_has_a_mend_for_each_place_and_a_name_of_its_own() {
        for row in TABLE {
            let places: Vec<&str> = row.mends.iter().map(|mend| mend.on).collect();
            assert_eq!(places, [DEBIAN, FEDORA, DOCKER, KUBERNETES, SYSTEMD], "{}", row.name);
            assert_eq!(TABLE.iter().filter(|other| other.name == row.name).count(), 1, "{}", row.name);
            assert_eq!(TABLE.iter().filter(|other| other.tried == row.tried).count(), 1, "{}", row.name);
        }
    }

    #[test]
    fn what_is_required_grows_with_the_floor() {
        let count = |floor| TABLE.iter().filter(|row| row.need.is_required(floor)).count();
        let counts = [None, Some(Level::Landlock), Some(Level::Namespaces), Some(Level::Full)].map(count);
        assert!(counts[0] == counts[1] && counts[1] < counts[2] && counts[2] < counts[3], "{counts:?}");
    }
}
