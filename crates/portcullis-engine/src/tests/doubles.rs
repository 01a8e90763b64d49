//! Parts in memory that a test drives, and the journal in which they write what was asked of them.

use std::collections::HashSet;
use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use portcullis_core::*;
use portcullis_store::MemoryStore;
use time::OffsetDateTime;
use tokio::sync::{Notify, mpsc, oneshot};

use crate::{Config, Engine, Parts, Stats, SubmitError, Submitted, Watch, WatchEvent};

pub(super) const SECOND: Duration = Duration::from_secs(1);

pub(super) fn id(text: &str) -> ExecutionId {
    ExecutionId::parse(text).unwrap()
}

pub(super) fn principal(name: &str) -> Principal {
    Principal { id: format!("id-{name}"), name: name.into(), ..Principal::local() }
}

pub(super) fn ann() -> Principal {
    principal("ann")
}

pub(super) fn confinement() -> Confinement {
    Confinement { level: Level::Full, landlock_abi: Some(7), cgroup: None, weaker: vec![] }
}

pub(super) fn unavailable<T>(operation: &'static str) -> Result<T, StoreError> {
    Err(StoreError::Unavailable { operation, source: "the disk is full".into() })
}

/// What the parts were asked, in order: `claim x`, `run x`, `conclude x completed`.
#[derive(Clone, Default)]
pub(super) struct Journal(Arc<Mutex<Vec<String>>>);

impl Journal {
    pub(super) fn write(&self, line: String) {
        self.0.lock().unwrap().push(line);
    }

    pub(super) fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    pub(super) fn count(&self, line: &str) -> usize {
        self.0.lock().unwrap().iter().filter(|l| *l == line).count()
    }

    pub(super) fn position(&self, line: &str) -> Option<usize> {
        self.0.lock().unwrap().iter().position(|l| l == line)
    }
}

// ------------------------------------------------------------------------------------------------ policy

/// Permits every line but those of `rm`.
pub(super) struct AllButRm;

impl Policy for AllButRm {
    fn judge(&self, _: &Principal, submission: &Submission) -> Verdict {
        let program = submission.command.split(' ').next().and_then(ProgramName::parse).unwrap();
        if program.as_str() == "rm" {
            return Verdict::Deny(Box::new(Denial {
                code: DenialCode::new("program/not-allowed"),
                kind: DenialKind::Forbidden,
                span: Span::new(0, 2),
                subject: "rm".into(),
                rule: None,
                message: "`rm` is not allowed".into(),
                suggestion: None,
                further: vec![],
            }));
        }
        let workspace = ViewPath::parse("/workspace").unwrap();
        let plan = Plan {
            script: Script { steps: vec![] },
            working_directory: workspace.clone(),
            workspace,
            environment: vec![("LINE".into(), submission.command.clone())],
            stdin: None,
            limits: Limits::default(),
            protected: vec![],
        };
        let grant = Grant { rules: vec!["all".into()], programs: vec![program] };
        Verdict::Permit(Box::new(Permit::grant(plan)), grant)
    }

    fn allowed(&self, _: &Principal) -> Vec<AllowedProgram> {
        vec![]
    }
}

// ---------------------------------------------------------------------------------------------- launcher

/// Runs nothing: each launch does what the test, or the script for its line, says.
pub(super) struct FakeLauncher {
    journal: Journal,
    capacity: usize,
    script: fn(&str) -> Vec<Act>,
    cells: mpsc::UnboundedSender<Cell>,
    pub(super) launches: AtomicUsize,
    at_once: AtomicUsize,
}

/// One thing that a launch does.
pub(super) enum Act {
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
pub(super) struct Cell {
    acts: mpsc::UnboundedSender<(Act, oneshot::Sender<()>)>,
}

impl Cell {
    /// Does one thing, and returns when it is done, or when the launch has ended.
    pub(super) async fn act(&self, act: Act) {
        let (done, seen) = oneshot::channel();
        if self.acts.send((act, done)).is_ok() {
            let _ = seen.await;
        }
    }

    pub(super) async fn start(&self) {
        self.act(Act::Start).await;
    }

    pub(super) async fn print(&self, text: &str) {
        self.act(Act::Print(OutputStream::Stdout, text.into())).await;
    }

    pub(super) async fn complain(&self, text: &str) {
        self.act(Act::Print(OutputStream::Stderr, text.into())).await;
    }

