//! The server's side: hands permits to free cells, carries output, and hears how executions end.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use portcullis_core::{
    Cells, Confinement, Ended, ExecutionObserver, Flow, LaunchError, Launcher, Limit, Outcome, OutputStream,
    Permit, ProgramName, Usage,
};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe;
use tokio::sync::{Notify, oneshot};

use crate::StartError;
use crate::start::LauncherProcess;
use crate::sys;
use crate::wire::{self, Answer, FromCell, FromLauncher, LastWords, Refused, StepError, ToCell, ToLauncher};

/// How much output is taken at once.
const READ_BYTES: usize = 32 * 1024;
/// How long the first cell may take.
const FIRST_CELL: Duration = Duration::from_secs(20);
/// How many obituaries are kept for those who have not asked yet.
const MOST_OBITUARIES: usize = 64;
/// How long the launcher may take to say why a cell is gone.
const OBITUARY: Duration = Duration::from_secs(5);

/// The launcher's other end: hands permits to cells. Implements [`Launcher`].
pub struct Sandbox {
    shared: Arc<Shared>,
    confinement: Confinement,
    cells: usize,
}

impl std::fmt::Debug for Sandbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sandbox").field("confinement", &self.confinement).field("cells", &self.cells).finish()
    }
}

struct Shared {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    free: VecDeque<CellLink>,
    confinement: Option<Confinement>,
    /// Cells that ended, with what the launcher said of them, until somebody asks.
    obituaries: BTreeMap<u64, LastWords>,
    /// Who waits to be told why a cell ended.
    mourners: BTreeMap<u64, oneshot::Sender<LastWords>>,
    /// Why no further cell comes, by cell.
    failures: BTreeMap<u32, StepError>,
    launcher_gone: bool,
    /// For who asks how the cells are.
    counted: Cells,
}

impl Shared {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A cell that is ready for an execution.
struct CellLink {
    number: u64,
    link: AsyncFd<OwnedFd>,
    /// Room for output, kept from one execution to the next.
    room: [Vec<u8>; 2],
    /// What it ran last.
    last: Option<Kind>,
}

/// What executions have in common for which a cell is ready alike.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Kind {
    programs: BTreeSet<ProgramName>,
    writes: bool,
}

impl Sandbox {
    /// Connects to a launcher inside an async runtime and waits for the first cell.
    ///
    /// # Errors
    /// When no cell at or above the configured floor can be made on this host; the text says which step
    /// failed.
    pub async fn connect(process: LauncherProcess) -> Result<Self, StartError> {
        let problem = |text: String| StartError { problem: text };
        let LauncherProcess { link, config, child, is_us } = process;
        let link = sys::register(link).map_err(|error| problem(error.to_string()))?;
        send(&link, &ToLauncher::Configure { config: config.clone(), with_server: is_us }, &[])
            .await
            .map_err(|error| problem(format!("it did not take its configuration: {error}")))?;
        let shared = Arc::new(Shared { state: Mutex::default(), changed: Notify::new() });
        tokio::spawn(listen(link, child, Arc::clone(&shared)));
        let cells = config.cells.max(1);
        let first = tokio::time::timeout(FIRST_CELL, first_cell(&shared, cells)).await;
        let confinement = first.map_err(|_| problem("no cell was ready in time".into()))?.map_err(problem)?;
        Ok(Self { shared, confinement, cells })
    }

    /// Returns what is in force around every execution.
    #[must_use]
    pub fn confinement(&self) -> &Confinement {
        &self.confinement
    }

