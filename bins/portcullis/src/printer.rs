//! Where output of executions and words of our own go.

use std::io::{self, IsTerminal};
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use portcullis_core::OutputStream;
use tokio::io::{AsyncWrite, AsyncWriteExt};

use crate::terminal::{Colour, Escaper, is_dumb, plain, plain_lines};

/// Writes the two streams of an execution to ours: raw, or made harmless where ours is a terminal.
pub(crate) struct Printer {
    stdout: Sink,
    stderr: Sink,
}

struct Sink {
    to: Box<dyn AsyncWrite + Unpin + Send>,
    escaper: Option<Escaper>,
}

impl Printer {
    /// Writes to our standard streams.
    pub(crate) fn to_standard_streams() -> Self {
        let escaper = |terminal: bool| terminal.then(Escaper::default);
        Self {
            stdout: Sink { to: Box::new(tokio::io::stdout()), escaper: escaper(io::stdout().is_terminal()) },
            stderr: Sink { to: Box::new(tokio::io::stderr()), escaper: escaper(io::stderr().is_terminal()) },
        }
    }

    /// Writes output at once.
    ///
    /// # Errors
    /// When the stream cannot be written; [`io::ErrorKind::BrokenPipe`] when nobody reads it any more.
    pub(crate) async fn print(&mut self, stream: OutputStream, bytes: &[u8]) -> io::Result<()> {
        let sink = match stream {
            OutputStream::Stdout => &mut self.stdout,
            OutputStream::Stderr => &mut self.stderr,
        };
        match &mut sink.escaper {
            Some(escaper) => sink.to.write_all(&escaper.push(bytes)).await?,
            None => sink.to.write_all(bytes).await?,
        }
        sink.to.flush().await
    }

    /// Writes what was held back.
    ///
    /// # Errors
    /// See [`Printer::print`].
    pub(crate) async fn finish(&mut self) -> io::Result<()> {
        for sink in [&mut self.stdout, &mut self.stderr] {
            if let Some(escaper) = &mut sink.escaper {
                sink.to.write_all(&escaper.finish()).await?;
            }
            sink.to.flush().await?;
        }
        Ok(())
    }
}

/// Says things of our own on standard error, marked as ours.
#[derive(Debug, Clone)]
pub(crate) struct Voice {
    colour: Colour,
    quiet: bool,
    terminal: bool,
    /// Whether a progress line stands there and must go before anything else is written.
    progress: Arc<AtomicBool>,
    /// Whether our standard output goes to the same place.
    shared: bool,
    /// The output that stands there did not end its line.
    in_a_line: Arc<AtomicBool>,
}

/// Goes to the beginning of the line and empties it. ECMA-48 §8.3.41, EL.
const ERASE_LINE: &str = "\r\x1b[2K";
/// What is longer than a narrow terminal stays in its line, which can then be erased as one. DECAWM of the VT100.
const WRAP_OFF: &str = "\x1b[?7l";
const WRAP_ON: &str = "\x1b[?7h";

impl Voice {
    /// Speaks, unless quiet was asked for.
    pub(crate) fn new(colour: Colour, quiet: bool) -> Self {
        let place = |number: u8| {
            let place = std::fs::metadata(format!("/proc/self/fd/{number}")).ok()?;
            Some((place.dev(), place.ino()))
        };
        Self {
            colour,
            quiet,
            terminal: io::stderr().is_terminal() && !is_dumb(),
            progress: Arc::default(),
            shared: place(1).is_some_and(|stdout| place(2) == Some(stdout)),
            in_a_line: Arc::default(),
        }
    }

    /// Notes output that is about to be written to our standard streams.
    pub(crate) fn saw_output(&self, stream: OutputStream, bytes: &[u8]) {
        if let Some(last) = bytes.last().filter(|_| self.shared || stream == OutputStream::Stderr) {
            self.in_a_line.store(*last != b'\n', Ordering::Relaxed);
        }
    }

    /// Begins a new line where output stands in one.
    pub(crate) fn end_line(&self) {
        if self.in_a_line.swap(false, Ordering::Relaxed) {
            eprintln!();
        }
    }

    /// Says one thing.
    pub(crate) fn say(&self, what: &str) {
        if !self.quiet {
            self.erase_progress();
            self.end_line();
            eprintln!("{} {}", self.colour.paint("2", "portcullis:"), plain_lines(what));
        }
    }

    /// Shows a line that the next one replaces; only a terminal is shown one.
    pub(crate) fn show_progress(&self, what: &str) {
        if !self.quiet && self.terminal {
            self.progress.store(true, Ordering::Relaxed);
            eprint!("{ERASE_LINE}{WRAP_OFF}{}{WRAP_ON}", self.colour.paint("2", &plain(what)));
        }
    }

    /// Takes that line away, if it stands there.
    pub(crate) fn erase_progress(&self) {
        if self.progress.swap(false, Ordering::Relaxed) {
            eprint!("{ERASE_LINE}");
        }
    }
}
