//! Every defence is missed when it is gone: the layers of the confinement are taken away one at a time, and the tests
//! of this executable that are there for it fail.
//!
//! Each row starts this very executable again, with the tests of the row alone and a launcher that does without the
//! row's layers; see the probe's `wrapper`. A row says what its tests then see, so that none fails for another reason.
//! Where a second layer holds the same line, one row takes the first away and shows what the second answers, and
//! another takes both. The control is one more run of all these tests with no layer gone.

#[path = "defences/table.rs"]
mod table;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Mutex;
use std::time::Instant;

use portcullis_core::Level;

use crate::harness::{as_root, bench, has, skip};
use crate::host::GONE;
use table::{AGAINST_HIGHER_LIMITS, ROWS, Row};

/// How many runs there are at once: they wait more than they work.
const AT_ONCE: usize = 4;

/// What a run of some tests with some layers gone has given.
struct Tried {
    passed: bool,
    said: String,
}

/// Starts this executable again for these tests, and takes away what a weakened sandbox may leave.
#[expect(clippy::disallowed_methods, reason = "this executable again, for some of its tests")]
fn run(tests: &[&str], gone: &[&str]) -> Tried {
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--test-threads=4"])
        .args(tests)
        .env(GONE, gone.join("\n"))
        .env("RUST_BACKTRACE", "0")
        // What is skipped because a layer is gone has not passed.
        .env("PORTCULLIS_REQUIRE_ALL", "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let workshop = std::env::temp_dir().join(format!("portcullis-confinement-{}", child.id()));
    let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
    sweep(&workshop);
    let said = [stdout, stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    Tried { passed: status.success(), said }
}

/// Ends what was started from a workshop whose tests have ended, and removes it.
#[expect(clippy::disallowed_methods, reason = "processes of this test's own are sent a signal")]
fn sweep(workshop: &Path) {
    for process in crate::host::processes() {
        let exe = std::fs::read_link(format!("/proc/{}/exe", process.pid));
        if exe.is_ok_and(|exe| exe.starts_with(workshop)) {
            let _ = Command::new("kill").args(["-s", "KILL", &process.pid.to_string()]).status();
        }
    }
    let _ = std::fs::remove_dir_all(workshop);
}

/// Says what is wrong with a row, if anything is.
fn complaints(row: &Row) -> Vec<String> {
    let gone = row.gone.join(" and ");
    let mut complaints = Vec::new();
    for (test, sign) in row.missed_by {
        let tried = run(&[test], row.gone);
        if tried.passed {
            complaints.push(format!("without {gone}, `{test}` passes all the same"));
        } else if !sign.split('|').any(|sign| tried.said.contains(sign)) {
            complaints.push(format!("without {gone}, `{test}` does not say {sign:?}, but:\n{}", tried.said));
        }
    }
    complaints
}

#[test]
fn every_defence_is_missed_when_it_is_gone() {
    if !has(Level::Full) || !as_root("each layer") {
        return;
    }
    if bench().sandbox.confinement().landlock_abi.is_none_or(|abi| abi < 6) {
        return skip("Landlock of this kernel knows no scopes, so not every layer is there to be missed");
    }
    let began = Instant::now();
    let tests: BTreeSet<&str> = ROWS.iter().flat_map(|row| row.missed_by).map(|(test, _)| *test).collect();
    let control = run(&tests.iter().copied().collect::<Vec<_>>(), &[]);
    assert!(control.passed, "with no layer gone:\n{}", control.said);
    let ran = format!("{} passed", tests.len());
    assert!(control.said.contains(&ran), "not all of them ran:\n{}", control.said);

    let raised = may_raise_limits();
    if !raised {
        eprintln!(
            "without CAP_SYS_RESOURCE nobody has limits to give up: {AGAINST_HIGHER_LIMITS:?} are not missed"
        );
    }
    let tried = |row: &&Row| raised || !row.gone.iter().any(|layer| AGAINST_HIGHER_LIMITS.contains(layer));
    let left = Mutex::new(ROWS.iter().filter(tried));
    let next = || left.lock().unwrap().next();
    let found = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(row) = next() {
                    found.lock().unwrap().extend(complaints(row));
                }
            });
        }
    });
    let found = found.into_inner().unwrap();
    eprintln!("{}", as_text());
    let (rows, seconds) = (ROWS.len(), began.elapsed().as_secs_f64());
    eprintln!("{rows} rows and {} tests in {seconds:.1} s", tests.len());
    assert!(found.is_empty(), "{} of {rows} rows:\n{}", found.len(), found.join("\n\n"));
}

/// Whether a launcher that we start may have higher limits than it is given. If not, those that the table would
/// miss are what they are to be already.
fn may_raise_limits() -> bool {
    const SYS_RESOURCE: u64 = 1 << 24;
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap().trim();
    if u64::from_str_radix(effective, 16).unwrap() & SYS_RESOURCE != 0 {
        return true;
    }
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap();
    for name in ["Max nice priority", "Max realtime priority"] {
        let hard = limits.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().nth(1));
        assert_eq!(hard, Some("0"), "{name}");
    }
    false
}

