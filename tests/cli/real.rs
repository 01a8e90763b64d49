//! The client and the real service together, as on one machine.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::client::{Client, program, send_signal};

/// Longer than a start takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// A service in a state directory of its own, ended when it is dropped.
struct Service {
    executable: PathBuf,
    state: PathBuf,
    /// `127.0.0.1:0` at first, then the place that it got.
    listen: String,
    process: Child,
    _home: tempfile::TempDir,
}

impl Service {
    /// Starts the service; `None`, said aloud, where it is not built or cannot run.
    fn start() -> Option<Self> {
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
        let process = spawn(&executable, &state, &listen);
        let mut service = Self { executable, state, listen, process, _home: home };
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
        self.process = spawn(&self.executable, &self.state, &self.listen);
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

fn spawn(executable: &Path, state: &Path, listen: &str) -> Child {
    let log = File::create(state.with_extension("log")).unwrap();
    program(executable.to_str().unwrap())
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("PORTCULLIS_DATA_DIR", state)
        .env("PORTCULLIS_LISTEN", listen)
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