    /// Returns when the launcher has ended, and with it every cell: nothing can run any more.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn ended(&self) {
        loop {
            let changed = self.shared.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if self.shared.state().launcher_gone {
                return;
            }
            changed.await;
        }
    }

    /// Waits for a free cell: one that has run the same last, if there is, since it may be ready for that again; of those
    /// that only read the one that has just answered, whose memory is in the caches. One that wrote has things to put in
    /// order still, so that another is better. Else the one that has rested longest: the others stay ready for what they
    /// ran.
    async fn free_cell(&self, kind: &Kind) -> Result<CellLink, LaunchError> {
        let mut waits = false;
        loop {
            let changed = self.shared.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            {
                let mut state = self.shared.state();
                let busy = usize::from(kind.writes);
                let same = state.free.iter().skip(busy).position(|cell| cell.last.as_ref() == Some(kind));
                let chosen = same.map(|place| place + busy).or(state.free.len().checked_sub(1));
                if let Some(mut cell) = chosen.and_then(|place| state.free.remove(place)) {
                    cell.last = Some(kind.clone());
                    return Ok(cell);
                }
                state.counted.late += u64::from(!waits);
                waits = true;
                if state.launcher_gone {
                    return Err(LaunchError::Unavailable {
                        problem: "the launcher has ended; restart the service".into(),
                    });
                }
                if state.failures.len() >= self.cells
                    && let Some(failure) = state.failures.values().next()
                {
                    return Err(LaunchError::Confinement {
                        step: failure.step.to_string(),
                        source: failure.source(),
                    });
                }
            }
            changed.await;
        }
    }

    /// Who has answered last comes first.
    fn give_back(&self, cell: CellLink) {
        self.shared.state().free.push_front(cell);
        self.shared.changed.notify_waiters();
    }

    /// Says why a cell ended, when the launcher knows.
    async fn obituary(&self, number: u64) -> Option<LastWords> {
        let told = {
            let mut state = self.shared.state();
            if let Some(words) = state.obituaries.remove(&number) {
                return Some(words);
            }
            let (tell, told) = oneshot::channel();
            state.mourners.insert(number, tell);
            told
        };
        tokio::time::timeout(OBITUARY, told).await.ok()?.ok()
    }
}

async fn first_cell(shared: &Shared, cells: usize) -> Result<Confinement, String> {
    loop {
        let changed = shared.changed.notified();
        tokio::pin!(changed);
        changed.as_mut().enable();
        {
            let state = shared.state();
            if let Some(confinement) = &state.confinement {
                return Ok(confinement.clone());
            }
            if state.failures.len() >= cells
                && let Some(failure) = state.failures.values().next()
            {
                return Err(format!("no cell can be made: {failure}"));
            }
            if state.launcher_gone {
                return Err("the launcher ended before it had made a cell".into());
            }
        }
        changed.await;
    }
}

/// Takes what the launcher says, until it ends.
async fn listen(link: AsyncFd<OwnedFd>, mut child: std::process::Child, shared: Arc<Shared>) {
    loop {
        match receive(&link).await {
            Ok(Some((FromLauncher::Ready { cell, confinement }, mut descriptors))) => {
                let Some(fd) = descriptors.pop().filter(|_| descriptors.is_empty()) else { break };
                let Ok(link) = sys::register(fd) else { break };
                let mut state = shared.state();
                state.confinement = Some(confinement);
                let room = [vec![0; READ_BYTES], vec![0; READ_BYTES]];
                state.counted.made += 1;
                state.free.push_back(CellLink { number: cell, link, room, last: None });
            }
            Ok(Some((FromLauncher::Found { removed, kept }, none))) if none.is_empty() => {
                for group in removed {
                    tracing::info!(group, "removed a control group that an earlier life had left");
                }
                for group in kept {
                    tracing::warn!(
                        group,
                        "a control group of an earlier life has processes in it: end them by hand"
                    );
                }
            }
            Ok(Some((FromLauncher::Failed { slot, failure, last }, none))) if none.is_empty() => {
                tracing::warn!(slot, %failure, last, "a cell could not be made");
                if last {
                    shared.state().failures.insert(slot, failure);
                }
            }
            Ok(Some((FromLauncher::Gone { cell, words }, none))) if none.is_empty() => {
                let mut state = shared.state();
                state.counted.gone += 1;
                let before = state.free.len();
                state.free.retain(|free| free.number != cell);
                let was_free = state.free.len() < before;
                match state.mourners.remove(&cell) {
                    Some(mourner) => drop(mourner.send(words)),
                    None if was_free => {}
                    None => drop(state.obituaries.insert(cell, words)),
                }
                while state.obituaries.len() > MOST_OBITUARIES {
                    state.obituaries.pop_first();
                }
            }
            _ => break,
        }
        shared.changed.notify_waiters();
    }
    // INVARIANT (no cell outlives the launcher): it is gone, and with it every cell; nothing runs any more.
    drop(link);
    {
        let mut state = shared.state();
        state.launcher_gone = true;
        state.free.clear();
        state.mourners.clear();
    }
    shared.changed.notify_waiters();
    // Whether that was wanted, `Sandbox::ended` leaves to who asks.
    tracing::debug!("the launcher has ended");
    let _ = tokio::task::spawn_blocking(move || child.wait()).await;
}