/// The table, as the threat model holds it.
fn as_text() -> String {
    let mut text = String::from("| without | is missed by | which then sees |\n| --- | --- | --- |\n");
    for row in ROWS {
        let gone: Vec<String> = row.gone.iter().map(|layer| format!("`{layer}`")).collect();
        let name = |test: &str| {
            let (module, name) = test.split_once("::").unwrap();
            format!("`tests/confinement/{module}.rs::{name}`")
        };
        let tests: Vec<String> = row.missed_by.iter().map(|(test, _)| name(test)).collect();
        let _ = writeln!(text, "| {} | {} | {} |", gone.join(" and "), tests.join(", "), row.then);
    }
    text
}

#[test]
fn the_threat_model_holds_the_table_of_defences() {
    const BEGIN: &str = "<!-- defences: from tests/confinement/defences/table.rs -->\n";
    const END: &str = "<!-- end of defences -->";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/threat-model.md");
    let document = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = document.split_once(BEGIN).expect("a place for the table");
    let (table, after) = rest.split_once(END).expect("an end of that place");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, format!("{before}{BEGIN}{}{END}{after}", as_text())).unwrap();
        return;
    }
    assert_eq!(table, as_text(), "UPDATE_GOLDEN=1 writes it anew");
}

/// An executable that ships is built without the feature, and holds nothing of it.
#[test]
fn what_ships_cannot_be_weakened() {
    let cargo = |arguments: &[&str]| {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        #[expect(clippy::disallowed_methods, reason = "cargo, to be asked what it builds")]
        let output =
            Command::new(cargo).current_dir(env!("CARGO_MANIFEST_DIR")).args(arguments).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let tree =
        cargo(&["tree", "--locked", "-p", "portcullis-server", "-e", "normal,build", "-f", "{p} [{f}]"]);
    let sandbox: Vec<&str> = tree.lines().filter(|line| line.contains("portcullis-sandbox ")).collect();
    assert!(!sandbox.is_empty() && sandbox.iter().all(|line| line.ends_with(" []")), "{sandbox:?}");

    let holds = |executable: &Path| {
        let bytes = std::fs::read(executable).unwrap();
        let mark = portcullis_sandbox::MARK.as_bytes();
        bytes.windows(mark.len()).any(|window| window == mark)
    };
    assert!(holds(Path::new(env!("CARGO_BIN_EXE_confinement-probe"))), "the control: the tests' own can be");
    // Beside the folder of this executable's profile. Building it takes minutes the first time.
    let executable = std::env::current_exe().unwrap();
    let ships = executable.ancestors().nth(3).unwrap().join("release/portcullis-server");
    if std::env::var_os("PORTCULLIS_REQUIRE_ALL").is_some() {
        cargo(&["build", "--locked", "--release", "-p", "portcullis-server"]);
    }
    if ships.exists() {
        assert!(!holds(&ships), "{} can be weakened", ships.display());
    } else {
        skip("no executable of the release profile to look into");
    }
}

/// Every layer there is stands in the table: those of the sources, and every group of the filter.
#[test]
fn every_layer_has_a_row() {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut layers: BTreeSet<String> = BTreeSet::new();
    let mut folders = vec![sources.clone()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                layers.extend(between(&text, "is_gone(\"", "\""));
            }
        }
    }
    assert!(layers.len() > 20, "{layers:?}");
    let groups = std::fs::read_to_string(sources.join("seccomp/groups.rs")).unwrap();
    layers.extend(
        between(&groups, "        name: \"", "\"").into_iter().map(|name| format!("seccomp: {name}")),
    );
    let sys = std::fs::read_to_string(sources.join("sys.rs")).unwrap();
    layers.extend(between(&sys, "=> \"RLIMIT_", "\"").into_iter().map(|name| format!("RLIMIT_{name}")));
    layers.extend(between(&sys, "(libc::CLONE_NEW", ")").iter().filter_map(|entry| quoted(entry)));
    let mount = std::fs::read_to_string(sources.join("sys/mount.rs")).unwrap();
    layers.extend(between(&mount, "(ATTR_", ")").iter().filter_map(|entry| quoted(entry)));
    let known: BTreeSet<String> =
        ROWS.iter().flat_map(|row| row.gone).map(|layer| (*layer).to_owned()).collect();
    let missing: Vec<&String> = layers.iter().filter(|layer| !known.contains(*layer)).collect();
    assert!(missing.is_empty(), "layers without a row: {missing:?}");
}

/// Returns the texts between two marks.
fn between(text: &str, begin: &str, end: &str) -> Vec<String> {
    text.split(begin)
        .skip(1)
        .filter_map(|rest| rest.split_once(end))
        .map(|(name, _)| name.to_owned())
        .collect()
}

fn quoted(text: &str) -> Option<String> {
    text.split('"').nth(1).map(str::to_owned)
}
