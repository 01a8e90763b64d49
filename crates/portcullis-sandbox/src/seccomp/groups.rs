//! The rules, as data: groups of calls that are refused, or refused with certain arguments, each group for one
//! reason.
//!
//! A call is known when it stands in [`ALLOWED`] or in a group. A known call is allowed unless a group that
//! applies refuses it; several groups may have a say in one call, and a refusal stands. Every call of the
//! tables is known: a test sees to that, so that a kernel's new call is thought about before it is open.

use super::Class;
#[cfg(doc)]
use super::allowed::ALLOWED;
use super::rules::{Answer, Case, Conditions, EAFNOSUPPORT, EINVAL, ENOSYS, EPERM, Group, Is, Rule, Test};

const fn argument(argument: u32, is: Is) -> Test {
    Test { argument, is }
}

const fn refuse(tests: &'static [Test]) -> Case {
    Case { tests, answer: EPERM }
}

const fn allow(tests: &'static [Test]) -> Case {
    Case { tests, answer: Answer::Allow }
}

const fn judged(conditions: &'static Conditions) -> Rule {
    Rule::Judged(conditions)
}

const fn bits(flags: libc::c_int) -> u32 {
    flags.cast_unsigned()
}

fn always(_: Class) -> bool {
    true
}

/// Every `CLONE_NEW…` flag, and `CLONE_PARENT`, which would make our own first process the parent of a
/// process that it did not start.
const CLONE_REFUSED: u32 = bits(
    libc::CLONE_NEWNS
        | libc::CLONE_NEWCGROUP
        | libc::CLONE_NEWUTS
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWUSER
        | libc::CLONE_NEWPID
        | libc::CLONE_NEWNET
        | libc::CLONE_PARENT,
) | CLONE_NEWTIME;

/// What a cell does for an execution and a command must not: its first process in new namespaces, views, and
/// mounts in them. Everything here needs a capability, and after this filter nobody gains one: a user namespace
/// is not made, so that for a command the kernel refuses these too.
pub(super) const NEEDED_BY_A_CELL: &[(Rule, &[&str])] = &[
    (
        judged(&Conditions {
            cases: &[refuse(&[argument(
                0,
                Is::AnyBit(CLONE_REFUSED & !bits(libc::CLONE_NEWPID | libc::CLONE_NEWIPC)),
            )])],
            otherwise: Answer::Allow,
            refused: "any `CLONE_NEW…` flag but those of the pid and IPC namespace, `CLONE_PARENT`",
        }),
        &["clone"],
    ),
    (
        judged(&Conditions {
            cases: &[refuse(&[argument(0, Is::AnyBit(!bits(libc::CLONE_NEWNS)))])],
            otherwise: Answer::Allow,
            refused: "any namespace but that of mounts",
        }),
        &["unshare"],
    ),
    (
        Rule::Always(Answer::Allow),
        &["setns", "open_tree", "move_mount", "mount_setattr", "fsopen", "fsconfig", "fsmount", "umount2"],
    ),
];

/// What the launcher does to make a cell, and whatever it forks must not: a cell's own filter refuses it all but for
/// [`NEEDED_BY_A_CELL`]. Beside this, the launcher's filter lets through what that of commands lets through, since
/// every command inherits it.
pub(super) const NEEDED_BY_THE_LAUNCHER: &[(Rule, &[&str])] = &[
    (
        judged(&Conditions {
            cases: &[refuse(&[argument(
                0,
                Is::AnyBit(bits(libc::CLONE_NEWCGROUP | libc::CLONE_PARENT) | CLONE_NEWTIME),
            )])],
            otherwise: Answer::Allow,
            refused: "`CLONE_NEWCGROUP`, `CLONE_NEWTIME`, `CLONE_PARENT`",
        }),
        &["clone"],
    ),
    (
        judged(&Conditions {
            cases: &[refuse(&[argument(0, Is::AnyBit(!bits(libc::CLONE_NEWNS | libc::CLONE_NEWCGROUP)))])],
            otherwise: Answer::Allow,
            refused: "any namespace but those of mounts and of control groups",
        }),
        &["unshare"],
    ),
    (
        judged(&Conditions {
            cases: &[
                // PR_SET_MM, PR_SCHED_CORE, PR_SET_PTRACER.
                refuse(&[argument(0, Is::In(&[(35, 35), (62, 62), (0x5961_6d61, 0x5961_6d61)]))]),
                allow(&[argument(0, Is::In(&[(1, 78), (0x5356_4d41, 0x5356_4d41)]))]),
            ],
            otherwise: EINVAL,
            refused: "`PR_SET_MM`, `PR_SCHED_CORE`, `PR_SET_PTRACER`; `EINVAL` for unknown options",
        }),
        &["prctl"],
    ),
    (
        Rule::Always(Answer::Allow),
        &[
            "setns",
            "open_tree",
            "move_mount",
            "mount_setattr",
            "fsopen",
            "fsconfig",
            "fsmount",
            "umount2",
            "mount",
            "pivot_root",
            "sethostname",
        ],
    ),
];