#[async_trait]
impl Launcher for Sandbox {
    async fn launch(
        &self,
        permit: Permit,
        observer: Arc<dyn ExecutionObserver>,
    ) -> Result<Outcome, LaunchError> {
        let mut plan = permit.into_plan();
        let stdin = plan.stdin.take();
        let kind = Kind { programs: plan.programs(), writes: plan.writes() };
        let mut cell = self.free_cell(&kind).await?;
        let mut permission = Permission::ask(observer.starting(&self.confinement)).await;
        if permission.is_refused() {
            self.give_back(cell);
            return Err(LaunchError::Forbidden);
        }
        let output_limit = plan.limits.output_bytes;
        let message = ToCell::Run {
            plan: Box::new(plan),
            stdin: stdin.is_some(),
            gated: matches!(permission, Permission::Awaited { .. }),
        };
        let mut tries = 0;
        let mut streams = loop {
            let failed = match start(&cell, &message, stdin.as_deref(), &mut permission).await {
                Ok(streams) => break streams,
                // A cell that had died while it was free has taken nothing over: another one may.
                Err(error) if is_gone(&error) && tries < self.cells => match self.free_cell(&kind).await {
                    Ok(another) => {
                        cell = another;
                        tries += 1;
                        continue;
                    }
                    Err(none) => none,
                },
                Err(error) => {
                    self.give_back(cell);
                    LaunchError::Confinement { step: "hand over to the cell".into(), source: error }
                }
            };
            // Who asked the observer waits for its answer, whatever becomes of the launch.
            permission.see_to_its_end().await;
            return Err(failed);
        };
        let started = Instant::now();
        let mut flow =
            OutputFlow { observer: &observer, left: output_limit, truncated: false, stopped: false };
        let answer = attend(&mut cell, &mut streams, &mut flow, &mut permission).await;
        let truncated = flow.truncated;
        match answer {
            Ok(FromCell { answer, fit }) => {
                if fit {
                    self.give_back(cell);
                }
                match answer {
                    _ if permission.is_refused() => Err(LaunchError::Forbidden),
                    // What ended by itself before our word to stop arrived had still printed too much.
                    Answer::Ended { ended: Ended::Exited(_) | Ended::Signaled(_), usage } if truncated => {
                        Ok(Outcome { ended: Ended::Limited(Limit::Output), usage, truncated })
                    }
                    Answer::Ended { ended, usage } => Ok(Outcome { ended, usage, truncated }),
                    Answer::Refused(refused) => Err(refusal(refused)),
                    // It never was let go, so nothing of the line ran.
                    Answer::Broken(failure) if !permission.is_given() => Err(refusal(Refused::Step(failure))),
                    Answer::Broken(failure) => Err(LaunchError::Died { problem: failure.to_string() }),
                }
            }
            Err(_) if permission.is_refused() => Err(LaunchError::Forbidden),
            // As above.
            Err(error) if !permission.is_given() => {
                Err(LaunchError::Confinement { step: "prepare in the cell".into(), source: error })
            }
            Err(error) => {
                let number = cell.number;
                drop(cell);
                match self.obituary(number).await {
                    Some(words) if words.oom_kills > 0 => {
                        let LastWords { cpu_time, peak_memory_bytes, .. } = words;
                        let usage = Usage { cpu_time, peak_memory_bytes, wall_time: started.elapsed() };
                        Ok(Outcome { ended: Ended::Limited(Limit::Memory), usage, truncated })
                    }
                    _ => Err(LaunchError::Died { problem: error.to_string() }),
                }
            }
        }
    }

    fn capacity(&self) -> usize {
        self.cells
    }

    fn cells(&self) -> Cells {
        let state = self.shared.state();
        let alive = state.counted.made.saturating_sub(state.counted.gone);
        let alive = if state.launcher_gone { 0 } else { usize::try_from(alive).unwrap_or(usize::MAX) };
        Cells { free: state.free.len(), alive, ..state.counted }
    }

    fn problem(&self) -> Option<String> {
        let state = self.shared.state();
        if state.launcher_gone {
            return Some("the launcher has ended".into());
        }
        let failure = state.failures.values().next().filter(|_| state.failures.len() >= self.cells);
        failure.map(|failure| format!("no cell can be made: {failure}"))
    }
}

fn refusal(refused: Refused) -> LaunchError {
    match refused {
        Refused::Program { program, problem } => LaunchError::Program { program, problem },
        Refused::Step(failure) => {
            LaunchError::Confinement { source: failure.source(), step: failure.step.into_owned() }
        }
        Refused::Unenforceable(problem) => LaunchError::Unenforceable { problem },
        Refused::CalledOff => LaunchError::Forbidden,
    }
}

