//! The real executable, with real parts: its own launcher, SQLite, the default rules and the local token.

use portcullis_api::ProblemCode as Code;
use portcullis_core::{Reason, Status};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::process::{Real, spawn};

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
        ["portcullis-server listens", "\"code\":\"program/not-allowed\"", "\"execution_id\":\"hello\""]
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
        "\"code\":\"program/not-allowed\"",
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
async fn what_the_rules_allow_and_cannot_be_had_is_said_at_the_start_and_never_starts() {
    let directory = tempfile::tempdir().unwrap();
    let settings = [("ALLOWED_COMMANDS", "echo,no-such-program")];
    let Some(real) = Real::start(directory.path(), &settings).await else { return };
    let record = real.client.run("x", "no-such-program").await;
    assert_eq!((record.reason, record.start_time), (Some(Reason::StartFailed), None), "{record:?}");
    real.signal("TERM");
    let (_, log) = real.ended().await;
    let missing: Vec<_> = log.lines().filter(|line| line.contains("an allowed program cannot run")).collect();
    assert_eq!(missing.len(), 1, "{log}");
    assert!(missing[0].contains("\"program\":\"no-such-program\""), "{missing:?}");
    assert!(!log.contains("grants the network"), "{log}");

    let rulebook =
        concat!(env!("CARGO_MANIFEST_DIR"), "/../../crates/portcullis-policy/rulebooks/fetch.toml");
    let directory = tempfile::tempdir().unwrap();
    let settings = [("PORTCULLIS_RULEBOOK", rulebook)];
    let Some(real) = Real::start(directory.path(), &settings).await else { return };
    real.signal("TERM");
    let (_, log) = real.ended().await;
    let network: Vec<_> = log.lines().filter(|line| line.contains("grants the network")).collect();
    assert_eq!(network.len(), 1, "{log}");
    assert!(network[0].contains("\"level\":\"WARN\""), "{network:?}");
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
