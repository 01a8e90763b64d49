//! Runs the probe in a cell and looks at what it printed.

use std::os::unix::fs::{MetadataExt, symlink};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use portcullis_core::{
    Confinement, Ended, ExecutionObserver, Flow, LaunchError, Launcher, Level, Outcome, OutputStream,
    StopReason,
};
use portcullis_sandbox::{Config, Mount, Sandbox, StartError, start_launcher_from};
use tokio::runtime::Runtime;
use tokio::sync::Notify;

use crate::host::{GONE, descendants, patience, workshop};
pub(crate) use crate::permit::{Line, path};

/// The sandbox that all cases of this process share, with the runtime that drives it.
pub(crate) struct Bench {
    pub(crate) runtime: Runtime,
    pub(crate) sandbox: Arc<Sandbox>,
    /// The launcher's process id.
    pub(crate) launcher: u32,
}

/// Returns the shared bench at the best level of this host.
pub(crate) fn bench() -> &'static Bench {
    static BENCH: OnceLock<Bench> = OnceLock::new();
    BENCH.get_or_init(|| Bench::new(&config()))
}

/// Whether the best level of this host is at least this one; says it aloud when it is not.
pub(crate) fn has(level: Level) -> bool {
    let found = bench().sandbox.confinement();
    if found.level >= level {
        return true;
    }
    skip(&format!("this host gives level `{}`: {:?}", found.level.as_str(), found.weaker));
    false
}

/// Says aloud that a case is not tried here; fails where everything is required.
pub(crate) fn skip(reason: &str) {
    assert!(std::env::var_os("PORTCULLIS_REQUIRE_ALL").is_none(), "required, and not to be had: {reason}");
    eprintln!("SKIPPED: {reason}");
}

/// Whether the tests run as root; says it aloud when a case needs that.
pub(crate) fn as_root(what: &str) -> bool {
    let root = std::fs::metadata("/proc/self").unwrap().uid() == 0;
    if !root {
        skip(&format!("only root can see {what}"));
    }
    root
}

impl Bench {
    pub(crate) fn new(config: &Config) -> Self {
        Self::started_as("confinement-probe", config).unwrap()
    }

    /// Starts the launcher by a name, which says what it finds at its start; see the probe's `wrapper`.
    pub(crate) fn started_as(name: &str, config: &Config) -> Result<Self, StartError> {
        let executable = workshop().join(weakened(name));
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        if let Err(error) = symlink(workshop().join("bin/confinement-probe"), &executable) {
            assert_eq!(error.kind(), std::io::ErrorKind::AlreadyExists);
        }
        let process = start_launcher_from(&executable, config)?;
        let launcher = process.id();
        let sandbox = Arc::new(runtime.block_on(Sandbox::connect(process))?);
        Ok(Self { runtime, sandbox, launcher })
    }

    /// Whether a process of this launcher has `text` in its command line.
    pub(crate) fn runs(&self, text: &str) -> bool {
        descendants(self.launcher).iter().any(|process| process.command_line.contains(text))
    }

    /// Starts a line and returns once it has printed a text.
    pub(crate) fn hold(&self, line: Line, text: &str) -> Held<'_> {
        let watcher = Arc::new(Watcher::default());
        let (sandbox, permit) = (Arc::clone(&self.sandbox), line.permit());
        let observer: Arc<dyn ExecutionObserver> = Arc::<Watcher>::clone(&watcher);
        let task = self.runtime.spawn(async move { sandbox.launch(permit, observer).await });
        let printed = self.runtime.block_on(async {
            tokio::time::timeout(Duration::from_secs(30), watcher.printed(text)).await.is_ok()
        });
        assert!(printed, "it printed {:?}", String::from_utf8_lossy(&watcher.bytes(OutputStream::Stdout)));
        Held { bench: self, task, watcher }
    }

    /// Runs a line to its end.
    pub(crate) fn run(&self, line: Line) -> Result<Ran, LaunchError> {
        self.run_watched(line, Arc::new(Watcher::default()))
    }

    pub(crate) fn run_watched(&self, line: Line, watcher: Arc<Watcher>) -> Result<Ran, LaunchError> {
        let permit = line.permit();
        let observer: Arc<dyn ExecutionObserver> = Arc::<Watcher>::clone(&watcher);
        let outcome = self.runtime.block_on(async {
            let launch = self.sandbox.launch(permit, observer);
            // A bound for a broken sandbox, far beyond any limit that the cases set.
            tokio::time::timeout(Duration::from_secs(120), launch).await.expect("the execution ends")
        })?;
        let text = |stream| String::from_utf8_lossy(&watcher.bytes(stream)).into_owned();
        Ok(Ran { outcome, stdout: text(OutputStream::Stdout), stderr: text(OutputStream::Stderr) })
    }
}

/// Returns the name to start a launcher by: one that does without a layer, where that was asked for.
fn weakened(name: &str) -> String {
    static ASKED: OnceLock<bool> = OnceLock::new();
    let asked = ASKED.get_or_init(|| {
        let gone = std::env::var(GONE);
        gone.is_ok_and(|gone| std::fs::write(workshop().join("gone"), gone).is_ok())
    });
    if *asked { format!("{name}-weakened") } else { name.to_owned() }
}

/// The configuration of the tests: the probe's directory is one more place of programs.
pub(crate) fn config() -> Config {
    let directory = workshop().join("bin");
    let mut config = Config { cells: 2, ..Config::default() };
    config.ceilings.grace_period = Duration::from_secs(30);
    config.ceilings.file_size_bytes = 1 << 30;
    config.path.push(PathBuf::from("/probe"));
    config.mounts.push(Mount { source: directory, target: path("/probe"), writable: false });
    config.state_directory = workshop().join("state");
    config
}

