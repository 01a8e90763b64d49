//! The client and the real service together, as on one machine.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::client::{Client, program, send_signal};
use crate::terminal::Terminal;

/// Longer than a start takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// A service in a state directory of its own, ended when it is dropped.
struct Service {
    executable: PathBuf,
    state: PathBuf,
    /// `127.0.0.1:0` at first, then the place that it got.
    listen: String,
    environment: &'static [(&'static str, &'static str)],
    process: Child,
    _home: tempfile::TempDir,
}

impl Service {
    /// Starts the service; `None`, said aloud, where it is not built or cannot run.
    fn start() -> Option<Self> {
        Self::start_with(&[])
    }

    /// The same, with settings of one's own.
    fn start_with(environment: &'static [(&'static str, &'static str)]) -> Option<Self> {
        let executable = Path::new(env!("CARGO_BIN_EXE_portcullis")).with_file_name("portcullis-server");
        if !executable.exists() {
            return skip("portcullis-server is not built: `cargo build -p portcullis-server`");
        }
        // Cargo builds it for `cargo test --workspace`, and leaves an old one lying for `cargo test -p portcullis`.
        let age = executable.metadata().unwrap().modified().unwrap().elapsed().unwrap_or_default();
        eprintln!(
            "portcullis-server was built {} s ago; `cargo build -p portcullis-server` renews it",
            age.as_secs()
        );
        let home = tempfile::tempdir().unwrap();
        let state = home.path().join("state");
        let listen = "127.0.0.1:0".to_owned();
        let process = spawn(&executable, &state, &listen, environment);
        let mut service = Self { executable, state, listen, environment, process, _home: home };
        if !service.await_ready() {
            let log = std::fs::read_to_string(service.state.with_extension("log")).unwrap_or_default();
            return skip(&format!("portcullis-server does not start here: {log}"));
        }
        let url = std::fs::read_to_string(service.state.join("url")).unwrap();
        url.trim().trim_start_matches("http://").clone_into(&mut service.listen);
        Some(service)
    }

    /// Looks until it answers; false when it has ended instead.
    fn await_ready(&mut self) -> bool {
        let begun = Instant::now();
        while self.client(["allowed"]).run().code != Some(0) {
            if self.process.try_wait().unwrap().is_some() {
                return false;
            }
            assert!(begun.elapsed() < PATIENCE, "the service does not answer");
            std::thread::sleep(Duration::from_millis(20));
        }
        true
    }

    /// Kills it with all that it runs, and starts it again at the same place.
    fn kill_and_restart(&mut self) {
        send_signal("KILL", self.process.id());
        self.process.wait().unwrap();
        self.start_again();
    }

    fn start_again(&mut self) {
        self.process = spawn(&self.executable, &self.state, &self.listen, self.environment);
        assert!(self.await_ready());
    }

    /// Prepares a client that knows nothing but the state directory.
    fn client<const N: usize>(&self, arguments: [&str; N]) -> Client {
        Client::new(arguments).env("PORTCULLIS_DATA_DIR", &self.state)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if self.process.try_wait().is_ok_and(|ended| ended.is_none()) {
            send_signal("TERM", self.process.id());
            self.process.wait().ok();
        }
    }
}

fn spawn(executable: &Path, state: &Path, listen: &str, environment: &[(&str, &str)]) -> Child {
    let log = File::create(state.with_extension("log")).unwrap();
    program(executable.to_str().unwrap())
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("PORTCULLIS_DATA_DIR", state)
        .env("PORTCULLIS_LISTEN", listen)
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap()
}

fn skip<T>(why: &str) -> Option<T> {
    assert!(std::env::var_os("PORTCULLIS_REQUIRE_ALL").is_none(), "{why}");
    eprintln!("SKIPPED: {why}");
    None
}

#[test]
fn the_real_service_passes_the_six_checks() {
    let Some(service) = Service::start() else { return };
    let ended = service.client(["verify"]).run();
    assert_eq!(ended.code, Some(0), "{}{}", ended.stdout, ended.stderr);
    assert!(ended.stdout.contains("6 of 6 checks passed"), "{}", ended.stdout);
}

