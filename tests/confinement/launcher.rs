//! What the launcher must (lines 70, 71, 74, 76, 78 and 79 of the threats), seen from outside.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use portcullis_core::{Ended, LaunchError, Level};
use portcullis_sandbox::Mount;

use crate::harness::{Bench, Line, as_root, bench, check_on, config, has, writing};
use crate::host::{descendants, wait_until, workshop};
use crate::permit::path;

/// What the descriptors of a process are, as the kernel names them.
fn descriptors(pid: u32) -> Vec<String> {
    let entries = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let target = |entry: std::fs::DirEntry| std::fs::read_link(entry.path()).ok();
    entries.filter_map(target).map(|target| target.to_string_lossy().into_owned()).collect()
}

fn signal(pid: u32, name: &str) {
    #[expect(clippy::disallowed_methods, reason = "a process of the test's own is sent a signal")]
    let sent = Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status().unwrap();
    assert!(sent.success());
}

/// The cells of a launcher: its children.
fn cells(launcher: u32) -> Vec<u32> {
    let children = descendants(launcher).into_iter().filter(|process| process.parent == launcher);
    children.map(|process| process.pid).collect()
}

/// Line 70.
#[test]
fn the_launcher_holds_its_link_and_its_cells_and_nothing_else() {
    if !has(Level::Namespaces) || !as_root("what the launcher holds") {
        return;
    }
    // A descriptor that a careless parent would hand on.
    let _secret = std::fs::File::open("/etc/hostname").unwrap();
    let bench = Bench::new(&config());
    check_on(&bench, Line::probe("print ready"), &["ready"]);
    // While it makes a cell it holds pipes to it.
    wait_until("two cells that are ready", || {
        cells(bench.launcher).len() == 2
            && !descriptors(bench.launcher).iter().any(|held| held.starts_with("pipe:"))
    });
    let mut sockets = 0;
    for held in descriptors(bench.launcher) {
        let known = held == "/dev/null"
            || held.starts_with("anon_inode:[pidfd]")
            || held.starts_with("pidfd:")
            || held.starts_with("/sys/fs/cgroup/");
        sockets += usize::from(held.starts_with("socket:"));
        assert!(known || held.starts_with("socket:"), "the launcher holds {held}");
    }
    assert_eq!(sockets, 1, "the link to the server and no other");
    let tasks = std::fs::read_dir(format!("/proc/{}/task", bench.launcher)).unwrap().count();
    assert_eq!(tasks, 1, "one thread");
    let environment = std::fs::read(format!("/proc/{}/environ", bench.launcher)).unwrap();
    assert!(environment.is_empty(), "no variable of the service: {environment:?}");
}

/// Line 70.
#[test]
fn a_cell_holds_its_link_its_counters_and_its_views() {
    if !has(Level::Namespaces) || !as_root("what a cell holds") {
        return;
    }
    let bench = Bench::new(&config());
    check_on(&bench, Line::probe("print ready"), &["ready"]);
    // While a cell is made it holds pipes to the launcher.
    wait_until("two cells that are ready", || {
        let cells = cells(bench.launcher);
        let ready = |cell: &u32| !descriptors(*cell).iter().any(|held| held.starts_with("pipe:"));
        cells.len() == 2 && cells.iter().all(ready)
    });
    for cell in cells(bench.launcher) {
        let held = descriptors(cell);
        for one in &held {
            let known = one == "/dev/null"
                || one.starts_with("socket:")
                || one.starts_with("mnt:[")
                // The init that waits for the next execution.
                || one.starts_with("anon_inode:[pidfd]")
                || one.starts_with("pidfd:")
                // By their names alone: what every command of it may read.
                || opened_by_name(cell, one)
                || one.starts_with("/sys/fs/cgroup/")
                // The control group files, as a root that they lie outside of names them.
                || one.starts_with("/cell-")
                || ["memory.", "pids.", "cpu", "cgroup."].iter().any(|name| {
                    Path::new(one).file_name().is_some_and(|file| file.to_string_lossy().starts_with(name))
                });
            assert!(known, "a cell holds {one}");
        }
        assert_eq!(held.iter().filter(|one| one.starts_with("socket:")).count(), 1, "{held:?}");
    }
}

