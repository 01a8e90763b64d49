//! The weaker levels, each as itself (line 2 of what a host may lack): what holds all the same, and what the
//! record says that does not.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::time::Duration;

use portcullis_core::{Connector, Ended, Level, Limit};
use portcullis_sandbox::Config;

use crate::harness::{
    Bench, Line, as_root, bench, check_end_on, check_everywhere_on, check_on, config, reading, skip, writing,
};
use crate::host::workshop;

/// At level `landlock` programs lie where the host has them.
fn config_of_the_host(name: &str) -> Config {
    let mut config = config();
    config.mounts.clear();
    config.path = vec![workshop().join("bin"), "/usr/bin".into(), "/bin".into()];
    config.state_directory = workshop().join("state").join(name);
    std::fs::create_dir_all(&config.state_directory).unwrap();
    std::fs::set_permissions(&config.state_directory, std::fs::Permissions::from_mode(0o777)).unwrap();
    config
}

/// A bench at level `landlock`, as a default container gives it: as root, and as an ordinary user.
fn without_namespaces(test: &str) -> Vec<Bench> {
    if bench().sandbox.confinement().landlock_abi.is_none() {
        skip("no Landlock on this kernel, so no level `landlock`");
        return Vec::new();
    }
    let mut names = vec!["probe-without-namespaces"];
    if as_root("what an ordinary user's service does") {
        names.push("probe-without-namespaces-as-nobody");
    }
    names
        .into_iter()
        .map(|name| {
            let bench = Bench::started_as(name, &config_of_the_host(&format!("{test}-{name}"))).unwrap();
            assert_eq!(
                bench.sandbox.confinement().level,
                Level::Landlock,
                "{:?}",
                bench.sandbox.confinement()
            );
            bench
        })
        .collect()
}

#[test]
fn the_record_says_what_the_level_landlock_does_not_hold() {
    for bench in without_namespaces("record") {
        let weaker = bench.sandbox.confinement().weaker.join("\n");
        for said in
            ["no namespaces", "ld.so PROGRAM", "any program can be read", "other processes are visible"]
        {
            assert!(weaker.contains(said), "{weaker}");
        }
    }
}

#[test]
fn a_floor_above_the_level_of_the_host_lets_nothing_run() {
    if without_namespaces("floor").is_empty() {
        return;
    }
    for floor in [Level::Full, Level::Namespaces] {
        let config = Config { floor: Some(floor), ..config_of_the_host("floor") };
        let refused = Bench::started_as("probe-without-namespaces", &config).map(|_| ()).unwrap_err();
        assert!(refused.to_string().contains("failed"), "{refused}");
    }
}

#[test]
fn without_namespaces_files_outside_are_neither_read_nor_written() {
    let secret = workshop().join("secret");
    std::fs::write(&secret, "theirs").unwrap();
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o666)).unwrap();
    let secret = secret.display();
    for bench in without_namespaces("files") {
        check_everywhere_on(
            &bench,
            &format!(
                "call openat -100 s:{secret} 0 , openat -100 s:{secret} 1 , openat -100 s:{secret} 0x201 , truncate s:{secret} 0 , \
                 unlinkat -100 s:{secret} 0 , openat -100 s:/etc/passwd 0 , openat -100 s:/root 0x10000 , openat -100 s:/ 0x10000 , \
                 openat -100 s:/tmp/x 0x41 420 , openat -100 s:/usr/bin/ls 0"
            ),
            writing,
            &[
                "openat ! EACCES",
                "openat ! EACCES",
                "openat ! EACCES",
                "truncate ! EACCES",
                "unlinkat ! EACCES",
                "openat ! EACCES",
                "openat ! EACCES",
                "openat ! EACCES",
                "openat ! EACCES",
                "openat = 3",
            ],
        );
    }
}

#[test]
fn without_namespaces_a_program_that_is_not_permitted_is_not_executed() {
    for bench in without_namespaces("execute") {
        check_everywhere_on(&bench, "exec /usr/bin/id", reading, &["execve ! EACCES"]);
        check_on(&bench, Line::probe("exec /usr/bin/printf named").execute("printf"), &["named"]);
        check_on(
            &bench,
            Line::calls("memfd_create s:x 0 , memfd_create s:x 8 , execveat $1 s: 0 0 0x1000"),
            &["memfd_create ! EPERM", "memfd_create = 3", "execveat ! EPERM"],
        );
        let ran = bench.run(Line::of("find /usr/bin/ls -exec rm -f {} ;")).unwrap();
        assert!(ran.stderr.contains("Permission denied"), "{ran:?}");
    }
}

