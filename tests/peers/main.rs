//! The peers' side of the promises: updates reach a real Socket.IO client through a real Express and Socket.IO
//! server, and webhooks verify with the official library.
#![expect(clippy::unwrap_used, reason = "a test fails by it")]

mod node;
mod webhooks;

use std::sync::Arc;
use std::time::Duration;

use node::Node;
use portcullis_core::{ExecutionId, Notifier as _, Status, Update};
use portcullis_notify::{SocketConfig, SocketServiceNotifier};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const SERVER: &str = "socket-service/server.mjs";
const LISTENER: &str = "socket-service/listener.mjs";
const ID: &str = "test-123";

fn url(port: u16) -> String {
    format!("http://127.0.0.1:{port}")
}

fn notifier(port: u16) -> Arc<SocketServiceNotifier> {
    let config = SocketConfig { longest_retry: Duration::from_millis(500), ..SocketConfig::new(url(port)) };
    Arc::new(SocketServiceNotifier::new(config).unwrap())
}

/// A browser that has joined the execution's room.
async fn browser(port: u16, token: &str) -> Node {
    let mut listener = Node::start(LISTENER, &[&url(port), ID, token], &[]);
    listener.next("joined").await;
    listener
}

fn update(status: Status, progress: u8, output: &str, error: Option<&str>) -> Update {
    Update {
        id: ExecutionId::parse(ID).unwrap(),
        status,
        progress,
        output: Some(output.to_owned()),
        error: error.map(str::to_owned),
        trace: None,
    }
}

#[tokio::test]
async fn a_browser_receives_start_progress_and_end_in_order() {
    if !node::can_run("socket-service") {
        return;
    }
    let (_server, port) = Node::start_server(SERVER, &[]).await;
    let mut browser = browser(port, "any").await;
    let notifier = notifier(port);

    notifier.announce(update(Status::Running, 1, "Starting execution...", None));
    assert_eq!(
        browser.next("execution-status").await,
        json!({"event": "execution-status", "executionId": ID, "status": "running", "progress": 1, "output": "Starting execution..."})
    );
    notifier.announce(update(Status::Running, 40, "a\nb", None));
    assert_eq!(
        browser.next("execution-status").await,
        json!({"event": "execution-status", "executionId": ID, "status": "running", "progress": 40, "output": "a\nb"})
    );
    notifier.announce(update(Status::Running, 41, "a\nb\nc", None)); // gives way to the end, or is before it
    notifier.conclude(update(Status::Failed, 100, "a\nb\nc\nd", Some("exit code 3"))).await.unwrap();
    let mut last = browser.next("execution-status").await;
    if last["status"] == "running" {
        last = browser.next("execution-status").await;
    }
    assert_eq!(
        last,
        json!({"event": "execution-status", "executionId": ID, "status": "failed", "progress": 100, "output": "a\nb\nc\nd", "error": "exit code 3"})
    );
}

#[tokio::test]
async fn the_end_arrives_although_the_service_was_killed_and_started_again() {
    if !node::can_run("socket-service") {
        return;
    }
    let (mut server, port) = Node::start_server(SERVER, &[]).await;
    let mut browser = browser(port, "any").await;
    let notifier = notifier(port);
    notifier.announce(update(Status::Running, 1, "Starting execution...", None));
    browser.next("execution-status").await;

    server.kill();
    browser.next("disconnected").await;
    notifier.announce(update(Status::Running, 50, "half", None));
    let end = tokio::spawn({
        let notifier = notifier.clone();
        async move { notifier.conclude(update(Status::Completed, 100, "whole", None)).await }
    });
    while notifier.stats().failed < 2 {
        tokio::time::sleep(Duration::from_millis(10)).await; // until two tries have failed
    }
    assert!(!end.is_finished());

    let port_text = port.to_string();
    let (mut server, _) = Node::start_server(SERVER, &[("PORT", &port_text)]).await;
    let post = server.next("post").await;
    assert_eq!(
        (&post["status"], &post["body"]),
        (&json!(200), &json!({"executionId": ID, "status": "completed", "progress": 100, "output": "whole"}))
    );
    end.await.unwrap().unwrap();
    // The browser joins again by itself, before the end was posted or behind it; either way it sees it.
    assert_eq!(browser.next("execution-status").await["status"], "completed");
    assert!(!notifier.stats().outage);
}

#[tokio::test]
async fn a_stopped_service_costs_announcing_nothing_and_gets_the_end_when_it_goes_on() {
    if !node::can_run("socket-service") {
        return;
    }
    // A listener that accepts and never reads, as a stopped process does.
    let stopped = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = stopped.local_addr().unwrap().port();
    let config = SocketConfig {
        deadline: Duration::from_millis(200),
        longest_retry: Duration::from_millis(200),
        ..SocketConfig::new(url(port))
    };
    let notifier = Arc::new(SocketServiceNotifier::new(config).unwrap());
    let begun = std::time::Instant::now();
    for progress in 1..=99 {
        notifier.announce(update(Status::Running, progress, "line", None));
    }
    assert!(begun.elapsed() < Duration::from_millis(200), "{:?}", begun.elapsed());
    let end = tokio::spawn({
        let notifier = notifier.clone();
        async move { notifier.conclude(update(Status::Completed, 100, "whole", None)).await }
    });
    while notifier.stats().failed < 2 {
        tokio::time::sleep(Duration::from_millis(10)).await; // until two tries have failed
    }
    drop(stopped);
    let port_text = port.to_string();
    let (_server, _) = Node::start_server(SERVER, &[("PORT", &port_text)]).await;
    end.await.unwrap().unwrap();
}

