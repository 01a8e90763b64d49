//! Calls and files of the kernel that are closed (lines 6, 11, 25, 27 to 38 of the threats).

use portcullis_core::{Connector, Ended, Level};

use crate::harness::{Line, as_root, bench, check, check_end, check_everywhere, has, reading, writing};

/// Line 29.
#[test]
fn no_namespace_is_made_by_any_command_of_a_line() {
    for rights in [reading, writing] {
        check_everywhere("call unshare 0x10000000 , getpid", rights, &["unshare ! EPERM", "getpid = …"]);
    }
}

/// Line 30.
#[test]
fn nothing_is_mounted_by_any_command_of_a_line() {
    let calls =
        "call fspick -100 s:/ 0 , fsconfig 0 0 0 0 0 , open_tree -100 s:/tmp 0x1 , mount s:/ s:/tmp 0 4096 0";
    let refused = ["fspick ! EPERM", "fsconfig ! EPERM", "open_tree ! EPERM", "mount ! EPERM"];
    check_everywhere(calls, writing, &refused);
}

/// Line 31.
#[test]
fn interfaces_of_the_kernel_are_closed_whatever_their_arguments() {
    for (call, answer) in [
        ("io_uring_setup 8 b:120", "EPERM"),
        ("io_uring_enter 0 0 0 0 0 0", "EPERM"),
        ("io_uring_register 0 0 0 0", "EPERM"),
        ("io_setup 8 b:8", "ENOSYS"),
        ("fanotify_mark 0 0 0 0 0", "EPERM"),
        ("name_to_handle_at -100 s:/usr b:128 b:8 0", "EPERM"),
        ("init_module b:8 8 s:", "EPERM"),
        ("finit_module 0 s: 0", "EPERM"),
        ("delete_module s:x 0", "EPERM"),
        ("kexec_load 0 0 0 0", "EPERM"),
        ("kexec_file_load 0 0 0 s: 0", "EPERM"),
        ("swapon s:/tmp/x 0", "EPERM"),
        ("swapoff s:/tmp/x", "EPERM"),
        ("acct s:/tmp/x", "EPERM"),
        ("quotactl 0 0 0 0", "EPERM"),
        ("quotactl_fd 0 0 0 0", "EPERM"),
        ("settimeofday w:0/0 0", "EPERM"),
        ("clock_adjtime 0 b:256", "EPERM"),
        ("adjtimex b:256", "EPERM"),
        ("setdomainname s:x 1", "EPERM"),
        ("memfd_secret 0", "EPERM"),
        ("process_madvise 0 0 0 0 0", "EPERM"),
        ("process_vm_writev 1 0 0 0 0 0", "EPERM"),
        ("mbind 0 0 0 0 0 0", "EPERM"),
        ("sync", "EPERM"),
    ] {
        let name = call.split(' ').next().unwrap();
        check(writing(Line::calls(call)), &[&format!("{name} ! {answer}")]);
    }
    check_everywhere("call bpf 0 b:64 64", writing, &["bpf ! EPERM"]);
    check_everywhere("call keyctl 0 -3 0", writing, &["keyctl ! EPERM"]);
}

/// Line 31.
#[cfg(target_arch = "x86_64")]
#[test]
fn ports_and_segments_of_the_processor_are_closed() {
    // iopl, ioperm and modify_ldt, by their numbers on this architecture.
    check(Line::calls("172 3 , 173 0 1 1 , 154 0 b:16 16"), &["172 ! EPERM", "173 ! EPERM", "154 ! EPERM"]);
}

/// Line 32.
#[test]
fn a_call_that_no_table_knows_is_absent() {
    for rights in [reading, writing] {
        check_everywhere("call 600 , 4095", rights, &["600 ! ENOSYS", "4095 ! ENOSYS"]);
    }
}

/// Line 32.
#[cfg(target_arch = "x86_64")]
#[test]
fn calls_of_another_machine_end_the_process_and_those_of_x32_are_absent() {
    // getpid, with the bit of x32.
    check_everywhere("call 1073741863 , getuid", reading, &["1073741863 ! ENOSYS", "getuid = 1000"]);
    if !has(Level::Namespaces) {
        return;
    }
    for rights in [reading, writing] {
        let ran = bench().run(rights(Line::probe("int80"))).unwrap();
        assert_eq!(ran.stdout, "calling\n", "the call is never answered: {ran:?}");
        // SIGSYS; or SIGSEGV on a kernel that has no such calls.
        assert!(matches!(ran.outcome.ended, Ended::Signaled(31 | 11)), "{ran:?}");
    }
}

