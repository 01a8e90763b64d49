//! A launcher that runs nothing: each launch does what the test, or the script for its line, says.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use portcullis_core::*;
use tokio::sync::{mpsc, oneshot};

use super::{Journal, confinement};

/// Runs nothing: each launch does what the test, or the script for its line, says.
pub(in crate::tests) struct FakeLauncher {
    journal: Journal,
    capacity: usize,
    script: fn(&str) -> Vec<Act>,
    cells: mpsc::UnboundedSender<Cell>,
    pub(in crate::tests) launches: AtomicUsize,
    at_once: AtomicUsize,
}

/// One thing that a launch does.
pub(in crate::tests) enum Act {
    /// Asks the observer whether it may start; ends as forbidden when it may not.
    Start,
    Print(OutputStream, Vec<u8>),
    Sleep(Duration),
    End(Ended),
    Fail(LaunchError),
    Panic,
    /// Hears no wish to stop any more.
    Deafen,
    /// Hands over to the test.
    Await,
}

/// The test's side of a launch.
pub(in crate::tests) struct Cell {
    acts: mpsc::UnboundedSender<(Act, oneshot::Sender<()>)>,
}

impl Cell {
    /// Does one thing, and returns when it is done, or when the launch has ended.
    pub(in crate::tests) async fn act(&self, act: Act) {
        let (done, seen) = oneshot::channel();
        if self.acts.send((act, done)).is_ok() {
            let _ = seen.await;
        }
    }

    pub(in crate::tests) async fn start(&self) {
        self.act(Act::Start).await;
    }

    pub(in crate::tests) async fn print(&self, text: &str) {
        self.act(Act::Print(OutputStream::Stdout, text.into())).await;
    }

    pub(in crate::tests) async fn complain(&self, text: &str) {
        self.act(Act::Print(OutputStream::Stderr, text.into())).await;
    }

    pub(in crate::tests) async fn exit(&self, code: i32) {
        self.act(Act::End(Ended::Exited(code))).await;
    }
}

impl FakeLauncher {
    /// Returns a launcher with so many cells, and where the launches arrive that a test drives.
    pub(in crate::tests) fn new(
        journal: &Journal,
        capacity: usize,
    ) -> (Arc<Self>, mpsc::UnboundedReceiver<Cell>) {
        let (cells, launched) = mpsc::unbounded_channel();
        let launcher = Self {
            journal: journal.clone(),
            capacity,
            script: by_line,
            cells,
            launches: AtomicUsize::new(0),
            at_once: AtomicUsize::new(0),
        };
        (Arc::new(launcher), launched)
    }
}

/// Counts a launch for as long as it lives, however it ends.
struct Counted<'a>(&'a AtomicUsize);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[async_trait]
impl Launcher for FakeLauncher {
    async fn launch(
        &self,
        permit: Permit,
        observer: Arc<dyn ExecutionObserver>,
    ) -> Result<Outcome, LaunchError> {
        let line = permit.into_plan().environment.remove(0).1;
        self.launches.fetch_add(1, Ordering::SeqCst);
        let at_once = self.at_once.fetch_add(1, Ordering::SeqCst) + 1;
        let _counted = Counted(&self.at_once);
        assert!(at_once <= self.capacity, "more launches than cells");
        let (acts, mut told) = mpsc::unbounded_channel();
        let mut scripted = (self.script)(&line).into_iter();
        let mut cell = Some(Cell { acts });
        let deaf = AtomicBool::new(false);
        let stop = async {
            let reason = observer.stop_requested().await;
            if deaf.load(Ordering::SeqCst) {
                std::future::pending::<()>().await;
            }
            reason
        };
        let work = async {
            loop {
                let (act, done) = match scripted.next() {
                    Some(Act::Await) => {
                        let _ = self.cells.send(cell.take().unwrap());
                        continue;
                    }
                    Some(act) => (act, None),
                    None => match told.recv().await {
                        Some((act, done)) => (act, Some(done)),
                        None => std::future::pending().await,
                    },
                };
                match act {
                    Act::Start => {
                        if observer.starting(&confinement()).await == Flow::Stop {
                            return Err(LaunchError::Forbidden);
                        }
                        self.journal.write(format!("run {line}"));
                    }
                    Act::Print(stream, bytes) => {
                        if observer.output(stream, bytes).await == Flow::Stop {
                            return Ok(Ended::Signaled(9));
                        }
                    }
                    Act::Sleep(time) => tokio::time::sleep(time).await,
                    Act::End(ended) => return Ok(ended),
                    Act::Fail(error) => return Err(error),
                    Act::Panic => panic!("the launcher broke"),
                    Act::Deafen => deaf.store(true, Ordering::SeqCst),
                    Act::Await => unreachable!("only scripts hand over"),
                }
                if let Some(done) = done {
                    let _ = done.send(());
                }
            }
        };
        let ended = tokio::select! {
            biased;
            ended = work => ended,
            reason = stop => Ok(Ended::Stopped(reason)),
        };
        self.journal.write(format!("ran {line}"));
        Ok(Outcome { ended: ended?, usage: Usage::default(), truncated: false })
    }

    fn capacity(&self) -> usize {
        self.capacity
    }
}

/// What lines of scripted launchers do: `echo TEXT` prints it, `sleep N` takes N seconds, `fail N` exits
/// with N; anything else is driven by the test.
fn by_line(line: &str) -> Vec<Act> {
    match line.split_once(' ') {
        Some(("echo", text)) => vec![
            Act::Start,
            Act::Print(OutputStream::Stdout, format!("{text}\n").into()),
            Act::End(Ended::Exited(0)),
        ],
        Some(("sleep", seconds)) => vec![
            Act::Start,
            Act::Sleep(Duration::from_secs(seconds.parse().unwrap())),
            Act::End(Ended::Exited(0)),
        ],
        Some(("chat", pieces)) => {
            let say = |n: u64| {
                let stream = if n.is_multiple_of(3) { OutputStream::Stderr } else { OutputStream::Stdout };
                [Act::Print(stream, format!("{n}\n").into()), Act::Sleep(Duration::from_millis(n * 7 % 60))]
            };
            let talk = (0..pieces.parse().unwrap()).flat_map(say);
            [Act::Start].into_iter().chain(talk).chain([Act::End(Ended::Exited(0))]).collect()
        }
        Some(("die", _)) => vec![Act::Start, Act::Fail(LaunchError::Died { problem: "killed".into() })],
        Some(("fail", code)) => vec![Act::Start, Act::End(Ended::Exited(code.parse().unwrap()))],
        _ => vec![Act::Await],
    }
}