/// Whether a descriptor only names something: it can be neither read nor written. See O_PATH in open(2).
fn opened_by_name(process: u32, path: &str) -> bool {
    let directory = format!("/proc/{process}");
    let entries = std::fs::read_dir(format!("{directory}/fd")).unwrap().flatten();
    let named =
        entries.filter(|entry| std::fs::read_link(entry.path()).is_ok_and(|held| held == Path::new(path)));
    let all: Vec<bool> = named
        .map(|entry| {
            let number = entry.file_name().to_string_lossy().into_owned();
            let info = std::fs::read_to_string(format!("{directory}/fdinfo/{number}")).unwrap_or_default();
            let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap_or("0");
            i32::from_str_radix(flags.trim(), 8).unwrap_or(0) & libc::O_PATH != 0
        })
        .collect();
    !all.is_empty() && all.iter().all(|&by_name| by_name)
}

/// Line 74.
#[test]
fn launcher_and_cells_belong_to_nobody_who_would_trace_them() {
    if !has(Level::Namespaces) || !as_root("a launcher of another user") {
        return;
    }
    // As an ordinary user: what the kernel gives to that user of its own processes, it does not give of these.
    let bench = Bench::started_as("probe-as-nobody", &config()).unwrap();
    use std::os::unix::fs::MetadataExt;
    // While it makes a cell, the launcher of an ordinary user may be traced by that user: only so may it write the
    // cell's maps.
    let owner = |process: u32| std::fs::metadata(format!("/proc/{process}/mem")).map(|found| found.uid());
    wait_until("two cells that are ready", || {
        let cells = cells(bench.launcher);
        let all = cells.iter().chain([&bench.launcher]);
        cells.len() == 2 && all.map(|process| owner(*process)).all(|owner| owner.is_ok_and(|uid| uid == 0))
    });
    for process in std::iter::once(bench.launcher).chain(cells(bench.launcher)) {
        let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
        assert!(status.contains("Uid:\t65534\t65534\t65534\t65534"), "{status}");
    }
}

/// Line 74.
#[test]
fn a_launcher_of_root_keeps_what_cells_need_and_no_other_capability() {
    if !has(Level::Namespaces) || !as_root("the capabilities of root") {
        return;
    }
    let status = std::fs::read_to_string(format!("/proc/{}/status", bench().launcher)).unwrap();
    let set = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        u64::from_str_radix(line.trim(), 16).unwrap()
    };
    // Chown, dac_override, kill, setgid, setuid, sys_resource; without sys_admin, sys_ptrace, sys_module, net_admin.
    let most = 0x0100_00e3;
    assert_eq!((set("CapPrm:") & !most, set("CapEff:") & !most), (0, 0), "{status}");
    assert_ne!(set("CapEff:") & 0b1100_0000, 0, "identities are given to cells: {status}");
}

/// Line 74.
#[test]
fn launcher_cells_and_commands_stand_behind_filters_one_more_at_each_step() {
    if !has(Level::Namespaces) || !as_root("the status of an undumpable process") {
        return;
    }
    let bench = Bench::new(&config());
    let standing = |status: &str| {
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let filters = field("Seccomp_filters:").map(|count| count.parse::<usize>().unwrap());
        (field("NoNewPrivs:").map(str::to_owned), field("Seccomp:").map(str::to_owned), filters)
    };
    let of = |pid: u32| standing(&std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap());
    let behind = |filters: usize| (Some("1".into()), Some("2".into()), Some(filters));
    wait_until("two cells", || cells(bench.launcher).len() == 2);
    assert_eq!(of(bench.launcher), behind(1), "the launcher");
    wait_until("the filters of the cells", || {
        cells(bench.launcher).iter().all(|cell| of(*cell) == behind(2))
    });
    for (line, filters) in [
        (Line::of("cat /proc/self/status"), 3),
        (writing(Line::of("cat /proc/self/status")), 3),
        (writing(Line::of("true")).pipe("cat /proc/self/status"), 4),
    ] {
        assert_eq!(standing(&bench.run(line).unwrap().stdout), behind(filters), "a command");
    }
}