    pub(super) async fn exit(&self, code: i32) {
        self.act(Act::End(Ended::Exited(code))).await;
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
pub(super) fn by_line(line: &str) -> Vec<Act> {
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
                let stream = if n % 3 == 0 { OutputStream::Stderr } else { OutputStream::Stdout };
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

// ------------------------------------------------------------------------------------------------- store

/// Where in a call of the store the service is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cut {
    /// The store has not done it.
    Before,
    /// The store has done it, and nobody knows.
    After,
}

/// The memory store, with a journal and faults by count.
pub(super) struct FaultyStore {
    pub(super) inner: MemoryStore,
    journal: Journal,
    calls: AtomicUsize,
    /// The calls that fail, from 1.
    pub(super) failing: Mutex<HashSet<usize>>,
    /// Every call fails while this is set.
    away: AtomicBool,
    /// The same for calls that change something.
    read_only: AtomicBool,
    /// The same for output.
    refusing_output: AtomicBool,
    /// The call at which the service is killed, and whether the store still does it.
    pub(super) cut: Mutex<Option<(usize, Cut)>>,
    killed: Notify,
    /// A start leaves open what is open.
    shared: AtomicBool,
    /// Calls of `output` that reached the store.
    pub(super) output_reads: AtomicUsize,
}

impl FaultyStore {
    pub(super) fn new(journal: &Journal) -> Arc<Self> {
        Arc::new(Self {
            inner: MemoryStore::new(),
            journal: journal.clone(),
            calls: AtomicUsize::new(0),
            failing: Mutex::default(),
            away: AtomicBool::new(false),
            read_only: AtomicBool::new(false),
            refusing_output: AtomicBool::new(false),
            cut: Mutex::new(None),
            killed: Notify::new(),
            shared: AtomicBool::new(false),
            output_reads: AtomicUsize::new(0),
        })
    }

    pub(super) fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    pub(super) fn set_away(&self, away: bool) {
        self.away.store(away, Ordering::SeqCst);
    }

    pub(super) fn set_read_only(&self, read_only: bool) {
        self.read_only.store(read_only, Ordering::SeqCst);
    }

    pub(super) fn set_refusing_output(&self, refusing: bool) {
        self.refusing_output.store(refusing, Ordering::SeqCst);
    }

    /// Resolves when the service is to be killed.
    pub(super) async fn killed(&self) {
        self.killed.notified().await;
    }

    fn fails(&self, name: &str, number: usize) -> bool {
        self.away.load(Ordering::SeqCst)
            || self.failing.lock().unwrap().contains(&number)
            || self.refusing_output.load(Ordering::SeqCst) && name == "append"
            || self.read_only.load(Ordering::SeqCst) && !["read", "output", "undelivered"].contains(&name)
    }

    async fn call<T>(
        &self,
        name: &'static str,
        id: &str,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        // As a real store does, it takes a while, in which other tasks go on.
        tokio::task::yield_now().await;
        let number = self.calls.fetch_add(1, Ordering::SeqCst) + 1;
        let cut = self.cut.lock().unwrap().filter(|(at, _)| *at == number).map(|(_, cut)| cut);
        if cut == Some(Cut::Before) {
            return self.die().await;
        }
        if self.fails(name, number) {
            self.journal.write(format!("failed {name} {id}"));
            return unavailable(name);
        }
        let answer = call.await?;
        self.journal.write(format!("{name} {id}"));
        if cut == Some(Cut::After) {
            return self.die().await;
        }
        tokio::task::yield_now().await;
        Ok(answer)
    }

    /// From here on nobody hears of this call again.
    async fn die<T>(&self) -> T {
        self.killed.notify_one();
        std::future::pending().await
    }
}

#[async_trait]
impl ExecutionStore for FaultyStore {
    async fn accept(&self, new: NewExecution) -> Result<Acceptance, StoreError> {
        let id = new.id.clone();
        self.call("accept", id.as_str(), self.inner.accept(new)).await
    }
    async fn claim(
        &self,
        id: &ExecutionId,
        at: OffsetDateTime,
        c: &Confinement,
    ) -> Result<Claim, StoreError> {
        self.call("claim", id.as_str(), self.inner.claim(id, at, c)).await
    }
    async fn append(&self, id: &ExecutionId, chunks: Vec<OutputChunk>) -> Result<(), StoreError> {
        self.call("append", id.as_str(), self.inner.append(id, chunks)).await
    }
    async fn finish(&self, id: &ExecutionId, ending: Ending) -> Result<Finish, StoreError> {
        self.call("finish", id.as_str(), self.inner.finish(id, ending)).await
    }
    async fn read(&self, id: &ExecutionId) -> Result<Option<Execution>, StoreError> {
        self.call("read", id.as_str(), self.inner.read(id)).await
    }
    async fn output(&self, id: &ExecutionId, after: u64, max: usize) -> Result<Vec<OutputChunk>, StoreError> {
        self.output_reads.fetch_add(1, Ordering::SeqCst);
        self.call("output", id.as_str(), self.inner.output(id, after, max)).await
    }
    async fn list(&self, query: &ListQuery) -> Result<ListPage, StoreError> {
        self.call("list", "", self.inner.list(query)).await
    }
    async fn refuse(&self, refusal: Refusal) -> Result<(), StoreError> {
        self.call("refuse", "", self.inner.refuse(refusal)).await
    }
    async fn refusals(&self, limit: usize) -> Result<Vec<Refusal>, StoreError> {
        self.call("refusals", "", self.inner.refusals(limit)).await
    }
    async fn recover(&self, at: OffsetDateTime) -> Result<Recovery, StoreError> {
        if self.shared.load(Ordering::SeqCst) {
            return Ok(Recovery::default());
        }
        self.call("recover", "", self.inner.recover(at)).await
    }
    async fn undelivered(&self, limit: usize) -> Result<Vec<Execution>, StoreError> {
        self.call("undelivered", "", self.inner.undelivered(limit)).await
    }
    async fn delivered(&self, id: &ExecutionId, delivery: Delivery) -> Result<(), StoreError> {
        self.call("delivered", id.as_str(), self.inner.delivered(id, delivery)).await
    }
    async fn expire(&self, before: OffsetDateTime) -> Result<u64, StoreError> {
        self.call("expire", "", self.inner.expire(before)).await
    }
}

// ----------------------------------------------------------------------------------------------- notifier

/// Keeps what it was told.
pub(super) struct Listener {
    journal: Journal,
    updates: Mutex<Vec<Update>>,
    /// While set, a conclusion is not taken and not refused.
    pub(super) away: AtomicBool,
    /// While set, a conclusion is refused for good.
    pub(super) refusing: AtomicBool,
    pub(super) waiting: AtomicUsize,
}

impl Listener {
    pub(super) fn updates(&self) -> Vec<Update> {
        self.updates.lock().unwrap().clone()
    }

    pub(super) fn last_of(&self, id: &ExecutionId) -> Option<Update> {
        self.updates().into_iter().rev().find(|update| update.id == *id)
    }
}

#[async_trait]
impl Notifier for Listener {
    fn announce(&self, update: Update) {
        self.journal.write(format!("announce {} {}", update.id, update.status.as_str()));
        self.updates.lock().unwrap().push(update);
    }

    async fn conclude(&self, update: Update) -> Result<(), NotifyError> {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        while self.away.load(Ordering::SeqCst) {
            tokio::time::sleep(SECOND).await;
        }
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        if self.refusing.load(Ordering::SeqCst) {
            return Err(NotifyError { problem: "413".into() });
        }
        self.journal.write(format!("conclude {} {}", update.id, update.status.as_str()));
        self.updates.lock().unwrap().push(update);
        Ok(())
    }
}

// ------------------------------------------------------------------------------------------------ service

/// An engine and its parts.
pub(super) struct Service {
    pub(super) engine: Arc<Engine>,
    pub(super) store: Arc<FaultyStore>,
    pub(super) listener: Arc<Listener>,
    pub(super) launcher: Arc<FakeLauncher>,
    pub(super) journal: Journal,
    cells: tokio::sync::Mutex<mpsc::UnboundedReceiver<Cell>>,
}

impl Service {
    pub(super) async fn start(capacity: usize) -> Self {
        Self::with(capacity, Config::default()).await
    }

    pub(super) async fn with(capacity: usize, config: Config) -> Self {
        let journal = Journal::default();
        Self::on(FaultyStore::new(&journal), journal, capacity, config).await
    }

    /// Starts on a store that may hold something already.
    pub(super) async fn on(
        store: Arc<FaultyStore>,
        journal: Journal,
        capacity: usize,
        config: Config,
    ) -> Self {
        Self::try_on(store, journal, capacity, config).await.unwrap()
    }

    /// Starts an engine on the store of another, as if on another machine. What is open stays so.
    pub(super) async fn beside(other: &Self) -> Self {
        other.store.shared.store(true, Ordering::SeqCst);
        Self::on(other.store.clone(), other.journal.clone(), 1, Config::default()).await
    }

    /// The same, and `None` when the store does not let it start.
    pub(super) async fn try_on(
        store: Arc<FaultyStore>,
        journal: Journal,
        capacity: usize,
        config: Config,
    ) -> Option<Self> {
        let (cells, launched) = mpsc::unbounded_channel();
        let launcher = Arc::new(FakeLauncher {
            journal: journal.clone(),
            capacity,
            script: by_line,
            cells,
            launches: AtomicUsize::new(0),
            at_once: AtomicUsize::new(0),
        });
        let listener = Arc::new(Listener {
            journal: journal.clone(),
            updates: Mutex::default(),
            away: AtomicBool::new(false),
            refusing: AtomicBool::new(false),
            waiting: AtomicUsize::new(0),
        });
        let parts = Parts {
            policy: Arc::new(AllButRm),
            launcher: launcher.clone(),
            store: store.clone(),
            notifier: listener.clone(),
        };
        let engine = Engine::start(parts, config).await.ok()?;
        let cells = tokio::sync::Mutex::new(launched);
        Some(Self { engine, store, listener, launcher, journal, cells })
    }

    pub(super) async fn submit(&self, name: &str, line: &str) -> Result<Submitted, SubmitError> {
        self.engine.submit(&ann(), Some(id(name)), Submission::of(line)).await
    }

    /// Submits for ann, and returns the id.
    pub(super) async fn accept(&self, name: &str, line: &str) -> ExecutionId {
        match self.submit(name, line).await {
            Ok(Submitted::New(record)) => record.id,
            other => panic!("not accepted: {other:?}"),
        }
    }

    /// Returns the next launch that the test drives.
    pub(super) async fn cell(&self) -> Cell {
        let mut cells = self.cells.lock().await;
        tokio::time::timeout(1_000 * SECOND, cells.recv()).await.expect("a launch").unwrap()
    }

    /// Reads ann's record.
    pub(super) async fn record(&self, id: &ExecutionId) -> Execution {
        self.store.inner.read(id).await.unwrap().unwrap()
    }

    /// Returns the record when it has ended.
    #[track_caller]
    pub(super) fn ended(&self, id: &ExecutionId) -> impl Future<Output = Execution> {
        eventually(|| async {
            let record = self.store.inner.read(id).await.unwrap()?;
            record.status.is_terminal().then_some(record)
        })
    }

    /// Returns the ending in words, when it is there: `completed/exit`.
    pub(super) async fn told(&self, id: &ExecutionId) -> String {
        let ending = self.ended(id).await.ending.unwrap();
        format!("{}/{}", ending.status.as_str(), ending.reason.as_str())
    }

    pub(super) async fn watch(&self, id: &ExecutionId, after: u64) -> Watch {
        self.engine.watch(&ann(), id, after).await.unwrap()
    }

    pub(super) fn stats(&self) -> Stats {
        self.engine.stats()
    }

    /// Waits until every terminal update is told.
    pub(super) async fn all_told(&self) {
        eventually(|| async { self.store.inner.undelivered(1).await.unwrap().is_empty().then_some(()) })
            .await;
    }
}

/// Looks again and again until there is something; on the paused clock this takes no time.
#[track_caller]
pub(super) fn eventually<T, F: Future<Output = Option<T>>>(
    mut look: impl FnMut() -> F,
) -> impl Future<Output = T> {
    let caller = std::panic::Location::caller();
    async move {
        for _ in 0..100_000 {
            if let Some(seen) = look().await {
                return seen;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("it did not come, asked at {caller}");
    }
}

/// Reads a watch to its end, as text: `scheduled running o1:hello e2:oops completed`.
pub(super) async fn story(mut watch: Watch) -> String {
    let mut words = Vec::new();
    while let Some(event) = watch.next().await.unwrap() {
        words.push(match event {
            WatchEvent::Status(record) => record.status.as_str().to_owned(),
            WatchEvent::Output(chunk) => format!(
                "{}{}:{}",
                if chunk.stream == OutputStream::Stdout { "o" } else { "e" },
                chunk.seq,
                String::from_utf8_lossy(&chunk.bytes).trim_end()
            ),
            WatchEvent::Ended(record) => record.status.as_str().to_owned(),
        });
    }
    words.join(" ")
}