/// Whether a link's other end has ended.
fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}

/// Our ends of an execution's pipes.
struct Streams {
    output: Option<pipe::Receiver>,
    error: Option<pipe::Receiver>,
}

/// Whether the observer lets the line go. Where it takes time to say so, the cell prepares meanwhile, behind a gate.
enum Permission<'a> {
    Given,
    Refused,
    /// It was given when there was nothing to let go any more.
    Late,
    Awaited {
        starting: Pin<Box<dyn Future<Output = Flow> + Send + 'a>>,
        /// A byte into it opens the gate; without one, its end calls the line off. `None` before there is a gate.
        gate: Option<OwnedFd>,
    },
}

impl<'a> Permission<'a> {
    /// Asks; what is answered at once needs no gate.
    async fn ask(mut starting: Pin<Box<dyn Future<Output = Flow> + Send + 'a>>) -> Self {
        match std::future::poll_fn(|context| Poll::Ready(starting.as_mut().poll(context))).await {
            Poll::Ready(Flow::Continue) => Self::Given,
            Poll::Ready(Flow::Stop) => Self::Refused,
            Poll::Pending => Self::Awaited { starting, gate: None },
        }
    }

    fn is_given(&self) -> bool {
        matches!(self, Self::Given)
    }

    fn is_refused(&self) -> bool {
        matches!(self, Self::Refused)
    }

    /// Makes the gate that the cell is to wait at, and returns the cell's end of it.
    fn new_gate(&mut self) -> io::Result<Option<OwnedFd>> {
        let Self::Awaited { gate, .. } = self else { return Ok(None) };
        let (read, write) = sys::pipe()?;
        *gate = Some(write);
        Ok(Some(read))
    }

    /// Takes the gate away: the cell has said its last word.
    fn withdraw(&mut self) {
        if let Self::Awaited { gate, .. } = self {
            *gate = None;
        }
    }

    /// Waits for the observer's answer and opens the gate, or calls the line off.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing; dropping the permission calls the line off.
    async fn see_to_its_end(&mut self) {
        let Self::Awaited { starting, gate } = self else { return };
        let answer = starting.await;
        let gate = gate.take();
        *self = match answer {
            Flow::Stop => Self::Refused,
            Flow::Continue => match gate.map(|gate| File::from(gate).write_all(b"1")) {
                Some(Ok(())) => Self::Given,
                // Nobody waits there.
                Some(Err(_)) | None => Self::Late,
            },
        };
    }
}

/// Makes the pipes, feeds standard input in a task of its own, and hands the plan to the cell.
async fn start(
    cell: &CellLink,
    message: &ToCell,
    stdin: Option<&[u8]>,
    permission: &mut Permission<'_>,
) -> io::Result<Streams> {
    let (output, output_write) = sys::pipe()?;
    let (error, error_write) = sys::pipe()?;
    let (output, error) = (pipe::Receiver::from_owned_fd(output)?, pipe::Receiver::from_owned_fd(error)?);
    let mut descriptors = vec![output_write.as_fd(), error_write.as_fd()];
    let mut input = None;
    let read_end;
    if let Some(bytes) = stdin {
        let (write, read) = pipe::pipe()?;
        read_end = read.into_blocking_fd()?;
        descriptors.push(read_end.as_fd());
        input = Some((write, bytes.to_vec()));
    }
    let gate = permission.new_gate()?;
    descriptors.extend(gate.as_ref().map(AsFd::as_fd));
    send(&cell.link, message, &descriptors).await?;
    if let Some((mut write, bytes)) = input {
        tokio::spawn(async move {
            // A command that does not read its input closes it; that is its own affair.
            let _ = write.write_all(&bytes).await;
        });
    }
    Ok(Streams { output: Some(output), error: Some(error) })
}

/// Counts output and hands it on.
struct OutputFlow<'a> {
    observer: &'a Arc<dyn ExecutionObserver>,
    left: u64,
    truncated: bool,
    stopped: bool,
}

impl OutputFlow<'_> {
    /// Hands on what fits; says whether the execution is to be ended for its output.
    async fn take(&mut self, stream: OutputStream, bytes: &[u8]) -> Flow {
        if self.stopped {
            return Flow::Continue;
        }
        let fits = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
        let (kept, cut) = bytes.split_at(fits);
        self.left -= u64::try_from(fits).unwrap_or(self.left);
        let mut flow = Flow::Continue;
        if !kept.is_empty() {
            flow = self.observer.output(stream, kept.to_vec()).await;
        }
        if !cut.is_empty() {
            self.truncated = true;
            flow = Flow::Stop;
        }
        self.stopped = flow == Flow::Stop;
        flow
    }
}