/// `CLONE_NEWTIME` lies within the bits of the exit signal, where no valid signal has it.
const CLONE_NEWTIME: u32 = 0x80;

/// Set-user-id, set-group-id and sticky.
const SPECIAL_BITS: u32 = 0o7000;
/// Set in the types of both kinds of device node, and in no other that mknod(2) makes.
const DEVICE_BIT: u32 = 0o020_000;
/// `O_CREAT` and the bit of `O_TMPFILE` that is its own: only with one of them is the mode looked at.
const CREATES: u32 = bits(libc::O_CREAT) | 0o20_000_000;
const MFD_NOEXEC_SEAL: u32 = 0x8;
const MFD_EXEC: u32 = 0x10;

const SPECIAL_MODE: &str = "a mode with set-id or sticky bits";
const MODE_1: Conditions = Conditions {
    cases: &[refuse(&[argument(1, Is::AnyBit(SPECIAL_BITS))])],
    otherwise: Answer::Allow,
    refused: SPECIAL_MODE,
};
const MODE_2: Conditions = Conditions {
    cases: &[refuse(&[argument(2, Is::AnyBit(SPECIAL_BITS))])],
    otherwise: Answer::Allow,
    refused: SPECIAL_MODE,
};

/// prctl(2) by option: what is known and harmless is allowed.
const PRCTL: Conditions = Conditions {
    cases: &[
        // PR_SET_DUMPABLE: to hide oneself, and no more.
        allow(&[argument(0, Is::In(&[(4, 4)])), argument(1, Is::In(&[(0, 0)]))]),
        // PR_SET_DUMPABLE, PR_SET_MM, PR_SCHED_CORE, PR_SET_PTRACER.
        refuse(&[argument(0, Is::In(&[(4, 4), (35, 35), (62, 62), (0x5961_6d61, 0x5961_6d61)]))]),
        // Every option from PR_SET_PDEATHSIG to PR_FUTEX_HASH, and PR_SET_VMA, which names memory.
        allow(&[argument(0, Is::In(&[(1, 78), (0x5356_4d41, 0x5356_4d41)]))]),
    ],
    otherwise: EINVAL,
    refused: "`PR_SET_DUMPABLE` but for 0, `PR_SET_MM`, `PR_SCHED_CORE`, `PR_SET_PTRACER`; `EINVAL` for unknown options",
};

/// fcntl(2) by command. Record locks stay: what conflicts with one needs a descriptor open for writing, which
/// no execution has on a file that it shares.
const FCNTL: Conditions = Conditions {
    cases: &[
        allow(&[argument(
            1,
            Is::In(&[
                (0, 7),       // F_DUPFD to F_SETLKW
                (1027, 1030), // F_DUPFD_QUERY, F_CREATED_QUERY, F_CANCELLK, F_DUPFD_CLOEXEC
                (36, 38),     // open file description locks
                (1032, 1035), // F_GETPIPE_SZ, F_ADD_SEALS, F_GET_SEALS, F_GET_RW_HINT
                (9, 9),       // F_GETOWN
                (11, 11),     // F_GETSIG
                (16, 17),     // F_GETOWN_EX, F_GETOWNER_UIDS
                (1025, 1025), // F_GETLEASE
                (1037, 1037), // F_GET_FILE_RW_HINT
            ]),
        )]),
        // F_SETOWN, F_SETSIG, F_SETOWN_EX, F_SETLEASE, F_NOTIFY, F_SETPIPE_SZ, F_SET_RW_HINT,
        // F_SET_FILE_RW_HINT, F_SETDELEG.
        refuse(&[argument(
            1,
            Is::In(&[
                (8, 8),
                (10, 10),
                (15, 15),
                (1024, 1024),
                (1026, 1026),
                (1031, 1031),
                (1036, 1036),
                (1038, 1038),
                (1040, 1040),
            ]),
        )]),
    ],
    otherwise: EINVAL,
    refused: "`F_SETOWN`, `F_SETOWN_EX`, `F_SETSIG`, `F_SETLEASE`, `F_SETDELEG`, `F_NOTIFY`, `F_SETPIPE_SZ`, `F_SET_RW_HINT`, `F_SET_FILE_RW_HINT`; `EINVAL` for unknown commands",
};