/// Line 6.
#[test]
fn set_id_bits_are_refused_by_every_call_that_takes_a_mode() {
    check_everywhere(
        "call openat -100 s:/workspace/f 0x42 420 , fchmod $0 2541 , fchmod $0 1517 , fchmod $0 493 , \
         fchmodat2 -100 s:/workspace/f 2541 0 , fchmodat2 -100 s:/workspace/f 493 0 , \
         mknodat -100 s:/workspace/p 6573 0 , fsetxattr $0 s:security.capability w:0x2000000/0/0 20 0 , unlinkat -100 s:/workspace/f 0",
        writing,
        &[
            "openat = 3",
            "fchmod ! EPERM",
            "fchmod ! EPERM",
            "fchmod = 0",
            "fchmodat2 ! EPERM",
            "fchmodat2 = 0",
            "mknodat ! EPERM",
            "fsetxattr ! EPERM",
            "unlinkat = 0",
        ],
    );
}

/// Line 11.
#[test]
fn shared_files_can_be_neither_watched_nor_locked_nor_leased() {
    check_everywhere(
        "call inotify_init1 0 , inotify_add_watch 0 s:/usr 2 , openat -100 s:/usr/bin/ls 0 , flock $2 1 , \
         fcntl $2 1024 0 , fcntl $2 1026 2 , fcntl $2 1025 0",
        reading,
        &[
            "inotify_init1 ! EPERM",
            "inotify_add_watch ! EPERM",
            "openat = 3",
            "flock ! EPERM",
            "fcntl ! EPERM",
            "fcntl ! EPERM",
            "fcntl = 2",
        ],
    );
}

/// Line 27.
#[test]
fn a_better_place_is_taken_by_no_call() {
    check_everywhere(
        "call setpriority 0 0 -1 , sched_setscheduler 0 2 w:1 , sched_setattr 0 w:0x200000030/0/0 0 , \
         ioprio_set 1 0 0x2001 , setpriority 0 0 19 , setpriority 0 0 0",
        reading,
        &[
            "setpriority ! EACCES",
            "sched_setscheduler ! EPERM",
            "sched_setattr ! …",
            "ioprio_set ! EPERM",
            "setpriority = 0",
            "setpriority ! EACCES",
        ],
    );
}

/// Line 27.
#[test]
fn the_order_of_the_out_of_memory_killer_is_not_changed() {
    check_everywhere(
        "call openat -100 s:/proc/self/oom_score_adj 1 , openat -100 s:/proc/self/oom_score_adj 0",
        writing,
        &["openat ! EROFS", "openat = 3"],
    );
    if has(Level::Full) {
        check(Line::of("cat /proc/self/oom_score_adj"), &["1000"]);
    }
}

/// Line 27.
#[test]
fn hard_limits_are_lowered_and_never_raised() {
    // RLIMIT_NOFILE: down works, up does not. RLIMIT_MEMLOCK: 64 KiB may be locked, more may not.
    check_everywhere(
        "call prlimit64 0 7 w:100/100 0 , prlimit64 0 7 w:100/101 0 , prlimit64 0 4 w:-1/-1 0 , \
         mmap 0 262144 3 34 -1 0 , mlock $3 32768 , mlock $3 262144 , mlockall 3",
        reading,
        &[
            "prlimit64 = 0",
            "prlimit64 ! EPERM",
            "prlimit64 ! EPERM",
            "mmap = …",
            "mlock = 0",
            "mlock ! ENOMEM",
            "mlockall ! ENOMEM",
        ],
    );
}

