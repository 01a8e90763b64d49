//! A service on a directory of its own, to be killed and started again.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use portcullis_api::ExecutionView;
use portcullis_core::{Level, Status};

use crate::checker::{self, History, Verdict};
use crate::client::Client;
use crate::peer::Peer;
use crate::processes::{self, Pid, Process};

/// Longer than anything here takes; a test that waits for it fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Awaits a condition, and fails when it does not come true.
pub(crate) async fn until<T>(what: &str, mut condition: impl AsyncFnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(value) = condition().await {
            return value;
        }
        assert!(began.elapsed() < PATIENCE, "{what} does not come true");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// What outlives the service: its data, the marks of what ran, and the peer.
pub(crate) struct Ground {
    directory: tempfile::TempDir,
    /// In the command line of everything that runs here, and nowhere else on this host.
    pub(crate) token: String,
    pub(crate) peer: Peer,
    level: Level,
    settings: Vec<(&'static str, String)>,
}

impl Ground {
    /// `level` is the best one, or `landlock`: then the service starts where it is refused namespaces.
    pub(crate) async fn new(level: Level, settings: &[(&'static str, &str)]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let token = format!("mark{}", uuid::Uuid::new_v4().simple());
        let ground = Self {
            settings: settings.iter().map(|(name, value)| (*name, (*value).to_owned())).collect(),
            peer: Peer::start().await,
            directory,
            level,
            token,
        };
        // Written by executions, each under a uid of its cell.
        fs::create_dir(ground.marks()).unwrap();
        fs::set_permissions(ground.marks(), fs::Permissions::from_mode(0o777)).unwrap();
        fs::write(ground.runs_file(), "").unwrap();
        fs::set_permissions(ground.runs_file(), fs::Permissions::from_mode(0o666)).unwrap();
        make_pipe(&ground.gate());
        fs::write(ground.rulebook(), RULEBOOK).unwrap();
        ground
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    fn marks(&self) -> PathBuf {
        self.directory.path().join(&self.token)
    }

    /// Where executions see the marks. Without a view of their own they see them where they are.
    fn marks_inside(&self) -> String {
        match self.level {
            Level::Landlock => self.marks().display().to_string(),
            Level::Namespaces | Level::Full => format!("/{}", self.token),
        }
    }

    fn runs_file(&self) -> PathBuf {
        self.marks().join("runs")
    }

    fn rulebook(&self) -> PathBuf {
        self.directory.path().join("rules.toml")
    }

    /// A pipe that who reads it waits at, until somebody opens it to write.
    pub(crate) fn gate(&self) -> PathBuf {
        self.marks().join("gate")
    }

    /// What a line does that is to go on until it is killed, or the gate is opened.
    pub(crate) fn wait(&self) -> String {
        format!("cat {}/gate", self.marks_inside())
    }

    /// Lets everybody go on who waits at the gate.
    pub(crate) fn open_gate(&self) {
        drop(fs::File::options().write(true).open(self.gate()).unwrap());
    }

    /// A line that leaves a mark under this name, says so, does what it is given, and says that, too. Each command
    /// stands alone: whichever is killed, those behind it do not run.
    pub(crate) fn line(&self, name: &str, between: &str) -> String {
        format!("echo {name} >> {}/runs && echo {name} && {between} && echo done", self.marks_inside())
    }

    /// The marks, in the order in which they were left.
    pub(crate) fn runs(&self) -> Vec<String> {
        fs::read_to_string(self.runs_file()).unwrap().lines().map(str::to_owned).collect()
    }

    /// Starts the service; the process may have ended, or be killed, before it listens.
    #[expect(clippy::disallowed_methods, reason = "this is the service itself, not something it runs")]
    pub(crate) fn spawn(&self) -> Child {
        let _ = fs::remove_file(self.data().join("url"));
        let executable = env!("CARGO_BIN_EXE_portcullis-server");
        let mut command = Command::new(executable);
        if self.level == Level::Landlock {
            command = Command::new("unshare");
            command.args(["--user", "--map-root-user", "sh", "-c", WITHOUT_NAMESPACES, executable]);
        }
        command
            .process_group(0)
            .env_clear()
            .env("PORTCULLIS_DATA_DIR", self.data())
            .env("PORTCULLIS_LISTEN", "127.0.0.1:0")
            .env("PORTCULLIS_RULEBOOK", self.rulebook())
            .env("PORTCULLIS_MOUNTS", format!("{}:{}:rw", self.marks().display(), self.marks_inside()))
            .env("PATH", "/usr/bin:/bin")
            .env("SOCKET_SERVICE_URL", self.peer.url())
            .envs(self.settings.iter().map(|(name, value)| (*name, value.as_str())))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::options().create(true).append(true).open(self.log_file()).unwrap())
            .spawn()
            .unwrap()
    }

    fn log_file(&self) -> PathBuf {
        self.directory.path().join("log")
    }

    /// What all services here have said.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap()
    }

    /// Starts the service and waits until it says where it is; `None`, said aloud, where this host cannot
    /// confine.
    pub(crate) async fn start(&self) -> Option<Service> {
        let process = self.spawn();
        self.listening(process).await
    }

    /// Waits until a started service says where it is.
    pub(crate) async fn listening(&self, mut process: Child) -> Option<Service> {
        let url = until("the start", async || {
            if process.try_wait().unwrap().is_some() {
                return Some(None);
            }
            fs::read_to_string(self.data().join("url")).ok().map(Some)
        })
        .await;
        let Some(url) = url else {
            let log = self.log();
            let refused = self.level == Level::Landlock && log.contains("unshare");
            assert!(refused || log.contains("could not start the sandbox"), "{log}");
            assert!(std::env::var_os("PORTCULLIS_REQUIRE_ALL").is_none(), "{log}");
            eprintln!("SKIPPED: this host cannot confine: {log}");
            return None;
        };
        let token = fs::read_to_string(self.data().join("token")).unwrap();
        let launcher = processes::launcher_of(process.id()).expect("a launcher");
        Some(Service { client: Client::new(url.trim(), token.trim()), process: Some(process), launcher })
    }

    /// Reads everything that is known of this ground, once nothing waits or runs, and judges it.
    ///
    /// `submitted` is what each line was to print, by its id; `acknowledged`, which of them were answered.
    pub(crate) async fn judge(
        &self,
        client: &Client,
        submitted: BTreeMap<String, String>,
        acknowledged: BTreeSet<String>,
        seen: Vec<ExecutionView>,
    ) -> Verdict {
        for status in [Status::Scheduled, Status::Running] {
            until("the end of everything", async || client.all(Some(status)).await.is_empty().then_some(()))
                .await;
        }
        let mut records = Vec::new();
        for record in client.all(None).await {
            let id = record.execution_id.as_str();
            records.push(client.record(id).await.expect("a record that was listed"));
            until("the last update", async || self.peer.knows_the_end_of(id).then_some(())).await;
        }
        let (runs, updates) = (self.runs(), self.peer.updates());
        checker::check(&History { submitted, acknowledged, seen, records, runs, updates })
    }

    /// Files of the data directory that are none that a service which runs has there.
    pub(crate) fn strange_files(&self) -> Vec<String> {
        let known = [
            "portcullis.db",
            "portcullis.db-wal",
            "portcullis.db-shm",
            "portcullis.db.lock",
            "token",
            "url",
            "cells",
        ];
        names(&self.data()).into_iter().filter(|name| !known.contains(&name.as_str())).collect()
    }
}

#[expect(clippy::disallowed_methods, reason = "the shell's own way to make a named pipe")]
fn make_pipe(path: &Path) {
    assert!(Command::new("mkfifo").args(["-m", "666"]).arg(path).status().unwrap().success());
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// Becomes the service in a user namespace in which no further one can be made. See namespaces(7).
const WITHOUT_NAMESPACES: &str = r#"echo 0 > /proc/sys/user/max_user_namespaces && exec "$0""#;

/// Every program of the lines here, and leave to write where the marks are.
const RULEBOOK: &str = "\
version = 1
name = \"marks\"
workspace = \"/workspace\"
[operations]
write = \"allow\"
[[rule]]
name = \"all\"
programs = [\"echo\", \"sleep\", \"true\", \"cat\"]
";

/// A service that runs.
pub(crate) struct Service {
    /// Taken when its end is waited for.
    process: Option<Child>,
    pub(crate) client: Client,
    pub(crate) launcher: Process,
}

impl Service {
    pub(crate) fn pid(&self) -> Pid {
        self.process.as_ref().unwrap().id()
    }

    /// Kills the server itself, and nobody else.
    pub(crate) fn kill(mut self) {
        let mut process = self.process.take().unwrap();
        process.kill().unwrap();
        process.wait().unwrap();
    }

    /// Ends the service as an operator does, and returns its exit code.
    pub(crate) async fn end(mut self) -> Option<i32> {
        let mut process = self.process.take().unwrap();
        processes::signal("TERM", process.id());
        until("the end of the service", async || process.try_wait().unwrap()).await.code()
    }
}

impl Drop for Service {
    /// A test that fails leaves nothing running.
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}