/// Only the calling process: argument 0 is 0.
const ITSELF: Conditions = Conditions {
    cases: &[refuse(&[argument(0, Is::NotIn(&[(0, 0)]))])],
    otherwise: Answer::Allow,
    refused: "another process than the calling one",
};

/// The groups, in the order of the documentation.
#[rustfmt::skip] // names stand side by side
pub(super) const GROUPS: &[Group] = &[
    Group {
        name: "namespaces",
        why: "a process without any capability may make a user namespace and own what is in it; clone3 keeps \
              its flags behind a pointer, where a filter cannot look, and libc falls back to clone",
        applies: always,
        rules: &[
            (Rule::Always(EPERM), &["unshare", "setns"]),
            (
                judged(&Conditions {
                    cases: &[refuse(&[argument(0, Is::AnyBit(CLONE_REFUSED))])],
                    otherwise: Answer::Allow,
                    refused: "any `CLONE_NEW…` flag, `CLONE_PARENT`",
                }),
                &["clone"],
            ),
            (Rule::Always(ENOSYS), &["clone3"]),
        ],
    },
    Group {
        name: "mounts",
        why: "the view is the confinement of files",
        applies: always,
        rules: &[(
            Rule::Always(EPERM),
            &[
                "mount", "umount2", "pivot_root", "chroot", "open_tree", "open_tree_attr", "move_mount",
                "fsopen", "fsconfig", "fsmount", "fspick", "mount_setattr", "statmount", "listmount",
            ],
        )],
    },
    Group {
        name: "special files",
        why: "Landlock lets chmod set set-id bits, and a whiteout is a device node that needs no capability; \
              openat2 keeps its mode behind a pointer, and those who call it fall back to openat",
        applies: always,
        rules: &[
            (
                judged(&Conditions {
                    cases: &[refuse(&[
                        argument(1, Is::AnyBit(CREATES)),
                        argument(2, Is::AnyBit(SPECIAL_BITS)),
                    ])],
                    otherwise: Answer::Allow,
                    refused: SPECIAL_MODE,
                }),
                &["open"],
            ),
            (
                judged(&Conditions {
                    cases: &[refuse(&[
                        argument(2, Is::AnyBit(CREATES)),
                        argument(3, Is::AnyBit(SPECIAL_BITS)),
                    ])],
                    otherwise: Answer::Allow,
                    refused: SPECIAL_MODE,
                }),
                &["openat"],
            ),
            (Rule::Always(ENOSYS), &["openat2"]),
            (judged(&MODE_1), &["creat", "chmod", "fchmod", "mkdir"]),
            (judged(&MODE_2), &["fchmodat", "fchmodat2", "mkdirat"]),
            (
                judged(&Conditions {
                    cases: &[refuse(&[argument(1, Is::AnyBit(SPECIAL_BITS | DEVICE_BIT))])],
                    otherwise: Answer::Allow,
                    refused: "devices, and a mode with set-id or sticky bits",
                }),
                &["mknod"],
            ),
            (
                judged(&Conditions {
                    cases: &[refuse(&[argument(2, Is::AnyBit(SPECIAL_BITS | DEVICE_BIT))])],
                    otherwise: Answer::Allow,
                    refused: "devices, and a mode with set-id or sticky bits",
                }),
                &["mknodat"],
            ),
            (
                judged(&Conditions {
                    cases: &[refuse(&[argument(4, Is::AnyBit(libc::RENAME_WHITEOUT))])],
                    otherwise: Answer::Allow,
                    refused: "`RENAME_WHITEOUT`",
                }),
                &["renameat2"],
            ),
        ],
    },
    Group {
        name: "execution from memory",
        why: "a memfd executes whatever Landlock says of paths, unless it is sealed against it; \
              READ_IMPLIES_EXEC and ADDR_NO_RANDOMIZE weaken what is executed",
        applies: always,
        rules: &[
            (
                judged(&Conditions {
                    cases: &[
                        refuse(&[argument(1, Is::NoBit(MFD_NOEXEC_SEAL))]),
                        refuse(&[argument(1, Is::AnyBit(MFD_EXEC))]),
                    ],
                    otherwise: Answer::Allow,
                    refused: "all but with `MFD_NOEXEC_SEAL`",
                }),
                &["memfd_create"],
            ),
            (
                judged(&Conditions {
                    cases: &[refuse(&[argument(4, Is::AnyBit(bits(libc::AT_EMPTY_PATH)))])],
                    otherwise: Answer::Allow,
                    refused: "`AT_EMPTY_PATH`: a descriptor instead of a path",
                }),
                &["execveat"],
            ),
            (
                judged(&Conditions {
                    cases: &[refuse(&[argument(0, Is::NotIn(&[(0, 0), (u32::MAX, u32::MAX)]))])],
                    otherwise: Answer::Allow,
                    refused: "all but `PER_LINUX` and the question",
                }),
                &["personality"],
            ),
        ],
    },
    Group {
        name: "terminals",
        why: "TIOCSTI and TIOCLINUX type into a terminal, TIOCSETD loads line disciplines, TIOCCONS takes \
              the console's output",
        applies: always,
        rules: &[(
            judged(&Conditions {
                cases: &[refuse(&[argument(
                    1,
                    Is::In(&[(0x5412, 0x5412), (0x541c, 0x541d), (0x5423, 0x5423)]),
                )])],
                otherwise: Answer::Allow,
                refused: "`TIOCSTI`, `TIOCLINUX`, `TIOCCONS`, `TIOCSETD`",
            }),
            &["ioctl"],
        )],
    },
    Group {
        name: "descriptors",
        why: "an owner or a lease makes the kernel signal or delay somebody else",
        applies: always,
        rules: &[
            (judged(&FCNTL), &["fcntl"]),
            (
                judged(&Conditions {
                    cases: &[refuse(&[argument(1, Is::In(&[(0x8901, 0x8902)]))])],
                    otherwise: Answer::Allow,
                    refused: "`FIOSETOWN`, `SIOCSPGRP`",
                }),
                &["ioctl"],
            ),
        ],
    },
    Group {
        name: "watching",
        why: "a watch on a file that executions share tells what others do with it; tail -f and its like poll \
              instead",
        applies: always,
        rules: &[(
            Rule::Always(EPERM),
            &[
                "inotify_init", "inotify_init1", "inotify_add_watch", "inotify_rm_watch", "fanotify_init",
                "fanotify_mark", "cachestat",
            ],
        )],
    },
    Group {
        name: "sockets",
        why: "every family but AF_UNIX leads out, whatever namespace it is in (AF_VSOCK), or into parsers of \
              the kernel (AF_ALG, AF_NETLINK, AF_PACKET)",
        applies: always,
        rules: &[
            (
                judged(&Conditions {
                    cases: &[allow(&[argument(0, Is::In(&[(1, 1)]))])],
                    otherwise: EAFNOSUPPORT,
                    refused: "every family but `AF_UNIX`, with `EAFNOSUPPORT`",
                }),
                &["socket", "socketpair"],
            ),
            (
                judged(&Conditions {
                    cases: &[refuse(&[
                        argument(1, Is::In(&[(1, 1)])),
                        // SO_ATTACH_FILTER, SO_ATTACH_BPF, SO_ATTACH_REUSEPORT_CBPF and _EBPF.
                        argument(2, Is::In(&[(26, 26), (50, 52)])),
                    ])],
                    otherwise: Answer::Allow,
                    refused: "attaching packet filters",
                }),
                &["setsockopt"],
            ),
        ],
    },
    Group {
        name: "tracing",
        why: "one process does not read, write or take from another",
        applies: always,
        rules: &[
            (
                Rule::Always(EPERM),
                &[
                    "ptrace", "process_vm_readv", "process_vm_writev", "process_madvise", "process_mrelease",
                    "kcmp", "pidfd_getfd",
                ],
            ),
            (judged(&PRCTL), &["prctl"]),
        ],
    },
    Group {
        name: "keys",
        why: "a keyring outlives the execution and is shared by a user namespace",
        applies: always,
        rules: &[(Rule::Always(EPERM), &["add_key", "request_key", "keyctl"])],
    },
    Group {
        name: "kernel machinery",
        why: "large, young, or able to act past this filter (io_uring), and no work of a command; old \
              asynchronous I/O draws on a limit of the whole machine",
        applies: always,
        rules: &[
            (
                Rule::Always(EPERM),
                &[
                    "bpf", "perf_event_open", "userfaultfd", "memfd_secret", "io_uring_setup",
                    "io_uring_enter", "io_uring_register", "modify_ldt", "lsm_set_self_attr",
                ],
            ),
            (
                Rule::Always(ENOSYS),
                &["io_setup", "io_destroy", "io_submit", "io_cancel", "io_getevents", "io_pgetevents"],
            ),
            (
                judged(&Conditions {
                    cases: &[refuse(&[
                        argument(0, Is::In(&[(1, 1)])),
                        argument(1, Is::AnyBit(8)), // SECCOMP_FILTER_FLAG_NEW_LISTENER
                    ])],
                    otherwise: Answer::Allow,
                    refused: "a listener for a filter (one more filter by itself only narrows)",
                }),
                &["seccomp"],
            ),
        ],
    },
    Group {
        name: "file handles",
        why: "a handle opens a file without a path, so past the view",
        applies: always,
        rules: &[(Rule::Always(EPERM), &["name_to_handle_at", "open_by_handle_at"])],
    },
    Group {
        name: "the host",
        why: "what these change or slow is the whole machine's",
        applies: always,
        rules: &[(
            Rule::Always(EPERM),
            &[
                "init_module", "finit_module", "delete_module", "kexec_load", "kexec_file_load", "reboot",
                "swapon", "swapoff", "acct", "quotactl", "quotactl_fd", "syslog", "iopl", "ioperm",
                "sethostname", "setdomainname", "vhangup", "sync", "syncfs", "setgroups",
            ],
        )],
    },
    Group {
        name: "clocks",
        why: "limits and records run on them",
        applies: always,
        rules: &[(
            Rule::Always(EPERM),
            &["settimeofday", "clock_settime", "clock_adjtime", "adjtimex"],
        )],
    },
    Group {
        name: "memory placement",
        why: "nodes of memory are shared with neighbours",
        applies: always,
        rules: &[(
            Rule::Always(EPERM),
            &["mbind", "set_mempolicy", "set_mempolicy_home_node", "migrate_pages", "move_pages"],
        )],
    },
    Group {
        name: "retired",
        why: "gone from the kernel or kept for programs of another age, and the two that only the kernel's own \
              probes call",
        applies: always,
        rules: &[(
            Rule::Always(ENOSYS),
            &[
                "_sysctl", "afs_syscall", "create_module", "epoll_ctl_old", "epoll_wait_old",
                "get_kernel_syms", "get_thread_area", "getpmsg", "lookup_dcookie", "nfsservctl", "putpmsg",
                "query_module", "remap_file_pages", "security", "set_thread_area", "sysfs", "tuxcall",
                "uprobe", "uretprobe", "uselib", "ustat", "vserver",
            ],
        )],
    },
    Group {
        name: "attributes",
        why: "Landlock lets what may be read be given another mode, owner, time or attribute; without a right \
              to write, nothing is, and there is no file of its own to lock either",
        applies: Class::is_read_only,
        rules: &[
            (
                Rule::Always(EPERM),
                &[
                    "chmod", "fchmod", "fchmodat", "fchmodat2", "chown", "fchown", "lchown", "fchownat",
                    "utime", "utimes", "futimesat", "utimensat", "setxattr", "lsetxattr", "fsetxattr",
                    "setxattrat", "removexattr", "lremovexattr", "fremovexattr", "removexattrat",
                    "file_setattr", "flock",
                ],
            ),
            (
                judged(&Conditions {
                    cases: &[refuse(&[argument(
                        1,
                        Is::In(&[
                            (0x4008_6602, 0x4008_6602), // FS_IOC_SETFLAGS
                            (0x4004_6602, 0x4004_6602), // FS_IOC32_SETFLAGS
                            (0x401c_5820, 0x401c_5820), // FS_IOC_FSSETXATTR
                            (0x4080_6685, 0x4080_6685), // FS_IOC_ENABLE_VERITY
                            (0x800c_6613, 0x800c_6613), // FS_IOC_SET_ENCRYPTION_POLICY
                        ]),
                    )])],
                    otherwise: Answer::Allow,
                    refused: "setting a file's flags, extended flags, verity or encryption",
                }),
                &["ioctl"],
            ),
        ],
    },
    Group {
        name: "sockets without a network namespace",
        why: "an abstract or a path socket reaches the host; a connected pair of streams or packets cannot be \
              given another address, a pair of datagram sockets can",
        applies: Class::is_landlock_level,
        rules: &[
            (Rule::Always(EAFNOSUPPORT), &["socket"]),
            (Rule::Always(EPERM), &["connect", "bind", "listen", "accept", "accept4"]),
            (
                judged(&Conditions {
                    // SOCK_STREAM or SOCK_SEQPACKET, with SOCK_NONBLOCK and SOCK_CLOEXEC or without.
                    cases: &[allow(&[argument(
                        1,
                        Is::In(&[
                            (1, 1),
                            (5, 5),
                            (0x801, 0x801),
                            (0x805, 0x805),
                            (0x8_0001, 0x8_0001),
                            (0x8_0005, 0x8_0005),
                            (0x8_0801, 0x8_0801),
                            (0x8_0805, 0x8_0805),
                        ]),
                    )])],
                    otherwise: EPERM,
                    refused: "every type but `SOCK_STREAM` and `SOCK_SEQPACKET`",
                }),
                &["socketpair"],
            ),
        ],
    },
    Group {
        name: "neighbours without a pid namespace",
        why: "limits, places and priorities of other processes of the same uid, the service among them",
        applies: Class::is_landlock_level,
        rules: &[
            (
                judged(&ITSELF),
                &["prlimit64", "sched_setaffinity", "sched_setattr", "sched_setparam", "sched_setscheduler"],
            ),
            (
                judged(&Conditions {
                    cases: &[
                        // PRIO_PROCESS.
                        refuse(&[argument(0, Is::NotIn(&[(0, 0)]))]),
                        refuse(&[argument(1, Is::NotIn(&[(0, 0)]))]),
                    ],
                    otherwise: Answer::Allow,
                    refused: "all but the calling process",
                }),
                &["setpriority"],
            ),
            (
                judged(&Conditions {
                    cases: &[
                        // IOPRIO_WHO_PROCESS.
                        refuse(&[argument(0, Is::NotIn(&[(1, 1)]))]),
                        refuse(&[argument(1, Is::NotIn(&[(0, 0)]))]),
                    ],
                    otherwise: Answer::Allow,
                    refused: "all but the calling process",
                }),
                &["ioprio_set"],
            ),
        ],
    },
    Group {
        name: "objects without an IPC namespace",
        why: "they outlive the execution and are found by others of the same uid",
        applies: Class::is_landlock_level,
        rules: &[(
            Rule::Always(EPERM),
            &[
                "shmget", "shmat", "shmctl", "shmdt", "semget", "semop", "semtimedop", "semctl", "msgget",
                "msgsnd", "msgrcv", "msgctl", "mq_open", "mq_unlink", "mq_timedsend", "mq_timedreceive",
                "mq_notify", "mq_getsetattr",
            ],
        )],
    },
    Group {
        name: "signals without a scope",
        why: "before Landlock's ABI 6 nothing keeps a signal from another process of the same uid, and a filter \
              cannot tell whose number it sees; raise and abort are refused too",
        applies: Class::is_unscoped,
        rules: &[(
            Rule::Always(EPERM),
            &["kill", "tkill", "tgkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo", "pidfd_send_signal"],
        )],
    },
];
