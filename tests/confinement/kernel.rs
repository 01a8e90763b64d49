//! Processes, kernel interfaces and the network (lines 19 to 42 of the threats).

use crate::harness::{Line, check};

#[test]
fn other_processes_do_not_exist() {
    check(
        Line::calls("kill 3 0 , kill 300 0 , pidfd_open 300 0 , openat -100 s:/proc/300/status 0"),
        &["kill ! ESRCH", "kill ! ESRCH", "pidfd_open ! ESRCH", "openat ! ENOENT"],
    );
    // The command itself, and not even the first process of its execution.
    check(Line::of("ls /proc"), &["…", "self", "thread-self"]);
}

#[test]
fn the_first_process_can_be_neither_read_nor_traced() {
    check(
        Line::calls(
            "ptrace 16 1 0 0 , ptrace 0x4206 1 0 0 , process_vm_readv 1 b:16 1 b:16 1 0 , kcmp 1 2 0 0 0 , \
             openat -100 s:/proc/1/environ 0 , openat -100 s:/proc/1/maps 0 , openat -100 s:/proc/1/mem 2 , \
             openat -100 s:/proc/1/fd 0x10000 , openat -100 s:/proc/1/exe 0",
        ),
        &[
            "ptrace ! EPERM",
            "ptrace ! EPERM",
            "process_vm_readv ! EPERM",
            "kcmp ! EPERM",
            "openat ! ENOENT",
            "openat ! ENOENT",
            "openat ! ENOENT",
            "openat ! ENOENT",
            "openat ! ENOENT",
        ],
    );
}

#[test]
fn the_first_process_cannot_be_ended_or_stopped() {
    // SIGKILL, SIGSTOP, SIGTERM: the execution goes on and ends by itself.
    check(
        Line::calls("kill 1 9 , kill 1 19 , kill 1 15 , getuid"),
        &["kill …", "kill …", "kill …", "getuid = 1000"],
    );
}

#[test]
fn three_descriptors_are_open_and_no_more() {
    check(Line::probe("fds"), &["0", "1", "2"]);
    check(Line::of("echo x").pipe("confinement-probe fds"), &["0", "1", "2"]);
}

#[test]
fn identities_stay_as_they_are() {
    check(
        Line::calls("setresuid 0 0 0 , setgroups 0 0 , capset w:0x20080522 w:0xffffffff/0xffffffff , getuid"),
        &["setresuid ! EINVAL", "setgroups ! EPERM", "capset ! EPERM", "getuid = 1000"],
    );
}

#[test]
fn namespaces_are_not_made_or_joined() {
    let unshare = |flag: &str| Line::calls(&format!("unshare {flag} , clone {flag} 0 0 0 0"));
    for flag in [
        "0x10000000",
        "0x00020000",
        "0x40000000",
        "0x20000000",
        "0x08000000",
        "0x04000000",
        "0x02000000",
        "0x80",
    ] {
        check(unshare(flag), &["unshare ! EPERM", "clone ! EPERM"]);
    }
    check(
        Line::calls("clone3 w:0x10000000/0/0/0/0/0/0/0 64 , openat -100 s:/proc/self/ns/net 0 , setns $1 0"),
        &["clone3 ! ENOSYS", "openat = 3", "setns ! EPERM"],
    );
}

#[test]
fn nothing_is_mounted_by_any_call() {
    check(
        Line::calls(
            "mount s:x s:/tmp s:tmpfs 0 0 , umount2 s:/proc 2 , pivot_root s:/ s:/ , open_tree -100 s:/ 1 , \
             move_mount -100 s:/ -100 s:/tmp 0 , fsopen s:tmpfs 0 , fsmount 0 0 0 , mount_setattr -100 s:/ 0 b:32 32 , \
             chroot s:/tmp",
        ),
        &[
            "mount ! EPERM",
            "umount2 ! EPERM",
            "pivot_root ! EPERM",
            "open_tree ! EPERM",
            "move_mount ! EPERM",
            "fsopen ! EPERM",
            "fsmount ! EPERM",
            "mount_setattr ! EPERM",
            "chroot ! EPERM",
        ],
    );
}

#[test]
fn interfaces_of_the_kernel_are_closed() {
    for call in [
        "bpf 0 b:64 64",
        "perf_event_open b:128 0 -1 -1 0",
        "userfaultfd 0",
        "keyctl 0 0",
        "add_key s:user s:x s:y 1 -3",
        "request_key s:user s:x 0 0",
        "fanotify_init 0 0",
        "open_by_handle_at -100 b:128 0",
        "reboot 0xfee1dead 672274793 0 0",
        "syslog 10 0 0",
        "clock_settime 0 w:0/0",
        "sethostname s:x 1",
        "pidfd_getfd 0 0 0",
    ] {
        let name = call.split(' ').next().unwrap();
        check(Line::calls(call), &[&format!("{name} ! EPERM")]);
    }
    check(Line::calls("io_uring_setup 8 b:120"), &["io_uring_setup …"]);
    check(Line::calls("personality 0x0400000"), &["personality ! EPERM"]);
}

#[test]
fn terminals_are_not_fed_also_with_high_bits_set() {
    // TIOCSTI and TIOCLINUX, plain and with a bit that the kernel does not look at.
    check(
        Line::calls(
            "ioctl 0 0x5412 s:x , ioctl 0 0x100005412 s:x , ioctl 0 0x541c s:x , ioctl 0 0x10000541c s:x , openat -100 s:/dev/tty 2",
        ),
        &["ioctl ! EPERM", "ioctl ! EPERM", "ioctl ! EPERM", "ioctl ! EPERM", "openat ! ENOENT"],
    );
}

#[test]
fn no_socket_but_local_pairs_and_local_ones() {
    for family in [2, 10, 16, 17, 38, 40, 29, 30, 31, 44, 99] {
        check(Line::calls(&format!("socket {family} 1 0")), &["socket ! EAFNOSUPPORT"]);
    }
    check(Line::calls("socketpair 1 1 0 b:8 , socket 1 1 0"), &["socketpair = 0", "socket = …"]);
}

#[test]
fn a_better_place_is_not_taken() {
    check(
        Line::calls("setpriority 0 0 -5 , sched_setscheduler 0 1 w:1 , ioprio_set 1 0 0x2000"),
        &["setpriority ! EACCES", "sched_setscheduler ! EPERM", "ioprio_set ! EPERM"],
    );
}
