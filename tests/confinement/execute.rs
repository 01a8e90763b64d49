//! Executing (lines 12 to 18 of the threats): the allowlist is a fact of the kernel.

use portcullis_core::{Connector, Ended, LaunchError, Level};

use portcullis_sandbox::Mount;

use crate::harness::{Bench, Line, bench, check, check_on, config, has, path};
use crate::host::workshop;

#[test]
fn a_program_that_the_permit_does_not_name_is_not_executed() {
    check(Line::probe("exec /usr/bin/id"), &["execve ! EACCES"]);
    check(Line::probe("exec /bin/sh -c id"), &["execve ! EACCES"]);
    check(Line::probe("fork exec /usr/bin/id"), &["execve ! EACCES"]);
    check(Line::probe("exec /probe/confinement-probe print again"), &["again"]);
    check(Line::probe("exec /usr/bin/printf named").execute("printf"), &["named"]);
}

#[test]
fn find_exec_starts_only_what_its_rule_names() {
    if !has(Level::Namespaces) {
        return;
    }
    let ran = bench().run(Line::of("find /etc/hosts -exec rm -f {} ;")).unwrap();
    assert!(ran.stderr.contains("Permission denied"), "{ran:?}");
    check(Line::of("find /etc/hosts -exec basename {} ;").execute("basename"), &["hosts"]);
    let neighbour = Line::of("find /etc/hosts -exec rm -f {} ;").pipe("cat").pipe("rm --version");
    let ran = bench().run(neighbour).unwrap();
    assert!(ran.stderr.contains("Permission denied"), "what a neighbour may run is not ours: {ran:?}");
}

#[test]
fn each_command_of_a_pipeline_executes_only_itself() {
    check(Line::of("id -u").pipe("cat").pipe("confinement-probe exec /usr/bin/id"), &["execve ! EACCES"]);
    check(Line::probe("exec /usr/bin/cat /etc/hostname").pipe("cat"), &["execve ! EACCES"]);
}

#[test]
fn the_dynamic_loader_starts_nothing_else() {
    if !has(Level::Namespaces) {
        return;
    }
    let loader = "/lib64/ld-linux-x86-64.so.2";
    let ran = bench().run(Line::probe(&format!("exec {loader} /usr/bin/id"))).unwrap();
    assert_ne!(ran.outcome.ended, Ended::Exited(0), "{ran:?}");
    assert!(!ran.stdout.contains("uid="), "{ran:?}");
    assert!(ran.stderr.contains("failed to map segment"), "{ran:?}");
}

#[test]
fn nothing_writable_is_executable() {
    let copy =
        |to: &str| Line::of(&format!("cp /probe/confinement-probe {to}")).write("/workspace").write("/tmp");
    for to in ["/workspace/p", "/tmp/p"] {
        check(
            copy(to)
                .then(Connector::IfSucceeded, &format!("confinement-probe exec {to} print ran"))
                .write("/workspace"),
            &["execve ! EACCES"],
        );
        check(
            copy(to).then(
                Connector::IfSucceeded,
                // PROT_READ|PROT_EXEC, MAP_PRIVATE; then PROT_READ alone and mprotect to PROT_EXEC.
                &format!(
                    "confinement-probe call openat -100 s:{to} 0 , mmap 0 4096 5 2 $0 0 , mmap 0 4096 1 2 $0 0 , \
                     mprotect $2 4096 5"
                ),
            ),
            &["openat = 3", "mmap ! EPERM", "mmap = …", "mprotect ! EACCES"],
        );
    }
    check(
        Line::calls("openat -100 s:/probe/confinement-probe 0 , mmap 0 4096 5 2 $0 0"),
        &["openat = 3", "mmap = …"],
    );
}

#[test]
fn what_is_readable_but_not_permitted_cannot_be_mapped_to_execute() {
    check(
        Line::calls(
            "openat -100 s:/usr/bin/id 0 , mmap 0 4096 5 2 $0 0 , mmap 0 4096 1 2 $0 0 , mprotect $2 4096 5",
        ),
        &["openat = 3", "mmap ! EPERM", "mmap = …", "mprotect ! EACCES"],
    );
}

#[test]
fn nothing_is_executed_from_memory() {
    check(
        Line::calls("memfd_create s:x 0 , memfd_create s:x 8 , execveat $1 s: 0 0 0x1000"),
        &["memfd_create ! EPERM", "memfd_create = 3", "execveat ! EPERM"],
    );
}

#[test]
fn privileges_are_not_gained_by_execution() {
    check(
        Line::of("grep -E ^(NoNewPrivs|Seccomp|Cap...|Groups): /proc/self/status"),
        &[
            "Groups:…",
            "CapInh:\t0000000000000000",
            "CapPrm:\t0000000000000000",
            "CapEff:\t0000000000000000",
            "CapBnd:\t0000000000000000",
            "CapAmb:\t0000000000000000",
            "NoNewPrivs:\t1",
            "Seccomp:\t2",
        ],
    );
}

#[test]
fn the_environment_is_the_documented_one() {
    let mut line = Line::probe("environment");
    line.environment = vec![("RUST_LOG".into(), "info".into())];
    check(
        line,
        &[
            "PATH=/usr/local/bin:/usr/bin:/bin",
            "HOME=/home/user",
            "USER=user",
            "LOGNAME=user",
            "LANG=C.UTF-8",
            "PWD=/workspace",
            "RUST_LOG=info",
        ],
    );
}

#[test]
fn a_missing_program_is_named_and_nothing_runs() {
    let line =
        Line::of("touch /workspace/mark").write("/workspace").then(Connector::Always, "no-such-program");
    match bench().run(line) {
        Err(LaunchError::Program { program, problem }) => {
            assert_eq!(program, "no-such-program");
            assert!(problem.contains("in none of"), "{problem}");
        }
        other => panic!("{other:?}"),
    }
}

/// Line 16. A name of its own is one of the permitted file's only when it is a link to it: a hard link is not executed.
/// Which applet an executable is by its `argv[0]`, the policy alone can tell.
#[test]
fn another_name_of_a_permitted_executable_is_executed_only_as_a_link_to_it() {
    if !has(Level::Namespaces) {
        return;
    }
    let applets = workshop().join("applets");
    std::fs::create_dir(&applets).unwrap();
    std::fs::copy(workshop().join("bin/confinement-probe"), applets.join("one")).unwrap();
    std::fs::hard_link(applets.join("one"), applets.join("two")).unwrap();
    std::os::unix::fs::symlink("one", applets.join("three")).unwrap();
    let mut config = config();
    config.mounts.push(Mount { source: applets, target: path("/applets"), writable: false });
    config.path.push("/applets".into());
    let bench = Bench::new(&config);
    check_on(&bench, Line::of("one exec /applets/one print ran"), &["ran"]);
    check_on(&bench, Line::of("one exec /applets/two print ran"), &["execve ! EACCES"]);
    check_on(&bench, Line::of("one exec /applets/three print ran"), &["ran"]);
    check_on(&bench, Line::of("one exec /applets/two print ran").execute("two"), &["ran"]);
}
