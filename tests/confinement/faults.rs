//! Every step made to fail in turn (line 75 of the threats): nothing of the command runs, and the answer names the
//! step.

use std::collections::BTreeSet;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

use portcullis_core::{Connector, LaunchError, Level};
use portcullis_sandbox::{Config, Mount};

use crate::harness::{Bench, Line, as_root, bench, check_on, config, has, path, skip};
use crate::host::{descendants, wait_until, workshop};

/// Steps of the launcher itself: when one fails there is nobody left to say which.
const OF_THE_LAUNCHER: [&str; 12] = [
    "undumpable",
    "link",
    "open /dev/null",
    "standard input",
    "configuration",
    "tell the server",
    "wait",
    "signal mask",
    "capabilities of the launcher",
    "close descriptors",
    "no_new_privs of the launcher",
    "seccomp of the launcher",
];

/// The step that is taken when nobody waits for it, and missed by nobody.
const BEFOREHAND: &str = "init made beforehand";

/// What a launcher is to let fail, and the steps that it has taken; the probe's `wrapper` maps the same file.
struct Faults {
    directory: PathBuf,
    name: String,
    file: std::fs::File,
}

impl Faults {
    /// `how` is the rest of the launcher's name: what else it finds at its start.
    fn new(name: &str, how: &str) -> Self {
        let directory = workshop().join(name);
        std::fs::create_dir(&directory).unwrap();
        std::fs::create_dir(directory.join("shared")).unwrap();
        std::fs::create_dir(directory.join("state")).unwrap();
        for writable in ["shared", "state"] {
            let mode = std::fs::Permissions::from_mode(0o777);
            std::fs::set_permissions(directory.join(writable), mode).unwrap();
        }
        let path = directory.join("faults");
        let file = std::fs::File::options().read(true).write(true).create_new(true).open(path).unwrap();
        file.set_len(65_536).unwrap();
        Self { directory, name: format!("{name}/probe-failing{how}"), file }
    }

    fn config(&self) -> Config {
        let shared = self.directory.join("shared");
        let mut config = Config { cells: 1, state_directory: self.directory.join("state"), ..config() };
        config.mounts.push(Mount { source: shared, target: path("/shared"), writable: true });
        config.path.push(workshop().join("bin"));
        config
    }

    /// Lets a step fail from now on, or several, each in a line; none when empty.
    fn fail(&self, steps: &str) {
        let mut bytes = vec![0; 256];
        bytes.splice(..steps.len(), steps.bytes());
        self.file.write_all_at(&bytes, 0).unwrap();
    }

    /// Returns the steps that were taken since this was last asked.
    fn steps(&self) -> BTreeSet<String> {
        let mut bytes = vec![0; 65_536 - 256];
        self.file.read_exact_at(&mut bytes, 256).unwrap();
        self.file.write_all_at(&vec![0; 65_536 - 256], 256).unwrap();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        text.split('\0').filter(|step| !step.is_empty()).map(str::to_owned).collect()
    }

    fn start(&self) -> Result<Bench, portcullis_sandbox::StartError> {
        Bench::started_as(&self.name, &self.config())
    }

    fn name(&self) -> String {
        self.directory.file_name().unwrap().to_string_lossy().into_owned()
    }

    fn marked(&self) -> bool {
        self.directory.join("shared/mark").exists()
    }
}

/// Lines that between them take every step there is, each with a mark that it leaves outside.
fn lines() -> Vec<Line> {
    let mut writes = Line::of("touch /shared/mark").write("/shared").write("/workspace");
    writes.protected = vec![path("/usr/share/doc")];
    writes.working_directory = path("/workspace/sub");
    let mut reads = Line::probe("print mark");
    reads.working_directory = path("/workspace/sub");
    let piped = Line::of("touch /shared/mark").write("/shared").pipe("touch /shared/mark").write("/shared");
    let mixed = Line::of("touch /workspace/x").write("/workspace").then(Connector::Always, "true");
    vec![writes, reads, piped, mixed]
}