#[test]
fn the_real_service_gives_output_codes_and_reasons() {
    let Some(service) = Service::start() else { return };
    let ended = service.client(["run", "echo 'a  b' | grep -c b; ls /nowhere"]).run();
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(2), "1\n"), "{}", ended.stderr);
    assert!(ended.stderr.contains("/nowhere"), "{}", ended.stderr);
    let ended = service.client(["run", "--stdin", "--", "cat", "-n"]).stdin("ä\n").run();
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), "     1\tä\n"), "{}", ended.stderr);
    let ended = service.client(["run", "echo x; rm x"]).run();
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(125), ""));
    assert!(ended.stderr.contains("echo x; rm x\n"), "{}", ended.stderr);
    assert!(ended.stderr.contains("^^"), "{}", ended.stderr);
    let ended = service.client(["check", "cat /etc/passwd"]).run();
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(ended.stdout.contains("path/protected"), "{}", ended.stdout);
    let ended = service.client(["list", "--program", "cat"]).run();
    assert!(ended.code == Some(0) && ended.stdout.contains("cat -n"), "{}{}", ended.stdout, ended.stderr);
}

#[test]
fn a_watch_survives_the_death_of_the_real_service_and_tells_the_truth() {
    let Some(mut service) = Service::start() else { return };
    // Two squares in a text without any: see `verify`.
    let line = r"ls /nowhere; echo abcacbabcbacabcacbacabcbabcacbabcbacabcbabcacbacabcacbabcbacabcacbacabcbabcacb | grep '^.*\(..*\).*\(..*\).*\1\1\2\2$'";
    let mut watching = service.client(["run", "--id", "doomed", line]).start();
    watching.await_stderr("/nowhere");
    service.kill_and_restart();
    let ended = watching.wait();
    assert_eq!(ended.code, Some(125), "{}", ended.stderr);
    assert!(ended.stderr.contains("what it had done is unknown"), "{}", ended.stderr);
    let ended = service.client(["status", "doomed"]).run();
    assert!(ended.stdout.contains("lost"), "{}{}", ended.stdout, ended.stderr);
}

/// Numbers from 1 on, a hundred at a time, for some seconds.
fn counting() -> String {
    let hundreds = (0..30).map(|at| format!("seq {} {}; sleep 0.1", at * 100 + 1, at * 100 + 100));
    hundreds.collect::<Vec<_>>().join("; ")
}

/// Asserts that these are the numbers from 1 on, each once and in order, and returns the last.
#[track_caller]
fn counted(output: &str) -> usize {
    let numbers: Vec<usize> = output.lines().map(|line| line.parse().unwrap()).collect();
    assert_eq!(numbers, (1..=numbers.len()).collect::<Vec<_>>());
    numbers.len()
}

const COUNTS: &[(&str, &str)] = &[("ALLOWED_COMMANDS", "seq,sleep")];

#[test]
fn a_watch_over_a_killed_and_restarted_service_shows_no_gap_and_nothing_twice() {
    let Some(mut service) = Service::start_with(COUNTS) else { return };
    let detached = service.client(["run", "--detach", "--id", "counting", &counting()]).run();
    assert_eq!(detached.code, Some(0), "{}", detached.stderr);
    let mut watching = service.client(["watch", "counting"]).start();
    let mut shown = watching.await_stdout("\n500\n");
    service.kill_and_restart();
    let ended = watching.wait();
    shown.push_str(&ended.stdout);
    assert_eq!(ended.code, Some(125), "{}", ended.stderr);
    assert!(ended.stderr.contains("connecting again"), "{}", ended.stderr);
    assert!(ended.stderr.contains("lost: the service died while it ran"), "{}", ended.stderr);
    let last = counted(&shown);
    let stored = service.client(["output", "counting"]).run().stdout;
    // What was sent in the last moment before the death may not have been stored; never the other way round.
    assert!(
        (500..3_000).contains(&last) && shown.starts_with(&stored),
        "{last}, {} stored",
        counted(&stored)
    );
    // Whoever comes now sees what was stored, and the same end.
    let late = service.client(["watch", "counting"]).run();
    assert_eq!((late.code, late.stdout), (Some(125), stored));
}