#[test]
fn without_namespaces_there_is_no_socket_and_no_signal_outside() {
    let name = format!("portcullis-level-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let _listener = UnixListener::bind_addr(&address).unwrap();
    for bench in without_namespaces("signals") {
        check_everywhere_on(
            &bench,
            "call socket 2 1 0 , socket 1 1 0 , socket 16 3 0 , socketpair 1 1 0 b:8 , socketpair 1 2 0 b:8",
            reading,
            &[
                "socket ! EAFNOSUPPORT",
                "socket ! EAFNOSUPPORT",
                "socket ! EAFNOSUPPORT",
                "socketpair = 0",
                "socketpair ! EPERM",
            ],
        );
        check_everywhere_on(
            &bench,
            &format!("connect abstract {name}"),
            reading,
            &["connect ! EAFNOSUPPORT"],
        );
        for pid in [std::process::id(), bench.launcher, 1] {
            let calls = format!(
                "call kill {pid} 9 , tgkill {pid} {pid} 9 , ptrace 16 {pid} 0 0 , openat -100 s:/proc/{pid}/environ 0"
            );
            check_everywhere_on(
                &bench,
                &calls,
                reading,
                &["kill ! EPERM", "tgkill ! EPERM", "ptrace ! EPERM", "openat ! EACCES"],
            );
        }
    }
}

#[test]
fn without_namespaces_calls_of_the_kernel_are_closed_too() {
    for bench in without_namespaces("calls") {
        check_everywhere_on(
            &bench,
            "call unshare 0x10000000 , setns 0 0 , mount s:x s:/tmp s:tmpfs 0 0 , bpf 0 b:64 64 , keyctl 0 -3 0 , \
             io_uring_setup 8 b:120 , shmget 0 4096 896 , mq_open s:x 0x42 384 0 , fchmodat -100 s:/usr/bin/ls 493 , \
             600 , prctl 39 0 0 0 0 , prctl 21 0 0 0 0",
            reading,
            &[
                "unshare ! EPERM",
                "setns ! EPERM",
                "mount ! EPERM",
                "bpf ! EPERM",
                "keyctl ! EPERM",
                "io_uring_setup ! EPERM",
                "shmget ! EPERM",
                "mq_open ! EPERM",
                "fchmodat ! EPERM",
                "600 ! ENOSYS",
                "prctl = 1",
                "prctl = 2",
            ],
        );
        check_on(&bench, Line::probe("fds"), &["0", "1", "2"]);
    }
}

#[test]
fn without_namespaces_nothing_outlives_its_execution() {
    for bench in without_namespaces("ends") {
        for (case, sign) in [
            ("hide 8181", "hidden"),
            ("hydra 4", "growing heads"),
            ("reaper", "reaping"),
            ("stubborn 8181", "deaf to TERM"),
            ("stop-myself", "stopping"),
        ] {
            let line = Line::probe(case)
                .then(Connector::Always, "confinement-probe sleep 8181")
                .limit(|l| l.grace_period = Duration::from_millis(200));
            let ran = bench.hold(line, sign).stop().unwrap();
            assert!(matches!(ran.outcome.ended, Ended::Stopped(_)), "{case}: {ran:?}");
            assert!(!bench.runs(&format!("confinement-probe {case}")), "{case} is dead after");
            check_on(&bench, Line::probe("print next"), &["next"]);
        }
        check_end_on(
            &bench,
            Line::probe("stubborn 8282").limit(|l| {
                l.wall_time = Duration::from_millis(200);
                l.grace_period = Duration::from_millis(100);
            }),
            Ended::Limited(Limit::WallTime),
        );
    }
}

/// Line 10.
#[test]
fn without_namespaces_a_workspace_that_is_hard_to_remove_is_emptied() {
    for bench in without_namespaces("tangle") {
        for _ in 0..2 {
            // `.` is the workspace of the cell.
            let line = Line::probe("tangle . 1200").write("/workspace");
            let ran = bench.run(line).unwrap();
            assert_eq!(ran.stdout, "deep 1200\n", "{ran:?}");
        }
        check_on(&bench, Line::of("ls -A"), &[]);
    }
}

/// An ordinary user who may make namespaces: everything but groups and uids of its own.
#[test]
fn without_privilege_namespaces_hold_the_same() {
    if !as_root("what an ordinary user's service does") {
        return;
    }
    let bench = match Bench::started_as("probe-as-nobody", &config()) {
        Ok(bench) if bench.sandbox.confinement().level == Level::Namespaces => bench,
        other => {
            return skip(&format!(
                "an ordinary user has no namespaces here: {:?}",
                other.map(|bench| bench.sandbox.confinement().clone())
            ));
        }
    };
    let weaker = bench.sandbox.confinement().weaker.join("\n");
    for said in ["no cgroup limits for whole trees", "under the service's own uid"] {
        assert!(weaker.contains(said), "{weaker}");
    }
    check_everywhere_on(&bench, "exec /usr/bin/id", reading, &["execve ! EACCES"]);
    check_everywhere_on(
        &bench,
        "call openat -100 s:/root 0x200000 , openat -100 s:/usr/x 0x41 420 , fchmodat -100 s:/usr/bin/ls 511 , socket 2 1 0 , \
         unshare 0x10000000 , kill 300 9 , getuid , openat -100 s:/workspace/x 0x41 420",
        reading,
        &[
            "openat ! ENOENT",
            "openat ! EROFS",
            "fchmodat ! EPERM",
            "socket ! EAFNOSUPPORT",
            "unshare ! EPERM",
            "kill ! ESRCH",
            "getuid = 1000",
            "openat ! EROFS",
        ],
    );
    check_on(
        &bench,
        writing(Line::calls("openat -100 s:/workspace/x 0x41 420 , unlinkat -100 s:/workspace/x 0")),
        &["openat = 3", "unlinkat = 0"],
    );
    check_on(&bench, Line::of("ls /proc"), &["…", "self", "thread-self"]);
    check_on(
        &bench,
        Line::of("grep -E ^(NoNewPrivs|Seccomp|Groups): /proc/self/status"),
        &["Groups:\t…", "NoNewPrivs:\t1", "Seccomp:\t2"],
    );
    for (case, sign) in [("hydra 4", "growing heads"), ("hide 9191", "hidden")] {
        let line = Line::probe(case).then(Connector::Always, "confinement-probe sleep 9191");
        let ran = bench.hold(line, sign).stop().unwrap();
        assert!(matches!(ran.outcome.ended, Ended::Stopped(_)), "{ran:?}");
        assert!(!bench.runs(&format!("confinement-probe {case}")), "{case}");
    }
    let ran = bench.run(Line::probe("bomb").limit(|l| l.processes = 10)).unwrap();
    assert!(ran.stdout.contains("EAGAIN"), "{ran:?}");
    let ran = bench.run(Line::probe("allocate 200").limit(|l| l.memory_bytes = 64 << 20)).unwrap();
    assert!(!ran.stdout.contains("holding"), "{ran:?}");
}

/// Limits, places and priorities of processes of the same uid: its own may be changed.
#[test]
fn without_namespaces_limits_and_places_of_others_stay() {
    for bench in without_namespaces("places") {
        let others = bench.launcher;
        let calls = format!(
            "call prlimit64 {others} 7 0 b:16 , sched_setaffinity {others} 8 w:1 , setpriority 0 {others} 5 , \
             setpriority 2 0 5 , ioprio_set 1 {others} 0x6000 , prlimit64 0 7 0 b:16 , setpriority 0 0 19"
        );
        let expected = [
            "prlimit64 ! EPERM",
            "sched_setaffinity ! EPERM",
            "setpriority ! EPERM",
            "setpriority ! EPERM",
            "ioprio_set ! EPERM",
            "prlimit64 = 0",
            "setpriority = 0",
        ];
        check_everywhere_on(&bench, &calls, reading, &expected);
    }
}

/// Line 45. Where no group counts for all, each process has a limit, and the record names it.
#[test]
fn without_a_group_a_process_ends_at_its_limit_of_cpu_time() {
    let mut benches = without_namespaces("cpu");
    benches.extend(Bench::started_as("probe-as-nobody", &config()));
    for bench in benches {
        let line = Line::probe("spin").limit(|l| l.cpu_time = Duration::from_millis(100));
        check_end_on(&bench, line, Ended::Limited(Limit::CpuTime));
    }
}
