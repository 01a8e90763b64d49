//! An execution is made ready while its record is being written; nothing of it runs before it is let go.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use portcullis_core::{
    Confinement, Ended, ExecutionObserver, Flow, LaunchError, Launcher, Level, Limit, Outcome, OutputStream,
    RedirectionTarget, StopReason,
};
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinHandle;

use crate::harness::{Bench, Line, config, has, writing};
use crate::host::{Process, descendants, wait_until};

/// Lets the line go when the test says so.
struct Keeper {
    /// A permit for each word.
    words: Semaphore,
    word: Flow,
    asked: AtomicUsize,
    output: AtomicUsize,
    stop: Notify,
}

#[async_trait::async_trait]
impl ExecutionObserver for Keeper {
    async fn starting(&self, _confinement: &Confinement) -> Flow {
        self.asked.fetch_add(1, Ordering::SeqCst);
        self.words.acquire().await.unwrap().forget();
        self.word
    }

    async fn output(&self, _stream: OutputStream, bytes: Vec<u8>) -> Flow {
        self.output.fetch_add(bytes.len(), Ordering::SeqCst);
        Flow::Continue
    }

    async fn stop_requested(&self) -> StopReason {
        self.stop.notified().await;
        StopReason::Cancelled
    }
}

struct Kept {
    keeper: Arc<Keeper>,
    launch: JoinHandle<Result<Outcome, LaunchError>>,
}

fn keep(bench: &Bench, line: Line, word: Flow) -> Kept {
    let keeper = Arc::new(Keeper {
        words: Semaphore::new(0),
        word,
        asked: AtomicUsize::new(0),
        output: AtomicUsize::new(0),
        stop: Notify::new(),
    });
    let (sandbox, permit) = (Arc::clone(&bench.sandbox), line.permit());
    let observer: Arc<dyn ExecutionObserver> = Arc::<Keeper>::clone(&keeper);
    Kept { keeper, launch: bench.runtime.spawn(async move { sandbox.launch(permit, observer).await }) }
}

impl Kept {
    /// Lets it go, or not, and waits for its end.
    fn answer(self, bench: &Bench) -> (Result<Outcome, LaunchError>, Arc<Keeper>) {
        self.keeper.words.add_permits(1);
        let ended = bench.runtime.block_on(self.launch).unwrap();
        assert_eq!(self.keeper.asked.load(Ordering::SeqCst), 1, "asked once");
        (ended, self.keeper)
    }
}

/// The first processes of executions that wait: they sleep, reading the gate's pipe.
fn waiting(bench: &Bench) -> Vec<u32> {
    let at_the_gate = |pid: u32| {
        let comm = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        comm.trim() == "portcullis-init" && status.lines().any(|line| line.starts_with("State:\tS"))
    };
    descendants(bench.launcher)
        .into_iter()
        .map(|process| process.pid)
        .filter(|&pid| at_the_gate(pid))
        .collect()
}

