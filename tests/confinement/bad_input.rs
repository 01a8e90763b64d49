//! Permits that cannot be carried out (the "bad input", and line 75 of the threats): each is refused with what is
//! wrong, nothing of it runs, and the next execution is not the worse for it.

use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use portcullis_core::{LaunchError, Level, Limits};
use portcullis_sandbox::{Config, Mount};

use crate::harness::{Bench, Line, as_root, bench, check_on, config, has, path, skip};
use crate::host::workshop;

/// Where a line leaves a mark that the tests can see.
fn shared(name: &str) -> PathBuf {
    let directory = workshop().join(name);
    std::fs::create_dir(&directory).unwrap();
    std::fs::set_permissions(&directory, std::fs::Permissions::from_mode(0o777)).unwrap();
    directory
}

fn with_mount(source: &Path, target: &str) -> Config {
    let mut config = Config { cells: 1, ..config() };
    config.mounts.push(Mount { source: source.to_owned(), target: path(target), writable: true });
    config
}

/// A line that would leave a mark in `/shared` before the command in question.
fn marking(line: Line) -> Line {
    let Line { limits, working_directory, .. } = line.clone();
    let mut marking = Line::of("touch /shared/mark").write("/shared");
    marking.limits = limits;
    marking.working_directory = working_directory;
    marking
}

#[track_caller]
fn goes_on(bench: &Bench) {
    check_on(bench, Line::probe("print next"), &["next"]);
}

/// Copies a program with one text of it changed to another as long.
fn spoilt(program: &str, to: &Path, old: &[u8], new: &[u8]) {
    assert_eq!(old.len(), new.len());
    let mut bytes = std::fs::read(program).unwrap();
    let places: Vec<usize> =
        bytes.windows(old.len()).enumerate().filter(|(_, window)| *window == old).map(|(at, _)| at).collect();
    assert!(!places.is_empty(), "{program} holds no {old:?}");
    for at in places {
        bytes.splice(at..at + old.len(), new.iter().copied());
    }
    std::fs::write(to, bytes).unwrap();
}