/// Lines 27 and 46.
#[test]
fn every_limit_of_a_process_is_hard() {
    if !has(Level::Namespaces) {
        return;
    }
    let ran = bench().run(Line::of("cat /proc/self/limits")).unwrap();
    for (name, hard) in [
        ("Max core file size", "1"),
        ("Max cpu time", "62"),
        ("Max file size", "67108864"),
        ("Max open files", "256"),
        ("Max file locks", "256"),
        ("Max locked memory", "65536"),
        ("Max msgqueue size", "0"),
        ("Max nice priority", "0"),
        ("Max realtime priority", "0"),
        ("Max pending signals", "256"),
    ] {
        let line = ran.stdout.lines().find(|line| line.starts_with(name)).unwrap();
        let mut values = line.strip_prefix(name).unwrap().split_whitespace();
        let (soft, at_most) = (values.next().unwrap(), values.next().unwrap());
        // Of CPU time a second is left between the word of it and the end.
        let second =
            soft.parse::<u64>().ok().filter(|_| name == "Max cpu time").map(|soft| (soft + 1).to_string());
        let soft = second.unwrap_or_else(|| soft.to_owned());
        assert_eq!((soft.as_str(), at_most), (hard, hard), "{line}");
    }
}

/// Lines 35 and 36.
#[test]
fn settings_of_the_kernel_and_control_groups_are_absent() {
    for file in [
        "/proc/sys/kernel/core_pattern",
        "/proc/sysrq-trigger",
        "/proc/kcore",
        "/proc/kmsg",
        "/proc/keys",
        "/proc/key-users",
        "/proc/timer_list",
        "/proc/modules",
        "/proc/kallsyms",
        "/proc/bus",
        "/proc/irq",
        "/sys/fs/cgroup",
        "/sys/kernel",
        "/sys/fs/cgroup/memory/release_agent",
        "/sys/kernel/security",
    ] {
        check(
            Line::calls(&format!("openat -100 s:{file} 0 , openat -100 s:{file} 1 , access -100 s:{file} 0")),
            &["openat ! ENOENT", "openat ! ENOENT", "access ! ENOENT"],
        );
    }
    check(Line::calls("openat -100 s:/proc/self/status 0"), &["openat = 3"]);
}

/// Line 36.
#[test]
fn control_groups_are_named_as_if_the_cells_were_the_root() {
    if !has(Level::Full) {
        return;
    }
    let ran = bench().run(Line::of("cat /proc/self/cgroup")).unwrap();
    let cell = |line: &&str| line.contains(":memory:") || line.starts_with("0::");
    let named: Vec<&str> = ran.stdout.lines().filter(cell).collect();
    assert!(!named.is_empty() && named.iter().all(|line| line.ends_with(":/")), "{ran:?}");
}

/// Line 28.
#[test]
fn no_group_of_whoever_started_the_service_is_kept() {
    if as_root("the groups of root given up") {
        check(Line::of("grep -E ^Groups: /proc/self/status"), &["Groups:\t "]);
    }
}

/// Line 32.
#[cfg(target_arch = "x86_64")]
#[test]
fn retired_calls_are_absent() {
    // ustat, sysfs, remap_file_pages, set_thread_area, by their numbers on this architecture.
    check(
        Line::calls("136 0 b:64 , 139 3 , 216 0 0 0 0 0 , 205 b:16"),
        &["136 ! ENOSYS", "139 ! ENOSYS", "216 ! ENOSYS", "205 ! ENOSYS"],
    );
}

/// Line 35.
#[test]
fn nothing_in_proc_is_written() {
    for file in ["comm", "oom_score_adj", "clear_refs", "coredump_filter", "attr/current", "uid_map"] {
        let ran = bench().run(writing(Line::calls(&format!("openat -100 s:/proc/self/{file} 1")))).unwrap();
        let refused = ["openat ! EACCES\n", "openat ! EROFS\n", "openat ! ENOENT\n", "openat ! EPERM\n"];
        assert!(refused.contains(&ran.stdout.as_str()), "{file}: {ran:?}");
    }
}

/// Line 37.
#[test]
fn a_crash_leaves_no_core_file() {
    if !has(Level::Namespaces) {
        return;
    }
    let line = writing(Line::probe("fork signal 11")).then(Connector::Always, "ls -A /workspace");
    check(line, &[]);
    check_end(writing(Line::probe("signal 11")), Ended::Signaled(11));
}

