//! Runs the probe in a cell and looks at what it printed.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use portcullis_core::{
    Command, Confinement, Connector, Ended, ExecutionObserver, Flow, LaunchError, Launcher, Level, Limits,
    Outcome, OutputStream, Permit, Pipeline, Plan, ProgramName, Redirection, RedirectionTarget, Rights,
    Script, SimpleCommand, Span, Step, StopReason, ViewPath, Word,
};
use portcullis_sandbox::{Config, Mount, Sandbox, start_launcher_from};
use tokio::runtime::Runtime;
use tokio::sync::Notify;

const NOWHERE: Span = Span { start: 0, end: 0 };

/// The sandbox that all cases of this process share, with the runtime that drives it.
pub(crate) struct Bench {
    pub(crate) runtime: Runtime,
    pub(crate) sandbox: Sandbox,
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

impl Bench {
    pub(crate) fn new(config: &Config) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let process = start_launcher_from(&probe(), config).unwrap();
        let sandbox = runtime.block_on(Sandbox::connect(process)).unwrap();
        Self { runtime, sandbox }
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

/// The configuration of the tests: the probe's directory is one more place of programs.
pub(crate) fn config() -> Config {
    let directory = probe().parent().unwrap().to_owned();
    let mut config = Config { cells: 2, ..Config::default() };
    config.ceilings.grace_period = Duration::from_secs(30);
    config.ceilings.file_size_bytes = 1 << 30;
    config.path.push(PathBuf::from("/probe"));
    config.mounts.push(Mount { source: directory, target: path("/probe"), writable: false });
    config.state_directory =
        std::env::temp_dir().join(format!("portcullis-confinement-{}", std::process::id()));
    config
}

fn probe() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_confinement-probe"))
}

pub(crate) fn path(text: &str) -> ViewPath {
    ViewPath::parse(text).unwrap()
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

impl Watcher {
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
        let printed = String::from_utf8_lossy(&self.bytes(OutputStream::Stdout)).into_owned();
        if self.stop_after.is_some_and(|text| printed.contains(text)) {
            self.stop.notify_one();
        }
        Flow::Continue
    }

    async fn stop_requested(&self) -> StopReason {
        self.stop.notified().await;
        StopReason::Cancelled
    }
}

/// A line for a cell, and what its permit gives.
#[derive(Clone)]
pub(crate) struct Line {
    steps: Vec<(Connector, Vec<SimpleCommand>)>,
    pub(crate) limits: Limits,
    pub(crate) stdin: Option<Vec<u8>>,
    pub(crate) protected: Vec<ViewPath>,
    pub(crate) environment: Vec<(String, String)>,
}

impl Line {
    /// A line of one command. Words are separated by blanks.
    pub(crate) fn of(command: &str) -> Self {
        Self {
            steps: vec![(Connector::Always, vec![simple(command)])],
            limits: Limits { grace_period: Duration::from_millis(500), ..Limits::default() },
            stdin: None,
            protected: Vec::new(),
            environment: Vec::new(),
        }
    }

    /// The probe with these words.
    pub(crate) fn probe(words: &str) -> Self {
        Self::of(&format!("confinement-probe {words}"))
    }

    /// System calls by the probe.
    pub(crate) fn calls(words: &str) -> Self {
        Self::probe(&format!("call {words}"))
    }

    /// One more command at the end of the last pipeline.
    pub(crate) fn pipe(mut self, command: &str) -> Self {
        self.steps.last_mut().unwrap().1.push(simple(command));
        self
    }

    /// One more step.
    pub(crate) fn then(mut self, connector: Connector, command: &str) -> Self {
        self.steps.push((connector, vec![simple(command)]));
        self
    }

    fn last(&mut self) -> &mut SimpleCommand {
        self.steps.last_mut().unwrap().1.last_mut().unwrap()
    }

    /// The last command may write beneath a path.
    pub(crate) fn write(mut self, beneath: &str) -> Self {
        self.last().rights.write.push(path(beneath));
        self
    }

    /// The last command may delete beneath a path.
    pub(crate) fn delete(mut self, beneath: &str) -> Self {
        self.last().rights.delete.push(path(beneath));
        self
    }

    /// The last command may start a program.
    pub(crate) fn execute(mut self, program: &str) -> Self {
        self.last().rights.execute.push(ProgramName::parse(program).unwrap());
        self
    }

    /// The last command may read these paths and nothing else beside what every command may.
    pub(crate) fn reading_only(mut self, paths: &[&str]) -> Self {
        self.last().rights.read = paths.iter().map(|text| path(text)).collect();
        self
    }

    /// One more redirection of the last command.
    pub(crate) fn redirect(mut self, descriptor: u8, target: RedirectionTarget) -> Self {
        self.last().redirections.push(Redirection { descriptor, target, span: NOWHERE });
        self
    }

    /// One more argument of the last command, as it is.
    pub(crate) fn word(mut self, word: Word) -> Self {
        self.last().arguments.push(word);
        self
    }

    pub(crate) fn limit(mut self, change: impl FnOnce(&mut Limits)) -> Self {
        change(&mut self.limits);
        self
    }

    pub(crate) fn permit(self) -> Permit {
        let steps = self.steps.into_iter().map(|(connector, commands)| {
            let commands = commands.into_iter().map(|command| Command::Simple(Box::new(command))).collect();
            Step { connector, pipeline: Pipeline { commands } }
        });
        Permit::grant(Plan {
            script: Script { steps: steps.collect() },
            working_directory: path("/workspace"),
            workspace: path("/workspace"),
            environment: self.environment,
            stdin: self.stdin,
            limits: self.limits,
            protected: self.protected,
        })
    }
}

fn simple(command: &str) -> SimpleCommand {
    let mut words = command.split(' ').filter(|word| !word.is_empty());
    SimpleCommand {
        program: ProgramName::parse(words.next().unwrap()).unwrap(),
        arguments: words.map(|word| Word::literal(word, NOWHERE)).collect(),
        assignments: Vec::new(),
        redirections: Vec::new(),
        rights: Rights { read: vec![ViewPath::root()], ..Rights::default() },
        span: NOWHERE,
    }
}

/// Runs a line and compares what it printed, line by line. `…` at the end of an expected line stands for
/// anything.
#[track_caller]
pub(crate) fn check(line: Line, expected: &[&str]) {
    if !has(Level::Namespaces) {
        return;
    }
    let ran = bench().run(line).unwrap();
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

/// Runs a line and compares how it ended.
#[track_caller]
pub(crate) fn check_end(line: Line, expected: Ended) {
    if !has(Level::Namespaces) {
        return;
    }
    let ran = bench().run(line).unwrap();
    assert_eq!(ran.outcome.ended, expected, "stdout {:?}, stderr {:?}", ran.stdout, ran.stderr);
}