/// What a line printed, and how it ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) outcome: Outcome,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Takes the output, and asks to stop when a test says so.
#[derive(Default)]
pub(crate) struct Watcher {
    pub(crate) output: Mutex<Vec<(OutputStream, Vec<u8>)>>,
    pub(crate) seen: Notify,
    pub(crate) stop: Notify,
    pub(crate) confinement: Mutex<Option<Confinement>>,
    /// Stop as soon as this has been printed.
    pub(crate) stop_after: Option<&'static str>,
}

/// An execution that goes on while a test does other things.
pub(crate) struct Held<'a> {
    bench: &'a Bench,
    task: tokio::task::JoinHandle<Result<Outcome, LaunchError>>,
    pub(crate) watcher: Arc<Watcher>,
}

impl Held<'_> {
    /// Waits for its end.
    pub(crate) fn wait(self) -> Result<Ran, LaunchError> {
        let outcome = self.bench.runtime.block_on(async {
            let ended = tokio::time::timeout(patience(60), self.task).await;
            ended.expect("the execution ends").unwrap()
        })?;
        let text = |stream| String::from_utf8_lossy(&self.watcher.bytes(stream)).into_owned();
        Ok(Ran { outcome, stdout: text(OutputStream::Stdout), stderr: text(OutputStream::Stderr) })
    }

    /// Asks it to stop, and waits for its end.
    pub(crate) fn stop(self) -> Result<Ran, LaunchError> {
        self.watcher.stop.notify_one();
        self.wait()
    }
}

impl Watcher {
    /// Returns once a text was printed.
    async fn printed(&self, text: &str) {
        loop {
            let seen = self.seen.notified();
            tokio::pin!(seen);
            seen.as_mut().enable();
            if String::from_utf8_lossy(&self.bytes(OutputStream::Stdout)).contains(text) {
                return;
            }
            seen.await;
        }
    }

    pub(crate) fn bytes(&self, wanted: OutputStream) -> Vec<u8> {
        let output = self.output.lock().unwrap();
        output.iter().filter(|(stream, _)| *stream == wanted).flat_map(|(_, bytes)| bytes.clone()).collect()
    }
}

#[async_trait::async_trait]
impl ExecutionObserver for Watcher {
    async fn starting(&self, confinement: &Confinement) -> Flow {
        *self.confinement.lock().unwrap() = Some(confinement.clone());
        Flow::Continue
    }

    async fn output(&self, stream: OutputStream, bytes: Vec<u8>) -> Flow {
        self.output.lock().unwrap().push((stream, bytes));
        self.seen.notify_waiters();
        if let Some(text) = self.stop_after
            && String::from_utf8_lossy(&self.bytes(OutputStream::Stdout)).contains(text)
        {
            self.stop.notify_one();
        }
        Flow::Continue
    }

    async fn stop_requested(&self) -> StopReason {
        self.stop.notified().await;
        StopReason::Cancelled
    }
}

/// Runs a line and compares what it printed, line by line. `…` at the end of an expected line stands for
/// anything.
#[track_caller]
pub(crate) fn check(line: Line, expected: &[&str]) {
    if has(Level::Namespaces) {
        check_on(bench(), line, expected);
    }
}

/// The same, on a bench of one's own.
#[track_caller]
pub(crate) fn check_on(bench: &Bench, line: Line, expected: &[&str]) {
    let ran = bench.run(line).unwrap();
    let printed: Vec<&str> = ran.stdout.lines().collect();
    let fits = printed.len() == expected.len()
        && printed.iter().zip(expected).all(|(printed, expected)| match expected.strip_suffix('…') {
            Some(beginning) => printed.starts_with(beginning),
            None => printed == expected,
        });
    assert!(
        fits,
        "printed {printed:?}, expected {expected:?}; stderr {:?}, {:?}",
        ran.stderr, ran.outcome.ended
    );
}

/// Has the probe do something in the first command of a pipeline, in the last, and in a grandchild, each with
/// these rights, and compares what it printed.
#[track_caller]
pub(crate) fn check_everywhere(words: &str, rights: impl Fn(Line) -> Line, expected: &[&str]) {
    if has(Level::Namespaces) {
        check_everywhere_on(bench(), words, rights, expected);
    }
}

/// The same, on a bench of one's own.
#[track_caller]
pub(crate) fn check_everywhere_on(
    bench: &Bench,
    words: &str,
    rights: impl Fn(Line) -> Line,
    expected: &[&str],
) {
    check_on(bench, rights(Line::probe(words)).pipe("cat"), expected);
    check_on(bench, rights(Line::of("true").pipe(&format!("confinement-probe {words}"))), expected);
    check_on(bench, rights(Line::probe(&format!("fork {words}"))), expected);
}

/// No right to write.
pub(crate) fn reading(line: Line) -> Line {
    line
}

/// The right to write, and to delete, in the workspace and in `/tmp`.
pub(crate) fn writing(line: Line) -> Line {
    line.write("/workspace").delete("/workspace").write("/tmp").delete("/tmp")
}

/// Runs a line and compares how it ended.
#[track_caller]
pub(crate) fn check_end(line: Line, expected: Ended) {
    if has(Level::Namespaces) {
        check_end_on(bench(), line, expected);
    }
}

/// The same, on a bench of one's own.
#[track_caller]
pub(crate) fn check_end_on(bench: &Bench, line: Line, expected: Ended) {
    let ran = bench.run(line).unwrap();
    assert_eq!(ran.outcome.ended, expected, "stdout {:?}, stderr {:?}", ran.stdout, ran.stderr);
}