fn lines() -> [(&'static str, Line); 3] {
    [
        ("plain", Line::probe("print gone")),
        ("writing", writing(Line::probe("print gone"))),
        (
            "with memory of its own",
            writing(Line::probe("print gone")).redirect(2, RedirectionTarget::Truncate("/tmp/errors".into())),
        ),
    ]
}

#[test]
fn nothing_of_a_line_runs_before_it_is_let_go() {
    if !has(Level::Namespaces) {
        return;
    }
    let bench = Bench::new(&config());
    for (kind, line) in lines() {
        let kept = keep(&bench, line, Flow::Continue);
        wait_until("an execution that is ready", || waiting(&bench).len() == 1);
        assert_eq!(kept.keeper.output.load(Ordering::SeqCst), 0, "{kind}");
        assert!(!bench.runs("print gone"), "{kind}");
        let (ended, keeper) = kept.answer(&bench);
        assert_eq!(ended.unwrap().ended, Ended::Exited(0), "{kind}");
        assert_eq!(keeper.output.load(Ordering::SeqCst), 5, "{kind}");
    }
}

#[test]
fn what_is_not_let_go_leaves_nothing_and_its_cell_goes_on() {
    if !has(Level::Namespaces) {
        return;
    }
    let bench = Bench::new(&portcullis_sandbox::Config { cells: 1, ..config() });
    let cell = || descendants(bench.launcher).iter().map(|process| process.pid).min();
    let before = cell();
    for (kind, line) in lines().into_iter().chain(lines()) {
        let kept = keep(&bench, line, Flow::Stop);
        wait_until("an execution that is ready", || waiting(&bench).len() == 1);
        let (ended, keeper) = kept.answer(&bench);
        assert!(matches!(ended, Err(LaunchError::Forbidden)), "{kind}: {ended:?}");
        assert_eq!(keeper.output.load(Ordering::SeqCst), 0, "{kind}");
    }
    assert_eq!(bench.run(Line::probe("print ready")).unwrap().stdout, "ready\n");
    assert_eq!(cell(), before, "the same cell");
}

#[test]
fn who_stops_waiting_has_nothing_run() {
    if !has(Level::Namespaces) {
        return;
    }
    let bench = Bench::new(&config());
    let kept = keep(&bench, Line::probe("print gone"), Flow::Continue);
    wait_until("an execution that is ready", || waiting(&bench).len() == 1);
    kept.launch.abort();
    wait_until("the end of what waited", || waiting(&bench).is_empty());
    assert_eq!(kept.keeper.output.load(Ordering::SeqCst), 0);
    assert_eq!(bench.run(Line::probe("print ready")).unwrap().stdout, "ready\n");
}

#[test]
fn a_cell_that_dies_at_the_gate_has_run_nothing() {
    if !has(Level::Namespaces) {
        return;
    }
    let bench = Bench::new(&config());
    let kept = keep(&bench, Line::probe("print gone"), Flow::Continue);
    wait_until("an execution that is ready", || waiting(&bench).len() == 1);
    let is_init = |process: &Process| {
        std::fs::read_to_string(format!("/proc/{}/comm", process.pid))
            .is_ok_and(|comm| comm.trim() == "portcullis-init")
    };
    let cell = descendants(bench.launcher).into_iter().find(is_init).unwrap().parent;
    #[expect(clippy::disallowed_methods, reason = "a process of the test's own is killed")]
    let killed = std::process::Command::new("kill").args(["-KILL", &cell.to_string()]).status().unwrap();
    assert!(killed.success());
    wait_until("the end of what waited", || waiting(&bench).is_empty());
    let (ended, keeper) = kept.answer(&bench);
    let error = ended.unwrap_err();
    assert!(!error.may_have_run(), "{error}");
    assert_eq!(keeper.output.load(Ordering::SeqCst), 0);
}

#[test]
fn time_at_the_gate_is_not_the_lines_own() {
    if !has(Level::Namespaces) {
        return;
    }
    let bench = Bench::new(&config());
    let limit = Duration::from_millis(300);
    for words in ["print gone", "spin"] {
        let line = Line::probe(words).limit(|limits| limits.wall_time = limit);
        let asked = Instant::now();
        let kept = keep(&bench, line, Flow::Continue);
        wait_until("more time at the gate than the line has", || {
            asked.elapsed() > 2 * limit && waiting(&bench).len() == 1
        });
        let outcome = kept.answer(&bench).0.unwrap();
        if words == "spin" {
            assert_eq!(outcome.ended, Ended::Limited(Limit::WallTime));
            assert!(outcome.usage.wall_time >= limit, "{:?}", outcome.usage);
        } else {
            assert_eq!(outcome.ended, Ended::Exited(0));
            assert!(outcome.usage.wall_time < limit, "{:?}", outcome.usage);
        }
    }
}

#[test]
fn a_program_that_cannot_run_is_refused_while_it_waits() {
    if !has(Level::Namespaces) {
        return;
    }
    let bench = Bench::new(&config());
    let kept = keep(&bench, Line::of("no-such-program"), Flow::Continue);
    let (ended, _) = kept.answer(&bench);
    assert!(matches!(ended, Err(LaunchError::Program { .. })), "{ended:?}");
}