/// Line 58.
#[test]
fn each_cell_has_a_uid_of_its_own() {
    if !has(Level::Namespaces) || !as_root("uids of a range") {
        return;
    }
    let bench = Bench::new(&config());
    use std::os::unix::fs::MetadataExt;
    // While it is made, a cell has pipes to the launcher, and perhaps not yet its uid.
    wait_until("two cells that are ready", || {
        let ready = |cell: &u32| !descriptors(*cell).iter().any(|held| held.starts_with("pipe:"));
        cells(bench.launcher).len() == 2 && cells(bench.launcher).iter().all(ready)
    });
    let uid = |pid: u32| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("Uid:")).unwrap();
        line.split_whitespace().next().unwrap().parse::<u32>().unwrap()
    };
    let own = std::fs::metadata("/proc/self").unwrap().uid();
    let mut uids: Vec<u32> = cells(bench.launcher).into_iter().map(uid).collect();
    uids.push(own);
    let different: BTreeSet<u32> = uids.iter().copied().collect();
    assert_eq!(different.len(), 3, "two cells and the service: {uids:?}");
}

/// Line 58. A host that maps no range of uids, as in a container with 65,536 of them.
#[test]
fn root_without_a_range_of_uids_makes_cells_under_its_own() {
    if !has(Level::Namespaces) || !as_root("cells of root") {
        return;
    }
    let bench = Bench::new(&portcullis_sandbox::Config { first_uid: u32::MAX, ..config() });
    let found = bench.sandbox.confinement();
    assert_eq!(found.level, self::bench().sandbox.confinement().level, "{:?}", found.weaker);
    assert!(found.weaker.iter().any(|text| text.contains("service's own uid")), "{:?}", found.weaker);
    check_on(
        &bench,
        Line::calls("getuid , setuid 0 , openat -100 s:/root 0x10000"),
        &["getuid = 1000", "setuid ! EINVAL", "openat ! ENOENT"],
    );
}

