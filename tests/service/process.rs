//! Processes of the real executable.

use std::fs;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::served::{Client, PATIENCE};

/// Says aloud what is not tested here; with `PORTCULLIS_REQUIRE_ALL` that is a failure.
#[track_caller]
pub(crate) fn skip(why: &str) {
    assert!(std::env::var_os("PORTCULLIS_REQUIRE_ALL").is_none(), "{why}");
    eprintln!("SKIPPED: {why}");
}

/// A service that has been started on a directory.
pub(crate) struct Real {
    /// Taken when its end is waited for.
    process: Option<Child>,
    pub(crate) client: Client,
}

/// Starts the service with these settings; the process may have ended when this returns.
#[expect(clippy::disallowed_methods, reason = "this is the service itself, not something it runs")]
pub(crate) fn spawn(data_dir: &Path, settings: &[(&str, &str)]) -> Child {
    let _ = fs::remove_file(data_dir.join("url"));
    Command::new(env!("CARGO_BIN_EXE_portcullis-server"))
        .process_group(0)
        .env_clear()
        .env("PORTCULLIS_DATA_DIR", data_dir)
        .env("PORTCULLIS_LISTEN", "127.0.0.1:0")
        .envs(settings.iter().copied())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

impl Real {
    /// Starts the service and waits until it says where it is; `None`, said aloud, where this host cannot confine.
    pub(crate) async fn start(data_dir: &Path, settings: &[(&str, &str)]) -> Option<Self> {
        let mut process = spawn(data_dir, settings);
        let begun = Instant::now();
        let url = loop {
            if let Ok(url) = fs::read_to_string(data_dir.join("url")) {
                break url;
            }
            if process.try_wait().unwrap().is_some() {
                let log = log_of(process);
                assert!(log.contains("sandbox"), "{log}");
                skip(&format!("this host cannot confine: {log}"));
                return None;
            }
            assert!(begun.elapsed() < PATIENCE, "the service does not start");
            tokio::time::sleep(Duration::from_millis(10)).await;
        };
        let address = url.trim().strip_prefix("http://").unwrap().parse().unwrap();
        // With an Auth Service there is none.
        let token = fs::read_to_string(data_dir.join("token")).unwrap_or_default().trim().to_owned();
        Some(Self { process: Some(process), client: Client { address, token } })
    }

    /// Waits until a service that somebody else started says where it is; `None` when it has ended.
    pub(crate) async fn started(data_dir: &Path, pid: u32) -> Option<Client> {
        let begun = Instant::now();
        let stat = format!("/proc/{pid}/stat");
        let url = loop {
            if let Ok(url) = fs::read_to_string(data_dir.join("url")) {
                break url;
            }
            let ended = fs::read_to_string(&stat).is_ok_and(|stat| stat.contains(") Z "));
            if ended {
                return None;
            }
            assert!(begun.elapsed() < PATIENCE, "the service does not start");
            tokio::time::sleep(Duration::from_millis(10)).await;
        };
        let address = url.trim().strip_prefix("http://").unwrap().parse().unwrap();
        let token = fs::read_to_string(data_dir.join("token")).unwrap_or_default().trim().to_owned();
        Some(Client { address, token })
    }

    pub(crate) fn pid(&self) -> String {
        self.process.as_ref().unwrap().id().to_string()
    }

    pub(crate) fn signal(&self, name: &str) {
        kill(name, &self.pid());
    }

    /// Signals its process group, as a terminal does.
    pub(crate) fn signal_group(&self, name: &str) {
        kill(name, &format!("-{}", self.pid()));
    }

    /// Waits for the end, and returns the exit code and the log.
    pub(crate) async fn ended(mut self) -> (Option<i32>, String) {
        let begun = Instant::now();
        let mut process = self.process.take().unwrap();
        let status = loop {
            if let Some(status) = process.try_wait().unwrap() {
                break status;
            }
            assert!(begun.elapsed() < PATIENCE, "the service does not end");
            tokio::time::sleep(Duration::from_millis(10)).await;
        };
        (status.code(), log_of(process))
    }
}

impl Drop for Real {
    /// A test that fails leaves nothing running.
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the shell's own way to send a signal")]
pub(crate) fn kill(signal: &str, whom: &str) {
    assert!(Command::new("kill").args(["-s", signal, "--", whom]).status().unwrap().success());
}

fn log_of(mut process: Child) -> String {
    let mut log = String::new();
    process.stderr.take().unwrap().read_to_string(&mut log).unwrap();
    log
}