#[test]
fn programs_that_cannot_run_are_named_with_what_they_lack() {
    if !has(Level::Namespaces) {
        return;
    }
    let tools = shared("tools");
    let at = |name: &str| tools.join(name);
    std::fs::write(at("not-executable"), "#!/bin/sh\n").unwrap();
    std::fs::write(at("no-interpreter"), "#!/no/such/interpreter\n").unwrap();
    std::fs::write(at("no-program-of-env"), "#!/usr/bin/env no-such-program\n").unwrap();
    std::fs::write(at("no-format"), "neither of them\n").unwrap();
    std::fs::write(at("empty"), "").unwrap();
    std::fs::write(at("cut-off"), b"\x7fELF").unwrap();
    spoilt("/usr/bin/id", &at("no-library"), b"libc.so.6", b"libq.so.6");
    spoilt("/usr/bin/id", &at("no-loader"), b"/lib64/ld-linux-x86-64.so.2", b"/lib64/ld-linux-x86-64.so.7");
    std::fs::create_dir(at("directory")).unwrap();
    symlink("/no/such/file", at("dangling")).unwrap();
    symlink("loop", at("loop")).unwrap();
    for entry in std::fs::read_dir(&tools).unwrap().flatten() {
        if entry.file_type().unwrap().is_file() && entry.file_name() != "not-executable" {
            std::fs::set_permissions(entry.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        }
    }
    let mark = shared("tools-mark");
    let mut config = with_mount(&mark, "/shared");
    config.mounts.push(Mount { source: tools, target: path("/tools"), writable: false });
    config.path.push("/tools".into());
    let bench = Bench::new(&config);
    for (program, problem) in [
        ("absent", "is in none of"),
        ("not-executable", "is not executable"),
        ("no-interpreter", "interpreter cannot be run"),
        ("no-program-of-env", "interpreter cannot be run"),
        ("no-format", "neither an ELF file nor a script"),
        ("empty", "neither an ELF file nor a script"),
        ("cut-off", "cannot be executed"),
        ("no-library", "needs the library `libq.so.6`"),
        ("no-loader", "needs the loader `/lib64/ld-linux-x86-64.so.7`"),
        ("directory", "is not a regular file"),
        ("dangling", "is in none of"),
        ("loop", "could not read"),
    ] {
        let line = marking(Line::of("true")).then(portcullis_core::Connector::Always, program);
        match bench.run(line) {
            Err(LaunchError::Program { program: named, problem: said }) => {
                assert_eq!(named, program);
                assert!(said.contains(problem), "{program}: {said}");
            }
            other => panic!("{program}: {other:?}"),
        }
        assert!(!mark.join("mark").exists(), "{program}: a part of its line ran");
        goes_on(&bench);
    }
}

/// Found and taken apart once, and gone, or no more the same, when it is to be executed.
#[test]
fn a_program_that_goes_away_later_is_a_step_that_fails() {
    if !has(Level::Namespaces) {
        return;
    }
    let tools = shared("passing-tools");
    std::fs::copy("/usr/bin/id", tools.join("passing")).unwrap();
    let mut config = with_mount(&shared("passing-mark"), "/shared");
    config.mounts.push(Mount { source: tools.clone(), target: path("/tools"), writable: false });
    config.path.push("/tools".into());
    let bench = Bench::new(&config);
    let line = || Line::of("passing -u");
    check_on(&bench, line(), &["1000"]);
    std::fs::remove_file(tools.join("passing")).unwrap();
    // One more program, so that it is a view of its own, which binds the file anew.
    match bench.run(line().pipe("cat")) {
        Err(LaunchError::Confinement { step, source }) => {
            assert_eq!((step.as_str(), source.kind()), ("view: clone program", io::ErrorKind::NotFound));
        }
        other => panic!("{other:?}"),
    }
    goes_on(&bench);
}

#[test]
fn working_directories_that_cannot_be_entered_are_a_step_that_fails() {
    if !has(Level::Namespaces) {
        return;
    }
    let workspace = shared("workspace-of-bad-input");
    symlink("/usr", workspace.join("link")).unwrap();
    std::fs::write(workspace.join("file"), "").unwrap();
    std::fs::create_dir(workspace.join("closed")).unwrap();
    std::fs::set_permissions(workspace.join("closed"), std::fs::Permissions::from_mode(0o000)).unwrap();
    let mut config = with_mount(&shared("workspace-mark"), "/shared");
    config.mounts.push(Mount { source: workspace, target: path("/workspace"), writable: true });
    let bench = Bench::new(&config);
    for (directory, errno) in [
        ("/workspace/missing", libc::ENOENT),
        ("/workspace/link", libc::ENOTDIR),
        ("/workspace/link/bin", libc::ENOTDIR),
        ("/workspace/file", libc::ENOTDIR),
        ("/usr/missing", libc::ENOENT),
        ("/root", libc::ENOENT),
    ] {
        let mut line = Line::of("true");
        line.working_directory = path(directory);
        match bench.run(marking(line)) {
            Err(LaunchError::Confinement { step, source }) => {
                assert_eq!(
                    (step.as_str(), source.raw_os_error()),
                    ("working directory", Some(errno)),
                    "{directory}"
                );
            }
            other => panic!("{directory}: {other:?}"),
        }
        assert!(!workshop().join("workspace-mark/mark").exists(), "{directory}: it ran");
        goes_on(&bench);
    }
}

/// Mounts of the configuration are looked at when a cell is made: the start says which.
#[test]
fn a_mount_that_is_missing_lets_nothing_start() {
    if !has(Level::Namespaces) {
        return;
    }
    let missing = workshop().join("missing-mount");
    let started = Bench::started_as(
        "confinement-probe",
        &Config { floor: Some(Level::Namespaces), ..with_mount(&missing, "/data") },
    );
    let refused = started.map(|_| ()).unwrap_err().to_string();
    assert!(refused.contains(&format!("view: clone mount source {}", missing.display())), "{refused}");
}

/// At level `landlock` the workspace is on a disk, which may be full.
#[test]
#[expect(clippy::disallowed_methods, reason = "mount and umount, for a disk that is full")]
fn a_workspace_on_a_full_disk_is_a_step_that_fails() {
    if bench().sandbox.confinement().landlock_abi.is_none() {
        return skip("no Landlock on this kernel, so no level `landlock`");
    }
    if !as_root("a disk of its own") {
        return;
    }
    struct Disk(PathBuf);
    impl Drop for Disk {
        fn drop(&mut self) {
            let _ = Command::new("umount").arg("-l").arg(&self.0).status();
        }
    }
    let disk = Disk(shared("full-disk"));
    // Four names: its own top, `workspaces`, the launcher's directory and that of the one cell.
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=64k,nr_inodes=4,mode=777", "none"])
        .arg(&disk.0)
        .status()
        .unwrap();
    if !mounted.success() {
        return skip("nothing can be mounted here");
    }
    let mut config = Config { cells: 1, state_directory: disk.0.clone(), ..config() };
    config.mounts.clear();
    config.path = vec![workshop().join("bin"), "/usr/bin".into(), "/bin".into()];
    let bench = Bench::started_as("probe-without-namespaces", &config).unwrap();
    let mut line = Line::of("true").write("/workspace");
    line.working_directory = path("/workspace/sub");
    match bench.run(line) {
        Err(LaunchError::Confinement { step, source }) => {
            assert_eq!((step.as_str(), source.raw_os_error()), ("working directory", Some(libc::ENOSPC)));
        }
        other => panic!("{other:?}"),
    }
    check_on(&bench, Line::of("echo next"), &["next"]);
}

/// A limit's name, and what is wrong with it.
type Case = (&'static str, fn(&mut Limits));

#[test]
fn limits_that_leave_no_room_are_refused_and_named() {
    if !has(Level::Namespaces) {
        return;
    }
    let mark = shared("limits-mark");
    let bench = Bench::new(&with_mount(&mark, "/shared"));
    let cases: [Case; 8] = [
        ("processes", |l| l.processes = 0),
        ("open_files", |l| l.open_files = 0),
        ("open_files", |l| l.open_files = 3),
        ("memory_bytes", |l| l.memory_bytes = 0),
        ("memory_bytes", |l| l.memory_bytes = (1 << 20) - 1),
        ("disk_bytes", |l| l.disk_bytes = 0),
        ("wall_time", |l| l.wall_time = Duration::ZERO),
        ("cpu_time", |l| l.cpu_time = Duration::ZERO),
    ];
    for (name, change) in cases {
        match bench.run(marking(Line::of("true").limit(change))) {
            Err(LaunchError::Unenforceable { problem }) => {
                assert!(problem.contains(name), "{name}: {problem}")
            }
            other => panic!("{name}: {other:?}"),
        }
        assert!(!mark.join("mark").exists(), "{name}: it ran");
        goes_on(&bench);
    }
    // Nothing written, nothing said and no patience are limits like others.
    let line = Line::of("true").limit(|l| {
        l.file_size_bytes = 0;
        l.output_bytes = 0;
        l.grace_period = Duration::ZERO;
    });
    check_on(&bench, line, &[]);
}

#[test]
fn limits_beyond_the_ceilings_are_refused_and_named() {
    if !has(Level::Namespaces) {
        return;
    }
    let mark = shared("ceilings-mark");
    let bench = Bench::new(&with_mount(&mark, "/shared"));
    let cases: [Case; 9] = [
        ("wall_time", |l| l.wall_time = Duration::MAX),
        ("cpu_time", |l| l.cpu_time = Duration::MAX),
        ("memory_bytes", |l| l.memory_bytes = u64::MAX),
        ("processes", |l| l.processes = u32::MAX),
        ("open_files", |l| l.open_files = u32::MAX),
        ("file_size_bytes", |l| l.file_size_bytes = u64::MAX),
        ("disk_bytes", |l| l.disk_bytes = u64::MAX),
        ("output_bytes", |l| l.output_bytes = u64::MAX),
        ("grace_period", |l| l.grace_period = Duration::MAX),
    ];
    for (name, change) in cases {
        match bench.run(marking(Line::of("true").limit(change))) {
            Err(LaunchError::Unenforceable { problem }) => {
                assert!(problem.contains(&format!("`{name}`")), "{name}: {problem}");
            }
            other => panic!("{name}: {other:?}"),
        }
        assert!(!mark.join("mark").exists(), "{name}: it ran");
        goes_on(&bench);
    }
}

/// Ceilings that no host has: what the kernel takes is taken, and the rest is said at the start.
#[test]
fn ceilings_beyond_the_host_break_nothing() {
    if !has(Level::Namespaces) {
        return;
    }
    let endless = |l: &mut Limits| {
        l.wall_time = Duration::MAX;
        l.cpu_time = Duration::MAX;
        l.memory_bytes = u64::MAX;
        l.open_files = u32::MAX;
        l.file_size_bytes = u64::MAX;
        l.disk_bytes = u64::MAX;
        l.output_bytes = u64::MAX;
        l.grace_period = Duration::MAX;
    };
    let mut config = Config { cells: 1, ..config() };
    endless(&mut config.ceilings);
    let bench = Bench::new(&config);
    let line = Line::of("echo x").write("/workspace").limit(endless);
    check_on(&bench, line, &["x"]);
    goes_on(&bench);
    if !has(Level::Full) {
        return;
    }
    // More processes than there are numbers for.
    config.ceilings.processes = u32::MAX;
    let refused = Bench::started_as("confinement-probe", &config).map(|_| ()).unwrap_err().to_string();
    assert!(refused.contains("cgroup of the cell"), "{refused}");
}