/// Line 75.
#[test]
fn every_step_of_making_a_cell_that_fails_lets_nothing_run() {
    if !has(Level::Namespaces) {
        return;
    }
    let faults = Faults::new("faults-of-making", "");
    let bench = faults.start().unwrap();
    let steps = Mutex::new(faults.steps());
    drop(bench);
    assert!(steps.lock().unwrap().len() > 30, "{steps:?}");
    let next = || steps.lock().unwrap().pop_first();
    // Making a cell is tried several times, with pauses: many at once.
    std::thread::scope(|scope| {
        for worker in 0..12 {
            let next = &next;
            scope.spawn(move || {
                while let Some(step) = next() {
                    let faults = Faults::new(&format!("faults-of-making-{worker}-{}", step.len()), "");
                    // The name of one step holds the directory of its own test.
                    let step = step.replace("/faults-of-making/", &format!("/{}/", faults.name()));
                    faults.fail(&step);
                    match faults.start() {
                        Err(error) => {
                            let said = error.to_string();
                            let named = said.contains(&format!("`{step}`"));
                            let ended = ["the launcher ended", "did not take its configuration"];
                            let launcher = OF_THE_LAUNCHER.contains(&step.as_str()) || step == "subreaper";
                            assert!(
                                named || launcher && ended.iter().any(|text| said.contains(text)),
                                "{step}: {said}"
                            );
                        }
                        Ok(bench) => {
                            // It is taken only when the launcher waits, or a cell has ended.
                            let ran = bench.run(Line::of("touch /shared/mark").write("/shared"));
                            assert!(OF_THE_LAUNCHER.contains(&step.as_str()), "{step} did not fail: {ran:?}");
                        }
                    }
                    std::fs::remove_dir_all(&faults.directory).unwrap();
                }
            });
        }
    });
}

/// Line 75.
#[test]
fn every_step_of_an_execution_that_fails_lets_nothing_run() {
    if !has(Level::Namespaces) {
        return;
    }
    every_step_of_an_execution_fails(&Faults::new("faults-of-execution", ""), 20);
}

/// Line 75.
#[test]
fn every_step_without_namespaces_that_fails_lets_nothing_run() {
    if bench().sandbox.confinement().landlock_abi.is_none() {
        return skip("no Landlock on this kernel, so no level `landlock`");
    }
    if !as_root("the mark of another user") {
        return;
    }
    every_step_of_an_execution_fails(&Faults::new("faults-without-namespaces", "-without-namespaces"), 12);
}

fn every_step_of_an_execution_fails(faults: &Faults, at_least: usize) {
    let bench = faults.start().unwrap();
    let confined = bench.sandbox.confinement().level != Level::Landlock;
    let mut tried = BTreeSet::new();
    // Which steps an execution takes is to be the same each time.
    faults.fail(BEFOREHAND);
    for line in lines() {
        faults.steps();
        let ran = bench.run(line.clone());
        let steps = faults.steps();
        assert!(ran.is_ok() || !confined, "the control: {ran:?}");
        let _ = std::fs::remove_file(faults.directory.join("shared/mark"));
        let first_commands_alone = line.commands() == 1;
        for step in steps.difference(&tried.clone()) {
            if ["wait", "tell the server", BEFOREHAND].contains(&step.as_str()) {
                continue;
            }
            faults.fail(&format!("{BEFOREHAND}\n{step}"));
            let ran = bench.run(line.clone());
            faults.fail(BEFOREHAND);
            match &ran {
                Err(LaunchError::Confinement { step: named, source }) => {
                    assert_eq!((named, source.raw_os_error()), (step, Some(5)), "{ran:?}");
                }
                // Where others of the line may have begun, or it is not known whether it has.
                Err(LaunchError::Died { problem }) if !first_commands_alone || step == "failure report" => {
                    assert!(problem.contains(&format!("`{step}`")), "{step}: {ran:?}");
                }
                _ => panic!("{step}: {ran:?}"),
            }
            if matches!(ran, Err(LaunchError::Confinement { .. })) {
                assert!(!faults.marked(), "{step}: it ran");
            }
            let _ = std::fs::remove_file(faults.directory.join("shared/mark"));
            // And the next one is not the worse for it.
            check_on(
                &bench,
                Line::probe("print next").limit(|l| l.wall_time = Duration::from_secs(30)),
                &["next"],
            );
        }
        tried.extend(steps);
    }
    assert!(tried.len() >= at_least, "{tried:?}");
}

/// Line 75.
#[test]
fn steps_that_only_an_init_made_beforehand_takes_let_nothing_run_when_they_fail() {
    if !has(Level::Namespaces) {
        return;
    }
    let faults = Faults::new("faults-beforehand", "");
    let bench = faults.start().unwrap();
    let marking = || Line::of("touch /shared/mark").write("/shared");
    let waits = || {
        let is_it = |process: &crate::host::Process| {
            std::fs::read_to_string(format!("/proc/{}/comm", process.pid))
                .is_ok_and(|comm| comm.trim() == "portcullis-next")
        };
        descendants(bench.launcher).iter().any(is_it)
    };
    let another = || Line::probe("print other");
    for (step, before) in [("unshare descriptors", marking()), ("view: proc of another execution", another())]
    {
        bench.run(before).unwrap();
        wait_until("an init that waits", waits);
        let _ = std::fs::remove_file(faults.directory.join("shared/mark"));
        faults.fail(step);
        let ran = bench.run(marking());
        faults.fail("");
        let Err(LaunchError::Confinement { step: named, .. }) = &ran else { panic!("{step}: {ran:?}") };
        assert_eq!(named, step);
        assert!(!faults.marked(), "{step}: it ran");
        check_on(&bench, Line::probe("print next"), &["next"]);
    }
}