/// Starts a launcher that is spoken to by hand.
#[expect(clippy::disallowed_methods, reason = "the launcher, started by hand to be spoken to by hand")]
fn launcher_by_hand(link: UnixStream) -> std::process::Child {
    Command::new(workshop().join("bin/confinement-probe"))
        .arg0("portcullis-launcher")
        .env_clear()
        .stdin(Stdio::from(OwnedFd::from(link)))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Line 71.
#[test]
fn nonsense_on_the_link_ends_the_launcher_and_makes_no_cell() {
    for nonsense in [&b""[..], b"\xff", b"\x00", b"\x01\x02\x03", &[0xff; 4096], &[0; 65_536]] {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        let mut launcher = launcher_by_hand(theirs);
        let _ = ours.write_all(nonsense);
        ours.shutdown(std::net::Shutdown::Write).unwrap();
        let ended = launcher.wait().unwrap();
        assert_eq!(ended.success(), nonsense.is_empty(), "{nonsense:?}: {ended}");
        let mut said = Vec::new();
        let _ = ours.read_to_end(&mut said);
        assert!(said.is_empty(), "it answered {said:?}");
    }
}

/// Line 71: frames of the wrong direction, a second configuration, and noise, when cells are there already.
#[test]
fn whatever_comes_behind_the_configuration_ends_the_launcher_and_every_cell() {
    if !has(Level::Namespaces) {
        return;
    }
    // As the wire has it: the first variant, the configuration, and whether the server is the same program.
    let configure = [&[0][..], &postcard::to_stdvec(&config()).unwrap(), &[0]].concat();
    for nonsense in [&[3, 1, 0][..], &[0xff; 70_000], &configure] {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        let mut launcher = launcher_by_hand(theirs);
        ours.write_all(&configure).unwrap();
        wait_until("two cells", || cells(launcher.id()).len() == 2);
        let family = cells(launcher.id());
        ours.write_all(nonsense).unwrap();
        launcher.wait().unwrap();
        wait_until("the end of the cells", || family.iter().all(|cell| !alive(*cell)));
        assert!(!groups_exist(&format!("portcullis-{}", launcher.id())), "{:?}", &nonsense[..3]);
    }
}

/// Line 72: a server that lies asks the cells for more than the launcher was told.
#[test]
fn a_plan_beyond_any_ceiling_is_refused_and_nothing_of_it_runs() {
    if !has(Level::Namespaces) {
        return;
    }
    let bench = Bench::new(&config());
    let most = config().ceilings;
    let second = std::time::Duration::from_secs(1);
    type Raise = fn(&mut portcullis_core::Limits, std::time::Duration);
    let beyond: [(&str, Raise); 9] = [
        ("wall_time", |l, s| l.wall_time += s),
        ("cpu_time", |l, s| l.cpu_time += s),
        ("memory_bytes", |l, _| l.memory_bytes += 1),
        ("processes", |l, _| l.processes += 1),
        ("open_files", |l, _| l.open_files += 1),
        ("file_size_bytes", |l, _| l.file_size_bytes += 1),
        ("disk_bytes", |l, _| l.disk_bytes += 1),
        ("output_bytes", |l, _| l.output_bytes += 1),
        ("grace_period", |l, s| l.grace_period += s),
    ];
    for (name, raise) in beyond {
        let all = most.clone();
        let at_the_ceiling = bench.run(Line::probe("print x").limit(|l| *l = all.clone())).unwrap();
        assert_eq!(at_the_ceiling.stdout, "x\n", "{name}");
        let line = Line::probe("print x").limit(|l| {
            *l = all.clone();
            raise(l, second);
        });
        match bench.run(line) {
            Err(LaunchError::Unenforceable { problem }) => assert!(problem.contains(name), "{problem}"),
            other => panic!("{name}: {other:?}"),
        }
    }
}

/// Line 76.
#[test]
fn signals_are_what_they_are_by_default_whoever_started_the_service() {
    if !has(Level::Namespaces) {
        return;
    }
    for name in ["confinement-probe", "probe-deaf"] {
        let bench = Bench::started_as(name, &config()).unwrap();
        for line in [Line::of("cat /proc/self/status"), Line::of("true").pipe("cat /proc/self/status")] {
            let status = bench.run(line).unwrap().stdout;
            for field in ["SigBlk", "SigIgn", "SigCgt"] {
                assert!(status.contains(&format!("{field}:\t0000000000000000")), "{name}: {status}");
            }
        }
        check_on(&bench, Line::of("grep -E ^Umask: /proc/self/status"), &["Umask:\t0022"]);
        check_on(&bench, Line::calls("getsid 0 , getppid"), &["getsid = 1", "getppid = 1"]);
        check_on(&bench, Line::of("readlink /proc/self/fd/0"), &["/dev/null"]);
    }
}

/// Line 78.
#[test]
fn a_killed_launcher_takes_every_cell_and_command_with_it() {
    if !has(Level::Namespaces) {
        return;
    }
    let bench = Bench::new(&config());
    let line =
        Line::probe("hide 7272").then(portcullis_core::Connector::Always, "confinement-probe stubborn 7272");
    let held = bench.hold(line, "deaf to TERM");
    wait_until("two cells", || cells(bench.launcher).len() == 2);
    let family: BTreeSet<u32> = descendants(bench.launcher).into_iter().map(|process| process.pid).collect();
    assert!(family.len() >= 5, "two cells, init, daemon and command: {family:?}");
    signal(bench.launcher, "KILL");
    let ended = held.wait();
    assert!(matches!(ended, Err(LaunchError::Died { .. })), "{ended:?}");
    wait_until("the end of every process", || family.iter().all(|pid| !alive(*pid)));
    let after = bench.run(Line::probe("print never"));
    assert!(matches!(after, Err(LaunchError::Unavailable { .. })), "{after:?}");
}

/// Whether a process is there and has not ended.
fn alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with(['Z', 'X']))
}

/// Line 78.
#[test]
fn a_killed_cell_is_told_and_made_anew() {
    if !has(Level::Namespaces) {
        return;
    }
    let bench = Bench::new(&portcullis_sandbox::Config { cells: 1, ..config() });
    for _ in 0..3 {
        let held = bench.hold(Line::probe("stubborn 7373"), "deaf to TERM");
        for cell in cells(bench.launcher) {
            signal(cell, "KILL");
        }
        let ended = held.wait();
        assert!(matches!(ended, Err(LaunchError::Died { .. })), "{ended:?}");
        assert!(!bench.runs("stubborn 7373"), "nothing of it is left");
        check_on(&bench, Line::probe("print next"), &["next"]);
    }
}

