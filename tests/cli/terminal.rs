//! The client on a real terminal: a pseudoterminal (pty(7)) that is its controlling one, so that Ctrl-C is typed.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ExitStatus};
use std::sync::{Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use serde_json::json;

use crate::client::{program, send_signal};
use crate::peer::{Peer, Reply, accept, event, exited, id_of, output, record};

/// Longer than anything here takes, so that what hangs is seen to hang.
const PATIENCE: Duration = Duration::from_secs(60);
const CTRL_C: u8 = 3;

/// A client on a terminal of its own.
pub(crate) struct Terminal {
    keyboard: File,
    screen: mpsc::Receiver<Vec<u8>>,
    /// All that was shown so far.
    shown: String,
    process: Child,
    _home: tempfile::TempDir,
}

impl Terminal {
    /// Starts the client; `None`, said aloud, where setsid(1) is missing, which gives a process its terminal.
    pub(crate) fn start(arguments: &[&str], environment: &[(&str, &str)]) -> Option<Self> {
        if !program("setsid").arg("--version").output().is_ok_and(|output| output.status.success()) {
            assert!(std::env::var_os("PORTCULLIS_REQUIRE_ALL").is_none(), "there is no setsid(1) here");
            eprintln!("SKIPPED: there is no setsid(1) here");
            return None;
        }
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&ours).unwrap();
        unlockpt(&ours).unwrap();
        tcsetwinsize(&ours, Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
        let name = ptsname(&ours, Vec::new()).unwrap();
        let theirs = OpenOptions::new().read(true).write(true).open(name.to_str().unwrap()).unwrap();
        let home = tempfile::tempdir().unwrap();
        // Who runs the tests in the background of a script has them ignore Ctrl-C, and with them what they start.
        let heeds = ["/usr/bin/env", "--default-signal=INT"];
        let can =
            program(heeds[0]).args([heeds[1], "true"]).output().is_ok_and(|output| output.status.success());
        let process = program("setsid")
            .arg("--ctty")
            .args(heeds.iter().filter(|_| can))
            .arg(env!("CARGO_BIN_EXE_portcullis"))
            .args(arguments)
            .env_clear()
            .env("TERM", "xterm")
            .env("HOME", home.path())
            .env("PORTCULLIS_DATA_DIR", home.path())
            .envs(environment.iter().copied())
            .stdin(theirs.try_clone().unwrap())
            .stdout(theirs.try_clone().unwrap())
            .stderr(theirs)
            .spawn()
            .unwrap();
        let keyboard = File::from(ours);
        let mut reader = keyboard.try_clone().unwrap();
        let (show, screen) = mpsc::channel();
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            // A terminal that nobody has open any more is EIO; see pty(7).
            while let Ok(read @ 1..) = reader.read(&mut bytes) {
                if show.send(bytes[..read].to_vec()).is_err() {
                    return;
                }
            }
        });
        Some(Self { keyboard, screen, shown: String::new(), process, _home: home })
    }

    /// Waits until the screen has been shown this.
    #[track_caller]
    pub(crate) fn await_shown(&mut self, wanted: &str) {
        while !self.shown.contains(wanted) {
            match self.screen.recv_timeout(PATIENCE) {
                Ok(bytes) => self.shown.push_str(&String::from_utf8_lossy(&bytes)),
                Err(error) => panic!("{wanted:?} was not shown ({error}) after {:?}", self.shown),
            }
        }
    }

    /// Presses a key.
    pub(crate) fn press(&mut self, key: u8) {
        self.keyboard.write_all(&[key]).unwrap();
    }

    /// Waits for the end, and returns it with everything that was shown.
    pub(crate) fn end(mut self) -> (ExitStatus, String) {
        let asked = Instant::now();
        loop {
            match self.screen.recv_timeout(PATIENCE.saturating_sub(asked.elapsed())) {
                Ok(bytes) => self.shown.push_str(&String::from_utf8_lossy(&bytes)),
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    send_signal("KILL", self.process.id());
                    panic!("it did not end after {:?}", self.shown);
                }
            }
        }
        (self.process.wait().unwrap(), self.shown)
    }
}

