//! The real executable, with real parts: its own launcher, SQLite, the default rules and the local token.

use std::fs;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use portcullis_api::ProblemCode as Code;
use portcullis_core::{Reason, Status};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::served::{Client, PATIENCE};

/// A service that has been started on a directory.
struct Real {
    /// Taken when its end is waited for.
    process: Option<Child>,
    client: Client,
}

/// Starts the service with these settings; the process may have ended when this returns.
#[expect(clippy::disallowed_methods, reason = "this is the service itself, not something it runs")]
fn spawn(data_dir: &Path, settings: &[(&str, &str)]) -> Child {
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
    async fn start(data_dir: &Path, settings: &[(&str, &str)]) -> Option<Self> {
        let mut process = spawn(data_dir, settings);
        let begun = Instant::now();
        let url = loop {
            if let Ok(url) = fs::read_to_string(data_dir.join("url")) {
                break url;
            }
            if process.try_wait().unwrap().is_some() {
                let log = log_of(process);
                assert!(log.contains("sandbox"), "{log}");
                assert!(std::env::var_os("PORTCULLIS_REQUIRE_ALL").is_none(), "{log}");
                eprintln!("SKIPPED: this host cannot confine: {log}");
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

    fn pid(&self) -> String {
        self.process.as_ref().unwrap().id().to_string()
    }

    fn signal(&self, name: &str) {
        kill(name, &self.pid());
    }

    /// Signals its process group, as a terminal does.
    fn signal_group(&self, name: &str) {
        kill(name, &format!("-{}", self.pid()));
    }

    /// Waits for the end, and returns the exit code and the log.
    async fn ended(mut self) -> (Option<i32>, String) {
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
fn kill(signal: &str, whom: &str) {
    assert!(Command::new("kill").args(["-s", signal, "--", whom]).status().unwrap().success());
}

fn log_of(mut process: Child) -> String {
    let mut log = String::new();
    process.stderr.take().unwrap().read_to_string(&mut log).unwrap();
    log
}

#[tokio::test]
async fn the_mission_holds_on_real_parts_and_records_survive_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let Some(real) = Real::start(directory.path(), &[("MAX_EXECUTION_TIME", "30")]).await else { return };
    let client = &real.client;
    client.get("/health").await.expect_status(200);

    let hello = client.run("hello", "echo 'Hello, World!'").await;
    assert_eq!((hello.status, hello.exit_code), (Status::Completed, Some(0)), "{hello:?}");
    assert_eq!(hello.output.as_deref(), Some("Hello, World!"));

    let lines = client.run("lines", "echo 'line1\nline2\nline3' | grep 'line2'").await;
    assert_eq!(lines.output.as_deref(), Some("line2"), "{lines:?}");

    for command in ["rm -rf /", "echo 'test' && rm -rf /", "sudo rm -rf /"] {
        let problem = client.submit(json!({"command": command})).await.expect_status(403);
        assert!(problem.expect_problem(Code::CommandNotAllowed).error.contains("not allowed"));
    }

    let body = json!({"executionId": "input", "command": "cat", "stdin": "secret input"});
    client.submit(body).await.expect_status(201);
    let input = client.ended("input").await;
    assert_eq!(input.output.as_deref(), Some("secret input"), "{input:?}");

    real.signal("TERM");
    let token = client.token.clone();
    let (code, log) = real.ended().await;
    assert_eq!(code, Some(0), "{log}");
    for secret in [token.as_str(), "secret input", "Hello, World!"] {
        assert!(!log.contains(secret), "{secret:?} in {log}");
    }
    for line in log.lines() {
        assert!(serde_json::from_str::<serde_json::Value>(line).is_ok(), "{line}");
    }
    for wanted in
        ["portcullis-server listens", "\"code\":\"command/not-allowed\"", "\"execution_id\":\"hello\""]
    {
        assert!(log.contains(wanted), "{wanted} in {log}");
    }

    let Some(again) = Real::start(directory.path(), &[]).await else { return };
    assert_eq!(again.client.token, token);
    let record: portcullis_api::ExecutionView =
        again.client.get("/api/commands/hello").await.expect_status(200).read();
    assert_eq!((record.output, record.end_time), (hello.output, hello.end_time));
    again.signal("INT");
    assert_eq!(again.ended().await.0, Some(0));
}

/// An Auth Service that knows `alice`, and `guest`, who lacks the permission.
async fn auth_service() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/api", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            let head = String::from_utf8(head).unwrap().to_lowercase();
            assert!(head.starts_with("get /api/user "), "{head}");
            let user = |name: &str, permissions: serde_json::Value| {
                let role = json!({"id": 1, "name": "user", "permissions": permissions});
                json!({"user": {"id": 7, "name": name, "username": name, "roles": [role]}})
            };
            let (status, body) = if head.contains("bearer alice") {
                ("200 OK", user("alice", json!([{"id": 15, "name": "run agents"}])))
            } else if head.contains("bearer guest") {
                ("200 OK", user("guest", json!([])))
            } else {
                ("401 Unauthorized", json!({"message": "Unauthenticated."}))
            };
            let body = body.to_string();
            let length = body.len();
            let answer = format!(
                "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
            );
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    url
}

#[tokio::test]
async fn each_of_the_five_common_issues_has_its_own_answer_and_line_in_the_log() {
    let directory = tempfile::tempdir().unwrap();
    let auth_service = auth_service().await;
    // Nobody listens at the discard port.
    let settings = [
        ("AUTH_SERVICE_URL", auth_service.as_str()),
        ("SOCKET_SERVICE_URL", "http://127.0.0.1:9"),
        ("ALLOWED_COMMANDS", "sleep,echo"),
        ("PORTCULLIS_DRAIN_SECONDS", "0"),
    ];
    let Some(mut real) = Real::start(directory.path(), &settings).await else { return };
    real.client.token = "alice".into();
    let client = &real.client;
    client.submit(json!({"command": "rm x"})).await.expect_problem(Code::CommandNotAllowed);
    let late = json!({"executionId": "late", "command": "sleep 60", "timeout": 0.2});
    client.submit(late).await.expect_status(201);
    let late = client.ended("late").await;
    assert_eq!((late.status, late.user.as_str()), (Status::Timeout, "alice"));
    let asked = client.request("GET", "/api/commands/late").token("guest");
    asked.send().await.expect_status(403).expect_problem(Code::AuthForbidden);
    let asked = client.request("GET", "/api/commands/late").token("nobody");
    asked.send().await.expect_status(401).expect_problem(Code::AuthInvalidToken);
    client.get("/api/commands/..%2Fx").await.expect_status(400).expect_problem(Code::ExecutionIdInvalid);
    real.signal("TERM");
    let (code, log) = real.ended().await;
    assert_eq!(code, Some(0), "{log}");
    for issue in [
        "\"code\":\"command/not-allowed\"",
        "\"reason\":\"time_limit\"",
        "Socket Service",
        "\"code\":\"auth/forbidden\"",
        "\"code\":\"execution-id/invalid\"",
    ] {
        assert!(log.contains(issue), "{issue} in {log}");
    }
}

#[tokio::test]
async fn a_drain_ends_what_does_not_end_by_itself_and_says_so_in_its_record() {
    let directory = tempfile::tempdir().unwrap();
    let settings = [
        ("ALLOWED_COMMANDS", "sleep,echo"),
        ("PORTCULLIS_DRAIN_SECONDS", "600"),
        ("PORTCULLIS_GRACE_PERIOD_SECONDS", "1"),
    ];
    let Some(real) = Real::start(directory.path(), &settings).await else { return };
    let client = &real.client;
    let cancelled = json!({"executionId": "cancelled", "command": "sleep 60"});
    client.submit(cancelled).await.expect_status(201);
    let answer = client.request("POST", "/api/commands/cancelled/cancel").send().await.expect_status(200);
    assert_eq!(answer.json()["status"], "cancelled");
    let timed = json!({"executionId": "timed", "command": "sleep 60", "timeout": 0.2});
    client.submit(timed).await.expect_status(201);
    assert_eq!(client.ended("timed").await.status, Status::Timeout);

    client.submit(json!({"executionId": "long", "command": "sleep 60"})).await.expect_status(201);
    let mut events = client.events("long", None).await;
    while events.next().await.unwrap().data["status"] != "running" {}
    real.signal("TERM");
    while client.submit(json!({"command": "echo x"})).await.status != 503 {}
    client.get("/api/commands/long").await.expect_status(200);
    real.signal("TERM");
    let mut last = None;
    while let Some(event) = events.next().await {
        last = Some(event.data);
    }
    let last: portcullis_api::ExecutionView = serde_json::from_value(last.unwrap()).unwrap();
    assert_eq!(last.reason, Some(Reason::Shutdown), "{last:?}");
    let (code, log) = real.ended().await;
    assert_eq!(code, Some(0), "{log}");
}

#[tokio::test]
async fn an_interrupt_at_the_terminal_lets_what_runs_end_by_itself() {
    let directory = tempfile::tempdir().unwrap();
    let Some(real) = Real::start(directory.path(), &[("ALLOWED_COMMANDS", "sleep")]).await else { return };
    real.client.submit(json!({"executionId": "x", "command": "sleep 0.5"})).await.expect_status(201);
    let mut events = real.client.events("x", None).await;
    while events.next().await.unwrap().data["status"] != "running" {}
    real.signal_group("INT");
    let mut last = None;
    while let Some(event) = events.next().await {
        last = Some(event.data);
    }
    let last: portcullis_api::ExecutionView = serde_json::from_value(last.unwrap()).unwrap();
    assert_eq!((last.status, last.exit_code), (Status::Completed, Some(0)), "{last:?}");
    let (code, log) = real.ended().await;
    assert_eq!(code, Some(0), "{log}");
}

#[tokio::test]
async fn a_port_or_a_directory_that_is_taken_stops_the_start_and_disturbs_nobody() {
    let directory = tempfile::tempdir().unwrap();
    let Some(real) = Real::start(directory.path(), &[]).await else { return };
    let other = tempfile::tempdir().unwrap();
    let address = real.client.address.to_string();
    let busy = spawn(other.path(), &[("PORTCULLIS_LISTEN", &address)]).wait_with_output().unwrap();
    let text = String::from_utf8(busy.stderr).unwrap();
    assert_eq!(busy.status.code(), Some(1), "{text}");
    assert!(text.contains(&format!("could not listen: `{address}`: ")), "{text}");

    let second = spawn(directory.path(), &[]).wait_with_output().unwrap();
    let text = String::from_utf8(second.stderr).unwrap();
    assert_eq!(second.status.code(), Some(1), "{text}");
    assert!(text.contains("could not open the database"), "{text}");
    real.client.run("x", "echo x").await;
    real.signal("TERM");
    assert_eq!(real.ended().await.0, Some(0));
}
