//! The kernel inside: how it is booted, and what it says.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// Set inside, where it is to be found by who runs there.
const INSIDE: &str = "PORTCULLIS_INSIDE_UML";
/// What the kernel is called, where Debian's package puts it.
const KERNELS: [&str; 2] = ["/usr/bin/linux.uml", "/usr/bin/linux"];
/// How long it may take, from boot to halt; 40 s where nobody else is at work.
const PATIENCE: Duration = Duration::from_secs(300);
/// The last thing that it says when all has gone its way.
const LAST_WORD: &str = "all is said";

/// Whether this process runs inside.
pub(crate) fn inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

/// Asserts that a test has passed inside. Says aloud when there is no kernel to boot.
#[track_caller]
pub(crate) fn expect_passed(test: &str) {
    static BOOTED: OnceLock<Option<Said>> = OnceLock::new();
    let Some(said) = BOOTED.get_or_init(boot) else {
        let required = std::env::var_os("PORTCULLIS_REQUIRE_ALL").is_some();
        assert!(!required, "required, and not to be had: package `user-mode-linux`");
        eprintln!("SKIPPED: no user-mode-linux kernel at {KERNELS:?} (Debian: package `user-mode-linux`)");
        return;
    };
    assert!(said.to_the_end, "it did not come to its end inside:\n{}", said.text);
    assert!(said.left.is_empty(), "control groups are left inside: {:?}", said.left);
    // With one thread libtest runs tests on its own, which bears no test's name: then all must have passed.
    if said.passed.contains_key(test) {
        assert!(said.passed[test], "`{test}` failed inside:\n{}", said.text);
    } else {
        let all = !said.passed.is_empty() && said.passed.values().all(|&passed| passed);
        assert!(all && test == "main", "`{test}` did not run inside, or others failed:\n{}", said.text);
    }
}

/// What was heard from inside.
struct Said {
    text: String,
    /// Which test passed and which did not.
    passed: BTreeMap<String, bool>,
    /// Control groups that were there at the end.
    left: Vec<String>,
    to_the_end: bool,
}

fn boot() -> Option<Said> {
    let kernel = KERNELS.into_iter().find(|kernel| Path::new(kernel).exists())?;
    let directory = tempfile::tempdir().unwrap();
    let init = directory.path().join("init.sh");
    fs::write(&init, include_str!("init.sh")).unwrap();
    fs::set_permissions(&init, fs::Permissions::from_mode(0o755)).unwrap();
    let scratch = directory.path().join("scratch");
    fs::create_dir(&scratch).unwrap();
    let executable = std::env::current_exe().unwrap();
    let began = Instant::now();
    let booted = Booted(spawn(kernel, &init, &scratch, &executable, directory.path()));
    let text = booted.hear();
    eprintln!("user-mode-linux ran for {:.1} s", began.elapsed().as_secs_f64());
    Some(read(text))
}

#[expect(clippy::disallowed_methods, reason = "a kernel to test in, not something the service runs")]
fn spawn(kernel: &str, init: &Path, scratch: &Path, executable: &Path, own: &Path) -> Child {
    // What the kernel does not know and holds a `=` is the environment of init. See bootparam(7).
    let mut command = Command::new(kernel);
    command
        .args(["root=/dev/root", "rootfstype=hostfs", "rootflags=/", "ro", "mem=1024M"])
        .args(["con=null", "con0=null,fd:1", "loglevel=1", "panic=-1"])
        .arg(format!("init={}", init.display()))
        .arg(format!("uml_dir={}/", own.display()))
        .arg(format!("{INSIDE}=1"))
        .arg("PORTCULLIS_REQUIRE_ALL=1")
        .arg(format!("PORTCULLIS_SCRATCH={}", scratch.display()))
        .arg(format!("PORTCULLIS_TESTS={}", executable.display()))
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    if let Some(library) = wide_registers(own) {
        command.env("LD_PRELOAD", library);
    }
    command.spawn().unwrap()
}

/// Makes what lets the kernel run on a processor with more registers than it knows; see the file.
#[expect(clippy::disallowed_methods, reason = "a compiler for the kernel to test in")]
fn wide_registers(own: &Path) -> Option<PathBuf> {
    if !cfg!(target_arch = "x86_64") {
        return None;
    }
    let source = own.join("wide-registers.c");
    let library = own.join("wide-registers.so");
    fs::write(&source, include_str!("wide-registers.c")).unwrap();
    let made = Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).args([&library, &source]).status();
    let made = made.is_ok_and(|status| status.success());
    if !made {
        eprintln!("no C compiler `cc`: on a processor with AMX the kernel inside will not start");
    }
    made.then_some(library)
}

/// A kernel that runs. Dropping it ends it.
struct Booted(Child);

impl Booted {
    /// Listens until the kernel has halted, or for as long as it may take.
    fn hear(mut self) -> String {
        let mut stdout = self.0.stdout.take().unwrap();
        let listener = std::thread::spawn(move || {
            let mut text = Vec::new();
            let _ = stdout.read_to_end(&mut text);
            String::from_utf8_lossy(&text).replace('\r', "")
        });
        let began = Instant::now();
        while self.0.try_wait().unwrap().is_none() && began.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(20));
        }
        // Its end is the end of what there is to hear.
        drop(self);
        listener.join().unwrap()
    }
}

impl Drop for Booted {
    /// Ends the kernel with the processes that stand for those inside: they are of its process group.
    #[expect(clippy::disallowed_methods, reason = "the shell's own way to signal a process group")]
    fn drop(&mut self) {
        let group = format!("-{}", self.0.id());
        let _ = Command::new("kill").args(["-s", "KILL", "--", &group]).stderr(Stdio::null()).status();
        let _ = self.0.wait();
    }
}

/// Finds the results of libtest among what was said.
fn read(text: String) -> Said {
    let result = |line: &str| {
        let (name, result) = line.strip_prefix("test ")?.rsplit_once(" ... ")?;
        Some((name.to_owned(), result == "ok"))
    };
    let passed = text.lines().filter_map(result).collect();
    let left = text.lines().filter_map(|line| line.strip_prefix("left: ")).map(str::to_owned).collect();
    let to_the_end = text.lines().any(|line| line == LAST_WORD);
    Said { passed, left, to_the_end, text }
}