/// What a screen holds in the end: each line as it was last written.
fn screen(shown: &str) -> Vec<String> {
    let line = |text: &str| {
        let kept = text.rsplit("\x1b[2K").next().unwrap_or_default();
        kept.trim_start_matches('\r').trim_end_matches('\r').to_owned()
    };
    shown.split('\n').map(line).filter(|line| !line.is_empty()).collect()
}

/// A service whose one execution has begun, and ends when it is told to; `cancel` answers a cancellation.
fn long(cancel: impl Fn(&mpsc::Sender<()>) -> Reply + Send + Sync + 'static) -> (Peer, mpsc::Sender<()>) {
    let (end, until_end) = mpsc::channel();
    let (from_outside, end) = (end.clone(), Mutex::new(end));
    let until_end = Mutex::new(Some(until_end));
    let peer = Peer::start(move |request| match request.line.as_str() {
        "POST /api/commands" => accept(request),
        line if line.ends_with("/events") => {
            let until_end = until_end.lock().unwrap().take().unwrap();
            let id = id_of(request);
            let running = record(&id, json!({"status": "running", "reason": null, "endTime": null}));
            let begun = event(0, "status", &running) + &output(1, "stdout", "begun\n");
            Reply::EventsThen(
                begun,
                Box::new(move |stream| {
                    until_end.recv().unwrap_or_default();
                    write!(stream, "{}{}", output(2, "stdout", "done\n"), event(3, "end", &exited(&id, 0)))
                        .ok();
                }),
            )
        }
        line if line.ends_with("/cancel") => cancel(&end.lock().unwrap()),
        line => panic!("{line}"),
    });
    (peer, from_outside)
}

#[test]
fn a_line_of_progress_tells_time_limit_and_output_and_leaves_nothing_behind() {
    let (peer, end) = long(|_| Reply::Hangup);
    let Some(mut terminal) = Terminal::start(&["--no-color", "run", "x"], &[("PORTCULLIS_URL", &peer.url())])
    else {
        return;
    };
    terminal.await_shown("running, 1 s of 60 s, 6 bytes of output");
    terminal.await_shown("running, 2 s of 60 s, 6 bytes of output");
    end.send(()).unwrap();
    let (status, shown) = terminal.end();
    assert_eq!(status.code(), Some(0), "{shown:?}");
    assert_eq!(screen(&shown), ["begun", "done"], "{shown:?}");
}

#[test]
fn a_terminal_that_knows_no_sequences_is_sent_none() {
    let ((for_dumb, end_dumb), (for_other, end_other)) = (long(|_| Reply::Hangup), long(|_| Reply::Hangup));
    let environment = [("PORTCULLIS_URL", for_dumb.url()), ("TERM", "dumb".to_owned())];
    let environment = environment.each_ref().map(|(name, value)| (*name, value.as_str()));
    let Some(mut dumb) = Terminal::start(&["run", "x"], &environment) else { return };
    dumb.await_shown("begun");
    let Some(mut other) = Terminal::start(&["run", "x"], &[("PORTCULLIS_URL", &for_other.url())]) else {
        return;
    };
    // Where there are sequences, a line that is too long for its terminal does not become two.
    other.await_shown("\x1b[?7l\x1b[2mrunning, 1 s of 60 s, 6 bytes of output\x1b[0m\x1b[?7h");
    end_dumb.send(()).unwrap();
    assert_eq!(dumb.end().1, "begun\r\ndone\r\n");
    end_other.send(()).unwrap();
    other.end();
}

#[test]
fn no_progress_is_shown_where_quiet_is_asked_for() {
    let ((for_quiet, end_quiet), (for_loud, end_loud)) = (long(|_| Reply::Hangup), long(|_| Reply::Hangup));
    let url = for_quiet.url();
    let Some(mut quiet) = Terminal::start(&["run", "-q", "x"], &[("PORTCULLIS_URL", &url)]) else { return };
    quiet.await_shown("begun");
    // Begun later, it tells how long the quiet one has had.
    let url = for_loud.url();
    let Some(mut loud) = Terminal::start(&["run", "x"], &[("PORTCULLIS_URL", &url)]) else { return };
    loud.await_shown("1 s of 60 s");
    end_quiet.send(()).unwrap();
    assert_eq!(quiet.end().1, "begun\r\ndone\r\n");
    end_loud.send(()).unwrap();
    loud.end();
}

