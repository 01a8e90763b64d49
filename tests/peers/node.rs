//! Starts peers that are Node programs, and reads what they print.
#![expect(clippy::indexing_slicing, reason = "of JSON, where what is missing is null")]

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::mpsc;

/// How long a peer may take to print what is expected of it.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running Node program. It ends when this is dropped, and also when this process is killed: it watches
/// its standard input.
pub(crate) struct Node {
    child: Child,
    lines: mpsc::UnboundedReceiver<Value>,
}

/// Whether the programs below `tests/peers/FOLDER` can run here. If not, says so aloud; with
/// `PORTCULLIS_REQUIRE_ALL=1` that is a failure.
pub(crate) fn can_run(folder: &str) -> bool {
    let path = directory().join(folder);
    let problem = if run(&["--version"], &[]).and_then(|mut child| child.wait()).is_err() {
        "`node` is not installed".to_owned()
    } else if path.join("package.json").exists() && !path.join("node_modules").exists() {
        format!("packages are missing: run `npm ci` in `tests/peers/{folder}`")
    } else {
        return true;
    };
    eprintln!("SKIPPED: {problem}");
    assert!(
        std::env::var_os("PORTCULLIS_REQUIRE_ALL").is_none(),
        "skipped although all is required: {problem}"
    );
    false
}

impl Node {
    /// Starts a program of `tests/peers`.
    pub(crate) fn start(program: &str, arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let program = directory().join(program);
        let words = [&[program.to_str().unwrap(), "--exit-with-stdin"], arguments].concat();
        let mut child = run(&words, environment).unwrap();
        let stdout = child.stdout.take().unwrap();
        let (sender, lines) = mpsc::unbounded_channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let _ = sender.send(serde_json::from_str(&line).unwrap_or(Value::String(line)));
            }
        });
        Self { child, lines }
    }

    /// Starts a program that listens; returns it with its port.
    pub(crate) async fn start_server(program: &str, environment: &[(&str, &str)]) -> (Self, u16) {
        let mut node = Self::start(program, &[], environment);
        let line = node.next("listening").await;
        (node, u16::try_from(line["port"].as_u64().unwrap()).unwrap())
    }

    /// Returns the next line with this `event`, and passes over others.
    pub(crate) async fn next(&mut self, event: &str) -> Value {
        let next = async {
            loop {
                let line = self.lines.recv().await.unwrap_or_else(|| panic!("it ended before `{event}`"));
                if line["event"] == event {
                    return line;
                }
            }
        };
        tokio::time::timeout(PATIENCE, next)
            .await
            .unwrap_or_else(|_| panic!("no `{event}` within {PATIENCE:?}"))
    }

    /// Ends it at once, as a crash does, and returns when it is gone.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
    }
}

fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/peers")
}

#[expect(clippy::disallowed_methods, reason = "peers of a test are no executions: nobody's command is run")]
fn run(words: &[&str], environment: &[(&str, &str)]) -> std::io::Result<Child> {
    std::process::Command::new("node")
        .args(words)
        .env("NODE_ENV", "test") // Express prints no stack for each body it refuses
        .envs(environment.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
}