#[test]
fn a_watch_sees_the_whole_of_what_ends_while_the_service_drains() {
    let Some(mut service) = Service::start_with(COUNTS) else { return };
    let detached = service.client(["run", "--detach", "--id", "counting", &counting()]).run();
    assert_eq!(detached.code, Some(0), "{}", detached.stderr);
    let mut watching = service.client(["watch", "counting"]).start();
    let mut shown = watching.await_stdout("\n500\n");
    send_signal("TERM", service.process.id());
    let ended = watching.wait();
    shown.push_str(&ended.stdout);
    assert_eq!((ended.code, counted(&shown)), (Some(0), 3_000), "{}", ended.stderr);
    assert!(service.process.wait().unwrap().success());
    service.start_again();
    let stored = service.client(["output", "counting"]).run().stdout;
    assert_eq!(counted(&stored), 3_000);
}

#[test]
fn ctrl_c_on_a_terminal_ends_what_runs_on_the_real_service() {
    let Some(service) = Service::start_with(COUNTS) else { return };
    let data = service.state.to_str().unwrap();
    let arguments = ["run", "--id", "long", "seq 1 3; sleep 60"];
    let Some(mut terminal) = Terminal::start(&arguments, &[("PORTCULLIS_DATA_DIR", data)]) else { return };
    terminal.await_shown("3\r\n");
    terminal.press(3);
    let (status, shown) = terminal.end();
    assert_eq!(status.code(), Some(130), "{shown:?}");
    let ended = service.client(["status", "--json", "long"]).run();
    let record: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(
        (&record["status"], &record["stdout"]),
        (&"cancelled".into(), &"1\n2\n3\n".into()),
        "{record:#}"
    );
}

#[test]
fn a_rotated_token_counts_from_the_next_start() {
    let Some(mut service) = Service::start() else { return };
    let old = service.client(["token", "print"]).run().stdout;
    assert_eq!(service.client(["token", "rotate"]).run().code, Some(0));
    let ended = service.client(["allowed"]).run();
    assert!(ended.code == Some(125) && ended.stderr.contains("(auth/invalid-token)"), "{}", ended.stderr);
    service.kill_and_restart();
    assert_ne!(service.client(["token", "print"]).run().stdout, old);
    let ended = service.client(["allowed"]).env("PORTCULLIS_TOKEN", old.trim()).run();
    assert!(ended.stderr.contains("sign in again, or name another"), "{}", ended.stderr);
}

#[test]
fn every_command_that_reads_has_its_answer_in_json() {
    let Some(service) = Service::start() else { return };
    assert_eq!(service.client(["run", "--json", "--id", "one", "echo x"]).run().code, Some(0));
    let lines = service.state.with_extension("lines");
    std::fs::write(&lines, "ls\n").unwrap();
    let lines = lines.to_str().unwrap();
    let cases: &[&[&str]] = &[
        &["run", "echo x"],
        &["watch", "one"],
        &["status", "one"],
        &["list"],
        &["output", "one"],
        &["cancel", "one"],
        &["check", "rm x"],
        &["allowed"],
        &["verify"],
        &["config", "check"],
        &["token"],
        &["token", "print"],
        &["policy", "check", "rm x"],
        &["policy", "test", "/no/such"],
        &["policy", "lint", "default"],
        &["policy", "diff", "default", "team", "--lines", lines],
        &["policy", "explain", "ls"],
        &["policy", "schema"],
    ];
    for case in cases {
        let arguments = [&["--json"], *case].concat();
        let ended = Client::new(&arguments).env("PORTCULLIS_DATA_DIR", &service.state).run();
        if case == &["policy", "test", "/no/such"] {
            // What fails fails in words, on the other stream.
            assert!(ended.stdout.is_empty() && ended.stderr.starts_with("error: "), "{ended:?}");
            continue;
        }
        let answer: Result<serde_json::Value, _> = serde_json::from_str(&ended.stdout);
        assert!(answer.is_ok_and(|answer| answer.is_object()), "{case:?}: {ended:?}");
        assert!([Some(0), Some(1)].contains(&ended.code), "{case:?}: {ended:?}");
    }
}