/// Sees an execution to its end: its start, output, the wish to stop, the cell's last word. Returns when the cell has
/// answered, every byte of output is handed on, and the observer has said whether it may start.
async fn attend(
    cell: &mut CellLink,
    streams: &mut Streams,
    flow: &mut OutputFlow<'_>,
    permission: &mut Permission<'_>,
) -> io::Result<FromCell> {
    let observer = Arc::clone(flow.observer);
    let mut stop = observer.stop_requested();
    let mut stop_sent = false;
    let CellLink { link, room: [output_room, error_room], .. } = cell;
    let mut answer: Option<io::Result<FromCell>> = None;
    loop {
        let awaited = matches!(permission, Permission::Awaited { .. });
        if answer.is_some() && awaited {
            permission.withdraw();
            permission.see_to_its_end().await;
            continue;
        }
        if answer.is_some() && streams.output.is_none() && streams.error.is_none() {
            break;
        }
        tokio::select! {
            received = receive_from_cell(link), if answer.is_none() => match received {
                Ok(Some((message, none))) if none.is_empty() => answer = Some(Ok(message)),
                Ok(Some(_)) => return Err(io::Error::other("the cell sent descriptors")),
                // What was written before it ended is still to come: with it all that could write has ended.
                Ok(None) => answer = Some(Err(io::Error::other("the cell ended"))),
                Err(error) => answer = Some(Err(error)),
            },
            read = read(&mut streams.output, output_room), if streams.output.is_some() => {
                let bytes = output_room.get(..read).unwrap_or_default();
                if read == 0 {
                    streams.output = None;
                } else if flow.take(OutputStream::Stdout, bytes).await == Flow::Stop && answer.is_none() {
                    stop_now(link).await?;
                }
            }
            read = read(&mut streams.error, error_room), if streams.error.is_some() => {
                let bytes = error_room.get(..read).unwrap_or_default();
                if read == 0 {
                    streams.error = None;
                } else if flow.take(OutputStream::Stderr, bytes).await == Flow::Stop && answer.is_none() {
                    stop_now(link).await?;
                }
            }
            () = permission.see_to_its_end(), if awaited => {}
            reason = &mut stop, if !stop_sent && !awaited && answer.is_none() => {
                stop_sent = true;
                let message = ToCell::Stop { ended: Ended::Stopped(reason), gently: true };
                send(link, &message, &[]).await?;
            }
        }
    }
    answer.unwrap_or_else(|| Err(io::Error::other("the cell did not answer")))
}

async fn stop_now(link: &AsyncFd<OwnedFd>) -> io::Result<()> {
    let message = ToCell::Stop { ended: Ended::Limited(Limit::Output), gently: false };
    send(link, &message, &[]).await
}

/// Reads from a stream; 0 at its end, or when it fails, which is its end too.
async fn read(stream: &mut Option<pipe::Receiver>, buffer: &mut [u8]) -> usize {
    match stream {
        Some(stream) => stream.read(buffer).await.unwrap_or(0),
        None => 0,
    }
}

async fn send(
    link: &AsyncFd<OwnedFd>,
    message: &impl serde::Serialize,
    descriptors: &[std::os::fd::BorrowedFd<'_>],
) -> io::Result<()> {
    loop {
        let mut ready = link.writable().await?;
        match ready.try_io(|link| wire::send(link.get_ref().as_fd(), message, descriptors)) {
            Ok(sent) => return sent,
            Err(_would_block) => {}
        }
    }
}

async fn receive(link: &AsyncFd<OwnedFd>) -> io::Result<Option<(FromLauncher, Vec<OwnedFd>)>> {
    loop {
        let mut ready = link.readable().await?;
        match ready.try_io(|link| wire::receive(link.get_ref())) {
            Ok(received) => return received,
            Err(_would_block) => {}
        }
    }
}

async fn receive_from_cell(link: &AsyncFd<OwnedFd>) -> io::Result<Option<(FromCell, Vec<OwnedFd>)>> {
    loop {
        let mut ready = link.readable().await?;
        match ready.try_io(|link| wire::receive_short(link.get_ref())) {
            Ok(received) => return received,
            Err(_would_block) => {}
        }
    }
}
