//! The client as a process, and what came of it.

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// Longer than anything here takes, so that what hangs is seen to hang.
const PATIENCE: Duration = Duration::from_secs(60);

/// A client to be started in a home of its own.
pub(crate) struct Client {
    command: Command,
    home: tempfile::TempDir,
    stdin: Vec<u8>,
}

/// What a client left behind.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// A client that runs.
pub(crate) struct Running {
    child: Child,
    _home: tempfile::TempDir,
}

impl Client {
    /// Prepares a client with these arguments and an empty environment.
    pub(crate) fn new<I: IntoIterator>(arguments: I) -> Self
    where
        I::Item: AsRef<OsStr>,
    {
        let home = tempfile::tempdir().unwrap();
        let mut command = program(env!("CARGO_BIN_EXE_portcullis"));
        command.args(arguments).env_clear().env("HOME", home.path()).env("PORTCULLIS_DATA_DIR", home.path());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Self { command, home, stdin: Vec::new() }
    }

    /// Points it at a service.
    pub(crate) fn at(self, url: &str) -> Self {
        self.env("PORTCULLIS_URL", url)
    }

    /// Sets a variable.
    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Gives it something to read.
    pub(crate) fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = bytes.into();
        self
    }

    /// Writes a file into its state directory.
    pub(crate) fn file(self, name: &str, text: &str) -> Self {
        std::fs::write(self.home.path().join(name), text).unwrap();
        self
    }

    /// Runs it in its home.
    pub(crate) fn here(mut self) -> Self {
        self.command.current_dir(self.home.path());
        self
    }

    /// Returns its home.
    pub(crate) fn home(&self) -> &Path {
        self.home.path()
    }

    /// Starts it.
    pub(crate) fn start(mut self) -> Running {
        let mut child = self.command.spawn().unwrap();
        let (mut stdin, bytes) = (child.stdin.take().unwrap(), self.stdin);
        thread::spawn(move || stdin.write_all(&bytes));
        Running { child, _home: self.home }
    }

    /// Runs it to its end.
    pub(crate) fn run(self) -> Ended {
        self.start().wait()
    }
}

impl Running {
    /// Sends it a signal, as a terminal or an operator would.
    pub(crate) fn signal(&self, name: &str) {
        send_signal(name, self.child.id());
    }

    /// Reads so many bytes of its standard output and leaves the rest unread for ever.
    pub(crate) fn read_and_close_stdout(&mut self, bytes: usize) -> String {
        let mut read = vec![0; bytes];
        self.child.stdout.take().unwrap().read_exact(&mut read).unwrap();
        String::from_utf8(read).unwrap()
    }

    /// Waits until its standard error holds this.
    pub(crate) fn await_stderr(&mut self, wanted: &str) {
        await_text(self.child.stderr.as_mut().unwrap(), wanted);
    }

    /// Waits until its standard output holds this, and returns it.
    pub(crate) fn await_stdout(&mut self, wanted: &str) -> String {
        await_text(self.child.stdout.as_mut().unwrap(), wanted)
    }

    /// Waits for its end.
    pub(crate) fn wait(mut self) -> Ended {
        let stdout = drain(self.child.stdout.take());
        let stderr = drain(self.child.stderr.take());
        let (ended, end) = mpsc::channel();
        let id = self.child.id();
        thread::spawn(move || ended.send(self.child.wait()));
        let Ok(status) = end.recv_timeout(PATIENCE) else {
            send_signal("KILL", id);
            panic!("it did not end; stderr: {}", stderr.join().unwrap());
        };
        Ended { code: status.unwrap().code(), stdout: stdout.join().unwrap(), stderr: stderr.join().unwrap() }
    }
}

#[track_caller]
fn await_text(stream: &mut impl Read, wanted: &str) -> String {
    let mut seen = Vec::new();
    let mut byte = [0];
    while !seen.ends_with(wanted.as_bytes()) {
        let text = String::from_utf8_lossy(&seen);
        assert_eq!(stream.read(&mut byte).unwrap(), 1, "it ended after {text:?}");
        seen.push(byte[0]);
    }
    String::from_utf8_lossy(&seen).into_owned()
}

/// Sends a signal by the shell's own `kill`, which is there where no program of that name is.
pub(crate) fn send_signal(name: &str, id: u32) {
    let sent = program("sh").args(["-c", "kill -$0 $1", name, &id.to_string()]).status().unwrap();
    assert!(sent.success());
}

fn drain(stream: Option<impl Read + Send + 'static>) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        stream.map(|mut stream| stream.read_to_end(&mut bytes));
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

#[expect(clippy::disallowed_methods, reason = "what is tested here is a process")]
pub(crate) fn program(name: &str) -> Command {
    Command::new(name)
}