#[test]
fn ctrl_c_on_the_terminal_cancels_the_execution() {
    let (peer, _end) = long(|end| {
        end.send(()).unwrap();
        Reply::Json(200, json!({"status": "cancelled"}))
    });
    let arguments = ["run", "--id", "long", "x"];
    let Some(mut terminal) = Terminal::start(&arguments, &[("PORTCULLIS_URL", &peer.url())]) else { return };
    terminal.await_shown("begun");
    terminal.press(CTRL_C);
    let (status, shown) = terminal.end();
    assert!(shown.contains("cancelling; Ctrl-C again leaves at once"), "{shown:?}");
    // The end that this service tells is an exit with 0; what counts is what it says.
    assert_eq!(status.code(), Some(0), "{shown:?}");
    assert_eq!(peer.requests_of("POST /api/commands/long/cancel").len(), 1);
}

#[test]
fn ctrl_c_twice_on_the_terminal_leaves_at_once() {
    let (_never, forever) = mpsc::channel::<()>();
    let forever = Mutex::new(forever);
    let (peer, _end) = long(move |_| {
        forever.lock().unwrap().recv().ok();
        Reply::Hangup
    });
    let Some(mut terminal) = Terminal::start(&["run", "x"], &[("PORTCULLIS_URL", &peer.url())]) else {
        return;
    };
    terminal.await_shown("begun");
    terminal.press(CTRL_C);
    terminal.await_shown("again leaves at once");
    terminal.press(CTRL_C);
    assert_eq!(terminal.end().0.code(), Some(130));
}

#[test]
fn ctrl_c_leaves_a_watched_execution_running() {
    let (peer, _end) = long(|_| panic!("it was cancelled"));
    let Some(mut terminal) = Terminal::start(&["watch", "long"], &[("PORTCULLIS_URL", &peer.url())]) else {
        return;
    };
    terminal.await_shown("begun");
    terminal.press(CTRL_C);
    let (status, shown) = terminal.end();
    // As any program that a key ends: a shell shows 130.
    assert_eq!(status.signal(), Some(2), "{status} {shown:?}");
    assert!(peer.requests().iter().all(|request| !request.line.ends_with("/cancel")));
}

#[test]
fn colour_is_for_terminals_and_for_who_wants_it() {
    let peer = Peer::start(|request| Reply::Json(200, exited(&id_of(request), 1)));
    let url = peer.url();
    type Case<'a> = (&'a [&'a str], &'a [(&'a str, &'a str)]);
    let no: [Case<'_>; 7] = [
        (&["--help", "--no-color"], &[]),
        (&["list", "--help"], &[("NO_COLOR", "1")]),
        (&["run", "--help"], &[("TERM", "dumb")]),
        (&["status", "x", "--no-color"], &[]),
        (&["status", "x"], &[("NO_COLOR", "1")]),
        (&["status", "x"], &[("TERM", "dumb")]),
        (&["status", "x", "--json"], &[]),
    ];
    // An empty NO_COLOR says nothing: see no-color.org.
    let yes: [Case<'_>; 2] = [(&["status", "x"], &[]), (&["status", "x"], &[("NO_COLOR", "")])];
    for (cases, coloured) in [(&no[..], false), (&yes[..], true)] {
        for (arguments, environment) in cases {
            let environment = [&[("PORTCULLIS_URL", url.as_str())], *environment].concat();
            let Some(terminal) = Terminal::start(arguments, &environment) else { return };
            let (status, shown) = terminal.end();
            assert_eq!(status.code(), Some(0), "{shown:?}");
            assert_eq!(shown.contains("\x1b["), coloured, "{arguments:?} {environment:?}: {shown:?}");
        }
    }
}