/// Line 73.
#[test]
fn a_mount_source_that_became_another_is_not_mounted() {
    if !has(Level::Namespaces) {
        return;
    }
    let (source, away) = (workshop().join("source"), workshop().join("source-that-was-meant"));
    std::fs::create_dir(&source).unwrap();
    std::fs::write(source.join("which"), "meant\n").unwrap();
    let mut config = portcullis_sandbox::Config { cells: 1, ..config() };
    config.mounts.push(Mount { source: source.clone(), target: path("/source"), writable: false });
    let bench = Bench::new(&config);
    let which = || Line::of("cat /source/which");
    check_on(&bench, which(), &["meant"]);
    // A cell has its mounts; one that is made later looks again.
    std::fs::rename(&source, &away).unwrap();
    std::fs::create_dir(&source).unwrap();
    std::fs::write(source.join("which"), "planted\n").unwrap();
    check_on(&bench, which(), &["meant"]);
    for cell in cells(bench.launcher) {
        signal(cell, "KILL");
    }
    wait_until("the end of the cell", || cells(bench.launcher).is_empty());
    match bench.run(which()) {
        Err(LaunchError::Confinement { step, source }) => {
            assert!(step.contains("is another than at the start"), "{step}");
            assert_eq!(source.raw_os_error(), Some(libc::ESTALE));
        }
        other => panic!("{other:?}"),
    }
}

/// Line 78.
#[test]
fn the_launcher_ends_with_its_server() {
    if !has(Level::Namespaces) {
        return;
    }
    let bench = Bench::new(&config());
    let (launcher, family) = (bench.launcher, descendants(bench.launcher));
    assert!(!family.is_empty());
    drop(bench);
    wait_until("the end of launcher and cells", || {
        !alive(launcher) && family.iter().all(|process| !alive(process.pid))
    });
    let groups = format!("portcullis-{launcher}");
    wait_until("the removal of its groups", || !groups_exist(&groups));
}

fn groups_exist(name: &str) -> bool {
    let hierarchies = std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten();
    hierarchies.map(|entry| entry.path().join(name)).any(|path| path.exists())
        || Path::new("/sys/fs/cgroup").join(name).exists()
}

/// Line 79.
#[test]
fn a_thousand_executions_leave_nothing() {
    if !has(Level::Namespaces) {
        return;
    }
    // One cell: with several, which of them has made what depends on who was free.
    let bench = Bench::new(&portcullis_sandbox::Config { cells: 1, ..config() });
    let run = |count: usize| {
        for number in 0..count {
            let line = if number % 4 == 0 { writing(Line::of("touch f")) } else { Line::of("true") };
            let ran = bench.run(line).unwrap();
            assert_eq!(ran.outcome.ended, Ended::Exited(0), "{ran:?}");
        }
    };
    let look = || {
        let family = descendants(bench.launcher);
        let all = || std::iter::once(bench.launcher).chain(family.iter().map(|process| process.pid));
        let count = |file: &str| -> Vec<usize> {
            all()
                .map(|pid| {
                    std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default().lines().count()
                })
                .collect()
        };
        let open: Vec<usize> = all().map(|pid| descriptors(pid).len()).collect();
        let states: Vec<String> =
            family.iter().map(|process| process.state.clone()).filter(|state| state == "Z").collect();
        let own = descriptors(std::process::id()).iter().filter(|held| held.contains("pidfd")).count();
        (family.len(), states, open, count("mountinfo"), own)
    };
    // A cell takes mounts away, and makes empty file systems, when it has answered already, and a launcher that makes a cell holds pipes to it.
    let at_rest = || {
        wait_until("a cell at rest", || {
            let family = descendants(bench.launcher);
            let clean = |pid: u32| {
                let mounts = std::fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap_or_default();
                let scratches = descriptors(pid).iter().filter(|held| *held == "/").count();
                scratches == 2 && !mounts.lines().any(|line| line.split(' ').nth(4) == Some("/workspace"))
            };
            // The cell, and the init of what may come next.
            family.len() == 2
                && family.iter().all(|process| clean(process.pid))
                && !descriptors(bench.launcher).iter().any(|held| held.starts_with("pipe:"))
        });
    };
    run(20);
    at_rest();
    let before = look();
    run(1_000);
    at_rest();
    assert_eq!(look(), before, "processes, zombies, descriptors, mounts");
}