/// Line 38.
#[test]
fn confinement_is_never_undone() {
    check_everywhere(
        "call prctl 38 0 0 0 0 , prctl 39 0 0 0 0 , prctl 22 0 0 0 0 , prctl 4 1 0 0 0 , prctl 4 0 0 0 0 , \
         prctl 3 0 0 0 0 , personality 0x0040000 , personality 0x0400000 , personality 0xffffffff , \
         prctl 35 0 0 0 0 , prctl 0x59616d61 1 0 0 0 , prctl 24 0 0 0 0",
        writing,
        &[
            "prctl ! EINVAL", // PR_SET_NO_NEW_PRIVS to 0
            "prctl = 1",      // PR_GET_NO_NEW_PRIVS
            "prctl ! EINVAL", // PR_SET_SECCOMP to none
            "prctl ! EPERM",  // PR_SET_DUMPABLE to 1
            "prctl = 0",      // PR_SET_DUMPABLE to 0
            "prctl = 0",      // PR_GET_DUMPABLE
            "personality ! EPERM",
            "personality ! EPERM",
            "personality = 0",
            "prctl ! EPERM", // PR_SET_MM
            "prctl ! EPERM", // PR_SET_PTRACER
            "prctl ! EPERM", // PR_CAPBSET_DROP
        ],
    );
}

/// Line 38.
#[test]
fn a_second_landlock_layer_only_narrows() {
    // A layer that handles writing and allows none: what was allowed is refused, what was refused stays so.
    check_everywhere(
        "call openat -100 s:/workspace/a 0x41 420 , openat -100 s:/usr/x 0x41 420 , \
         landlock_create_ruleset w:0x102 8 0 , landlock_restrict_self $2 0 , openat -100 s:/workspace/b 0x41 420 , \
         openat -100 s:/usr/x 0x41 420 , unlinkat -100 s:/workspace/a 0",
        writing,
        &[
            "openat = 3",
            "openat ! EROFS",
            "landlock_create_ruleset = 4",
            "landlock_restrict_self = 0",
            "openat ! EACCES",
            "openat ! EROFS",
            "unlinkat = 0",
        ],
    );
}

/// Line 25.
#[test]
fn flags_of_a_descriptor_do_not_reach_the_service() {
    // O_APPEND, O_ASYNC and O_NONBLOCK on 0, 1 and 2; then the size of a pipe, the owner and the signal.
    let change = "call fcntl 0 4 0x2c00 , fcntl 1 4 0x2c00 , fcntl 2 4 0x2c00 , fcntl 1 1031 4096 , fcntl 1 8 1 , fcntl 1 10 9";
    check_everywhere(
        change,
        reading,
        &["fcntl = 0", "fcntl = 0", "fcntl = 0", "fcntl ! EPERM", "fcntl ! EPERM", "fcntl ! EPERM"],
    );
    if !has(Level::Namespaces) {
        return;
    }
    for _ in 0..3 {
        let mut line = Line::probe("read-input");
        line.stdin = Some(vec![b'x'; 300_000]);
        let ran = bench().run(line).unwrap();
        assert_eq!(ran.stdout.len(), 300_000, "what comes after is whole: {:?}", ran.outcome);
    }
}

/// Line 28.
#[test]
fn identities_stay_as_they_are_by_every_call() {
    check_everywhere(
        "call setuid 0 , setgid 0 , setreuid 0 0 , setregid 0 0 , setresgid 0 0 0 , setgroups 1 w:0 , setfsuid 0 , \
         setfsuid -1 , setuid 1000 , getuid",
        reading,
        &[
            "setuid ! …",
            "setgid ! …",
            "setreuid ! …",
            "setregid ! …",
            "setresgid ! …",
            "setgroups ! EPERM",
            // It answers who it was before, and stays so.
            "setfsuid = 1000",
            "setfsuid = 1000",
            "setuid = 0",
            "getuid = 1000",
        ],
    );
}

/// Line 34.
#[test]
fn there_is_no_terminal_to_take() {
    // A session of the execution's own; no terminal by any name; none becomes the controlling one.
    check_everywhere(
        "call openat -100 s:/dev/tty 2 , openat -100 s:/dev/ptmx 2 , openat -100 s:/dev/pts 0 , \
         openat -100 s:/dev/console 2 , ioctl 0 0x540e 1 , getsid 0",
        reading,
        &[
            "openat ! ENOENT",
            "openat ! ENOENT",
            "openat ! ENOENT",
            "openat ! ENOENT",
            "ioctl ! ENOTTY",
            "getsid = 1",
        ],
    );
}