#[tokio::test]
async fn output_of_any_size_arrives_with_its_head_and_tail() {
    if !node::can_run("socket-service") {
        return;
    }
    let (_server, port) = Node::start_server(SERVER, &[]).await;
    let mut browser = browser(port, "any").await;
    let lines: String = (0..200_000).map(|n| format!("\u{1b}[32mline {n}\u{1b}[0m \"quoted\" é\n")).collect();
    notifier(port).conclude(update(Status::Completed, 100, &lines, None)).await.unwrap();
    let received = browser.next("execution-status").await;
    let output = received["output"].as_str().unwrap();
    assert!(output.starts_with("\u{1b}[32mline 0\u{1b}[0m"), "{}", &output[..100]);
    assert!(output.ends_with("line 199999\u{1b}[0m \"quoted\" é\n"));
    assert!(output.contains(" bytes left out]\n"));
}

#[tokio::test]
async fn an_update_that_is_refused_for_good_does_not_block_the_next() {
    if !node::can_run("socket-service") {
        return;
    }
    let (_server, port) = Node::start_server(SERVER, &[]).await;
    let mut browser = browser(port, "any").await;
    let config = SocketConfig { max_body_bytes: 200_000, ..SocketConfig::new(url(port)) };
    let notifier = SocketServiceNotifier::new(config).unwrap();
    let long = "x".repeat(150_000); // over the peer's limit, which this configuration gets wrong
    let error = notifier.conclude(update(Status::Completed, 100, &long, None)).await.unwrap_err();
    assert!(error.problem.contains("413"), "{error}");
    notifier.conclude(update(Status::Completed, 100, "short", None)).await.unwrap();
    assert_eq!(browser.next("execution-status").await["output"], "short");
}

#[tokio::test]
async fn only_a_browser_with_a_token_of_the_auth_service_joins() {
    if !node::can_run("socket-service") {
        return;
    }
    let (_auth, auth_port) = Node::start_server("auth-service/server.mjs", &[]).await;
    let base = format!("{}/api", url(auth_port));
    let (_server, port) = Node::start_server(SERVER, &[("AUTH_SERVICE_URL", &base)]).await;
    let mut stranger = Node::start(LISTENER, &[&url(port), ID, "logged-out-token"], &[]);
    let refusal = stranger.next("refused").await;
    assert!(refusal["message"].as_str().unwrap().starts_with("Authentication error: "), "{refusal}");
    let mut alice = browser(port, "alice-token").await;
    notifier(port).conclude(update(Status::Completed, 100, "done", None)).await.unwrap();
    assert_eq!(alice.next("execution-status").await["output"], "done");
}

/// The facts of the contract that the notifier builds on, asked of the peer that stands for it.
#[tokio::test]
async fn the_peer_keeps_the_measured_contract() {
    if !node::can_run("socket-service") {
        return;
    }
    let (_server, port) = Node::start_server(SERVER, &[]).await;
    let json = "application/json";
    let of_length = |bytes: usize| {
        let frame = json!({"executionId": ID, "output": ""}).to_string().len();
        json!({"executionId": ID, "output": "x".repeat(bytes - frame)}).to_string()
    };
    for (content_type, body, expected) in [
        (json, of_length(102_400), "200"),
        (json, of_length(102_401), "413"),
        (json, "{}".to_owned(), "400"),
        (json, "{".to_owned(), "400"),
        ("text/plain", of_length(100), "400"),
        ("application/cloudevents+json", of_length(100), "400"),
        ("application/json; charset=utf-8", of_length(100), "200"),
    ] {
        let answer = post(port, content_type, &body).await;
        let status = answer.split(' ').nth(1).unwrap();
        assert_eq!(status, expected, "{content_type}, {} bytes: {answer}", body.len());
    }
    let answer: Value = post(port, json, r#"{"status":"running"}"#)
        .await
        .split("\r\n\r\n")
        .nth(1)
        .map(|body| serde_json::from_str(body).unwrap())
        .unwrap();
    assert_eq!(answer, json!({"error": "Execution ID is required"}));
}

async fn post(port: u16, content_type: &str, body: &str) -> String {
    let mut connection = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let head = format!(
        "POST /api/execution-status HTTP/1.1\r\nhost: test\r\nconnection: close\r\ncontent-type: {content_type}\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    connection.write_all(head.as_bytes()).await.unwrap();
    connection.write_all(body.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    connection.read_to_end(&mut answer).await.unwrap();
    String::from_utf8(answer).unwrap()
}
